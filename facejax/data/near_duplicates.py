"""Pictures that are one picture: re-encoded, resized, a little cropped, brighter, mirrored.

A picture becomes 64 numbers, its lowest frequencies. Aligned faces are all much alike, so what
counts is how a picture differs from the mean of its set: each number's bit in the hash says whether
it is above the median of the set, and two pictures are one where their numbers, standardized over
the set, correlate. Only pairs whose hashes are alike in a band of 16 bits are compared.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

SIZE = 64  # numbers of a picture, and bits of its hash
CORRELATION = 0.9  # from which two pictures are one
_SIDE = 32  # to which pictures are shrunk before their frequencies are taken
_FLAT = 2.0  # levels: a picture whose grey varies less has nothing to compare
_LACKING = 0.02  # of the largest deviation
_APART = 12  # bits: pairs whose whole hashes differ in more are not looked at
_WINDOW = 1024  # of more hashes than these in one place, only the next in order are compared
_CHUNK = 1 << 21  # pairs at a time


def _lowest_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns [64] of the DCT, by their sum, without the mean."""
    row, column = np.mgrid[:_SIDE, :_SIDE].reshape(2, -1)
    order = np.lexsort((row, row + column))[1 : SIZE + 1]
    return row[order], column[order]


_ROWS, _COLUMNS = _lowest_frequencies()
# In the mirror image the odd horizontal frequencies have the other sign, and nothing else changes.
MIRROR = np.where(_COLUMNS % 2, -1, 1).astype(np.float32)


class Near(NamedTuple):
    """Pairs of near-duplicate pictures.

    Attributes:
      first: int64 [P], numbers of pictures; sorted by (first, second).
      second: int64 [P], of the others where there are others, else larger than `first`.
      correlation: float32 [P], -1 to 1.
      mirrored: bool [P], whether the second is like the mirror image of the first.
      cut: how many times hashes were so many in one place that only some were compared.
    """

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray
    mirrored: np.ndarray
    cut: int


def describe(pixels: np.ndarray) -> np.ndarray:
    """The lowest frequencies of a picture's grey, scaled to unit length.

    Args:
      pixels: uint8 RGB [H, W, 3], of any size; it is compared as a square.

    Returns:
      float32 [64]; zeros of a picture that is flat, of one color or nearly so.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    shrink = max(grey.shape) > _SIDE
    method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=method).astype(np.float32)
    if small.std() < _FLAT:
        return np.zeros(SIZE, np.float32)
    found = cv2.dct(small)[_ROWS, _COLUMNS]
    length = float(np.linalg.norm(found))
    # What is left of a picture of high frequencies alone is rounding.
    return found / np.float32(length) if length > _FLAT else np.zeros(SIZE, np.float32)


def find(
    pictures: np.ndarray,
    others: np.ndarray | None = None,
    *,
    correlation: float = CORRELATION,
    bands: int = 4,
) -> Near:
    """The pairs of near-duplicates among pictures, or between them and others.

    A hash of 64 bits is cut into bands, and pairs are compared that differ in at most one bit of
    some band: all pairs that differ in fewer than 2 `bands` bits are among them. Time grows with
    the square of the number of pictures, but 500 times slower than with all pairs, for 4 bands of
    16 bits; with 3 bands, for tens of millions of pictures, some 10,000 times slower, and a little
    less is found.

    Args:
      pictures: float32 [N, 64], of `describe`; flat ones, all zeros, have no duplicates.
      others: float32 [M, 64], of `describe`.
      correlation: from which two pictures are one, up to 1.
      bands: of the hash, 3 to 16.

    Returns:
      Near. What identical pictures give depends on rounding: leave out all but one of them.
    """
    told = np.concatenate([pictures, others]) if others is not None else pictures
    used = told[told.any(axis=1)]
    if len(used) < 2:
        return _joined([], 0)
    mean, deviation = used.mean(axis=0), used.std(axis=0)
    # A frequency that the set lacks is rounding: it has no bit, and little weight.
    least = _LACKING * deviation.max()
    middle = np.where(deviation > least, np.median(used, axis=0), np.inf)
    deviation = np.maximum(deviation, max(least, 1e-6))
    mine = np.flatnonzero(pictures.any(axis=1))
    theirs = mine if others is None else np.flatnonzero(others.any(axis=1))
    table = pictures if others is None else others

    def standard(rows: np.ndarray) -> np.ndarray:
        centered = (rows - mean) / deviation
        return centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)

    target, hashes = standard(table[theirs]), _hashes(table[theirs], middle)
    found = []
    cut = 0
    for mirrored in (False, True):
        own = pictures[mine] * MIRROR if mirrored else pictures[mine]
        rows, alone = standard(own), others is None and not mirrored
        close = close_pairs(_hashes(own, middle), None if alone else hashes, bands=bands)
        for first, second, missed in close:
            cut += missed
            if others is None and mirrored:  # (i, mirrored j) is (j, mirrored i)
                once = first < second
                first, second = first[once], second[once]
            cosine = np.einsum("ij,ij->i", rows[first], target[second])
            kept = cosine >= correlation
            found.append(
                (
                    mine[first[kept]],
                    theirs[second[kept]],
                    cosine[kept],
                    np.repeat(mirrored, kept.sum()),
                )
            )
    return _joined(found, cut)


def close_pairs(
    hashes: np.ndarray,
    others: np.ndarray | None = None,
    *,
    bands: int = 4,
    apart: int = _APART,
    window: int = _WINDOW,
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Pairs of hashes that differ in at most one bit of some band.

    Args:
      hashes: uint64 [N].
      others: uint64 [M]; None pairs the hashes with each other, each pair once.
      bands: 3 to 16.
      apart: pairs that differ in more bits than these are left out.
      window: of more hashes than these with the same band, only so many next in order are compared,
        so that time and memory grow with N, not its square, where very many are alike.

    Yields:
      first int64 [p] and second int64 [p], the larger one where there are no others; and how many
      hashes met more than a window. A pair may come up to `bands` times.
    """
    if not 3 <= bands <= 16:
        raise ValueError(f"bands is {bands}, and must be 3 to 16")
    edges = np.linspace(0, 64, bands + 1).astype(int).tolist()
    for low, high in itertools.pairwise(edges):
        shift = np.uint64(64 - (high - low))
        asking, ask_order = _sorted(hashes, low)
        table, order = (asking, ask_order) if others is None else _sorted(others, low)
        held = np.bincount((table >> shift).astype(np.int64), minlength=1 << (high - low))
        starts = np.concatenate([[0], np.cumsum(held)])
        for flip in (0, *(1 << bit for bit in range(int(shift), 64))):
            chosen = np.arange(len(asking))
            if others is None and flip:  # of two that differ in this bit, the one without it asks
                chosen = np.flatnonzero(asking & np.uint64(flip) == 0)
            wanted = asking[chosen] ^ np.uint64(flip)
            place = (wanted >> shift).astype(np.int64)
            begin, end = starts[place], starts[place + 1]
            if others is None and not flip:
                begin = chosen + 1
            (many,) = np.nonzero(end - begin > window)
            if len(many):
                nearest = np.searchsorted(table, wanted[many]) - window // 2
                begin[many] = np.clip(nearest, begin[many], end[many] - window)
                end[many] = begin[many] + window
            cut = len(many)
            for rows, columns in _ranges(begin, end):
                differing = np.bitwise_count(asking[chosen][rows] ^ table[columns])
                kept = differing <= apart
                first, second = ask_order[chosen[rows[kept]]], order[columns[kept]]
                if others is None:
                    first, second = np.minimum(first, second), np.maximum(first, second)
                yield first, second, cut
                cut = 0


def _ranges(begin: np.ndarray, end: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(i, j) for all begin[i] <= j < end[i], some two million at a time."""
    (rows,) = np.nonzero(end > begin)
    begin, counts = begin[rows], (end - begin)[rows]
    ends = np.cumsum(counts)
    first = 0
    while first < len(rows):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        part = counts[first:last]
        shift = begin[first:last] - (ends[first:last] - part - before)
        columns = np.arange(int(part.sum())) + np.repeat(shift, part)
        yield np.repeat(rows[first:last], part), columns
        first = last


def _hashes(pictures: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """uint64 [N] of float32 [N, 64]: a bit says whether a number is above the middle one."""
    return np.packbits(pictures > middle, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _sorted(hashes: np.ndarray, low: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes, turned so that the band at `low` comes first, in order; and which they are."""
    turned = (hashes << np.uint64(low)) | (hashes >> np.uint64(64 - low)) if low else hashes
    order = np.argsort(turned, kind="stable")
    return turned[order], order


def _joined(found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], cut: int) -> Near:
    """Each pair once, as what it is most like."""
    if not found:
        nothing = np.zeros(0, np.int64)
        return Near(nothing, nothing, np.zeros(0, np.float32), np.zeros(0, bool), cut)
    first, second, correlation, mirrored = (
        np.concatenate(part) for part in zip(*found, strict=True)
    )
    order = np.lexsort((mirrored, -correlation, second, first))
    first, second = first[order], second[order]
    once = np.ones(len(first), bool)
    once[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    rows = order[once]
    return Near(
        first[once], second[once], correlation[rows].astype(np.float32), mirrored[rows], cut
    )
