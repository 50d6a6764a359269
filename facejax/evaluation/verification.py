"""Face verification: are two images of the same person? Accuracy, ROC, EER, TAR at FAR.

NumPy in float64, no JAX. `scores` [N] are similarities (larger is more alike; any finite floats),
`same` [N] booleans. A pair is accepted iff its score >= the threshold. FAR is the share of the
different pairs that are accepted, TAR the share of the same pairs that are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facejax.evaluation import bootstrap, statistics
from facejax.evaluation.bootstrap import wilson_interval
from facejax.evaluation.cosine_scores import cosines
from facejax.evaluation.people import linked_images

SOUND = 100  # false accepts, below which the interval of a TAR is not to be relied on


class Roc(NamedTuple):
    """The exact ROC: one point per distinct score, after the point (0, 0) at threshold inf."""

    false_accept_rates: np.ndarray  # [P], rising to 1
    true_accept_rates: np.ndarray  # [P], rising to 1
    thresholds: np.ndarray  # [P], falling from inf


class EqualErrorRate(NamedTuple):
    """Where as many same pairs are refused as different pairs are accepted, in shares."""

    rate: float
    threshold: float


class TarAtFar(NamedTuple):
    """TAR at a wanted FAR with its 95 % interval, or the reason why there is none.

    With too few negatives every field but `far`, `note` and those after it is None. With fewer
    than 100 false accepts the note says so: the interval is then not to be relied on.
    """

    far: float
    tar: float | None
    low: float | None
    high: float | None
    threshold: float | None
    achieved_far: float | None
    note: str = ""
    false_accepts: int = 0  # on which the threshold rests
    basis: str = "pairs"  # what the interval takes as independent, or the people of Verification

    @property
    def sound(self) -> bool:
        """Whether there are 100 false accepts."""
        return self.false_accepts >= SOUND


class KfoldAccuracy(NamedTuple):
    """Accuracy where each fold is judged by the threshold that is best on the other folds."""

    accuracy: float  # right pairs / all pairs: the mean over folds where folds are equally large
    standard_error: float  # of the fold accuracies: sample deviation / sqrt(K), as LFW defines it
    low: float  # 95 % interval of right pairs / all pairs
    high: float
    thresholds: np.ndarray  # [K]
    fold_accuracies: np.ndarray  # [K]
    basis: str = "pairs"  # what the interval takes as independent; see TarAtFar


class Verification(NamedTuple):
    """All that is said about one list of pairs, with 95 % intervals by resampling its people."""

    scores: np.ndarray  # [N] float64 cosines
    same: np.ndarray  # [N] bool
    accuracy: KfoldAccuracy
    auc: float
    equal_error_rate: EqualErrorRate
    tars: tuple[TarAtFar, ...]
    auc_interval: bootstrap.Interval
    equal_error_rate_interval: bootstrap.Interval
    people: int  # how many the intervals rest on
    basis: str  # who they are: "identities" that are known, or "linked images"
    identities: np.ndarray  # [N, 2] int, the people of each pair


def _checked(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, same = np.asarray(scores, np.float64), np.asarray(same)
    if same.dtype != np.bool_ or scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(
            f"scores [N] floats and same [N] booleans are wanted, not {scores.shape} and "
            f"{same.dtype} {same.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {scores.size} scores are not finite")
    if same.all() or not same.any():
        raise ValueError("at least one same and one different pair are needed")
    return scores, same


def roc(scores: np.ndarray, same: np.ndarray) -> Roc:
    """The receiver operating characteristic; equal scores move together, as one point.

    Args:
      scores: [N] finite floats.
      same: [N] bool, with both kinds among them.

    Returns:
      Roc, of at most N + 1 points.

    Raises:
      ValueError: on wrong shapes, a score that is not finite, or pairs of one kind only (and so
        do the other functions of this file).
    """
    scores, same = _checked(scores, same)
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order]
    last = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)  # the last of each tie
    true_accepts = np.cumsum(same)[last]
    false_accepts = last + 1 - true_accepts
    return Roc(
        np.append(0.0, false_accepts / false_accepts[-1]),
        np.append(0.0, true_accepts / true_accepts[-1]),
        np.append(np.inf, scores[last]),
    )


def roc_auc(scores: np.ndarray, same: np.ndarray) -> float:
    """The area under the ROC: P(a same pair scores above a different one), ties counting half."""
    curve = roc(scores, same)
    return float(np.trapezoid(curve.true_accept_rates, curve.false_accept_rates))


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> EqualErrorRate:
    """The equal error rate FAR = 1 - TAR.

    The ROC is a staircase that need not meet the diagonal in a corner: it is joined by straight
    lines, and the crossing of the line is taken, its threshold interpolated likewise.
    """
    curve = roc(scores, same)
    excess = 1 - curve.true_accept_rates - curve.false_accept_rates  # falls strictly from 1 to -1
    after = int(np.argmax(excess <= 0))
    before = after - 1
    weight = excess[before] / (excess[before] - excess[after])
    far, threshold = curve.false_accept_rates, curve.thresholds
    rate = far[before] + weight * (far[after] - far[before])
    if before == 0:  # its threshold is infinite
        return EqualErrorRate(float(rate), float(threshold[after]))
    return EqualErrorRate(
        float(rate), float(threshold[before] + weight * (threshold[after] - threshold[before]))
    )


def tar_at_far(
    scores: np.ndarray, same: np.ndarray, *, far: float, bootstrap: int = 1000, seed: int = 0
) -> TarAtFar:
    """The true accept rate at the smallest threshold whose false accept rate is at most `far`.

    The interval here is *per pair*: the 95 % percentile bootstrap over same and different pairs,
    each resampled with replacement, the threshold chosen anew in each resample. It takes the pairs
    as independent, so where they share people it is too narrow (`verify` resamples people), and at
    TAR 1 it shrinks to a point.

    Args:
      scores: [N] finite floats.
      same: [N] bool, with both kinds among them.
      far: the wanted false accept rate, in (0, 1].
      bootstrap: the number of resamples.
      seed: of the resampling.

    Returns:
      TarAtFar; with fewer negatives than 1 / far no figure but a `note` that says how many are
      needed, since the rate of one accepted negative would already be above `far`. With fewer than
      100 accepted negatives the note says that.
    """
    scores, same = _checked(scores, same)
    if not 0 < far <= 1:
        raise ValueError(f"far is {far}, and must be in (0, 1]")
    positives, negatives = np.sort(scores[same]), np.sort(scores[~same])
    rounding = 1e-9  # 0.29 * 100 is 28.999999999999996
    allowed = int(np.floor(far * negatives.size + rounding))
    if allowed == 0:
        needed = int(np.ceil(1 / far - rounding))
        note = f"too few negatives for FAR {format_far(far)}: need {needed}, have {negatives.size}"
        return TarAtFar(far, None, None, None, None, None, note)
    if allowed >= negatives.size:
        note = _few_accepts(far, negatives.size, negatives.size)
        return TarAtFar(far, 1.0, 1.0, 1.0, float(scores.min()), 1.0, note, negatives.size)

    def tar_above(blocking: np.ndarray) -> np.ndarray:  # the first negative to be refused
        refused = np.searchsorted(positives, blocking, side="right")
        return (positives.size - refused) / positives.size

    blocking = negatives[-1 - allowed]
    threshold = np.nextafter(blocking, np.inf)
    # Resampling by its law instead of by hand. The (allowed + 1)th largest of n draws from n
    # sorted values has the index floor(n u), where u, that order statistic of n uniforms, is
    # Beta(n - allowed, allowed + 1); and each drawn positive is accepted with probability TAR.
    rng = np.random.default_rng(seed)
    uniform = rng.beta(negatives.size - allowed, allowed + 1, size=bootstrap)
    index = np.minimum((uniform * negatives.size).astype(np.int64), negatives.size - 1)
    resampled = rng.binomial(positives.size, tar_above(negatives[index])) / positives.size
    low, high = np.quantile(resampled, [0.025, 0.975])
    accepts = int((negatives >= threshold).sum())
    return TarAtFar(
        far,
        float(tar_above(blocking)),
        float(low),
        float(high),
        float(threshold),
        accepts / negatives.size,
        _few_accepts(far, accepts, negatives.size),
        accepts,
    )


def _few_accepts(far: float, accepts: int, negatives: int) -> str:
    if accepts >= SOUND:
        return ""
    return (
        f"TAR at FAR {format_far(far)} rests on {accepts} false accept{'s' * (accepts != 1)} of "
        f"{negatives} different pairs: below {SOUND} its interval is not to be relied on"
    )


def format_far(far: float) -> str:
    """0.0001 -> "1e-4"."""
    return np.format_float_scientific(far, trim="-", exp_digits=1)


def _best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order]
    # right - (right when all are refused), after accepting the first 0, 1, ... N pairs
    gains = np.append(0, np.cumsum(np.where(same, 1, -1)))
    midpoints = (scores[:-1] + scores[1:]) / 2
    thresholds = np.concatenate([[np.nextafter(scores[0], np.inf)], midpoints, scores[-1:]])
    separable = np.concatenate([[True], scores[:-1] != scores[1:], [True]])
    return float(thresholds[np.argmax(np.where(separable, gains, -scores.size - 1))])


def kfold_accuracy(scores: np.ndarray, same: np.ndarray, folds: np.ndarray) -> KfoldAccuracy:
    """K-fold verification accuracy, the protocol of LFW.

    Each fold's threshold maximises accuracy on the other folds. Candidates are the midpoints of
    neighbouring distinct scores, just above the largest (accept none) and the smallest (accept
    all); among equally good ones the largest is taken, which accepts fewest.

    Args:
      scores: [N] finite floats.
      same: [N] bool, with both kinds among them.
      folds: [N] int, at least two distinct numbers; the results are in rising order of them.

    Returns:
      KfoldAccuracy. `low` and `high` are *per pair*: Wilson's 95 % score interval for the pooled
      count of right pairs out of N, as if they were independent (`verify` resamples people); the
      fold standard error is reported beside it because papers quote it.

    References:
      Huang et al., Labeled Faces in the Wild, 2007, section 3 (View 2):
      http://vis-www.cs.umass.edu/lfw/lfw.pdf
    """
    scores, same = _checked(scores, same)
    folds = np.asarray(folds)
    numbers = np.unique(folds)
    if folds.shape != scores.shape or numbers.size < 2:
        raise ValueError(f"folds must be [{scores.size}] with two or more distinct numbers")
    held_out = [folds == number for number in numbers]
    thresholds = np.array([_best_threshold(scores[~fold], same[~fold]) for fold in held_out])
    right = np.array(
        [
            ((scores[fold] >= threshold) == same[fold]).sum()
            for fold, threshold in zip(held_out, thresholds, strict=True)
        ]
    )
    fold_accuracies = right / np.array([fold.sum() for fold in held_out])
    low, high = wilson_interval(int(right.sum()), scores.size)
    return KfoldAccuracy(
        float(right.sum() / scores.size),
        float(fold_accuracies.std(ddof=1) / np.sqrt(numbers.size)),
        low,
        high,
        thresholds,
        fold_accuracies,
    )


def verify(
    embeddings: np.ndarray,
    indices: np.ndarray,
    same: np.ndarray,
    folds: np.ndarray,
    *,
    fars: Sequence[float] = (1e-2, 1e-3),
    identities: np.ndarray | None = None,
    resamples: int = 1000,
) -> Verification:
    """Scores pairs of embeddings by their cosine, and everything this file says of the scores.

    Args:
      embeddings: [M, D] floats, of any length; see `cosines`.
      indices: [N, 2] integers in [0, M), the two embeddings of each pair.
      same: [N] bool.
      folds: [N] int, see `facejax.evaluation.pair_folds`.
      fars: the false accept rates at which TAR is wanted.
      identities: [M] integers, whose the embeddings are, for the intervals. None takes those that
        same pairs link for one person's, and all others for different people's.
      resamples: of the people, for the intervals; the time follows it.

    Raises:
      UserError: where an embedding is not finite.
      ValueError: as `cosines`, `roc`, `kfold_accuracy` and `facejax.evaluation.resample`.
    """
    embeddings, indices, same = map(np.asarray, (embeddings, indices, same))
    if identities is not None and np.shape(identities) != (len(embeddings),):
        raise ValueError(
            f"identities [{len(embeddings)}] are wanted, one of each embedding, not "
            f"{np.shape(identities)}"
        )
    scores = cosines(embeddings, indices)
    accuracy = kfold_accuracy(scores, same, folds)
    tars = tuple(tar_at_far(scores, same, far=far) for far in fars)
    known = [tar.far for tar in tars if tar.tar is not None]
    people = linked_images(indices, same) if identities is None else np.asarray(identities)
    found = bootstrap.resample(
        statistics.together(
            statistics.kfold_accuracy(scores, same, np.asarray(folds)),
            statistics.auc(scores, same),
            statistics.equal_error_rate(scores, same),
            statistics.tars(scores, same, fars=known),
        ),
        people[indices],
        resamples=resamples,
    )
    basis = "linked images" if identities is None else "identities"
    of_accuracy, of_auc, of_rate, *rest = map(found.interval, range(len(found.estimates)))
    of_tars = dict(zip(known, rest, strict=True))
    return Verification(
        scores,
        same,
        accuracy._replace(**of_accuracy._asdict(), basis=basis),
        roc_auc(scores, same),
        equal_error_rate(scores, same),
        tuple(
            tar._replace(**of_tars[tar.far]._asdict(), basis=basis) if tar.far in of_tars else tar
            for tar in tars
        ),
        of_auc,
        of_rate,
        found.people,
        basis,
        people[indices],
    )
