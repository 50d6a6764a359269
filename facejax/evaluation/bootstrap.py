"""How far the numbers of a list of pairs may lie from the truth, where pairs share people.

Some people are easily confused, or look alike, and all their pairs go wrong together: pairs are not
independent, but people are. So *people* are resampled, with replacement, and never pairs: a pair of
one person weighs as often as the person was drawn, a pair of two people the product of both counts.

The product is right about what pairs share (two pairs with one person in common vary together by
the variance of one count), but it counts what is a pair's own three times, since a product of two
counts has the variance 2 * 2 - 1. Where everybody is in many pairs this is nothing; where nobody is
in two, as nearly in LFW's lists, intervals would be 1.7 times too wide. So a second bootstrap draws
the couples of different people, and twice its variance is taken off: what is left counts all pairs
of pairs that have somebody in common once (Aronow, Samii and Assenova's dyadic variance). It can't
be less than a third of what it was.

Residuals are smaller than errors by what the estimate took from them, which is as much as the share
of pairs of pairs that have somebody in common; the variance is divided by the rest.

Of the variance an interval is made that stays in [0, 1] and is no point where nothing went wrong:
Wilson's, for as many independent pairs as would have that variance, with Student's quantile for
as many degrees of freedom as there are people, fewer where some are in more pairs than others, and
where few resamples leave doubt about the variance itself.

References:
  Bolle, Ratha and Pankanti, Error Analysis of Pattern Recognition Systems: the Subsets Bootstrap,
  2004: https://doi.org/10.1016/j.cviu.2003.08.002
  Owen, The Pigeonhole Bootstrap, 2007: https://arxiv.org/abs/0712.1111
  Aronow, Samii and Assenova, Cluster-Robust Variance Estimation for Dyadic Data, 2015:
  https://arxiv.org/abs/1312.3398
  Fogliato, Patil and Perona, Confidence Intervals for Error Rates in 1:1 Matching Tasks, 2023:
  https://arxiv.org/abs/2306.01198
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

# Weights [R, N] >= 0 of the pairs, a row for each resample -> K numbers each, [R, K]; NaN where a
# resample has no pair of a kind.
Statistic = Callable[[np.ndarray], np.ndarray]

CONFIDENCE = 0.95
_BLOCK = 2**17  # weights at a time
_COUPLES = 2**14  # that are drawn one by one, or groups of more; a power of two
_MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # SplitMix64's


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


class Resampled(NamedTuple):
    """What resampling people says of K numbers."""

    estimates: np.ndarray  # [K] float64, of the pairs as they are
    variances: np.ndarray  # [K] float64, of the estimates; NaN where no resample has a value
    people: int  # how many there are to resample
    degrees: np.ndarray  # [K] float64, degrees of freedom of the variances

    def interval(self, number: int = 0) -> Interval:
        """The interval of an estimate that is a share, or else is in [0, 1]."""
        share, variance, degrees = (
            float(of[number]) for of in (self.estimates, self.variances, self.degrees)
        )
        return share_interval(share, variance, self.people, degrees=degrees)


class Units(NamedTuple):
    """What is drawn with replacement, and which of it makes a pair count."""

    size: int
    places: tuple[np.ndarray, ...]  # [N] each, in [0, size]; the last one always counts 1

    def weights(self, counts: np.ndarray) -> np.ndarray:
        """How much the pairs count: the product of what is drawn of each.

        Args:
          counts: float64 [R, size + 1], how often each is drawn, and 1.

        Returns:
          float64 [R, N].
        """
        first, *others = self.places
        weights = counts.take(first, axis=1)
        for place in others:
            weights *= counts.take(place, axis=1)
        return weights


def resample(
    statistic: Statistic,
    identities: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    block_size: int = _BLOCK,
) -> Resampled:
    """Resamples the people of a list of pairs, or of other trials that are a person's each.

    Args:
      statistic: the numbers, as a function of the pairs' weights.
      identities: [N, 2] whole numbers, who the two of each pair are; equal ones are one person.
      resamples: how many, and half as many of the couples; at least 4.
      seed: of the resampling.
      block_size: weights that are held at a time, besides those of one resample at least; the
        numbers do not depend on it.

    Returns:
      Resampled.

    Raises:
      ValueError: on a wrong shape, no pairs, or too few resamples.
    """
    identities = np.asarray(identities)
    if identities.ndim != 2 or identities.shape[1] != 2 or identities.dtype.kind not in "iu":
        raise ValueError(
            f"identities [N, 2] of whole numbers are wanted, not {identities.dtype} "
            f"{identities.shape}"
        )
    if not len(identities):
        raise ValueError("there are 0 pairs, and one at least is needed")
    ends = np.unique(identities, return_inverse=True)[1].reshape(-1, 2)
    return resample_units(
        statistic(np.ones((1, len(ends))))[0],
        lambda units: lambda counts: statistic(units.weights(counts)),
        ends,
        resamples=resamples,
        seed=seed,
        rows=lambda units: max(1, block_size // max(len(ends), units.size)),
    )


def resample_units(
    estimates: np.ndarray,
    replicates: Callable[[Units], Callable[[np.ndarray], np.ndarray]],
    ends: np.ndarray,
    *,
    resamples: int,
    seed: int,
    rows: Callable[[Units], int],
) -> Resampled:
    """The same for numbers that are found without the weights of all pairs at once.

    Args:
      estimates: [K], of the pairs as they are.
      replicates: for some units, the numbers [R, K] as a function of how often each is drawn,
        counts [R, size + 1]; NaN where a resample has no pair of a kind.
      ends: [N, 2] whole numbers from 0, who the two of each pair are, and everybody is in a pair.
      resamples: how many, and half as many of the couples; at least 4.
      seed: of the resampling.
      rows: how many resamples are drawn at a time.

    Raises:
      ValueError: there are too few resamples.
    """
    if resamples < 4:
        raise ValueError(f"there are {resamples} resamples, and 4 at least are needed")
    first, second = np.minimum(*ends.T), np.maximum(*ends.T)
    people = int(second.max()) + 1
    alone = first == second
    # A column of ones stands behind the counts: for who is no second, and for what is not drawn.
    persons = Units(people, (first, np.where(alone, people, second)))
    couples = _couples(first, second, people)

    def spread(units: Units, times: int) -> tuple[np.ndarray, np.ndarray]:
        """The variance of the replicates, and how far it may be off, as a variance again."""
        if not units.size:
            return np.zeros(len(estimates)), np.zeros(len(estimates))
        rng, step = np.random.default_rng([seed, times]), rows(units)
        of_counts = replicates(units)
        found = [
            of_counts(_counts(rng, units.size, min(step, times - start)))
            for start in range(0, times, step)
        ]
        variance, known = _variance(np.concatenate(found))
        return variance, 2 * variance**2 / np.maximum(known - 1, 1)

    by_people, doubt = spread(persons, resamples)
    by_couples, doubt_of_couples = map(np.nan_to_num, spread(couples, resamples // 2))
    left = np.clip(by_people - 2 * by_couples, by_people / 3, by_people)
    doubt = np.where(left > by_people / 3, doubt + 4 * doubt_of_couples, doubt / 9)
    often = np.bincount(first, minlength=people) + np.bincount(second[~alone], minlength=people)
    squares = float(np.sum(often.astype(np.float64) ** 2))
    twice = float(np.sum(np.bincount(couples.places[0])[: couples.size].astype(np.float64) ** 2))
    shared = min((squares - twice) / len(ends) ** 2, 0.5)  # of the pairs of pairs
    effective = often.sum() ** 2 / squares  # people, if all were in as many pairs
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.nan_to_num(doubt / left**2, posinf=0.0)
    degrees = 2 / (2 / max(effective - 1, 1.0) + relative)
    return Resampled(estimates, left / (1 - shared), people, degrees)


def _couples(first: np.ndarray, second: np.ndarray, people: int) -> Units:
    """Two different people each. Many couples are drawn in groups, into which they fall at random.

    That changes no variance but by chance, by a hundredth: different couples' errors, times one
    another, add up to little, since all errors add up to nothing, and a group has few of them.
    """
    different = first != second
    if np.count_nonzero(different) <= _COUPLES:
        keys = first[different].astype(np.int64) * people + second[different]
        names, places = np.unique(keys, return_inverse=True)
        of_pairs = np.full(len(first), len(names), np.int32)
        of_pairs[different] = places
        return Units(len(names), (of_pairs,))
    of_pairs = np.empty(len(first), np.int32)
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        mixed = first[part].astype(np.uint64) * np.uint64(people) + second[part].astype(np.uint64)
        for shift, factor in _MIXING:
            mixed ^= mixed >> np.uint64(shift)
            mixed *= np.uint64(factor)
        of_pairs[part] = mixed >> np.uint64(65 - _COUPLES.bit_length())
    of_pairs[~different] = _COUPLES
    return Units(_COUPLES, (of_pairs,))


def _counts(rng: np.random.Generator, size: int, rows: int) -> np.ndarray:
    """How often each of `size` comes when so many are drawn, [rows, size + 1]; the last is 1."""
    drawn = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * (size + 1)
    counts = np.bincount(drawn.ravel(), minlength=rows * (size + 1)).reshape(rows, size + 1)
    counts[:, -1] = 1
    return counts.astype(np.float64)


def _variance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column what is not NaN, NaN of fewer than two values; and how many they are."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    kept = np.where(known, values, 0)
    mean = kept.sum(axis=0) / np.maximum(count, 1)
    squares = np.sum(np.where(known, kept - mean, 0) ** 2, axis=0)
    return np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan), count


def student(degrees: float) -> float:
    """How many standard errors a 95 % interval reaches to either side.

    Args:
      degrees: of freedom, of the variance; at least 1 are taken.
    """
    return float(special.stdtrit(max(degrees, 1), (1 + CONFIDENCE) / 2))


def share_interval(
    share: float, variance: float, people: int, *, degrees: float | None = None
) -> Interval:
    """The 95 % interval of a share (or another number in [0, 1]) of known variance.

    Args:
      share: 0 to 1.
      variance: of it. Where it is 0, as where nothing went wrong, or NaN, half as many pairs as
        there are people, who share nobody, are taken to have been seen.
      people: how many the variance rests on.
      degrees: of freedom of the variance, no more than people - 1 of which are taken; None for
        these.
    """
    spread = share * (1 - share)
    known = np.isfinite(variance) and variance > 1e-20 and spread > 0
    effective = spread / variance if known else people / 2
    free = people - 1 if degrees is None or not known else min(degrees, people - 1)
    return wilson(share, effective, student(free))


def wilson(share: float, trials: float, quantile: float) -> Interval:
    """Wilson's score interval: the p for which (share - p)^2 <= quantile^2 p (1 - p) / trials.

    Args:
      share: 0 to 1.
      trials: of which it is the share; need not be whole.
      quantile: 1.96 for 95 %.
    """
    spread = quantile**2 / trials
    center = (share + spread / 2) / (1 + spread)
    half = np.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return Interval(float(max(center - half, 0.0)), float(min(center + half, 1.0)))


def wilson_interval(successes: int, trials: int) -> Interval:
    """Wilson's 95 % score interval of a proportion, whose trials are independent.

    Args:
      successes: how many of the trials.
      trials: at least 1.

    References:
      Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927:
      https://doi.org/10.1080/01621459.1927.10502953
    """
    return wilson(successes / trials, trials, 1.959963984540054)
