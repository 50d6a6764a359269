"""Photographs to embedded faces: all of it against its parts, and against one photo at a time.

    python benchmarks/recognition_faces.py --photos=FOLDER [--count=500] [--recognizer=toy]

The photographs of FOLDER are taken again and again until there are enough. Each round times, one
after the other: `find_faces` over all; decoding, detecting, aligning and embedding alone, each over
all photos and with the same threads and batches as in `find_faces`; and the same work one photo at
a time. The ratios are of one round, since others load the machine too; their medians are given. The
last column is processor time, of all threads: the steadier figure where the machine is loaded.
The recogniser "toy" is a MobileFaceNet of random weights; others are as in `recognition.open`.
"""

import datetime
import os
import pathlib
import platform
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import jax
import numpy as np
from absl import app, flags, logging

from facejax import models, recognition
from facejax.recognition import make_embedder
from facejax.recognition.align import crop_faces, crop_regions, cut
from facejax.recognition.detection import YuNet
from facejax.recognition.faces import find_faces
from facejax.recognition.photos import Photo, expand, read_ahead, read_photo
from facejax.recognition.quality import measure

PHOTOS = flags.DEFINE_string("photos", None, "folder of photographs", required=True)
COUNT = flags.DEFINE_integer("count", 500, "photographs in a round", lower_bound=1)
RECOGNIZER = flags.DEFINE_string("recognizer", "toy", '"toy", or as in recognition.open')
TILES = flags.DEFINE_enum("tiles", "true", ["true", "false", "auto"], "of YuNet")
ROUNDS = flags.DEFINE_integer("rounds", 3, "rounds", lower_bound=1)
BATCH = 32


class Toy:
    """A MobileFaceNet of random weights."""

    class card:  # noqa: N801
        """That of InsightFace's data."""

        template = np.array(
            [
                [38.2946, 51.6963],
                [73.5318, 51.5014],
                [56.0252, 71.7366],
                [41.5493, 92.3655],
                [70.7299, 92.2041],
            ],
            np.float32,
        )
        image_size = 112

    def __init__(self) -> None:
        network = models.network("mobilefacenet", embedding_size=512)
        images = np.zeros((1, 112, 112, 3), np.float32)
        self.variables = jax.jit(network.init)(jax.random.key(0), images)
        self.embedder = make_embedder(network.apply, flip=False)

    def embed(self, crops: np.ndarray) -> np.ndarray:
        """Embeddings of a batch."""
        return np.asarray(self.embedder(self.variables, crops))


def padded(crops: np.ndarray) -> np.ndarray:
    """Crops filled up to a batch of 1, 8 or 32."""
    size = next(n for n in (1, 8, BATCH) if n >= len(crops))
    return np.pad(crops, [(0, size - len(crops)), (0, 0), (0, 0), (0, 0)])


def main(_) -> None:
    """Prints the table."""
    logging.set_verbosity(logging.WARNING)
    paths = [photo.source for photo in expand(PHOTOS.value)]
    given = [paths[i % len(paths)] for i in range(COUNT.value)]
    tiles = {"true": True, "false": False, "auto": "auto"}[TILES.value]
    detector = YuNet(tiles=tiles)  # type: ignore[arg-type]
    toy = RECOGNIZER.value == "toy"
    recognizer: Any = Toy() if toy else recognition.open(RECOGNIZER.value)
    card = recognizer.card

    # What each part starts from; the photographs repeat, so one of each is held.
    pixels = {path: read_photo(path) for path in paths}
    found = {path: detector(pixels[path]) for path in paths}
    crops = np.concatenate(
        [crop_faces(pixels[p], found[p].landmarks, card.template, card.image_size) for p in given]
    )

    def all_at_once() -> None:
        faces = find_faces(given, recognizer, detector=detector, batch_size=BATCH)
        assert len(faces) == len(crops)

    def alone(work: Callable[[Photo], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in read_ahead(work, expand(given)):
                pass

        return run

    def align() -> None:
        waiting = []
        for photo in given:
            regions = cut(pixels[photo], found[photo].landmarks, card.template, card.image_size)
            waiting += regions
            while len(waiting) >= BATCH:
                crop_regions(waiting[:BATCH], card.image_size)
                del waiting[:BATCH]
        crop_regions(waiting, card.image_size)

    def embed() -> None:
        for start in range(0, len(crops), BATCH):
            np.asarray(recognizer.embed(padded(crops[start : start + BATCH])))

    def one_at_a_time() -> None:
        for path in given:
            photo = read_photo(path)
            detection = detector(photo)
            made = crop_faces(photo, detection.landmarks, card.template, card.image_size)
            if len(made):
                np.asarray(recognizer.embed(padded(made)))
                measure(detection.landmarks, made, card.template)

    work = {
        "all at once": all_at_once,
        "decode": alone(lambda photo: photo.read()),
        "detect": alone(lambda photo: detector(pixels[photo.source])),
        "align": align,
        "embed": embed,
        "one at a time": one_at_a_time,
    }
    few, given = given, given[: 2 * len(paths)]  # compiles
    kept, crops = crops, crops[:BATCH]
    for part in (align, embed, one_at_a_time):
        part()
    find_faces(given, recognizer, detector=detector)
    given, crops = few, kept

    times: dict[str, list[float]] = {name: [] for name in work}
    processor: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS.value):
        for name, run in work.items():
            start, processor_start = time.perf_counter(), time.process_time()
            run()
            times[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - processor_start)

    print(f"$ {shlex.join(['python', *sys.argv])}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {load}")
    print(f"jax {jax.__version__}, OpenCV {cv2.__version__}, {jax.devices()[0].device_kind}")
    megapixels = sum(pixels[p].shape[0] * pixels[p].shape[1] for p in given) / len(given) / 1e6
    print(f"{len(given)} photographs of {megapixels:.1f} megapixels, {len(crops)} faces, ", end="")
    names = [pathlib.Path(path).name for path in paths]
    print(f"{ROUNDS.value} rounds; {', '.join(names[:8])}\n")
    print("| ms a photograph | median |  least |   most | of a processor |")
    print("|-----------------|-------:|-------:|-------:|---------------:|")
    for name, values in times.items():
        scaled = [1e3 * value / len(given) for value in values]
        row = f"{statistics.median(scaled):6.1f} | {min(scaled):6.1f} | {max(scaled):6.1f}"
        used = 1e3 * statistics.median(processor[name]) / len(given)
        print(f"| {name:15} | {row} | {used:14.1f} |")
    parts = [
        sum(times[n][i] for n in ("decode", "detect", "align", "embed"))
        for i in range(ROUNDS.value)
    ]
    whole = times["all at once"]
    to_parts = statistics.median(a / b for a, b in zip(whole, parts, strict=True))
    to_one = statistics.median(b / a for a, b in zip(whole, times["one at a time"], strict=True))
    print(f"\nall at once / sum of the parts: {to_parts:.2f} (goal: at most 1.1)")
    print(f"one at a time / all at once:    {to_one:.2f} (goal: at least 1.3)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    app.run(main)
