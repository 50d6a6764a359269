"""A file that is read at places, by any number of threads and of forked processes."""

import os
import pathlib
import stat
import threading
import time
from typing import Any

from facejax.errors import UserError

CHECK_EVERY = 1.0  # seconds; to ask after a file takes as long as to read a few kilobytes of it
_WINDOW = 1 << 16


class ReadAt:
    """An open file without a position of its own.

    A copy of it (pickled, say, for a worker) opens the file anew. Every second its size and time of
    change are compared with those that it had when it was first opened, so that a file that is
    written to while it is read is noticed; one that is replaced is read on as it was.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Opens a file.

        Args:
          path: of the file.

        Raises:
          UserError: it cannot be read.
        """
        self.path = path
        self._open()
        status = os.fstat(self._descriptor)
        self.size = status.st_size
        self._changed_ns = status.st_mtime_ns
        self._checked = time.monotonic()

    def _open(self) -> None:
        try:
            # a pipe, which would wait for ever, is opened at once and refused
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, error) from error
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise UserError(f"{self.path} cannot be read (it is no file): give a file.")

    def read(self, offset: int, count: int) -> bytes:
        """Bytes of the file; fewer only at its end.

        Args:
          offset: of the first byte, 0 or more.
          count: how many, at most; never more than the file has are asked for.

        Raises:
          UserError: they cannot be read, or the file is not as it was.
        """
        count = max(0, min(count, self.size - offset))
        try:
            if time.monotonic() >= self._checked + CHECK_EVERY:
                self.check()
            content = os.pread(self._descriptor, count, offset)
            while len(content) < count:  # a signal, or more than the system gives at a time
                more = os.pread(self._descriptor, count - len(content), offset + len(content))
                if not more:
                    raise self._changed()
                content += more
        except (OSError, OverflowError) as error:
            raise _unreadable(self.path, error) from error
        return content

    def check(self) -> None:
        """Compares the file with what it was.

        Raises:
          UserError: its size or time of change is another.
        """
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.size, self._changed_ns):
            raise self._changed()
        self._checked = time.monotonic()

    def _changed(self) -> UserError:
        return UserError(
            f"{self.path} changed while it was read: start again when nobody writes to it any more."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_descriptor"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()
        self.check()

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


class Ahead:
    """A `ReadAt` that is read from front to back by one thread, a window at a time."""

    def __init__(self, file: ReadAt) -> None:
        self.path, self.size = file.path, file.size
        self._file, self._start, self._window = file, 0, b""

    def read(self, offset: int, count: int) -> bytes:
        """As `ReadAt.read`."""
        at = offset - self._start
        if at < 0 or at + count > len(self._window):
            if count > _WINDOW:
                return self._file.read(offset, count)
            self._start, self._window, at = offset, self._file.read(offset, _WINDOW), 0
        return self._window[at : at + count]

    def check(self) -> None:
        """As `ReadAt.check`."""
        self._file.check()


class PerThread(threading.local):
    """What each thread, and each copy of its owner, makes for itself; set attributes on it."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return PerThread, ()


def _unreadable(path: pathlib.Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(f"{path} cannot be read ({reason}): mend it, or who may read it.")
