"""Building the dataset of a source: once, whole or not at all."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
import tqdm

from facejax import files
from facejax.data import dataset, hashes, images, manifest, shards
from facejax.data.dataset import DatasetSource, first_line
from facejax.data.folder import counted, few
from facejax.data.sources import (
    FolderSource,
    Source,
    content_fingerprint,
    fingerprint,
    identity_names,
)
from facejax.errors import UserError

SKIP = 'give damaged="skip" to leave out what is damaged'


def build_dataset(
    source: Source,
    directory: str | os.PathLike[str],
    *,
    name: str = "faces",
    damaged: str = "refuse",
    remedy: str = SKIP,
    progress: bool = True,
) -> DatasetSource:
    """Writes a source as an array_record dataset, or finds the one written before.

    The dataset is the sub-directory `<name>-<fingerprint>`: another content is another dataset, and
    an unchanged source is not written again; see `facejax.data.fingerprint`. Of a folder only the
    files that changed since the last call are read to know that. A dataset that was damaged since
    is written anew. Every image is decoded once, to check it. The dataset appears in `directory`
    all at once, when it is whole; what a killed process left is gone on with, and its finished
    shards are kept. Processes on one machine that build the same dataset wait for the first of
    them. A directory that cannot be written will do where it has the dataset.

    Args:
      source: the records; images that are arrays are stored as PNG.
      directory: where datasets are kept; made if need be; `~` is the home.
      name: lower-case name of the dataset (a TFDS name: letters, digits, `_`).
      damaged: what to do about damaged images: "refuse" names them and writes nothing, "skip"
        leaves them out, and with them the identities that have no others.
      remedy: what else than to replace them a user can do, the end of the sentence on them.
      progress: show a progress bar on stderr.

    Returns:
      The dataset as a source, records in the order of `source`. Its `passed_over` tells what is
      not in it, and `skipped` the damaged images.

    Raises:
      UserError: an image is damaged or cannot be read, a label is out of range, or `directory`
        cannot be written; nothing is left behind.
      ValueError: `damaged` is neither of the two, or the source is empty.
    """
    if damaged not in ("refuse", "skip"):
        raise ValueError(f'damaged must be "refuse" or "skip", not {damaged!r}')
    if len(source) == 0:
        raise ValueError("the source is empty")
    directory = files.expand(directory)
    dataset.check_labels(source, source.num_classes)
    with locked(directory, name) as unwritable:
        content, digests = content_of(source, directory, name, progress=progress)
        final = directory / f"{name}-{content[:16]}"
        built = _found(final)
        if built is None:
            if unwritable is not None:
                raise not_written(directory, unwritable) from unwritable
            skip = damaged == "skip"
            writer = _Writer(source, digests, skip=skip, remedy=remedy, progress=progress)
            _write(writer, final, name=name, content=content)
            built = dataset.dataset_source(final)
    if built.skipped and damaged == "refuse":  # it was written with "skip"
        raise damaged_images(built.skipped, remedy)
    passed_over = getattr(source, "passed_over", ()) + built.passed_over
    return dataclasses.replace(built, passed_over=passed_over)


@contextlib.contextmanager
def locked(directory: pathlib.Path, name: str) -> Iterator[OSError | None]:
    """Holds the lock of those who build; gives the error if the directory cannot be written.

    Args:
      directory: of the datasets.
      name: of the dataset.
    """
    with contextlib.ExitStack() as stack:
        unwritable = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.lock(directory / f".{name}.lock"))
        except OSError as error:
            unwritable = error
        yield unwritable


def content_of(
    source: Source, directory: pathlib.Path, name: str, *, progress: bool
) -> tuple[str, np.ndarray | None]:
    """The source's fingerprint, and of a folder the SHA-256 of each image.

    Args:
      source: the records.
      directory: where the hashes of a folder's files are kept.
      name: of the dataset.
      progress: show a progress bar on stderr.
    """
    if not isinstance(source, FolderSource):
        return fingerprint(source), None
    place = hashlib.sha256(os.fsencode(source.path.absolute())).hexdigest()
    table = directory / f".{name}-{place[:16]}.hashes.npz"
    known = hashes.load(table)
    now = source.hash_files(known, progress=progress)
    if now.names != known.names or not np.array_equal(now.status, known.status):
        with contextlib.suppress(OSError):  # without it the files are only read again next time
            hashes.save(table, now)
    return content_fingerprint(source, now.digests, source.ids), now.digests


def _found(final: pathlib.Path) -> DatasetSource | None:
    """The dataset that is there; None if there is none, or a damaged one that can be made again."""
    try:
        return dataset.opened(final) if final.exists() else None
    except UserError:
        return None
    except OSError as error:
        raise dataset.not_read(final, error) from error


class _Writer:
    """Gives the whole records of a source, and remembers what it left out."""

    def __init__(
        self,
        source: Source,
        digests: np.ndarray | None,
        *,
        skip: bool,
        remedy: str,
        progress: bool,
    ) -> None:
        self.source = source
        self.digests = digests
        self.skip = skip
        self.remedy = remedy
        self.progress = progress
        self.skipped: list[tuple[int, str, str]] = []
        self.fault: Exception | None = None  # of the source, not of the disk that is written to
        self._features = shards.features()
        self._serializer = tfds.core.example_serializer.ExampleSerializer(
            self._features.get_serialized_info()
        )

    def write(self, directory: pathlib.Path, name: str) -> None:
        """Writes the shards that are not there yet, and what describes them."""
        total, notes = shards.count(len(self.source)), []
        with tqdm.tqdm(
            total=len(self.source),
            desc=f"writing {name}",
            unit=" images",
            disable=not self.progress,
        ) as bar:
            for shard in range(total):
                some = range(len(self.source))[shard * shards.RECORDS :][: shards.RECORDS]
                note = shards.finished(directory, name, shard, total)
                if note is None:
                    skipped: list[tuple[int, str, str]] = []
                    records = self._records(some, skipped, bar)
                    note = shards.write(directory, name, shard, total, records, skipped)
                else:
                    bar.update(len(some))
                self.skipped += note.skipped
                notes.append(note)
        if self.skipped and not (self.skip and len(self.skipped) < len(self.source)):
            raise damaged_images(self.left_out(), self.remedy)
        shards.describe(directory, name, notes)

    def _records(
        self, some: range, skipped: list[tuple[int, str, str]], bar: tqdm.tqdm
    ) -> Iterator[bytes]:
        try:
            for index in some:
                record = self._record(index, skipped)
                if record is not None:
                    encoded = self._features.encode_example(record)
                    example = self._serializer.get_tf_example(encoded)
                    yield example.SerializeToString(deterministic=True)  # a map has no order
                bar.update()
        except Exception as error:
            self.fault = error
            raise

    def left_out(self) -> list[tuple[str, str]]:
        """The names of the damaged images, and what is wrong with them."""
        return [(name, reason) for _, name, reason in self.skipped]

    def _record(self, index: int, skipped: list[tuple[int, str, str]]) -> dict[str, Any] | None:
        """A record with an encoded image, None if that is damaged."""
        try:
            record = self.source[index]
        except OSError as error:
            raise UserError(
                f"record {index} of the source cannot be read ({first_line(error)}): mend it or "
                "leave it out."
            ) from error
        image, name = record["image"], record.get("id", f"record {index}")
        reason = images.damage(image)
        if reason:
            skipped.append((index, name, reason))
            return None
        if isinstance(image, np.ndarray):
            pixels = images.decode(image, None, name)
            image = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
        elif self.digests is not None and self.digests[index].tobytes() != _sha256(image):
            raise UserError(
                f"{name} changed while the dataset was written: build it again when nobody writes "
                "to the folder any more."
            )
        return {"image": image, "label": int(record["label"]), "id": name}

    def index(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The labels of the records that were kept, and the name of each label."""
        labels, names = np.asarray(self.source.labels, np.int32), identity_names(self.source)
        if not self.skipped:
            return labels, names
        whole = np.ones(len(labels), bool)
        whole[[index for index, _, _ in self.skipped]] = False
        lost = set(labels.tolist()) - set(labels[whole].tolist())
        left = [label for label in range(len(names)) if label not in lost]
        if lost and len(left) < 2:
            raise damaged_images(self.left_out(), self.remedy)
        numbers = np.searchsorted(left, labels[whole]).astype(np.int32)
        return numbers, tuple(names[label] for label in left)


def _write(writer: _Writer, final: pathlib.Path, *, name: str, content: str) -> None:
    """Writes the dataset beside `final`, which it becomes once it is whole.

    What a killed process left of the same dataset is gone on with: the lock is ours.
    """
    partial = final.with_name(f".{final.name}.partial")
    try:
        for stale in final.parent.glob(f".{name}-*.partial*"):
            if stale != partial:
                files.remove(stale)
        files.remove(final)  # a damaged one
        partial.mkdir(exist_ok=True)
        for stale in partial.glob(".*"):  # a shard that was being written
            files.remove(stale)
        writer.write(partial, name)
        labels, names = writer.index()
        array = io.BytesIO()
        np.save(array, labels)
        files.write(partial / dataset.LABELS, array.getvalue())
        files.write(partial / dataset.IDENTITIES, json.dumps(names, indent=1))
        manifest.write(
            partial,
            content=content,
            skipped=writer.left_out(),
            unlisted=(dataset.LABELS, dataset.IDENTITIES),
        )
        with files.replacing(final) as whole:
            partial.rename(whole)
    except Exception as error:
        with contextlib.suppress(OSError):
            files.remove(partial)
        if isinstance(error, UserError):
            raise
        if writer.fault is not None:
            raise writer.fault from None
        if not isinstance(error, OSError | RuntimeError | ValueError):  # RuntimeError: array_record
            raise
        raise not_written(final.parent, error) from error


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def damaged_images(skipped: Sequence[tuple[str, str]], remedy: str) -> UserError:
    """The sentence about damaged images, all of them in one.

    Args:
      skipped: the name of each and what is wrong with it.
      remedy: as in `build_dataset`.
    """
    if len(skipped) == 1:
        ((name, reason),) = skipped
        return UserError(f"{name} {reason}: replace the file or remove it, or {remedy}.")
    clauses = few([f"{name} {reason}" for name, reason in skipped])
    return UserError(
        f"{counted(len(skipped), 'image')} are damaged ({clauses}): replace the files or remove "
        f"them, or {remedy}."
    )


def not_written(directory: pathlib.Path, error: Exception) -> UserError:
    """The sentence about a directory that does not take a dataset.

    Args:
      directory: where it was to be.
      error: what the system or a library said.
    """
    return UserError(
        f"No dataset could be written to {directory} ({first_line(error)}): give a directory with "
        "room that can be written."
    )
