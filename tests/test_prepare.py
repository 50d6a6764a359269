"""Datasets that are written in shards, gone on with after a kill, and packed."""

import json
import pathlib
import pickle  # noqa: TID251 (what grain hands to its workers)
import signal
import subprocess
import sys

import numpy as np
import pytest

from facejax.__main__ import main
from facejax.data import (
    decode,
    folder_source,
    open_source,
    pack_dataset,
    packed_source,
    shards,
)
from facejax.data import packed as packed_module
from facejax.data.sources import FolderSource
from facejax.errors import UserError
from tests.pictures import assert_one_sentence, visible, write_folder

KILLED = """
import os, signal, sys
from facejax.data import packed, shards
from facejax.data.sources import FolderSource
from facejax.__main__ import main
shards.RECORDS, packed._BLOCK, at = 3, 3, int(sys.argv[1])
read = FolderSource.__getitem__
def killed(self, index):
    if index == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, index)
FolderSource.__getitem__ = killed
main(["prepare", *sys.argv[2:]])
"""


@pytest.fixture
def faces(tmp_path) -> pathlib.Path:
    return write_folder(tmp_path / "faces", {"Ann": 3, "Bob": 2, "Cyd": 5})


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(shards, "RECORDS", 3)
    monkeypatch.setattr(packed_module, "_BLOCK", 3)


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The records that are read during a test."""
    read, numbers = FolderSource.__getitem__, []

    def noting(self, index):
        numbers.append(index)
        return read(self, index)

    monkeypatch.setattr(FolderSource, "__getitem__", noting)
    return numbers


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    (dataset,) = (folder / name for name in visible(folder))
    found = {path.name: path.read_bytes() for path in dataset.iterdir()}
    manifest = json.loads(found.pop("manifest.json"))
    assert manifest.pop("status")  # inodes and times
    return found | {"manifest.json": json.dumps(manifest).encode()}


def prepare(*arguments, code: int = 0) -> None:
    assert main(["prepare", *map(str, arguments)]) == code


def test_shards_are_records_in_order(faces, tmp_path, small):
    prepare(faces, f"--out={tmp_path / 'out'}")
    source, dataset = folder_source(faces), open_source(tmp_path / "out")
    assert len(list(dataset.directory.glob("*.array_record-*-of-00004"))) == 4
    assert [dataset[i] for i in range(10)] == [source[i] for i in range(10)]
    assert not list(dataset.directory.glob("shard-*"))


@pytest.mark.parametrize("how", [[], ["--packed", "--size=16"]])
def test_a_kill_costs_no_finished_shard(faces, tmp_path, small, reads, how):
    (faces / "Ann" / "Ann_0002.jpg").write_bytes(b"no image")
    out = [f"--out={tmp_path / 'out'}", "--damaged=skip", *how]
    command = [sys.executable, "-c", KILLED, "7", str(faces), *out]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(UserError):
        open_source(f"dataset:{tmp_path / 'out'}")
    prepare(faces, *out)
    assert reads == [6, 7, 8, 9], "two shards of three were there"
    prepare(faces, f"--out={tmp_path / 'whole'}", *out[1:])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    del reads[:]
    prepare(faces, *out)
    assert reads == [], "what is there is not written again"
    source = open_source(tmp_path / "out")
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 2]
    assert source.skipped[0][0] == "Ann/Ann_0002.jpg"
    prepare(faces, f"--out={tmp_path / 'out'}", *how, code=2)  # refused, whatever is there


def test_packed_images_are_those_that_are_decoded(faces, tmp_path, small):
    source = folder_source(faces)
    packed = pack_dataset(source, tmp_path / "out", image_size=12, progress=False)
    for copy in (
        packed,
        packed_source(tmp_path / "out"),
        open_source(packed.directory),
        pickle.loads(pickle.dumps(packed)),
    ):
        assert copy.identity_names == ("Ann", "Bob", "Cyd")
        np.testing.assert_array_equal(copy.labels, source.labels)
        for index in range(10):
            image = copy[index]["image"]
            np.testing.assert_array_equal(image, decode(source[index]["image"], 12))
            assert copy[index]["label"] == source.labels[index]
    assert len(pickle.dumps(packed)) < 1000
    assert packed.fingerprint() == packed_source(tmp_path / "out").fingerprint()
    again = pack_dataset(source, tmp_path / "out", image_size=12, progress=False)
    assert again.directory == packed.directory
    images = packed.directory / "images.npy"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged") as caught:
        packed_source(tmp_path / "out")
    assert_one_sentence(str(caught.value))
    again = pack_dataset(source, tmp_path / "out", image_size=12, progress=False)
    np.testing.assert_array_equal(again[9]["image"], decode(source[9]["image"], 12))


def test_what_the_command_says(faces, tmp_path, capsys):
    (faces / "Bob" / "notes.txt").touch()
    prepare(faces, f"--out={tmp_path / 'out'}")
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith(": 10 images of 3 identities")
    assert out[1] == "passed over: 1 file that cannot be read as an image (Bob/notes.txt)"
    prepare(f"{faces},{faces}", "--join=names", f"--out={tmp_path / 'joined'}", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["identities"]) == (20, 3)
    prepare(faces, "--out=x", "--size=8", code=2)
    assert "--size is for --packed" in capsys.readouterr().err
    (faces / "Ann" / "Ann_0002.jpg").write_bytes(b"no image")
    prepare(faces, f"--out={tmp_path / 'out'}", code=2)
    assert "--damaged=skip" in capsys.readouterr().err
