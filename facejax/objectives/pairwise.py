"""Objectives of the losses on pairs and triplets of a batch, and on proxies."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from facejax import losses
from facejax.losses.batch_pairs import all_pairs
from facejax.losses.engine import own_rows
from facejax.objectives.common import (
    Objective,
    all_rows,
    initial_weights,
    nearest_is_same,
)


def facenet(chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """The mean over the triplets mined in the batch."""

    def apply(params, state, embeddings, labels, *, key, step, classes):
        del params, key, step
        axis_name = classes.axis_name
        everyone, every_label = all_rows(embeddings, axis_name), all_rows(labels, axis_name)
        sums, counts = losses.batch_triplet(everyone.astype(dtype), every_label, **chosen)
        # The caller divides by the real rows; what counts here is the triplets.
        real, mined = jnp.sum(every_label >= 0), jnp.sum(counts)
        share = real.astype(sums.dtype) / jnp.maximum(mined, 1).astype(sums.dtype)
        own = len(labels)
        values = own_rows(sums * share, own, axis_name)
        mined_here = jnp.sum(own_rows(counts, own, axis_name), dtype=jnp.float32)
        metrics = nearest_is_same(embeddings, labels, axis_name)
        return values, state, {**metrics, "triplets": mined_here}

    return Objective(_without_weights, apply)


def pairs(name: str, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """A loss per anchor over the pairs of the batch."""
    chosen = dict(chosen)
    regularizer = chosen.pop("regularizer", 0.0)
    function = getattr(losses, name)

    def apply(params, state, embeddings, labels, *, key, step, classes):
        del params, key, step
        axis_name = classes.axis_name
        everyone, every_label = all_rows(embeddings, axis_name), all_rows(labels, axis_name)
        values = function(everyone.astype(dtype), every_label, **chosen)
        if name == "n_pairs":  # the mean is over the pairs, the raw lengths are held down
            real = every_label >= 0
            before = jnp.sum(jnp.tril(all_pairs(every_label).positive), axis=1)
            pairs = jnp.sum(before == 1)  # one second row an identity
            share = jnp.sum(real).astype(values.dtype) / jnp.maximum(pairs, 1).astype(values.dtype)
            squares = jnp.sum(jnp.square(everyone.astype(values.dtype)), axis=1)
            values = values * share + regularizer * jnp.where(real, squares, 0)
        values = own_rows(values, len(labels), axis_name)
        return values, state, nearest_is_same(embeddings, labels, axis_name)

    return Objective(_without_weights, apply)


def proxies(name: str, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """A loss of the batch against one trained proxy an identity."""
    function = getattr(losses, name)

    def init(key, num_classes, dim):
        return {"weights": initial_weights(key, num_classes, dim)}, {}

    def apply(params, state, embeddings, labels, *, key, step, classes):
        del key, step
        axis_name = classes.axis_name
        # Both losses look at the batch and the proxies as a whole.
        everyone, every_label = all_rows(embeddings, axis_name), all_rows(labels, axis_name)
        every_proxy = all_rows(params["weights"], axis_name)[: classes.num_classes]
        values = function(everyone.astype(dtype), every_proxy.astype(dtype), every_label, **chosen)
        values = own_rows(values, len(labels), axis_name)
        return values, state, nearest_is_same(embeddings, labels, axis_name)

    return Objective(init, apply)


def _without_weights(key, num_classes, dim):
    del key, num_classes, dim
    return {}, {}
