"""Writing InsightFace's RecordIO; `facejax.data.recordio` says what the form is."""

import json
import pathlib

import cv2
import numpy as np
import tqdm

from facejax import files
from facejax.data.images import decode
from facejax.data.recordio import (
    FIRST,
    FRAME,
    HEADER,
    IDENTITIES,
    LARGEST,
    LAST,
    MAGIC,
    MAGIC_BYTES,
    MIDDLE,
    WHOLE,
)
from facejax.data.sources import Source, identity_names


def write_recordio(
    source: Source, directory: files.Path, *, name: str = "train", progress: bool = True
) -> pathlib.Path:
    """Writes a source as InsightFace's trainers read it: `.rec`, `.idx` and `property`.

    The images of an identity stand together, as that form wants it. The names of the identities go
    into `identities.json`. Images that are arrays are stored as PNG. The form has the numbers of an
    identity's images as float32: beyond 2^24 images they are rounded (facejax does not read them).

    Args:
      source: the records.
      directory: where the files are written, made where it is missing; `~` is the home.
      name: of the files.
      progress: show a progress bar on stderr.

    Returns:
      The path of the `.rec` file.

    Raises:
      UserError: the directory cannot be written, or an image cannot be read; no file is replaced
        then.
      ValueError: there are no records, or more identities than float32 has whole numbers.
    """
    if len(source) == 0:
        raise ValueError("the source is empty")
    if source.num_classes > 1 << 24:
        raise ValueError(f"{source.num_classes} identities are more than the form can number")
    directory = files.expand(directory)
    labels = np.asarray(source.labels)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1)) + 1  # records count from 1
    ends = np.append(starts[1:], len(order) + 1)
    path, size = directory / f"{name}.rec", (0, 0)
    with (
        files.refusing(directory, "give another directory"),
        files.replacing(path) as records,
        files.replacing(directory / f"{name}.idx") as index,
        records.open("wb") as file,
        index.open("w", encoding="ascii") as table,
    ):

        def write(key: int, content: bytes) -> None:
            table.write(f"{key}\t{file.tell()}\n")
            file.write(framed(content))

        bar = tqdm.tqdm(order.tolist(), "writing", unit=" images", disable=not progress)
        for key, number in enumerate(bar, 1):
            record = source[number]
            image = record["image"]
            if isinstance(image, np.ndarray):
                pixels = decode(image, None)[..., ::-1]
                image = cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()
            if key == 1:
                size = decode(image, None, record.get("id", f"record {number}")).shape[:2]
            write(key, packed(float(labels[number]), key, image))
        first = len(order) + 1
        write(0, packed([first, first + len(starts)], 0))
        for key, (start, end) in enumerate(zip(starts, ends, strict=True), first):
            write(key, packed([float(start), float(end)], key))
    with files.refusing(directory, "give another directory"):
        files.write(directory / IDENTITIES, json.dumps(identity_names(source), indent=1))
        height, width = size
        files.write(directory / "property", f"{source.num_classes},{height},{width}\n")
    return path


def packed(label: float | list[float], key: int, image: bytes = b"") -> bytes:
    """The content of a record.

    Args:
      label: one, or several that are written behind the header.
      key: its number in the file.
      image: encoded; empty for a header of the file.
    """
    if isinstance(label, list):
        return HEADER.pack(len(label), 0.0, key, 0) + np.array(label, "<f4").tobytes() + image
    return HEADER.pack(0, label, key, 0) + image


def framed(content: bytes) -> bytes:
    """A content as it stands in the file, in parts where it has the magic number in it.

    Args:
      content: of a record, less than 512 MiB.

    Raises:
      ValueError: it is longer.
    """
    if len(content) > LARGEST:
        raise ValueError(f"a record of {len(content)} bytes is more than the form holds")
    parts, start, found = [], 0, content.find(MAGIC_BYTES)
    while found >= 0:
        if found % 4 == 0:
            parts.append(content[start:found])
            start = found + 4
        found = content.find(MAGIC_BYTES, found + (4 if found % 4 == 0 else 1))
    parts.append(content[start:])
    kinds = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST] if len(parts) > 1 else [WHOLE]
    return b"".join(
        FRAME.pack(MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )
