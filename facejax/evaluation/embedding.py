"""From a protocol's images to embeddings, not made unit vectors, by one of three flip tests."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tqdm

from facejax.errors import UserError
from facejax.evaluation import embeddings_file, quality
from facejax.evaluation.benchmarks import Benchmark
from facejax.evaluation.protocols import Images
from facejax.recognition.recognizer import Recognizer

Flip = Literal["sum", "concat", "off"]
FLIPS = ("sum", "concat", "off")


class Embedded(NamedTuple):
    """The embeddings of M images.

    Attributes:
      embeddings: float32 [M, D], or [M, 2 D] of "concat"; their norms are the network's.
      quality: float64 [M], larger is better: the embeddings' norms, or what came with them; None
        where they are unit vectors that nothing came with.
      sums: float64 [M, D], image and mirror image added; None where they weren't asked for.
    """

    embeddings: np.ndarray
    quality: np.ndarray | None
    sums: np.ndarray | None = None


def embed_images(
    recognizer: Recognizer,
    images: Images,
    *,
    count: int,
    flip: Flip,
    sums: bool = False,
    batch_size: int = 32,
    label: str = "embedding",
    progress: bool = False,
) -> Embedded:
    """Embeds images, each once.

    Args:
      recognizer: whose card the images fit; see `facejax.evaluation.crops.fitted`.
      images: of a protocol.
      count: how many they are, for the bar.
      flip: what becomes of the mirror image: "sum" takes the mean of both embeddings before they
        are normalised, "concat" puts the mirror image's behind the image's, "off" is without it.
      sums: whether to have both added in float64, as InsightFace does it. The embeddings of "sum"
        are then rounded from those.
      batch_size: images per call of the network.
      label: of the bar.
      progress: show a progress bar on stderr.

    Raises:
      UserError: an image does not decode, or is of another size than the card's.
      ValueError: the flip is unknown.
    """
    if flip not in FLIPS:
        raise ValueError(f"flip is {flip!r}, and must be one of {', '.join(FLIPS)}")
    with tqdm.tqdm(total=count, desc=label, unit=" images", disable=not progress) as bar:

        def shown(most: int) -> Iterator[np.ndarray]:
            for part in _parts(images, most):
                yield part
                bar.update(len(part))

        if not sums and flip != "concat":
            rows = recognizer.embed(
                shown(batch_size), batch_size=batch_size, flip=flip == "sum", unit=False
            )
            return Embedded(rows, norms(rows))
        doubled = (
            np.stack([part, part[:, :, ::-1]], axis=1).reshape(-1, *part.shape[1:])
            for part in shown(max(batch_size // 2, 1))
        )
        both = recognizer.embed(doubled, batch_size=max(batch_size, 2), flip=False, unit=False)
    first, mirror = both[0::2], both[1::2]
    added = first.astype(np.float64) + mirror if sums else None
    if flip == "concat":
        rows = np.concatenate([first, mirror], axis=1)
    elif flip == "off" or added is None:
        rows = np.ascontiguousarray(first)
    else:
        rows = (added / 2).astype(np.float32)
    return Embedded(rows, norms(rows), added)


def of_file(path: str | Path, benchmark: Benchmark) -> Embedded:
    """The embeddings of a benchmark's images out of a file.

    Args:
      path: as `facejax.evaluation.embeddings_file.choose_file` takes it.
      benchmark: what they are of.

    Raises:
      UserError: there is no such file, it can't be read, or it lacks an image.
    """
    stored = embeddings_file.read_embeddings(embeddings_file.choose_file(path, benchmark.name))
    rows = embeddings_file.rows_of(stored, benchmark.names, benchmark=benchmark.name)
    embeddings = stored.embeddings[rows]
    return Embedded(
        embeddings,
        norms(embeddings) if stored.quality is None else stored.quality[rows],
        None if stored.sums is None else stored.sums[rows],
    )


def norms(embeddings: np.ndarray) -> np.ndarray | None:
    """Their lengths, float64 [M]; None where all are 1 and so say nothing of quality.

    Args:
      embeddings: floats [M, D].
    """
    with contextlib.suppress(UserError):
        return quality.norms(embeddings)
    return None


def _parts(images: Images, most: int) -> Iterator[np.ndarray]:
    """uint8 [b, H, W, 3] with b <= most."""
    for part in [images] if isinstance(images, np.ndarray) else images:
        yield from (part[start : start + most] for start in range(0, len(part), most))
