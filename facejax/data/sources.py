"""Sources: random access to encoded face images and their labels."""

import dataclasses
import hashlib
import os
import pathlib
from typing import Any, Protocol

import cv2
import numpy as np

from facejax.errors import UserError

# In lower case; the first of them is taken where a name without one fits several files.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm")

# OpenCV prints lines of its own for a damaged image; `decode` says it once, with the name.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
_set_log_level(0)  # OpenCV 4 has the one, OpenCV 5 the other


class Source(Protocol):
    """Random access to records, with every label known without reading an image.

    `source[i]` is a dict with at least `"image"`, encoded bytes or uint8 [H, W, 3] RGB, and
    `"label"`, an int in [0, num_classes); `"id"`, a str, names the record in messages where there
    is one.

    Two members are optional; the functions of the same names here stand in where they are missing.
      identity_names: Sequence[str], the name of each label; else the labels as decimal numbers.
      fingerprint(): a str that changes when any record does, cheaper than reading all of them.
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

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = (self.path / self.ids[index]).read_bytes()
        return {"image": image, "label": int(self.labels[index]), "id": self.ids[index]}

    def fingerprint(self) -> str:
        """Hash of every file's name, size and time of change; no image is read."""
        digest = hashlib.sha256()
        for record_id in self.ids:
            status = (self.path / record_id).stat()
            digest.update(f"{record_id}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.hexdigest()


def folder_source(path: str | os.PathLike[str]) -> FolderSource:
    """A folder of identities, `path/<Name>/<image>`, as a source.

    Images are the files that end in one of `IMAGE_SUFFIXES`, in any case. Folders in sorted order
    have the labels 0, 1, ...; folders without an image, hidden files and other files are passed
    over. No image is opened here.

    Args:
      path: the folder that holds one folder for each identity.

    Returns:
      A source whose `[i]` is `{"image": bytes, "label": int, "id": "Name/Name_0001.jpg"}`.

    Raises:
      UserError: `path` is not a folder, has no images, has them outside of identity folders, or
        has only one identity.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: give a folder that holds one folder per identity.")
    if not path.is_dir():
        raise UserError(f"{path} is a file: give a folder that holds one folder per identity.")

    ids: list[str] = []
    labels: list[int] = []
    identity_names: list[str] = []
    for folder in sorted(entry.name for entry in os.scandir(path) if entry.is_dir()):
        images = sorted(entry.name for entry in os.scandir(path / folder) if is_image(entry.name))
        if images:
            ids += [f"{folder}/{image}" for image in images]
            labels += [len(identity_names)] * len(images)
            identity_names.append(folder)

    if not ids and any(is_image(entry.name) for entry in os.scandir(path)):
        raise UserError(
            f"{path} holds images but no folder per identity: move each person's images into a "
            "folder of their own there."
        )
    if not ids:
        raise UserError(
            f"{path} has no images: put them in one folder per identity, as {path}/<Name>/<image> "
            f"({', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)})."
        )
    if len(identity_names) == 1:
        raise UserError(
            f"{path} has only one identity ({identity_names[0]}): add the folder of at least one "
            "more person."
        )
    return FolderSource(path, tuple(ids), np.asarray(labels, np.int32), tuple(identity_names))


def is_image(name: str) -> bool:
    """Whether a file is an image by its name: one of `IMAGE_SUFFIXES`, and not hidden.

    Args:
      name: of the file, without its folder.
    """
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


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
    digest = hashlib.sha256(np.asarray(source.labels, np.int32).tobytes())
    for index in range(len(source)):
        image = source[index]["image"]
        # the shape too: arrays of other shapes may have the same bytes
        digest.update(f"{np.shape(image)} {len(image)}\0".encode())
        digest.update(image.tobytes() if isinstance(image, np.ndarray) else image)
    return digest.hexdigest()


def decode(image: bytes | np.ndarray, image_size: int | None, name: str = "an image") -> np.ndarray:
    """Decodes an image to RGB and resizes it to a square.

    Args:
      image: an encoded image, or uint8 [H, W, 3] RGB.
      image_size: side of the result in pixels, or None to keep the size it has. Shrinking averages
        over areas, enlarging interpolates linearly; the aspect ratio is not kept.
      name: what to call the image in the message.

    Returns:
      uint8 [image_size, image_size, 3] RGB; a view of `image` where nothing is to be done.

    Raises:
      UserError: the bytes are not an image that OpenCV can decode.
    """
    if not isinstance(image, np.ndarray):
        encoded = np.frombuffer(image, np.uint8)
        # imdecode raises on an empty buffer and returns None for all other damage
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
        if decoded is None:
            raise UserError(f"{name} does not decode as an image: replace the file or remove it.")
        image = decoded
    if image_size is None or image.shape[:2] == (image_size, image_size):
        return image
    shrink = max(image.shape[:2]) > image_size
    interpolation = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return cv2.resize(image, (image_size, image_size), interpolation=interpolation)
