"""What is wrong with a set of faces: unreadable images, duplicates, wrong labels, shared people."""

import dataclasses
import unicodedata
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facejax.data import near_duplicates
from facejax.data.near_duplicates import Near
from facejax.data.sources import Source
from facejax.evaluation import label_noise
from facejax.evaluation.inspection import Inspection, inspect
from facejax.evaluation.judgement import Judgement, judge
from facejax.recognition.recognizer import Recognizer

TINY = 32  # pixels
_MANY = 2_000_000  # pictures from which the search for near-duplicates takes three bands


class Duplicates(NamedTuple):
    """Images that are one picture.

    Attributes:
      exact: groups of images with the same pixels, each in rising order; most of one file.
      near: pairs of near-duplicates; of each group above only the first image takes part.
      group: int32 [N], equal for images that are one picture by either; -1 of flat images, and of
        those that can't be read.
    """

    exact: tuple[tuple[int, ...], ...]
    near: Near
    group: np.ndarray


class Leak(NamedTuple):
    """What a set shares with another one, the test set.

    Attributes:
      other: what was found in the other one.
      names: pairs of identities with one name, whatever the case of its letters.
      exact: pairs of images with the same pixels.
      near: pairs of near-duplicates that are not among them.
      people: (identity, identity of the other, cosine of their centers), the most alike first;
        None without embeddings.
    """

    other: Inspection
    names: tuple[tuple[int, int], ...]
    exact: tuple[tuple[int, int], ...]
    near: Near
    people: tuple[tuple[int, int, float], ...] | None


@dataclasses.dataclass(frozen=True)
class Audit:
    """All that was found; images and identities by their numbers.

    Attributes:
      inspection: what one pass over the images gave.
      counts: int64 [C], images per identity.
      gaps: labels that no image has.
      tiny: images with a side shorter than `smallest`.
      smallest: in pixels.
      not_square: images with other than equal sides.
      duplicates: images that are one picture.
      judgement: of the labels; None without a recognizer.
      leak: what is shared with another set; None where none was given.
    """

    inspection: Inspection
    counts: np.ndarray
    gaps: np.ndarray
    tiny: np.ndarray
    smallest: int
    not_square: np.ndarray
    duplicates: Duplicates
    judgement: Judgement | None
    leak: Leak | None


class Clean(NamedTuple):
    """Which images to train on.

    Attributes:
      kept: int64 [K], rising.
      dropped: of each reason, the images; each image has one reason.
    """

    kept: np.ndarray
    dropped: dict[str, np.ndarray]


def audit(
    source: Source,
    *,
    against: Source | None = None,
    recognizer: Recognizer | None = None,
    smallest: int = TINY,
    correlation: float = near_duplicates.CORRELATION,
    own_threshold: float | None = None,
    other_threshold: float | None = None,
    same_threshold: float | None = None,
    progress: bool = False,
) -> Audit:
    """Looks for what is wrong with a set of faces.

    The thresholds that are left out come from the recognizer's calibrated ones; where it has none,
    from all pairs of different labels in the set itself (of 10,000 images drawn from it), which
    wrong labels and duplicates among them make too high. `own_threshold` is the cosine of a false
    accept rate (FAR) of 1e-3, `other_threshold` of 1 / identities, and `same_threshold` of one in
    all pairs of identities; where the calibration does not go so far, the line through its last two
    cosines over the logarithm of the FAR does.

    Args:
      source: to be looked at; it is read once.
      against: the test set.
      recognizer: what embeds the images; None leaves labels unjudged.
      smallest: side in pixels of the smallest image that is not tiny; tiny ones are not embedded.
      correlation: from which two pictures are near-duplicates.
      own_threshold: images less like the rest of their identity are suspect.
      other_threshold: from which an image is like another identity.
      same_threshold: from which two identities are one person.
      progress: show a progress bar on stderr.

    Raises:
      UserError: the recognizer takes faces that are aligned otherwise, or the set can't calibrate
        one that has no thresholds.
    """
    inspection = inspect(source, recognizer=recognizer, least=smallest, progress=progress)
    counts = np.bincount(inspection.labels, minlength=len(inspection.names))
    height, width = inspection.sizes.T
    duplicates = _duplicates(inspection, correlation)
    judgement = None
    if recognizer is not None and len(inspection.embedded):
        given = (own_threshold, other_threshold, same_threshold)
        judgement = judge(inspection, recognizer, duplicates.group, given)
    leak = None
    if against is not None:
        other = inspect(against, recognizer=recognizer, least=smallest, progress=progress)
        leak = _leak(inspection, other, correlation, judgement)
    return Audit(
        inspection,
        counts,
        np.flatnonzero(counts == 0),
        np.flatnonzero(inspection.readable & (np.minimum(height, width) < smallest)),
        smallest,
        np.flatnonzero(inspection.readable & (height != width)),
        duplicates,
        judgement,
        leak,
    )


def clean(found: Audit) -> Clean:
    """Which images to train on: no unreadable, flat or suspect one, and each picture once.

    Of one picture that image stays whose label is likeliest: the one most like its identity, else
    that of the larger identity; of one identity, the largest image, else the first. Where more than
    half of the labels are suspect, it is the recognizer that is wrong, and suspects stay.

    Args:
      found: of `audit`.
    """
    inspection = found.inspection
    reason = np.full(len(inspection.ids), "", "U16")
    if found.judgement is not None and found.judgement.trusted:
        reason[found.judgement.suspects.suspect] = "wrong label"
    reason[inspection.flat] = "flat"
    reason[~inspection.readable] = "unreadable"
    left = np.flatnonzero((reason == "") & (found.duplicates.group >= 0))
    own = np.zeros(len(inspection.ids), np.float32)
    if found.judgement is not None:
        own = np.nan_to_num(found.judgement.suspects.own, nan=-1)
    area = inspection.sizes.astype(np.int64).prod(axis=1)
    sizes = found.counts[inspection.labels]
    order = left[np.lexsort((left, -area[left], -sizes[left], -own[left]))]
    # In this order, the first image of each picture is the one that stays.
    _, first = np.unique(found.duplicates.group[order], return_index=True)
    surplus = np.ones(len(order), bool)
    surplus[first] = False
    reason[order[surplus]] = "duplicate"
    dropped = {
        word: np.flatnonzero(reason == word)
        for word in ("unreadable", "flat", "wrong label", "duplicate")
    }
    return Clean(np.flatnonzero(reason == ""), dropped)


def _duplicates(inspection: Inspection, correlation: float) -> Duplicates:
    seen = np.flatnonzero(inspection.pictures.any(axis=1))  # flat images are all alike
    _, first, same = np.unique(inspection.pixels[seen], return_index=True, return_inverse=True)
    order = np.argsort(same, kind="stable")
    parts = np.split(seen[order], np.flatnonzero(np.diff(same[order])) + 1)
    exact = sorted(tuple(part.tolist()) for part in parts if len(part) > 1)
    once = np.sort(seen[first])
    bands = 4 if len(once) <= _MANY else 3
    near = near_duplicates.find(inspection.pictures[once], correlation=correlation, bands=bands)
    near = near._replace(first=once[near.first], second=once[near.second])
    group = np.full(len(inspection.ids), -1, np.int32)
    starts, ends = near.first, near.second
    for images in exact:
        starts = np.append(starts, np.repeat(images[0], len(images) - 1))
        ends = np.append(ends, images[1:])
    edges = coo_array((np.ones(len(starts), bool), (starts, ends)), (len(group), len(group)))
    group[seen] = connected_components(edges, directed=False)[1][seen]
    return Duplicates(tuple(exact), near, group)


def _leak(
    mine: Inspection, other: Inspection, correlation: float, judgement: Judgement | None
) -> Leak:
    theirs = {_plain(name): number for number, name in enumerate(other.names)}
    names = tuple(
        (number, theirs[_plain(name)])
        for number, name in enumerate(mine.names)
        if _plain(name) in theirs
    )
    seen: dict[bytes, list[int]] = {}
    for number in np.flatnonzero(other.readable).tolist():
        seen.setdefault(other.pixels[number].tobytes(), []).append(number)
    exact = tuple(
        (number, twin)
        for number in np.flatnonzero(mine.readable).tolist()
        for twin in seen.get(mine.pixels[number].tobytes(), ())
    )
    near = near_duplicates.find(mine.pictures, other.pictures, correlation=correlation)
    known = set(exact)
    new = np.array(
        [pair not in known for pair in zip(near.first.tolist(), near.second.tolist(), strict=True)],
        bool,
    )
    near = Near(
        near.first[new], near.second[new], near.correlation[new], near.mirrored[new], near.cut
    )
    people = None
    if judgement is not None and len(other.embedded):
        assert other.embeddings is not None
        rows, labels = other.embeddings[other.embedded], other.labels[other.embedded]
        centers = label_noise.own_cosines(rows, labels, like=judgement.own_threshold)[1]
        first, second, cosines = label_noise.matches(
            judgement.centers, centers, threshold=judgement.same_threshold
        )
        people = tuple(zip(first.tolist(), second.tolist(), cosines.tolist(), strict=True))
    return Leak(other, names, exact, near, people)


def _plain(name: str) -> str:
    """A name without the differences that no person means."""
    return unicodedata.normalize("NFKC", name).casefold().replace("_", " ").strip()
