"""Identification against a plain loop that looks at every similarity, ties included."""

import jax
import numpy as np
import pytest

from facejax.evaluation import bootstrap, identification

DEPTH = 6


def whole_numbers(seed, probes=60, rows=90, subjects=40, high=3):
    """Small whole numbers: their products are exact in float32, and many tie."""
    rng = np.random.default_rng(seed)
    gallery = rng.integers(-high, high + 1, (rows, 8)).astype(np.float32)
    whose = np.where(rng.random(rows) < 0.3, -1, rng.integers(0, subjects, rows))
    whose[:2] = 0
    found = rng.integers(-high, high + 1, (probes, 8)).astype(np.float32)
    people = rng.integers(0, subjects + 10, probes)
    for probe, person in enumerate(people):  # resembles one of its rows
        if (whose == person).any():
            noise = rng.integers(-high, high + 1, 8) * (rng.random(8) < 0.4)
            found[probe] = gallery[rng.choice(np.flatnonzero(whose == person))] + noise
    return found, people, gallery, whose


CASES = [whole_numbers(0), whole_numbers(1, high=1), whole_numbers(2, rows=5, subjects=3),
         whole_numbers(3, subjects=4, high=30)]  # fmt: skip


def plain(probes, probe_subjects, gallery, gallery_subjects):
    """(rank, best mate, best other, mated) of each probe, in float64."""
    for probe, subject in zip(probes, probe_subjects, strict=True):
        similarities = [float(np.dot(probe.astype(float), row.astype(float))) for row in gallery]
        own = [s for s, g in zip(similarities, gallery_subjects, strict=True) if g == subject]
        others = [s for s, g in zip(similarities, gallery_subjects, strict=True) if g != subject]
        mate = max(own, default=-np.inf)
        yield 1 + sum(s >= mate for s in others), mate, max(others, default=-np.inf), bool(own)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("devices", [1, 3])
def test_ranks_are_those_of_a_plain_loop(case, devices, monkeypatch):
    monkeypatch.setattr(identification, "_QUERIES", 25)  # three parts, the last one padded
    found = identification.find(*case, depth=DEPTH, devices=jax.local_devices()[:devices])
    rank, mate, other, mated = map(np.array, zip(*plain(*case), strict=True))
    np.testing.assert_array_equal(found.mated, mated)
    np.testing.assert_array_equal(found.ranks, np.where(mated, np.minimum(rank, DEPTH + 1), 7))
    np.testing.assert_array_equal(found.impostors, other)
    near = mated & (rank <= DEPTH)
    np.testing.assert_array_equal(found.mates[near], mate[near])
    assert near.any()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [1, 3])
def test_open_and_closed_set_rates_are_those_of_a_plain_loop(case, rank):
    found = identification.find(*case, depth=DEPTH, devices=jax.local_devices()[:1])
    fpirs = (1.0, 0.3, 0.1)
    (got,), mean = identification.identify([found], case[1], fpirs=fpirs, rank=rank, bootstrap=0)
    probes = list(plain(*case))
    mated = [(place, mate) for place, mate, _, own in probes if own]
    others = [other for _, _, other, own in probes if not own]
    assert (got.mated, got.non_mated) == (len(mated), len(others))
    for k in range(1, DEPTH + 1):
        share = sum(place <= k for place, _ in mated) / len(mated)
        assert got.cmc[k - 1] == pytest.approx(share, abs=1e-12)
    assert 0 < got.cmc[0] < got.cmc[-1] < 1 or len(case[2]) == 5
    thresholds = [np.inf, *others, *(mate for _, mate in mated)]
    for fpir, tpir in zip(fpirs, got.tpirs, strict=True):
        assert len(others) * fpir < 1 or tpir.tpir is not None
        if tpir.tpir is None:
            assert "too few negatives for FPIR" in tpir.note
            continue
        best = max(
            sum(place <= rank and mate >= t for place, mate in mated) / len(mated)
            for t in thresholds
            if sum(other >= t for other in others) / len(others) <= fpir + 1e-12
        )
        assert tpir.tpir == pytest.approx(best, abs=1e-12)
        false = sum(other >= tpir.threshold for other in others) / len(others)
        assert tpir.achieved_fpir == pytest.approx(false, abs=1e-12)
        assert tpir.low is None
    np.testing.assert_array_equal(mean.cmc, got.cmc)
    assert [one.tpir for one in mean.tpirs] == [one.tpir for one in got.tpirs]


def test_the_mean_of_two_galleries():
    probes, subjects, gallery, whose = CASES[3]
    halves = [np.arange(90) % 2 == half for half in (0, 1)]
    searches = [identification.find(probes, subjects, gallery[half], whose[half], depth=DEPTH,
                                    devices=jax.local_devices()[:1])
                for half in halves]  # fmt: skip
    each, mean = identification.identify(searches, subjects, fpirs=(0.3,), bootstrap=50)
    assert mean.mated == sum(one.mated for one in each)
    pooled = sum(one.cmc * one.mated for one in each) / mean.mated
    np.testing.assert_allclose(mean.cmc, pooled, atol=1e-12)
    (tpir,) = mean.tpirs
    assert tpir.tpir == pytest.approx(np.mean([one.tpirs[0].tpir for one in each]), abs=1e-12)
    assert tpir.threshold is None
    assert tpir.low < tpir.tpir < tpir.high
    assert (mean.cmc_low <= mean.cmc).all()
    assert (mean.cmc <= mean.cmc_high).all()
    with pytest.raises(ValueError, match="rank is 7"):
        identification.identify(searches, subjects, rank=7)


def test_one_point_for_everybody_finds_nobody():
    same = np.ones((30, 4), np.float32)
    found = identification.find(
        same, np.arange(30), same, np.arange(30), depth=DEPTH, devices=jax.local_devices()[:1]
    )
    assert (found.ranks == DEPTH + 1).all()
    (got,), _ = identification.identify([found], np.arange(30), bootstrap=0)
    assert (got.cmc == 0).all()
    assert got.tpirs[0].tpir is None  # there is no probe without a mate


def test_nobody_in_the_gallery():
    none = np.zeros((0, 4), np.float32)
    found = identification.find(np.ones((3, 4), np.float32), np.arange(3), none, np.zeros(0, int))
    assert not found.mated.any()
    (got,), mean = identification.identify([found], np.arange(3), bootstrap=5, fpirs=(1.0,))
    assert np.isnan(got.cmc).all()
    assert got.tpirs[0].tpir is None
    assert "no probe has its subject" in mean.tpirs[0].note


@pytest.mark.parametrize("high", [1, 30])
def test_distractors_are_megaface_s(high):
    probes, subjects, distractors, _ = whole_numbers(5, subjects=8, high=high)
    subjects[0] = 99  # who has no mate
    got = identification.distractor_ranks(
        probes, subjects, distractors, depth=DEPTH, devices=jax.local_devices()[:2]
    )
    wanted = []
    for i in range(len(probes)):
        for j in range(len(probes)):
            if i != j and subjects[i] == subjects[j]:
                mate = probes[i].astype(float) @ probes[j].astype(float)
                ahead = sum(probes[i].astype(float) @ row >= mate for row in distractors)
                wanted.append(min(1 + ahead, DEPTH + 1))
    np.testing.assert_array_equal(got, wanted)
    share = identification.cmc(got, DEPTH)
    plain_share = [np.mean([rank <= k for rank in wanted]) for k in range(1, DEPTH + 1)]
    np.testing.assert_allclose(share, plain_share, atol=1e-12)


def test_a_large_gallery_is_searched_in_blocks(monkeypatch):
    monkeypatch.setattr(identification.search, "BLOCK", 512)
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(3000, 16)).astype(np.float32)
    values, places = identification.best(gallery[:7], gallery, k=5, devices=jax.local_devices()[:2])
    products = gallery[:7].astype(float) @ gallery.T.astype(float)
    np.testing.assert_array_equal(places, np.argsort(-products, axis=1)[:, :5])
    np.testing.assert_allclose(values, -np.sort(-products, axis=1)[:, :5], rtol=1e-5)


def test_intervals_are_of_the_probes_weighed_by_their_subjects():
    """Against the variance of what is written out, each probe as often as its subject is drawn."""
    probes, subjects, gallery, whose = whole_numbers(6, probes=240, subjects=60, high=8)
    halves = [np.arange(90) % 2 == half for half in (0, 1)]
    searches = [identification.find(probes, subjects, gallery[half], whose[half], depth=DEPTH,
                                    devices=jax.local_devices()[:1])
                for half in halves]  # fmt: skip
    each, mean = identification.identify(searches, subjects, fpirs=(0.3,), bootstrap=2000)
    names, numbers = np.unique(subjects, return_inverse=True)
    rng = np.random.default_rng(0)
    ranks, tpirs = [], []
    for _ in range(800):
        chosen = np.concatenate(
            [np.flatnonzero(numbers == n) for n in rng.integers(0, len(names), len(names))]
        )
        drawn = [
            identification.Found(*(of[chosen] for of in found[:-1]), DEPTH) for found in searches
        ]
        (one, _), both = identification.identify(drawn, chosen, fpirs=(0.3,), bootstrap=0)
        ranks.append([one.cmc[0], both.cmc[0]])
        tpirs.append([one.tpirs[0].tpir, both.tpirs[0].tpir])
    alike = (np.bincount(numbers) ** 2).sum() / len(numbers) ** 2
    for place, got in enumerate((each[0], mean)):
        for copies, share, low, high in (
            (ranks, got.cmc[0], got.cmc_low[0], got.cmc_high[0]),
            (tpirs, *got.tpirs[0][1:4]),
        ):
            variance = np.var([row[place] for row in copies])
            wanted = bootstrap.share_interval(
                share, variance / (1 - alike), len(names), degrees=1 / alike - 1
            )
            assert high - low == pytest.approx(wanted.high - wanted.low, rel=0.12)
            assert low == pytest.approx(wanted.low, abs=0.03)
