"""Face verification: are two images of the same person? Accuracy, ROC, EER, TAR at FAR.

NumPy in float64, no JAX. `scores` [N] are similarities (larger is more alike; any finite floats),
`same` [N] booleans. A pair is accepted iff its score >= the threshold. FAR is the share of the
different pairs that are accepted, TAR the share of the same pairs that are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facejax.errors import UserError


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

    With too few negatives every field but `far` and `note` is None.
    """

    far: float
    tar: float | None
    low: float | None
    high: float | None
    threshold: float | None
    achieved_far: float | None
    note: str = ""


class KfoldAccuracy(NamedTuple):
    """Accuracy where each fold is judged by the threshold that is best on the other folds."""

    accuracy: float  # right pairs / all pairs: the mean over folds where folds are equally large
    standard_error: float  # of the fold accuracies: sample deviation / sqrt(K), as LFW defines it
    low: float  # Wilson 95 % interval of right pairs / all pairs
    high: float
    thresholds: np.ndarray  # [K]
    fold_accuracies: np.ndarray  # [K]


class Verification(NamedTuple):
    """All that is said about one list of pairs."""

    scores: np.ndarray  # [N] float64 cosines
    same: np.ndarray  # [N] bool
    accuracy: KfoldAccuracy
    auc: float
    equal_error_rate: EqualErrorRate
    tars: tuple[TarAtFar, ...]


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

    The interval is the 95 % percentile bootstrap over same and different pairs, each resampled
    with replacement, the threshold chosen anew in each resample; so it holds the doubt about the
    threshold too. It takes the pairs as independent (pairs that share images are not quite), and
    at TAR 1 it shrinks to a point.

    Args:
      scores: [N] finite floats.
      same: [N] bool, with both kinds among them.
      far: the wanted false accept rate, in (0, 1].
      bootstrap: the number of resamples.
      seed: of the resampling.

    Returns:
      TarAtFar; with fewer negatives than 1 / far no figure but a `note` that says how many are
      needed, since the rate of one accepted negative would already be above `far`.
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
        return TarAtFar(far, 1.0, 1.0, 1.0, float(scores.min()), 1.0)

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
    return TarAtFar(
        far,
        float(tar_above(blocking)),
        float(low),
        float(high),
        float(threshold),
        float((negatives >= threshold).mean()),
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
      KfoldAccuracy. `low` and `high` are Wilson's 95 % score interval for the pooled count of
      right pairs out of N, which stays inside [0, 1] and does not vanish at accuracy 1; the fold
      standard error is reported beside it because papers quote it.

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


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion.

    References:
      Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927:
      https://doi.org/10.1080/01621459.1927.10502953
    """
    z = 1.959963984540054
    share, spread = successes / trials, z * z / trials
    center = (share + spread / 2) / (1 + spread)
    half = np.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return float(max(center - half, 0.0)), float(min(center + half, 1.0))


def cosines(embeddings: np.ndarray, indices: np.ndarray, *, block_size: int = 4096) -> np.ndarray:
    """The cosine of each pair, computed in float64.

    Args:
      embeddings: [M, D] floats, of any length (a zero vector has cosine 0 to everything).
      indices: [N, 2] integers in [0, M), the two embeddings of each pair.
      block_size: pairs that are gathered at a time; what is needed besides the arguments and the
        result follows block_size * D, not N or M.

    Returns:
      float64 [N].

    Raises:
      UserError: an embedding of a pair is not finite.
      ValueError: on wrong shapes, or an index outside of [0, M).
    """
    if embeddings.ndim != 2 or indices.shape != (len(indices), 2) or indices.dtype.kind not in "iu":
        raise ValueError(
            f"embeddings [M, D] and integer indices [N, 2] are wanted, not {embeddings.shape} and "
            f"{indices.dtype} {indices.shape}"
        )
    if indices.size and not 0 <= indices.min() <= indices.max() < len(embeddings):
        raise ValueError(
            f"indices from {indices.min()} to {indices.max()} do not fit {len(embeddings)} "
            "embeddings"
        )
    scores = np.empty(len(indices))
    broken = 0
    tiny = np.finfo(np.float64).tiny
    for start in range(0, len(indices), block_size):
        first, second = indices[start : start + block_size].T
        a, b = embeddings[first].astype(np.float64), embeddings[second].astype(np.float64)
        broken += int((~(np.isfinite(a) & np.isfinite(b)).all(axis=1)).sum())
        if broken:  # no score is wanted any more, only how many there are not
            continue
        norms = np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), tiny)
        scores[start : start + block_size] = np.sum(a * b, axis=1) / norms
    if broken:
        raise UserError(
            f"{broken} of {len(scores)} pairs have an embedding that is not finite: the network "
            "has diverged, so evaluate an earlier checkpoint or train with a smaller learning rate"
        )
    return scores


def verify(
    embeddings: np.ndarray,
    indices: np.ndarray,
    same: np.ndarray,
    folds: np.ndarray,
    *,
    fars: Sequence[float] = (1e-2, 1e-3),
) -> Verification:
    """Scores pairs of embeddings by their cosine, and everything this file says of the scores.

    Args:
      embeddings: [M, D] floats, of any length; see `cosines`.
      indices: [N, 2] integers in [0, M), the two embeddings of each pair.
      same: [N] bool.
      folds: [N] int, see `facejax.evaluation.pair_folds`.
      fars: the false accept rates at which TAR is wanted.

    Raises:
      UserError: where an embedding is not finite.
      ValueError: as `cosines`, `roc` and `kfold_accuracy`.
    """
    scores = cosines(np.asarray(embeddings), np.asarray(indices))
    return Verification(
        scores,
        np.asarray(same),
        kfold_accuracy(scores, same, folds),
        roc_auc(scores, same),
        equal_error_rate(scores, same),
        tuple(tar_at_far(scores, same, far=far) for far in fars),
    )
