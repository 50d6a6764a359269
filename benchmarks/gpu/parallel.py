"""`jax.pmap` and `jax.shard_map` on one device: the same losses, and the same parameters after."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.gpu import training
from benchmarks.gpu.row import Row

STEPS = 3
# Two compilations may choose other algorithms for the same convolution.
BOUND = 1e-3


def rows(*, sizes: dict[str, Any]) -> Iterator[Row]:
    """One row. Products are in full float32, so that what differs is not TF32's rounding.

    Args:
      sizes: the fields of a `training.Sizes`, in float32.
    """
    chosen = training.Sizes(**sizes)
    with jax.default_matmul_precision("highest"):
        first, *runs = _trained(chosen, "pmap")
        _, *others = _trained(chosen, "shard_map")
    (losses, after), (other_losses, other_after) = runs, others
    figures = {
        "losses differ by": float(np.max(np.abs(losses - other_losses) / np.abs(losses))),
        "parameters by": _distance(after, other_after) / _distance(after, first),
    }
    passed = all(value <= BOUND for value in figures.values())
    note = f"at most {BOUND:g}; parameters: of the way they went in {STEPS} steps"
    yield Row("pmap = shard_map", figures, passed, note)


def _trained(sizes: training.Sizes, parallel: str) -> tuple[Any, np.ndarray, Any]:
    """(first parameters, loss of each step, last parameters), on the host."""
    built, state = training.build(sizes, parallel=parallel)
    first = jax.device_get(state.params)
    state, batch, losses = built.enter(state), training.batch(sizes), []
    for _ in range(STEPS):
        state, metrics = built.run(state, built.feed(batch))
        losses.append(jax.device_get(metrics["loss"]))
    return first, np.array(losses), jax.device_get(built.leave(state).params)


def _distance(left: Any, right: Any) -> float:
    squares = jax.tree.map(lambda a, b: np.sum(np.square(a - b)), left, right)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))
