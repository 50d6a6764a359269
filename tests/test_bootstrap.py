"""Resampled people against loops that draw them by hand, and statistics against repeated lists."""

import tracemalloc

import numpy as np
import pytest

from benchmarks import intervals as simulation
from facejax.evaluation import bootstrap, pair_folds, statistics, verification
from facejax.evaluation.comparison import compare
from facejax.evaluation.people import folders, linked_images


def drawn_pairs(seed, count=200, people=25, levels=None):
    """Pairs of people some of whom are confused easily; `levels` rounds, so that many are equal."""
    rng = np.random.default_rng(seed)
    same = np.arange(count) % 5 < 2
    identities = rng.integers(0, people, (count, 2))
    identities[:, 1] = np.where(same, identities[:, 0], identities[:, 1])
    clash = ~same & (identities[:, 0] == identities[:, 1])
    identities[clash, 1] = (identities[clash, 0] + 1) % people
    lift = rng.normal(size=people)[identities].sum(axis=1) * 0.4
    scores = rng.normal(size=count) + 1.5 * same + lift
    return scores if levels is None else np.round(scores * levels) / levels, same, identities


CASES = [drawn_pairs(0), drawn_pairs(1, levels=2), drawn_pairs(2, levels=1, count=40, people=9)]
FARS = (0.1, 0.2, 1.0)


def everything(scores, same, folds):
    return statistics.together(
        statistics.accuracy(scores, same, threshold=0.5),
        statistics.kfold_accuracy(scores, same, folds),
        statistics.auc(scores, same),
        statistics.equal_error_rate(scores, same),
        statistics.tars(scores, same, fars=FARS),
    )


def one_by_one(scores, same, folds):
    """The same numbers by the functions of verification."""
    return [
        ((scores >= 0.5) == same).mean(),
        verification.kfold_accuracy(scores, same, folds).accuracy,
        verification.roc_auc(scores, same),
        verification.equal_error_rate(scores, same).rate,
        *(verification.tar_at_far(scores, same, far=far).tar for far in FARS),
    ]


@pytest.mark.parametrize(("scores", "same", "_"), CASES)
def test_with_weights_of_one_they_are_those_of_verification(scores, same, _):
    for folds in (pair_folds(same), np.arange(len(same)) % 3 * 2 + 1):
        got = everything(scores, same, folds)(np.ones((2, len(same))))
        expected = one_by_one(scores, same, folds)
        np.testing.assert_allclose(got, [expected, expected], atol=1e-12)


@pytest.mark.parametrize(("scores", "same", "_"), CASES)
def test_whole_weights_are_pairs_that_come_so_often(scores, same, _):
    rng = np.random.default_rng(3)
    weights = rng.poisson(1.0, (6, len(same)))
    folds = pair_folds(same)
    got = everything(scores, same, folds)(weights.astype(float))
    for row, times in zip(got, weights, strict=True):
        repeated, kinds = np.repeat(scores, times), np.repeat(same, times)
        expected = one_by_one(repeated, kinds, np.repeat(folds, times))
        np.testing.assert_allclose(row[2:], expected[2:], atol=1e-12)
        accepted = [(repeated[kinds == kind] >= 0.5).mean() for kind in (False, True)]
        share = same.mean()
        assert row[0] == pytest.approx(share * accepted[1] + (1 - share) * (1 - accepted[0]))


@pytest.mark.parametrize(("scores", "same", "_"), CASES)
def test_weighted_kfold_accuracy_tries_every_threshold(scores, same, _):
    """With weights that make no two thresholds equally good."""
    rows = np.random.default_rng(4).uniform(0.1, 3, (5, len(same)))
    folds = pair_folds(same, 4)
    got = statistics.kfold_accuracy(scores, same, folds)(rows)[:, 0]
    for value, weights in zip(got, rows, strict=True):
        for kind in (same, ~same):  # the share of each kind stays as it is in the list
            weights = np.where(kind, weights * kind.sum() / weights[kind].sum(), weights)
        right = 0.0
        for fold in range(4):
            train, held = folds != fold, folds == fold
            levels = np.unique(scores[train])[::-1]
            limits = [np.nextafter(levels[0], 9), *(levels[:-1] + levels[1:]) / 2, levels[-1]]
            won = [weights[train] @ ((scores[train] >= t) == same[train]) for t in limits]
            best = limits[int(np.argmax(won))]
            right += weights[held] @ ((scores[held] >= best) == same[held])
        assert value == pytest.approx(right / len(same), abs=1e-12)


def test_what_is_never_accepted_is_not_where_all_may_be():
    scores = np.array([-np.inf, 1.0, 3.0, 2.0, 0.0])
    same = np.array([True, True, True, False, False])
    got = statistics.tars(scores, same, fars=(0.5, 1.0))(np.array([[1.0] * 5, [2, 1, 1, 1, 1]]))
    np.testing.assert_allclose(got, [[2 / 3, 2 / 3], [1 / 2, 1 / 2]])


def test_a_resample_without_a_kind_has_no_number():
    scores, same, _ = CASES[0]
    none = everything(scores, same, pair_folds(same))(np.stack([same, ~same]).astype(float))
    assert np.isnan(none).all()


def mean_of(values):
    return lambda weights: (weights @ values / weights.sum(axis=1))[:, None]


def test_the_variance_counts_pairs_that_share_somebody_once():
    """Against the double sum over pairs, which is what the resampling of a mean comes to."""
    scores, same, identities = drawn_pairs(5, count=900, people=60)
    values = (scores >= 0.5).astype(float)
    for chosen in (slice(None), ~same, same):
        value, ends = values[chosen], identities[chosen]
        error = value - value.mean()
        shared = [np.isin(ends, end).any(axis=1) for end in ends]
        exact = (
            sum(e * error[s].sum() for e, s in zip(error, shared, strict=True)) / len(value) ** 2
        )
        got = bootstrap.resample(mean_of(value), ends, resamples=4000)
        assert got.variances[0] == pytest.approx(exact, rel=0.15)
        assert got.estimates[0] == value.mean()
    alone = np.arange(1800).reshape(-1, 2)  # nobody is in two pairs
    got = bootstrap.resample(mean_of(values), alone, resamples=4000)
    assert got.variances[0] == pytest.approx(values.var() / 900, rel=0.15)


def test_people_are_drawn_as_by_hand():
    """All pairs of 12 people: each drawn with all copies of theirs, a pair once per two copies."""
    people = np.repeat(np.arange(12), 2)
    rng = np.random.default_rng(6)
    first, second = np.triu_indices(24, 1)
    ends = np.stack([people[first], people[second]], axis=1)
    same = ends[:, 0] == ends[:, 1]
    scores = rng.normal(size=len(same)) + 1.5 * same + rng.normal(size=12)[ends].sum(axis=1)
    by_hand = []
    for _ in range(1500):
        times = np.bincount(rng.integers(0, 12, 12), minlength=12)
        weight = np.where(same, times[ends[:, 0]], times[ends[:, 0]] * times[ends[:, 1]])
        by_hand.append(verification.roc_auc(np.repeat(scores, weight), np.repeat(same, weight)))
    couples, couple = np.unique(ends[~same], axis=0, return_inverse=True)
    by_couples = []
    for _ in range(1500):
        times = np.bincount(rng.integers(0, len(couples), len(couples)), minlength=len(couples))
        weight = np.ones(len(same), int)
        weight[~same] = times[couple.reshape(-1)]
        by_couples.append(verification.roc_auc(np.repeat(scores, weight), np.repeat(same, weight)))
    apart = np.mean([~np.isin(ends, end).any(axis=1) for end in ends])  # of the pairs of pairs
    expected = (np.var(by_hand) - 2 * np.var(by_couples)) / apart
    got = bootstrap.resample(statistics.auc(scores, same), ends, resamples=3000)
    assert got.variances[0] == pytest.approx(expected, rel=0.15)


def test_few_people_or_resamples_leave_few_degrees_of_freedom():
    """Against the scatter of variances over many seeds, and the count of people in equal parts."""
    ends = np.repeat(np.arange(50), 4).reshape(-1, 2).repeat(3, axis=0)
    values = np.random.default_rng(14).normal(size=len(ends))
    many, few = (bootstrap.resample(mean_of(values), ends, resamples=n) for n in (20_000, 40))
    assert many.degrees[0] == pytest.approx(49, rel=0.01)
    assert few.degrees[0] == pytest.approx(1 / (1 / 49 + 1 / 39))
    uneven = np.repeat(np.arange(50), 6 + 114 * (np.arange(50) < 2))[:, None].repeat(2, axis=1)
    got = bootstrap.resample(mean_of(np.arange(len(uneven)) % 2), uneven, resamples=20_000)
    assert got.degrees[0] == pytest.approx(528**2 / (2 * 120**2 + 48 * 6**2) - 1, rel=0.01)
    _, same, identities = drawn_pairs(15, count=1000, people=300)
    ends = identities[~same]
    values = np.random.default_rng(16).normal(size=300)[ends].sum(axis=1)
    found = [bootstrap.resample(mean_of(values), ends, resamples=100, seed=n) for n in range(200)]
    variances = np.array([one.variances[0] for one in found])
    scatter = variances.var() / variances.mean() ** 2
    people = (2 * len(ends)) ** 2 / (np.bincount(ends.ravel()) ** 2).sum()
    expected = 2 / (2 / (people - 1) + scatter)
    assert np.median([one.degrees[0] for one in found]) == pytest.approx(expected, rel=0.25)
    one = found[0]
    assert one.interval() == bootstrap.share_interval(
        *map(float, (one.estimates[0], one.variances[0])), one.people, degrees=one.degrees[0]
    )


def test_resampling_follows_its_seed_and_not_its_blocks():
    scores, same, identities = CASES[1]
    statistic = everything(scores, same, pair_folds(same))
    results = [
        bootstrap.resample(statistic, ends, resamples=50, **options).variances
        for ends in (identities, identities[:, ::-1] * 7 + 3)
        for options in ({}, {"block_size": 1}, {"block_size": 1700})
    ]
    np.testing.assert_allclose(results, [results[0]] * 6, rtol=1e-9)
    other = bootstrap.resample(statistic, identities, resamples=50, seed=1).variances
    assert (other != results[0]).any()


def test_memory_follows_the_block():
    scores, same, identities = drawn_pairs(7, count=5000, people=500)
    statistic = everything(scores, same, pair_folds(same))
    tracemalloc.start()
    bootstrap.resample(statistic, identities, resamples=100, block_size=50_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 50_000 * 10  # all the weights would be 8 * 5,000 * 100 bytes, once


def test_intervals_of_shares():
    for share, variance in ((0.3, 0.002), (0.99, 1e-5)):
        for end in bootstrap.share_interval(share, variance, 10**6):  # Wilson's equation
            trials = share * (1 - share) / variance
            expected = 1.959964**2 * end * (1 - end) / trials
            assert (share - end) ** 2 == pytest.approx(expected, rel=1e-4)
    perfect = bootstrap.share_interval(1.0, 0.0, 200)  # as of 100 pairs that share nobody
    assert perfect.high == 1
    assert perfect.low == pytest.approx(100 / (100 + 1.9719565**2))  # of Student's law, 199
    assert bootstrap.share_interval(0.5, np.nan, 1) == pytest.approx((0, 1), abs=0.01)


@pytest.mark.parametrize(
    ("identities", "resamples", "message"),
    [
        (np.zeros((3, 2)), 100, r"whole numbers.*float64"),
        (np.zeros(3, int), 100, r"\[N, 2\]"),
        (np.zeros((0, 2), int), 100, "0 pairs"),
        (np.zeros((3, 2), int), 3, "3 resamples"),
    ],
)
def test_refuses_what_cannot_be_resampled(identities, resamples, message):
    with pytest.raises(ValueError, match=message):
        bootstrap.resample(mean_of(np.ones(3)), identities, resamples=resamples)


def test_people_of_linked_images():
    rng = np.random.default_rng(8)
    indices = rng.integers(0, 40, (45, 2))
    same = rng.random(45) < 0.5
    expected = np.arange(indices.max() + 1)
    for _ in range(40):  # until nothing changes
        for (a, b), one in zip(indices, same, strict=True):
            if one:
                expected[[a, b]] = expected[[a, b]].min()
    got = linked_images(indices, same)
    assert len(np.unique(got)) > 2
    np.testing.assert_array_equal(got[:, None] == got, expected[:, None] == expected)


def test_people_of_folders(tmp_path):
    names = ["Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg", "Bob/2.jpg"]
    files = [tmp_path / name for name in names]
    indices, same = np.array([[0, 1], [2, 3], [1, 2]]), np.array([True, True, False])
    assert folders(files, indices, same, root=tmp_path).tolist() == [0, 0, 1, 1]
    probes = np.array([False, False, True])  # the folders are "gallery" and "probes", say
    assert folders(files, indices, probes, root=tmp_path) is None
    assert folders(files, indices, same, root=tmp_path / "Ann") is None


def test_verification_is_by_people_and_wider_than_by_pairs():
    rng = np.random.default_rng(9)
    people = np.repeat(np.arange(40), 6)
    labels = simulation.draw_pairs(people, pairs=1200, seed=1)
    embeddings = simulation.embeddings(people, rng)
    known = verification.verify(
        embeddings, labels.indices, labels.same, labels.folds, fars=(0.1,), identities=people
    )
    assert (known.basis, known.people) == ("identities", 40)
    assert known.accuracy.basis == known.tars[0].basis == "identities"
    by_pairs = verification.kfold_accuracy(known.scores, labels.same, labels.folds)
    assert by_pairs.basis == "pairs"
    assert by_pairs.accuracy == known.accuracy.accuracy
    assert known.accuracy.high - known.accuracy.low > 1.5 * (by_pairs.high - by_pairs.low)
    assert known.auc_interval.low < known.auc < known.auc_interval.high
    rate, ends = known.equal_error_rate.rate, known.equal_error_rate_interval
    assert ends.low < rate < ends.high
    linked = verification.verify(embeddings, labels.indices, labels.same, labels.folds)
    assert (linked.basis, linked.people) == ("linked images", 40)  # all six are linked
    assert linked.accuracy.low == known.accuracy.low
    with pytest.raises(ValueError, match=r"identities \[240\]"):
        verification.verify(
            embeddings, labels.indices, labels.same, labels.folds, identities=people[:-1]
        )


def test_an_interval_says_when_it_rests_on_few_false_accepts():
    rng = np.random.default_rng(10)
    same = np.arange(6000) % 2 == 0
    scores = rng.normal(size=6000) + same
    few, enough = (verification.tar_at_far(scores, same, far=far) for far in (0.033, 0.034))
    assert (few.false_accepts, few.sound) == (99, False)
    assert few.note.startswith("TAR at FAR 3.3e-2 rests on 99 false accepts of 3000 different")
    assert (enough.false_accepts, enough.sound, enough.note) == (102, True, "")


def test_two_models_are_compared_on_the_same_pairs():
    scores, same, identities = drawn_pairs(11, count=2000, people=100)
    folds = pair_folds(same)
    rng = np.random.default_rng(12)
    worse = scores + 0.6 * rng.normal(size=2000)
    options = {"fars": (0.1, 0.01, 1e-4), "resamples": 400}
    found = compare(scores, 5 * worse + 1, same, folds, identities, **options)
    expected = [
        verification.kfold_accuracy(s, same, folds).accuracy for s in (scores, 5 * worse + 1)
    ]
    assert found.accuracy.difference == pytest.approx(expected[0] - expected[1], abs=1e-12)
    assert list(found.tars) == [0.1, 0.01]
    assert [note[:20] for note in found.notes] == [
        "TAR at FAR 1e-2 rest",
        "too few negatives fo",
    ]
    for one in (found.accuracy, found.auc, *found.tars.values()):
        assert one.low < one.difference < one.high
        assert (one.p_value < 0.05) == (one.low > 0 or one.high < 0)
    assert found.auc.p_value < 1e-4
    back = compare(5 * worse + 1, scores, same, folds, identities, **options)
    assert back.auc.difference == pytest.approx(-found.auc.difference)
    assert back.auc.p_value == pytest.approx(found.auc.p_value)
    # The difference is known better than either, for what is hard is hard for both.
    alone = bootstrap.resample(statistics.auc(scores, same), identities).interval()
    assert found.auc.high - found.auc.low < alone.high - alone.low
    itself = compare(scores, scores, same, folds, identities, resamples=50)
    assert itself.accuracy == (0, 0, 0, 1)


@pytest.mark.slow
def test_p_values_of_equal_models_are_uniform():
    """200 draws; three standard errors of a share of 5 % are 0.046."""
    values = []
    for seed in range(200):
        scores, same, identities = drawn_pairs(seed, count=1000, people=80)
        noise = 0.5 * np.random.default_rng([seed, 1]).normal(size=(2, 1000))
        first, second = scores + noise
        folds = pair_folds(same)
        found = compare(first, second, same, folds, identities, fars=(0.2,), resamples=200)
        values.append([found.accuracy.p_value, found.auc.p_value, found.tars[0.2].p_value])
    assert (np.mean(np.array(values) < 0.05, axis=0) <= 0.1).all()
    assert (np.abs(np.mean(np.array(values) < 0.5, axis=0) - 0.5) <= 0.11).all()


@pytest.mark.slow
def test_intervals_hold_the_truth():
    """200 draws of 150 people in 6,000 pairs: three standard errors of 95 % are 0.046."""
    everybody = simulation.population(4)
    threshold, *true = simulation.truth(everybody, 0.04, 0.5, everything=False)
    held, by_pairs = [], []
    for seed in range(200):
        pairs = simulation.drawn(np.random.default_rng([13, seed]))
        found = simulation.of_pairs(pairs, threshold, 0.04, resamples=100, seed=seed)
        held.append((found.by_people[:, 0] <= true) & (true <= found.by_people[:, 1]))
        by_pairs.append(found.by_pairs[0, 0] <= true[0] <= found.by_pairs[0, 1])
    coverage = np.mean(held, axis=0)
    assert ((coverage >= 0.904) & (coverage <= 0.995)).all(), coverage
    assert np.mean(by_pairs) < 0.8
