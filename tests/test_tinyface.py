"""TinyFace's layout from a folder, with a known answer."""

import jax
import numpy as np
import pytest

from facejax.errors import UserError
from facejax.evaluation import tinyface
from tests.pictures import encode, smooth


@pytest.fixture
def folder(tmp_path):
    names = {"Probe": ["7_1.jpg", "7_2.jpg", "12_1.jpg", "9_1.jpg"],
             "Gallery_Match": ["12_9.png", "7_8.jpg", "7_9.jpg", "9_4.jpg"],
             "Gallery_Distractor": ["anything.jpg", "x_1.jpg"]}  # fmt: skip
    for folder, images in names.items():
        (tmp_path / "Testing_Set" / folder).mkdir(parents=True)
        (tmp_path / "Testing_Set" / folder / "notes.txt").write_text("no image")
        for number, name in enumerate(images):
            image = encode(smooth(10, 10, number), name[-4:])
            (tmp_path / "Testing_Set" / folder / name).write_bytes(image)
    return tmp_path


def test_a_folder_has_its_known_answer(folder):
    protocol = tinyface.from_tinyface(folder, image_size=8)
    assert protocol.probes.tolist() == [12, 7, 7, 9]  # in the order of their names
    assert protocol.gallery.tolist() == [12, 7, 7, 9, -1, -1]
    assert np.concatenate(list(protocol.images)).shape == (10, 8, 8, 3)
    axes = np.eye(6)
    embeddings = np.array([
        axes[0],            # 12: found first
        axes[1] + 0.1,      # 7: found by its second image
        axes[4] + axes[2] * 0.9,  # 7: a distractor is before it
        axes[4] + axes[0] * 0.9 + axes[5] * 0.8 + axes[3] * 0.5,  # 9: three are before it
        axes[0], axes[2], axes[1] * 3, axes[3], axes[4] * 0.1, axes[5] * 9,
    ])  # fmt: skip
    result = tinyface.evaluate_gallery(
        embeddings, protocol, depth=5, bootstrap=20, devices=jax.local_devices()[:1]
    )
    assert (result.mated, result.non_mated) == (4, 0)
    np.testing.assert_allclose(result.cmc, [0.5, 0.75, 0.75, 1, 1])
    # 12: first. 7: its second image first, and the other, which ties with four rows, among the six;
    # then one first after a distractor, and the other, which ties again. 9: the fourth.
    precisions = [1, (1 + 2 / 6) / 2, (1 / 2 + 2 / 6) / 2, 1 / 4]
    mean, low, high = result.average_precision
    assert mean == pytest.approx(np.mean(precisions))
    assert low < mean < high
    record = tinyface.gallery_scores(result)
    assert record["mean_average_precision"] == mean
    assert record["mean_average_precision_interval"] == [low, high]
    assert record["rank_1"] == 0.5
    assert "rank_10" not in record
    low, high = record["rank_interval_1"]
    assert low <= 0.5 <= high

    with pytest.raises(UserError, match="9 embeddings for the 10 images"):
        tinyface.evaluate_gallery(embeddings[1:], protocol)
    embeddings[3, 2] = np.inf
    with pytest.raises(UserError, match="1 of 10 embeddings are not finite"):
        tinyface.evaluate_gallery(embeddings, protocol)


def test_wrong_folders_are_refused(folder):
    testing = folder / "Testing_Set"
    (testing / "Probe" / "nobody.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"nobody.jpg does not say whose it is"):
        tinyface.from_tinyface(testing, image_size=8)
    with pytest.raises(UserError, match="Probe has no images"):
        tinyface.from_tinyface(folder / "none", image_size=8)
