"""From the names in a pair file to the image files they mean."""

import os
import unicodedata
from pathlib import Path

import numpy as np

from facejax import files
from facejax.data import IMAGE_SUFFIXES, is_image
from facejax.errors import UserError
from facejax.evaluation.pairs import Pairs, refuse_contradictions, shown


def resolve_images(pairs: Pairs, folder: str | Path) -> tuple[list[Path], np.ndarray]:
    """Finds the image files of the pairs, each once, however many spellings it has.

    Args:
      pairs: names that are files under the folder, or become so with one of
        `facejax.data.IMAGE_SUFFIXES`, in any case; the Unicode form need not be the same.
      folder: where the images are; `~` is the home.

    Returns:
      (files, indices): M distinct files in the order of first use, and [N, 2] int numbers in
      [0, M) of the images of each pair.

    Raises:
      UserError: there is no such folder, a pair names a missing image or one that cannot be looked
        up, a file is paired with itself, or two files are called both same and different.
    """
    folder = files.expand(folder)
    if not os.path.isdir(folder):  # False too where it cannot be looked at
        raise UserError(f"there is no image folder {folder}: give the folder the pairs refer to")
    finder = _Finder()
    numbers: dict[str, int] = {}
    numbers_of_files: dict[tuple[int, int], int] = {}
    found: list[Path] = []
    for names, line in zip(zip(pairs.first, pairs.second, strict=True), pairs.lines, strict=True):
        for name in names:
            if name in numbers:
                continue
            where = f"{pairs.path}, line {line} names the image {shown(name)}, which"
            try:
                image = finder.find(folder, name)
                status = None if image is None else image.stat()
            except OSError as error:
                raise UserError(
                    f"{where} cannot be looked up in {folder} ({error.strerror}): mend the folder "
                    "or who may read it"
                ) from error
            if image is None or status is None:
                raise UserError(
                    f"{where} is not in {folder}: add the image, drop the line or give another "
                    "image folder"
                )
            number = numbers_of_files.setdefault((status.st_dev, status.st_ino), len(found))
            if number == len(found):
                found.append(image)
            numbers[name] = number
    first, second = ([numbers[name] for name in side] for side in (pairs.first, pairs.second))
    refuse_contradictions(first, second, pairs)
    return found, np.stack([first, second], axis=1).astype(np.int64)


class _Finder:
    """Looks names up; each folder that does not have them as they are is listed once."""

    def __init__(self) -> None:
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """The file of that name, None if there is none."""
        if max(map(len, os.fsencode(name).split(b"/"))) > 255 or "\0" in name:
            return None  # the system would not look at all
        if (folder / name).is_file():
            return folder / name
        *parents, last = Path(name).parts or ("",)
        for part in parents:
            if not (folder / part).is_dir():
                part = self._listing(folder).get(_composed(part), Path(part)).name
            folder = folder / part
        image = self._listing(folder).get(_alike(last))
        return image if image is not None and image.is_file() else None

    def _listing(self, folder: Path) -> dict[str, Path]:
        """What a folder holds, by full names and those without suffix; {} if it is not there."""
        if folder not in self._listings:
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
            images = [path for path in paths if is_image(path.name)]
            images.sort(key=lambda path: IMAGE_SUFFIXES.index(path.suffix.lower()))
            listing: dict[str, Path] = {}
            for key, candidates in ((_composed, paths), (_alike, images), (_stem, images)):
                for path in candidates:
                    listing.setdefault(key(path.name), path)  # the first one stays
            self._listings[folder] = listing
        return self._listings[folder]


def _composed(name: str) -> str:
    """macOS spells accents as characters of their own, most pair files do not."""
    return unicodedata.normalize("NFC", name)


def _alike(name: str) -> str:
    """The name with a suffix of an image in lower case."""
    stem, suffix = os.path.splitext(name)
    return _composed(stem) + (suffix.lower() if suffix.lower() in IMAGE_SUFFIXES else suffix)


def _stem(name: str) -> str:
    return _composed(os.path.splitext(name)[0])
