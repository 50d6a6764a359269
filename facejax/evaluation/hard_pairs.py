"""The pairs that a model gets most wrong, as pictures of both images beside each other."""

import dataclasses
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from facejax.errors import UserError
from facejax.evaluation.protocols import ImageFiles, Images

COUNT = 12
_SIDE = 112  # pixels of the longest side of an image
_GAP = 4


def hardest(
    scores: np.ndarray, same: np.ndarray, *, count: int = COUNT
) -> tuple[np.ndarray, np.ndarray]:
    """The different pairs that score highest, and the same pairs that score lowest.

    Args:
      scores: [N] floats.
      same: [N] bool.
      count: how many of each at most.

    Returns:
      (different, same): numbers of the pairs, the worst first; of equal ones the earlier first.
    """
    different, alike = np.flatnonzero(~same), np.flatnonzero(same)
    return (
        different[np.argsort(-scores[different], kind="stable")][:count],
        alike[np.argsort(scores[alike], kind="stable")][:count],
    )


def thumbnails(images: Images, wanted: Iterable[int]) -> dict[int, np.ndarray]:
    """Small pictures of a few images, each decoded once; no others are kept.

    Args:
      images: of a protocol.
      wanted: their numbers.

    Returns:
      uint8 [H, W, 3] RGB of at most 112 pixels' side, by number.

    Raises:
      UserError: an image can't be read any more.
    """
    numbers = sorted(set(wanted))
    if isinstance(images, ImageFiles):  # the others need not even be read
        files = [images.files[number] for number in numbers]
        chosen = dataclasses.replace(images, files=files)
        pictures = (_small(image) for block in chosen for image in block)
        return dict(zip(numbers, pictures, strict=True))
    blocks = (images,) if isinstance(images, np.ndarray) else images
    found: dict[int, np.ndarray] = {}
    left = set(numbers)
    start = 0
    for block in blocks:
        for number in sorted(left & set(range(start, start + len(block)))):
            found[number] = _small(block[number - start])
        start += len(block)
        left -= found.keys()
        if not left:
            break
    return found


def side_by_side(first: np.ndarray, second: np.ndarray) -> bytes:
    """The JPEG of two pictures with a gap between them.

    Args:
      first: uint8 [H, W, 3] RGB.
      second: uint8 likewise, of the same height.
    """
    gap = np.full((len(first), _GAP, 3), 255, np.uint8)
    picture = np.concatenate([first, gap, second], axis=1)
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def image_names(images: Images, numbers: Sequence[int]) -> list[str]:
    """What images are called: their folder and file, or else their numbers.

    Args:
      images: of a protocol.
      numbers: of the images, from 0.
    """
    if isinstance(images, ImageFiles):
        paths = [images.files[number] for number in numbers]
        return [f"{path.parent.name}/{path.name}" for path in paths]
    return [f"image {number}" for number in numbers]


def _small(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.dtype != np.uint8:
        raise UserError(f"an image is {image.dtype} {image.shape}: give uint8 [H, W, 3]")
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    if scale == 1:
        return image.copy()  # not a view of its block
    size = [max(1, round(scale * side)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
