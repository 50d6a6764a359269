"""The score of a pair of embeddings: their cosine."""

import numpy as np

from facejax.errors import UserError


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
