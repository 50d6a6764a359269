"""What it takes to open a prepared dataset of many records, and to take its first batches.

    python benchmarks/opening.py [--records=10000000]

The records are one tiny image, written again and again, of an identity for each 100. Each row is a
process of its own; its memory is what it has more than after its imports.
"""

import itertools
import json
import os
import pathlib
import resource
import shlex
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags

from facejax import files
from facejax.data import batches, dataset, dataset_source, manifest, shards

RECORDS = flags.DEFINE_integer("records", 10_000_000, "of the larger dataset", lower_bound=1000)
OPEN = flags.DEFINE_string("open", None, "the dataset that this process is to open")


def write(directory: pathlib.Path, records: int) -> None:
    """Writes a dataset as `build_dataset` does, but for the reading."""
    features = shards.features()
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    image = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    record = serializer.serialize_example(
        features.encode_example({"image": image, "label": 0, "id": "x"})
    )
    total = shards.count(records)
    directory.mkdir()
    notes = [
        shards.write(
            directory,
            "faces",
            shard,
            total,
            itertools.repeat(record, min(shards.RECORDS, records - shard * shards.RECORDS)),
            [],
        )
        for shard in range(total)
    ]
    shards.describe(directory, "faces", notes)
    np.save(directory / dataset.LABELS, np.arange(records, dtype=np.int32) // 100)
    names = [f"person {number}" for number in range(-(-records // 100))]
    files.write(directory / dataset.IDENTITIES, json.dumps(names))
    unlisted = (dataset.LABELS, dataset.IDENTITIES)
    manifest.write(directory, content="benchmark", skipped=[], unlisted=unlisted)
    manifest.check(directory)  # as after the first opening, which compares what changed just now


def resident() -> int:
    """The bytes that this process has in memory."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def open_one(directory: str) -> None:
    """Prints the figures of one dataset."""
    imported, start = resident(), time.perf_counter()
    source = dataset_source(directory)
    opened, memory = time.perf_counter() - start, resident() - imported
    start = time.perf_counter()
    iterator = batches(source, batch_size=128, image_size=16, seed=0, threads=0)
    seen = np.concatenate([next(iterator)["record"] for _ in range(20)])
    first, more = time.perf_counter() - start, resident() - imported
    assert len(set(seen.tolist())) == len(seen)
    print(json.dumps([len(source), opened, memory, first, more]))


def main(_: list[str]) -> None:
    """Prints the table."""
    if OPEN.value:
        open_one(OPEN.value)
        return
    print(f"$ {shlex.join(['python', *sys.argv])}")
    print("| records | opened, s | MiB | bytes/record | 20 batches, s | then MiB |")
    print("|--------:|----------:|----:|-------------:|--------------:|---------:|")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for records in (RECORDS.value // 10, RECORDS.value):
            directory = pathlib.Path(temporary) / f"faces-{records}"
            write(directory, records)
            command = [sys.executable, __file__, f"--open={directory}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout))
            count, opened, memory, first, more = rows[-1]
            cells = f"{count:8} | {opened:.2f} | {memory / 2**20:.0f} | {memory / count:.1f}"
            print(f"| {cells} | {first:.2f} | {more / 2**20:.0f} |", flush=True)
            files.remove(directory)
    for column, what in ((2, "opened"), (4, "after batches")):
        grown = (rows[1][column] - rows[0][column]) / (rows[1][0] - rows[0][0])
        print(f"{what}: {grown:.1f} bytes for each more record")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    app.run(main)
