"""InsightFace's RecordIO (`train.rec`, `train.idx`, `property`), read without MXNet.

A file is a sequence of records, each at a multiple of four bytes: the magic number, a word with the
length in its lower 29 bits and in the upper three what part of a record this is (0: whole, 1:
first, 2: middle, 3: last), the content, and zeros up to the next multiple of four. Where the
content has the magic number at such a multiple, the writer cuts it there and leaves it out, so
that no record begins inside another; the reader puts it back between the parts.

The content is a header (flag, label, id, id2), `flag` further labels as float32 if that is more
than 0, and an encoded image. A record without an image is a header of the file: record 0 tells how
many images and identities there are, and one of each identity the numbers of its images. What
counts here is the label that each image has itself.
"""

import array
import math
import pathlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm

from facejax import files
from facejax.data.folder import counted
from facejax.data.labels import number_labels, read_names
from facejax.data.read_at import Ahead, ReadAt
from facejax.errors import UserError

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
FRAME = struct.Struct("<II")  # the magic number, and the part and length
HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
WHOLE, FIRST, MIDDLE, LAST = range(4)
LARGEST = (1 << 29) - 1  # bytes of a part
_FLOAT_INTEGERS = 1 << 24  # beyond, float32 has not every whole number
_USUAL = 1 << 14  # bytes that are read at a time, more than most records have
IDENTITIES = "identities.json"

_File = ReadAt | Ahead


class RecordSource:
    """The images of a RecordIO file; build it with `recordio_source`.

    In memory it has 16 bytes for each record: where it is, its number in the file and its label.
    """

    def __init__(
        self,
        file: ReadAt,
        offsets: np.ndarray,
        keys: np.ndarray,
        labels: np.ndarray,
        names: tuple[str, ...],
        passed_over: tuple[str, ...],
    ) -> None:
        self._file, self._offsets, self._keys = file, offsets, keys
        self.labels = labels
        self.identity_names = names
        self.passed_over = passed_over

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        offset = int(self._offsets[index])
        content = _content(self._file, offset)
        image = content[_image_at(self._file, offset, content, len(content)) :]
        name = f"{self._file.path.name}:{self._keys[index]}"
        return {"image": image, "label": int(self.labels[index]), "id": name}


def recordio_source(path: files.Path, *, progress: bool = False) -> RecordSource:
    """A RecordIO file as a source, its images in the order of their numbers.

    The headers of all records are read once. `identities.json` beside the file, a list with a name
    for each label, names the identities; else their labels do.

    Args:
      path: the `.rec` file, or the folder of the only one; `~` is the home. The `.idx` file beside
        it says which records count; without it the file is gone through.
      progress: show a progress bar on stderr if it takes a while.

    Returns:
      A source whose `[i]` is `{"image": encoded bytes, "label": int, "id": "train.rec:1"}`. It can
      be read by threads, after a fork, and pickled. Where labels are missing, those behind them
      move up; `identity_names` keeps the numbers of the file.

    Raises:
      UserError: a file cannot be read, is cut off or is none of this kind, with the byte; a label
        is no whole number; there is no image.
    """
    path = _only_file(files.expand(path))
    file = ReadAt(path)
    index = path.with_suffix(".idx")
    ahead = Ahead(file)
    places = _indexed(file, ReadAt(index)) if index.exists() else _scanned(ahead)
    offsets, keys, labels = array.array("q"), array.array("I"), array.array("i")
    without_image = read = 0
    bar = tqdm.tqdm(places, "reading headers", unit=" records", delay=3, disable=not progress)
    for key, offset in bar:
        head, length = _head(ahead, offset)
        read += FRAME.size + length
        if read > file.size:  # nor does it take for ever
            raise UserError(f"{index} leads to some records twice: remove it, and it is made anew.")
        flag, label, number, _ = HEADER.unpack_from(head)
        if length == HEADER.size + 4 * flag:
            without_image += not flag  # with labels it is a header of the file
            continue
        key = number if key is None else key
        if key >= 1 << 32:
            raise _broken(file, offset, f"has the number {key}, which is too large")
        offsets.append(offset)
        keys.append(key)
        labels.append(_label(file, offset, head, flag=flag, label=label))
    if not offsets:
        raise UserError(f"{path} has no images: give another file.")
    order = _order(keys)
    numbers, names = number_labels(np.frombuffer(labels, np.int32)[order])
    passed_over = _property(path.with_name("property"), len(names))
    if without_image:
        passed_over += (f"{counted(without_image, 'record')} without an image",)
    return RecordSource(
        file,
        np.frombuffer(offsets, np.int64)[order],
        np.frombuffer(keys, np.uint32)[order],
        numbers,
        read_names(path.with_name(IDENTITIES), names),
        passed_over,
    )


def _only_file(path: pathlib.Path) -> pathlib.Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.rec"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:3]) or "none"
        raise UserError(f"{path} should have one .rec file and has {names}: name the file.")
    return found[0]


def _indexed(file: _File, index: _File) -> Iterator[tuple[int | None, int]]:
    """The number and the place of each record that an index has, in its order."""
    with index.path.open("rb") as lines:
        place = 0
        while line := lines.readline(64):
            key, _, offset = line.strip().partition(b"\t")
            if line.strip() and not (key.isdigit() and offset.isdigit()):
                raise UserError(
                    f"{index.path} is no index at byte {place}: remove it, and it is made from "
                    f"{file.path.name}."
                )
            place += len(line)
            if key:
                yield int(key), int(offset)


def _scanned(file: _File) -> Iterator[tuple[int | None, int]]:
    """The place of each record, by going through the file."""
    offset = 0
    while offset < file.size:
        yield None, offset
        kind = FIRST
        while kind in (FIRST, MIDDLE):
            kind, _, after = _part(file, offset)
            offset = after


def _part(file: _File, offset: int, start: bytes = b"") -> tuple[int, int, int]:
    """What part of a record stands at a place, its length, and where the next is.

    `start` is what is known of its bytes.
    """
    frame = start[: FRAME.size] or file.read(offset, FRAME.size)
    if len(frame) < FRAME.size:
        raise _broken(file, offset, "is cut off")
    magic, word = FRAME.unpack(frame)
    kind, length = word >> 29, word & LARGEST
    if magic != MAGIC or offset % 4 or kind > LAST:
        raise _broken(file, offset, "is no record")
    if offset + FRAME.size + length > file.size:
        raise _broken(file, offset, f"is cut off: it has {length} bytes")
    return kind, length, offset + FRAME.size + length + -length % 4


def _parts(file: _File, offset: int, first: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    """Where the contents of a record's parts are, and how long; `first` is of `_part`."""
    kind, length, after = first
    if kind not in (WHOLE, FIRST):
        raise _broken(file, offset, "is a record without its beginning")
    yield offset + FRAME.size, length
    while kind not in (WHOLE, LAST):
        start = after
        if start >= file.size:
            raise _broken(file, offset, "is a record without its end")
        kind, length, after = _part(file, start)
        if kind not in (MIDDLE, LAST):
            raise _broken(file, offset, "is a record without its end")
        yield start + FRAME.size, length


def _content(file: _File, offset: int) -> bytes:
    """The content of the record at a place."""
    start = file.read(offset, _USUAL)
    kind, length, _ = first = _part(file, offset, start)
    if kind == WHOLE and FRAME.size + length <= len(start):
        return start[FRAME.size : FRAME.size + length]
    parts = _parts(file, offset, first)
    return MAGIC_BYTES.join([file.read(start, length) for start, length in parts])


def _head(file: _File, offset: int) -> tuple[bytes, int]:
    """The header of a record and a label behind it, and the length of its whole content."""
    if offset > file.size:
        raise _broken(file, offset, "is behind the end")
    start = file.read(offset, FRAME.size + HEADER.size + 4)
    first = _part(file, offset, start)
    if first[0] == WHOLE:
        head, length = start[FRAME.size : FRAME.size + first[1]], first[1]
    else:
        head, length = b"", -len(MAGIC_BYTES)
        for place, count in _parts(file, offset, first):
            if len(head) < HEADER.size + 4:  # as a rule the first part has all of it
                head += file.read(place, min(count, HEADER.size + 4)) + MAGIC_BYTES
            length += count + len(MAGIC_BYTES)
        head = head[: min(length, HEADER.size + 4)]
    _image_at(file, offset, head, length)
    return head, length


def _image_at(file: _File, offset: int, head: bytes, length: int) -> int:
    """Where the image begins in a content of so many bytes, the first of which are given."""
    if length < HEADER.size:
        raise _broken(file, offset, f"has {length} bytes, fewer than a header")
    (flag,) = struct.unpack_from("<I", head)
    if length < HEADER.size + 4 * flag:
        raise _broken(file, offset, f"has {length} bytes, fewer than its {flag} labels")
    return HEADER.size + 4 * flag


def _label(file: _File, offset: int, head: bytes, *, flag: int, label: float) -> int:
    if flag:
        (label,) = struct.unpack_from("<f", head, HEADER.size)
    if not (math.isfinite(label) and label == int(label) and 0 <= label <= _FLOAT_INTEGERS):
        raise _broken(file, offset, f"has the label {label:g}, not a whole number up to 2^24")
    return int(label)


def _order(keys: "array.array[int]") -> np.ndarray | slice:
    """What sorts records by their numbers; those of the file where some are alike."""
    numbers = np.frombuffer(keys, np.uint32)
    if (numbers[1:] > numbers[:-1]).all():
        return slice(None)
    order = np.argsort(numbers, kind="stable")
    return slice(None) if (np.diff(numbers[order]) == 0).any() else order


def _property(path: pathlib.Path, identities: int) -> tuple[str, ...]:
    """What there is to say where the file beside the records promises other identities."""
    try:
        promised = path.read_bytes()[:64].split(b",")[0].strip()
    except OSError:
        return ()
    if not promised.isdigit() or int(promised) == identities:
        return ()
    return (f"{int(promised)} identities are promised, {identities} have images",)


def _broken(file: _File, offset: int, what: str) -> UserError:
    file.check()
    return UserError(
        f"{file.path} at byte {offset} {what}: get the file again, or remove its .idx if that is "
        "of another file."
    )
