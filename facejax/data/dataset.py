"""The fast form of a source: a TFDS array_record dataset with an identity index beside it.

The records hold encoded images; the labels are in the index (`labels.npy`, `identities.json`), so
relabelling never rewrites an image. TensorFlow is never imported.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
import tqdm

from facejax import files
from facejax.data.sources import Source, decode, fingerprint, identity_names
from facejax.errors import UserError

_VERSION = "1.0.0"
_LABELS = "labels.npy"
_IDENTITIES = "identities.json"


@dataclasses.dataclass(frozen=True)
class DatasetSource:
    """A dataset on disk; build it with `build_dataset` or read it with `dataset_source`."""

    directory: pathlib.Path
    records: Any  # TFDS's random access to the array_record files
    labels: np.ndarray
    identity_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        label = int(self.labels[index])
        return {"image": record["image"], "label": label, "id": record["id"].decode()}


def build_dataset(
    source: Source,
    directory: str | os.PathLike[str],
    *,
    name: str = "faces",
    progress: bool = True,
) -> DatasetSource:
    """Writes a source as an array_record dataset, or finds the one written before.

    The dataset is the sub-directory `<name>-<fingerprint>`: another content is another dataset, and
    an unchanged source is not written again; see `facejax.data.fingerprint`. Every image is decoded
    once, to check it. The dataset appears in `directory` all at once, when it is whole; processes
    on one machine that build the same dataset wait for the first of them.

    Args:
      source: the records; images that are arrays are stored as PNG.
      directory: where datasets are kept; made if need be.
      name: lower-case name of the dataset (a TFDS name: letters, digits, `_`).
      progress: show a progress bar on stderr.

    Returns:
      The dataset as a source, records in the order of `source`.

    Raises:
      UserError: an image does not decode, a label is out of range, or `directory` cannot be
        written; nothing is left behind.
    """
    directory = pathlib.Path(directory)
    check_labels(source, source.num_classes)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with files.lock(directory / f".{name}.lock"):
            final = directory / f"{name}-{fingerprint(source)[:16]}"
            if not final.exists():
                _write(source, final, name=name, progress=progress)
    except OSError as error:
        raise UserError(
            f"No dataset could be written to {directory} ({error}): give a directory with room "
            "that can be written."
        ) from error
    return dataset_source(final)


def dataset_source(directory: str | os.PathLike[str]) -> DatasetSource:
    """Reads a dataset that `build_dataset` wrote.

    Args:
      directory: the dataset itself, or the directory given to `build_dataset` if it has just one.

    Returns:
      A source whose `[i]` is `{"image": encoded bytes, "label": int, "id": str}`. It can be
      pickled.

    Raises:
      UserError: there is no dataset or more than one, or the index does not fit the records.
    """
    directory = pathlib.Path(directory)
    if not (directory / "dataset_info.json").exists():
        found = sorted(info.parent for info in directory.glob("*/dataset_info.json"))
        if not found:
            raise UserError(f"{directory} has no dataset: build one from a folder of identities.")
        if len(found) > 1:
            names = ", ".join(folder.name for folder in found)
            raise UserError(f"{directory} has more than one dataset: name one of {names} in it.")
        (directory,) = found
    builder = tfds.builder_from_directory(directory)
    records = builder.as_data_source(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    try:
        labels = np.load(directory / _LABELS).astype(np.int32)
        identity_names = tuple(json.loads((directory / _IDENTITIES).read_text("utf-8")))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{directory} has no readable identity index ({_LABELS}, {_IDENTITIES}): build the "
            "dataset again."
        ) from error
    if labels.shape != (len(records),):
        raise UserError(
            f"{directory / _LABELS} has shape {labels.shape} but there are {len(records)} records: "
            "give one label for each."
        )
    source = DatasetSource(directory, records, labels, identity_names)
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


def _write(source: Source, final: pathlib.Path, *, name: str, progress: bool) -> None:
    """Writes the dataset beside `final`, which it becomes once it is whole."""
    for stale in final.parent.glob(f".{name}-*.partial-*"):  # of a killed process: the lock is ours
        files.remove(stale)
    with files.replacing(final) as partial:
        tfds.disable_progress_bar()  # TFDS shows one for each phase; ours shows the images
        builder = _Builder(source, name=name, data_dir=partial / "tfds", progress=progress)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints that it downloads
            builder.download_and_prepare()
        for file in pathlib.Path(builder.data_dir).iterdir():  # tfds/NAME/VERSION/
            file.rename(partial / file.name)
        files.remove(partial / "tfds")
        labels = io.BytesIO()
        np.save(labels, np.asarray(source.labels, np.int32))
        files.write(partial / _LABELS, labels.getvalue())
        files.write(partial / _IDENTITIES, json.dumps(identity_names(source), indent=1))


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes a source in its own order."""

    VERSION = tfds.core.Version(_VERSION)

    def __init__(self, source: Source, *, name: str, data_dir: pathlib.Path, progress: bool):
        self.name = name
        self._source = source
        self._progress = progress
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
        indices = tqdm.tqdm(
            range(len(self._source)),
            desc=f"writing {self.name}",
            unit=" images",
            disable=not self._progress,
        )
        for index in indices:
            record = self._source[index]
            image = record["image"]
            record_id = record.get("id", f"record {index}")
            decoded = decode(image, None, record_id)
            if isinstance(image, np.ndarray):
                image = cv2.imencode(".png", cv2.cvtColor(decoded, cv2.COLOR_RGB2BGR))[1].tobytes()
            yield index, {"image": image, "label": int(record["label"]), "id": record_id}
