"""Whether the files of a dataset are those that were written."""

import contextlib
import json
import pathlib
from typing import NamedTuple

from facejax import files
from facejax.data.hashes import sha256_of, status_of
from facejax.errors import UserError

MANIFEST = "manifest.json"


class Manifest(NamedTuple):
    """What was written, beside the index, which its owner may change."""

    content: str  # the fingerprint of the source
    skipped: tuple[tuple[str, str], ...]  # the damaged images that were left out, and why
    hashes: dict[str, str]  # SHA-256 of each file, hexadecimal
    status: dict[str, tuple[int, ...]]  # of each file, see `hashes.status_of`


def write(
    directory: pathlib.Path,
    *,
    content: str,
    skipped: list[tuple[str, str]],
    unlisted: tuple[str, ...],
) -> None:
    """Writes the manifest of a directory that is complete.

    Args:
      directory: the dataset.
      content: the fingerprint of its source.
      skipped: the damaged images that were left out, and why.
      unlisted: the files that may change.

    Raises:
      OSError: a file cannot be read or written.
    """
    listed = [path for path in sorted(directory.iterdir()) if path.name not in unlisted]
    hashes = {path.name: sha256_of(path) for path in listed}
    status = {path.name: status_of(path.stat()) for path in listed}
    _save(directory, Manifest(content, tuple(skipped), hashes, status))


def check(directory: pathlib.Path) -> Manifest:
    """Compares a dataset with its manifest.

    Sizes are always compared; a file is read only if its status is not that of the last time.

    Args:
      directory: the dataset.

    Returns:
      The manifest.

    Raises:
      UserError: the dataset is damaged.
      OSError: it cannot be read.
    """
    try:
        manifest = _load(directory)
        status = {}
        for name, before in manifest.status.items():
            status[name] = status_of((directory / name).stat())
            if status[name] == before:
                continue
            if status[name][0] != before[0] or sha256_of(directory / name) != manifest.hashes[name]:
                raise damaged(directory, f"{name} is not as it was written")
    except FileNotFoundError as error:
        raise damaged(directory, f"{pathlib.Path(error.filename).name} is missing") from None
    if status != manifest.status:
        with contextlib.suppress(OSError):  # one that only others may write is read again next time
            _save(directory, manifest._replace(status=status))
    return manifest


def damaged(directory: pathlib.Path, what: str) -> UserError:
    """The sentence about a dataset that cannot be used.

    Args:
      directory: the dataset.
      what: is wrong with it, a clause.
    """
    return UserError(f"the dataset {directory} is damaged ({what}): delete it and build it again.")


def _save(directory: pathlib.Path, manifest: Manifest) -> None:
    files.write(directory / MANIFEST, json.dumps(manifest._asdict(), indent=1) + "\n")


def _load(directory: pathlib.Path) -> Manifest:
    content = (directory / MANIFEST).read_bytes()
    try:
        kept = json.loads(content)
        hashes = {name: str(kept["hashes"][name]) for name in kept["hashes"]}
        status = {name: tuple(map(int, kept["status"][name])) for name in hashes}
        skipped = tuple((str(name), str(reason)) for name, reason in kept["skipped"])
        return Manifest(str(kept["content"]), skipped, hashes, status)
    except (ValueError, KeyError, TypeError):
        raise damaged(directory, f"{MANIFEST} cannot be read") from None
