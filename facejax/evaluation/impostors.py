"""All pairs of different people, a block at a time: how many, their largest cosines, and whose.

What is held follows the block and the number of people, not the number of pairs.
"""

from collections.abc import Iterator, Sequence

import numpy as np

BLOCK = 1024
_EXCLUDED = np.float32(-2)  # below every cosine


def count(identities: np.ndarray) -> int:
    """How many pairs of different people there are.

    Args:
      identities: [N] int, from 0, of each embedding.
    """
    sizes = np.bincount(identities)
    return (len(identities) ** 2 - int(np.sum(sizes**2))) // 2


def blocks(
    embeddings: np.ndarray, identities: np.ndarray, *, block_size: int = BLOCK
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The cosines of all pairs, each pair once.

    Args:
      embeddings: [N, D] finite floats, of any length (a zero vector has cosine 0 to everything).
      identities: [N] int.
      block_size: rows and columns of a block.

    Yields:
      cosines: float32 [R, C], rounded from float64; -2 where it is no pair of two people, or comes
        elsewhere.
      rows: [R], their identities.
      columns: [C], their identities.
    """
    for top in range(0, len(embeddings), block_size):
        rows = identities[top : top + block_size]
        units = _unit(embeddings[top : top + block_size])
        for left in range(top, len(embeddings), block_size):
            columns = identities[left : left + block_size]
            others = units if left == top else _unit(embeddings[left : left + block_size])
            cosines = (units @ others.T).astype(np.float32)
            excluded = rows[:, None] == columns[None, :]
            if left == top:
                excluded |= np.tri(len(rows), dtype=bool)
            cosines[excluded] = _EXCLUDED
            yield cosines, rows, columns


def largest(
    embeddings: np.ndarray,
    identities: np.ndarray,
    ranks: Sequence[int],
    *,
    block_size: int = BLOCK,
) -> list[np.float32]:
    """Cosines of pairs of different people by their rank, exactly.

    A float32's bits, as a whole number, are in its order: one pass counts by their upper half, and
    a second one by the lower half where a wanted one is. No cosine is kept.

    Args:
      embeddings: [N, D] finite floats.
      identities: [N] int.
      ranks: 1 is the largest cosine; at most the number of pairs.
      block_size: rows and columns of a block.

    Returns:
      The cosine of each rank.
    """

    def passed() -> Iterator[np.ndarray]:
        for cosines, _, _ in blocks(embeddings, identities, block_size=block_size):
            yield _ordered(cosines.ravel())

    upper = np.zeros(1 << 16, np.int64)
    for keys in passed():
        upper += np.bincount(keys >> 16, minlength=1 << 16)
    wanted = [_place(upper, rank) for rank in ranks]
    lower = {half: np.zeros(1 << 16, np.int64) for half, _ in wanted}
    for keys in passed():
        halves = keys >> 16
        for half, counts in lower.items():
            counts += np.bincount(keys[halves == half] & 0xFFFF, minlength=1 << 16)
    return [_value((half << 16) | _place(lower[half], rest)[0]) for half, rest in wanted]


def accepted(
    embeddings: np.ndarray,
    identities: np.ndarray,
    limits: Sequence[float],
    *,
    block_size: int = BLOCK,
) -> np.ndarray:
    """Of each person, the pairs with somebody else whose cosine reaches a limit.

    Args:
      embeddings: [N, D] finite floats.
      identities: [N] int, from 0.
      limits: cosines.
      block_size: rows and columns of a block.

    Returns:
      int64 [limits, people]; a pair counts for either of its two.
    """
    people = int(identities.max()) + 1
    counts = np.zeros((len(limits), people), np.int64)
    for cosines, rows, columns in blocks(embeddings, identities, block_size=block_size):
        row, column = np.nonzero(cosines >= np.float32(min(limits)))
        values = cosines[row, column]
        for number, limit in enumerate(limits):
            above = values >= limit
            for ends in (rows[row[above]], columns[column[above]]):
                counts[number] += np.bincount(ends, minlength=people)
    return counts


def _unit(part: np.ndarray) -> np.ndarray:
    part = part.astype(np.float64)
    lengths = np.linalg.norm(part, axis=1, keepdims=True)
    return part / np.maximum(lengths, np.finfo(np.float64).tiny)


def _ordered(values: np.ndarray) -> np.ndarray:
    """uint32 that are in the order of the float32 values."""
    bits = values.view(np.uint32)
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))


def _value(key: int) -> np.float32:
    """The float32 of a key of `_ordered`."""
    bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return np.float32(np.array([bits], np.uint32).view(np.float32)[0])


def _place(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """In which bin the value of a rank from above is, and its rank in that bin."""
    above = np.cumsum(counts[::-1])
    number = int(np.searchsorted(above, rank))
    before = int(above[number - 1]) if number else 0
    return len(counts) - 1 - number, rank - before
