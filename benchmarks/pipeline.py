"""The host pipeline alone: read records, parse them, decode JPEG, make batches; no network.

    python benchmarks/pipeline.py [--data=FOLDER] [--batch=128] [--image_size=112]

FOLDER is a folder of identities; without it, synthetic faces of the size asked for are written as
JPEGs (quality 92) to a temporary folder. The images come from the page cache. The rows take turns,
window by window; each is the median with the least and the most. Images per second of processor
time are the steadier figure where others load the machine too. The last two columns are the medians
over the windows of a row against the bare decode loop on as many threads, by the clock and by
processor time. What reads in several processes shares the batches among them, one thread in each.
"""

import collections
import concurrent.futures
import datetime
import functools
import multiprocessing
import os
import pathlib
import platform
import re
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import cv2
import jax
import numpy as np
from absl import app, flags, logging
from tensorflow_datasets.proto import tf_example_pb2

from facejax.data import (
    Source,
    batches,
    build_dataset,
    decode,
    folder_source,
    pack_dataset,
    recordio_source,
    write_recordio,
)
from facejax.synthetic import SyntheticFaces

DATA = flags.DEFINE_string("data", None, "folder of identities; none: synthetic faces")
BATCH = flags.DEFINE_integer("batch", 128, "images in a batch", lower_bound=1)
IMAGE_SIZE = flags.DEFINE_integer("image_size", 112, "side of the images in pixels", lower_bound=16)
WINDOWS = flags.DEFINE_integer("windows", 9, "timed windows", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 20, "batches in a window", lower_bound=1)


def write_synthetic(folder: pathlib.Path) -> None:
    """Writes 512 synthetic faces of 32 identities."""
    faces = SyntheticFaces(
        identities=32, images_per_identity=16, image_size=IMAGE_SIZE.value, seed=0
    )
    for index, (image, label) in enumerate(zip(faces.images, faces.labels, strict=True)):
        path = folder / f"{label:03d}" / f"{index:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)


def in_threads(work: Callable[[list[bytes]], object], items: list[bytes], threads: int) -> None:
    """Does a piece of work on equal parts of the items, in as many threads."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [items[i::threads] for i in range(threads)]))


def decode_all(encoded: list[bytes]) -> None:
    """The bare decode loop."""
    for image in encoded:
        decode(image, IMAGE_SIZE.value, whole=True)


def exhaust(values: Iterator[object]) -> None:
    """Takes all, and keeps none."""
    collections.deque(values, maxlen=0)


def take(iterator: Iterator[dict[str, np.ndarray]], count: int) -> None:
    """So many batches."""
    for _ in range(count):
        next(iterator)


def serve(pipe: Connection, source: Source, options: dict[str, Any]) -> None:
    """Takes as many batches as it is told to, in a process of its own; None ends it."""
    iterator = batches(source, **options)
    while (count := pipe.recv()) is not None:
        start = time.process_time()
        take(iterator, count)
        pipe.send(time.process_time() - start)


class Processes:
    """So many processes that each make their part of the batches, with one thread."""

    def __init__(self, source: Source, count: int, options: dict[str, Any]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes, self._all = [], []
        for index in range(count):
            mine, its = spawn.Pipe()
            own = options | {"process_index": index, "process_count": count, "threads": 1}
            self._all.append(spawn.Process(target=serve, args=(its, source, own)))
            self._pipes.append(mine)
            self._all[-1].start()

    def take(self, count: int) -> float:
        """So many batches of all together; gives the seconds of their processors."""
        for pipe in self._pipes:
            pipe.send(-(-count // len(self._pipes)))
        return sum(pipe.recv() for pipe in self._pipes)

    def close(self) -> None:
        """Ends them."""
        for pipe, process in zip(self._pipes, self._all, strict=True):
            pipe.send(None)
            process.join()


class Turns:
    """Windows of each row in turn.

    Args:
      rows: by name, what a window does; it may give processor seconds of other processes.
      first: by name, what is done before a window and not counted.
      images: of a window.
    """

    def __init__(
        self,
        rows: dict[str, Callable[[], object]],
        first: dict[str, Callable[[], object]],
        images: int,
    ) -> None:
        self.rates: dict[str, list[float]] = {name: [] for name in rows}
        self.seconds: dict[str, list[float]] = {name: [] for name in rows}  # of the processor
        self.images = images
        for work in rows.values():  # not counted
            work()
        for _ in range(WINDOWS.value):
            for name, work in rows.items():
                time.sleep(0.3)  # others' threads work ahead until their buffers are full
                first.get(name, lambda: None)()
                start, processor_start = time.perf_counter(), time.process_time()
                others = work()
                self.rates[name].append(images / (time.perf_counter() - start))
                seconds = time.process_time() - processor_start
                seconds += others if isinstance(others, float) else 0.0
                self.seconds[name].append(seconds)

    def row(self, name: str, against: str = "") -> str:
        """A row of the table."""
        rates, seconds = self.rates[name], self.seconds[name]
        columns = f"{statistics.median(rates):6.0f} | {min(rates):6.0f} | {max(rates):6.0f}"
        per_processor = self.images / statistics.median(seconds)
        shares = "            |            "
        if against:
            clock = zip(rates, self.rates[against], strict=True)
            processor = zip(self.seconds[against], seconds, strict=True)
            shares = " | ".join(
                f"{statistics.median(a / b for a, b in pairs):>{width}.2f}"
                for pairs, width in ((clock, 11), (processor, 11))
            )
        return f"| {name:22} | {columns} | {per_processor:15.0f} | {shares} |"


def main(_) -> None:
    """Prints the table."""
    logging.set_verbosity(logging.WARNING)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(DATA.value or f"{temporary}/faces")
        if DATA.value is None:
            write_synthetic(folder)
        source = build_dataset(folder_source(folder), f"{temporary}/dataset", progress=False)
        images = BATCH.value * BATCHES.value
        indices = [i % len(source) for i in range(images)]
        encoded = [source[i]["image"] for i in indices]
        kilobytes = sum(map(len, encoded)) / images / 1e3
        options: dict[str, Any] = {
            "batch_size": BATCH.value,
            "image_size": IMAGE_SIZE.value,
            "seed": 0,
        }
        taken: Callable[..., Iterator[dict[str, np.ndarray]]] = functools.partial(
            batches, **options
        )
        one = next(taken(source, threads=0))["image"]
        stored = source.records.data_source
        parsed = tf_example_pb2.Example.FromString
        records = [stored[i] for i in indices]
        rows: dict[str, Callable[[], object]] = {
            "read": lambda: exhaust(stored[i] for i in indices),
            "parse": lambda: exhaust(parsed(record) for record in records),
            "read and parse": lambda: exhaust(source[i] for i in indices),
            "to the device": lambda: [
                jax.block_until_ready(jax.device_put(one)) for _ in range(BATCHES.value)
            ],
        }
        first: dict[str, Callable[[], object]] = {}
        for threads in (1, 2, 4):
            rows[f"decode, {threads} threads"] = functools.partial(
                in_threads, decode_all, encoded, threads
            )
            iterator = taken(source, threads=threads)
            name = f"batches, {threads} threads"
            rows[name] = functools.partial(take, iterator, BATCHES.value)
            # What it has made ahead while others had their turn does not count.
            first[name] = functools.partial(take, iterator, 8)
        forms: dict[str, Source] = {
            "RecordIO": recordio_source(write_recordio(source, f"{temporary}/rec", progress=False)),
            "packed": pack_dataset(
                source, f"{temporary}/packed", image_size=IMAGE_SIZE.value, progress=False
            ),
        }
        for form, other in forms.items():
            iterator = taken(other, threads=2)
            name = f"{form}, 2 threads"
            rows[name] = functools.partial(take, iterator, BATCHES.value)
            first[name] = functools.partial(take, iterator, 8)
        processes = Processes(source, 2, options)
        rows["batches, 2 processes"] = functools.partial(processes.take, BATCHES.value)
        first["batches, 2 processes"] = functools.partial(processes.take, 16)
        turns = Turns(rows, first, images)
        processes.close()

    print(f"$ {shlex.join(['python', *sys.argv])}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {load}")
    print(f"{len(source)} images of {kilobytes:.1f} kB, {WINDOWS.value} windows of {images}\n")
    print(
        "| images/s               | median |  least |   most | per processor s | / bare loop "
        "| ... per processor s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in rows:
        many = re.search(r"(\d) (threads|processes)", name)
        against = f"decode, {many[1]} threads" if many and not name.startswith("decode") else ""
        print(turns.row(name, against))


if __name__ == "__main__":
    app.run(main)
