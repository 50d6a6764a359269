"""The dataset that is kept: by content, whole or built again, read where nothing can be written."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

import facejax.data.build
import facejax.data.dataset
import facejax.data.hashes
from facejax.data import (
    build_dataset,
    dataset_source,
    fingerprint,
    folder_source,
)
from facejax.errors import UserError
from tests.datasets import assert_equal, build, counted, write_bitmaps, written
from tests.pictures import (
    Arrays,
    assert_one_sentence,
    visible,
)

RECORDS = "faces-train.array_record-00000-of-00001"


@pytest.fixture
def faces(tmp_path) -> pathlib.Path:
    return write_bitmaps(tmp_path / "faces")


@pytest.fixture
def writes(monkeypatch) -> list[str]:
    return written(monkeypatch)


def set_times(folder: pathlib.Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (10**9, 10**9))


def swap(a: pathlib.Path, b: pathlib.Path) -> None:
    a.rename(a.with_name("t"))
    b.rename(a)
    a.with_name("t").rename(b)


def overwrite(a: pathlib.Path, b: pathlib.Path) -> None:
    a.write_bytes(b.read_bytes())


@pytest.mark.parametrize("change", [swap, overwrite])
@pytest.mark.parametrize("settled", [True, False])
def test_other_contents_of_the_same_sizes_and_times(faces, tmp_path, monkeypatch, change, settled):
    if settled:  # as if nothing had been written for a while
        monkeypatch.setattr(facejax.data.hashes, "SETTLED_NS", -(10**12))
    set_times(faces)
    build(faces, tmp_path / "out")
    change(faces / "Ann" / "0.bmp", faces / "Bob" / "1.bmp")
    set_times(faces)
    assert_equal(build(faces, tmp_path / "out"), faces)


def test_a_change_that_no_status_shows_is_seen_while_files_are_fresh(faces, tmp_path, monkeypatch):
    """A file system that counts whole seconds: the same inode, size and times."""
    monkeypatch.setattr(facejax.data.hashes, "status_of", lambda status: (status.st_size, 0, 0, 0))
    monkeypatch.setattr(facejax.data.hashes, "SETTLED_NS", 10**30)
    build(faces, tmp_path / "out")
    overwrite(faces / "Ann" / "0.bmp", faces / "Bob" / "1.bmp")
    assert_equal(build(faces, tmp_path / "out"), faces)


def test_two_folders_with_the_same_names_share_a_dataset_only_if_all_is_the_same(
    faces, tmp_path, writes
):
    other = shutil.copytree(faces, tmp_path / "other")
    overwrite(other / "Ann" / "0.bmp", other / "Bob" / "1.bmp")
    same = shutil.copytree(faces, tmp_path / "same")
    for folder in (faces, other, same):
        set_times(folder)
    built = [build(folder, tmp_path / "out") for folder in (faces, other, same)]
    for dataset, folder in zip(built, (faces, other, same), strict=True):
        assert_equal(dataset, folder)
    assert built[0].directory == built[2].directory != built[1].directory
    assert len(writes) == 2


def test_only_what_changed_is_read_again(faces, tmp_path, monkeypatch, writes):
    monkeypatch.setattr(facejax.data.hashes, "SETTLED_NS", -(10**12))
    build(faces, tmp_path / "out")
    reads = counted(
        monkeypatch, pathlib.Path, "read_bytes", lambda path: path.relative_to(tmp_path).parts[0]
    )
    build(faces, tmp_path / "out")
    assert reads.count("faces") == 0
    (faces / "Ann" / "0.bmp").touch()
    build(faces, tmp_path / "out")
    assert reads.count("faces") == 1, "touched, and the same"
    build(faces, tmp_path / "out")
    assert reads.count("faces") == 1, "its new status was kept"
    for table in (tmp_path / "out").glob(".*.npz"):
        table.write_bytes(table.read_bytes()[:100])
    build(faces, tmp_path / "out")
    assert reads.count("faces") == 7, "what was known was damaged"
    assert len(writes) == 1


def test_a_file_that_changes_while_the_dataset_is_written(faces, tmp_path, monkeypatch):
    source = folder_source(faces)
    hash_files = type(source).hash_files

    def hashed_too_early(self, known, **options):
        hashes = hash_files(self, known, **options)
        overwrite(faces / "Bob" / "0.bmp", faces / "Cyd" / "0.bmp")
        return hashes

    monkeypatch.setattr(type(source), "hash_files", hashed_too_early)
    with pytest.raises(UserError, match=r"Bob/0\.bmp changed while") as caught:
        build(faces, tmp_path / "out")
    assert_one_sentence(str(caught.value))
    assert visible(tmp_path / "out") == []


def truncate(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def turn_into_a_number(path: pathlib.Path) -> None:
    path.write_text("7")


DAMAGES = [
    *((name, how) for name in (RECORDS, "dataset_info.json") for how in (truncate, empty, flip)),
    *((name, how) for name in ("features.json", "manifest.json") for how in (empty, os.remove)),
    (RECORDS, os.remove),
    ("manifest.json", turn_into_a_number),
    ("labels.npy", truncate),
    ("labels.npy", os.remove),
    ("labels.npy", lambda path: np.save(path, np.zeros(5, np.int32))),
    ("labels.npy", lambda path: np.save(path, np.full(6, 0.25))),
    ("labels.npy", lambda path: np.save(path, np.full(6, 2**64 - 1, np.uint64))),
    ("labels.npy", lambda path: np.save(path, np.full(6, 2**32))),
    ("labels.npy", lambda path: np.savez(path.open("wb"), np.zeros(6, np.int32))),
    ("identities.json", empty),
    ("identities.json", turn_into_a_number),
    ("identities.json", lambda path: path.write_text('{"Ann": 0, "Bob": 1, "Cyd": 2}')),
    ("", lambda path: [file.unlink() for file in path.iterdir()]),
]


@pytest.mark.parametrize(("name", "how"), DAMAGES)
def test_a_damaged_dataset_is_refused_and_built_again(faces, tmp_path, writes, name, how):
    dataset = build(faces, tmp_path / "out")
    how(dataset.directory / name)
    with pytest.raises(UserError) as caught:
        dataset_source(dataset.directory)
    message = str(caught.value)
    assert any(remedy in message for remedy in ("build", "give one", "give labels", "correct"))
    assert str(dataset.directory) in message or "label" in message
    assert "\n" not in message
    again = build(faces, tmp_path / "out")
    assert again.directory == dataset.directory
    assert len(writes) == 2
    assert_equal(again, faces)
    assert_equal(dataset_source(tmp_path / "out"), faces)
    build(faces, tmp_path / "out")
    assert len(writes) == 2


def test_what_is_no_damage_is_not_built_again(faces, tmp_path, monkeypatch, writes):
    build(faces, tmp_path / "out")

    def too_many(directory):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(facejax.data.dataset.tfds, "builder_from_directory", too_many)
    with pytest.raises(UserError, match=r"cannot be read .*Too many open files"):
        build(faces, tmp_path / "out")
    assert len(writes) == 1


def test_records_that_are_damaged_during_a_run_are_named(faces, tmp_path):
    dataset = build(faces, tmp_path / "out")
    (tmp_path / "out" / dataset.directory.name / RECORDS).write_bytes(b"")
    with pytest.raises(UserError, match="is damaged") as caught:
        [dataset[i] for i in range(6)]
    assert str(dataset.directory) in str(caught.value)


def test_a_copy_of_a_dataset_is_read_once_to_know_it(faces, tmp_path, monkeypatch):
    dataset = build(faces, tmp_path / "out")
    copy = shutil.copytree(dataset.directory, tmp_path / "copy")
    hashed = counted(monkeypatch, facejax.data.manifest, "sha256_of", lambda path: path.name)
    assert_equal(dataset_source(copy), faces)
    assert RECORDS in hashed
    hashed.clear()
    assert_equal(dataset_source(copy), faces)
    assert hashed == []
    assert fingerprint(dataset_source(copy)) == fingerprint(dataset)
    np.save(copy / "labels.npy", [0, 0, 0, 0, 1, 2])
    assert fingerprint(dataset_source(copy)) != fingerprint(dataset)


def test_a_file_that_vanishes_is_named_however_well_it_was_known(faces, tmp_path):
    source = folder_source(faces)
    build_dataset(source, tmp_path / "out", progress=False)
    (faces / "Bob" / "1.bmp").unlink()
    with pytest.raises(UserError, match=r"^1 image of .* \(Bob/1\.bmp: No such file"):
        build_dataset(source, tmp_path / "out", progress=False)


def test_an_error_of_the_source_is_no_error_of_the_cache(tmp_path):
    class Failing(Arrays):
        def __getitem__(self, index):
            raise self.error

    source = Failing(np.zeros((4, 8, 8, 3), np.uint8), [0, 0, 1, 1], 2)
    source.fingerprint = lambda: "f" * 64
    for source.error, raised in (
        (RuntimeError("mine"), RuntimeError),
        (ValueError("mine"), ValueError),
        (OSError(5, "mine"), UserError),
    ):
        with pytest.raises(raised, match="mine") as caught:
            build_dataset(source, tmp_path / "out", progress=False)
        assert "No dataset could be written" not in str(caught.value)


def test_what_was_passed_over_is_told_with_the_dataset(faces, tmp_path):
    (faces / "notes.txt").touch()
    for _ in range(2):
        passed_over = build(faces, tmp_path / "out").passed_over
        assert passed_over == ("1 file beside the identity folders (notes.txt)",)


def test_a_killed_build_is_no_dataset(faces, tmp_path):
    dataset = build(faces, tmp_path / "out")
    shutil.copytree(dataset.directory, tmp_path / "out" / ".faces-0.partial-host-1")
    assert dataset_source(tmp_path / "out").directory == dataset.directory


def test_the_manifest_lists_all_but_the_index(faces, tmp_path):
    dataset = build(faces, tmp_path / "out")
    listed = json.loads((dataset.directory / "manifest.json").read_text())["hashes"]
    assert set(listed) == {RECORDS, "dataset_info.json", "features.json"}
