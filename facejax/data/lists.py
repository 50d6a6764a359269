"""A list file: a line for each image, its path and its label."""

import array
import os
import pathlib
import re
import stat
import zlib
from typing import Any

import numpy as np
import tqdm

from facejax import files
from facejax.data.folder import few
from facejax.data.images import is_image, read_file
from facejax.data.labels import Numbering
from facejax.data.read_at import ReadAt
from facejax.errors import UserError

_LONGEST = 1 << 16  # bytes of a line
_USUAL = 512
_WHOLE_NUMBER = re.compile(r"\d{1,18}(?:\.0*)?", re.ASCII)


class ListSource:
    """The images of a list file; build it with `list_source`.

    In memory it has 16 bytes for each image: where its line is, its label and what tells whether
    the image changed.
    """

    def __init__(
        self,
        file: ReadAt,
        folder: pathlib.Path,
        offsets: np.ndarray,
        status: np.ndarray,
        labels: np.ndarray,
        names: tuple[str, ...],
    ) -> None:
        self._file, self._folder, self._offsets, self._status = file, folder, offsets, status
        self.labels = labels
        self.identity_names = names

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        offset = int(self._offsets[index])
        line = self._file.read(offset, _USUAL)
        if b"\n" not in line and len(line) == _USUAL:
            line = self._file.read(offset, _LONGEST)
        name = _fields(line.split(b"\n")[0].decode())[0]
        path = _inside(self._folder, name)
        try:
            same = _status(path) == self._status[index]
        except ValueError:
            same = False
        if not same:
            raise UserError(
                f"{path} changed since {self._file.path} was opened: start again when nobody "
                "writes to the images any more."
            )
        return {"image": read_file(path, name), "label": int(self.labels[index]), "id": name}


def list_source(
    path: files.Path, *, folder: files.Path | None = None, progress: bool = False
) -> ListSource:
    """A list file as a source, its images in the order of the lines.

    A line is a path and a label with spaces between them (the path may have some too) or tabs; with
    tabs, also an index, a label and a path, or something, a path and a label, as InsightFace's
    `.lst` have it. What follows is passed over, and so are blank lines and those that begin with
    `#`. Labels are whole numbers or names; numbers come first, each in order, and where some are
    missing those behind them move up.

    No line leads out of the folder: neither `..` nor an absolute path. Links inside the folder are
    followed, as whoever made them has the say over the folder, and the list has not.

    Args:
      path: of the list, UTF-8; `~` is the home.
      folder: what the paths are relative to; the list's own where it is None.
      progress: show a progress bar on stderr if it takes a while.

    Returns:
      A source whose `[i]` is `{"image": bytes, "label": int, "id": the path as it is written}`. It
      can be pickled. An image that was changed since is refused when it is read.

    Raises:
      UserError: with the number of the line, on one that is no path and label, leads out of the
        folder or to no file; the list cannot be read, or has no image.
    """
    path = files.expand(path)
    folder = path.parent if folder is None else files.expand(folder)
    file = ReadAt(path)
    offsets, status, labels = array.array("q"), array.array("I"), Numbering()
    place = number = 0
    with (
        path.open("rb") as lines,
        tqdm.tqdm(desc="reading", unit=" lines", delay=3, disable=not progress) as bar,
    ):
        while line := lines.readline(_LONGEST):
            number += 1
            start, place = place, place + len(line)
            try:
                if len(line) == _LONGEST:
                    raise ValueError("is too long")
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if number == 1 and line.startswith(b"\xef\xbb\xbf"):
                    start += 3
                if not text.strip() or text.lstrip().startswith("#"):
                    continue
                name, label = _fields(text)
                status.append(_status(_inside(folder, name)))
            except ValueError as error:
                what = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
                raise UserError(
                    f"line {number} of {path} {what}: each should have the path of an image in "
                    f"{folder} and a label."
                ) from None
            offsets.append(start)
            labels.add(label)
            bar.update()
    if not offsets:
        raise UserError(f"{path} has no images: give a line with a path and a label for each.")
    numbers, names = labels.finish()
    file.check()
    return ListSource(
        file,
        folder,
        np.frombuffer(offsets, np.int64),
        np.frombuffer(status, np.uint32),
        numbers,
        names,
    )


def _fields(line: str) -> tuple[str, int | str]:
    """The path and the label of a line.

    Raises:
      ValueError: with a clause, where they can't be told.
    """
    line = line.strip(" \r\n")
    fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.rsplit(None, 1)
    if len(fields) < 2:
        raise ValueError("has no label")
    if len(fields) == 2:
        path, label = fields
    else:
        column = next((at for at, field in enumerate(fields) if _is_image(field)), None)
        if column is None:
            raise ValueError("names no image")
        path = fields[column]
        label = fields[1] if column > 1 else fields[column + 1]  # index, label, path
    if not _is_image(path):
        raise ValueError("names no image")
    if not label:
        raise ValueError("has no label")
    if _WHOLE_NUMBER.fullmatch(label):
        return path, int(label.partition(".")[0])
    return path, label


def _is_image(path: str) -> bool:
    return is_image(path.rpartition("/")[2])


def _inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Where a path of the list leads to, which is in the folder.

    Raises:
      ValueError: with a clause, where it is not.
    """
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, name))  # so that no link stands before a ".."
    if not path.startswith(os.path.join(root, "")):
        raise ValueError(f"leads out of the folder ({few([name])})")
    return pathlib.Path(path)


def _status(path: pathlib.Path) -> int:
    """32 bits that are others when a file's size or time of change is.

    Raises:
      ValueError: with a clause, if there is no file.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"leads to no file ({few([str(path)])}: {reason})") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"leads to no file ({few([str(path)])})")
    return zlib.crc32(f"{status.st_size} {status.st_mtime_ns}".encode())
