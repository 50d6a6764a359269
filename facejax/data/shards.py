"""The array_record files of a dataset, each whole or not there, so that writing can go on."""

import json
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from facejax import files

RECORDS = 1 << 16  # of a shard
_SPLIT = "train"


class Note(NamedTuple):
    """What is known of a shard that is written.

    Attributes:
      size: of the file in bytes.
      kept: how many records it has.
      skipped: the number of each record that it lacks, its name and why.
    """

    size: int
    kept: int
    skipped: list[tuple[int, str, str]]


def count(records: int) -> int:
    """How many shards so many records take."""
    return -(-records // RECORDS)


def features() -> tfds.features.FeaturesDict:
    """What a record of a dataset is."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": np.int32,
            "id": tfds.features.Text(),
        }
    )


def finished(directory: pathlib.Path, name: str, shard: int, shards: int) -> Note | None:
    """The note of a shard that an earlier process wrote; None where it is to be written.

    Args:
      directory: of the dataset that is being written.
      name: of the dataset.
      shard: its number.
      shards: how many there are.
    """
    try:
        kept = json.loads(_note(directory, shard).read_bytes())
        note = Note(int(kept["size"]), int(kept["kept"]), [tuple(row) for row in kept["skipped"]])
        if _path(directory, name, shard, shards).stat().st_size != note.size:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note


def write(
    directory: pathlib.Path,
    name: str,
    shard: int,
    shards: int,
    records: Iterable[bytes],
    skipped: list[tuple[int, str, str]],
) -> Note:
    """Writes a shard, and then its note.

    Args:
      directory: of the dataset that is being written.
      name: of the dataset.
      shard: its number.
      shards: how many there are.
      records: serialized.
      skipped: as in `Note`; it may grow while the records are taken.

    Raises:
      OSError: it cannot be written; so does RuntimeError, which is array_record's.
    """
    final = _path(directory, name, shard, shards)
    kept = 0
    with files.replacing(final) as partial:
        # group_size 1, as TFDS has it: each record is read by itself; images are compressed already
        writer = array_record_module.ArrayRecordWriter(str(partial), "group_size:1,uncompressed")
        try:
            for record in records:
                writer.write(record)
                kept += 1
        finally:
            writer.close()
    note = Note(final.stat().st_size, kept, skipped)
    files.write(_note(directory, shard), json.dumps(note._asdict()))
    return note


def describe(directory: pathlib.Path, name: str, notes: list[Note]) -> None:
    """Writes what TFDS reads beside the shards, and removes the notes.

    Args:
      directory: of the dataset.
      name: of the dataset.
      notes: of all shards, in order.
    """
    split = tfds.core.SplitInfo(
        name=_SPLIT,
        shard_lengths=[note.kept for note in notes],
        num_bytes=sum(note.size for note in notes),
        filename_template=_template(directory, name),
    )
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(directory), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features(), disable_shuffling=True)
    info.set_file_format("array_record")
    info.set_splits(tfds.core.splits.SplitDict([split]))
    info.write_to_directory(directory)
    for shard in range(len(notes)):
        files.remove(_note(directory, shard))


def _template(directory: pathlib.Path, name: str) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=name, split=_SPLIT, filetype_suffix="array_record"
    )


def _path(directory: pathlib.Path, name: str, shard: int, shards: int) -> pathlib.Path:
    template = _template(directory, name)
    return pathlib.Path(template.sharded_filepath(shard_index=shard, num_shards=shards))


def _note(directory: pathlib.Path, shard: int) -> pathlib.Path:
    return directory / f"shard-{shard:05d}.json"
