"""Calibration: from which cosine on two faces are one person's, for a wanted false accept rate.

A pair is accepted iff its cosine >= the threshold. The threshold of a FAR is the smallest that
accepts at most this share of the pairs of different people, of which there must be enough for ten
false accepts: a FAR that needs more pairs gets no threshold. Calibrate on other people than those
whose FAR is then reported.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tqdm

from facejax import files
from facejax.data.folder import few, list_folder, refuse_what_cannot_be_learned
from facejax.errors import UserError
from facejax.evaluation import impostors
from facejax.evaluation.bounds import upper_bound
from facejax.evaluation.verification import format_far
from facejax.recognition.detection import Detector
from facejax.recognition.faces import iter_faces
from facejax.recognition.photos import Photo, expand, read_ahead
from facejax.recognition.recognizer import Recognizer
from facejax.recognition.stored_thresholds import write_thresholds
from facejax.recognition.thresholds import Threshold

FARS = (1e-2, 1e-3, 1e-4, 1e-5)
LEAST_ACCEPTS = 10  # of different people, else a FAR has no threshold


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What a folder gave: a sequence of its thresholds, FARs falling.

    Attributes:
      thresholds: one for each FAR that its pairs support.
      refused: a sentence for each FAR that they don't.
      faces: how many were used.
      people: whose they are.
      skipped: (source, reason) of each photo that was not used, and of names passed over.
      path: where the thresholds are kept; None where they are not.
    """

    thresholds: tuple[Threshold, ...]
    refused: tuple[str, ...]
    faces: int
    people: int
    skipped: tuple[tuple[str, str], ...]
    path: pathlib.Path | None

    def __len__(self) -> int:
        return len(self.thresholds)

    def __iter__(self) -> Iterator[Threshold]:
        return iter(self.thresholds)

    def __getitem__(self, number: int) -> Threshold:
        return self.thresholds[number]


def calibrate_folder(
    folder: str | pathlib.Path,
    recognizer: Recognizer,
    *,
    fars: Sequence[float] = FARS,
    aligned: bool | None = None,
    detector: Detector | None = None,
    batch_size: int = 32,
    keep: bool = True,
    data: str = "",
    progress: bool = False,
) -> Calibration:
    """Calibrates a recognizer on a folder that has a folder of images for each person.

    A person must not have two folders: every pair of them would count as two people who look alike.
    A photo with no face or with several is skipped, for nobody says which one is meant.

    Args:
      folder: with `Name/image`.
      recognizer: to be calibrated, with the flip of its card.
      fars: the wanted false accept rates, in (0, 1).
      aligned: whether the images are crops that are aligned to the recognizer's card, and embedded
        as they are; else faces are found in them. None takes them for crops where the first one
        that can be read has the card's size.
      detector: what finds the faces; None is YuNet.
      batch_size: faces that are embedded at a time.
      keep: whether the thresholds are written where the recognizer looks for its own,
        `recognizer.thresholds_path`, in place of those that are there.
      data: where the images come from, in words; the number of faces, of people and the folder's
        name, if it is empty.
      progress: show a progress bar on stderr.

    Returns:
      Calibration.

    Raises:
      UserError: the folder can't be read or has no two people, no image in it can be used, its
        pairs support none of the FARs, no detector is installed, or the thresholds can't be kept.
      ValueError: a FAR is outside of (0, 1).
    """
    path = files.expand(folder)
    listing = list_folder(path)
    refuse_what_cannot_be_learned(path, listing)
    images = [path / name / image for name, inside in listing.images.items() for image in inside]
    names = np.array([image.parent.name for image in images])
    if aligned is None:
        aligned = _has_crops(images, recognizer)
    if aligned:
        found = _of_crops(images, recognizer, batch_size)
    else:
        found = _of_photos(images, recognizer, detector, batch_size)
    bar = tqdm.tqdm(found, "embedding", len(images), unit=" images", disable=not progress)
    skipped = [(str(path), f"passed over: {clause}") for clause in listing.passed_over()]
    numbers: list[int] = []
    parts: list[np.ndarray] = []
    for number, outcome in enumerate(bar):
        if isinstance(outcome, str):
            skipped.append((str(images[number]), outcome))
        else:
            numbers.append(number)
            parts.append(outcome)
    if not parts:
        reasons = few([f"{source}: {reason}" for source, reason in skipped])
        raise UserError(f"no image in {path} can be used ({reasons}): give others")
    people = np.unique(names[numbers])
    said = data or f"{len(parts)} faces of {len(people)} people in {path.resolve().name}"
    thresholds = calibrate(np.stack(parts), names[numbers], fars=fars, data=said)
    pairs = impostors.count(np.unique(names[numbers], return_inverse=True)[1])
    supported = {one.far for one in thresholds}
    refused = tuple(
        too_few(pairs, far) for far in sorted(set(fars), reverse=True) if far not in supported
    )
    if not thresholds:
        raise UserError(f"{path} can't calibrate a recognizer: {refused[0]}; add people")
    if keep:
        write_thresholds(recognizer.thresholds_path, thresholds, card=recognizer.card)
    return Calibration(
        thresholds,
        refused,
        len(parts),
        len(people),
        tuple(skipped),
        recognizer.thresholds_path if keep else None,
    )


def calibrate(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    fars: Sequence[float] = FARS,
    data: str = "",
) -> tuple[Threshold, ...]:
    """Thresholds from all pairs of different people among labelled embeddings.

    The pairs are gone through in blocks, three times; memory follows neither their number nor that
    of the false accepts. Cosines are computed in float64 and rounded to float32, as galleries
    compare them, and their order statistics are exact. `upper_bound` says how far the FAR of other
    people at the same threshold may lie above the wanted one.

    Args:
      embeddings: [N, D] floats, of any length.
      labels: [N], who each one is: whole numbers or names.
      fars: the wanted false accept rates, in (0, 1).
      data: where the embeddings come from, in words.

    Returns:
      A threshold for each FAR that the pairs support, FARs falling; none for the others.

    Raises:
      UserError: an embedding is not finite, or all are of one person.
      ValueError: on wrong shapes, or a FAR outside of (0, 1).
    """
    embeddings, labels = np.asarray(embeddings), np.asarray(labels)
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"embeddings [N, D] and labels [N] are wanted, not {embeddings.shape} and "
            f"{labels.shape}"
        )
    broken = sum(not np.isfinite(row).all() for row in embeddings)
    if broken:
        raise UserError(
            f"{broken} of {len(embeddings)} embeddings are not finite: leave them out, or take a "
            "recognizer that has not diverged"
        )
    people, identities = np.unique(labels, return_inverse=True)
    if len(people) < 2:
        raise UserError("pairs of different people are needed, and all faces are of one: add some")
    pairs = impostors.count(identities)
    supported = _supported(fars, pairs)
    if not supported:
        return ()
    blocking = impostors.largest(
        embeddings, identities, [allowed + 1 for allowed in supported.values()]
    )
    limits = [float(np.nextafter(value, np.float32(np.inf))) for value in blocking]
    counts = impostors.accepted(embeddings, identities, limits)
    sizes = np.bincount(identities)
    theirs = sizes * (len(labels) - sizes)
    return tuple(
        Threshold(far, limit, upper_bound(accepted, theirs), pairs, data)
        for far, limit, accepted in zip(supported, limits, counts, strict=True)
    )


def calibrate_scores(
    scores: np.ndarray,
    same: np.ndarray,
    *,
    fars: Sequence[float] = FARS,
    identities: np.ndarray | None = None,
    data: str = "",
) -> tuple[Threshold, ...]:
    """Thresholds from the scores of pairs, as a pair file lists them.

    Args:
      scores: [N] finite floats; of embeddings, `facejax.evaluation.cosines` has them.
      same: [N] bool; only pairs of different people count.
      fars: the wanted false accept rates, in (0, 1).
      identities: [N, 2] whole numbers, who the two of each pair are. None takes the pairs as
        independent, and `upper_bound` is too low where they share people.
      data: where the pairs come from, in words.

    Returns:
      As `calibrate`.

    Raises:
      UserError: a score is not finite, or there is no pair of different people.
      ValueError: on wrong shapes, or a FAR outside of (0, 1).
    """
    scores, same = np.asarray(scores), np.asarray(same)
    if same.dtype != np.bool_ or scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(
            f"scores [N] floats and same [N] booleans are wanted, not {scores.shape} and "
            f"{same.dtype} {same.shape}"
        )
    if identities is not None and np.shape(identities) != (len(scores), 2):
        raise ValueError(
            f"identities [{len(scores)}, 2] are wanted, two of each pair, not "
            f"{np.shape(identities)}"
        )
    if not np.isfinite(scores).all():
        raise UserError(
            f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite: leave those "
            "pairs out, or take a recognizer that has not diverged"
        )
    negatives = scores[~same]
    if not len(negatives):
        raise UserError("pairs of different people are needed, and there are none: add some")
    if identities is None:  # two people who are in no other pair
        ends = np.arange(2 * len(negatives)).reshape(-1, 2)
    else:
        ends = np.unique(np.asarray(identities)[~same], return_inverse=True)[1].reshape(-1, 2)
    falling = np.sort(negatives)[::-1]
    people = int(ends.max()) + 1
    theirs = np.bincount(ends.ravel(), minlength=people)
    thresholds = []
    for far, allowed in _supported(fars, len(negatives)).items():
        limit = np.nextafter(falling[allowed], np.asarray(np.inf, falling.dtype))
        accepted = np.bincount(ends[negatives >= limit].ravel(), minlength=people)
        bound = upper_bound(accepted, theirs)
        thresholds.append(Threshold(far, float(limit), bound, len(negatives), data))
    return tuple(thresholds)


def too_few(pairs: int, far: float) -> str:
    """Says that pairs of different people don't support a FAR, and how many would.

    Args:
      pairs: how many there are.
      far: the wanted one.
    """
    needed = int(np.ceil(LEAST_ACCEPTS / far - 1e-6))
    return (
        f"{pairs} pairs of different people are too few for FAR {format_far(far)}, which takes "
        f"{needed}"
    )


def _supported(fars: Sequence[float], pairs: int) -> dict[float, int]:
    """Of the FARs that so many pairs support, falling, how many false accepts they allow."""
    wrong = [far for far in fars if not 0 < far < 1]
    if wrong:
        raise ValueError(f"far is {wrong[0]}, and must be in (0, 1)")
    rounding = 1e-9  # 0.29 * 100 is 28.999999999999996
    allowed = {far: int(far * pairs + rounding) for far in sorted(set(fars), reverse=True)}
    return {far: min(count, pairs - 1) for far, count in allowed.items() if count >= LEAST_ACCEPTS}


def _has_crops(images: Sequence[pathlib.Path], recognizer: Recognizer) -> bool:
    for photo in expand(images):
        try:
            return photo.read().shape == recognizer.card.shape
        except UserError:
            continue
    return False


def _of_crops(
    images: Sequence[pathlib.Path], recognizer: Recognizer, batch_size: int
) -> Iterator[np.ndarray | str]:
    """Of each image in turn its embedding [D], or what speaks against it."""
    height, width, _ = recognizer.card.shape

    def read(photo: Photo) -> np.ndarray | str:
        try:
            pixels = photo.read()
        except UserError as error:
            return str(error)
        if pixels.shape != recognizer.card.shape:
            return f"it has {pixels.shape[1]}x{pixels.shape[0]} pixels, not {width}x{height}"
        return pixels

    waiting: list[np.ndarray | str] = []

    def embedded() -> Iterator[np.ndarray | str]:
        crops = [each for each in waiting if not isinstance(each, str)]
        rows = iter(recognizer.embed(np.stack(crops), batch_size=batch_size) if crops else ())
        for each in waiting:
            yield each if isinstance(each, str) else next(rows)
        waiting.clear()

    for outcome in read_ahead(read, expand(images)):
        waiting.append(outcome)
        if len(waiting) == batch_size:
            yield from embedded()
    yield from embedded()


def _of_photos(
    images: Sequence[pathlib.Path],
    recognizer: Recognizer,
    detector: Detector | None,
    batch_size: int,
) -> Iterator[np.ndarray | str]:
    """As `_of_crops`, of photos with one face each."""
    for photo in iter_faces(images, recognizer, detector=detector, batch_size=batch_size):
        if photo.skipped:
            yield photo.skipped
        elif len(photo.faces) != 1:
            count = len(photo.faces)
            yield f"there are {count} faces in it, not one" if count else "there is no face in it"
        else:
            yield photo.faces[0].embedding
