"""Objectives with class weights: the margin softmaxes and the binary losses."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from facejax import losses
from facejax.losses import Classes, Remedies
from facejax.objectives.common import (
    Inputs,
    Loss,
    Objective,
    Result,
    all_rows,
    initial_weights,
    is_self,
)

_BY_CLASS = ("class_margins", "class_weights")  # of the remedies


def classification(
    loss: Loss,
    chosen: Mapping[str, Any],
    *,
    dtype: Any,
    remedies: Remedies = Remedies(),  # noqa: B008, immutable
) -> Objective:
    """The objective of a class-weight loss. What `remedies` have by class is kept in its state."""
    rule = loss.rule
    assert rule is not None
    fixed, ramps = _split({part: chosen[part] for part in chosen if part not in loss.own})
    centers = chosen.get("centers", 0)

    def init(key: jax.Array, num_classes: int, dim: int) -> tuple[Any, Any]:
        shape = (num_classes, centers, dim) if centers else (num_classes, dim)
        params = {"weights": initial_weights(key, *shape), **loss.params(num_classes, chosen)}
        if loss.bias:
            params["bias"] = jnp.zeros(num_classes)
        by_class = {part: getattr(remedies, part) for part in _BY_CLASS}
        given = {part: jnp.float32(one) for part, one in by_class.items() if one is not None}
        return params, loss.state(num_classes) | given

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
        by_class = {part: state[part] for part in state if part in _BY_CLASS}
        memory = {part: state[part] for part in state if part not in by_class}
        inputs = Inputs(params, memory, keys, step, chosen)
        ramp = functools.partial(_ramped, ramps=ramps, step=step, neutral=loss.neutral_margin)
        ramped, now = ramp(fixed), dict(by_class)
        if "class_margins" in now and "margin" in ramps:
            now["class_margins"] = ramp({**fixed, "margin": now["class_margins"]})["margin"]
        rows = losses.margin_rows(
            embeddings,
            params["weights"],
            labels,
            rule(**{**fixed, **ramped, **loss.moving(inputs)}),
            bias=params["bias"] if loss.bias else None,
            context=loss.context(inputs),
            remedies=remedies._replace(**now),
            classes=classes,
            dtype=dtype,
        )
        state = {part: rows.state for part in memory} | by_class
        hits = (rows.target > rows.hardest) & (labels >= 0)
        return rows.losses, state, {"correct": jnp.sum(hits, dtype=jnp.float32)}

    return Objective(init, apply)


def deepid2(loss: Loss, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """Softmax + weight x the mean contrastive loss of a row with the other rows of the batch."""
    identification = classification(loss, {}, dtype=dtype)
    chosen, ramps = _split(chosen)
    weight, distance = chosen["weight"], chosen["distance"]
    if distance not in ("l2", "l1", "cosine"):
        raise ValueError(f"distance must be one of l2, l1, cosine, got {distance!r}")

    def init(key: jax.Array, num_classes: int, dim: int) -> tuple[Any, Any]:
        params, state = identification.init(key, num_classes, dim)
        if distance == "cosine":
            params |= {"pair_weight": jnp.float32(1), "pair_bias": jnp.float32(0)}
        return params, state

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
        values, state, metrics = identification.apply(
            params, state, embeddings, labels, keys=keys, step=step, classes=classes
        )
        margin = {**chosen, **_ramped(chosen, ramps, step)}["margin"]
        axis_name = classes.axis_name
        everyone, every_label = all_rows(embeddings, axis_name), all_rows(labels, axis_name)
        itself = is_self(len(labels), len(every_label), axis_name)

        @jax.checkpoint  # a [batch, batch, D] array of differences is never kept
        def with_others(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            row, label, is_row = inputs
            others = jnp.broadcast_to(row, everyone.shape), everyone
            same = every_label == label
            if distance == "cosine":
                pairs = losses.contrastive_cosine(
                    *others, same, params["pair_weight"], params["pair_bias"]
                )
            else:
                pairs = losses.contrastive(*others, same, margin=margin, distance=distance)
            other = (every_label >= 0) & ~is_row & (label >= 0)
            return jnp.sum(jnp.where(other, pairs, 0)) / jnp.maximum(
                jnp.sum(other, dtype=pairs.dtype), 1
            )

        verification = lax.map(with_others, (embeddings, labels, itself))
        return values + weight * verification, state, metrics

    return Objective(init, apply)


def center_loss(loss: Loss, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """Softmax + weight x half the squared distance to the class's centre, which is state."""
    identification = classification(loss, {}, dtype=dtype)

    def init(key: jax.Array, num_classes: int, dim: int) -> tuple[Any, Any]:
        params, _ = identification.init(key, num_classes, dim)
        return params, {"centers": jnp.zeros((num_classes, dim))}

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
        values, _, metrics = identification.apply(
            params, {}, embeddings, labels, keys=keys, step=step, classes=classes
        )
        axis_name, centers = classes.axis_name, state["centers"]
        everyone, every_label = all_rows(embeddings, axis_name), all_rows(labels, axis_name)
        first = 0 if axis_name is None else lax.axis_index(axis_name) * len(centers)
        here = (every_label >= first) & (every_label < first + len(centers))
        place = jnp.where(here, every_label - first, -1)
        found = jnp.where(here[:, None], centers[jnp.maximum(place, 0)], 0)
        if axis_name is not None:  # each row's centre comes from the device that has its class
            found = lax.psum_scatter(found, axis_name, tiled=True)
        own = jnp.where(labels >= 0, jnp.arange(len(labels), dtype=labels.dtype), -1)
        values += chosen["weight"] * losses.center(embeddings, own, found)
        moved = losses.update_centers(everyone, place, centers, rate=chosen["rate"])
        return values, {"centers": moved}, metrics

    return Objective(init, apply)


def _split(chosen: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Hyperparameters, and over how many steps which of them rise."""
    ends = "_warmup"
    fixed = {name: value for name, value in chosen.items() if not name.endswith(ends)}
    ramps = {name.removesuffix(ends): chosen[name] for name in chosen if name.endswith(ends)}
    return fixed, {name: steps for name, steps in ramps.items() if steps}


def _ramped(
    fixed: Mapping[str, Any], ramps: Mapping[str, int], step: Any, *, neutral: float = 0.0
) -> dict[str, Any]:
    """Margins rise linearly from 0 (a factor on the angle from 1), scales from 1."""
    done = {
        name: jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1)
        for name, steps in ramps.items()
    }
    start = {"margin": neutral, "scale": 1.0}
    return {name: start[name] + (fixed[name] - start[name]) * share for name, share in done.items()}
