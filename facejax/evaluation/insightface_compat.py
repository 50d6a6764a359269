"""Verification as InsightFace computes it, so that numbers can be laid beside published ones.

It differs from `facejax.evaluation.verification` in four ways: squared distances of unit vectors in
place of cosines (of which they are 2 - 2 cos); thresholds from a grid, of which the first best one
is taken; consecutive tenths of the *whole* list as folds, whichever kinds of pairs they hold (so
the order of the list counts); and the deviation over the folds in place of an interval.

All is computed in float64, as there: the network's float32 embeddings are copied into an array of
that type before those of an image and its mirror image are added.
"""

from typing import NamedTuple

import numpy as np

from facejax.errors import UserError

_GRID = np.arange(0, 4, 0.01)
_FINE_GRID = np.arange(0, 4, 0.001)


class InsightFaceVerification(NamedTuple):
    """The numbers that InsightFace prints of a verification set, and what they are means of."""

    accuracy: float  # mean of the folds' accuracies: "Accuracy-Flip"
    deviation: float  # of them, over all K of them (ddof 0)
    tar: float  # "val": mean over the folds of TAR at the threshold that has the FAR on the others
    tar_deviation: float
    achieved_far: float  # mean of the folds' FARs at these thresholds
    thresholds: np.ndarray  # [K] squared distances, of the accuracies
    fold_accuracies: np.ndarray  # [K]


def insightface_verification(
    embeddings: np.ndarray,
    indices: np.ndarray,
    same: np.ndarray,
    *,
    folds: int = 10,
    far: float = 1e-3,
) -> InsightFaceVerification:
    """Accuracy and TAR by InsightFace's grid and folds.

    Args:
      embeddings: [M, D] floats, of each image the sum (or mean) of its embedding and its mirror
        image's, not normalised before they are added; the flip test of `facejax.recognition` is
        this. For a zero vector every distance is the other's squared length.
      indices: int [N, 2], the two images of each pair; [[0, 1], [2, 3], ...] of a `.bin` set.
      same: bool [N].
      folds: K; the first N modulo K have one pair more.
      far: that TAR is wanted at.

    Returns:
      InsightFaceVerification. `tar` is NaN where a fold has no same pair, and `achieved_far` where
      one has no different pair (InsightFace stops there), as in a list with all same pairs first.

    Raises:
      UserError: an embedding is not finite.
      ValueError: on wrong shapes, fewer pairs than folds, or fewer than two folds.
    """
    same, indices = np.asarray(same), np.asarray(indices)
    if same.dtype != np.bool_ or same.ndim != 1 or indices.shape != (len(same), 2):
        raise ValueError(
            f"indices [N, 2] and same [N] booleans are wanted, not {indices.shape} and "
            f"{same.dtype} {same.shape}"
        )
    if not 2 <= folds <= len(same):
        raise ValueError(f"{len(same)} pairs can't be cut into {folds} folds of two or more")
    distances = squared_distances(embeddings, indices)
    sizes = np.full(folds, len(same) // folds) + (np.arange(folds) < len(same) % folds)
    fold = np.repeat(np.arange(folds), sizes)
    counts = _accepted(distances, same, fold, _GRID)
    # Right where a same pair is accepted, or a different one is not.
    kinds = np.stack([np.bincount(fold[same == kind], minlength=folds) for kind in (True, False)])
    right = counts[0] - counts[1] + kinds[1][:, None]  # [K, thresholds]
    best = np.argmax(right.sum(axis=0) - right, axis=1)
    accuracies = right[np.arange(folds), best] / sizes
    limits = _limits(_accepted(distances, same, fold, _FINE_GRID)[1], kinds[1], far)
    accepted = distances < limits[fold]
    tars, fars = (
        _divided(np.bincount(fold[accepted & (same == kind)], minlength=folds), kinds[1 - kind])
        for kind in (1, 0)
    )
    return InsightFaceVerification(
        float(np.mean(accuracies)),
        float(np.std(accuracies)),
        float(np.mean(tars)),
        float(np.std(tars)),
        float(np.mean(fars)),
        _GRID[best],
        accuracies,
    )


def squared_distances(
    embeddings: np.ndarray, indices: np.ndarray, *, block_size: int = 4096
) -> np.ndarray:
    """Squared distances of pairs of embeddings, each scaled to length 1 first, in float64.

    Args:
      embeddings: [M, D] floats; a zero vector stays zero.
      indices: int [N, 2].
      block_size: pairs that are gathered at a time.

    Returns:
      float64 [N], 0 to 4.

    Raises:
      UserError: an embedding is not finite.
    """
    embeddings = np.asarray(embeddings)
    if not all(np.isfinite(row).all() for row in embeddings):
        raise UserError(
            "an embedding is not finite: the network has diverged, so evaluate an earlier "
            "checkpoint or train with a smaller learning rate"
        )
    distances = np.empty(len(indices))
    for start in range(0, len(indices), block_size):
        first, second = (
            _unit(embeddings[side].astype(np.float64))
            for side in indices[start : start + block_size].T
        )
        distances[start : start + block_size] = np.sum(np.square(first - second), axis=1)
    return distances


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))  # as scikit-learn's normalize
    return rows / np.where(lengths > 0, lengths, 1)[:, None]


def _accepted(
    distances: np.ndarray, same: np.ndarray, fold: np.ndarray, grid: np.ndarray
) -> np.ndarray:
    """How many pairs are nearer than each threshold: int [2, K, thresholds], same ones first."""
    first = np.searchsorted(grid, distances, side="right")  # the first threshold above it
    counts = np.zeros((2, fold[-1] + 1, len(grid) + 1), np.int64)
    np.add.at(counts, (1 - same.astype(np.int64), fold, first), 1)
    return np.cumsum(counts, axis=2)[..., :-1]


def _limits(accepts: np.ndarray, negatives: np.ndarray, far: float) -> np.ndarray:
    """The distances that have a FAR on the other folds, by straight lines between the grid's.

    Where several thresholds have that very FAR, the last of them. (There and wherever two have the
    same one, InsightFace's own code stops under a recent SciPy: "Expect x to not have duplicates".)

    Args:
      accepts: [K, thresholds] of different pairs.
      negatives: [K] how many there are.
      far: the wanted one.

    Returns:
      [K]; 0, which accepts none, where no threshold has so high a FAR.
    """
    limits = np.zeros(len(accepts))
    for number in range(len(accepts)):
        total = negatives.sum() - negatives[number]
        rates = _divided(accepts.sum(axis=0) - accepts[number], np.full(accepts.shape[1], total))
        if rates[-1] >= far:  # not where they are NaN
            limits[number] = np.interp(far, rates, _FINE_GRID)
    return limits


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
