"""From photographs to embedded faces: many photos at a time, in batches across them.

Threads decode, detect and cut out; the faces of one photo after the other then fill batches of a
few fixed sizes, which are aligned and embedded by compiled programs. Photos come out in the order
in which they went in, and no more of them are held than a batch needs.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np

from facejax.errors import UserError
from facejax.recognition.align import Region, crop_regions, cut
from facejax.recognition.detection import Detection, Detector, default_detector
from facejax.recognition.embed import SMALLER_BATCHES
from facejax.recognition.photos import Photo, Photos, expand, read_ahead
from facejax.recognition.quality import Quality, measure
from facejax.recognition.templates import height_width

_BATCH = 32
_PATIENCE = 10  # photos that wait for a batch to fill, in batch sizes


class Card(Protocol):
    """What alignment needs to know of a recogniser.

    Attributes:
      template: float [5, 2], the landmarks' places in a crop, (x, y) in pixels.
      image_size: of the crop: its side, or (height, width).
    """

    @property
    def template(self) -> Any: ...

    @property
    def image_size(self) -> int | tuple[int, int]: ...


class Recognizer(Protocol):
    """What embeds crops: of `facejax.recognition.open`, or any other object like this.

    Where other than the defaults are asked for, `embed` is given `flip` and `batch_size`, too.
    """

    @property
    def card(self) -> Card:
        """What the crops must be like."""

    def embed(self, crops: np.ndarray) -> np.ndarray:
        """Embeddings float32 [N, D] of uint8 RGB [N, height, width, 3]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face in a photo.

    Attributes:
      source: the photo's name.
      number: of the face in the photo, from 0, left to right.
      box: float32 [4]: x and y of the upper left corner, width, height, in pixels of the photo.
      landmarks: float32 [5, 2]: left eye, right eye, nose, left and right corner of the mouth, left
        and right as one sees them.
      score: of the detector.
      embedding: float32 [D].
      quality: what was measured; see `facejax.recognition.quality`.
      crop: uint8 RGB [height, width, 3], the aligned face, or None if it was not asked for.
    """

    source: str
    number: int
    box: np.ndarray
    landmarks: np.ndarray
    score: float
    embedding: np.ndarray = dataclasses.field(repr=False)
    quality: Quality
    crop: np.ndarray | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoFaces:
    """What was found in one photo.

    Attributes:
      source: the photo's name.
      faces: from left to right; none if there are none, or it was skipped.
      size: (height, width) of the photo, (0, 0) if it was skipped.
      skipped: the sentence that says why it was, "" if it was not.
    """

    source: str
    faces: tuple[Face, ...]
    size: tuple[int, int]
    skipped: str = ""


class Faces(Sequence[Face]):
    """The faces of many photos: a sequence of `Face`, photo by photo, left to right.

    Attributes:
      photos: a `PhotoFaces` of each photo, in order, those without a face and the skipped too.
      skipped: (source, reason) of each photo that was skipped.
      embeddings: float32 [N, D]; [0, 0] without a face.
    """

    def __init__(self, photos: Sequence[PhotoFaces]):
        self.photos = tuple(photos)
        self._faces = tuple(face for photo in photos for face in photo.faces)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        return [(photo.source, photo.skipped) for photo in self.photos if photo.skipped]

    @functools.cached_property
    def embeddings(self) -> np.ndarray:
        if not self._faces:
            return np.zeros((0, 0), np.float32)
        return np.stack([face.embedding for face in self._faces])

    def __len__(self) -> int:
        return len(self._faces)

    @overload
    def __getitem__(self, index: int) -> Face: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Face, ...]: ...
    def __getitem__(self, index: int | slice) -> Face | tuple[Face, ...]:
        return self._faces[index]

    def __repr__(self) -> str:
        return (
            f"Faces({len(self)} in {len(self.photos)} photos, {len(self.skipped)} of them skipped)"
        )


@dataclasses.dataclass
class _Seen:
    """A photo after the threads' part of the work."""

    source: str
    size: tuple[int, int] = (0, 0)
    skipped: str = ""
    detection: Detection | None = None
    regions: list[Region] = dataclasses.field(default_factory=list)


def find_faces(
    photos: Photos,
    recognizer: Recognizer,
    *,
    detector: Detector | None = None,
    batch_size: int = _BATCH,
    flip: bool | None = None,
    keep_crops: bool = False,
) -> Faces:
    """The faces of photographs, with their embeddings and quality.

    Args:
      photos: a photo or several, or folders of them: paths, encoded bytes, or uint8 RGB [H, W, 3].
      recognizer: what embeds; its card has the template and the size of the crops.
      detector: what finds the faces, called by several threads; None is `YuNet()`.
      batch_size: faces that are embedded at a time, of several photos.
      flip: whether the mirror image is embedded too; None leaves it to the recogniser.
      keep_crops: whether the aligned crops are kept (38 kB each at 112 pixels).

    Returns:
      Faces. A photo that can't be read is skipped, with the reason in `.skipped`.

    Raises:
      UserError: no detector is installed.
      ValueError: a batch size below 1, or a recogniser whose embeddings are not [N, D].
    """
    return Faces(
        list(
            iter_faces(
                photos,
                recognizer,
                detector=detector,
                batch_size=batch_size,
                flip=flip,
                keep_crops=keep_crops,
            )
        )
    )


def iter_faces(
    photos: Photos,
    recognizer: Recognizer,
    *,
    detector: Detector | None = None,
    batch_size: int = _BATCH,
    flip: bool | None = None,
    keep_crops: bool = False,
    workers: int | None = None,
) -> Iterator[PhotoFaces]:
    """`find_faces` photo by photo, for any number of them.

    What is held does not grow with their number: two photos for each thread, and those whose faces
    wait for their batch to fill, which takes no more than ten times as many photos as a batch has
    faces.

    Args:
      photos: as in `find_faces`; it may be a generator.
      recognizer: as in `find_faces`.
      detector: as in `find_faces`.
      batch_size: as in `find_faces`.
      flip: as in `find_faces`.
      keep_crops: as in `find_faces`.
      workers: threads that decode, detect and cut out; None is one a core.

    Yields:
      What was found in each photo, in order.

    Raises:
      UserError: as `find_faces`.
      ValueError: as `find_faces`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    finder = default_detector() if detector is None else detector
    template = np.asarray(recognizer.card.template, np.float64)
    size = height_width(recognizer.card.image_size)

    def look(photo: Photo) -> _Seen:
        try:
            pixels = photo.read()
            detection = _left_to_right(finder(pixels))
            regions = cut(pixels, detection.landmarks, template, size)
        except UserError as error:
            return _Seen(photo.source, skipped=str(error))
        return _Seen(photo.source, pixels.shape[:2], "", detection, regions)

    waiting: collections.deque[_Seen] = collections.deque()
    regions: list[Region] = []  # of the faces that are not embedded yet
    ready: collections.deque[tuple[np.ndarray, np.ndarray]] = collections.deque()  # those that are

    def embed() -> None:
        """Embeds the next batch of those that wait."""
        part, regions[:] = regions[:batch_size], regions[batch_size:]
        crops = crop_regions(part, size)
        ready.extend(zip(crops, _embedded(recognizer, crops, batch_size, flip), strict=True))

    def complete() -> Iterator[PhotoFaces]:
        """The next photos whose faces are all embedded."""
        while waiting and len(waiting[0].regions) <= len(ready):
            yield _finished(waiting.popleft(), ready, template, keep_crops)

    for seen in read_ahead(look, expand(photos), workers=workers):
        waiting.append(seen)
        regions += seen.regions
        while len(regions) >= batch_size or (regions and len(waiting) > _PATIENCE * batch_size):
            embed()
        yield from complete()
    while regions:
        embed()
    yield from complete()


def _left_to_right(detection: Detection) -> Detection:
    boxes = np.asarray(detection.boxes, np.float32).reshape(-1, 4)
    order = np.lexsort((boxes[:, 1], boxes[:, 0] + boxes[:, 2] / 2))
    return Detection(
        boxes[order],
        np.asarray(detection.landmarks, np.float32).reshape(-1, 5, 2)[order],
        np.asarray(detection.scores, np.float32).reshape(-1)[order],
    )


def _embedded(
    recognizer: Recognizer, crops: np.ndarray, batch_size: int, flip: bool | None
) -> np.ndarray:
    """Embeddings [N, D] of at most a batch of crops, which is filled up to one of a few sizes."""
    sizes = [size for size in SMALLER_BATCHES if size < batch_size] + [batch_size]
    padded = np.zeros((next(n for n in sizes if n >= len(crops)), *crops.shape[1:]), np.uint8)
    padded[: len(crops)] = crops
    options: dict[str, Any] = {} if flip is None else {"flip": flip}
    if batch_size != _BATCH:
        options["batch_size"] = batch_size
    embeddings = np.asarray(recognizer.embed(padded, **options), np.float32)
    if embeddings.ndim != 2 or len(embeddings) != len(padded):
        raise ValueError(
            f"the recogniser made embeddings {embeddings.shape} of {len(padded)} crops, not [N, D]"
        )
    return embeddings[: len(crops)]


def _finished(
    seen: _Seen,
    ready: collections.deque[tuple[np.ndarray, np.ndarray]],
    template: np.ndarray,
    keep_crops: bool,
) -> PhotoFaces:
    """A photo's faces, whose crops and embeddings are the first that are ready."""
    if seen.detection is None or not seen.regions:
        return PhotoFaces(seen.source, (), seen.size, seen.skipped)
    crops, embeddings = zip(*(ready.popleft() for _ in seen.regions), strict=True)
    boxes, landmarks, scores = seen.detection
    qualities = measure(landmarks, np.stack(crops), template)
    faces = [
        Face(
            source=seen.source,
            number=number,
            box=boxes[number],
            landmarks=landmarks[number],
            score=float(scores[number]),
            embedding=embeddings[number].copy(),  # not a view of the whole batch
            quality=quality,
            crop=crops[number].copy() if keep_crops else None,
        )
        for number, quality in enumerate(qualities)
    ]
    return PhotoFaces(seen.source, tuple(faces), seen.size)
