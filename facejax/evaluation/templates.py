"""Templates: a person's images pooled into one vector, and many pairs of templates compared.

A template is the sum of the means of its media (a video is one medium, a photo another), scaled to
length 1. That is a weighted sum of its images, with weights that are known before any of them has
been embedded; so the embeddings may come in blocks, and only the templates are held.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from facejax.errors import UserError
from facejax.evaluation.verification import TarAtFar, format_far

Embeddings = np.ndarray | Iterable[np.ndarray]  # [M, D], or blocks [m, D] of it in order

IJB_FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_IMAGES = 8192  # of an array are pooled at a time
_PRODUCTS = 1 << 23  # at a time, 32 MiB
_PAIRS = 8192  # that are gathered at a time
_WORTH = 16  # so many products cost what one gathered pair does: 58 ns and 1.9 us, measured
_FEW = 100  # false accepts, below which a rate says little
_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


class PairScores(NamedTuple):
    """What the scores of many pairs say."""

    auc: float
    tars: tuple[TarAtFar, ...]  # `low` and `high` are None until intervals are asked for
    same: int  # pairs of the same person
    different: int


def pool(
    embeddings: Embeddings,
    images: np.ndarray,
    templates: np.ndarray,
    media: np.ndarray,
    *,
    image_weights: np.ndarray | None = None,
    norm_weighting: bool = True,
) -> np.ndarray:
    """Templates from the embeddings of images, each of which is looked at once.

    The mean over a template's images of one medium, then the sum over its media, at length 1. (The
    mean over its media would be the same vector.) Image m counts by
    image_weights[m] * |embedding m|, or without the norm. Every image is one step of a product
    with a sparse matrix; no loop runs over templates.

    Args:
      embeddings: floats [M, D], or an iterable of blocks [m, D], in the order of the images. With
        the flip test they are those of both images together already.
      images: [R] integers in [0, M), each of which belongs
      templates: [R] integers from 0, to this template, and is of
      media: [R] integers, this medium (equal numbers in two templates are two media).
      image_weights: [M] floats, such as detection scores; None for 1.
      norm_weighting: whether embeddings keep their norm, which often tells good images from bad
        ones; they are made unit vectors first if not. Unit vectors have nothing to keep.

    Returns:
      float32 [T, D] unit rows, T being the largest template's number and one more; accumulated in
      float32. A template whose sum is zero is a row of zeros.

    Raises:
      UserError: there are more or fewer embeddings than images, or one is not finite.
      ValueError: arrays that don't fit each other.
    """
    images, templates, media = (np.asarray(array) for array in (images, templates, media))
    if not images.shape == templates.shape == media.shape == (len(images),) or not len(images):
        raise ValueError(
            "images, templates and media must be [R] each with R of one at least, not "
            f"{images.shape}, {templates.shape} and {media.shape}"
        )
    count = int(images.max()) + 1 if image_weights is None else len(image_weights)
    if min(images.min(), templates.min()) < 0 or images.max() >= count:
        raise ValueError(f"images must be in [0, {count}), and templates from 0")
    weights = 1 / _sizes(templates, media)
    if image_weights is not None:
        weights *= np.asarray(image_weights, np.float64)[images]
    matrix = sparse.csc_array(
        (weights.astype(np.float32), (templates, images)), shape=(int(templates.max()) + 1, count)
    )
    pooled: np.ndarray | None = None
    start = broken = 0
    for block in _blocks(embeddings):
        if pooled is None:
            pooled = np.zeros((matrix.shape[0], block.shape[1]), np.float32)
        stop = start + len(block)
        if stop > count:
            raise UserError(
                f"there are more embeddings than the {count} images of the protocol: embed those "
                "and in their order"
            )
        broken += int((~np.isfinite(block).all(axis=1)).sum())
        if not broken:
            _add(pooled, matrix[:, start:stop], block if norm_weighting else unit(block))
        start = stop
    if start != count or pooled is None:
        raise UserError(
            f"there are {start} embeddings for the {count} images of the protocol: embed all of "
            "them, in their order"
        )
    if broken:
        raise UserError(
            f"{broken} of {count} embeddings are not finite: the network has diverged, so evaluate "
            "an earlier checkpoint or train with a smaller learning rate"
        )
    return unit(pooled)


def pair_scores(templates: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The inner products of many pairs of rows; of unit rows, cosines.

    Where the pairs are a good part of all there are between their first and their second rows, as
    in IJB (a quarter), these are multiplied as matrices, block by block, and the pairs picked out;
    elsewhere the rows of each pair are gathered. Besides the result, 4 bytes a pair, it takes 8
    bytes a pair to sort them where they are not in order, a copy of the second rows, and a block.

    Args:
      templates: float32 [T, D].
      pairs: integers [N, 2] in [0, T).

    Returns:
      float32 [N].
    """
    first, second = np.asarray(pairs).T
    used = [np.bincount(side, minlength=len(templates)) > 0 for side in (first, second)]
    rows, columns = (np.flatnonzero(side) for side in used)
    scores = np.empty(len(pairs), np.float32)
    if len(rows) * len(columns) > _WORTH * len(pairs):
        for start in range(0, len(pairs), _PAIRS):
            some = slice(start, start + _PAIRS)
            scores[some] = np.einsum("ij,ij->i", templates[first[some]], templates[second[some]])
        return scores
    row, column = (np.cumsum(side, dtype=np.int32) - 1 for side in used)  # of a template
    # 16 bits are sorted by their digits, in a quarter of the time.
    short = first.astype(np.uint16) if len(templates) <= 1 << 16 else first
    order = None if (short[1:] >= short[:-1]).all() else np.argsort(short, kind="stable")
    others = templates[columns].T
    ends = np.cumsum(np.bincount(first, minlength=len(templates)))[rows]
    step = max(_PRODUCTS // max(len(columns), 1), 1)
    begin = 0
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        end = int(ends[min(start + step, len(rows)) - 1])
        chosen: Any = slice(begin, end) if order is None else order[begin:end]
        products = templates[part] @ others
        scores[chosen] = products[row[first[chosen]] - start, column[second[chosen]]]
        begin = end
    return scores


def judge_pairs(
    scores: np.ndarray, same: np.ndarray, *, fars: Sequence[float] = IJB_FARS
) -> PairScores:
    """The area under the ROC, and TARs, of many pairs; exact, ties included.

    The scores of different pairs are sorted once, in the type they have, which takes one copy of
    them; those of the same pairs are looked up in them. For 15.7 million float32 scores that is
    63 MB beside the scores' own 63.

    Args:
      scores: [N] finite floats.
      same: [N] bool, with both kinds among them.
      fars: the false accept rates at which TAR is wanted, in (0, 1].

    Returns:
      PairScores, as `tar_at_far` and `roc_auc` define them. A TAR that rests on fewer than 100
      false accepts has a `note` that says so.

    Raises:
      ValueError: on wrong shapes, a score that is not finite, or pairs of one kind only.
    """
    scores, same = np.asarray(scores), np.asarray(same)
    if scores.ndim != 1 or same.shape != scores.shape or same.dtype != np.bool_:
        raise ValueError(f"scores {scores.shape} and bool same {same.shape} must be [N] both")
    positives, negatives = np.sort(scores[same]), scores[~same]
    if not len(positives) or not len(negatives):
        raise ValueError("at least one same and one different pair are needed")
    negatives.sort()
    if not np.isfinite(np.concatenate([positives[[0, -1]], negatives[[0, -1]]])).all():
        raise ValueError("some scores are not finite")
    # Negatives below a positive, and those that tie with it, which count half.
    below = int(np.searchsorted(negatives, positives, side="left").sum())
    upto = int(np.searchsorted(negatives, positives, side="right").sum())
    auc = (below + upto) / 2 / (len(positives) * len(negatives))
    tars = tuple(_tar(positives, negatives, far) for far in fars)
    return PairScores(auc, tars, len(positives), len(negatives))


def roc_corners(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points of the exact ROC at which its TAR rises: all that is to be drawn of it.

    Args:
      scores: [N] finite floats.
      same: [N] bool, with both kinds among them.

    Returns:
      false_accept_rates: [P] rising, P being the number of distinct scores of same pairs.
      true_accept_rates: [P] rising to 1.
      thresholds: [P] falling; a pair is accepted iff its score >= the threshold.
    """
    positives, counts = np.unique(scores[same], return_counts=True)
    negatives = np.sort(scores[~same])
    refused = np.searchsorted(negatives, positives, side="left")
    far = (len(negatives) - refused) / len(negatives)
    tar = np.cumsum(counts[::-1]) / counts.sum()
    return far[::-1], tar, positives[::-1]


def first_refused(negatives: np.ndarray, rate: float) -> tuple[int, float | None]:
    """How many negatives a rate allows to be accepted, and the largest of those it does not.

    What is accepted at the smallest threshold that keeps the rate is all that is above this score:
    a negative that ties with it would bring in one too many.

    Args:
      negatives: [N] scores, rising.
      rate: in (0, 1].

    Returns:
      allowed: floor(rate * N).
      score: of the (allowed + 1)th largest; None where all are allowed.

    Raises:
      ValueError: the rate is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise ValueError(f"a rate is {rate}, and must be in (0, 1]")
    allowed = int(np.floor(rate * len(negatives) + _ROUNDING))
    return allowed, None if allowed >= len(negatives) else float(negatives[-1 - allowed])


def just_above(negatives: np.ndarray, refused: float | None) -> float:
    """The smallest threshold, in the scores' own type, that refuses this score; -inf for None.

    Args:
      negatives: scores.
      refused: as `first_refused` gives it.
    """
    kind = negatives.dtype.type
    return -np.inf if refused is None else float(np.nextafter(kind(refused), kind(np.inf)))


def few_note(name: str, rate: float, negatives: np.ndarray, refused: float | None) -> str:
    """What is to be said of a rate that rests on too few negatives; "" if nothing is.

    Args:
      name: of the rate, such as "FAR".
      rate: in (0, 1].
      negatives: [N] scores, rising.
      refused: as `first_refused` gives it.
    """
    needed = int(np.ceil(1 / rate - _ROUNDING))
    if len(negatives) < needed:
        return (
            f"too few negatives for {name} {format_far(rate)}: need {needed}, have {len(negatives)}"
        )
    count = len(negatives) - np.searchsorted(
        negatives, -np.inf if refused is None else refused, side="right"
    )
    if count >= _FEW:
        return ""
    return f"{name} {format_far(rate)} rests on {count} false accepts, fewer than {_FEW}"


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows [..., D] scaled to length 1, as float32; a row of zeros stays one.

    Args:
      rows: floats.
    """
    rows = np.asarray(rows, np.float32)
    # By the largest magnitude first, so that no square is 0 or infinite.
    rows = rows / np.maximum(np.abs(rows).max(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    norms = np.sqrt(np.einsum("...d,...d->...", rows, rows))[..., None]
    return rows / np.where(norms > 0, norms, 1)


def _blocks(embeddings: Embeddings) -> Iterator[np.ndarray]:
    """float32 blocks [m, D]."""
    if isinstance(embeddings, np.ndarray):
        array = embeddings  # perhaps a memory map, of which a block is read at a time
        embeddings = (array[i : i + _IMAGES] for i in range(0, len(array), _IMAGES))
    width = None
    for block in embeddings:
        if np.ndim(block) != 2 or np.shape(block)[1] != (width or np.shape(block)[1]):
            raise ValueError(f"embeddings must be [M, D], and a block of them is {np.shape(block)}")
        width = np.shape(block)[1]
        yield np.asarray(block, np.float32)


def _sizes(templates: np.ndarray, media: np.ndarray) -> np.ndarray:
    """[R], for each image how many there are of its medium in its template."""
    order = np.lexsort((media, templates))
    changed = (np.diff(templates[order]) != 0) | (np.diff(media[order]) != 0)
    segments = np.concatenate([[0], np.cumsum(changed)])
    sizes = np.empty(len(order), np.int64)
    sizes[order] = np.bincount(segments)[segments]
    return sizes


def _add(pooled: np.ndarray, weights: sparse.csc_array, block: np.ndarray) -> None:
    """Adds the product, of which only the rows that the block's images belong to are made."""
    rows, places = np.unique(weights.indices, return_inverse=True)
    part = sparse.csc_array(
        (weights.data, places, weights.indptr), shape=(len(rows), weights.shape[1])
    )
    pooled[rows] += part @ block


def _tar(positives: np.ndarray, negatives: np.ndarray, far: float) -> TarAtFar:
    """Of scores that rise."""
    allowed, refused = first_refused(negatives, far)
    note = few_note("FAR", far, negatives, refused)
    if not allowed:
        return TarAtFar(far, None, None, None, None, None, note)
    accepted, false_accepts = (
        len(scores) - int(np.searchsorted(scores, refused, side="right")) if refused is not None
        else len(scores)
        for scores in (positives, negatives)
    )  # fmt: skip
    return TarAtFar(
        far,
        accepted / len(positives),
        None,
        None,
        just_above(negatives, refused),
        false_accepts / len(negatives),
        note,
        false_accepts,
    )
