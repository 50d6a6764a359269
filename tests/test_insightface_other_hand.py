"""InsightFace's numbers against a port by another hand, which had only a description of them."""

import math

import numpy as np
import pytest
from sklearn.model_selection import KFold

from facejax import evaluation
from tests import reference_insightface

SCALARS = ("accuracy", "deviation", "tar", "tar_deviation", "achieved_far")


def listed(count: int) -> np.ndarray:
    """[[0, 1], [2, 3], ...], as a `.bin` file has them."""
    return np.arange(2 * count).reshape(count, 2)


def random_set(seed, count, *, noise):
    """(sums [2 count, 16], indices, same): float32 embeddings and their mirror images', added.

    `noise` is what two images of a person differ by; half of the pairs are of one person.
    """
    random = np.random.default_rng(seed)
    same = random.random(count) < 0.5
    first = random.normal(size=(count, 16))
    second = np.where(same[:, None], first, random.normal(size=(count, 16)))
    person = np.stack([first, second], 1).reshape(2 * count, 16)
    image, mirrored = (
        (person + noise * random.normal(size=person.shape)).astype(np.float32) for _ in range(2)
    )
    return image.astype(np.float64) + mirrored.astype(np.float64), listed(count), same


def agree(embeddings, indices, same, *, far=1e-3):
    ours = evaluation.insightface_verification(embeddings, indices, same, far=far)
    theirs = reference_insightface.verification(embeddings, indices, same, far=far)
    for name in SCALARS:
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-12, err_msg=name
        )
    np.testing.assert_array_equal(ours.thresholds, theirs.thresholds)
    np.testing.assert_allclose(ours.fold_accuracies, theirs.fold_accuracies, rtol=0, atol=1e-12)
    return theirs


@pytest.mark.parametrize(
    ("seed", "count", "noise", "far"),
    [(0, 200, 0.3, 1e-3), (1, 207, 1.0, 1e-3), (2, 251, 2.0, 1e-1), (3, 299, 5.0, 1e-2)],
)
def test_random_embeddings(seed, count, noise, far):
    numbers = agree(*random_set(seed, count, noise=noise), far=far)
    assert 0.5 < numbers.accuracy <= 1
    assert 0 < numbers.tar <= 1


@pytest.mark.parametrize("rare", [True, False])
def test_few_pairs_of_a_kind(rare):
    """A tenth are of the rare kind, two or three in each fold."""
    embeddings, indices, _ = random_set(4, 263, noise=1.5)
    agree(embeddings, indices, (np.arange(263) % 10 == 3) == rare)


def test_equal_distances():
    """Images that are the same, and the same pair many times over: runs of equal distances."""
    embeddings, _, same = random_set(5, 240, noise=1.5)
    random = np.random.default_rng(6)
    indices = random.integers(0, 8, size=(240, 2))
    assert (indices[:, 0] == indices[:, 1]).sum() > 10
    copied = embeddings[indices].reshape(480, -1)
    agree(copied, listed(240), same)
    agree(embeddings, indices, same, far=0.5)


def test_distances_that_lie_on_a_threshold():
    """Of axes, their opposites and zero: distances of just 0, 1, 2 and 4; 4 is never below."""
    corners = np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))]) * 5
    random = np.random.default_rng(7)
    indices, same = random.integers(0, 7, size=(233, 2)), random.random(233) < 0.5
    for far in (1e-3, 0.6):
        agree(corners, indices, same, far=far)


def test_zero_vectors():
    """A zero vector stays zero, and is alike to another."""
    embeddings, indices, same = random_set(8, 222, noise=1.0)
    embeddings[indices[::7, 1]] = 0
    embeddings[indices[::14, 0]] = 0
    # At distance 1 of a zero vector the last bit would decide, so those have no such bit.
    embeddings[indices[7::14, 0]] = np.eye(16)[3] * 4
    agree(embeddings, indices, same)


def on_a_circle(distances) -> np.ndarray:
    """Pairs with these squared distances, one behind the other."""
    embeddings = np.zeros((2 * len(distances), 2))
    embeddings[::2, 0] = 1
    angles = np.arccos(1 - np.asarray(distances) / 2)
    embeddings[1::2] = np.stack([np.cos(angles), np.sin(angles)], 1)
    return embeddings


@pytest.mark.parametrize("far", [0.05, 0.3])
def test_between_two_thresholds(far):
    """All distances within four steps of the finer grid: where the line meets FAR decides."""
    distances = np.random.default_rng(9).uniform(0.5, 0.504, 250)
    numbers = agree(on_a_circle(distances), listed(250), np.arange(250) % 2 == 0, far=far)
    assert abs(numbers.achieved_far - far) < 0.03


@pytest.mark.parametrize("far", [0.1, 1.0])
def test_a_far_that_thresholds_have_exactly(far):
    """Of 90 different pairs 9 are FAR 0.1, up to the last threshold before the tenth."""
    same = np.arange(200) % 2 == 0
    random = np.random.default_rng(10)
    distances = np.where(same, random.uniform(0, 2, 200), random.uniform(0.5, 3.9, 200))
    agree(on_a_circle(distances), listed(200), same, far=far)


def test_a_far_that_no_threshold_reaches():
    """Opposite vectors are never below 4: the threshold is then 0, which accepts not even twins."""
    same = np.arange(200) % 2 == 0
    embeddings = np.ones((400, 1))
    embeddings[1::2, 0] = np.where(same, 1, -1)
    numbers = agree(embeddings, listed(200), same)
    assert numbers.tar == numbers.achieved_far == 0


@pytest.mark.parametrize("kind", [True, False])
def test_a_fold_with_pairs_of_one_kind(kind):
    """A share of no pairs is not a number: the other rate, and the accuracy, are what they are."""
    embeddings, indices, same = random_set(11, 205, noise=1.0)
    same[20:65] = kind  # the whole of two folds
    numbers = agree(embeddings, indices, same)
    assert math.isnan(numbers.achieved_far) == kind
    assert math.isnan(numbers.tar) != kind


def test_all_pairs_of_a_kind_first():
    embeddings, indices, same = random_set(12, 205, noise=1.0)
    order = np.argsort(~same, kind="stable")
    numbers = agree(embeddings, indices[order], same[order])
    assert math.isnan(numbers.tar)
    assert math.isnan(numbers.achieved_far)


@pytest.mark.parametrize("count", [10, 11, 99, 200, 207, 300])
def test_folds_are_scikit_learns(count):
    theirs = [list(test) for _, test in KFold(n_splits=10, shuffle=False).split(np.zeros(count))]
    assert reference_insightface.folds(count) == theirs
