"""Verification protocols: images and the pairs to compare, ready to be embedded."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from facejax.data import decode
from facejax.evaluation.pairs import draw_pairs, read_pairs, resolve_images
from facejax.evaluation.verification import Verification, verify
from facejax.recognition import Embedder, embed
from facejax.synthetic import SyntheticFaces


class Protocol(NamedTuple):
    """Pairs of images.

    Attributes:
      name: for people.
      images: uint8 [N, S, S, 3] RGB.
      indices: int [P, 2], the two images of each pair.
      same: bool [P].
      folds: int [P].
    """

    name: str
    images: np.ndarray
    indices: np.ndarray
    same: np.ndarray
    folds: np.ndarray


def from_pairs(pairs_file: str | Path, folder: str | Path, *, image_size: int) -> Protocol:
    """The pairs of a pair file, their images read from a folder.

    Raises:
      UserError: on a malformed line, a missing image or one that does not decode.
    """
    pairs = read_pairs(pairs_file)
    files, indices = resolve_images(pairs, folder)
    images = np.stack([decode(file.read_bytes(), image_size, str(file)) for file in files])
    return Protocol(Path(pairs_file).name, images, indices, pairs.same, pairs.folds)


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
    return Protocol(name, faces.images, drawn.indices, drawn.same, drawn.folds)


def evaluate(
    embedder: Embedder,
    variables: object,
    protocol: Protocol,
    *,
    batch_size: int = 100,
    fars: tuple[float, ...] = (1e-2, 1e-3),
) -> Verification:
    """Embeds a protocol's images and verifies its pairs."""
    embeddings = embed(embedder, variables, protocol.images, batch_size=batch_size)
    first, second = protocol.indices.T
    return verify(embeddings[first], embeddings[second], protocol.same, protocol.folds, fars=fars)
