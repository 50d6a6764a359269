"""InsightFace's `.bin` verification sets: LFW, CFP-FP, AgeDB-30, CALFW, CPLFW and their like.

Such a file is a pickle of (images, same): encoded images, two for each pair one after the other,
and a bool for each pair. It is read without running anything: `facejax.evaluation.plain_pickle`.
"""

import dataclasses
import os
import pickle  # noqa: TID251  # to write with, not to read
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from facejax import files
from facejax.data import decode
from facejax.errors import UserError
from facejax.evaluation import plain_pickle
from facejax.evaluation.pairs import pair_folds
from facejax.evaluation.protocols import Protocol

_NUMBERS = (bool, int, np.bool_, np.integer)


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """Encoded images as uint8 [1, S, S, 3] RGB each, decoded anew whenever they are iterated over.

    Attributes:
      images: encoded.
      image_size: S.
      name: of what they are from, for a message.
      numbers: of the images in it, for a message; None counts them from 0.
    """

    images: Sequence[bytes] = dataclasses.field(repr=False)
    image_size: int
    name: str
    numbers: Sequence[int] | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        numbers = range(len(self.images)) if self.numbers is None else self.numbers
        for number, image in zip(numbers, self.images, strict=True):
            yield decode(image, self.image_size, f"image {number} of {self.name}")[None]


def from_bin(path: str | os.PathLike[str], *, image_size: int) -> Protocol:
    """The pairs of a `.bin` file.

    Args:
      path: of the file; `~` is the home.
      image_size: side in pixels to which images are resized.

    Returns:
      Protocol, pair i of the images 2 i and 2 i + 1; its folds are those of `pair_folds`.

    Raises:
      UserError: it can't be read, is no such set, or asks for something else than plain data.
    """
    images, same = read_bin(path)
    name = files.expand(path).name
    indices = np.arange(len(images)).reshape(-1, 2)
    encoded = EncodedImages(images, image_size, name)
    return Protocol(name, encoded, indices, same, pair_folds(same))


def read_bin(path: str | os.PathLike[str]) -> tuple[list[bytes], np.ndarray]:
    """The encoded images [2 N] and whether each pair is of one person, bool [N].

    Args:
      path: of the file; `~` is the home.

    Raises:
      UserError: as `from_bin`.
    """
    content = plain_pickle.load(path)
    if not isinstance(content, list | tuple) or len(content) != 2:
        raise _not_a_set(path, "it is not (images, same)")
    images, same = content
    if not isinstance(images, list | tuple | np.ndarray):
        raise _not_a_set(path, "its images are no list")
    plain: dict[int, bytes] = {}  # an array that comes again is not copied again
    encoded = []
    for number, image in enumerate(images):
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 1:
            if id(image) not in plain:
                plain[id(image)] = image.tobytes()
            image = plain[id(image)]
        if not isinstance(image, bytes):
            raise _not_a_set(path, f"its image {number} is {_kind(image)}, not encoded bytes")
        encoded.append(image)
    if isinstance(same, list | tuple):  # of numbers alone: NumPy would unroll lists of lists
        same = np.array([one if isinstance(one, _NUMBERS) else -1 for one in same])
    kinds = np.asarray(same)
    if kinds.ndim != 1 or kinds.dtype.kind not in "biu" or not np.isin(kinds, (0, 1)).all():
        raise _not_a_set(path, "what its pairs are is no list of true and false")
    if not len(kinds) or len(encoded) != 2 * len(kinds):
        raise _not_a_set(path, f"it has {len(encoded)} images for {len(kinds)} pairs, not two each")
    return encoded, kinds.astype(bool)


def write_bin(path: str | os.PathLike[str], images: Sequence[bytes], same: Sequence[bool]) -> None:
    """Writes a set that InsightFace and `read_bin` can read.

    Args:
      path: of the file, which appears when it is whole; `~` is the home.
      images: [2 N] encoded, two for each pair.
      same: [N] whether a pair is of one person.

    Raises:
      ValueError: there are not two images for each pair.
      OSError: it can't be written.
    """
    if len(images) != 2 * len(same):
        raise ValueError(f"{len(images)} images for {len(same)} pairs: give two for each")
    content = ([bytes(image) for image in images], [bool(one) for one in same])
    files.write(files.expand(path), pickle.dumps(content, protocol=4))


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {type(value).__name__}"


def _not_a_set(path: str | os.PathLike[str], why: str) -> UserError:
    return UserError(f"{path} is no verification set as InsightFace writes them: {why}")
