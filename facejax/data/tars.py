"""Tar shards as WebDataset has them: `key.jpg` beside `key.cls` or `key.json`."""

import array
import json
import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tqdm

from facejax import files
from facejax.data.folder import counted
from facejax.data.images import is_image
from facejax.data.labels import Numbering
from facejax.data.read_at import ReadAt
from facejax.errors import UserError

_LONGEST = 1 << 20  # bytes of a label's file


class TarSource:
    """The images of tar files; build it with `tar_source`.

    In memory it has 16 bytes for each image: where it is in its file, how long it is and its label.
    """

    def __init__(
        self,
        shards: list[ReadAt],
        starts: np.ndarray,
        offsets: np.ndarray,
        sizes: np.ndarray,
        labels: np.ndarray,
        names: tuple[str, ...],
        passed_over: tuple[str, ...],
    ) -> None:
        self._shards, self._starts, self._offsets, self._sizes = shards, starts, offsets, sizes
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
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        file = self._shards[shard]
        image = file.read(int(self._offsets[index]), int(self._sizes[index]))
        name = f"{file.path.name}:{index - int(self._starts[shard])}"
        return {"image": image, "label": int(self.labels[index]), "id": name}


def tar_source(path: files.Path, *, progress: bool = False) -> TarSource:
    """Tar files as a source, by their names and in the order inside them.

    The label of `key.jpg` (or another image) is the text of `key.cls`, or `"label"` in `key.json`,
    next to it: a whole number or a name. A key ends at the first dot of the file's name. The
    headers of all files are read once.

    Args:
      path: of a file, or of a folder that has some; `~` is the home.
      progress: show a progress bar on stderr if it takes a while.

    Returns:
      A source whose `[i]` is `{"image": bytes, "label": int, "id": "000.tar:0"}`. It can be
      pickled.

    Raises:
      UserError: a file cannot be read or is damaged or compressed, an image has no label, or there
        is none.
    """
    path = files.expand(path)
    found = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    offsets, sizes, labels = array.array("q"), array.array("I"), Numbering()
    shards, starts, without_image = [], [], 0
    bar = tqdm.tqdm(desc="reading headers", unit=" images", delay=3, disable=not progress)
    for shard in found:
        file = ReadAt(shard)
        shards.append(file)
        starts.append(len(offsets))
        for image, label in _pairs(file):
            if image is None:
                without_image += 1
                continue
            if label is None:
                raise UserError(f"{shard} has no label beside {image.name}: add its .cls or .json.")
            offsets.append(image.offset)
            sizes.append(image.size)
            labels.add(label)
            bar.update()
    bar.close()
    if not offsets:
        raise UserError(f"{path} has no images: give .tar files with some, or a folder of them.")
    numbers, names = labels.finish()
    left = (f"{counted(without_image, 'key')} without an image",) if without_image else ()
    return TarSource(
        shards,
        np.array(starts),
        np.frombuffer(offsets, np.int64),
        np.frombuffer(sizes, np.uint32),
        numbers,
        names,
        left,
    )


class _Image(NamedTuple):
    name: str
    offset: int
    size: int


def _pairs(file: ReadAt) -> Iterator[tuple[_Image | None, int | str | None]]:
    """The image and the label of each key; the files of a key stand together."""
    key, image, label = None, None, None
    for member in _members(file):
        folder, _, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        if key != (key := f"{folder}/{stem}") and (image or label is not None):
            yield image, label
            image, label = None, None
        if is_image(name):
            if image is not None:
                raise UserError(f"{file.path} has two images of the key {stem}: rename one.")
            image = _Image(member.name, member.offset_data, member.size)
        elif kind in ("cls", "json"):
            found = _label(file, member, kind)
            label = found if label is None else label
    if image or label is not None:
        yield image, label


def _members(file: ReadAt) -> Iterator[tarfile.TarInfo]:
    """The files in a tar, which need not be whole."""
    try:
        with tarfile.open(file.path, "r:") as members:
            while (member := members.next()) is not None:
                vars(members)["members"].clear()  # or it keeps them all
                if not member.isreg() or member.issparse():
                    continue
                if member.offset_data + member.size > file.size or member.size >= 1 << 32:
                    raise UserError(
                        f"{file.path} is cut off at byte {member.offset}: get the file again."
                    )
                yield member
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{file.path} is no tar file that can be read at any place ({reason}): unpack it if it "
            "is compressed, or get it again."
        ) from error


def _label(file: ReadAt, member: tarfile.TarInfo, kind: str) -> int | str | None:
    """A label; None where a JSON file has none."""
    where = f"{member.name} of {file.path}"
    if member.size > _LONGEST:
        raise UserError(f"{where} is too long for a label: give a number or a name.")
    content = file.read(member.offset_data, member.size)
    try:
        text = content.decode()
        value = json.loads(text).get("label") if kind == "json" else text.strip()
    except (ValueError, AttributeError, RecursionError):
        value = ""
    if kind == "json" and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise UserError(f"{where} has no label: give a whole number or a name.")
    return value
