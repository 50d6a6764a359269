"""CSV files that say something of images: `path,quality`, or `path,skin,age,...`, with a header."""

import csv
import math
import os
import posixpath
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facejax import files
from facejax.data import IMAGE_SUFFIXES
from facejax.errors import UserError


class ImageTable:
    """What a CSV file says of images, a row each.

    Attributes:
      path: of the file.
      columns: their names but for the first, which is "path".
    """

    def __init__(self, path: str | Path) -> None:
        """Reads a file.

        Args:
          path: of the file, UTF-8, with commas, a header whose first field is "path", and the paths
            of images, relative to their folder, each once; `~` is the home.

        Raises:
          UserError: it can't be read, or a line is malformed; its number is named.
        """
        self.path = files.expand(path)
        self._rows: dict[str, tuple[int, list[str]]] = {}
        header: list[str] = []
        for line, fields in _lines(self.path):
            fields = [field.strip() for field in fields]
            where = f"{self.path}, line {line}"
            if not header:
                header = fields
                if len(header) < 2 or header[0] != "path" or len(set(header)) < len(header):
                    raise UserError(
                        f"{where}: {_shown(','.join(fields))} is no header; write "
                        "`path,` and the names of the columns, each once"
                    )
                continue
            if len(fields) != len(header) or not fields[0]:
                raise UserError(
                    f"{where}: {_shown(','.join(fields))} has {len(fields)} fields, where the "
                    f"header has {len(header)}; write a path and a value for each column"
                )
            key = image_key(fields[0])
            if key in self._rows:
                raise UserError(
                    f"{where}: {_shown(fields[0])} was in line {self._rows[key][0]} already; drop "
                    "one of them"
                )
            self._rows[key] = line, fields[1:]
        if not self._rows:
            raise UserError(f"{self.path} has no row: give a header and a line for each image")
        self.columns = tuple(header[1:])

    def texts(self, column: str, names: Sequence[str]) -> np.ndarray:
        """A column of the images, as it is written.

        Args:
          column: its name.
          names: [M] of the images, relative to their folder; an image's suffix may be left out
            here or in the file.

        Returns:
          [M] of str.

        Raises:
          UserError: there is no such column, or an image is not in the file.
        """
        return np.array([text for _, text in self._found(column, names)], str)

    def numbers(self, column: str, names: Sequence[str]) -> np.ndarray:
        """A column of the images as numbers.

        Args:
          column: its name.
          names: [M], as in `texts`.

        Returns:
          float64 [M], finite.

        Raises:
          UserError: as `texts`, or a value is no finite number.
        """
        values = []
        for line, text in self._found(column, names):
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise UserError(
                    f"{self.path}, line {line}: {_shown(text)} is no number; give {column} as one"
                )
            values.append(value)
        return np.array(values)

    def _found(self, column: str, names: Sequence[str]) -> list[tuple[int, str]]:
        if column not in self.columns:
            raise UserError(
                f"{self.path} has no column {_shown(column)}: give one of {', '.join(self.columns)}"
            )
        number = self.columns.index(column)
        found = []
        for name in names:
            row = self._rows.get(image_key(name))
            if row is None:
                raise UserError(f"{self.path} has no row for {_shown(name)}: add one")
            found.append((row[0], row[1][number]))
        return found


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, with the number of the line that each ends in."""
    try:
        content = path.read_bytes()
        if b"\0" in content:  # a text in UTF-16, which often is UTF-8 too
            raise ValueError
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"there is no file {path}: check its path") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): give a CSV file that can be read"
        ) from error
    except ValueError:
        raise UserError(f"{path} is no text in UTF-8: save it as UTF-8") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    rows = []
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append((reader.line_num, row))
    except csv.Error as error:  # a quote that is not closed, a field of more than 128 KiB
        raise UserError(
            f"{path}, line {reader.line_num} is not CSV ({error}): mend its quotes"
        ) from None
    return rows


def image_key(name: str) -> str:
    """One spelling for what is plainly one image, without its suffix.

    Args:
      name: of an image file, relative to its folder.
    """
    plain = unicodedata.normalize("NFC", posixpath.normpath(name))
    stem, suffix = os.path.splitext(plain)
    return stem if suffix.lower() in IMAGE_SUFFIXES else plain


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:97]}...")
