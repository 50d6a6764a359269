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
from facejax.data import dataset, hashes, images, manifest
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

_VERSION = "1.0.0"


def build_dataset(
    source: Source,
    directory: str | os.PathLike[str],
    *,
    name: str = "faces",
    damaged: str = "refuse",
    progress: bool = True,
) -> DatasetSource:
    """Writes a source as an array_record dataset, or finds the one written before.

    The dataset is the sub-directory `<name>-<fingerprint>`: another content is another dataset, and
    an unchanged source is not written again; see `facejax.data.fingerprint`. Of a folder only the
    files that changed since the last call are read to know that. A dataset that was damaged since
    is written anew. Every image is decoded once, to check it. The dataset appears in `directory`
    all at once, when it is whole; processes on one machine that build the same dataset wait for
    the first of them. A directory that cannot be written will do where it has the dataset.

    Args:
      source: the records; images that are arrays are stored as PNG.
      directory: where datasets are kept; made if need be; `~` is the home.
      name: lower-case name of the dataset (a TFDS name: letters, digits, `_`).
      damaged: what to do about damaged images: "refuse" names them and writes nothing, "skip"
        leaves them out, and with them the identities that have no others.
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
    with _locked(directory, name) as unwritable:
        content, digests = _content(source, directory, name, progress=progress)
        final = directory / f"{name}-{content[:16]}"
        built = _found(final)
        if built is None:
            if unwritable is not None:
                raise _not_written(directory, unwritable) from unwritable
            writer = _Writer(source, digests, skip=damaged == "skip", progress=progress)
            _write(writer, final, name=name, content=content)
            built = dataset.dataset_source(final)
    if built.skipped and damaged == "refuse":  # it was written with "skip"
        raise _damaged_images(built.skipped)
    passed_over = getattr(source, "passed_over", ()) + built.passed_over
    return dataclasses.replace(built, passed_over=passed_over)


@contextlib.contextmanager
def _locked(directory: pathlib.Path, name: str) -> Iterator[OSError | None]:
    """Holds the lock of those who build; gives the error if the directory cannot be written."""
    with contextlib.ExitStack() as stack:
        unwritable = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.lock(directory / f".{name}.lock"))
        except OSError as error:
            unwritable = error
        yield unwritable


def _content(
    source: Source, directory: pathlib.Path, name: str, *, progress: bool
) -> tuple[str, np.ndarray | None]:
    """The source's fingerprint, and of a folder the SHA-256 of each image."""
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
    """Gives TFDS the whole records of a source, and remembers what it did."""

    def __init__(
        self, source: Source, digests: np.ndarray | None, *, skip: bool, progress: bool
    ) -> None:
        self.source = source
        self.digests = digests
        self.skip = skip
        self.progress = progress
        self.kept: list[int] = []
        self.skipped: list[tuple[str, str]] = []
        self.fault: Exception | None = None  # of the source, not of the disk that is written to

    def records(self, description: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Numbered records, as TFDS wants them."""
        indices = tqdm.tqdm(
            range(len(self.source)),
            desc=description,
            unit=" images",
            disable=not self.progress,
        )
        try:
            for index in indices:
                record = self._record(index)
                if record is not None:
                    self.kept.append(index)
                    yield index, record
            if self.skipped and not (self.skip and self.kept):
                raise _damaged_images(self.skipped)
        except Exception as error:
            self.fault = error
            raise

    def _record(self, index: int) -> dict[str, Any] | None:
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
            self.skipped.append((name, reason))
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
        lost = set(labels.tolist()) - set(labels[self.kept].tolist())
        left = [label for label in range(len(names)) if label not in lost]
        if lost and len(left) < 2:
            raise _damaged_images(self.skipped)
        numbers = np.searchsorted(left, labels[self.kept]).astype(np.int32)
        return numbers, tuple(names[label] for label in left)


def _write(writer: _Writer, final: pathlib.Path, *, name: str, content: str) -> None:
    """Writes the dataset beside `final`, which it becomes once it is whole."""
    try:
        # what a killed process left: the lock is ours
        for stale in final.parent.glob(f".{name}-*.partial-*"):
            files.remove(stale)
        files.remove(final)  # a damaged one
        with files.replacing(final) as partial:
            tfds.disable_progress_bar()  # TFDS shows one for each phase; ours shows the images
            builder = _Builder(writer, name=name, data_dir=partial / "tfds")
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints that it downloads
                builder.download_and_prepare()
            for file in pathlib.Path(builder.data_dir).iterdir():  # tfds/NAME/VERSION/
                file.rename(partial / file.name)
            files.remove(partial / "tfds")
            labels, names = writer.index()
            array = io.BytesIO()
            np.save(array, labels)
            files.write(partial / dataset.LABELS, array.getvalue())
            files.write(partial / dataset.IDENTITIES, json.dumps(names, indent=1))
            manifest.write(
                partial,
                content=content,
                skipped=writer.skipped,
                unlisted=(dataset.LABELS, dataset.IDENTITIES),
            )
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # array_record's is a RuntimeError
        if writer.fault is not None:
            raise writer.fault from None
        raise _not_written(final.parent, error) from error


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes records in their own order."""

    VERSION = tfds.core.Version(_VERSION)

    def __init__(self, writer: _Writer, *, name: str, data_dir: pathlib.Path) -> None:
        self.name = name
        self._writer = writer
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": np.int32,
                "id": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return self._writer.records(f"writing {self.name}")


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _damaged_images(skipped: Sequence[tuple[str, str]]) -> UserError:
    """The sentence about damaged images, all of them in one."""
    if len(skipped) == 1:
        ((name, reason),) = skipped
        return UserError(
            f'{name} {reason}: replace the file or remove it, or leave it out with damaged="skip".'
        )
    clauses = few([f"{name} {reason}" for name, reason in skipped])
    return UserError(
        f"{counted(len(skipped), 'image')} are damaged ({clauses}): replace the files or remove "
        'them, or leave them out with damaged="skip".'
    )


def _not_written(directory: pathlib.Path, error: Exception) -> UserError:
    return UserError(
        f"No dataset could be written to {directory} ({first_line(error)}): give a directory with "
        "room that can be written."
    )
