"""Is one model better than another? Both on the same pairs: what is hard is hard for both."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from facejax.evaluation import bootstrap, statistics
from facejax.evaluation.verification import tar_at_far


class Difference(NamedTuple):
    """By how much a number of the first model exceeds that of the second."""

    difference: float
    low: float  # the 95 % interval, by resampling the people of the pairs
    high: float
    p_value: float  # two-sided, of no difference; below 0.05 where the interval is on one side of 0


class Comparison(NamedTuple):
    """The paired differences of two models."""

    accuracy: Difference  # each fold by the threshold that is best on the other folds
    auc: Difference
    tars: dict[float, Difference]  # by their FARs; none where there are too few different pairs
    notes: tuple[str, ...]  # which FARs have none, or rest on fewer than 100 false accepts


def compare(
    first: np.ndarray,
    second: np.ndarray,
    same: np.ndarray,
    folds: np.ndarray,
    identities: np.ndarray,
    *,
    fars: Sequence[float] = (1e-2, 1e-3),
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compares the scores of two models on the same pairs.

    Both are judged on the same resampled people, so the doubt that they share falls out.

    Args:
      first: [N] finite floats, the scores of one model.
      second: [N], of the other; they may be on another scale.
      same: [N] bool, with both kinds among them.
      folds: [N] int, two or more distinct ones.
      identities: [N, 2] integers, who the two of each pair are.
      fars: the false accept rates at which TAR is wanted.
      resamples: of the people.
      seed: of the resampling.

    Returns:
      Comparison.

    Raises:
      ValueError: on what `tar_at_far` or `facejax.evaluation.resample` refuse.
    """
    first, second = (np.asarray(scores, np.float64) for scores in (first, second))
    same, folds = np.asarray(same), np.asarray(folds)
    found = [[tar_at_far(scores, same, far=far) for far in fars] for scores in (first, second)]
    known = [tar.far for tar in found[0] if tar.tar is not None]
    notes = dict.fromkeys(tar.note for tars in found for tar in tars if tar.note)

    of_each = [
        statistics.together(
            statistics.kfold_accuracy(scores, same, folds),
            statistics.auc(scores, same),
            statistics.tars(scores, same, fars=known),
        )
        for scores in (first, second)
    ]
    result = bootstrap.resample(
        lambda weights: of_each[0](weights) - of_each[1](weights),
        identities,
        resamples=resamples,
        seed=seed,
    )
    accuracy, auc, *tars = (
        _difference(float(estimate), float(variance), float(degrees))
        for estimate, variance, degrees in zip(
            result.estimates, result.variances, result.degrees, strict=True
        )
    )
    return Comparison(accuracy, auc, dict(zip(known, tars, strict=True)), tuple(notes))


def _difference(difference: float, variance: float, degrees: float) -> Difference:
    if not np.isfinite(variance):  # no resample has both kinds of pairs
        return Difference(difference, -1.0, 1.0, 1.0)
    if variance == 0:
        return Difference(difference, difference, difference, float(difference == 0))
    error = float(np.sqrt(variance))
    half = bootstrap.student(degrees) * error
    beyond = special.stdtr(max(degrees, 1), -abs(difference) / error)
    return Difference(difference, difference - half, difference + half, float(2 * beyond))
