"""Does a quality score know which images are hard? Reject curves, rank correlation, histograms.

The score may be anything that is larger for better images: an embedding's norm before it is
normalised, a detector's score, a column of a CSV file (`facejax.evaluation.ImageTable`).
"""

from typing import NamedTuple

import numpy as np

from facejax.errors import UserError
from facejax.evaluation import bootstrap
from facejax.evaluation.verification import tar_at_far


class RejectCurve(NamedTuple):
    """FNMR of what is left when the worst is rejected; a step, from each share to the next.

    Images of equal quality go together, so there is a point for each distinct quality.
    """

    rejected: np.ndarray  # [P] share of images, or of same pairs, that are rejected; from 0 up
    false_non_match_rates: np.ndarray  # [P] of the same pairs that are left
    kept: np.ndarray  # [P] int, how many same pairs are left, at least 1
    qualities: np.ndarray  # [P] the lowest that is kept
    threshold: float  # of the scores; fixed, from all pairs
    low: np.ndarray | None  # [P] 95 % interval of the FNMR, by resampling people; None where they
    high: np.ndarray | None  # are not given

    def area(self, *, upto: float = 1.0) -> float:
        """The area under the curve, from nothing rejected to a share; smaller is better.

        Args:
          upto: the largest share, in (0, 1]. The last point holds on to it.

        Raises:
          ValueError: `upto` is outside of (0, 1].
        """
        if not 0 < upto <= 1:
            raise ValueError(f"upto is {upto}, and must be in (0, 1]")
        widths = np.diff(np.minimum(np.append(self.rejected, 1.0), upto))
        return float(widths @ self.false_non_match_rates)

    def area_by_chance(self, *, upto: float = 1.0) -> float:
        """The area where quality says nothing: the FNMR stays what it was.

        Args:
          upto: the largest share.
        """
        return float(self.false_non_match_rates[0]) * upto


def error_versus_reject(
    scores: np.ndarray,
    same: np.ndarray,
    indices: np.ndarray,
    qualities: np.ndarray,
    *,
    far: float,
    share_of: str = "images",
    identities: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> RejectCurve:
    """The error-versus-reject (or error-versus-discard) curve of a quality score.

    A pair is as good as the worse of its two images. The threshold is that of the FAR among all
    different pairs, and stays; only same pairs are rejected.

    Args:
      scores: [N] finite floats, larger is more alike.
      same: [N] bool, with both kinds among them.
      indices: int [N, 2], the two images of each pair.
      qualities: [M] finite floats of the images, larger is better.
      far: the false accept rate of the threshold, in (0, 1].
      share_of: what is counted as rejected: "images" that are in a same pair, or same "pairs".
      identities: [N, 2] whole numbers, who the two of each pair are, for intervals.
      resamples: of the people, for the intervals.
      seed: of the resampling.

    Returns:
      RejectCurve.

    Raises:
      UserError: there are too few different pairs for the FAR.
      ValueError: on wrong shapes, a quality that is not finite, or what `tar_at_far` refuses.

    References:
      Grother and Tabassi, Performance of Biometric Quality Measures, 2007:
      https://doi.org/10.1109/TPAMI.2007.1019
      Schlett et al., Considerations on the Evaluation of Biometric Quality Assessment Algorithms,
      2023: https://arxiv.org/abs/2303.13294
    """
    scores, same, indices = np.asarray(scores, np.float64), np.asarray(same), np.asarray(indices)
    qualities = np.asarray(qualities, np.float64)
    if indices.shape != (len(same), 2) or qualities.ndim != 1 or not np.isfinite(qualities).all():
        raise ValueError(
            f"indices [N, 2] and finite qualities [M] are wanted, not {indices.shape} and "
            f"{qualities.shape}"
        )
    if share_of not in ("images", "pairs"):
        raise ValueError(f'share_of is {share_of!r}, and must be "images" or "pairs"')
    tar = tar_at_far(scores, same, far=far)
    if tar.threshold is None:
        raise UserError(tar.note)
    of_pairs = qualities[indices[same]].min(axis=1)
    missed = scores[same] < tar.threshold
    order = np.argsort(of_pairs, kind="stable")
    levels, first = np.unique(of_pairs[order], return_index=True)
    kept = len(of_pairs) - first
    left = missed.sum() - np.append(0, np.cumsum(missed[order]))[first]
    counted = of_pairs
    if share_of == "images":
        counted = qualities[np.unique(indices[same])]
    rejected = np.searchsorted(np.sort(counted), levels) / len(counted)
    low = high = None
    if identities is not None:
        people = np.asarray(identities)[same]
        found = bootstrap.resample(
            _left(missed, order, first), people, resamples=resamples, seed=seed
        )
        last = np.unique(people[order][::-1, 0], return_index=True)[1]  # a person's best pair
        remaining = (len(order) - 1 - last >= first[:, None]).sum(axis=1)
        low, high = np.transpose(
            [
                bootstrap.share_interval(rate, variance, count, degrees=degrees)
                for rate, variance, count, degrees in zip(
                    *(
                        of.tolist()
                        for of in (found.estimates, found.variances, remaining, found.degrees)
                    ),
                    strict=True,
                )
            ]
        )
    return RejectCurve(rejected, left / kept, kept, levels, tar.threshold, low, high)


def _left(missed: np.ndarray, order: np.ndarray, first: np.ndarray) -> bootstrap.Statistic:
    """The FNMR of the pairs from each of the first ones on, in the order of their quality."""
    wrong = missed[order].astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        falling = weights.take(order[::-1], axis=1)
        kept, of_them = (
            np.cumsum(each, axis=1)[:, len(order) - 1 - first]
            for each in (falling, falling * wrong[::-1])
        )
        return np.divide(of_them, kept, out=np.full(kept.shape, np.nan), where=kept > 0)

    return statistic


def spearman(qualities: np.ndarray, severities: np.ndarray) -> float:
    """Spearman's rank correlation: -1 to 1; equal values share the mean of their ranks.

    Args:
      qualities: [N] finite floats.
      severities: [N] finite floats, what is known: of a good score the correlation is near -1.

    Raises:
      ValueError: on wrong shapes, a value that is not finite, or where all of one are equal, so
        that nothing is defined.
    """
    both = [np.asarray(values, np.float64) for values in (qualities, severities)]
    if both[0].ndim != 1 or both[0].shape != both[1].shape or not np.isfinite(both).all():
        raise ValueError(
            f"two times [N] finite floats are wanted, not {both[0].shape} and {both[1].shape}"
        )
    if len(both[0]) < 2 or any(np.ptp(values) == 0 for values in both):
        raise ValueError("a rank correlation is of values that differ, and all of one are equal")
    first, second = (_ranks(values) - (len(values) + 1) / 2 for values in both)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[numbers]


def norms(embeddings: np.ndarray) -> np.ndarray:
    """The lengths of embeddings, float64 [M], which some losses train to be a quality.

    Args:
      embeddings: [M, D] floats, as the network gives them.

    Raises:
      UserError: all are of length 1, as a recognizer gives them.
    """
    lengths = np.linalg.norm(np.asarray(embeddings, np.float64), axis=1)
    if len(lengths) > 1 and np.abs(lengths - 1).max() < 1e-5:
        raise UserError(
            "all embeddings are of length 1, which says nothing of quality: take them before they "
            "are normalised (unit=False)"
        )
    return lengths


class Histograms(NamedTuple):
    """How often values fall between edges, of each set."""

    edges: np.ndarray  # [B + 1], the same for all sets
    counts: dict[str, np.ndarray]  # int [B] of each set; the last bin holds its upper edge


def histograms(values: np.ndarray, sets: np.ndarray, *, bins: int = 50) -> Histograms:
    """Histograms of qualities (norms, say) by set, or by anything else that images have.

    Args:
      values: [M] finite floats.
      sets: [M] names.
      bins: B, of equal width over all values.
    """
    values, sets = np.asarray(values, np.float64), np.asarray(sets)
    edges = np.histogram_bin_edges(values, bins)
    return Histograms(
        edges,
        {str(name): np.histogram(values[sets == name], edges)[0] for name in np.unique(sets)},
    )


class ByIdentity(NamedTuple):
    """Qualities of each person's images; arrays [P] in the order of the identities."""

    identities: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    deviations: np.ndarray  # over a person's images (ddof 0)
    between: float  # deviation of the means over people
    within: float  # root of the mean squared deviation of images from their person's mean


def by_identity(values: np.ndarray, identities: np.ndarray) -> ByIdentity:
    """How much of the spread of qualities (norms, say) is that of people, not of their images.

    Args:
      values: [M] finite floats.
      identities: [M] numbers or names.
    """
    values = np.asarray(values, np.float64)
    people, numbers, counts = np.unique(identities, return_inverse=True, return_counts=True)
    means = np.bincount(numbers, values) / counts
    squares = (values - means[numbers]) ** 2
    deviations = np.sqrt(np.bincount(numbers, squares) / counts)
    within = float(np.sqrt(squares.mean()))
    return ByIdentity(people, counts, means, deviations, float(means.std()), within)
