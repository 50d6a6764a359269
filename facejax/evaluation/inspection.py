"""One pass over a source: whether each image can be read, its size, hashes, and embedding."""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import tqdm

from facejax.data import near_duplicates
from facejax.data.images import decode
from facejax.data.sources import Source, identity_names
from facejax.errors import UserError
from facejax.recognition.photos import read_ahead
from facejax.recognition.recognizer import Recognizer
from facejax.recognition.templates import arcface

_BATCH = 32
_TEMPLATE_DRIFT = 0.02  # of the height: a template nearer than this to ArcFace's is ArcFace's


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What one pass over N images found.

    Attributes:
      ids: N names of the records.
      labels: int32 [N].
      names: of the identities.
      sizes: int32 [N, 2], height and width; 0 where it can't be read.
      reasons: of each image that can't be read, by its number, the sentence that says why.
      contents: [N] bytes of 32, SHA-256 of the encoded image.
      pixels: [N] bytes of 32, SHA-256 of what it decodes to; zeros where it can't be read.
      pictures: float32 [N, 64], of `near_duplicates.describe`; zeros where there is nothing to see.
      embeddings: float32 [N, D] of unit length; zeros where there is none. None without recognizer.
      passed_over: clauses on what the source has left out.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    sizes: np.ndarray
    reasons: dict[int, str]
    contents: np.ndarray
    pixels: np.ndarray
    pictures: np.ndarray
    embeddings: np.ndarray | None
    passed_over: tuple[str, ...]

    @property
    def readable(self) -> np.ndarray:
        """bool [N]."""
        return self.sizes[:, 0] > 0

    @property
    def flat(self) -> np.ndarray:
        """bool [N], of one color or nearly so."""
        return self.readable & ~self.pictures.any(axis=1)

    @property
    def embedded(self) -> np.ndarray:
        """Numbers of the images that have an embedding, int64 [E]."""
        if self.embeddings is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.embeddings.any(axis=1))


class _Record(NamedTuple):
    name: str
    reason: str = ""
    size: tuple[int, int] = (0, 0)
    content: bytes = bytes(32)
    pixels: bytes = bytes(32)
    picture: np.ndarray | None = None
    crop: np.ndarray | None = None


def inspect(
    source: Source, *, recognizer: Recognizer | None = None, least: int = 32, progress: bool = False
) -> Inspection:
    """Reads every image once, in threads.

    What is held of an image is some 400 bytes and its embedding, never its pixels.

    Args:
      source: of aligned faces.
      recognizer: what embeds them, resized to its card; None embeds nothing.
      least: side in pixels below which an image is not embedded.
      progress: show a progress bar on stderr.

    Raises:
      UserError: the recognizer takes faces that are aligned otherwise than training images are.
    """
    if recognizer is not None:
        _check_template(recognizer)
    count = len(source)
    sizes = np.zeros((count, 2), np.int32)
    contents, pixels = np.zeros(count, "V32"), np.zeros(count, "V32")
    pictures = np.zeros((count, near_duplicates.SIZE), np.float32)
    dimension = 0 if recognizer is None else recognizer.embedding_size
    embeddings = None if recognizer is None else np.zeros((count, dimension), np.float32)
    names: list[str] = []
    reasons: dict[int, str] = {}
    waiting: dict[int, np.ndarray] = {}

    def embed() -> None:
        if recognizer is not None and embeddings is not None and waiting:
            rows = recognizer.embed(np.stack(list(waiting.values())))
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            embeddings[list(waiting)] = rows / np.maximum(lengths, 1e-12)
        waiting.clear()

    bar = tqdm.tqdm(
        _records(source, recognizer, least), "reading", count, unit=" images", disable=not progress
    )
    for number, record in enumerate(bar):
        names.append(record.name)
        sizes[number] = record.size
        contents[number], pixels[number] = record.content, record.pixels
        if record.reason:
            reasons[number] = record.reason
        if record.picture is not None:
            pictures[number] = record.picture
        if record.crop is not None:
            waiting[number] = record.crop
            if len(waiting) == _BATCH:
                embed()
    embed()
    return Inspection(
        tuple(names),
        np.asarray(source.labels, np.int32),
        identity_names(source),
        sizes,
        reasons,
        contents,
        pixels,
        pictures,
        embeddings,
        tuple(getattr(source, "passed_over", ())),
    )


def read(source: Source, number: int) -> np.ndarray | None:
    """The pixels of one image, uint8 RGB [H, W, 3]; None where it can't be read.

    Args:
      source: any.
      number: of the record.
    """
    try:
        return decode(source[number]["image"], None)
    except UserError:
        return None


def _records(source: Source, recognizer: Recognizer | None, least: int) -> Iterator[_Record]:
    cv2.setNumThreads(1)  # images are decoded side by side
    ids = getattr(source, "ids", None)  # a folder's, of files that can't be read too

    def look(number: int) -> _Record:
        name = f"record {number}" if ids is None else ids[number]
        content = bytes(32)
        try:
            record = source[number]
            name = record.get("id", name)
            image = record["image"]
            data = image.tobytes() if isinstance(image, np.ndarray) else image
            content = hashlib.sha256(data).digest()
            pixels = decode(image, None, name)
        except UserError as error:
            return _Record(name, str(error), content=content)
        picture = near_duplicates.describe(pixels)
        digest = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()
        height, width = pixels.shape[:2]
        crop = None
        if recognizer is not None and picture.any() and min(height, width) >= least:
            high, wide, _ = recognizer.card.shape
            shrink = height > high or width > wide
            method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
            crop = pixels if (height, width) == (high, wide) else cv2.resize(
                pixels, (wide, high), interpolation=method
            )  # fmt: skip
        return _Record(name, "", (height, width), content, digest, picture, crop)

    return read_ahead(look, range(len(source)))


def _check_template(recognizer: Recognizer) -> None:
    """Refuses a network whose crops are not those that training images are."""
    card = recognizer.card
    drift = np.abs(np.asarray(card.template) - arcface(card.image_size)).max()
    if drift > _TEMPLATE_DRIFT * card.shape[0]:
        raise UserError(
            f"{card.name} takes faces aligned otherwise than training images, which are at the "
            "ArcFace template: audit with sface or a run"
        )
