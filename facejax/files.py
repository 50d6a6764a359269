"""Files that are whole or not there, locks that no dead process holds, and the caches' home."""

import contextlib
import fcntl
import os
import pathlib
import platform
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np

from facejax.errors import UserError

Path = str | os.PathLike[str]


def home() -> pathlib.Path:
    """Where facejax keeps what it can make again: `$FACEJAX_HOME`, or `~/.cache/facejax`."""
    return expand(os.environ.get("FACEJAX_HOME") or "~/.cache/facejax")


def expand(path: Path) -> pathlib.Path:
    """The path with `~` and a leading `$FACEJAX_HOME` put in.

    Args:
      path: as a person or a config writes it.

    Raises:
      UserError: there is no such home.
    """
    first, *rest = pathlib.Path(path).parts or (".",)
    if first == "$FACEJAX_HOME":
        return home().joinpath(*rest)
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:  # no HOME, and nobody of that name or number in the password file
        raise UserError(
            f"{path} is in a home folder that is not known: set HOME, or give the path in full"
        ) from None


def try_folder(path: Path) -> None:
    """Tries whether files can be written into a folder, which is made where it is missing.

    Args:
      path: of the folder; nothing is left in it.

    Raises:
      OSError: it can't be made or written into.
    """
    folder = pathlib.Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))  # a full disk takes an empty file
        file.flush()


@contextlib.contextmanager
def refusing(path: Path, remedy: str) -> Iterator[None]:
    """Tells a person that something can't be written.

    Args:
      path: what is written inside the block.
      remedy: what to do then, the end of the sentence.

    Raises:
      UserError: where the block raises an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"can't write {path} ({error.strerror or error}): {remedy}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[pathlib.Path]:
    """A path beside `path` to write a file or a folder at, which becomes `path` once it is whole.

    What was there before stays until then, and stays for good if the block raises or the process
    dies. Its folder is made where it is missing. A file replaces a file; a folder, nothing.

    Args:
      path: where the result is to be.

    Yields:
      A hidden path in the same folder, with the same suffix, at which there is nothing.

    Raises:
      OSError: it can't be written there; the partial file is removed.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = f"{platform.node()}-{os.getpid()}"  # several machines may share the folder
    partial = path.with_name(f".{path.stem}.partial-{mine}{path.suffix}")
    remove(partial)
    try:
        yield partial
        if partial.is_file():
            _flush(partial)
        partial.replace(path)
        _flush(path.parent)
    finally:
        remove(partial)


def write(path: Path, content: str | bytes) -> None:
    """Writes a whole file in place of the one that is there; text as UTF-8.

    Args:
      path: of the file.
      content: all of it.

    Raises:
      OSError: it can't be written; the old file is as it was.
    """
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def load_arrays(path: Path, *names: str) -> list[np.ndarray] | None:
    """Reads arrays of a cache, an npz file, whose checksums are compared.

    Args:
      path: of the file.
      names: of the arrays.

    Returns:
      The arrays; None where one is missing or damaged, and so must be made again.
    """
    try:
        with np.load(path) as kept:
            return [kept[name] for name in names]
    except Exception:  # of a damaged file NumPy and zipfile raise nearly everything
        return None


def append_line(path: Path, line: str) -> None:
    """Adds a line to a text file, in one write.

    Args:
      path: of the file, which need not be there.
      line: without its end.
    """
    with pathlib.Path(path).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it, if it is there.

    Args:
      path: of either.
    """
    path = pathlib.Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds a lock; the system frees it when the process ends, however it ends.

    Args:
      path: a file that stands for the lock, made where it is missing and never removed.
    """
    with pathlib.Path(path).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flush(path: pathlib.Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
