"""Verification protocols: images and the pairs to compare, ready to be embedded."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facejax import files
from facejax.data import read_images
from facejax.evaluation.pair_images import resolve_images
from facejax.evaluation.pairs import draw_pairs, read_pairs
from facejax.evaluation.people import folders
from facejax.evaluation.verification import Verification, verify
from facejax.synthetic import SyntheticFaces

Images = np.ndarray | Iterable[np.ndarray]


class Protocol(NamedTuple):
    """Pairs of images.

    Attributes:
      name: for people.
      images: uint8 [M, S, S, 3] RGB, or an iterable of such arrays that can be iterated over again
        and again, for more images than memory holds.
      indices: int [N, 2], the two images of each pair.
      same: bool [N].
      folds: int [N].
      identities: int [M], who is on each image, for the intervals; None where it is not known.
    """

    name: str
    images: Images
    indices: np.ndarray
    same: np.ndarray
    folds: np.ndarray
    identities: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files as uint8 [1, S, S, 3] RGB each, decoded anew whenever they are iterated over."""

    files: Sequence[Path]
    image_size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image[None] for image in read_images(self.files, image_size=self.image_size))


def from_pairs(
    pairs_file: str | Path, folder: str | Path, *, image_size: int, headless: bool = False
) -> Protocol:
    """The pairs of a pair file, and their images in a folder, which are read when they are used.

    Args:
      pairs_file: see `read_pairs`.
      folder: see `resolve_images`.
      image_size: side in pixels to which images are resized.
      headless: see `read_pairs`.

    Returns:
      Protocol; iterating over its `images` raises UserError at one that does not decode. A folder
      of images is a person, if all pairs agree with that; else people are not known.

    Raises:
      UserError: on a malformed line or a missing image.
    """
    pairs = read_pairs(pairs_file, headless=headless)
    found, indices = resolve_images(pairs, folder)
    people = folders(found, indices, pairs.same, root=files.expand(folder))
    images = ImageFiles(tuple(found), image_size)
    return Protocol(Path(pairs_file).name, images, indices, pairs.same, pairs.folds, people)


def synthetic(
    *,
    identities: int,
    images_per_identity: int,
    image_size: int,
    seed: int,
    first_identity: int,
    pairs: int,
    cache: str | Path | None = None,
) -> Protocol:
    """Balanced pairs of rendered faces; see `facejax.synthetic.SyntheticFaces`."""
    faces = SyntheticFaces(
        identities=identities,
        images_per_identity=images_per_identity,
        image_size=image_size,
        seed=seed,
        first_identity=first_identity,
        cache=cache,
    )
    drawn = draw_pairs(faces.labels, pairs=pairs, seed=seed)
    name = f"{identities} unseen synthetic identities"
    people = np.asarray(faces.labels)
    return Protocol(name, faces.images, drawn.indices, drawn.same, drawn.folds, people)


def evaluate(
    embed: Callable[[Images], np.ndarray],
    protocol: Protocol,
    *,
    fars: Sequence[float] = (1e-2, 1e-3),
    resamples: int = 1000,
) -> Verification:
    """Embeds a protocol's images, each once, and verifies its pairs.

    Args:
      embed: what gives the images' embeddings [M, D]: a `Recognizer`'s `embed`, or
        `facejax.recognition.embed` with its other arguments bound.
      protocol: the pairs.
      fars: the false accept rates at which TAR is wanted.
      resamples: of the people, for the intervals; about a second for 6,000 pairs.

    Raises:
      UserError: an image does not decode, or an embedding is not finite.
    """
    embeddings = embed(protocol.images)
    return verify(
        embeddings,
        protocol.indices,
        protocol.same,
        protocol.folds,
        fars=fars,
        identities=protocol.identities,
        resamples=resamples,
    )
