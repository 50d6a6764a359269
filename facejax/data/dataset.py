"""The fast form of a source: a TFDS array_record dataset with an identity index beside it.

The records hold encoded images; the labels are in the index (`labels.npy`, `identities.json`), so
relabelling never rewrites an image. TensorFlow is never imported.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from facejax import files
from facejax.data import manifest
from facejax.data.folder import counted, few
from facejax.data.sources import Source
from facejax.errors import UserError

LABELS = "labels.npy"
IDENTITIES = "identities.json"


@dataclasses.dataclass(frozen=True)
class DatasetSource:
    """A dataset on disk; build it with `build_dataset` or read it with `dataset_source`."""

    directory: pathlib.Path
    records: Any  # TFDS's random access to the array_record files
    labels: np.ndarray
    identity_names: tuple[str, ...]
    content: str  # the fingerprint of what it was built from
    skipped: tuple[tuple[str, str], ...]  # the damaged images that were left out, and why
    passed_over: tuple[str, ...]  # what was left out, as in a `FolderSource`
    checked: bool = True  # the images, when they were written

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            # Past TFDS's own decoding, which takes three times as long as all of this.
            example = tf_example_pb2.Example.FromString(self.records.data_source[index])
            feature = example.features.feature
            image, name = feature["image"].bytes_list.value[0], feature["id"].bytes_list.value[0]
        except (OSError, RuntimeError, LookupError, DecodeError) as error:
            raise manifest.damaged(
                self.directory, f"record {index}: {first_line(error)}"
            ) from error
        return {"image": image, "label": int(self.labels[index]), "id": name.decode()}

    def fingerprint(self) -> str:
        """Hash of what it was built from, and of the index; no record is read."""
        return index_fingerprint(self.content, self.labels, self.identity_names, self.skipped)


def index_fingerprint(
    content: str,
    labels: np.ndarray,
    names: tuple[str, ...],
    skipped: tuple[tuple[str, str], ...],
) -> str:
    """Hash of what a dataset was built from, and of its index.

    Args:
      content: the fingerprint of what it was built from.
      labels: int32 [N].
      names: of the labels.
      skipped: the damaged images that were left out, and why.
    """
    digest = hashlib.sha256(content.encode() + labels.tobytes())
    digest.update(json.dumps([names, skipped]).encode())
    return digest.hexdigest()


def dataset_source(directory: str | os.PathLike[str]) -> DatasetSource:
    """Reads a dataset that `build_dataset` wrote.

    Its files are compared with its manifest: their sizes, and their contents where they may have
    changed since the last time. The index is the user's own, and need only fit the records.

    Args:
      directory: the dataset itself, or the directory given to `build_dataset` if it has just one;
        `~` is the home.

    Returns:
      A source whose `[i]` is `{"image": encoded bytes, "label": int, "id": str}`. It can be
      pickled.

    Raises:
      UserError: there is no dataset or more than one, it is damaged or cannot be read, or the index
        does not fit the records.
    """
    directory = files.expand(directory)
    try:
        return opened(the_dataset(directory))
    except OSError as error:
        raise not_read(directory, error) from error


def opened(directory: pathlib.Path) -> DatasetSource:
    """Reads the dataset that is `directory` itself.

    Args:
      directory: the dataset.

    Raises:
      UserError: it is damaged, or the index does not fit the records.
      OSError: it cannot be read.
    """
    written = manifest.check(directory)
    try:
        builder = tfds.builder_from_directory(directory)
        records = builder.as_data_source(
            split="train", decoders={"image": tfds.decode.SkipDecoding()}
        )
        count = len(records)
    except OSError:  # no more open files, say: that does not make it damaged
        raise
    except Exception as error:  # TFDS, protobuf and array_record each raise their own
        raise manifest.damaged(directory, first_line(error)) from error
    labels, names = read_index(directory, count)
    left_out: tuple[str, ...] = ()
    if written.skipped:
        what = counted(len(written.skipped), "damaged image")
        left_out = (f"{what} ({few([name for name, _ in written.skipped])})",)
    source = DatasetSource(
        directory, records, labels, names, written.content, written.skipped, left_out
    )
    check_labels(source, source.num_classes)
    return source


def check_labels(source: Source, num_classes: int) -> None:
    """Refuses labels outside [0, num_classes).

    Args:
      source: only its labels are read.
      num_classes: the number of classes of the objective.

    Raises:
      UserError: the first record whose label is out of range, by name.
    """
    labels = np.asarray(source.labels)
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        index = int(wrong[0])
        name = source[index].get("id", f"record {index}")
        raise UserError(
            f"{name} has the label {labels[index]}, outside the range 0 to {num_classes - 1} of "
            f"{num_classes} classes: correct the label or the number of classes."
        )


def not_read(directory: pathlib.Path, error: OSError) -> UserError:
    """The sentence about a dataset that the system does not let us read.

    Args:
      directory: the dataset, or what holds it.
      error: what the system said.
    """
    return UserError(
        f"the dataset {directory} cannot be read ({error}): make it readable or give another "
        "directory."
    )


def first_line(error: Exception) -> str:
    """What a library said, or the first line of it.

    Args:
      error: what it raised.
    """
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def is_dataset(directory: pathlib.Path) -> bool:
    """Whether a dataset was written there, whatever is left of it.

    Args:
      directory: the dataset.
    """
    return any((directory / name).exists() for name in (manifest.MANIFEST, "dataset_info.json"))


def the_dataset(directory: pathlib.Path) -> pathlib.Path:
    """A directory if it is a dataset, else the only one in it.

    Args:
      directory: either.

    Raises:
      UserError: there is none, or more than one.
      OSError: it cannot be read.
    """
    if is_dataset(directory):
        return directory
    folders = sorted(directory.iterdir()) if directory.is_dir() else []
    found = [folder for folder in folders if folder.name[0] != "." and is_dataset(folder)]
    if not found:
        raise UserError(f"{directory} has no dataset: build one from a folder of identities.")
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise UserError(f"{directory} has more than one dataset: name one of {names} in it.")
    return found[0]


def read_index(directory: pathlib.Path, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels, int32 [count], and the name of each.

    Args:
      directory: of a dataset.
      count: how many records it has.

    Raises:
      UserError: the index cannot be read, or does not fit the records.
    """
    try:
        # Not memory-mapped: its owner may write another one under a running training.
        with (directory / LABELS).open("rb") as file:
            labels = np.lib.format.read_array(file)  # np.load would take a zip file too
        names = json.loads((directory / IDENTITIES).read_text("utf-8"))
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise UserError(
            f"{directory} has no readable identity index ({LABELS}, {IDENTITIES}): build the "
            "dataset again."
        ) from error
    if labels.shape != (count,):
        raise UserError(
            f"{directory / LABELS} has shape {labels.shape} but there are {count} records: "
            "give one label for each."
        )
    if labels.dtype.kind not in "iu":
        raise UserError(
            f"{directory / LABELS} is of type {labels.dtype}: give labels that are whole numbers."
        )
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"{directory / IDENTITIES} is not a list of names: give one string for each label."
        )
    if labels.dtype == np.int32:
        return labels, tuple(names)
    # those that int32 cannot hold stay out of range, and are refused as such
    bounded = np.clip(labels.astype(np.int64), -1, np.iinfo(np.int32).max)
    return bounded.astype(np.int32), tuple(names)
