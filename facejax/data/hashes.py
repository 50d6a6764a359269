"""SHA-256 of files, and when a file need not be read again to know that it is still the same."""

import hashlib
import io
import os
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tqdm

from facejax import files
from facejax.data.folder import counted, few
from facejax.errors import UserError

# A file that was changed this short a time before it was read might be changed again without a new
# time of change, as some file systems count whole seconds; it is read anew at the next look.
SETTLED_NS = 2_000_000_000


class FileHashes(NamedTuple):
    """What is known of N files of a folder."""

    names: tuple[str, ...]  # relative to the folder
    status: np.ndarray  # int64 [N, 4]: see `status_of`; -1 where the file must be read anew
    digests: np.ndarray  # uint8 [N, 32]: SHA-256


NOTHING_KNOWN = FileHashes((), np.zeros((0, 4), np.int64), np.zeros((0, 32), np.uint8))


def status_of(status: os.stat_result) -> tuple[int, ...]:
    """Size, times of change of contents and of entry in ns, inode: all four, or it is another.

    Args:
      status: of a file.
    """
    inode = status.st_ino & (2**63 - 1)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode


def hash_files(
    folder: pathlib.Path,
    names: Sequence[str],
    known: FileHashes = NOTHING_KNOWN,
    *,
    progress: bool = False,
) -> FileHashes:
    """Hashes files; those whose status is as it was are not read.

    Args:
      folder: where the files are.
      names: of the files, relative to the folder.
      known: what an earlier call gave.
      progress: show a progress bar on stderr if it takes a while.

    Raises:
      UserError: a file cannot be read; all of them are told.
    """
    started = time.time_ns()
    status = np.empty((len(names), 4), np.int64)
    digests = np.zeros((len(names), 32), np.uint8)
    unreadable = []
    for index, name in enumerate(names):
        try:
            status[index] = status_of((folder / name).stat())
        except OSError:
            status[index] = -1  # reading it will say why
    rows = {name: row for row, name in enumerate(known.names)}
    row = np.array([rows.get(name, -1) for name in names], np.int64)
    same = (row >= 0) & (status[:, 0] >= 0)
    same[same] = (status[same] == known.status[row[same]]).all(axis=1)
    digests[same] = known.digests[row[same]]
    changed = np.flatnonzero(~same).tolist()
    for index in tqdm.tqdm(changed, "reading", unit=" images", delay=3, disable=not progress):
        try:
            content = (folder / names[index]).read_bytes()
        except OSError as error:
            unreadable.append(f"{names[index]}: {error.strerror}")
        else:
            digests[index] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
    if unreadable:
        raise UserError(
            f"{counted(len(unreadable), 'image')} of {folder} cannot be read ({few(unreadable)}): "
            "mend what is named or who may read it, or remove it."
        )
    status[~same & (status[:, 2] > started - SETTLED_NS)] = -1
    return FileHashes(tuple(names), status, digests)


def save(path: pathlib.Path, hashes: FileHashes) -> None:
    """Keeps what is known in a file.

    Args:
      path: of the file.
      hashes: what is known.

    Raises:
      OSError: it cannot be written.
    """
    names = np.frombuffer("\0".join(hashes.names).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, names=names, status=hashes.status, digests=hashes.digests)
    files.write(path, content.getvalue())


def load(path: pathlib.Path) -> FileHashes:
    """Reads what `save` kept; nothing is known where the file is missing or damaged.

    Args:
      path: of the file.
    """
    kept = files.load_arrays(path, "names", "status", "digests")
    if kept is None:
        return NOTHING_KNOWN
    names = tuple(kept[0].tobytes().decode().split("\0"))
    return FileHashes(names, kept[1], kept[2])


def sha256_of(path: pathlib.Path) -> str:
    """The hexadecimal SHA-256 of a file of any size.

    Args:
      path: of the file.

    Raises:
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
