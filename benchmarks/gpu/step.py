"""facejax's training step, a chunk of steps for each line that comes in."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import jax

from benchmarks.gpu import training
from benchmarks.gpu.row import Row
from benchmarks.head_programs import peak_memory

MIB = 2**20


def rows(*, sizes: dict[str, Any], chunk: int) -> Iterator[Row]:
    """First how long it took to compile; then the time of each chunk, when its turn comes.

    Args:
      sizes: the fields of a `training.Sizes`.
      chunk: steps.
    """
    chosen = training.Sizes(**sizes)
    start = time.perf_counter()
    built, state = training.build(chosen, parallel="pmap")
    state = built.enter(state)
    batch = training.batch(chosen)

    def steps(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, _ = built.run(state, built.feed(batch))
        jax.block_until_ready(state)

    steps(2)
    ready = {"until ready s": time.perf_counter() - start}
    if peak := peak_memory():
        ready["peak MiB"] = peak / MIB
    yield Row("facejax", ready)
    for _ in sys.stdin:
        start = time.perf_counter()
        steps(chunk)
        yield Row("facejax", {"seconds": (time.perf_counter() - start) / chunk})
