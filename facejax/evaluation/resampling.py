"""Bootstrap over people: what rates would come out if other people had been drawn.

Pairs and probes share people, some of whom resemble many, so they are not independent. Here people
are drawn with replacement, and a pair of two people counts as often as both were drawn. What is a
pair's own, and neither of its people's, so weighs up to three times: where few pairs are accepted,
intervals are wider than they need be.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

_TAIL = 3  # negatives that are kept, as a multiple of those the largest rate accepts
_ROWS = 1 << 17  # of them are weighted at a time, and no more than must be
_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


def draw(people: int, *, count: int, seed: int) -> np.ndarray:
    """How often each of the people is drawn: float64 [count, people], each row summing to people.

    Args:
      people: how many there are.
      count: of resamples.
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(people, np.full(people, 1 / people), size=count).astype(np.float64)


def shares(draws: np.ndarray, hits: np.ndarray, people: np.ndarray) -> np.ndarray:
    """The share of hits in each resample.

    Args:
      draws: [B, people] of `draw`.
      hits: bool [n, k], k kinds of hit of each of n trials.
      people: [n] integers, whose trial it is.

    Returns:
      float64 [B, k]; NaN where nobody with a trial was drawn.
    """
    sums = np.stack(
        [np.bincount(people, weights=hit, minlength=draws.shape[1]) for hit in hits.T], axis=1
    )
    trials = np.bincount(people, minlength=draws.shape[1])
    with np.errstate(invalid="ignore"):
        return (draws @ sums) / (draws @ trials)[:, None]


def rates_at(
    draws: np.ndarray,
    positives: np.ndarray,
    positive_people: np.ndarray,
    negatives: np.ndarray,
    negative_people: np.ndarray,
    *,
    rates: Sequence[float],
) -> np.ndarray:
    """In each resample, the share of positives that is accepted where negatives are at a rate.

    The threshold is chosen anew each time, so its doubt is in the result. Only the negatives that
    can be accepted are sorted: three times as many as the largest rate accepts.

    Args:
      draws: [B, people] of `draw`.
      positives: [n] scores.
      positive_people: [n] integers, whose they are.
      negatives: [m] scores.
      negative_people: [m, 1] integers, or [m, 2] for pairs of two different people.
      rates: of accepted negatives, in (0, 1].

    Returns:
      float64 [B, rates]; NaN where nobody with a positive was drawn, or without negatives. Besides,
      a table of people squared is held where there are pairs.
    """
    people = draws.shape[1]
    result = np.full((len(draws), len(rates)), np.nan)
    if not result.size or not len(negatives):
        return result
    if negative_people.shape[1] == 1:
        totals = draws @ np.bincount(negative_people[:, 0], minlength=people)
    else:
        table = np.zeros(people * people, np.int32)
        for start in range(0, len(negatives), 1 << 20):
            part = negative_people[start : start + (1 << 20)].astype(np.int64)
            keys, counts = np.unique(part[:, 0] * people + part[:, 1], return_counts=True)
            table[keys] += counts.astype(np.int32)
        square = table.reshape(people, people).astype(np.float32)
        totals = np.einsum("bp,bp->b", draws.astype(np.float32) @ square, draws)
    kept = min(int(np.ceil(_TAIL * max(rates) * len(negatives))) + 1, len(negatives))
    top = np.argpartition(negatives, -kept)[-kept:]
    top = top[np.argsort(-negatives[top])]
    falling, owners = negatives[top], np.ascontiguousarray(negative_people[top].T)
    order = np.argsort(positives)
    rising, whose = positives[order], positive_people[order]
    # Hardly ever are all of them too few; then a little fewer than might be are accepted.
    beyond = -np.inf if kept == len(negatives) else falling[-1]
    for number, drawn in enumerate(draws):
        limits = np.array(rates) * totals[number] + _ROUNDING
        refused = _refused(falling, owners, drawn, limits, beyond)
        weight = np.append(0, np.cumsum(drawn[whose][::-1]))[::-1]  # of all from a place on
        if weight[0]:
            result[number] = weight[np.searchsorted(rising, refused, side="right")] / weight[0]
    return result


def _refused(
    falling: np.ndarray, owners: np.ndarray, drawn: np.ndarray, limits: np.ndarray, beyond: float
) -> np.ndarray:
    """The first score whose acceptance would exceed each limit; what is above it is accepted."""
    found = np.full(len(limits), beyond)
    sought = np.ones(len(limits), bool)
    total = 0.0
    for start in range(0, len(falling), _ROWS):
        part = slice(start, start + _ROWS)
        weights = drawn[owners[0][part]]
        for owner in owners[1:]:
            weights *= drawn[owner[part]]
        accepted = total + np.cumsum(weights)
        total = accepted[-1]
        here = sought & (limits < total)
        places = np.searchsorted(accepted, limits[here], side="right")
        found[here] = falling[part][places]
        sought &= ~here
        if not sought.any():
            break
    return found


def interval(replicates: np.ndarray) -> tuple[Any, Any]:
    """The percentile interval of 95 %.

    Args:
      replicates: [B] or [B, k]; resamples that are NaN are passed over.

    Returns:
      low and high: floats, or [k]. Without a resample None, or NaN.
    """
    if replicates.ndim == 1:
        low, high = interval(replicates[:, None])
        return (None, None) if np.isnan(low[0]) else (float(low[0]), float(high[0]))
    known = replicates[~np.isnan(replicates).any(axis=1)]
    if not len(known):
        return (np.full(replicates.shape[1], np.nan),) * 2
    return tuple(np.quantile(known, [0.025, 0.975], axis=0))
