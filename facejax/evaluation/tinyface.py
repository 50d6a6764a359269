"""TinyFace: probes searched in a gallery of faces of a few pixels, among 153,428 distractors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from facejax import files
from facejax.data.images import is_image
from facejax.errors import UserError
from facejax.evaluation import identification
from facejax.evaluation.average_precision import average_precisions, mean_average_precision
from facejax.evaluation.identification import Identification
from facejax.evaluation.ijb import identification_scores
from facejax.evaluation.protocols import ImageFiles
from facejax.evaluation.templates import unit

RANKS = (1, 5, 10, 20, 50)
_FOLDERS = ("Probe", "Gallery_Match", "Gallery_Distractor")


class GalleryProtocol(NamedTuple):
    """Images that are searched in a gallery of images.

    Attributes:
      name: for people.
      images: the probes, then the gallery, decoded anew whenever they are iterated over.
      probes: int [P] subjects of the first P images.
      gallery: int [N] subjects of the others; -1 is a distractor's.
    """

    name: str
    images: ImageFiles
    probes: np.ndarray
    gallery: np.ndarray


def from_tinyface(directory: str | Path, *, image_size: int) -> GalleryProtocol:
    """The testing set of TinyFace, or of any folder that is laid out like it.

    It has `Probe` and `Gallery_Match`, whose images are called `SUBJECT_anything`, as TinyFace's
    are, and `Gallery_Distractor`, which may be missing and whose names say nothing. They are used
    as they are: aligned crops if a recognizer wants those.

    Args:
      directory: the folder, or the one above its `Testing_Set`; `~` is the home.
      image_size: side in pixels to which images are resized.

    Raises:
      UserError: a folder is missing or empty, or a name has no subject.
    """
    directory = files.expand(directory)
    if (directory / "Testing_Set").is_dir():
        directory = directory / "Testing_Set"
    found: list[list[Path]] = []
    for name in _FOLDERS:
        folder = directory / name
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        images = [path for path in paths if is_image(path.name)]
        if not images and name != _FOLDERS[-1]:
            raise UserError(
                f"{folder} has no images: give a folder with {_FOLDERS[0]} and {_FOLDERS[1]}, as "
                "TinyFace's Testing_Set is"
            )
        found.append(images)
    probes, mates, distractors = found
    gallery = [*map(_subject, mates), *[-1] * len(distractors)]
    return GalleryProtocol(
        directory.name,
        ImageFiles((*probes, *mates, *distractors), image_size),
        np.array([*map(_subject, probes)], np.int64),
        np.array(gallery, np.int64),
    )


def evaluate_gallery(
    embeddings: np.ndarray,
    protocol: GalleryProtocol,
    *,
    depth: int = max(RANKS),
    fpirs: Sequence[float] = (),
    bootstrap: int = 1000,
    devices: Sequence[jax.Device] | None = None,
) -> Identification:
    """Searches the probes in the gallery; a subject may have several images there.

    A probe is found at rank k if one of its subject's images is among the k most similar.
    Its average precision asks for all of them.

    Args:
      embeddings: floats [P + N, D] of the protocol's images, of any length.
      protocol: of `from_tinyface`.
      depth: up to which rank the CMC goes.
      fpirs: at which TPIR is wanted; TinyFace is a closed set, where there is none.
      bootstrap: resamples of the probes' subjects for the intervals; 0 for none.
      devices: of this process, over which the gallery is split; None takes all of them.

    Raises:
      UserError: there are more or fewer embeddings than images, or one is not finite.
    """
    count = len(protocol.probes)
    if embeddings.shape[0] != count + len(protocol.gallery):
        raise UserError(
            f"there are {len(embeddings)} embeddings for the {count + len(protocol.gallery)} "
            "images of the protocol: embed all of them, in their order"
        )
    broken = int((~np.isfinite(embeddings).all(axis=1)).sum())
    if broken:
        raise UserError(
            f"{broken} of {len(embeddings)} embeddings are not finite: the network has diverged, "
            "so evaluate an earlier checkpoint or train with a smaller learning rate"
        )
    units = unit(embeddings)
    searched = (units[:count], protocol.probes, units[count:], protocol.gallery)
    found = identification.find(*searched, depth=depth, devices=devices)
    (result,), _ = identification.identify(
        [found], protocol.probes, fpirs=fpirs, bootstrap=bootstrap
    )
    precisions = average_precisions(*searched, devices=devices)
    return result._replace(
        average_precision=mean_average_precision(precisions, protocol.probes, bootstrap=bootstrap)
    )


def gallery_scores(result: Identification) -> dict[str, Any]:
    """The numbers of a search as a flat record of what JSON has: the usual ranks and the mAP.

    Args:
      result: of `evaluate_gallery`.

    Returns:
      As `facejax.evaluation.ijb.identification_scores`.
    """
    ranks = [rank for rank in RANKS if rank <= len(result.cmc)]
    return identification_scores(result, ranks=ranks)


def _subject(path: Path) -> int:
    subject, _, rest = path.name.partition("_")
    if not rest or not (subject.isascii() and subject.isdigit() and len(subject) <= 18):
        raise UserError(
            f"{path} does not say whose it is: name it as TinyFace does, SUBJECT_anything with the "
            "subject as a whole number"
        )
    return int(subject)
