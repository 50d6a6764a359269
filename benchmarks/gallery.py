"""Time and memory of a gallery of 100,000 people, each step in turn.

    python benchmarks/gallery.py                                # a file in a temporary folder
    python benchmarks/gallery.py --where=postgresql+psycopg://USER@HOST/EMPTY_DATABASE
    python benchmarks/gallery.py --quick                        # 2,000 people: whether it runs

One process fills it from an exported file; another opens it, so that its memory is that of use.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

MIB = 2**20
PART = 10_000
OTHERS = 5  # that another process enrolls, one by one


def rows_of(count: int, size: int, *, photo: int) -> np.ndarray:
    """A photo of each person, unit rows [count, size] at a cosine of about 0.8 to another."""
    parts = []
    for start in range(0, count, PART):
        people = np.random.default_rng([start, 0]).standard_normal((PART, size), np.float32)
        noise = np.random.default_rng([start, 1 + photo]).standard_normal((PART, size), np.float32)
        rows = people + 0.5 * noise
        parts.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return np.concatenate(parts)[:count]


def resident(which: str) -> int:
    """Bytes: VmRSS now, or VmHWM, the most so far."""
    status = pathlib.Path("/proc/self/status").read_text()
    found = re.search(rf"{which}:\s+(\d+) kB", status)
    assert found, "this system does not tell"
    return 1024 * int(found.group(1))


def fill(options: argparse.Namespace) -> float:
    """Imports everybody: the seconds."""
    from facejax.recognition import Gallery

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "people.npz"
        about = {"format": 1, "templates": [{"source": "", "number": 0}] * options.people}
        np.savez(
            path,
            embeddings=rows_of(options.people, options.dim, photo=0),
            names=np.array([f"Person {number}" for number in range(options.people)]),
        )
        import zipfile

        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("gallery.json", json.dumps(about))
        start = time.perf_counter()
        with Gallery(options.where, dtype=options.dtype) as gallery:
            gallery.import_(path)
        return time.perf_counter() - start


def use(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each step, and the bytes of memory that they took."""
    queries = rows_of(options.people, options.dim, photo=1)[:: options.people // 64][:64].copy()
    import jax

    from facejax.recognition import Gallery

    jax.block_until_ready(jax.jit(lambda x: x + 1)(queries))
    before = resident("VmRSS")
    taken: dict[str, Any] = {}

    def timed(what: str, action: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = action()
        taken[what] = time.perf_counter() - start
        return result

    gallery = timed("open", lambda: Gallery(options.where, create=False))
    first = timed(
        "identify 64 faces for the first time", lambda: gallery.identify(queries, threshold=0.5)
    )
    again = []
    for _ in range(options.repeats):
        again.append(timed("", lambda: gallery.identify(queries, threshold=0.5)))
    starts = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        gallery.identify(queries, threshold=0.5)
        starts.append(time.perf_counter() - start)
    taken["identify 64 faces"] = statistics.median(starts)
    new = rows_of(PART, options.dim, photo=7)[: OTHERS + 2] * np.float32(-1)  # strangers to all
    strange = rows_of(PART, options.dim, photo=8)[: options.repeats] * np.float32(-1)
    timed("enroll one, the first", lambda: gallery.enroll("New 0", new[0], duplicate_threshold=0.7))
    gallery.enroll("New 1", new[1], duplicate_threshold=0.7)
    starts = []
    for number, row in enumerate(strange):
        start = time.perf_counter()
        gallery.enroll(f"Strange {number}", row, duplicate_threshold=0.9)
        starts.append(time.perf_counter() - start)
    taken["enroll one"] = statistics.median(starts)
    with Gallery(options.where, create=False) as other:
        for number in range(OTHERS):
            other.enroll(f"Other {number}", new[2 + number], duplicates="allow")
    seen = timed(
        f"identify 64 faces after another has enrolled {OTHERS}",
        lambda: gallery.identify(
            np.concatenate([new[2 : 2 + OTHERS], queries[OTHERS:]]), threshold=0.5
        ),
    )
    timed("verify one", lambda: gallery.verify("New 1", new[1], threshold=0.5))
    taken["peak, bytes"] = resident("VmHWM") - before
    timed("remove one, and its traces", lambda: gallery.remove("New 0"))
    if options.means:
        timed(
            "identify by means for the first time",
            lambda: gallery.identify(queries, threshold=0.5, pool="mean"),
        )
    gallery.close()
    taken.pop("")
    wanted = [f"Person {n}" for n in range(0, options.people, options.people // 64)][:64]
    taken["found"] = np.mean(
        [match.name == name for match, name in zip(first, wanted, strict=True)]
    )
    taken["others found"] = [match.name for match in seen][:OTHERS]
    assert all(str(each) == str(first) for each in again)
    return taken


def main() -> None:
    """Prints the report, or a measurement for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--dtype", default="float32", choices=["float32", "int8"])
    parser.add_argument("--where", default="", help="path or URL; a temporary file by default")
    parser.add_argument("--repeats", type=int, default=7, help="of what is short")
    parser.add_argument("--means", action="store_true", help="time the means' first use as well")
    parser.add_argument("--quick", action="store_true", help="2,000 people")
    parser.add_argument("--measure", help="internal")
    options = parser.parse_args()
    if options.quick:
        options.people = 2000
    if options.measure:
        print(json.dumps(fill(options) if options.measure == "fill" else use(options)))
        return
    print(f"$ {shlex.join(['python', *sys.argv])}")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "sqlalchemy")]
    print(
        f"{datetime.date.today()}, {', '.join(versions)}, {len(os.sched_getaffinity(0))} CPU cores"
    )
    with tempfile.TemporaryDirectory() as folder:
        where = options.where or str(pathlib.Path(folder) / "people.sqlite")
        command = [sys.executable, __file__, *sys.argv[1:], f"--where={where}"]
        filling, taken = (
            json.loads(
                subprocess.run(
                    [*command, f"--measure={what}"], stdout=subprocess.PIPE, check=True, text=True
                ).stdout
            )
            for what in ("fill", "use")
        )
        size = 0 if options.where else pathlib.Path(where).stat().st_size
    itemsize = 4 if options.dtype == "float32" else 1
    matrix = options.people * options.dim * itemsize
    print(f"{options.people} people, one {options.dtype} template of {options.dim} each")
    print(f"  {'import them':<50}{1000 * filling:10.1f} ms")
    for what, seconds in taken.items():
        if isinstance(seconds, float) and what not in ("found",):
            print(f"  {what:<50}{1000 * seconds:10.1f} ms")
    print(f"  file {size / MIB:.0f} MiB, templates {matrix / MIB:.0f} MiB", end=", ")
    print(f"peak memory of use {taken['peak, bytes'] / MIB:.0f} MiB")
    print(f"  {taken['found']:.1%} of the 64 found, and {', '.join(taken['others found'])}")


if __name__ == "__main__":
    main()
