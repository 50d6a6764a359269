"""Batches split over a mesh whose axes are Explicit, as `jax.make_mesh` makes them by default.

There every operation must say how its result is split, which sorts, gathers by label and all pairs
of a batch can't. XLA can: it does for Auto axes, and within the losses these become such.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

Function = TypeVar("Function", bound=Callable[..., Any])


def rows_may_be_split(function: Function) -> Function:
    """A function of which arrays may be split by rows over Explicit axes.

    Its results with as many rows come out split alike, the others whole on every device. Elsewhere
    nothing changes.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        leaves, structure = jax.tree.flatten((arguments, keywords))
        arrays = {i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)}
        split = next(filter(_is_split, arrays.values()), None)
        if split is None:
            return function(*arguments, **keywords)

        def inner(arrays: dict[int, Any]) -> Any:
            given = [arrays.get(i, x) for i, x in enumerate(leaves)]
            arguments, keywords = jax.tree.unflatten(structure, given)
            return function(*arguments, **keywords)

        place: Any = jax.typeof(split).sharding
        rows, whole = (
            NamedSharding(place.mesh, spec)
            for spec in (PartitionSpec(place.spec[0]), PartitionSpec())
        )
        shapes = {i: jax.ShapeDtypeStruct(x.shape, x.dtype) for i, x in arrays.items()}
        out = jax.tree.map(
            lambda leaf: rows if leaf.shape[:1] == split.shape[:1] else whole,
            jax.eval_shape(inner, shapes),
        )
        return jax.sharding.auto_axes(inner, out_sharding=out)(arrays)

    return call  # type: ignore[return-value]


def _is_split(array: Any) -> bool:
    spec: Any = getattr(getattr(jax.typeof(array), "sharding", None), "spec", ())
    return bool(spec) and spec[0] is not None
