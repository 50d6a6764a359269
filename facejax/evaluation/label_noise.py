"""Images under a wrong name and people under two names, from embeddings and labels alone.

An image is compared with the center of its identity, made without the image itself, and with the
centers of all others. Pure functions on the host; the products with all centers are the exact
search of `facejax.recognition.search`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facejax.recognition.search import top_k
from facejax.recognition.thresholds import Threshold

LEAST = 3  # images of an identity, from which one of them can be told to be unlike the others
_QUERIES = 2048
_ROUNDS = 2


class Suspects(NamedTuple):
    """What speaks for and against each image's label.

    Attributes:
      own: float32 [N], cosine to the center of the other images of its identity; NaN where there is
        none.
      other: float32 [N], the highest cosine to a center of another identity; NaN where there is
        none.
      nearest: int32 [N], whose center that is; -1 where there is none.
      suspect: bool [N], whether the label is likely wrong.
      judged: bool [N], whether it could be told: the identity has at least three images, or the
        image is like another identity.
    """

    own: np.ndarray
    other: np.ndarray
    nearest: np.ndarray
    suspect: np.ndarray
    judged: np.ndarray


class SameIdentity(NamedTuple):
    """Pairs of identities that are likely one person, the most alike first.

    Attributes:
      first, second: int32 [P], first < second.
      cosine: float32 [P], of their centers.
    """

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray


def own_cosines(
    embeddings: np.ndarray, labels: np.ndarray, *, like: float
) -> tuple[np.ndarray, np.ndarray]:
    """The cosine of each image to the rest of its identity, and the identities' centers.

    A center is the mean of unit embeddings. It is made twice: the second time without the images
    that were not like the rest of their identity, so that a stranger does not draw it away.

    Args:
      embeddings: float32 [N, D] of unit length.
      labels: int [N] in [0, C).
      like: the cosine to the rest from which an image is like its identity.

    Returns:
      own: float32 [N]; NaN where there is no other image, or none that has a part in the center.
      centers: float32 [C, D] of unit length; zeros of an identity without an image.
    """
    count = int(labels.max(initial=-1)) + 1
    weights = np.ones(len(labels), np.float32)
    for _ in range(_ROUNDS):
        sums = np.zeros((count, embeddings.shape[1]), np.float32)
        np.add.at(sums, labels, embeddings * weights[:, None])
        rest = sums[labels] - embeddings * weights[:, None]
        lengths = np.linalg.norm(rest, axis=1)
        products = np.einsum("ij,ij->i", rest, embeddings)
        others = np.bincount(labels, weights, count)[labels] - weights
        alone = (others < 0.5) | (lengths < 1e-6)
        own = np.where(alone, np.nan, products / np.maximum(lengths, 1e-6)).astype(np.float32)
        centers = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
        # Where none is like the rest, all have a part.
        unlike = own < like
        some = np.bincount(labels, ~unlike, count)[labels] > 0
        weights = np.where(unlike & some, 0, 1).astype(np.float32)
    return own, centers


def suspects(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    like: float,
    found: float,
    together: Sequence[tuple[int, int]] = (),
) -> Suspects:
    """Images whose label is likely wrong.

    An image of an identity of at least three images is suspect where it is less like the rest of
    its identity than `like`. Of two images that are unlike nobody can say which is the wrong one,
    so there, and of a single image, it takes another identity that it is like: `found`, and more
    than its own.

    Args:
      embeddings: float32 [N, D] of unit length.
      labels: int [N] in [0, C).
      like: a cosine that few images of other people reach, such as that of a FAR of 1e-3.
      found: a cosine that hardly one of all other identities reaches by chance.
      together: identities that are likely one person: neither is another to the other.

    Returns:
      Suspects.
    """
    own, centers = own_cosines(embeddings, labels, like=like)
    other, nearest = _best_others(embeddings, labels, centers, together)
    sizes = np.bincount(labels, minlength=len(centers))[labels]
    enough = (sizes >= LEAST) & ~np.isnan(own)
    elsewhere = (other >= found) & (other > own) & (own < like)
    suspect = (enough & (own < like)) | elsewhere
    return Suspects(own, other, nearest, suspect, enough | elsewhere)


def same_identities(centers: np.ndarray, *, threshold: float, most: int = 8) -> SameIdentity:
    """Identities whose centers are alike.

    Args:
      centers: float32 [C, D] of unit length; zeros of an identity without an image.
      threshold: the cosine from which two are one.
      most: others of each identity that are looked at.

    Returns:
      SameIdentity.
    """
    cosines, places = _search(centers, centers, k=min(most + 1, len(centers)))
    row, column = np.nonzero(cosines >= threshold)
    pairs = np.sort(np.stack([row, places[row, column]]), axis=0)
    values = cosines[row, column]
    used = pairs[0] != pairs[1]
    pairs, once = np.unique(pairs[:, used], axis=1, return_index=True)
    values = values[used][once]
    order = np.argsort(-values, kind="stable")
    first, second = pairs[:, order].astype(np.int32)
    return SameIdentity(first, second, values[order])


def agreed(
    same: SameIdentity,
    embeddings: np.ndarray,
    labels: np.ndarray,
    centers: np.ndarray,
    *,
    like: float,
) -> SameIdentity:
    """Those pairs of identities that most images of both speak for.

    A center lies between two people where one of two images is under a wrong name, and is then like
    the center of the stranger. That is a wrong label and no second name: so more than half of the
    images of each identity must be like the center of the other.

    Args:
      same: of `same_identities`.
      embeddings: float32 [N, D] of unit length.
      labels: int [N] in [0, C).
      centers: float32 [C, D] of unit length.
      like: the cosine from which an image is like a center.

    Returns:
      Some of the pairs. Those of two images or more on either side come first, as a single image
      may as well be under a wrong name; then the most alike.
    """
    by_label = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(centers)))

    def images(identity: int) -> np.ndarray:
        return by_label[(ends[identity - 1] if identity else 0) : ends[identity]]

    def speaks(identity: int, other: int) -> bool:
        return bool(np.mean(embeddings[images(identity)] @ centers[other] >= like) > 0.5)

    pairs = list(zip(same.first.tolist(), same.second.tolist(), strict=True))
    kept = np.array([speaks(one, two) and speaks(two, one) for one, two in pairs], bool)
    single = np.array([min(len(images(one)), len(images(two))) < 2 for one, two in pairs], bool)
    (order,) = np.nonzero(kept)
    order = order[np.lexsort((-same.cosine[order], single[order]))]
    return SameIdentity(*(each[order] for each in same))


def matches(
    centers: np.ndarray, others: np.ndarray, *, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The identities of one set that are likely in another set too.

    Args:
      centers: float32 [C, D] of unit length.
      others: float32 [E, D] of unit length, E at least 1.
      threshold: the cosine from which two are one.

    Returns:
      first int32 [P], second int32 [P], the most alike of the others, and their cosines float32
      [P]; the most alike first.
    """
    cosines, places = _search(centers, others, k=1)
    (first,) = np.nonzero(cosines[:, 0] >= threshold)
    order = first[np.argsort(-cosines[first, 0], kind="stable")]
    return order.astype(np.int32), places[order, 0], cosines[order, 0]


def cosine_at(thresholds: Sequence[Threshold], far: float) -> tuple[float, bool]:
    """The cosine of a false accept rate, between calibrated ones or beyond them.

    Of most recognizers the cosine falls nearly as a straight line over the logarithm of the FAR, so
    that is what is drawn through the two nearest calibrated ones.

    Args:
      thresholds: calibrated, at least one.
      far: the wanted rate, in (0, 1).

    Returns:
      cosine: of a single threshold its own; at most 1.
      reached: whether the calibration goes that far, so that nothing is beyond it.
    """
    known = sorted(thresholds, key=lambda one: one.far)
    rates = np.log([one.far for one in known])
    wanted = float(np.log(far))
    reached = wanted >= rates[0] - 1e-9
    if len(known) == 1:
        return known[0].cosine, reached
    after = int(np.clip(np.searchsorted(rates, wanted), 1, len(known) - 1))
    low, high = known[after - 1], known[after]
    share = (wanted - rates[after - 1]) / (rates[after] - rates[after - 1])
    return min(1.0, low.cosine + float(share) * (high.cosine - low.cosine)), reached


def _best_others(
    embeddings: np.ndarray,
    labels: np.ndarray,
    centers: np.ndarray,
    together: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """The highest cosine [N] to a center that is not its own nor one's with it, and whose."""
    excluded = {(int(a), int(b)) for a, b in together}
    excluded |= {(b, a) for a, b in excluded}
    partners = np.bincount([a for a, _ in excluded], minlength=1).max() if excluded else 0
    cosines, places = _search(embeddings, centers, k=min(int(partners) + 2, len(centers)))
    # One number for each pair of identities, so that they are looked up all at once.
    pairs = labels[:, None].astype(np.int64) * len(centers) + places
    apart = np.array([a * len(centers) + b for a, b in excluded], np.int64)
    empty = np.logical_not(centers.any(axis=1))
    mine = (places == labels[:, None]) | (places < 0) | empty[places]
    mine |= np.isin(pairs, apart)
    first = np.argmin(mine, axis=1)
    none = np.take_along_axis(mine, first[:, None], 1)[:, 0]
    best = np.take_along_axis(cosines, first[:, None], 1)[:, 0]
    whose = np.take_along_axis(places, first[:, None], 1)[:, 0]
    return (
        np.where(none, np.nan, best).astype(np.float32),
        np.where(none, -1, whose).astype(np.int32),
    )


def _search(queries: np.ndarray, rows: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`top_k` of many queries, part by part: float32 [Q, k] and int32 [Q, k]."""
    parts = [
        [np.asarray(each) for each in top_k(queries[start : start + _QUERIES], rows, k=k)]
        for start in range(0, len(queries), _QUERIES)
    ]
    cosines, places = (np.concatenate(each) for each in zip(*parts, strict=True))
    return cosines, places
