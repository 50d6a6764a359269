"""The host pipeline alone: read array_record, decode JPEG, make batches; no network.

    python benchmarks/pipeline.py [--data=FOLDER] [--batch=128] [--image_size=112]

FOLDER is a folder of identities; without it, synthetic faces of the size asked for are written as
JPEGs (quality 92) to a temporary folder. The images come from the page cache. Each row is the
median of several windows with the least and the most; images per second of processor time are the
steadier figure where others load the machine too.
"""

import datetime
import os
import pathlib
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import cv2
from absl import app, flags, logging

from facejax.data import batches, build_dataset, decode, folder_source
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


def images_per_second(work: Callable[[], object], images: int) -> tuple[list[float], float]:
    """The rate in each window, after one that is not counted, and the rate per processor second."""
    work()
    rates, processor_start = [], time.process_time()
    for _ in range(WINDOWS.value):
        start = time.perf_counter()
        work()
        rates.append(images / (time.perf_counter() - start))
    return rates, images * WINDOWS.value / (time.process_time() - processor_start)


def main(_) -> None:
    """Prints the table."""
    logging.set_verbosity(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(DATA.value or f"{temporary}/faces")
        if DATA.value is None:
            write_synthetic(folder)
        source = build_dataset(folder_source(folder), f"{temporary}/dataset")
        images = BATCH.value * BATCHES.value
        indices = [i % len(source) for i in range(images)]
        encoded = [source[i]["image"] for i in indices]
        kilobytes = sum(map(len, encoded)) / images / 1e3

        def make_batches(threads: int | None) -> Callable[[], object]:
            size = {"batch_size": BATCH.value, "image_size": IMAGE_SIZE.value}
            iterator = batches(source, **size, seed=0, threads=threads)
            return lambda: [next(iterator) for _ in range(BATCHES.value)]

        rows: dict[str, Callable[[], object]] = {
            "read only": lambda: [source[i] for i in indices],
            "decode only": lambda: [
                decode(image, IMAGE_SIZE.value, whole=True) for image in encoded
            ],
            "batches, default": make_batches(None),
        }
        for threads in (0, 1, 2, 4):
            rows[f"batches, {threads} threads"] = make_batches(threads)
        results = {name: images_per_second(work, images) for name, work in rows.items()}

    print(f"$ {shlex.join(['python', *sys.argv])}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {load}")
    print(f"{len(source)} images of {kilobytes:.1f} kB, {WINDOWS.value} windows of {images}\n")
    print("| images/s           | median |  least |   most | per processor s |")
    print("|--------------------|-------:|-------:|-------:|----------------:|")
    for name, (rates, per_processor) in results.items():
        columns = f"{statistics.median(rates):6.0f} | {min(rates):6.0f} | {max(rates):6.0f}"
        print(f"| {name:18} | {columns} | {per_processor:15.0f} |")


if __name__ == "__main__":
    app.run(main)
