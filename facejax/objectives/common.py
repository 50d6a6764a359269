"""What the objectives share: their shape, and rows over devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.engine import own_rows
from facejax.losses.numerics import dot_rows, norms


class Objective(NamedTuple):
    """A loss with all that a trainer keeps for it.

    Attributes:
      init: (key, num_classes, dim) -> (params, state).
      apply: (params, state, embeddings [B, D], labels [B], *, key, step, classes) ->
        (losses [B], state, metrics); `classes` is a `facejax.losses.Classes`.
    """

    init: Callable[[jax.Array, int, int], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any, dict[str, jax.Array]]]


def initial_weights(key: jax.Array, *shape: int) -> jax.Array:
    """Class weights or proxies before the first step."""
    return 0.01 * jax.random.normal(key, shape)


def all_rows(rows: jax.Array, axis_name: str | None) -> jax.Array:
    """The rows (or class slices) of all devices, in axis order."""
    return rows if axis_name is None else lax.all_gather(rows, axis_name, tiled=True)


def is_self(own: int, everyone: int, axis_name: str | None) -> jax.Array:
    """[own, everyone]: whether a row of this device meets itself among the rows of all."""
    return own_rows(jnp.eye(everyone, dtype=bool), own, axis_name)


def nearest_is_same(
    embeddings: jax.Array, labels: jax.Array, axis_name: str | None
) -> dict[str, jax.Array]:
    """The metric of losses without class weights: is the nearest other row of the same identity?"""
    everyone = lax.stop_gradient(all_rows(embeddings, axis_name))
    every_label = all_rows(labels, axis_name)
    own = lax.stop_gradient(embeddings)
    similarity = dot_rows(own, everyone) * norms(everyone)[1][None, :]  # own length is no matter
    other = ~is_self(len(labels), len(every_label), axis_name) & (every_label >= 0)[None, :]
    nearest = jnp.argmax(jnp.where(other, similarity, -jnp.inf), axis=1)
    hits = (every_label[nearest] == labels) & (labels >= 0) & jnp.any(other, axis=1)
    return {"correct": jnp.sum(hits, dtype=jnp.float32)}
