"""Time and memory of the classification head: dense, streamed, sampled, and beside PyTorch.

    python benchmarks/head.py                            # all parts
    python benchmarks/head.py --parts=speed,linearity    # some of them
    python benchmarks/head.py --quick                    # tiny sizes: whether it runs

Forward and backward (or a whole step, where it says so) of ArcFace on random embeddings and class
weights. Each measurement is a process of its own, so that nothing is left from the one before and
its peak memory is its own. What is compared by time takes turns in one process, and a ratio is the
median of the rounds' ratios. PyTorch (extra `bench`) is left out where it is missing. An
accelerator has a command of its own, `python benchmarks/gpu`.
"""

import datetime
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import app, flags

PARTS = ("speed", "memory", "linearity", "sampled", "losses")
_SIZES = {
    "speed": (100_000,),
    "memory": (1_000_000,),
    "linearity": (100_000, 250_000, 500_000, 1_000_000, 2_000_000),
    "sampled": (1_000_000,),
    "losses": (100_000,),
}
CENTERS = 3  # of subcenter_arcface, with a third of the classes: as many rows as the others

CHOSEN = flags.DEFINE_list("parts", list(PARTS), f"some of {', '.join(PARTS)}")
QUICK = flags.DEFINE_bool("quick", False, "tiny sizes, two rounds: only whether it runs")
SIZES = flags.DEFINE_list("classes", None, "numbers of classes, in place of each part's own")
BATCH = flags.DEFINE_list("batch", None, "rows per step; by default 256")
DIM = flags.DEFINE_integer("dim", 512, "length of an embedding", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "of the products")
BLOCK = flags.DEFINE_string("block_size", "auto", "classes per block, or auto, facejax's default")
REPEATS = flags.DEFINE_integer("repeats", 7, "timed rounds, after one that is not", lower_bound=1)
# What this script calls itself with, for one measurement.
MEASURE = flags.DEFINE_string("measure", None, "JSON: internal")

MIB, GIB = 2**20, 2**30


class Measured(NamedTuple):
    """Of programs that took turns in one process."""

    times: list[list[float]]  # seconds, of each program in each round
    temporaries: list[int | None]  # bytes, of each program
    peak: int  # bytes: of the accelerator, or else the process's resident memory
    device: str

    def median(self, number: int) -> float:
        """Seconds."""
        return statistics.median(self.times[number])

    def ratio(self, above: int, below: int) -> float:
        """The median over the rounds of one program's time by another's."""
        pairs = zip(self.times[above], self.times[below], strict=True)
        return statistics.median(a / b for a, b in pairs)


def peak_rss() -> int:
    """The largest resident memory of this process so far, bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found, "this system does not tell"
    return 1024 * int(found.group(1))


def build(kind: str, **chosen: Any) -> tuple[Callable[[], Any], int | None]:
    """A function that makes one call to its end, and the bytes of its temporaries if known."""
    if kind == "torch":  # in a process that has no JAX, when it is alone
        import head_torch

        return head_torch.build(**chosen, threads=len(os.sched_getaffinity(0))), None
    import head_programs

    return head_programs.build(kind, **chosen)


def measure_here(programs: Sequence[dict[str, Any]], repeats: int) -> Measured:
    """What `measure` runs in a process of its own."""
    built = [build(**chosen) for chosen in programs]
    times: list[list[float]] = [[] for _ in built]
    for _ in range(repeats + 1):
        for (run, _), taken in zip(built, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    device, peak = "", None
    if any(chosen["kind"] != "torch" for chosen in programs):
        import head_programs

        device, peak = head_programs.device(), head_programs.peak_memory()
    temporaries = [size for _, size in built]
    return Measured([taken[1:] for taken in times], temporaries, peak or peak_rss(), device)


def measure(*programs: dict[str, Any], repeats: int | None = None) -> Measured:
    """Builds the programs in a new process and has them take turns."""
    repeats = repeats or (2 if QUICK.value else REPEATS.value)
    spec = json.dumps({"programs": programs, "repeats": repeats})
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95", **os.environ}
    done = subprocess.run(
        [sys.executable, __file__, f"--measure={spec}"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stderr}\na measurement failed with {done.returncode}: {spec}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def program(kind: str, classes: int, batch: int, **chosen: Any) -> dict[str, Any]:
    """For `build`."""
    sizes = {"classes": classes, "batch": batch, "dim": DIM.value}
    return {"kind": kind, **sizes, "dtype": DTYPE.value, **chosen}


def block_size() -> int | str:
    """Streamed programs' block; a number where `auto` would not stream."""
    if BLOCK.value != "auto":
        return int(BLOCK.value)
    return 512 if QUICK.value else "auto"


def check(what: str, value: float, bar: float, unit: str = "", *, at_least: bool = False) -> None:
    """Prints a line: the value, the bar, and whether it is met."""
    met = "met" if (value >= bar if at_least else value <= bar) else "not met"
    side = "at least" if at_least else "at most"
    print(f"  {what:<58}{value:7.2f} {unit:<4} {side} {bar:g}: {met}")


def speed(classes: int, batch: int) -> None:
    """Dense, streamed, the bare products and PyTorch, in turn."""
    programs = {
        "dense": program("gradients", classes, batch),
        "streamed": program("gradients", classes, batch, block_size=block_size()),
        "products, whole": program("products", classes, batch),
        "products, in blocks": program("products", classes, batch, block_size=block_size()),
    }
    if importlib.util.find_spec("torch"):
        programs["PyTorch"] = {
            "kind": "torch", "classes": classes, "batch": batch, "dim": DIM.value
        }  # fmt: skip
    result = measure(*programs.values())
    operations = 4 * 2 * batch * classes * DIM.value
    print(f"  {'':<22}median ms  fastest  GFLOP/s  temporaries MiB  peak resident MiB, alone")
    for number, (name, chosen) in enumerate(programs.items()):
        alone = measure(chosen, repeats=1)
        median, temporaries = result.median(number), result.temporaries[number]
        print(
            f"  {name:<22}{1000 * median:9.1f}{1000 * min(result.times[number]):9.1f}"
            f"{operations / median / 1e9:9.1f}"
            f"{'-' if temporaries is None else f'{temporaries / MIB:.1f}':>17}"
            f"{alone.peak / MIB:26.0f}"
        )
    dense, streamed, *_ = result.temporaries
    limit = min((2, 3), key=result.median)
    check("streamed / dense, time", result.ratio(1, 0), 1)
    check("streamed / dense, temporaries", (streamed or 0) / (dense or 1), 0.1)
    check(
        "faster bare products / streamed, time (an aim)", result.ratio(limit, 1), 0.9, at_least=True
    )
    if "PyTorch" in programs:
        check("PyTorch / streamed, time", result.ratio(4, 1), 2.2, at_least=True)


def memory(classes: int, batch: int) -> None:
    """What streaming takes beyond class weights and their gradient, or momentum."""
    state = 2 * 4 * classes * DIM.value
    for kind, name, second, bar in (
        ("gradients", "streamed", "gradient", 1.5),
        ("fused", "streamed, fused update", "momentum", 1.0),
    ):
        result = measure(program(kind, classes, batch, block_size=block_size()))
        print(
            f"  {name}: {1000 * result.median(0):.0f} ms, peak resident {result.peak / GIB:.2f} "
            f"GiB, of which weights and {second} {state / GIB:.2f} GiB"
        )
        check(f"{name}, temporaries", (result.temporaries[0] or 0) / MIB, 100, "MiB")
        check(f"{name}, peak beyond those two", (result.peak - state) / GIB, bar, "GiB")


def linearity(sizes: Sequence[int], batch: int) -> None:
    """Time per class as the classes grow, each size in turn with the first."""
    for classes in sizes[1:]:
        first, grown = (
            program("gradients", count, batch, block_size=block_size())
            for count in (sizes[0], classes)
        )
        result = measure(first, grown)
        times = [1000 * result.median(number) for number in (0, 1)]
        print(f"  {sizes[0]} classes {times[0]:.0f} ms, {classes} classes {times[1]:.0f} ms")
        per_class = result.ratio(1, 0) * sizes[0] / classes
        check(f"{classes} / {sizes[0]} classes, time per class", per_class, 1.2)


def sampled(classes: int, batch: int) -> None:
    """A step of the head on a tenth of the classes beside the exact steps."""
    kinds = {"sgd": "exact, optax", "fused": "exact, fused update", "sampled": "sampled, 0.1"}
    result = measure(*(program(kind, classes, batch, block_size=block_size()) for kind in kinds))
    for number, name in enumerate(kinds.values()):
        temporaries = (result.temporaries[number] or 0) / MIB
        print(f"  {name:<22}{1000 * result.median(number):9.1f} ms, {temporaries:.0f} MiB")
    check("sampled / exact step with optax", result.ratio(2, 0), 0.2)
    check("sampled / exact step, fused", result.ratio(2, 1), 0.2)


def every_loss(classes: int, batch: int) -> None:
    """Each loss with class weights, streamed, in turn with ArcFace, in float32."""
    from facejax import losses

    def chosen(name):
        centers = CENTERS if name == "subcenter_arcface" else 0
        return program(
            "gradients", classes // max(centers, 1), batch,
            loss=name, centers=centers, block_size=block_size(), dtype="float32",
        )  # fmt: skip

    names = [
        name
        for name in losses.__all__
        if name not in ("arcface", "margin_rows", "margin_softmax", "Classes")
        and "classes" in inspect.signature(getattr(losses, name)).parameters
    ]
    result = measure(*(chosen(one) for name in names for one in ("arcface", name)))
    for number, name in enumerate(names):
        ms = 1000 * result.median(2 * number + 1)
        check(f"{name:<20}{ms:9.1f} ms / arcface", result.ratio(2 * number + 1, 2 * number), 1.3)


def main(_) -> None:
    """Prints the report, or a measurement for it."""
    if MEASURE.value:
        print(json.dumps(measure_here(**json.loads(MEASURE.value))._asdict()))
        return
    known = {"speed": speed, "memory": memory, "sampled": sampled, "losses": every_loss}
    if unknown := set(CHOSEN.value) - set(PARTS):
        raise app.UsageError(f"--parts has {', '.join(unknown)}; it takes {', '.join(PARTS)}")
    print(f"$ {shlex.join(['python', *sys.argv])}")
    versions = importlib.metadata.version("jax"), len(os.sched_getaffinity(0))
    device = measure(program("gradients", 8, 2), repeats=1).device
    print(f"{datetime.date.today()}, jax {versions[0]} on {device}, {versions[1]} CPU cores")
    if QUICK.value:
        print("tiny sizes: the bars mean nothing")
    batches = BATCH.value or ((16,) if QUICK.value else (256,))
    for part in CHOSEN.value:
        tiny = (2000, 4000) if part == "linearity" else (2000,)
        sizes = [int(n) for n in SIZES.value or (tiny if QUICK.value else _SIZES[part])]
        for batch in map(int, batches):
            about = f"batch {batch}, D = {DIM.value}, {DTYPE.value} products"
            if part == "linearity":
                print(f"{part}: {sizes[0]} to {sizes[-1]} classes, {about}")
                linearity(sizes, batch)
                continue
            for classes in sizes:
                print(f"{part}: {classes} classes, {about}")
                known[part](classes, batch)


if __name__ == "__main__":
    app.run(main)
