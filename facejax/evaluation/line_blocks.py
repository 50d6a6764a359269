"""Large text files by blocks of lines, and lines of whole numbers taken apart by NumPy."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facejax.errors import UserError

BLOCK = 1 << 22  # bytes
DIGITS = 18  # at most of a number, which so is an int64
_LONGEST = 1 << 16  # bytes of a line


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Reads a text file a block at a time.

    Args:
      path: of the file; a mark of UTF-8 at its beginning is left out, and a carriage return before
        a newline.

    Yields:
      The number of the block's first line, and whole lines that end in a newline.

    Raises:
      UserError: it can't be read, or a line is too long to be one.
    """
    line, rest = 1, b""
    try:
        with path.open("rb") as file:
            while part := file.read(BLOCK):
                if line == 1 and not rest:
                    part = part.removeprefix(b"\xef\xbb\xbf")
                whole, newline, rest_of = part.rpartition(b"\n")
                if newline:
                    block = rest + whole + newline
                    if b"\r" in block:  # looking for one byte is much faster
                        block = block.replace(b"\r\n", b"\n")
                    yield line, block
                    line += block.count(b"\n")
                    rest = rest_of
                else:
                    rest += part
                if len(rest) > _LONGEST:
                    raise UserError(
                        f"{path}, line {line}: it is longer than {_LONGEST} bytes; give a text "
                        "file with a line for each entry"
                    )
    except FileNotFoundError:
        raise UserError(f"there is no file {path}: give the folder of the protocol") from None
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror}): give a file that can be read"
        ) from error
    if rest:
        yield line, rest.rstrip(b"\r") + b"\n"


def fields_of(block: tuple[int, bytes]) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """The number, text and fields of each line that is not empty.

    Args:
      block: of `blocks`.
    """
    first, text = block
    for number, line in enumerate(text.split(b"\n"), first):
        if fields := line.split():
            yield number, line, fields


def integers(block: bytes, columns: int) -> np.ndarray | None:
    """Lines of whole numbers, int64 [lines, columns]; None where other than one space is between.

    Every byte is looked at: there is nothing but digits, at most 18 at a time, and separators where
    they belong.

    Args:
      block: lines that end in a newline.
      columns: numbers of a line.
    """
    text = np.frombuffer(block, np.uint8)
    digits = text - np.uint8(ord("0"))  # what is no digit is 10 or more
    (ends,) = np.nonzero(digits > 9)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts
    if len(ends) % columns or not 0 < lengths.min() <= lengths.max() <= DIGITS:
        return None
    separators = text[ends].reshape(-1, columns)
    if (separators[:, :-1] != ord(" ")).any() or (separators[:, -1] != ord("\n")).any():
        return None
    values = np.zeros((len(ends) // columns, columns), np.int64)
    for column in range(columns):
        last, length = ends[column::columns] - 1, lengths[column::columns].astype(np.uint8)
        value = digits[last].astype(np.int64)
        for place in range(1, length.max()):  # the tens, the hundreds, ...; 0 of a shorter number
            value += digits[last - place] * (length > place) * np.int64(10**place)
        values[:, column] = value
    return values
