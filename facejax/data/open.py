"""What a path leads to, and the source that it is."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from facejax import files
from facejax.data.folder import list_folder
from facejax.data.sources import Source, folder_source
from facejax.errors import UserError

KINDS = ("folder", "dataset", "list", "rec", "tfds", "parquet", "tar")
_SUFFIXES = {
    ".rec": "rec",
    ".lst": "list",
    ".txt": "list",
    ".tsv": "list",
    ".list": "list",
    ".parquet": "parquet",
    ".tar": "tar",
}
_DATASET = "dataset_info.json"  # what TFDS writes beside a dataset
_PACKED = "images.npy"


class Place(NamedTuple):
    """Where a source is.

    Attributes:
      kind: one of `KINDS`.
      path: of the file or folder; of `tfds`, the name.
    """

    kind: str
    path: str


def source_places(path: files.Path) -> tuple[Place, ...]:
    """What a path, or several with commas between them, leads to.

    A prefix such as `rec:` says what it is. Without one, a file is known by its name's end, and a
    folder by what is in it: a dataset of `build_dataset` (or a folder with some), `.rec`,
    `.parquet` or `.tar` files, else it is a folder of identities. What is there with a comma in its
    name is one path.

    Args:
      path: as a person writes it.

    Raises:
      UserError: a path is empty, a file is of no known kind, or a folder could be several things.
    """
    text = str(path)
    parts = [text] if _exists(text) else text.split(",")
    return tuple(_place(part.strip()) for part in parts)


def open_source(
    path: files.Path,
    *,
    join: str = "disjoint",
    sessions: bool = False,
    progress: bool = False,
) -> Source:
    """The source that a path leads to; no image is copied.

    Args:
      path: see `source_places`; several with commas between them are joined.
      join: see `join_sources`.
      sessions: of a folder, whether folders inside an identity are more of its images.
      progress: show a progress bar on stderr where it takes a while.

    Raises:
      UserError: on whatever is wrong with it.
    """
    from facejax.data.views import join_sources

    places = source_places(path)
    sources = [open_place(place, sessions=sessions, progress=progress) for place in places]
    return sources[0] if len(sources) == 1 else join_sources(sources, join=join)


def open_place(place: Place, *, sessions: bool = False, progress: bool = False) -> Source:
    """One source, as in `open_source`.

    Args:
      place: of `source_places`.
      sessions: as in `open_source`.
      progress: as in `open_source`.

    Raises:
      UserError: on whatever is wrong with it.
    """
    # What a kind needs is imported where it is wanted: some of it takes a second.
    from facejax.data.dataset import dataset_source
    from facejax.data.lists import list_source
    from facejax.data.packed import packed_source
    from facejax.data.parquet import parquet_source
    from facejax.data.recordio import recordio_source
    from facejax.data.tars import tar_source
    from facejax.data.tfds_by_name import tfds_source

    openers: dict[str, Callable[[str], Source]] = {
        "folder": lambda path: folder_source(path, sessions=sessions),
        "dataset": lambda path: (packed_source if _packed(path) else dataset_source)(path),
        "list": lambda path: list_source(path, progress=progress),
        "rec": lambda path: recordio_source(path, progress=progress),
        "parquet": parquet_source,
        "tar": lambda path: tar_source(path, progress=progress),
        "tfds": lambda name: tfds_source(name, progress=progress),
    }
    return openers[place.kind](place.path)


def _place(text: str) -> Place:
    if not text:
        raise UserError("a path is empty: give the path of a folder, file or dataset.")
    kind, colon, rest = text.partition(":")
    if colon and kind in KINDS and not _exists(text):
        if not rest:
            raise UserError(f"{text} names nothing: give the path behind the colon.")
        return Place(kind, rest)
    return Place(_kind_of(text), text)


def _kind_of(text: str) -> str:
    path = files.expand(text)
    if not path.is_dir():
        kind = _SUFFIXES.get(path.suffix.lower(), "")
        if not kind and path.is_file():
            raise UserError(
                f"{path} is a file of no known kind ({', '.join(_SUFFIXES)}): say what it is with "
                f"a prefix, as in list:{text}."
            )
        return kind or "folder"
    if any(_finds(path, mark) for name in (_DATASET, _PACKED) for mark in (name, f"*/{name}")):
        return "dataset"
    marks = {"rec": ("*.rec",), "parquet": ("*.parquet", "data/*.parquet"), "tar": ("*.tar",)}
    found = [kind for kind, names in marks.items() if any(_finds(path, name) for name in names)]
    if found and list_folder(path).images:  # an archive, say, beside what came out of it
        found.append("folder")
    if len(found) > 1:
        raise UserError(
            f"{path} could be read in several ways: say which with a prefix, "
            f"{' or '.join(f'{kind}:{text}' for kind in found)}."
        )
    return found[0] if found else "folder"


def _packed(text: str) -> bool:
    return any(_finds(files.expand(text), mark) for mark in (_PACKED, f"*/{_PACKED}"))


def _finds(folder: pathlib.Path, pattern: str) -> bool:
    return any(found.parent.name[:1] != "." for found in folder.glob(pattern))


def _exists(text: str) -> bool:
    try:
        return files.expand(text).exists()
    except (OSError, ValueError, UserError):
        return False
