"""Objectives: a loss with all that a trainer must keep for it, as an init/apply pair.

    init(key, num_classes, dim) -> (params, state)
    apply(params, state, embeddings, labels, *, key, step, axis_name, num_classes)
        -> (losses [B], state, metrics)

`params` is trained, `state` is carried. In both, every array with a rank has one row a class on its
first axis and may be split over devices there; scalars are shared. `metrics` are sums over the rows
given. With an `axis_name`, params are this device's slice and the rows its part of the batch (the
rules of `facejax.losses.Classes`); `num_classes` leaves the slices' padding rows out.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from facejax.errors import UserError
from facejax.losses import Classes, Margin, angular, margin_rows, margins

LOSSES: tuple[str, ...] = ("softmax", "normface", "cosface", "arcface")


class Objective(NamedTuple):
    """See the module's docstring."""

    init: Callable[[jax.Array, int, int], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any, dict[str, jax.Array]]]


def hyperparameters(name: str) -> dict[str, Any]:
    """The hyperparameters of a loss and their defaults, read from its signature.

    Raises:
      UserError: if there is no such loss.
    """
    if name not in LOSSES:
        raise UserError(f"there is no loss {name!r}; choose one of {', '.join(LOSSES)}")
    parameters = inspect.signature(getattr(angular, name)).parameters.values()
    structure = ("bias", "classes")
    return {
        p.name: p.default
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in structure
    }


def objective(
    name: str, chosen: Mapping[str, Any] | None = None, *, dtype: Any = jnp.float32
) -> Objective:
    """The objective of a class-weight loss.

    Args:
      name: one of `LOSSES`.
      chosen: hyperparameters to be other than the loss's defaults.
      dtype: the type of the products' inputs; similarities, margin and softmax are float32.

    Raises:
      UserError: on a loss, hyperparameter or choice that does not exist.
    """
    defaults = hyperparameters(name)
    for extra in sorted(set(chosen or {}) - set(defaults)):
        takes = ", ".join(defaults) or "none"
        raise UserError(f"the loss {name} has no {extra}: its hyperparameters are {takes}")
    try:
        margin: Margin = getattr(margins, name)(**{**defaults, **(chosen or {})})
        margin.target(jnp.zeros(1), None)  # type: ignore[arg-type]  # a bad choice shows here
    except ValueError as error:
        raise UserError(f"the loss {name} is set up wrongly: {error}") from error
    with_bias = not margin.normalize[1]

    def init(key: jax.Array, num_classes: int, dim: int) -> tuple[Any, Any]:
        params = {"weights": 0.01 * jax.random.normal(key, (num_classes, dim))}
        if with_bias:
            params["bias"] = jnp.zeros(num_classes)
        return params, {}

    def apply(
        params, state, embeddings, labels, *, key, step, axis_name=None, num_classes=None
    ) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
        del key, step  # for losses that draw or anneal
        rows = margin_rows(
            embeddings.astype(dtype),
            params["weights"].astype(dtype),
            labels,
            margin,
            bias=params.get("bias"),
            classes=Classes(axis_name=axis_name, num_classes=num_classes),
        )
        hits = (rows.target > rows.hardest) & (labels >= 0)
        return rows.losses, state, {"correct": jnp.sum(hits, dtype=jnp.float32)}

    return Objective(init, apply)
