"""All class weights updated inside the backward, `FusedSGD`: so many classes, or it does not fit.

A step of the head holds the class weights and their momentum, in place, and little else.
"""

import statistics
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import head_programs
from benchmarks.gpu.row import Row, in_one_line, is_out_of_memory

MIB = 2**20


def rows(*, classes: int, batch: int, dim: int, block: int, repeats: int) -> Iterator[Row]:
    """One row; its last, middle and first class must have moved, and be finite.

    Args:
      classes: rows of the class weights.
      batch: embeddings per step.
      dim: length of an embedding.
      block: classes per block.
      repeats: timed steps.
    """
    what = f"{classes} classes, fused update, blocks of {block}"
    chosen = {"classes": classes, "batch": batch, "dim": dim, "dtype": "bfloat16"}
    try:
        program = head_programs.build("fused", **chosen, block_size=block)
        before = _probed(classes, dim)
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            d_embeddings = program.run()
            times.append(time.perf_counter() - start)
        after = _probed(classes, dim)
    except jax.errors.JaxRuntimeError as error:
        short = is_out_of_memory(error)
        yield Row(
            what, {}, None if short else False, "does not fit" if short else in_one_line(error)
        )
        return
    figures = {
        "ms": 1000 * statistics.median(times[1:]),
        "weights and momentum MiB": 2 * 4 * classes * dim / MIB,
        "temporaries MiB": program.temporaries / MIB,
    }
    if peak := head_programs.peak_memory():
        figures["peak MiB"] = peak / MIB
    moved = np.isfinite(after).all() and (before != after).any(axis=1).all()
    passed = bool(moved and jnp.isfinite(d_embeddings).all())
    yield Row(
        what, figures, passed, "" if passed else "some classes did not move, or not to numbers"
    )


def _probed(classes: int, dim: int) -> np.ndarray:
    """[3, D]: past 2^31 numbers in an array, a wrong index would show at its end."""
    weights = head_programs.class_arrays(classes, 0, dim)["weights"]
    return np.stack([np.asarray(weights[number]) for number in (0, classes // 2, classes - 1)])
