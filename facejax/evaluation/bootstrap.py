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

Of the variance an interval is made that stays in [0, 1] and is no point where nothing went wrong:
Wilson's, for as many independent pairs as would have that variance, with Student's quantile for
as many people.

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


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


class Resampled(NamedTuple):
    """What resampling people says of K numbers."""

    estimates: np.ndarray  # [K] float64, of the pairs as they are
    variances: np.ndarray  # [K] float64, of the estimates; NaN where no resample has a value
    people: int  # how many there are to resample

    def interval(self, number: int = 0) -> Interval:
        """The interval of an estimate that is a share, or else is in [0, 1]."""
        return share_interval(
            float(self.estimates[number]), float(self.variances[number]), self.people
        )


def resample(
    statistic: Statistic,
    identities: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    block_size: int = _BLOCK,
) -> Resampled:
    """Resamples the people of a list of pairs.

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
    if not len(identities) or resamples < 4:
        raise ValueError(f"{len(identities)} pairs and {resamples} resamples are too few")
    ends = np.unique(identities, return_inverse=True)[1].reshape(-1, 2)
    ends.sort(axis=1)
    people = int(ends.max()) + 1
    alone = ends[:, 0] == ends[:, 1]
    couples, couple = np.unique(ends[~alone], axis=0, return_inverse=True)
    # A column of ones stands behind the counts: for who is no second, and for what is not drawn.
    second = np.where(alone, people, ends[:, 1])
    drawn_couple = np.full(len(ends), len(couples))
    drawn_couple[~alone] = couple.reshape(-1)

    def of_people(counts: np.ndarray) -> np.ndarray:
        weights = counts.take(ends[:, 0], axis=1)
        weights *= counts.take(second, axis=1)
        return weights

    def of_couples(counts: np.ndarray) -> np.ndarray:
        return counts.take(drawn_couple, axis=1)

    def variances(
        drawn: int, weights: Callable[[np.ndarray], np.ndarray], times: int
    ) -> np.ndarray:
        if not drawn:
            return np.zeros(len(estimates))
        rng = np.random.default_rng([seed, times])
        rows = max(1, block_size // max(len(ends), drawn))
        found = [
            statistic(weights(_counts(rng, drawn, min(rows, times - start))))
            for start in range(0, times, rows)
        ]
        return _variance(np.concatenate(found))

    estimates = statistic(np.ones((1, len(ends))))[0]
    by_people = variances(people, of_people, resamples)
    by_couples = variances(len(couples), of_couples, resamples // 2)
    left = np.clip(by_people - 2 * np.nan_to_num(by_couples), by_people / 3, by_people)
    return Resampled(estimates, left * people / max(people - 1, 1), people)


def _counts(rng: np.random.Generator, size: int, rows: int) -> np.ndarray:
    """How often each of `size` comes when so many are drawn, [rows, size + 1]; the last is 1."""
    drawn = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * (size + 1)
    counts = np.bincount(drawn.ravel(), minlength=rows * (size + 1)).reshape(rows, size + 1)
    counts[:, -1] = 1
    return counts.astype(np.float64)


def _variance(values: np.ndarray) -> np.ndarray:
    """Of each column what is not NaN, and NaN where fewer than two values are left."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    kept = np.where(known, values, 0)
    mean = kept.sum(axis=0) / np.maximum(count, 1)
    squares = np.sum(np.where(known, kept - mean, 0) ** 2, axis=0)
    return np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan)


def student(people: int) -> float:
    """How many standard errors a 95 % interval reaches to either side.

    Args:
      people: that were resampled.
    """
    return float(special.stdtrit(max(people - 1, 1), (1 + CONFIDENCE) / 2))


def share_interval(share: float, variance: float, people: int) -> Interval:
    """The 95 % interval of a share (or another number in [0, 1]) of known variance.

    Args:
      share: 0 to 1.
      variance: of it. Where it is 0, as where nothing went wrong, or NaN, half as many pairs as
        there are people, who share nobody, are taken to have been seen.
      people: how many the variance rests on.
    """
    spread = share * (1 - share)
    known = np.isfinite(variance) and variance > 1e-20 and spread > 0
    effective = spread / variance if known else people / 2
    return wilson(share, effective, student(people))


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
