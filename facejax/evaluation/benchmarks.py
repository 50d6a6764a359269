"""A benchmark by its path, whatever kind it is, and what embeddings score on it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facejax import files
from facejax.data import folder_source
from facejax.errors import UserError
from facejax.evaluation import report
from facejax.evaluation.bin_file import EncodedImages, from_bin
from facejax.evaluation.identification import Identification
from facejax.evaluation.ijb import (
    TemplateProtocol,
    TemplateResults,
    evaluate_templates,
    from_ijb,
    template_scores,
)
from facejax.evaluation.pair_making import balanced_pairs, identity_folds
from facejax.evaluation.protocols import ImageFiles, Protocol, evaluate, from_pairs
from facejax.evaluation.rfw import from_groups, has_groups
from facejax.evaluation.tinyface import (
    GalleryProtocol,
    evaluate_gallery,
    from_tinyface,
    gallery_scores,
)
from facejax.evaluation.verification import Verification

KINDS = ("bin", "pairs", "folder", "groups", "ijb", "tinyface")
Result = Verification | TemplateResults | Identification


class Benchmark(NamedTuple):
    """What a model is to be measured on.

    Attributes:
      name: for people, and in front of the names of its numbers.
      protocol: the images, and what is asked of them.
      groups: [M] str of each image, where the files say it; else None.
      kind: one of KINDS; "" where it was not opened by its path.
      names: [M] of the images: of a file relative to their folder, else a number from "0".
    """

    name: str
    protocol: Protocol | TemplateProtocol | GalleryProtocol
    groups: np.ndarray | None = None
    kind: str = ""
    names: Sequence[str] = ()


def split_name(given: str) -> tuple[str, str]:
    """NAME=PATH in two; a path alone is called by its file's name without suffix.

    Args:
      given: on the command line, or between two commas of a config.

    Raises:
      UserError: the name or the path is empty.
    """
    name, separator, path = given.partition("=")
    if not separator:
        path = given
        name = Path(re.sub(rf"^({'|'.join(KINDS)}):", "", path).partition("@")[0]).stem
    if not name or not path:
        raise UserError(f"the benchmark {given!r} is not NAME=PATH, such as lfw=data/lfw.bin")
    return name, path


def open_benchmark(
    path: str | Path,
    *,
    name: str,
    image_size: int,
    images: str | Path | None = None,
    template: np.ndarray | None = None,
    pairs: int = 6000,
    seed: int = 0,
) -> Benchmark:
    """The benchmark of a path, which says what it is, or of a `kind:path`.

    | kind | what is there |
    |---|---|
    | bin | InsightFace's `.bin` file; see `from_bin` |
    | pairs | a pair file or CSV, PAIRS@FOLDER with the folder of its images; see `from_pairs` |
    | folder | a folder of identities, of which balanced pairs are drawn; see `balanced_pairs` |
    | groups | a folder of groups with pair files, such as RFW's; see `from_groups` |
    | ijb | a folder with IJB-B's or IJB-C's lists; see `from_ijb` |
    | tinyface | a folder laid out as TinyFace's; see `from_tinyface` |

    Args:
      path: of a file or folder, with or without `KIND:` before it; `~` is the home.
      name: of the benchmark.
      image_size: side in pixels to which images are resized or aligned.
      images: the folder of a pair file's images, where the path does not say it; None is the folder
        that the pair file is in.
      template: float [5, 2], where landmarks of loose crops shall lie; None is ArcFace's.
      pairs: how many are drawn of a folder of identities, or as many as it has in ten folds (of
        fewer than 20 identities, in fewer folds).
      seed: of these pairs.

    Raises:
      UserError: there is nothing, it is none of these, or what its reader refuses.
    """
    kind, where = _kind(str(path))
    if kind == "bin":
        of_bin = from_bin(where, image_size=image_size)._replace(name=name)
        _refuse_too_few(of_bin, where)
        return Benchmark(name, of_bin, None, kind, image_names(of_bin.images))
    if kind == "ijb":
        of_templates = from_ijb(where, image_size=image_size, template=template)
        return Benchmark(name, of_templates, None, kind, of_templates.images.names)
    if kind == "tinyface":
        searched = from_tinyface(where, image_size=image_size)
        return Benchmark(name, searched, None, kind, _below(searched.images))
    if kind == "groups":
        grouped = from_groups(where, image_size=image_size)
        protocol = grouped.protocol._replace(name=name)
        return Benchmark(name, protocol, grouped.groups, kind, _below(protocol.images))
    if kind == "folder":
        source = folder_source(where)
        labels = np.asarray(source.labels)
        folds, pairs = _most_pairs(labels, pairs, seed=seed)
        drawn = balanced_pairs(labels, pairs=pairs, folds=folds, seed=seed)
        crops = ImageFiles([source.path / each for each in source.ids], image_size)
        protocol = Protocol(name, crops, drawn.indices, drawn.same, drawn.folds, labels)
        return Benchmark(name, protocol, None, kind, tuple(source.ids))
    file, _, folder = where.partition("@")
    return pair_benchmark(
        file, folder or images or files.expand(file).parent, name=name, image_size=image_size
    )


def pair_benchmark(
    file: str | Path, folder: str | Path, *, name: str, image_size: int
) -> Benchmark:
    """The benchmark of a pair file, whose path and folder may hold any character.

    Args:
      file: of the pairs.
      folder: of the images.
      name: of the benchmark.
      image_size: side in pixels to which images are resized.

    Raises:
      UserError: as `from_pairs`.
    """
    protocol = from_pairs(file, folder, image_size=image_size)._replace(name=name)
    return Benchmark(name, protocol, None, "pairs", _below(protocol.images, files.expand(folder)))


def image_names(images: Any) -> tuple[str, ...]:
    """What images are called: files by their paths below the folder they share, others by number.

    Args:
      images: of a `Protocol`.
    """
    if isinstance(images, ImageFiles):
        return _below(images)
    listed = images.images if isinstance(images, EncodedImages) else images
    return tuple(map(str, range(len(listed))))


def measure(
    embeddings: np.ndarray,
    benchmark: Benchmark,
    *,
    fars: Sequence[float] = (1e-2, 1e-3),
    resamples: int = 1000,
) -> Result:
    """What the embeddings of a benchmark's images score.

    Args:
      embeddings: floats [M, D] of `benchmark.protocol.images` in order, not made unit vectors
        (`Recognizer.embed(..., unit=False)`), since templates weigh images by their norms.
      benchmark: of `open_benchmark`.
      fars: the false accept rates at which TAR is wanted, of verification.
      resamples: of the people, for the intervals.

    Raises:
      UserError: an embedding is not finite.
    """
    protocol = benchmark.protocol
    if isinstance(protocol, TemplateProtocol):
        return evaluate_templates(embeddings, protocol, bootstrap=resamples)
    if isinstance(protocol, GalleryProtocol):
        return evaluate_gallery(embeddings, protocol, bootstrap=resamples)
    return evaluate(lambda _: embeddings, protocol, fars=fars, resamples=resamples)


def numbers(result: Result) -> dict[str, Any]:
    """A result as a flat record of what JSON has.

    Args:
      result: of `measure`.

    Returns:
      As `report.scores`, `template_scores` or `gallery_scores`.
    """
    if isinstance(result, TemplateResults):
        return template_scores(result)
    if isinstance(result, Identification):
        return gallery_scores(result)
    return report.scores(result)


def _below(images: Any, folder: Path | None = None) -> tuple[str, ...]:
    """The names of image files, relative to a folder; None is the one that they have in common."""
    root = folder or os.path.commonpath([path.parent for path in images.files])
    return tuple(os.path.relpath(path, root) for path in images.files)


def _refuse_too_few(protocol: Protocol, where: str) -> None:
    """As `read_pairs` does."""
    same, different = int(protocol.same.sum()), int((~protocol.same).sum())
    if min(same, different) < 2:
        raise UserError(
            f"{where} has {same} same and {different} different pairs: verification needs at least "
            "two pairs of each kind"
        )


def _most_pairs(labels: np.ndarray, pairs: int, *, seed: int) -> tuple[int, int]:
    """Into how many folds, and how many pairs, up to a number, `balanced_pairs` can draw."""
    folds = max(2, min(10, len(np.unique(labels)) // 2))
    fold = identity_folds(labels, folds=folds, seed=seed)
    most = pairs // (2 * folds)  # of a kind, in a fold
    for number in range(folds):
        _, sizes = np.unique(labels[fold == number], return_counts=True)
        same = int((sizes * (sizes - 1) // 2).sum())
        different = int(sizes.sum() * (sizes.sum() - 1) // 2) - same
        most = min(most, same, different)
    return folds, 2 * folds * max(most, 1)


def _kind(path: str) -> tuple[str, str]:
    """Which kind it is, and the path without its prefix."""
    prefix, separator, rest = path.partition(":")
    if separator and prefix in KINDS:
        return prefix, rest
    where = files.expand(path.partition("@")[0])
    if where.is_file():
        return ("bin" if where.suffix.lower() == ".bin" else "pairs"), path
    if not where.is_dir():
        raise UserError(f"there is no benchmark {where}: give a file or folder that is there")
    for folder in (where / "meta", where):
        if any(folder.glob("*_face_tid_mid.txt")):
            return "ijb", path
    if (where / "Testing_Set").is_dir() or (where / "Gallery_Match").is_dir():
        return "tinyface", path
    return ("groups" if has_groups(where) else "folder"), path
