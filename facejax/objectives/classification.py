"""Objectives with class weights: the margin softmaxes and the binary losses."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from facejax import losses
from facejax.losses import Margin, margins
from facejax.objectives.common import Objective, all_rows, initial_weights, is_self


def classification(name: str, chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """The objective of a class-weight loss."""
    fixed, ramps = _split(chosen)
    learned = bool(fixed.pop("learn_scale", False))
    centers = fixed.pop("centers", 0)
    draw = {part: fixed.pop(part) for part in ("mean", "sigma") if part in fixed}
    anneal = {
        part.removeprefix("anneal_"): fixed.pop(part)
        for part in tuple(fixed)
        if part.startswith("anneal_")
    }
    rule: Callable[..., Margin] = getattr(margins, name.removeprefix("subcenter_"))

    def init(key, num_classes, dim):
        shape = (num_classes, centers, dim) if centers else (num_classes, dim)
        params = {"weights": initial_weights(key, *shape)}
        state: dict[str, Any] = {}
        if name == "softmax":
            params["bias"] = jnp.zeros(num_classes)
        elif name == "sphereface2":
            shared = {part: fixed[part] for part in ("scale", "margin", "balance", "t")}
            params["bias"] = jnp.float32(losses.sphereface2_initial_bias(num_classes, **shared))
        elif name == "uniface":
            params["bias"] = jnp.float32(losses.uniface_initial_bias(num_classes))
        elif name == "curricularface":
            state["t"] = jnp.float32(0)
        elif name == "adaface":
            state["statistics"] = jax.tree.map(jnp.float32, losses.AdaFaceStatistics())
        elif name == "adacos":
            state["scale"] = jnp.float32(losses.adacos_initial_scale(num_classes))
        if learned:
            params["scale"] = jnp.float32(fixed["scale"])
        return params, state

    def apply(params, state, embeddings, labels, *, key, step, classes):
        ramped = _ramped(fixed, ramps, step, neutral_margin=float(name == "sphereface_r"))
        values = {**fixed, **ramped}
        if learned:
            values["scale"] = jnp.maximum(params["scale"], 0.01)
        if anneal:  # counted from 1
            values["blend"] = losses.annealed_blend(jnp.asarray(step) + 1, **anneal)
        context = None
        if name in ("sphereface2", "uniface"):
            context = params["bias"]
        elif name == "elasticface":
            context = losses.elastic_margins(key, len(labels), **draw)
        elif state:
            (context,) = state.values()
        rows = losses.margin_rows(
            embeddings,
            params["weights"],
            labels,
            rule(**values),
            bias=params["bias"] if name == "softmax" else None,
            context=context,
            classes=classes,
            dtype=dtype,
        )
        if state:
            state = {part: rows.state for part in state}
        hits = (rows.target > rows.hardest) & (labels >= 0)
        return rows.losses, state, {"correct": jnp.sum(hits, dtype=jnp.float32)}

    return Objective(init, apply)


def deepid2(chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """Softmax + weight x the mean contrastive loss of a row with the other rows of the batch."""
    chosen, ramps = _split(chosen)
    identification = classification("softmax", {}, dtype=dtype)
    weight, distance = chosen["weight"], chosen["distance"]
    if distance not in ("l2", "l1", "cosine"):
        raise ValueError(f"distance must be one of l2, l1, cosine, got {distance!r}")

    def init(key, num_classes, dim):
        params, state = identification.init(key, num_classes, dim)
        if distance == "cosine":
            params |= {"pair_weight": jnp.float32(1), "pair_bias": jnp.float32(0)}
        return params, state

    def apply(params, state, embeddings, labels, *, key, step, classes):
        values, state, metrics = identification.apply(
            params, state, embeddings, labels, key=key, step=step, classes=classes
        )
        margin = {**chosen, **_ramped(chosen, ramps, step)}["margin"]
        axis_name = classes.axis_name
        everyone, every_label = all_rows(embeddings, axis_name), all_rows(labels, axis_name)
        itself = is_self(len(labels), len(every_label), axis_name)

        @jax.checkpoint  # a [batch, batch, D] array of differences is never kept
        def with_others(inputs):
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


def center_loss(chosen: Mapping[str, Any], *, dtype: Any) -> Objective:
    """Softmax + weight x half the squared distance to the class's centre, which is state."""
    identification = classification("softmax", {}, dtype=dtype)

    def init(key, num_classes, dim):
        params, _ = identification.init(key, num_classes, dim)
        return params, {"centers": jnp.zeros((num_classes, dim))}

    def apply(params, state, embeddings, labels, *, key, step, classes):
        values, _, metrics = identification.apply(
            params, {}, embeddings, labels, key=key, step=step, classes=classes
        )
        centers = state["centers"]
        axis_name = classes.axis_name
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
    fixed: Mapping[str, Any], ramps: Mapping[str, int], step: Any, *, neutral_margin: float = 0.0
) -> dict[str, Any]:
    """Margins rise linearly from 0 (a factor on the angle from 1), scales from 1."""
    done = {
        name: jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1)
        for name, steps in ramps.items()
    }
    start = {"margin": neutral_margin, "scale": 1.0}
    return {name: start[name] + (fixed[name] - start[name]) * share for name, share in done.items()}
