"""What the objectives share: their shape, and rows over devices."""

import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses import Margin
from facejax.losses.engine import own_rows
from facejax.losses.numerics import dot_rows, norms

Result = tuple[jax.Array, Any, dict[str, jax.Array]]  # losses [B], state, metrics


class Objective(NamedTuple):
    """A loss with all that a trainer keeps for it.

    Attributes:
      init: (key, num_classes, dim) -> (params, state).
      apply: (params, state, embeddings [B, D], labels [B], *, keys, step, classes) ->
        (losses [B], state, metrics). `keys` [B] are for what is drawn, one per row, or None;
        `classes` is a `facejax.losses.Classes`.
    """

    init: Callable[[jax.Array, int, int], tuple[Any, Any]]
    apply: Callable[..., Result]


class Inputs(NamedTuple):
    """What `Loss.context` and `Loss.moving` may look at in a step."""

    params: Any
    state: Any
    keys: jax.Array | None  # [B]
    step: jax.Array | int
    chosen: Mapping[str, Any]  # the hyperparameters


class Loss(NamedTuple):
    """How a loss becomes an objective, and what is kept for it: a row of `table.TABLE`.

    Attributes:
      make: (this row, hyperparameters, *, dtype) -> `Objective`.
      function: the loss; its keywords are hyperparameters.
      rule: hyperparameters -> `Margin`, where there are class weights; else None.
      own: hyperparameters that the function does not have, with their defaults. The rule does not
        get them.
      bias: whether every class has a trained bias, which is added to its similarities.
      params: (num_classes, hyperparameters) -> what is trained besides class weights and bias.
      state: num_classes -> what is carried: nothing, or one entry, which the rule moves on.
      context: `Inputs` -> what the rule sees besides the similarities.
      moving: `Inputs` -> hyperparameters of the rule that follow the step or are trained.
      neutral_margin: the margin that is none, from which `margin_warmup` rises.
      can_sample: whether a sample of the classes will do: nothing but class weights and bias
        counts by class.
      needs_pairs: whether it learns only from batches with several images of an identity.
    """

    make: Callable[..., Objective]
    function: Callable[..., Any]
    rule: Callable[..., Margin] | None = None
    own: Mapping[str, Any] = types.MappingProxyType({})
    bias: bool = False
    params: Callable[[int, Mapping[str, Any]], dict[str, Any]] = lambda num_classes, chosen: {}
    state: Callable[[int], dict[str, Any]] = lambda num_classes: {}
    context: Callable[[Inputs], Any] = lambda inputs: None
    moving: Callable[[Inputs], dict[str, Any]] = lambda inputs: {}
    neutral_margin: float = 0.0
    can_sample: bool = True
    needs_pairs: bool = False


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
