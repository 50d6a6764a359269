"""Protocols: the right images, compared in the right pairs, by people not in training."""

import functools

import cv2
import numpy as np
import pytest

from facejax import evaluation, recognition
from facejax.errors import UserError
from facejax.synthetic import SyntheticFaces


def folder(tmp_path):
    """Two people, three flat images each; image i of person p has the colour (10 p + i)."""
    for p, name in enumerate(("Ann", "Bob")):
        (tmp_path / name).mkdir()
        for i in range(1, 4):
            image = np.full((20, 20, 3), 10 * p + i, np.uint8)
            cv2.imwrite(str(tmp_path / name / f"{name}_{i:04d}.png"), image)
    lines = ["2", "Ann\t1\t2", "Bob\t3\t1", "Ann\t1\tBob\t2", "Ann\t3\tBob\t3"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_from_pairs_reads_the_images_that_the_pairs_name(tmp_path):
    root = folder(tmp_path)
    protocol = evaluation.from_pairs(root / "pairs.txt", root, image_size=16)
    images = np.concatenate([*protocol.images])
    np.testing.assert_array_equal(images, np.concatenate([*protocol.images]))  # and once more
    colors = images[:, 0, 0, 0][protocol.indices]
    np.testing.assert_array_equal(colors, [[1, 2], [13, 11], [1, 12], [3, 13]])
    np.testing.assert_array_equal(protocol.same, [True, True, False, False])
    assert images.shape[1:] == (16, 16, 3)
    assert protocol.name == "pairs.txt"
    assert protocol.identities is not None
    people = protocol.identities[protocol.indices]
    np.testing.assert_array_equal(people[:, 0] == people[:, 1], protocol.same)


def test_evaluate_embeds_once_and_compares_pairs(tmp_path):
    root = folder(tmp_path)
    protocol = evaluation.from_pairs(root / "pairs.txt", root, image_size=16)

    def embedder(variables, images):  # a person's number as a direction
        person = images[:, 0, 0, 0] >= variables
        return np.stack([person, ~person], axis=1).astype(np.float32)

    embed = functools.partial(recognition.embed, embedder, 10, batch_size=4)
    result = evaluation.evaluate(embed, protocol, fars=(0.5,))
    assert (result.basis, result.people) == ("identities", 2)
    unknown = evaluation.evaluate(embed, protocol._replace(identities=None), fars=(0.5,))
    assert (unknown.basis, unknown.people) == ("linked images", 4)
    np.testing.assert_array_equal(result.scores, [1, 1, 0, 0])
    assert result.auc == 1.0
    held = protocol._replace(images=np.concatenate([*protocol.images]))
    np.testing.assert_array_equal(
        evaluation.evaluate(embed, held, fars=(0.5,)).scores, result.scores
    )


def test_images_of_pairs_are_decoded_as_they_are_used(tmp_path):
    root = folder(tmp_path)
    protocol = evaluation.from_pairs(root / "pairs.txt", root, image_size=16)
    (root / "Bob" / "Bob_0003.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"Bob_0003\.png does not decode"):
        list(protocol.images)


def test_synthetic_people_are_not_those_in_training():
    drawn = evaluation.synthetic(
        identities=4, images_per_identity=3, image_size=32, seed=5, first_identity=6, pairs=12
    )
    people = np.repeat(np.arange(4), 3)[drawn.indices]
    np.testing.assert_array_equal(people[:, 0] == people[:, 1], drawn.same)
    np.testing.assert_array_equal(drawn.identities, np.repeat(np.arange(4), 3))
    assert drawn.same.sum() == 6
    training = SyntheticFaces(identities=6, images_per_identity=3, image_size=32, seed=5)
    everyone = SyntheticFaces(identities=10, images_per_identity=3, image_size=32, seed=5)
    np.testing.assert_array_equal(everyone.images, [*training.images, *drawn.images])
