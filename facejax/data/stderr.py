"""What C libraries write on the standard error stream, where they have no other way to say it."""

import contextlib
import functools
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

_ONE_AT_A_TIME = threading.Lock()  # the stream is one for the whole process


@functools.cache
def _catcher() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)


@contextlib.contextmanager
def hearing(*prefixes: str) -> Iterator[list[str]]:
    """Catches the lines of a library; those of anybody else go where they would have gone.

    The file descriptor itself is turned aside while the block runs, so the block should be short,
    and no two run at a time. Where there is no such stream, nothing is heard.

    Args:
      prefixes: how the library's lines begin.

    Yields:
      A list that holds the library's lines when the block has ended.
    """
    heard: list[str] = []
    with _ONE_AT_A_TIME:
        try:
            catcher = _catcher().fileno()
            stream = os.dup(2)
        except OSError:
            yield heard
            return
        try:
            os.dup2(catcher, 2)
            yield heard
        finally:
            os.dup2(stream, 2)
            os.close(stream)
            for line in _taken_out(catcher):
                text = line.decode(errors="replace").strip()
                if text.startswith(prefixes):
                    heard.append(text)
                else:
                    os.write(2, line)


def _taken_out(catcher: int) -> list[bytes]:
    """The lines in a file, which is empty then."""
    size = os.fstat(catcher).st_size
    if not size:
        return []
    os.lseek(catcher, 0, os.SEEK_SET)
    lines = os.read(catcher, size).splitlines(keepends=True)
    os.lseek(catcher, 0, os.SEEK_SET)
    os.ftruncate(catcher, 0)
    return lines
