"""What C libraries write on the standard error stream, where they have no other way to say it.

The stream is one for the whole process: while anybody listens, its file descriptor leads to a file.
Several threads may listen at a time, which is what lets them decode images side by side; then
nobody knows whose a line is, so whoever hears one does its work again while no other listens.
"""

import contextlib
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, TypeVar

T = TypeVar("T")


def heard(work: Callable[[], T], *prefixes: str) -> tuple[T, list[str]]:
    """Does a piece of work and catches what a library says of it; all else goes where it would.

    Args:
      work: to be done, and once more if anything was heard. It should be short, since what others
        write waits for its end.
      prefixes: how the library's lines begin; the same in all calls that may meet.

    Returns:
      What `work` returned, and the library's lines. Where there is no such stream, none are heard.
    """
    with _aside(prefixes, alone=False) as lines:
        result = work()
    if lines:
        with _aside(prefixes, alone=True) as lines:
            result = work()
    return result, lines


_turn = threading.Condition()
_listeners = 0
_alone = 0  # who listens alone or waits for it; meanwhile nobody else begins
_stream: int | None = None  # the true one, while anybody listens; None too where there is none
_passed = 0  # how much of the file has been looked through


@functools.cache
def _catcher() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)


@contextlib.contextmanager
def _aside(prefixes: tuple[str, ...], *, alone: bool) -> Iterator[list[str]]:
    """Yields a list that has the library's lines when the block has ended."""
    global _listeners, _alone
    lines: list[str] = []
    with _turn:
        _alone += alone
        _turn.wait_for(lambda: not (_listeners if alone else _alone))
        if not _listeners:
            _turn_aside()
        _listeners += 1
        start = _size()
    try:
        yield lines
    finally:
        with _turn:
            written = _since(start).decode(errors="replace").splitlines()
            lines += [line.strip() for line in written if line.strip().startswith(prefixes)]
            _pass_on(prefixes)
            _listeners -= 1
            _alone -= alone
            if not _listeners:
                _turn_back()
            _turn.notify_all()


def _turn_aside() -> None:
    global _stream, _passed
    _passed = 0
    try:
        catcher = _catcher().fileno()
        os.ftruncate(catcher, 0)
        os.lseek(catcher, 0, os.SEEK_SET)
        _stream = os.dup(2)
        os.dup2(catcher, 2)
    except OSError:
        _stream = None


def _turn_back() -> None:
    global _stream
    if _stream is not None:
        os.dup2(_stream, 2)
        os.close(_stream)
        _stream = None


def _size() -> int:
    return 0 if _stream is None else os.fstat(_catcher().fileno()).st_size


def _since(start: int) -> bytes:
    """What was written from a place in the file on."""
    size = _size()
    return os.pread(_catcher().fileno(), size - start, start) if size > start else b""


def _pass_on(prefixes: tuple[str, ...]) -> None:
    """Writes what is not the library's where it would have gone."""
    global _passed
    written = _since(_passed)
    _passed += len(written)
    for line in written.splitlines(keepends=True):
        if _stream is not None and not line.decode(errors="replace").strip().startswith(prefixes):
            os.write(_stream, line)
