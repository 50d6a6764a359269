"""Verification against plain loops over every threshold, and closed cases."""

import itertools
import json
import math
import tracemalloc

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.evaluation import consecutive_folds, pair_folds, verification
from facejax.evaluation.report import to_json

PERFECT = (np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.0]), np.array([1, 1, 1, 0, 0, 0], bool))


def random_case(seed, count=60, levels=None):
    """Overlapping scores; `levels` rounds them so that many are equal."""
    generator = np.random.default_rng(seed)
    same = generator.random(count) < 0.4
    same[:2] = True, False
    scores = generator.normal(size=count) + same
    return (scores if levels is None else np.round(scores * levels) / levels), same


CASES = [random_case(0), random_case(1, levels=2), random_case(2, count=7, levels=1), PERFECT]


def rates(scores, same, threshold):
    true = sum(1 for s, y in zip(scores, same, strict=True) if y and s >= threshold)
    false = sum(1 for s, y in zip(scores, same, strict=True) if not y and s >= threshold)
    return false / (~same).sum(), true / same.sum()


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_roc_has_every_threshold(scores, same):
    curve = verification.roc(scores, same)
    thresholds = [math.inf, *sorted(set(scores.tolist()), reverse=True)]
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    expected = np.array([rates(scores, same, threshold) for threshold in thresholds])
    np.testing.assert_allclose(curve.false_accept_rates, expected[:, 0], atol=1e-15)
    np.testing.assert_allclose(curve.true_accept_rates, expected[:, 1], atol=1e-15)


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_auc_is_the_probability_of_the_right_order(scores, same):
    wins = [(p > n) + 0.5 * (p == n) for p in scores[same] for n in scores[~same]]
    assert verification.roc_auc(scores, same) == pytest.approx(np.mean(wins), abs=1e-12)


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_equal_error_rate_lies_on_the_joined_roc(scores, same):
    got = verification.equal_error_rate(scores, same)
    points = [rates(scores, same, t) for t in [math.inf, *sorted(set(scores), reverse=True)]]
    dense = []  # brute force: 20,001 points of every segment, the one nearest to the diagonal
    for (far0, tar0), (far1, tar1) in itertools.pairwise(points):
        w = np.linspace(0, 1, 20_001)
        far, miss = far0 + w * (far1 - far0), 1 - (tar0 + w * (tar1 - tar0))
        nearest = np.argmin(np.abs(far - miss))
        dense.append((abs(far - miss)[nearest], far[nearest]))
    assert got.rate == pytest.approx(min(dense)[1], abs=1e-4)
    assert scores.min() <= got.threshold <= scores.max()


def test_equal_error_rate_of_closed_cases():
    assert verification.equal_error_rate(*PERFECT).rate == 0
    assert verification.equal_error_rate(-PERFECT[0], PERFECT[1]).rate == 1
    equal = verification.equal_error_rate(np.full(6, 0.3), PERFECT[1])
    assert equal == (0.5, 0.3)
    half = verification.equal_error_rate(np.array([4.0, 3, 2, 1]), np.array([1, 0, 1, 0], bool))
    assert half.rate == 0.5


@pytest.mark.parametrize(("scores", "same"), CASES)
@pytest.mark.parametrize("far", [0.02, 0.1, 0.29, 0.5, 1.0])
def test_tar_at_far_takes_the_smallest_threshold(scores, same, far):
    got = verification.tar_at_far(scores, same, far=far)
    if far * (~same).sum() < 1:
        assert got.tar is None
        return
    assert got.threshold is not None
    assert got.low is not None
    assert got.high is not None
    allowed = [
        t for t in [*scores, np.nextafter(scores.max(), 9)] if rates(scores, same, t)[0] <= far
    ]
    expected_far, expected_tar = rates(scores, same, min(allowed))
    assert got.tar == pytest.approx(expected_tar, abs=1e-15)
    assert got.achieved_far == pytest.approx(expected_far, abs=1e-15)
    assert rates(scores, same, got.threshold) == pytest.approx((expected_far, expected_tar))
    below = np.nextafter(got.threshold, -9)
    assert far == 1.0 or rates(scores, same, below)[0] > far
    assert 0 <= got.low <= got.high <= 1


def test_tar_at_a_far_that_is_no_binary_fraction():
    scores = np.arange(200.0)
    same = scores >= 100
    got = verification.tar_at_far(scores, same, far=0.29)  # 0.29 * 100 < 29 in floating point
    assert got.achieved_far == 0.29


def test_tar_refuses_with_too_few_negatives():
    scores, same = np.arange(1000.0), np.arange(1000) >= 500
    got = verification.tar_at_far(scores, same, far=1e-4)
    assert got.note == "too few negatives for FAR 1e-4: need 10000, have 500"
    assert got[1:6] == (None,) * 5
    enough = verification.tar_at_far(scores, same, far=1 / 500)
    assert enough.note.startswith("TAR at FAR 2e-3 rests on 1 false accept of 500 different pairs")
    assert enough.tar == 1.0
    assert verification.tar_at_far(scores, same, far=1 / 501).tar is None


def test_bootstrap_has_the_law_of_resampling_by_hand():
    """Against 4,000 resamples drawn pair by pair; ties included."""
    generator = np.random.default_rng(3)
    same = np.arange(700) < 300
    scores = np.round(generator.normal(size=700) + 1.5 * same, 1)
    got = verification.tar_at_far(scores, same, far=0.05, bootstrap=4000)
    by_hand = []
    for _ in range(4000):
        positives = generator.choice(scores[same], 300)
        negatives = np.sort(generator.choice(scores[~same], 400))
        by_hand.append((positives > negatives[-1 - 20]).mean())
    assert [got.low, got.high] == pytest.approx(np.quantile(by_hand, [0.025, 0.975]), abs=0.012)


def test_bootstrap_interval_covers_the_truth():
    """95 % nominal; 200 worlds of known TAR, so 3 standard errors are 0.046."""
    generator = np.random.default_rng(4)
    truth = 0.5 * math.erfc((1.6448536 - 2.0) / math.sqrt(2))  # N(2, 1) against N(0, 1), FAR 0.05
    same = np.arange(1000) < 500
    hits = 0
    for _ in range(200):
        scores = generator.normal(size=1000) + 2 * same
        got = verification.tar_at_far(scores, same, far=0.05, bootstrap=400)
        assert got.low is not None
        assert got.high is not None
        hits += got.low <= truth <= got.high
    assert 0.90 <= hits / 200 <= 0.99


def test_bootstrap_follows_its_seed():
    case = random_case(5, count=400)
    first, again, other = (verification.tar_at_far(*case, far=0.1, seed=s) for s in (0, 0, 1))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def loop_kfold(scores, same, folds):
    """All candidate thresholds for each fold, by counting."""
    thresholds, accuracies, right = [], [], 0
    for fold in sorted(set(folds.tolist())):
        train = folds != fold
        values = sorted(set(scores[train].tolist()))
        candidates = [values[0], *((a + b) / 2 for a, b in itertools.pairwise(values))]
        candidates.append(np.nextafter(values[-1], math.inf))
        counts = [sum((scores[train] >= t) == same[train]) for t in candidates]
        best = max(t for t, c in zip(candidates, counts, strict=True) if c == max(counts))
        hits = int(sum((scores[~train] >= best) == same[~train]))
        thresholds.append(best)
        accuracies.append(hits / (~train).sum())
        right += hits
    return right / len(scores), thresholds, accuracies


@pytest.mark.parametrize(("scores", "same"), CASES)
@pytest.mark.parametrize("k", [2, 3])
def test_kfold_accuracy_against_loops(scores, same, k):
    folds = np.random.default_rng(6).permutation(np.arange(scores.size) % k) * 3 + 1
    got = verification.kfold_accuracy(scores, same, folds)
    accuracy, thresholds, accuracies = loop_kfold(scores, same, folds)
    assert got.accuracy == pytest.approx(accuracy, abs=1e-15)
    np.testing.assert_allclose(got.thresholds, thresholds, atol=1e-15)
    np.testing.assert_allclose(got.fold_accuracies, accuracies, atol=1e-15)
    spread = math.sqrt(sum((a - np.mean(accuracies)) ** 2 for a in accuracies) / (k - 1))
    assert got.standard_error == pytest.approx(spread / math.sqrt(k))
    assert got.low <= got.accuracy <= got.high


def test_kfold_accuracy_of_closed_cases():
    same = np.arange(100) % 2 == 0
    folds = pair_folds(same)
    perfect = verification.kfold_accuracy(same * 1.0, same, folds)
    assert perfect.accuracy == 1
    assert perfect.standard_error == 0
    np.testing.assert_array_equal(perfect.thresholds, 0.5)
    assert perfect.low == pytest.approx(100 / (100 + 1.959964**2))  # Wilson's at 1
    assert perfect.high == 1
    equal = verification.kfold_accuracy(np.zeros(100), same, folds)
    assert equal.accuracy == 0.5
    assert (equal.thresholds > 0).all()  # a tie of accept all and accept none: accept fewest


def test_the_threshold_does_not_see_its_own_fold():
    scores, same = random_case(7, count=40)
    folds = np.arange(40) % 4
    moved = np.where(folds == 2, scores + 100, scores)
    before, after = (verification.kfold_accuracy(s, same, folds) for s in (scores, moved))
    assert before.thresholds[2] == after.thresholds[2]
    assert (before.thresholds[[0, 1, 3]] != after.thresholds[[0, 1, 3]]).any()


def test_wilson_interval_solves_its_equation():
    low, high = verification.wilson_interval(37, 50)
    for p in (low, high):  # (p_hat - p)^2 = z^2 p (1 - p) / n
        assert (0.74 - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / 50, rel=1e-6)
    assert verification.wilson_interval(0, 5)[0] == 0


def test_folds():
    np.testing.assert_array_equal(consecutive_folds(7, 3), [0, 0, 0, 1, 1, 2, 2])
    assert np.ptp(np.bincount(consecutive_folds(1003))) == 1
    view_2 = np.tile(np.arange(600) < 300, 10)  # ten sets of 300 same, 300 different
    np.testing.assert_array_equal(pair_folds(view_2), np.repeat(np.arange(10), 600))
    dev_test = np.arange(1000) < 500
    folds = pair_folds(dev_test)
    for fold in range(10):
        assert dev_test[folds == fold].sum() == (~dev_test[folds == fold]).sum() == 50


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([1.0, 2.0], [True, True], "one different"),
        ([1.0, 2.0], [False, False], "one same"),
        ([1.0, np.nan], [True, False], "1 of 2 scores"),
        ([1.0, 2.0], [1, 0], "booleans"),
        ([1.0], [True, False], "booleans"),
    ],
)
def test_refuses_what_is_no_scored_pairs(scores, same, message):
    scores, same = np.array(scores), np.array(same)
    with pytest.raises(ValueError, match=message):
        verification.roc(scores, same)
    with pytest.raises(ValueError, match=message):
        verification.kfold_accuracy(scores, same, np.arange(len(same)))


def test_refuses_a_far_or_folds_out_of_range():
    for far in (0, -1e-3, 1.5):
        with pytest.raises(ValueError, match="far"):
            verification.tar_at_far(*PERFECT, far=far)
    with pytest.raises(ValueError, match="folds"):
        verification.kfold_accuracy(*PERFECT, np.zeros(6, int))
    with pytest.raises(ValueError, match="folds"):
        verification.kfold_accuracy(*PERFECT, np.arange(5))


def test_verify_scores_by_cosine_and_gives_all():
    generator = np.random.default_rng(8)
    a, noise = generator.normal(size=(2, 400, 16))
    same = np.arange(400) < 200
    b = np.where(same[:, None], a + noise, noise) * generator.uniform(0.1, 9, size=(400, 1))
    folds = pair_folds(same)
    both, pairs = np.concatenate([a, b]), np.arange(800).reshape(2, 400).T
    got = verification.verify(both, pairs, same, folds, fars=(0.05, 1e-3))
    for i in (0, 399):
        cosine = a[i] @ b[i] / math.sqrt(a[i] @ a[i]) / math.sqrt(b[i] @ b[i])
        assert got.scores[i] == pytest.approx(cosine, abs=1e-14)
    assert got.auc == verification.roc_auc(got.scores, same)
    assert got.equal_error_rate == verification.equal_error_rate(got.scores, same)
    alone = verification.kfold_accuracy(got.scores, same, folds)
    assert got.accuracy.accuracy == alone.accuracy
    assert got.accuracy.standard_error == alone.standard_error
    np.testing.assert_array_equal(got.accuracy.thresholds, alone.thresholds)
    by_pairs = verification.tar_at_far(got.scores, same, far=0.05)
    tar = got.tars[0]
    assert tar == by_pairs._replace(low=tar.low, high=tar.high, basis="linked images")
    assert got.tars[1].note == "too few negatives for FAR 1e-3: need 1000, have 200"
    json.dumps(to_json(got), allow_nan=False)
    swapped = verification.verify(both, pairs[:, ::-1], same, folds, fars=(0.05, 1e-3))
    np.testing.assert_array_equal(swapped.scores, got.scores)


def test_verify_of_a_zero_vector_and_of_a_diverged_network():
    embeddings = np.concatenate([np.eye(4, 3), np.ones((4, 3))])
    pairs = np.arange(8).reshape(2, 4).T
    same, folds = np.array([1, 1, 0, 0], bool), np.array([0, 1, 0, 1])
    got = verification.verify(embeddings, pairs, same, folds, fars=(0.5,))
    assert got.scores[3] == 0
    embeddings[6, 1] = np.nan
    with pytest.raises(UserError, match=r"1 of 4 pairs .* not finite"):
        verification.verify(embeddings, pairs, same, folds)


@pytest.mark.parametrize("block_size", [1, 3, 7, 100])
def test_cosines_are_the_same_in_any_blocks(block_size):
    generator = np.random.default_rng(9)
    embeddings = generator.normal(size=(20, 5)).astype(np.float32)
    pairs = generator.integers(0, 20, (7, 2))
    got = verification.cosines(embeddings, pairs, block_size=block_size)
    assert got.dtype == np.float64
    exact = embeddings.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(got, [exact[i] @ exact[j] for i, j in pairs], atol=1e-15)


def test_a_broken_embedding_is_counted_over_all_blocks():
    embeddings = np.ones((4, 3), np.float32)
    embeddings[1], embeddings[3] = np.nan, np.inf
    pairs = np.array([[0, 1], [0, 2], [3, 3], [2, 0], [1, 3]])
    with pytest.raises(UserError, match="3 of 5 pairs"):
        verification.cosines(embeddings, pairs, block_size=2)
    assert verification.cosines(embeddings, pairs[[1, 3]]).tolist() == pytest.approx([1, 1])


def test_memory_follows_the_block_and_not_the_pairs():
    """200,000 pairs of 128 numbers: both sides of all of them would be 410 MB in float64."""
    embeddings = np.random.default_rng(10).normal(size=(50, 128)).astype(np.float32)
    pairs = np.random.default_rng(11).integers(0, 50, (200_000, 2))
    tracemalloc.start()
    verification.cosines(embeddings, pairs, block_size=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(pairs) + 8 * 1000 * 128 * 8  # the scores, and eight arrays of a block


@pytest.mark.parametrize(
    ("shape", "indices", "message"),
    [
        ((4,), [[0, 1]], r"\[M, D\].*not \(4,\)"),
        ((4, 3), [0, 1], r"\[N, 2\]"),
        ((4, 3), [[0, 1, 2]], r"\[N, 2\]"),
        ((4, 3), [[0.0, 1.0]], "float64"),
        ((4, 3), [[0, 4]], "indices from 0 to 4 do not fit 4 embeddings"),
        ((4, 3), [[-1, 2]], "indices from -1 to 2"),
    ],
)
def test_refuses_indices_that_do_not_fit(shape, indices, message):
    with pytest.raises(ValueError, match=message):
        verification.cosines(np.ones(shape), np.array(indices))
