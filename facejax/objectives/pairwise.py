"""Objectives of the losses on pairs and triplets of a batch, and on proxies."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from facejax.losses import Classes
from facejax.losses.batch_pairs import all_pairs
from facejax.losses.engine import own_rows
from facejax.objectives.common import (
    Loss,
    Objective,
    Result,
    all_rows,
    initial_weights,
    nearest_is_same,
)


def facenet(loss: Loss, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """The mean over the triplets mined in the batch."""

    def on_batch(
        proxies: Any, embeddings: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        del proxies
        sums, counts = loss.function(embeddings.astype(dtype), labels, **chosen)
        # The caller divides by the real rows; what counts here is the triplets.
        real, mined = jnp.sum(labels >= 0), jnp.sum(counts)
        share = real.astype(sums.dtype) / jnp.maximum(mined, 1).astype(sums.dtype)
        return sums * share, {"triplets": counts}

    return _of_the_batch(on_batch)


def pairs(loss: Loss, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """A loss per anchor over the pairs of the batch."""

    def on_batch(
        proxies: Any, embeddings: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        del proxies
        return loss.function(embeddings.astype(dtype), labels, **chosen), {}

    return _of_the_batch(on_batch)


def n_pairs(loss: Loss, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """The mean over the pairs of the batch; the raw lengths are held down."""

    def on_batch(
        proxies: Any, embeddings: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        del proxies
        values = loss.function(embeddings.astype(dtype), labels)
        real = labels >= 0
        before = jnp.sum(jnp.tril(all_pairs(labels).positive), axis=1)
        pairs = jnp.sum(before == 1)  # one second row an identity
        share = jnp.sum(real).astype(values.dtype) / jnp.maximum(pairs, 1).astype(values.dtype)
        squares = jnp.sum(jnp.square(embeddings.astype(values.dtype)), axis=1)
        return values * share + chosen["regularizer"] * jnp.where(real, squares, 0), {}

    return _of_the_batch(on_batch)


def proxies(loss: Loss, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """A loss of the batch against one trained proxy per identity."""

    def init(key: jax.Array, num_classes: int, dim: int) -> tuple[Any, Any]:
        return {"weights": initial_weights(key, num_classes, dim)}, {}

    def on_batch(
        proxies: Any, embeddings: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        values = loss.function(
            embeddings.astype(dtype), proxies["weights"].astype(dtype), labels, **chosen
        )
        return values, {}

    return _of_the_batch(on_batch, init)


def _no_params(key: jax.Array, num_classes: int, dim: int) -> tuple[Any, Any]:
    del key, num_classes, dim
    return {}, {}


def _of_the_batch(
    on_batch: Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]],
    init: Callable[[jax.Array, int, int], tuple[Any, Any]] = _no_params,
) -> Objective:
    """The objective of a loss that looks at the batch, and at the proxies, as a whole.

    Args:
      on_batch: (all proxies, all embeddings [B, D], all labels [B]) -> (losses [B], counts [B] by
        the names of metrics).
      init: the objective's.
    """

    def apply(
        params: Any,
        state: Any,
        embeddings: jax.Array,
        labels: jax.Array,
        *,
        keys: jax.Array | None,
        step: jax.Array | int,
        classes: Classes,
    ) -> Result:
        del keys, step
        axis_name, own = classes.axis_name, len(labels)
        everyone, every_label = all_rows(embeddings, axis_name), all_rows(labels, axis_name)
        every_proxy = jax.tree.map(
            lambda leaf: all_rows(leaf, axis_name)[: classes.num_classes], params
        )
        values, counts = on_batch(every_proxy, everyone, every_label)
        metrics = nearest_is_same(embeddings, labels, axis_name)
        for name, count in counts.items():
            metrics[name] = jnp.sum(own_rows(count, own, axis_name), dtype=jnp.float32)
        return own_rows(values, own, axis_name), state, metrics

    return Objective(init, apply)
