"""InsightFace's verification numbers once more, from a description of them: float64 loops.

One threshold and one fold at a time; only the pairs of a fold are counted by NumPy.
"""

import math
from typing import NamedTuple

import numpy as np

FOLDS = 10
ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
FAR_THRESHOLDS = np.arange(0, 4, 0.001)


class Numbers(NamedTuple):
    accuracy: float
    deviation: float
    tar: float
    tar_deviation: float
    achieved_far: float
    thresholds: list[float]  # of the accuracy, one per fold
    fold_accuracies: list[float]


def verification(embeddings, indices, same, *, far=1e-3) -> Numbers:
    """Of embeddings [M, D] (an image's and its mirror image's, added), indices [P, 2], same [P]."""
    unit = [normalized(row) for row in np.asarray(embeddings, np.float64)]
    distances = np.array([float(np.sum((unit[i] - unit[j]) ** 2)) for i, j in indices])
    same = np.asarray(same, bool)
    thresholds, accuracies, tars, fars = [], [], [], []
    for test in folds(len(same)):
        tested = np.zeros(len(same), bool)
        tested[test] = True
        seen, truth = distances[~tested], same[~tested]
        chosen = most_accurate(seen, truth)
        thresholds.append(chosen)
        accuracies.append(accuracy(distances[tested], same[tested], chosen))
        strict = threshold_at(seen[~truth], far)
        tars.append(accepted(distances[tested & same], strict))
        fars.append(accepted(distances[tested & ~same], strict))
    return Numbers(
        accuracy=float(np.mean(accuracies)),
        deviation=float(np.std(accuracies)),
        tar=float(np.mean(tars)),
        tar_deviation=float(np.std(tars)),
        achieved_far=float(np.mean(fars)),
        thresholds=thresholds,
        fold_accuracies=accuracies,
    )


def normalized(row) -> np.ndarray:
    length = math.sqrt(sum(float(x) * float(x) for x in row))
    return row / length if length else row


def folds(count: int) -> list[list[int]]:
    """The pairs of each fold, in file order; the first `count % FOLDS` folds have one more."""
    parts, start = [], 0
    for fold in range(FOLDS):
        size = count // FOLDS + (1 if fold < count % FOLDS else 0)
        parts.append(list(range(start, start + size)))
        start += size
    return parts


def accuracy(distances, same, threshold) -> float:
    true_accepts = np.count_nonzero(distances[same] < threshold)
    true_rejects = np.count_nonzero(~(distances[~same] < threshold))
    return float(true_accepts + true_rejects) / len(distances)


def accepted(distances, threshold) -> float:
    """The share of the distances below the threshold; of no distance, NaN."""
    if len(distances) == 0:
        return math.nan
    return float(np.count_nonzero(distances < threshold)) / len(distances)


def most_accurate(distances, same) -> float:
    best, found = -1.0, 0.0
    for threshold in ACCURACY_THRESHOLDS:
        value = accuracy(distances, same, threshold)
        if value > best:  # so the first of equals stays
            best, found = value, float(threshold)
    return found


def threshold_at(different, far) -> float:
    """Where the line through (FAR, threshold) has this FAR; 0 where no threshold reaches it.

    FAR only grows with the threshold, so the line starts at the last threshold whose FAR is not
    above the one asked for: of several that have it exactly, that is the last.
    """
    reached = [accepted(different, threshold) for threshold in FAR_THRESHOLDS]
    if not max(reached) >= far:
        return 0.0
    last = 0
    for i in range(len(reached)):
        if reached[i] <= far:
            last = i
    low = float(FAR_THRESHOLDS[last])
    if reached[last] == far:
        return low
    high = float(FAR_THRESHOLDS[last + 1])
    return low + (high - low) * (far - reached[last]) / (reached[last + 1] - reached[last])
