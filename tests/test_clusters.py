"""Unknown faces by person: beside scikit-learn and a loop, and how many people it finds."""

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition import cluster, clusters
from tests.faces import photo


def by_hand(rows: np.ndarray, threshold: float) -> list[set[int]]:
    """The two groups with the greatest mean become one, until none reaches the threshold."""
    rows = rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)
    groups = [{number} for number in range(len(rows))]
    while len(groups) > 1:
        means = {
            (a, b): np.mean([rows[i] @ rows[j] for i in groups[a] for j in groups[b]])
            for a in range(len(groups))
            for b in range(a)
        }
        a, b = max(means, key=means.__getitem__)
        if means[a, b] < threshold:
            break
        groups[b] |= groups.pop(a)
    return sorted(groups, key=lambda group: (-len(group), min(group)))


def groups_of(labels: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(labels == label).tolist()) for label in range(labels.max() + 1)]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_equal_to_a_loop(threshold, monkeypatch):
    monkeypatch.setattr(clusters, "_BLOCK", 7)
    random = np.random.default_rng(int(10 * threshold))
    rows = np.array([photo(seed, number, 0.8, 6) for seed in range(8) for number in range(3)])
    rows = 3 * random.permutation(rows)
    labels = cluster(rows, threshold=threshold)
    assert labels.dtype == np.int32
    assert groups_of(labels) == by_hand(rows, threshold)
    assert 1 < labels.max() < 23


def test_people_are_found():
    """80 people of 1 to 20 photos, cosine 0.6 in the middle; strangers below 0.4."""
    random = np.random.default_rng(0)
    people = np.concatenate([np.full(random.integers(1, 21), seed) for seed in range(80)])
    people = random.permutation(people)
    rows = np.array([photo(seed, number, 0.8, 128) for number, seed in enumerate(people)])
    labels = cluster(rows, threshold=0.45)
    same = labels[:, None] == labels[None]
    truth = people[:, None] == people[None]
    apart = ~np.eye(len(rows), dtype=bool)
    precision = (same & truth & apart).sum() / (same & apart).sum()
    recall = (same & truth & apart).sum() / (truth & apart).sum()
    print(f"pairs: precision {precision:.4f}, recall {recall:.4f}, {labels.max() + 1} groups of 80")
    assert precision == 1
    assert recall > 0.99


def test_equal_to_scikit_learn():
    sklearn = pytest.importorskip("sklearn.cluster")
    rows = np.array([photo(seed, number, 1.0, 16) for seed in range(60) for number in range(5)])
    labels = cluster(rows, threshold=0.4)
    theirs = sklearn.AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=0.6
    ).fit_predict(rows)
    np.testing.assert_array_equal(labels[:, None] == labels[None], theirs[:, None] == theirs[None])


def test_edges(monkeypatch):
    assert cluster(np.zeros((0, 4), np.float32), threshold=0.5).tolist() == []
    assert cluster(np.ones((1, 4), np.float32), threshold=0.5).tolist() == [0]
    assert cluster(np.ones((3, 4), np.float32), threshold=0.5).tolist() == [0, 0, 0]
    lone_first = np.array([[0, 1], [1, 0], [1, 0.1]], np.float32)
    assert cluster(lone_first, threshold=0.5).tolist() == [1, 0, 0]
    for wrong in (np.zeros((2, 4)), np.full((2, 4), np.nan)):
        with pytest.raises(UserError, match="zero or not finite"):
            cluster(wrong, threshold=0.5)
    with pytest.raises(UserError, match=r"not \[4\]"):
        cluster(np.ones(4), threshold=0.5)
    monkeypatch.setattr(clusters, "_LARGEST", 2)
    with pytest.raises(UserError, match="3 faces hang together at the threshold"):
        cluster(np.ones((3, 4), np.float32), threshold=0.5)
