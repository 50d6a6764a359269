"""Sources: random access to encoded face images and their labels."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from facejax import files
from facejax.data.folder import list_folder, refuse_what_cannot_be_learned
from facejax.data.hashes import NOTHING_KNOWN, FileHashes, hash_files
from facejax.data.images import read_file


class Source(Protocol):
    """Random access to records, with every label known without reading an image.

    `source[i]` is a dict with at least `"image"`, encoded bytes or uint8 [H, W, 3] RGB, and
    `"label"`, an int in [0, num_classes); `"id"`, a str, names the record in messages where there
    is one.

    Five members are optional. The functions of the same names here stand in for the first two.
      identity_names: Sequence[str], the name of each label; else the labels as decimal numbers.
      fingerprint(): a str that changes when any record does, cheaper than reading all of them.
      passed_over: tuple[str, ...], a clause for each kind of thing that was found and left out.
      checked: bool, whether every image is known to be whole; else each is looked at once.
      read_into(numbers, images): copies the images with these numbers, int64 [B], into uint8
        [B, H, W, 3] at once, quicker than one by one. False where it can't, as of another size.
    """

    @property
    def labels(self) -> np.ndarray:
        """Every label, int32 [N]."""

    @property
    def num_classes(self) -> int:
        """The number of identities."""

    def __len__(self) -> int:
        """The number of records, N."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Record number `index`, 0 <= index < N."""


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """A folder of identities; build it with `folder_source`."""

    path: pathlib.Path
    ids: tuple[str, ...]  # "Name/Name_0001.jpg", by identity and then by file name
    labels: np.ndarray
    identity_names: tuple[str, ...]
    passed_over: tuple[str, ...] = ()  # "1 file beside the identity folders (notes.txt)"

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = read_file(self.path / self.ids[index], self.ids[index])
        return {"image": image, "label": int(self.labels[index]), "id": self.ids[index]}

    def hash_files(
        self, known: FileHashes = NOTHING_KNOWN, *, progress: bool = False
    ) -> FileHashes:
        """SHA-256 of every image; see `facejax.data.hashes.hash_files`."""
        return hash_files(self.path, self.ids, known, progress=progress)

    def fingerprint(self) -> str:
        """Hash of every image and its name: all of them are read."""
        return content_fingerprint(self, self.hash_files().digests, self.ids)


def folder_source(path: str | os.PathLike[str], *, sessions: bool = False) -> FolderSource:
    """A folder of identities, `path/<Name>/<image>`, as a source.

    Images are the files that end in one of `facejax.data.IMAGE_SUFFIXES`, in any case. Folders in
    sorted order have the labels 0, 1, ... Folders without an image, images in folders further
    down, files that are no images and hidden names (`facejax.data.is_hidden`) are passed over, and
    `passed_over` says so. No image is opened here.

    Args:
      path: the folder that holds one folder for each identity; `~` is the home.
      sessions: whether folders inside an identity's, at any depth, have more of its images.

    Returns:
      A source whose `[i]` is `{"image": bytes, "label": int, "id": "Name/Name_0001.jpg"}`.

    Raises:
      UserError: `path` is not a folder, has no images, has them outside of identity folders, or
        has only one identity; a folder in it cannot be read, a link is broken, a name is not UTF-8.
    """
    path = files.expand(path)
    listing = list_folder(path, sessions=sessions)
    refuse_what_cannot_be_learned(path, listing)
    people = listing.images.items()
    ids = tuple(f"{identity}/{image}" for identity, images in people for image in images)
    labels = np.repeat(np.arange(len(people)), [len(images) for _, images in people])
    return FolderSource(
        path, ids, labels.astype(np.int32), tuple(listing.images), listing.passed_over()
    )


def identity_names(source: Source) -> tuple[str, ...]:
    """The name of each label: the source's `identity_names`, else "0", "1", ...

    Args:
      source: any.

    Returns:
      `source.num_classes` names.
    """
    names = getattr(source, "identity_names", None)
    return tuple(map(str, range(source.num_classes)) if names is None else names)


def fingerprint(source: Source) -> str:
    """A hash that changes when a record does: the source's `fingerprint()`, else of all records.

    Args:
      source: any; every record is read where it has no `fingerprint()` of its own.

    Returns:
      At least 16 characters that may stand in a file's name.
    """
    own = getattr(source, "fingerprint", None)
    if own is not None:
        return own()
    digests = np.empty((len(source), 32), np.uint8)
    ids = []
    for index in range(len(source)):
        record = source[index]
        image = record["image"]
        ids.append(record.get("id", ""))
        # the shape too: arrays of other shapes may have the same bytes
        digest = hashlib.sha256(str(image.shape).encode() if isinstance(image, np.ndarray) else b"")
        digest.update(image.tobytes() if isinstance(image, np.ndarray) else image)
        digests[index] = np.frombuffer(digest.digest(), np.uint8)
    return content_fingerprint(source, digests, ids)


def content_fingerprint(source: Source, digests: np.ndarray, ids: Sequence[str]) -> str:
    """A hash of all that a source says, from those of its images.

    Args:
      source: any.
      digests: uint8 [N, 32], SHA-256 of each image.
      ids: N names of the records.

    Returns:
      64 hexadecimal digits.
    """
    digest = hashlib.sha256(np.asarray(source.labels, np.int32).tobytes())
    digest.update(digests.tobytes())
    digest.update(json.dumps([identity_names(source), ids]).encode())
    return digest.hexdigest()
