"""The fastest form of a source: every image decoded once, in one memory-mapped array."""

import contextlib
import io
import json
import os
import pathlib
from typing import Any

import numpy as np
import tqdm

from facejax import files
from facejax.data import dataset, manifest
from facejax.data.build import SKIP, content_of, damaged_images, locked, not_written
from facejax.data.folder import counted, few
from facejax.data.images import damage, decode
from facejax.data.sources import Source, identity_names
from facejax.errors import UserError

IMAGES = "images.npy"
_BLOCK = 4096  # images after which what is done is noted down
_NOTE = "written.json"


class PackedSource:
    """Images on disk, decoded; made by `pack_dataset` or read with `packed_source`.

    The images are memory-mapped: the system reads them when they are wanted. A file that is cut
    off while it is read ends the process, so it must not be; it is ours, and nobody's to edit.
    """

    checked = True

    def __init__(self, directory: pathlib.Path) -> None:
        """Opens a packed dataset.

        Args:
          directory: the dataset itself.

        Raises:
          UserError: it is damaged.
          OSError: it cannot be read.
        """
        self.directory = directory
        written = manifest.check(directory)
        try:
            self._images = np.lib.format.open_memmap(directory / IMAGES, mode="r")
        except (ValueError, EOFError) as error:
            raise manifest.damaged(directory, f"{IMAGES}: {error}") from error
        if self._images.ndim != 4 or self._images.dtype != np.uint8 or self._images.shape[3] != 3:
            raise manifest.damaged(directory, f"{IMAGES} has no images")
        self.labels, self.identity_names = dataset.read_index(directory, len(self._images))
        self.content, self.skipped = written.content, written.skipped
        self.passed_over: tuple[str, ...] = ()
        if self.skipped:
            names = few([name for name, _ in self.skipped])
            self.passed_over = (f"{counted(len(self.skipped), 'damaged image')} ({names})",)
        dataset.check_labels(self, self.num_classes)

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": np.asarray(self._images[index]), "label": int(self.labels[index])}

    def read_into(self, numbers: np.ndarray, images: np.ndarray) -> bool:
        """Many images at once; see `Source`."""
        if self._images.shape[1:] != images.shape[1:]:
            return False
        # Of another mode NumPy would make a copy first; the numbers are in range.
        np.take(np.asarray(self._images), numbers, axis=0, out=images, mode="clip")
        return True

    def __reduce__(self) -> tuple[type, tuple[pathlib.Path]]:
        return PackedSource, (self.directory,)  # and not the array

    def fingerprint(self) -> str:
        """Hash of what it was made from, and of the index; no image is read."""
        return dataset.index_fingerprint(
            self.content, self.labels, self.identity_names, self.skipped
        )


def packed_source(directory: files.Path) -> PackedSource:
    """Reads what `pack_dataset` wrote.

    Args:
      directory: the dataset itself, or the directory given to `pack_dataset` if it has just one.

    Returns:
      A source whose `[i]` is `{"image": uint8 [size, size, 3] RGB, "label": int}`.

    Raises:
      UserError: there is none or more than one, or it is damaged or cannot be read.
    """
    directory = files.expand(directory)
    try:
        return PackedSource(dataset.the_dataset(directory))
    except OSError as error:
        raise dataset.not_read(directory, error) from error


def pack_dataset(
    source: Source,
    directory: files.Path,
    *,
    image_size: int = 112,
    name: str = "packed",
    damaged: str = "refuse",
    remedy: str = SKIP,
    progress: bool = True,
) -> PackedSource:
    """Decodes every image of a source once, into one array of uint8 [N, size, size, 3].

    As with `build_dataset` the dataset is a sub-directory with the fingerprint in its name, appears
    when it is whole, is not written again, and what a killed process left is gone on with. It takes
    3 size^2 bytes an image: 37.6 kB at 112 pixels, 376 GB for 10 million.

    Args:
      source: the records.
      directory: where datasets are kept; made if need be; `~` is the home.
      image_size: side of the images in pixels; others are resized.
      name: of the dataset.
      damaged: what to do about damaged images: "refuse" names the first and writes nothing, "skip"
        leaves them out, and with them the identities that have no others.
      remedy: what else than to replace them a user can do, the end of the sentence on them.
      progress: show a progress bar on stderr.

    Returns:
      The dataset as a source, records in the order of `source`.

    Raises:
      UserError: an image is damaged or cannot be read, a label is out of range, or `directory`
        cannot be written.
      ValueError: an argument is out of its range, or the source is empty.
    """
    if damaged not in ("refuse", "skip"):
        raise ValueError(f'damaged must be "refuse" or "skip", not {damaged!r}')
    if len(source) == 0 or image_size < 1:
        raise ValueError(f"out of range: {image_size=}, {len(source)=}")
    directory = files.expand(directory)
    dataset.check_labels(source, source.num_classes)
    with locked(directory, name) as unwritable:
        content, _ = content_of(source, directory, name, progress=progress)
        final = directory / f"{name}-{content[:16]}-{image_size}"
        found = None
        with contextlib.suppress(UserError):  # a damaged one is made again
            if final.exists():
                found = PackedSource(final)
        if found is not None and found.skipped and damaged == "refuse":
            raise damaged_images(found.skipped, remedy)
        if found is not None:
            return found
        if unwritable is not None:
            raise not_written(directory, unwritable) from unwritable
        partial = final.with_name(f".{final.name}.partial")
        try:
            files.remove(final)
            partial.mkdir(exist_ok=True)
            skip = damaged == "skip"
            skipped = _decode_all(
                source, partial, image_size, skip=skip, remedy=remedy, progress=progress
            )
            _write_index(source, partial, [index for index, _, _ in skipped])
            left_out = [(record, reason) for _, record, reason in skipped]
            index = (dataset.LABELS, dataset.IDENTITIES)
            manifest.write(partial, content=content, skipped=left_out, unlisted=index)
            with files.replacing(final) as whole:
                partial.rename(whole)
        except OSError as error:
            raise not_written(directory, error) from error
        except UserError:
            with contextlib.suppress(OSError):
                files.remove(partial)
            raise
        return PackedSource(final)


def _decode_all(
    source: Source,
    directory: pathlib.Path,
    size: int,
    *,
    skip: bool,
    remedy: str,
    progress: bool,
) -> list[tuple[int, str, str]]:
    """Writes the images; gives the number and name of each that is damaged, and why."""
    path, note, count = directory / IMAGES, directory / _NOTE, len(source)
    skipped: list[tuple[int, str, str]] = []
    done, start, row = 0, len(_header(count, size)), 3 * size * size
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_bytes())
        left_out = [tuple(each) for each in known["skipped"]]
        if path.stat().st_size >= start + (known["done"] - len(left_out)) * row:
            done, skipped = known["done"], left_out
    bar = tqdm.tqdm(
        total=count, initial=done, desc="decoding", unit=" images", disable=not progress
    )
    with bar, path.open("r+b" if done else "wb") as file:
        file.seek(start + (done - len(skipped)) * row)
        for index in range(done, count):
            record = source[index]
            name = record.get("id", f"record {index}")
            reason = damage(record["image"])
            if reason and not skip:
                raise damaged_images([(name, reason)], remedy)
            if reason:
                skipped.append((index, name, reason))
            else:
                file.write(decode(record["image"], size, name, whole=True).tobytes())
            if (index + 1) % _BLOCK == 0:
                file.flush()
                os.fsync(file.fileno())
                files.write(note, json.dumps({"done": index + 1, "skipped": skipped}))
            bar.update()
        if len(skipped) == count:
            raise damaged_images([(name, reason) for _, name, reason in skipped], remedy)
        file.truncate()
        file.seek(0)
        file.write(_header(count - len(skipped), size))
    files.remove(note)
    return skipped


def _header(rows: int, size: int) -> bytes:
    """What stands before the pixels; NumPy leaves room in it, so it has one length for all."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size, 3)}
    np.lib.format.write_array_header_1_0(header, shape)
    return header.getvalue()


def _write_index(source: Source, directory: pathlib.Path, skipped: list[int]) -> None:
    """The labels of what was kept, and the names of those who are left."""
    labels = np.delete(np.asarray(source.labels, np.int32), skipped)
    names = identity_names(source)
    if skipped:
        found, numbers = np.unique(labels, return_inverse=True)
        names, labels = tuple(names[label] for label in found), numbers.astype(np.int32)
    array = io.BytesIO()
    np.save(array, labels)
    files.write(directory / dataset.LABELS, array.getvalue())
    files.write(directory / dataset.IDENTITIES, json.dumps(names, indent=1))
