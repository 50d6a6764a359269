"""The pictures of a report's page: JPEGs of photographs with their faces marked, and thumbnails."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import cv2
import numpy as np

from facejax.errors import UserError
from facejax.recognition.draw import draw_faces
from facejax.recognition.photos import Photo, read_ahead
from facejax.recognition.report import REFUSED, Report

PHOTO_SIDE, THUMBNAIL_SIDE = 800, 112  # pixels of the longest side
_LEAST_SIDE = 640  # no text can be read on less
_TEXT = 18  # pixels; two such pictures stand side by side, each at some 60 % of its size
_PHOTO_QUALITY, _THUMBNAIL_QUALITY = 80, 85


def marked(report: Report, photos: Sequence[Photo]) -> Iterator[bytes | str]:
    """Photographs with boxes, names and similarities, drawn in threads ahead of the consumer.

    Args:
      report: of `facejax.recognition.report.arrange`.
      photos: the first ones of the report, or all.

    Yields:
      The JPEG of each; the sentence why a photo can't be read any more.
    """

    def draw(number: int) -> bytes | str:
        try:
            return mark(photos[number].read(), report, number)
        except UserError as error:
            return str(error)

    return read_ahead(draw, range(len(photos)))


def mark(pixels: np.ndarray, report: Report, number: int) -> bytes:
    """A JPEG of one photo, made smaller or larger to be looked at, with its faces marked.

    Args:
      pixels: uint8 RGB [H, W, 3].
      report: of `facejax.recognition.report.arrange`.
      number: the photo's place in it.
    """
    longest = max(pixels.shape[:2])
    scale = min(max(longest, _LEAST_SIDE), PHOTO_SIDE) / longest
    picture = _resized(pixels, scale)
    inside = report.by_photo[number]
    faces = [report.faces[place] for place in inside]
    people = [int(report.whose[place]) for place in inside]
    boxes = np.array([face.box for face in faces], np.float64).reshape(-1, 4) * scale
    drawn = draw_faces(
        picture,
        boxes,
        names=[None if one == REFUSED else report.people[one].name for one in people],
        similarities=[report.similarities.get(place) for place in inside],
        smallest_text=_TEXT,
    )
    return _jpeg(drawn, _PHOTO_QUALITY)


def thumbnail(crop: np.ndarray) -> bytes:
    """A JPEG of an aligned face, at most 112 pixels high and wide.

    Args:
      crop: uint8 RGB [H, W, 3].
    """
    scale = min(1.0, THUMBNAIL_SIDE / max(crop.shape[:2]))
    return _jpeg(_resized(crop, scale), _THUMBNAIL_QUALITY)


def _resized(pixels: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return pixels
    size = [max(1, round(scale * side)) for side in pixels.shape[1::-1]]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, size, interpolation=way)


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class Waiting:
    """Pictures that wait in a file for their place on a page."""

    def __init__(self, file: BinaryIO):
        """Waiting in a file.

        Args:
          file: empty, to be written and read.
        """
        self._file = file
        self._ends = [0]

    def add(self, content: bytes) -> None:
        """Keeps one more.

        Args:
          content: of a file.

        Raises:
          OSError: the disk is full.
        """
        self._file.seek(self._ends[-1])
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def __getitem__(self, number: int) -> bytes:
        start, end = self._ends[number : number + 2]
        self._file.seek(start)
        return self._file.read(end - start)
