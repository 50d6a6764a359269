"""The numbers of a list of pairs as functions of the pairs' weights, for `bootstrap.resample`.

With weights that are all 1 they are those of `facejax.evaluation.verification`; with whole ones,
those of a list that has each pair so often (but the share of same pairs in it, on which accuracy
depends, stays as it is: a list is made with it).
"""

from collections.abc import Callable, Sequence

import numpy as np

from facejax.evaluation.bootstrap import Statistic

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


def together(*statistics: Statistic) -> Statistic:
    """The numbers of several statistics beside each other."""

    def both(weights: np.ndarray) -> np.ndarray:
        return np.concatenate([statistic(weights) for statistic in statistics], axis=1)

    return both


def shares(*chosen: tuple[np.ndarray, np.ndarray]) -> Statistic:
    """Shares: of the pairs in the second mask, how many are in the first.

    Args:
      chosen: for each share, two masks bool [N].

    Returns:
      One number for each.
    """
    return ratios(
        np.stack([part & whole for part, whole in chosen], axis=1),
        np.stack([whole for _, whole in chosen], axis=1),
    )


def ratios(parts: np.ndarray, wholes: np.ndarray) -> Statistic:
    """The sums of some columns over those of others, such as the mean of what is in a mask.

    Args:
      parts: [N, K] finite.
      wholes: [N, K], or [N, 1] for all of them, not negative.

    Returns:
      K numbers, NaN where nothing is left of the whole.
    """
    parts, wholes = (np.asarray(each, np.float64) for each in (parts, wholes))
    return lambda weights: _divided(weights @ parts, weights @ wholes)


def accuracy(scores: np.ndarray, same: np.ndarray, *, threshold: float) -> Statistic:
    """The share of pairs that a fixed threshold judges rightly.

    Args:
      scores: [N] floats.
      same: [N] bool, with both kinds among them.
      threshold: a pair is accepted iff its score >= the threshold.

    Returns:
      One number.
    """
    right = (scores >= threshold) == same
    of_each = shares((right, same), (right, ~same))
    kinds = np.array([same.mean(), 1 - same.mean()])
    return lambda weights: (of_each(weights) @ kinds)[:, None]


def kfold_accuracy(scores: np.ndarray, same: np.ndarray, folds: np.ndarray) -> Statistic:
    """Accuracy where each fold is judged by the threshold that is best on the other folds.

    Args:
      scores: [N] floats.
      same: [N] bool, with both kinds among them.
      folds: [N] int, two or more distinct ones.

    Returns:
      One number. The thresholds between which is chosen are those of the list as it is.
    """
    order = np.argsort(-scores, kind="stable")
    scores, same, folds = scores[order], same[order], folds[order]
    parts = []
    for number in np.unique(folds):
        inside, outside = np.flatnonzero(folds == number), np.flatnonzero(folds != number)
        cuts, limits = _cuts(scores[outside], same[outside])
        # How many pairs are accepted, of all and of the fold, at the last one outside of it.
        of_all = np.append(0, outside + 1)[cuts]
        of_fold = np.searchsorted(inside, of_all)
        held_out = np.searchsorted(-scores[inside], -limits, side="right")
        parts.append((inside, of_all, of_fold, held_out))
    kinds = np.stack([same, ~same], axis=1).astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        weights = weights.take(order, axis=1)
        scales = _divided(kinds.sum(axis=0) * np.ones((len(weights), 2)), weights @ kinds)
        weights *= scales @ (kinds * [1, -1]).T
        sums = _sums(weights, np.arange(len(order)))
        right = np.full(len(weights), kinds[:, 1].sum())  # where all are refused
        for inside, of_all, of_fold, held_out in parts:
            gained = _sums(weights, inside)
            gains = sums.take(of_all, axis=1)
            gains -= gained.take(of_fold, axis=1)
            right += gained[np.arange(len(weights)), held_out[np.argmax(gains, axis=1)]]
        return right[:, None] / len(order)

    return statistic


def _cuts(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a falling list may be cut best: after a same pair, before a different one.

    Returns:
      (cuts, limits): how many pairs are accepted, from 0 on, and by which thresholds.
    """
    first = np.append(0, np.flatnonzero(np.diff(scores)) + 1)  # of each tie
    ends = np.append(first[1:], len(scores))
    limits = np.append((scores[ends[:-1] - 1] + scores[ends[:-1]]) / 2, scores[-1])
    after = np.maximum.reduceat(same, first)
    before = np.append(np.maximum.reduceat(~same, first)[1:], True)
    best = after & before
    none = np.nextafter(scores[0], np.inf)
    return np.append(0, ends[best]), np.append(none, limits[best])


def auc(scores: np.ndarray, same: np.ndarray) -> Statistic:
    """The area under the ROC: P(a same pair scores above a different one), ties counting half.

    Args:
      scores: [N] floats.
      same: [N] bool, with both kinds among them.

    Returns:
      One number.
    """
    positives, negatives = np.flatnonzero(same), np.flatnonzero(~same)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    below, upto = (
        np.searchsorted(scores[negatives], scores[positives], side=side)
        for side in ("left", "right")
    )

    def statistic(weights: np.ndarray) -> np.ndarray:
        sums = _sums(weights, negatives)
        won = sums.take(below, axis=1)
        won += sums.take(upto, axis=1)
        of_positives = weights.take(positives, axis=1)
        total = of_positives.sum(axis=1) * sums[:, -1]
        return _divided(np.einsum("rn,rn->r", of_positives, won) / 2, total)[:, None]

    return statistic


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> Statistic:
    """Where the ROC, joined by straight lines, has as many misses as false accepts, in shares.

    Args:
      scores: [N] floats.
      same: [N] bool, with both kinds among them.

    Returns:
      One number.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1) + 1
    is_same = same[order]

    def statistic(weights: np.ndarray) -> np.ndarray:
        weights = weights.take(order, axis=1)
        accepts = []
        for kind in (is_same, ~is_same):
            sums = np.zeros((len(weights), len(order) + 1))
            np.cumsum(weights * kind, axis=1, out=sums[:, 1:])
            accepts.append(_divided(sums, sums[:, -1:]))
        tar, far = accepts
        excess = 1 - tar - far
        first = np.argmax(excess[:, ends] <= 0, axis=1)
        after = ends[first]
        before = np.where(first > 0, ends[first - 1], 0)
        rows = np.arange(len(weights))
        start, end = excess[rows, before], excess[rows, after]
        part = _divided(start, start - end)
        low, high = far[rows, before], far[rows, after]
        return (low + part * (high - low))[:, None]

    return statistic


def tars(scores: np.ndarray, same: np.ndarray, *, fars: Sequence[float]) -> Statistic:
    """TAR at the smallest threshold whose false accept rate is at most a wanted one.

    Args:
      scores: [N] floats; a same pair at -inf is never accepted.
      same: [N] bool, with both kinds among them.
      fars: the wanted false accept rates, in (0, 1].

    Returns:
      One number for each; the threshold is chosen anew for each row of weights.
    """
    positives = np.flatnonzero(same)
    positives = positives[np.argsort(-scores[positives], kind="stable")]
    negatives, blocking = _blocking(scores, same, fars)
    # The same pairs above the first of the different ones that is refused.
    above = np.searchsorted(-scores[positives], -scores[negatives], side="left")
    above = np.append(above, np.count_nonzero(scores[positives] > -np.inf))

    def statistic(weights: np.ndarray) -> np.ndarray:
        sums = _sums(weights, positives)
        first, known = blocking(weights)
        accepted = np.take_along_axis(sums, above[first], axis=1)
        return _divided(np.where(known, accepted, np.nan), sums[:, -1:])

    return statistic


def limits(scores: np.ndarray, same: np.ndarray, *, fars: Sequence[float]) -> Statistic:
    """The score of the best different pair that must be refused for a false accept rate.

    Args:
      scores: [N] floats.
      same: [N] bool, with different pairs among them.
      fars: the wanted false accept rates, in (0, 1].

    Returns:
      One number for each: the least score, where none must be refused.
    """
    negatives, blocking = _blocking(scores, same, fars)
    falling = scores[np.append(negatives, negatives[-1])]

    def statistic(weights: np.ndarray) -> np.ndarray:
        first, known = blocking(weights)
        return np.where(known, falling[first], np.nan)

    return statistic


def _blocking(
    scores: np.ndarray, same: np.ndarray, fars: Sequence[float]
) -> tuple[np.ndarray, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """The different pairs, scores falling, and which of them is the first that must be refused.

    The second result takes weights [R, N] and gives the numbers [R, fars], the count of different
    pairs where all may be accepted, and whether there are any, [R, 1].
    """
    negatives = np.flatnonzero(~same)
    negatives = negatives[np.argsort(-scores[negatives], kind="stable")]
    wanted = np.asarray(fars, np.float64)

    def blocking(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums = _sums(weights, negatives)
        allowed = np.outer(sums[:, -1], wanted) + _ROUNDING
        rows = zip(sums, allowed, strict=True)
        first = np.stack([np.searchsorted(row[1:], most, side="right") for row, most in rows])
        return first, sums[:, -1:] > 0

    return negatives, blocking


def _sums(weights: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The weights of the first 0, 1, ... of the chosen pairs, [R, chosen + 1]."""
    sums = np.zeros((len(weights), len(chosen) + 1))
    np.cumsum(weights.take(chosen, axis=1), axis=1, out=sums[:, 1:])
    return sums


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
