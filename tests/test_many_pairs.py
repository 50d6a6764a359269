"""Rates of very many pairs where other people are drawn, against lists that are written out."""

import itertools
import statistics as normal_law

import numpy as np
import pytest

from facejax.evaluation import bootstrap, many_pairs, statistics


def test_a_resample_is_people_counted_as_often_as_drawn(monkeypatch):
    """Each resample written out, every pair as often as both of its people were drawn."""
    monkeypatch.setattr(many_pairs, "_ROWS", 7)
    rng = np.random.default_rng(0)
    people = 12
    same = np.arange(960) < 60
    ends = np.array([rng.choice(people, 2, replace=False) for _ in same])
    ends[same, 1] = ends[same, 0]
    scores = np.round(rng.normal(size=960) + same, 1)
    second = np.where(same, people, ends[:, 1])
    by_people = bootstrap.Units(people, (ends[:, 0], second))
    by_group = bootstrap.Units(5, (np.where(same, 5, ends.sum(axis=1) % 5),))
    for units, fars in itertools.product([by_people, by_group], [(0.2, 0.05, 1.0), (0.05, 0.02)]):
        counts = rng.multinomial(units.size, np.full(units.size, 1 / units.size), 6)
        counts = np.append(counts, np.ones((6, 1)), axis=1)
        got = many_pairs.tar_replicates(scores, same, fars=fars)(units)(counts)
        for drawn, row in zip(counts, got, strict=True):
            times = np.prod([drawn[place] for place in units.places], axis=0).astype(int)
            copies, others = (np.repeat(scores[kind], times[kind]) for kind in (same, ~same))
            for far, value in zip(fars, row, strict=True):
                wanted = max(
                    np.mean(copies >= t)
                    for t in [np.inf, *set(copies)]
                    if np.mean(others >= t) <= far + 1e-12
                )
                assert value == pytest.approx(wanted, abs=1e-12)


def pairs_of(people, seed):
    """All pairs of different people, and five of each alone; some resemble many."""
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(people, 1)
    owners = np.repeat(np.arange(people), 5)
    similar, own = rng.normal(0, 0.5, (2, people))
    negatives = similar[first] + similar[second] + rng.normal(size=len(first))
    positives = 2 + similar[owners] + own[owners] + rng.normal(size=len(owners))
    ends = np.concatenate([np.stack([first, second], 1), np.stack([owners, owners], 1)])
    same = np.arange(len(ends)) >= len(first)
    return np.concatenate([negatives, positives]), same, ends.astype(np.int32)


def test_many_pairs_are_resampled_as_few_are():
    scores, same, ends = pairs_of(30, 2)
    fars = (0.3, 0.1, 0.02)
    few = bootstrap.resample(statistics.tars(scores, same, fars=fars), ends, resamples=60)
    many = many_pairs.resample_tars(scores, same, ends, few.estimates, fars=fars, resamples=60)
    for got, wanted in zip(many, few, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_couples_may_be_drawn_in_groups(monkeypatch):
    scores, same, ends = pairs_of(80, 3)
    statistic = statistics.shares((scores > 1.5, ~same))
    one_by_one = bootstrap.resample(statistic, ends, resamples=3000).variances
    monkeypatch.setattr(bootstrap, "_COUPLES", 512)
    in_groups = bootstrap.resample(statistic, ends, resamples=3000).variances
    assert in_groups == pytest.approx(one_by_one, rel=0.1)
    units = bootstrap._couples(ends[:, 0], ends[:, 1], 80)
    assert units.size == 512
    sizes = np.bincount(units.places[0][~same], minlength=513)
    assert sizes[512] == 0
    assert sizes.max() < 25  # 6 in each by chance: no two couples are likelier than others
    assert (units.places[0][same] == 512).all()
    by_couples = np.var(
        statistic(units.weights(bootstrap._counts(np.random.default_rng(0), 512, 3000)))
    )
    share = float((scores[~same] > 1.5).mean())
    assert by_couples == pytest.approx(share * (1 - share) / (~same).sum(), rel=0.2)


@pytest.mark.slow
def test_intervals_hold_the_truth_where_people_resemble_many():
    """200 draws of 100 people, some of whom resemble many; 495 and 148 false accepts."""
    fars = (0.1, 0.03)
    deviation = np.sqrt(2 * 0.5**2 + 1)  # of the sum of two people's and the pair's own
    normal = normal_law.NormalDist(0, deviation)
    truth = [1 - normal.cdf(normal.inv_cdf(1 - far) - 2) for far in fars]
    held = np.zeros(2)
    for number in range(200):
        scores, same, ends = pairs_of(100, [1, number])
        estimates = statistics.tars(scores, same, fars=fars)(np.ones((1, len(same))))[0]
        found = many_pairs.resample_tars(
            scores, same, ends, estimates, fars=fars, resamples=100, seed=number
        )
        held += [
            low <= true <= high
            for (low, high), true in zip(map(found.interval, range(2)), truth, strict=True)
        ]
    assert (held >= 0.92 * 200).all()
    assert (held <= 0.99 * 200).all()
