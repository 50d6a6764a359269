"""A dataset of a folder with damaged images: refused in one sentence, or built without them."""

import pathlib

import numpy as np
import pytest

from facejax.data import build_dataset, dataset_source
from facejax.errors import UserError
from tests.datasets import build, written
from tests.pictures import JPEGS, Arrays, visible, write_folder, zero_tail


@pytest.fixture
def writes(monkeypatch) -> list[str]:
    return written(monkeypatch)


@pytest.fixture
def damaged_faces(tmp_path) -> pathlib.Path:
    """Five images are damaged, in five ways, and Dee and Eve have no others."""
    root = write_folder(tmp_path / "faces", {"Ann": 3, "Bob": 2, "Cyd": 2, "Dee": 1, "Eve": 1})
    (root / "Ann" / "Ann_0002.jpg").write_bytes(zero_tail(JPEGS["baseline"], b"\xff\xd9"))
    (root / "Ann" / "Ann_0003.jpg").write_bytes(JPEGS["progressive"][:900])
    (root / "Cyd" / "Cyd_0001.jpg").write_bytes(b"")
    (root / "Dee" / "Dee_0001.jpg").write_bytes(b"no image")
    (root / "Eve" / "Eve_0001.jpg").write_bytes(zero_tail(JPEGS["with restarts"], b"\xff\xd9"))
    return root


def test_all_damaged_images_are_refused_in_one_sentence(damaged_faces, tmp_path, capfd):
    with pytest.raises(UserError) as caught:
        build(damaged_faces, tmp_path / "out")
    message = str(caught.value)
    assert message.startswith("5 images are damaged (Ann/Ann_0002.jpg is damaged (Corrupt JPEG")
    for words in ("Ann/Ann_0003.jpg", "Cyd/Cyd_0001.jpg", " ...", 'damaged="skip"'):
        assert words in message
    assert "\n" not in message
    assert visible(tmp_path / "out") == []
    assert capfd.readouterr() == ("", "")


def test_damaged_images_are_left_out_if_wanted(damaged_faces, tmp_path, writes, capfd):
    dataset = build(damaged_faces, tmp_path / "out", damaged="skip")
    kept = ["Ann/Ann_0001.jpg", "Bob/Bob_0001.jpg", "Bob/Bob_0002.jpg", "Cyd/Cyd_0002.jpg"]
    assert [dataset[i]["id"] for i in range(len(dataset))] == kept
    assert dataset.labels.tolist() == [0, 1, 1, 2]
    assert dataset.identity_names == ("Ann", "Bob", "Cyd"), "who lost all images is no class"
    assert [name for name, _ in dataset.skipped][3:] == ["Dee/Dee_0001.jpg", "Eve/Eve_0001.jpg"]
    assert dataset.passed_over[-1].startswith("5 damaged images (Ann/Ann_0002.jpg, ")
    assert build(damaged_faces, tmp_path / "out", damaged="skip").skipped == dataset.skipped
    assert dataset_source(tmp_path / "out").skipped == dataset.skipped
    with pytest.raises(UserError, match="5 images are damaged"):  # whatever is in the cache
        build(damaged_faces, tmp_path / "out")
    assert len(writes) == 1
    assert capfd.readouterr() == ("", "")


def test_what_remains_must_be_two_identities(tmp_path):
    root = write_folder(tmp_path / "faces", {"Ann": 2, "Bob": 1})
    (root / "Bob" / "Bob_0001.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^Bob/Bob_0001\.jpg does not decode"):
        build(root, tmp_path / "out", damaged="skip")
    for image in (root / "Ann").iterdir():
        image.write_bytes(b"")
    with pytest.raises(UserError, match="3 images are damaged"):
        build(root, tmp_path / "out", damaged="skip")
    assert visible(tmp_path / "out") == []
    with pytest.raises(ValueError, match='"refuse" or "skip"'):
        build(root, tmp_path / "out", damaged="ignore")
    with pytest.raises(ValueError, match="empty"):
        build_dataset(Arrays(np.zeros((0, 8, 8, 3), np.uint8), [], 2), tmp_path / "out")
