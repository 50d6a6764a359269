"""InsightFace's numbers against loops that follow their description, step by step."""

import numpy as np
import pytest
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from facejax.errors import UserError
from facejax.evaluation.insightface_compat import insightface_verification, squared_distances


def images(seed, pairs=137, size=8, tenths=False):
    """Embeddings of images and mirror images, two for each pair, and the kinds in random order."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.5
    first, other, noise = rng.normal(size=(3, pairs, size))
    second = np.where(same[:, None], first + 0.9 * noise, other)
    both = np.stack([first, second], axis=1).reshape(-1, size)
    if tenths:  # few distinct distances, some of them on the grid
        both = np.round(both)
    mirrored = both + 0.1 * rng.normal(size=both.shape) * (not tenths)
    return both.astype(np.float32), mirrored.astype(np.float32), same


def loop(embeddings, same, folds, target):
    """Everything by its definition, a threshold and a fold at a time."""
    embeddings = normalize(embeddings)
    distances = np.sum(np.square(embeddings[0::2] - embeddings[1::2]), 1)
    accuracies, chosen, tars, fars = [], [], [], []
    for train, test in KFold(folds, shuffle=False).split(distances):
        best, best_accuracy = None, -1.0
        for threshold in np.arange(0, 4, 0.01):
            accuracy = np.mean((distances[train] < threshold) == same[train])
            if accuracy > best_accuracy:
                best, best_accuracy = threshold, accuracy
        chosen.append(best)
        accuracies.append(np.mean((distances[test] < best) == same[test]))
        grid = np.arange(0, 4, 0.001)
        different = distances[train][~same[train]]
        rates = [np.sum(different < threshold) / len(different) for threshold in grid]
        limit = 0.0
        if max(rates) >= target:
            low = max(i for i, rate in enumerate(rates) if rate <= target)
            slope = (grid[low + 1] - grid[low]) / (rates[low + 1] - rates[low])
            limit = grid[low] + slope * (target - rates[low])
        tars.append(np.mean(distances[test][same[test]] < limit))
        fars.append(np.mean(distances[test][~same[test]] < limit))
    return [np.mean(accuracies), np.std(accuracies), np.mean(tars), np.std(tars), np.mean(fars)], (
        chosen,
        accuracies,
    )


@pytest.mark.parametrize("tenths", [False, True])
@pytest.mark.parametrize(("folds", "far"), [(10, 1e-3), (10, 0.1), (4, 0.25)])
def test_as_by_the_description(tenths, folds, far):
    for seed in range(2):
        image, mirrored, same = images(seed, tenths=tenths)
        summed = image.astype(np.float64) + mirrored
        indices = np.arange(len(summed)).reshape(-1, 2)
        got = insightface_verification(summed, indices, same, folds=folds, far=far)
        numbers, (thresholds, accuracies) = loop(summed, same, folds, far)
        np.testing.assert_allclose(got[:5], numbers, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(got.thresholds, thresholds)
        np.testing.assert_array_equal(got.fold_accuracies, accuracies)


def test_a_list_of_pairs_may_use_an_image_again():
    image, mirrored, same = images(3)
    summed = image.astype(np.float64) + mirrored
    indices = np.arange(len(summed)).reshape(-1, 2)
    order = np.random.default_rng(4).permutation(len(summed))
    moved = insightface_verification(summed[order], np.argsort(order)[indices], same)
    still = insightface_verification(summed, indices, same)
    assert moved[:5] == still[:5]


def test_distances_are_those_of_unit_vectors_in_float64():
    rows = np.array([[3, 0], [0, 5], [-1, 0], [0, 0]], np.float32)
    indices = np.array([[0, 1], [0, 2], [0, 3], [3, 3], [0, 0]])
    for block_size in (1, 3, 9):
        got = squared_distances(rows, indices, block_size=block_size)
        assert got.dtype == np.float64
        assert got.tolist() == [2, 4, 1, 0, 0]


def test_a_fold_of_one_kind_has_no_tar():
    image, _, _ = images(5, pairs=100)
    indices = np.arange(200).reshape(-1, 2)
    got = insightface_verification(image, indices, np.arange(100) < 50)
    assert np.isnan([got.tar, got.tar_deviation, got.achieved_far]).all()
    assert 0 <= got.accuracy <= 1


@pytest.mark.parametrize(
    ("same", "folds", "message"),
    [
        (np.ones(3), 2, "booleans"),
        (np.ones(4, bool), 2, r"indices \[N, 2\]"),
        (np.ones(3, bool), 4, "3 pairs can't be cut into 4 folds"),
        (np.ones(3, bool), 1, "3 pairs can't be cut into 1 folds"),
    ],
)
def test_refuses_what_is_no_list(same, folds, message):
    with pytest.raises(ValueError, match=message):
        insightface_verification(np.ones((6, 2)), np.arange(6).reshape(3, 2), same, folds=folds)


def test_refuses_a_diverged_network():
    embeddings = np.ones((6, 2), np.float32)
    embeddings[3, 1] = np.inf
    with pytest.raises(UserError, match="not finite"):
        insightface_verification(
            embeddings, np.arange(6).reshape(3, 2), np.array([True, False, True]), folds=3
        )
