"""A benchmark's images as a recognizer takes them: of its size, and at its template.

The field's sets are crops that are aligned to ArcFace's template. A recognizer of another one (as
dlib's network is) gets them moved there; loose crops are aligned by their landmarks anyway.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from facejax.data.images import decode
from facejax.evaluation.bin_file import EncodedImages
from facejax.evaluation.ijb import LooseCrops
from facejax.evaluation.protocols import ImageFiles, Images
from facejax.recognition.align import similarity
from facejax.recognition.card import Card
from facejax.recognition.templates import arcface, height_width

SIDE = 112  # in pixels, of the field's crops
_SAME = 0.01  # pixels: two templates that are this near are one


@dataclasses.dataclass(frozen=True)
class Moved:
    """Crops moved to another template, as uint8 [1, H, W, 3] each, anew at each pass.

    What lies outside of a crop repeats its edge.

    Attributes:
      images: uint8 crops, of one size.
      transform: float [2, 3], from their pixels to those of the result.
      size: (height, width) of the result.
    """

    images: Images
    transform: np.ndarray
    size: tuple[int, int]

    def __iter__(self) -> Iterator[np.ndarray]:
        height, width = self.size
        for image in _each(self.images):
            yield cv2.warpAffine(
                image, self.transform, (width, height), borderMode=cv2.BORDER_REPLICATE
            )[None]


@dataclasses.dataclass(frozen=True)
class Resized:
    """Images resized to squares, as uint8 [1, S, S, 3] each, anew at each pass.

    Attributes:
      images: uint8 images.
      image_size: S.
    """

    images: Images
    image_size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        return (decode(image, self.image_size)[None] for image in _each(self.images))


def fitted(images: Images, card: Card, *, as_they_are: bool = False) -> Images:
    """The images of a protocol as a recognizer takes them.

    Args:
      images: of `facejax.evaluation.open_benchmark`, whatever size it was given.
      card: the recognizer's.
      as_they_are: the crops are aligned to its template already, and are only resized.

    Returns:
      uint8 images of the card's size, to be iterated over or an array.
    """
    if isinstance(images, LooseCrops):
        return dataclasses.replace(images, template=card.template, image_size=card.image_size)
    height, width = size = height_width(card.image_size)
    usual = as_they_are or np.abs(card.template - arcface(size)).max() < _SAME
    if usual and height == width:
        return _resized(images, height)
    # ArcFace's template goes by the height: of 112x96 it is that of 112x112, without the sides.
    side = height if usual else SIDE
    return Moved(_resized(images, side), similarity(arcface(side), card.template), size)


def _resized(images: Images, side: int) -> Images:
    if isinstance(images, ImageFiles | EncodedImages):
        return dataclasses.replace(images, image_size=side)
    if isinstance(images, np.ndarray) and images.shape[1:3] == (side, side):
        return images
    return Resized(images, side)


def _each(images: Images) -> Iterable[np.ndarray]:
    """One [H, W, 3] after another."""
    if isinstance(images, np.ndarray):
        return images
    return (image for part in images for image in part)
