"""Wrong labels and people under two names, against loops in float64."""

import numpy as np
import pytest

from facejax.evaluation import label_noise
from facejax.recognition.thresholds import Threshold


def people(sizes: list[int], seed: int = 0, spread: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings around a direction of each person, and their labels."""
    random = np.random.default_rng(seed)
    directions = random.standard_normal((len(sizes), 32))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = directions[labels] + spread * random.standard_normal((len(labels), 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), labels.astype(np.int32)


def swapped(labels: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    labels = labels.copy()
    for one, other in pairs:
        labels[one], labels[other] = labels[other], labels[one]
    return labels


def loop(rows: np.ndarray, labels: np.ndarray, like: float) -> tuple[list[float], dict]:
    """own cosines, and the centers by label, in two rounds."""
    rows = rows.astype(np.float64)
    part = [True] * len(rows)
    for _ in range(2):
        own = []
        for i, row in enumerate(rows):
            others = [rows[j] for j in range(len(rows))
                      if j != i and labels[j] == labels[i] and part[j]]  # fmt: skip
            total = np.sum(others, axis=0)
            own.append(total @ row / np.linalg.norm(total) if others else np.nan)
        centers = {}
        for label in set(labels.tolist()):
            total = np.sum([rows[j] for j in range(len(rows)) if labels[j] == label and part[j]], 0)
            centers[label] = total / np.linalg.norm(total)
        keep = [not own[i] < like for i in range(len(rows))]
        for label in set(labels.tolist()):
            inside = [i for i in range(len(rows)) if labels[i] == label]
            if not any(keep[i] for i in inside):
                for i in inside:
                    keep[i] = True
        part = keep
    return own, centers


def test_own_and_other_cosines_are_those_of_a_loop():
    rows, labels = people([6, 5, 4, 3, 3, 2, 2, 1, 1])
    labels = swapped(labels, [(0, 7), (12, 16)])
    own, centers = loop(rows, labels, 0.4)
    found, made = label_noise.own_cosines(rows, labels, like=0.4)
    np.testing.assert_allclose(found, own, atol=1e-5)
    for label, center in centers.items():
        np.testing.assert_allclose(made[label], center, atol=1e-5)
    judged = label_noise.suspects(rows, labels, like=0.4, found=0.7, together=[(1, 2)])
    for i, row in enumerate(rows):
        apart = {1: {1, 2}, 2: {1, 2}}.get(labels[i], {labels[i]})
        cosines = {label: row @ center for label, center in centers.items() if label not in apart}
        nearest = max(cosines, key=cosines.get)
        assert judged.nearest[i] == nearest
        assert judged.other[i] == pytest.approx(cosines[nearest], abs=1e-5)


def test_swapped_labels_are_found():
    rows, true = people([8] * 10)
    labels = swapped(true, [(0, 9), (17, 30), (44, 79)])
    found = label_noise.suspects(rows, labels, like=0.4, found=0.6)
    assert np.flatnonzero(found.suspect).tolist() == np.flatnonzero(labels != true).tolist()
    assert found.nearest[found.suspect].tolist() == true[found.suspect].tolist()
    assert found.judged.all()


def test_of_few_images_only_those_that_another_identity_claims():
    rows, true = people([8, 8, 2, 2, 1, 1])
    labels = swapped(true, [(0, 16)])  # one of eight for one of two
    found = label_noise.suspects(rows, labels, like=0.4, found=0.6)
    assert np.flatnonzero(found.suspect).tolist() == [0, 16]
    assert not found.judged[17:].any()  # not the other one of the two, nor single images
    assert np.isnan(found.own[-2:]).all()
    # Two that are unlike, and like nobody.
    labels = swapped(true, [(16, 18)])
    found = label_noise.suspects(rows, labels, like=0.4, found=0.95)
    assert not found.suspect.any()


def test_one_person_under_two_names_is_no_wrong_label():
    rows, labels = people([8, 8, 8])
    labels[4:8] = 3
    own, centers = label_noise.own_cosines(rows, labels, like=0.4)
    same = label_noise.same_identities(centers, threshold=0.7)
    assert (same.first.tolist(), same.second.tolist()) == ([0], [3])
    assert same.cosine[0] == pytest.approx(centers[0] @ centers[3], abs=1e-5)
    found = label_noise.suspects(rows, labels, like=0.4, found=0.6, together=[(0, 3)])
    assert not found.suspect.any()
    assert not np.isin(found.nearest[labels == 0], [0, 3]).any()
    assert len(own) == len(rows)


def test_same_identities_are_those_of_a_loop():
    centers = people([1] * 40, spread=0.1)[0]
    centers[20:] = centers[:20] + 0.15 * centers[20:]
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    centers[7] = 0  # an identity without an image
    same = label_noise.same_identities(centers, threshold=0.5)
    products = centers.astype(np.float64) @ centers.T
    wanted = [(i, j) for i in range(40) for j in range(i + 1, 40) if products[i, j] >= 0.5]
    pairs = list(zip(same.first.tolist(), same.second.tolist(), strict=True))
    assert sorted(pairs) == wanted
    assert (np.diff(same.cosine) <= 0).all()
    first, second, cosines = label_noise.matches(centers[:10], centers[10:], threshold=0.9)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == {
        (i, i + 10) for i in range(10) if i != 7
    }
    assert (cosines >= 0.9).all()


def test_most_images_of_both_must_speak_for_one_person():
    """As a loop has it; a name of two images, one of them a stranger's, is not the stranger's."""
    rows, labels = people([9, 9, 9, 9, 1, 6], spread=0.4)
    labels[5:9] = 6  # of person 0
    labels[17] = 7  # one image of person 1, and one of person 2
    labels[26] = 7
    labels[35] = 4  # person 3 under the name of a single image, which goes
    rows, labels = rows[np.arange(43) != 36], labels[np.arange(43) != 36]
    _, centers = label_noise.own_cosines(rows, labels, like=0.5)
    same = label_noise.same_identities(centers, threshold=0.5)
    found = label_noise.agreed(same, rows, labels, centers, like=0.5)
    wanted = []
    for one, two, cosine in zip(*same, strict=True):
        shares = [
            sum(float(row @ centers[there]) >= 0.5 for row in rows[labels == here])
            / sum(labels == here)
            for here, there in ((one, two), (two, one))
        ]
        if min(shares) > 0.5:
            single = min(sum(labels == one), sum(labels == two)) < 2
            wanted.append((single, -cosine, one, two))
    wanted = [(one, two) for *_, one, two in sorted(wanted)]
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted
    assert wanted == [(0, 6), (3, 4)]
    assert {(1, 7), (2, 7)} <= set(zip(same.first.tolist(), same.second.tolist(), strict=True))


def test_thresholds_between_and_beyond_the_calibrated():
    known = [Threshold(1e-2, 0.3), Threshold(1e-4, 0.5), Threshold(1e-3, 0.4)]
    for far, cosine, reached in (
        (1e-3, 0.4, True),
        (10**-2.5, 0.35, True),
        (1e-6, 0.7, False),
        (1e-1, 0.2, True),
        (1e-30, 1.0, False),
    ):
        found = label_noise.cosine_at(known, far)
        assert found == (pytest.approx(cosine), reached)
    assert label_noise.cosine_at(known[:1], 1e-5) == (0.3, False)
