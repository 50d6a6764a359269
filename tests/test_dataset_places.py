"""Where a dataset is kept and read from: places of others, full disks, a home folder."""

import contextlib
import os
import pathlib
import resource
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest

from facejax.data import batches, build_dataset, dataset_source, folder_source, read_images
from facejax.errors import UserError
from tests.datasets import assert_equal, build, write_bitmaps
from tests.pictures import Arrays, assert_one_sentence, visible


@pytest.fixture
def faces(tmp_path) -> pathlib.Path:
    return write_bitmaps(tmp_path / "faces")


@contextlib.contextmanager
def unprivileged() -> Iterator[pathlib.Path]:
    """A folder that all may read, and nobody's rights where we are root."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_cache_that_cannot_be_written_will_do_if_it_has_the_dataset(faces):
    with unprivileged() as public:
        shutil.copytree(faces, public / "faces")
        build(public / "faces", public / "out")
        (public / "out" / ".faces.lock").unlink()
        (public / "empty").mkdir()
        for folder in (public / "out", public / "empty"):
            folder.chmod(0o555)
        with as_nobody():
            assert_equal(build(public / "faces", public / "out"), public / "faces")
            with pytest.raises(UserError, match=r"written to .*empty") as caught:
                build(public / "faces", public / "empty")
        assert_one_sentence(str(caught.value))
        (public / "out").chmod(0o755)
        dataset = next((public / "out").glob("faces-*"))
        dataset.chmod(0o000)
        with as_nobody(), pytest.raises(UserError, match=r"cannot be read .*Permission") as caught:
            build(public / "faces", public / "out")
        with as_nobody(), pytest.raises(UserError, match=r"cannot be read .*Permission"):
            dataset_source(dataset)
        assert str(dataset) in str(caught.value)
        dataset.chmod(0o755)
        assert_equal(dataset_source(dataset), public / "faces")


def test_sources_that_cannot_be_read_are_named_and_not_the_cache(faces):
    with unprivileged() as public:
        root = shutil.copytree(faces, public / "faces")
        (root / "Bob" / "1.bmp").chmod(0o000)
        (root / "Cyd" / "0.bmp").chmod(0o000)
        with as_nobody(), pytest.raises(UserError) as caught:
            build(root, public / "out")
        message = str(caught.value)
        assert message.startswith(
            f"2 images of {root} cannot be read (Bob/1.bmp: Permission denied"
        )
        assert_one_sentence(message)
        with as_nobody(), pytest.raises(UserError, match=r"^(Bob/1|Cyd/0)\.bmp cannot be read"):
            next(batches(folder_source(root), batch_size=6, image_size=8, seed=0, threads=0))
        with as_nobody(), pytest.raises(UserError, match=r"1\.bmp cannot be read \(Permission"):
            next(read_images([root / "Bob" / "1.bmp"], image_size=8, threads=0))
        (root / "Bob").chmod(0o000)
        with as_nobody(), pytest.raises(UserError, match=r"folder .*Bob cannot be read") as caught:
            folder_source(root)
        assert_one_sentence(str(caught.value))


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Writing more than `size` bytes to a file fails, as it does on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 1000, 60_000])
def test_a_disk_that_is_full(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    source = Arrays(noise, [0, 1] * 15, 2)
    with room_for(size), pytest.raises(UserError, match="No dataset could be written") as caught:
        build_dataset(source, tmp_path / "out", progress=False)
    assert str(tmp_path / "out") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert visible(tmp_path / "out") == []
    assert len(build_dataset(source, tmp_path / "out", progress=False)) == 30


def test_the_home_in_every_path(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = build("~/faces", "~/out")
    assert dataset.directory.parent == tmp_path / "out"
    assert len(dataset_source("~/out")) == 6
    assert len(list(read_images(["~/faces/Ann/0.bmp"], image_size=8, threads=0))) == 1
    assert not pathlib.Path("~").exists()
