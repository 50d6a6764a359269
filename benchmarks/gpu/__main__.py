"""facejax on an accelerator: is it right, how fast, how many classes. At most 8 minutes on an H100.

    python benchmarks/gpu                       # one table; and runs/gpu.json, or --output
    python benchmarks/gpu --parts=head,step     # some of the parts
    python benchmarks/gpu --quick               # tiny sizes, on a CPU too: whether it runs

It needs JAX, flax, optax, chex and NumPy; facejax need not be installed. Where PyTorch with CUDA
is there, the training step is timed beside it. The parts, in order of value:

    losses     values and gradients, float32 and bfloat16, dense and streamed, against float64
    head       streamed beside dense, 125 thousand to 5.5 million classes; the most that fit
    step       a training step of IResNet-50 in bfloat16, beside PyTorch's
    parallel   pmap and shard_map: the same losses and parameters

Each measurement is a process of its own with a limit in time: one that fails or hangs is one row
of the table, and the rest goes on. Times are medians after a warm-up, and what is compared takes
turns.
"""

import argparse
import datetime
import json
import math
import pathlib
import shlex
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

if not __package__:  # run as a folder: what is imported is beside it, installed or not
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

from benchmarks.gpu.about import versions
from benchmarks.gpu.child import ROOT, Child, run
from benchmarks.gpu.row import Row, in_one_line


class Sizes(NamedTuple):
    """All that `--quick` makes small."""

    losses: dict[str, int]
    head: dict[str, Any]
    head_classes: tuple[int, ...]
    most_classes: tuple[int, ...]  # to be tried; none: as many as the device's memory may hold
    step: dict[str, Any]
    parallel: dict[str, Any]
    step_chunks: int
    step_chunk: int  # steps


FULL = Sizes(
    losses={"batch": 128, "classes": 4001, "dim": 512, "block": 512},
    head={"batch": 1024, "dim": 512, "blocks": (4096, 16_384, 65_536), "repeats": 10,
          "most_time": 1.3},
    head_classes=(125_000, 1_000_000, 2_000_000, 5_500_000),
    most_classes=(),
    step={"network": "iresnet50", "dtype": "bfloat16", "batch": 128, "image_size": 112,
          "classes": 93_431},  # those of MS1MV3
    parallel={"network": "iresnet10", "dtype": "float32", "batch": 32, "image_size": 48,
              "classes": 1000},
    step_chunks=9,
    step_chunk=10,
)  # fmt: skip
QUICK = Sizes(
    losses={"batch": 16, "classes": 301, "dim": 32, "block": 128},
    head={"batch": 16, "dim": 64, "blocks": (512, 1024), "repeats": 2, "most_time": math.inf},
    head_classes=(2000, 4100),
    most_classes=(20_000,),
    step={"network": "iresnet10", "dtype": "bfloat16", "batch": 4, "image_size": 16,
          "classes": 100},
    parallel={"network": "iresnet10", "dtype": "float32", "batch": 4, "image_size": 16,
              "classes": 10},
    step_chunks=2,
    step_chunk=2,
)  # fmt: skip

SHARES = (0.95, 0.85, 0.7, 0.5, 0.3)  # of the device's memory, for weights and momentum
ALONE = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}
BESIDE = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # another process has the device too
UNOPTIMIZED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}  # compiles in a fraction of the time


class Context(NamedTuple):
    """What the parts are told."""

    sizes: Sizes
    memory: float | None  # of the device, bytes
    torch: bool  # whether it is there
    environment: dict[str, str]  # of every process


def alone(context: Context, module: str, arguments: dict[str, Any], until: float) -> Iterator[Row]:
    """The rows of a module that has the device to itself."""
    yield from run(module, arguments, until=until, environment={**context.environment, **ALONE})


def losses(context: Context, until: float) -> Iterator[Row]:
    """Against float64."""
    yield from alone(context, "losses", context.sizes.losses, until)


def head(context: Context, until: float) -> Iterator[Row]:
    """Streamed beside dense, then as many classes as fit."""
    sizes = context.sizes
    for classes in sizes.head_classes:
        yield from alone(context, "head", {"classes": classes, **sizes.head}, until)
    tried = sizes.most_classes
    if context.memory is not None and not tried:
        row = 2 * 4 * sizes.head["dim"]
        tried = tuple(int(share * context.memory / row) // 1000 * 1000 for share in SHARES)
    common = {name: sizes.head[name] for name in ("batch", "dim")}
    for classes in tried:
        arguments = {"classes": classes, **common, "block": sizes.head["blocks"][1], "repeats": 3}
        found = list(alone(context, "fused", arguments, until))
        yield from found
        if any(row.passed for row in found):
            return


def step(context: Context, until: float) -> Iterator[Row]:
    """facejax alone, then in turns with PyTorch."""
    sizes, quick = context.sizes, context.sizes is QUICK
    arguments = {"sizes": sizes.step, "chunk": sizes.step_chunk}

    def child(module: str, **more: bool) -> Child:
        environment = {**context.environment, **BESIDE}
        if module == "torch_step":
            environment["JAX_PLATFORMS"] = "cpu"  # it takes the layers' numbers from facejax
        left = until - time.monotonic()
        return Child(module, {**arguments, **more}, seconds=left, environment=environment)

    with child("step") as ours:
        our_rows = ours.rows()
        ready = next(our_rows)
        yield ready
        if not ready.figures:
            return
        yield from in_turns(sizes, {"facejax": (ours, our_rows)})
        if not context.torch:
            yield Row("PyTorch", {}, note="not timed: it is not there")
            return
        with child("torch_step", on_cpu=quick) as theirs:
            their_rows = theirs.rows()
            ready = next(their_rows)
            yield ready
            if ready.figures:
                both = {"facejax, by turns": (ours, our_rows), "PyTorch": (theirs, their_rows)}
                yield from in_turns(sizes, both)


def in_turns(sizes: Sizes, children: dict[str, tuple[Child, Iterator[Row]]]) -> Iterator[Row]:
    """The times of a step in all of them, and the ratio of two; or what one says as it fails."""
    times: dict[str, list[float]] = {name: [] for name in children}
    for _ in range(sizes.step_chunks):
        for name, (child, rows) in children.items():
            child.turn()
            row = next(rows)
            if "seconds" not in row.figures:
                yield row
                return
            times[name].append(row.figures["seconds"])
    about = "{network}, {dtype}, {classes} classes".format(**sizes.step)
    for name, taken in times.items():
        seconds = statistics.median(taken)
        figures = {"ms": 1000 * seconds, "images/s": sizes.step["batch"] / seconds}
        yield Row(f"{name}: {about}", figures, note=f"batch {sizes.step['batch']}")
    if len(times) == 2:
        ratio = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
        yield Row("facejax / PyTorch", {"time": ratio})


def parallel(context: Context, until: float) -> Iterator[Row]:
    """pmap = shard_map."""
    arguments = {"sizes": context.sizes.parallel}
    yield from alone(context, "parallel", arguments, until)


Part = Callable[[Context, float], Iterator[Row]]
PARTS: dict[str, tuple[Part, float]] = {  # with the most seconds each may take
    "losses": (losses, 100),
    "head": (head, 180),
    "step": (step, 180),
    "parallel": (parallel, 90),
}


def measured(parts: list[str], context: Context, deadline: float) -> Iterator[tuple[str, Row]]:
    """The rows of the parts, whatever happens to one of them."""
    for name in parts:
        part, seconds = PARTS[name]
        left = deadline - time.monotonic()
        if left <= 0:
            yield name, Row(name, {}, False, "not started: the time was up")
            continue
        if context.sizes is QUICK:
            seconds = left
        try:
            for row in part(context, time.monotonic() + min(seconds, left)):
                yield name, row
        except Exception as error:
            traceback.print_exc()
            yield name, Row(name, {}, False, in_one_line(error))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python benchmarks/gpu", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )  # fmt: skip
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, with commas")
    parser.add_argument("--limit", type=float, default=480.0, help="seconds for all of it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only whether it runs")
    default = ROOT / "runs" / "gpu.json"
    parser.add_argument("--output", type=pathlib.Path, default=default, help="the JSON file")
    chosen = parser.parse_args()
    chosen.parts = chosen.parts.split(",")
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"--parts has {', '.join(sorted(unknown))}; it takes {', '.join(PARTS)}")
    return chosen


def main() -> int:
    """Prints the report and writes it; 1 if anything failed."""
    start = time.monotonic()
    chosen = arguments()
    deadline = start + chosen.limit
    device = next(run("about", {}, until=deadline, environment=ALONE))
    if device.passed is False:
        raise SystemExit(f"JAX has no device: {device.note}")
    found = versions()
    memory = device.figures.get("memory MiB")
    report: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "date": str(datetime.date.today()),
        "device": device.what,
        "memory_mib": memory,
        "versions": found,
        "quick": chosen.quick,
        "rows": [],
    }
    print(f"$ {report['command']}")
    about = ", ".join(f"{name} {version}" for name, version in found.items())
    print(f"{report['date']}, {device.what}, {about}")
    if chosen.quick:
        print("tiny sizes: times and ratios mean nothing")
    context = Context(
        QUICK if chosen.quick else FULL,
        None if memory is None else memory * 2**20,
        found["torch"] != "none",
        UNOPTIMIZED if chosen.quick and device.what == "cpu" else {},
    )
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    for part, row in measured(chosen.parts, context, deadline):
        print(f"{part:<9} {row}", flush=True)
        report["rows"].append({"part": part, **row._asdict()})
        report["seconds"] = round(time.monotonic() - start, 1)
        chosen.output.write_text(json.dumps(report, indent=1) + "\n")  # whole after each row
    failed = sum(row["passed"] is False for row in report["rows"])
    print(
        f"{report['seconds']:.0f} s, {len(report['rows'])} rows, {failed} failed; {chosen.output}"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
