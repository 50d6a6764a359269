"""Ten thousand photographs to embedded faces, and what the process holds meanwhile.

    python benchmarks/many_photos.py --photos=FOLDER [--count=10000] [--recognizer=sface]

The photographs of FOLDER, made small, are read as encoded bytes again and again. What is found in
one is dropped before the next, so that memory must not grow with their number at all.
"""

import datetime
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator

import cv2
import jax
from absl import app, flags, logging

from facejax import recognition
from facejax.recognition import YuNet, iter_faces
from facejax.recognition.photos import expand, read_photo

PHOTOS = flags.DEFINE_string("photos", None, "folder of photographs", required=True)
COUNT = flags.DEFINE_integer("count", 10_000, "photographs in all", lower_bound=10)
SIDE = flags.DEFINE_integer("side", 480, "longest side of a photograph, in pixels", lower_bound=64)
RECOGNIZER = flags.DEFINE_string("recognizer", "sface", "as in recognition.open")


def resident() -> float:
    """What the process holds in memory now, in MiB (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def small(path: str) -> bytes:
    """A photograph as a JPEG file of the wanted size."""
    pixels = read_photo(path)
    scale = SIDE.value / max(pixels.shape[:2])
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()


def main(_) -> None:
    """Prints a row for each tenth."""
    logging.set_verbosity(logging.WARNING)
    encoded = [small(photo.source) for photo in expand(PHOTOS.value)]
    recognizer = recognition.open(RECOGNIZER.value)

    def photos() -> Iterator[bytes]:
        for number in range(COUNT.value):
            # A copy of its own, which would stay if anybody held it.
            yield bytes(bytearray(encoded[number % len(encoded)]))

    print(f"$ {shlex.join(['python', *sys.argv])}")
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores")
    print(f"jax {jax.__version__}, OpenCV {cv2.__version__}, {recognizer.card.name}")
    print(f"{len(encoded)} photographs, {sum(map(len, encoded)) // len(encoded)} bytes each\n")
    print("| photographs | faces | resident MiB | photographs/s |")
    print("|------------:|------:|-------------:|--------------:|")
    every, faces, start = max(1, COUNT.value // 10), 0, time.perf_counter()
    found = iter_faces(photos(), recognizer, detector=YuNet(tiles=False))
    for number, photo in enumerate(found, start=1):
        faces += len(photo.faces)
        if number % every == 0:
            rate = number / (time.perf_counter() - start)
            print(f"| {number:11} | {faces:5} | {resident():12.0f} | {rate:13.1f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
