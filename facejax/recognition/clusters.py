"""Unknown faces, put together by person."""

import numpy as np
from scipy.cluster import hierarchy
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import distance

from facejax.errors import UserError

_BLOCK = 2048
_LARGEST = 20_000  # faces that hang together: their distances take 1.6 GB


def cluster(embeddings: np.ndarray, *, threshold: float) -> np.ndarray:
    """Which faces are of one person, by average linkage on cosines, exactly.

    The two groups with the greatest mean similarity between their members become one, again and
    again, down to the threshold. Two groups with a mean above it have a pair above it, so each
    connected part of the pairs above it is clustered by itself: memory grows with the largest part,
    not with the number of faces.

    Args:
      embeddings: float32 [N, D], finite and not zero; their lengths do not matter.
      threshold: the mean cosine from which two groups are one person. That of a 1:1 comparison at a
        FAR of 1e-3 is too loose for many faces: N of them have N (N - 1) / 2 pairs.

    Returns:
      labels: int32 [N], 0 for the largest group, then on; of equally large ones the one whose first
      face comes first. A face alone is a group of one.

    Raises:
      UserError: an embedding is not finite or zero, or more than 20,000 faces hang together.
    """
    rows = np.asarray(embeddings, np.float32)
    if rows.ndim != 2:
        raise UserError(
            f"embeddings are an array [N, D], not {list(rows.shape)}: give one row each"
        )
    if not len(rows):
        return np.zeros(0, np.int32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise UserError("an embedding is zero or not finite, which no face has: leave it out")
    rows = rows / lengths
    parts = _connected(rows, threshold)
    labels = np.zeros(len(rows), np.int64)
    used = 0
    order = np.argsort(parts, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
        found = _average_linkage(rows[members], threshold)
        labels[members] = used + found
        used += found.max() + 1
    return _largest_first(labels)


def _connected(rows: np.ndarray, threshold: float) -> np.ndarray:
    """The connected part of each row, where pairs above the threshold are joined."""
    starts: list[np.ndarray] = []
    ends: list[np.ndarray] = []
    # A little lower, so that rounding splits nothing that the linkage would join.
    lowest = threshold - 1e-5
    for above in range(0, len(rows), _BLOCK):
        for left in range(above, len(rows), _BLOCK):
            i, j = np.nonzero(rows[above : above + _BLOCK] @ rows[left : left + _BLOCK].T >= lowest)
            # Of all the pairs, which may be very many, as few as connect the same faces.
            faces, places = np.unique(np.concatenate([i + above, j + left]), return_inverse=True)
            part = _components(places[: len(i)], places[len(i) :], len(faces))
            starts.append(faces)
            ends.append(faces[np.unique(part, return_index=True)[1]][part])
    return _components(np.concatenate(starts), np.concatenate(ends), len(rows))


def _components(starts: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
    graph = coo_array((np.ones(len(starts), bool), (starts, ends)), (count, count))
    return connected_components(graph, directed=False)[1]


def _average_linkage(rows: np.ndarray, threshold: float) -> np.ndarray:
    """Labels 0, 1, ... of the groups of one part."""
    if len(rows) == 1:
        return np.zeros(1, np.int64)
    if len(rows) > _LARGEST:
        raise UserError(
            f"{len(rows)} faces hang together at the threshold {threshold:g}: raise it, or cluster "
            f"at most {_LARGEST} at a time"
        )
    tree = hierarchy.linkage(distance.pdist(rows.astype(np.float64), "cosine"), "average")
    return hierarchy.fcluster(tree, 1 - threshold, "distance") - 1


def _largest_first(labels: np.ndarray) -> np.ndarray:
    _, first, inverse, counts = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(first), np.int32)
    rank[np.lexsort((first, -counts))] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]
