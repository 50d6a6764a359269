"""Time and memory of exact search: the best 10 of a million rows, beside the product alone.

    python benchmarks/search.py            # 1,000,000 x 512, 64 queries: some 7 GB of memory
    python benchmarks/search.py --parts=memory
    python benchmarks/search.py --quick    # tiny sizes: whether it runs

What is compared by time takes turns in one process; a ratio is the median of the rounds' ratios.
Memory is measured in processes of their own, from before the matrix is made. FAISS (extra `bench`)
is left out where it is missing; it suffers more than the others from a busy machine.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

MIB = 2**20
PART = 8192  # rows that are made at a time


def rows_of(count: int, size: int) -> Any:
    """Unit rows, a part at a time: (number of the first, float32 [n, size])."""
    for start in range(0, count, PART):
        random = np.random.default_rng(start)
        rows = random.standard_normal((min(PART, count - start), size), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        yield start, rows


def queries_of(count: int, size: int) -> np.ndarray:
    """Noise on some of the rows' directions."""
    (_, rows), *_ = rows_of(count, size)
    noisy = rows + 0.05 * np.random.default_rng(1).standard_normal(rows.shape, np.float32)
    return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def filled(options: argparse.Namespace, dtype: str) -> Any:
    """An index of all the rows."""
    from facejax.recognition.search import Index

    index = Index(options.dim, dtype=dtype)
    index.reserve(options.rows)
    for start, rows in rows_of(options.rows, options.dim):
        index.put(np.arange(start, start + len(rows)), rows)
    return index


def resident(which: str) -> int:
    """Bytes: VmRSS now, or VmHWM, the most so far."""
    status = pathlib.Path("/proc/self/status").read_text()
    found = re.search(rf"{which}:\s+(\d+) kB", status)
    assert found, "this system does not tell"
    return 1024 * int(found.group(1))


def programs(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """What takes turns; all but the product give the indices [Q, k]."""
    import jax
    import jax.numpy as jnp

    from facejax.compilation import jit
    from facejax.recognition import top_k

    queries, k = queries_of(options.queries, options.dim), options.k
    host = np.concatenate([rows for _, rows in rows_of(options.rows, options.dim)])
    # On the CPU the array may be a view of the host's, which is as it should be.
    matrix = jax.block_until_ready(jnp.asarray(host))
    product = jit(lambda queries, matrix: queries @ matrix.T)
    indexes = {dtype: filled(options, dtype) for dtype in ("float32", "int8")}

    def numpy() -> np.ndarray:
        scores = queries @ host.T
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        return np.take_along_axis(best, order, 1)

    chosen: dict[str, Callable[[], Any]] = {
        "the bare product": lambda: jax.block_until_ready(product(queries, matrix)),
        "top_k": lambda: np.asarray(top_k(queries, matrix, k=k)[1]),
        "Index, float32": lambda: indexes["float32"].search(queries, k=k)[1],
        "Index, int8": lambda: indexes["int8"].search(queries, k=k)[1],
        "NumPy": numpy,
    }
    if importlib.util.find_spec("faiss"):
        import faiss

        flat = faiss.IndexFlatIP(options.dim)
        flat.add(host)
        chosen["FAISS, flat"] = lambda: flat.search(queries, k)[1]
    return chosen


def times(options: argparse.Namespace) -> None:
    """Prints the table of times, and whose indices agree."""
    taken: dict[str, list[float]] = {}
    found = {}
    running = programs(options)
    for turn in range(options.repeats + 1):
        for name, run in running.items():
            start = time.perf_counter()
            found[name] = run()
            if turn:
                taken.setdefault(name, []).append(time.perf_counter() - start)
    product = taken["the bare product"]
    reference = found["FAISS, flat" if "FAISS, flat" in found else "NumPy"]
    print(f"  {'':<20}{'median ms':>10}{'fastest':>9}{'by the product':>16}{'indices equal':>15}")
    for name, each in taken.items():
        ratio = statistics.median(a / b for a, b in zip(each, product, strict=True))
        said = "" if name == "the bare product" else f"{np.mean(found[name] == reference):15.2%}"
        median, least = 1000 * statistics.median(each), 1000 * min(each)
        print(f"  {name:<20}{median:10.1f}{least:9.1f}{ratio:16.2f}{said}")


def memory(kind: str, options: argparse.Namespace) -> None:
    """Prints what a process of its own took beyond what it had before the matrix."""
    import jax

    queries = queries_of(options.queries, options.dim)
    jax.block_until_ready(jax.jit(lambda x: x @ x.T)(queries))  # what any program takes
    list(rows_of(min(PART, options.rows), options.dim))
    before = resident("VmRSS")
    if kind == "top_k":
        from facejax.recognition import top_k

        write = jax.jit(jax.lax.dynamic_update_slice_in_dim, donate_argnums=0, static_argnums=3)
        matrix = jax.numpy.zeros((options.rows, options.dim))
        for start, rows in rows_of(options.rows, options.dim):
            matrix = write(matrix, rows, start, 0)
        for _ in range(2):
            jax.block_until_ready(top_k(queries, matrix, k=options.k))
    else:
        index = filled(options, kind)
        for _ in range(2):
            index.search(queries, k=options.k)
    print(resident("VmHWM") - before)


def main() -> None:
    """Prints the report, or a measurement for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds, after one that isn't")
    parser.add_argument("--parts", default="times,memory", help="one of the two, or both")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two rounds")
    parser.add_argument("--measure", help="internal: whose memory")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.dim, options.repeats = 20_000, 64, 2
    if options.measure:
        memory(options.measure, options)
        return
    print(f"$ {shlex.join(['python', *sys.argv])}")
    versions = importlib.metadata.version("jax"), len(os.sched_getaffinity(0))
    print(f"{datetime.date.today()}, jax {versions[0]}, {versions[1]} CPU cores")
    print(f"{options.rows} x {options.dim}, {options.queries} queries, the best {options.k}")
    if "times" in options.parts:
        times(options)
    if "memory" in options.parts:
        compare_memory(options)


def compare_memory(options: argparse.Namespace) -> None:
    """Prints the peak of each, in a process of its own."""
    for kind, itemsize in (("top_k", 4), ("float32", 4), ("int8", 1)):
        command = [sys.executable, __file__, *sys.argv[1:], f"--measure={kind}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak, matrix = int(done.stdout), options.rows * options.dim * itemsize
        name = kind if kind == "top_k" else f"Index, {kind}"
        print(
            f"  {name:<20}peak memory {peak / MIB:.0f} MiB, the matrix alone {matrix / MIB:.0f}: "
            f"{peak / matrix:.2f}"
        )


if __name__ == "__main__":
    main()
