"""The dataset on disk: built once, whole or not at all, with labels beside the records."""

import json
import os
import pathlib
import pickle  # noqa: TID251 (what grain hands to its workers)
import signal
import subprocess
import sys

import numpy as np
import pytest

import facejax.data.build
from facejax.data import build_dataset, check_labels, dataset_source, decode, folder_source
from facejax.errors import UserError
from tests.pictures import Arrays, assert_one_sentence, encode, smooth, visible, write_folder


@pytest.fixture
def faces(tmp_path) -> pathlib.Path:
    return write_folder(tmp_path / "faces", {"Ann": 3, "Bob": 2, "Cyd": 4})


@pytest.fixture
def writes(monkeypatch) -> list[str]:
    """The datasets that are really written during a test."""
    calls: list[str] = []
    write = facejax.data.build._write

    def counted(writer, final, **options):
        calls.append(final.name)
        write(writer, final, **options)

    monkeypatch.setattr(facejax.data.build, "_write", counted)
    return calls


def test_the_dataset_equals_its_source(faces, tmp_path):
    source = folder_source(faces)
    built = build_dataset(source, tmp_path / "out", progress=False)
    assert visible(built.directory) == [
        "dataset_info.json",
        "faces-train.array_record-00000-of-00001",
        "features.json",
        "identities.json",
        "labels.npy",
        "manifest.json",
    ]
    for dataset in (built, dataset_source(tmp_path / "out"), dataset_source(built.directory)):
        assert [dataset[i] for i in range(len(dataset))] == [source[i] for i in range(len(source))]
        np.testing.assert_array_equal(dataset.labels, source.labels)
        assert dataset.labels.dtype == np.int32
        assert dataset.num_classes == 3
        assert dataset.identity_names == ("Ann", "Bob", "Cyd")


def test_arrays_are_stored_without_loss(tmp_path, writes):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    source = Arrays(images, [0, 1, 1, 0, 2, 2], 3)
    dataset = build_dataset(source, tmp_path, progress=False)
    stored = np.stack([decode(dataset[i]["image"], 8) for i in range(6)])
    np.testing.assert_array_equal(stored, images)
    np.testing.assert_array_equal(dataset.labels, source.labels)
    assert dataset.identity_names == ("0", "1", "2")
    assert dataset[4]["id"] == "record 4"

    changed = images.copy()
    changed[3, 2, 1, 0] ^= 1
    build_dataset(Arrays(images, [0, 1, 1, 0, 2, 2], 3), tmp_path, progress=False)
    assert len(writes) == 1
    build_dataset(Arrays(changed, [0, 1, 1, 0, 2, 2], 3), tmp_path, progress=False)
    assert len(writes) == 2


def test_built_once_and_again_when_the_folder_changes(faces, tmp_path, writes):
    out = tmp_path / "out"
    first = build_dataset(folder_source(faces), out, progress=False)
    again = build_dataset(folder_source(faces), out, progress=False)
    assert len(writes) == 1
    assert again.directory == first.directory

    (faces / "Bob" / "Bob_0003.jpg").write_bytes(encode(smooth(16, 16, seed=7), ".jpg"))
    changed = build_dataset(folder_source(faces), out, progress=False)
    assert len(writes) == 2
    assert (len(first), len(changed)) == (9, 10)
    assert "Bob/Bob_0003.jpg" in {changed[i]["id"] for i in range(10)}
    assert len(dataset_source(first.directory)) == 9  # the older one is still itself
    with pytest.raises(UserError, match="more than one dataset") as caught:
        dataset_source(out)
    assert_one_sentence(str(caught.value))


def test_the_progress_bar_goes_to_stderr_and_only_if_wanted(faces, tmp_path, capfd):
    build_dataset(folder_source(faces), tmp_path / "a", progress=False)
    assert capfd.readouterr() == ("", "")
    build_dataset(folder_source(faces), tmp_path / "b")
    out, err = capfd.readouterr()
    assert out == ""
    assert "9/9" in err


def test_a_corrupt_image_is_refused_and_nothing_is_left(faces, tmp_path):
    bad = faces / "Cyd" / "Cyd_0004.jpg"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(UserError, match=r"^Cyd/Cyd_0004\.jpg does not decode") as caught:
        build_dataset(folder_source(faces), tmp_path / "out", progress=False)
    assert_one_sentence(str(caught.value))
    assert visible(tmp_path / "out") == []
    bad.unlink()
    assert len(build_dataset(folder_source(faces), tmp_path / "out", progress=False)) == 8


def test_killed_in_the_middle_leaves_nothing_that_counts(faces, tmp_path):
    out = tmp_path / "out"
    code = f"""
import os, signal
from facejax.data import build_dataset, folder_source
from facejax.data.sources import FolderSource
read = FolderSource.__getitem__
def killed(self, index):
    if index == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, index)
FolderSource.__getitem__ = killed
build_dataset(folder_source({str(faces)!r}), {str(out)!r}, progress=False)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert visible(out), "killed before it had begun"
    with pytest.raises(UserError, match="has no dataset"):
        dataset_source(out)
    dataset = build_dataset(folder_source(faces), out, progress=False)
    assert len(dataset) == 9
    assert visible(out) == [dataset.directory.name]  # what the killed process left is gone


def test_two_processes_build_one_dataset(faces, tmp_path):
    code = (
        "from facejax.data import build_dataset, folder_source\n"
        f"print(len(build_dataset(folder_source({str(faces)!r}), {str(tmp_path / 'out')!r})))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    results = [process.communicate() for process in processes]
    assert [out.strip() for out, _ in results] == ["9", "9"], results
    assert sum("9/9" in err for _, err in results) == 1  # one wrote, one found it
    assert len(visible(tmp_path / "out")) == 1


def test_relabelling_rewrites_no_image(faces, tmp_path):
    dataset = build_dataset(folder_source(faces), tmp_path / "out", progress=False)
    records = next(dataset.directory.glob("*.array_record*"))
    before = records.stat().st_mtime_ns
    np.save(dataset.directory / "labels.npy", np.array([0, 0, 0, 1, 1, 0, 0, 0, 0]))
    (dataset.directory / "identities.json").write_text(json.dumps(["Ann or Cyd", "Bob"]))
    relabelled = dataset_source(tmp_path / "out")
    assert relabelled.num_classes == 2
    assert [relabelled[i]["label"] for i in range(9)] == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert relabelled[8]["image"] == dataset[8]["image"]
    assert records.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 0, 1, 1, 2, 3, 2, 2], r"Cyd/Cyd_0002\.jpg has the label 3, .* 0 to 2"),
        ([0, -1, 0, 1, 1, 2, 2, 2, 2], r"Ann/Ann_0002\.jpg has the label -1, .* 0 to 2"),
        ([0, 0, 0, 1, 1, 2, 2, 2], r"shape \(8,\) but there are 9 records"),
    ],
)
def test_an_index_that_does_not_fit(faces, tmp_path, labels, message):
    dataset = build_dataset(folder_source(faces), tmp_path / "out", progress=False)
    np.save(dataset.directory / "labels.npy", np.array(labels))
    with pytest.raises(UserError, match=message) as caught:
        dataset_source(tmp_path / "out")
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("name", ["labels.npy", "identities.json"])
@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_an_index_that_cannot_be_read(faces, tmp_path, name, damage):
    dataset = build_dataset(folder_source(faces), tmp_path / "out", progress=False)
    path = dataset.directory / name
    path.unlink() if damage == "missing" else path.write_text("{x" if damage == "garbage" else "")
    with pytest.raises(UserError, match="no readable identity index") as caught:
        dataset_source(tmp_path / "out")
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("directory", ["nowhere", "."])
def test_a_directory_without_a_dataset(tmp_path, directory):
    with pytest.raises(UserError, match="has no dataset") as caught:
        dataset_source(tmp_path / directory)
    assert_one_sentence(str(caught.value))


def test_a_directory_that_is_a_file(faces, tmp_path):
    (tmp_path / "file").write_text("keep me")
    with pytest.raises(UserError, match=r"No dataset could be written to .*file"):
        build_dataset(folder_source(faces), tmp_path / "file", progress=False)
    assert (tmp_path / "file").read_text() == "keep me"


def test_labels_out_of_range_are_refused_before_anything_is_written(tmp_path):
    images = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises(UserError, match="record 2 has the label 2, outside the range 0 to 1"):
        build_dataset(Arrays(images, [0, 1, 2], 2), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_check_labels(faces):
    source = folder_source(faces)
    check_labels(source, 3)
    check_labels(source, 10)
    with pytest.raises(
        UserError, match=r"^Cyd/Cyd_0001\.jpg has the label 2, .* 0 to 1 "
    ) as caught:
        check_labels(source, 2)
    assert_one_sentence(str(caught.value))


def test_a_dataset_can_be_pickled(faces, tmp_path):
    dataset = build_dataset(folder_source(faces), tmp_path / "out", progress=False)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[4] == dataset[4]
    np.testing.assert_array_equal(copy.labels, dataset.labels)


def test_tensorflow_is_never_imported(faces, tmp_path):
    code = f"""
import sys
from facejax.data import batches, build_dataset, dataset_source, folder_source
build_dataset(folder_source({str(faces)!r}), {str(tmp_path / "out")!r}, progress=False)
source = dataset_source({str(tmp_path / "out")!r})
next(batches(source, batch_size=2, image_size=16, seed=0))
print("tensorflow" in sys.modules)
"""
    # a stand-in that can be found, so that an attempt would succeed and be seen
    (tmp_path / "path" / "tensorflow").mkdir(parents=True)
    (tmp_path / "path" / "tensorflow" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "path")},
        check=False,
    )
    assert done.stdout == "False\n", done.stderr
