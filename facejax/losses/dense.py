"""The dense reduction: one [B, C] matrix of similarities, whose gradient is JAX's."""

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.layout import (
    Layout,
    Operands,
    Outputs,
    Scores,
    flat,
    is_here,
    largest,
    rounded,
    similarities,
    total,
)
from facejax.losses.numerics import VOID, dot_rows, norms


def dense(operands: Operands, labels: jax.Array, layout: Layout) -> Scores:
    """All similarities at once; the gradient is JAX's."""
    weights, axis_name = rounded(operands.weights, layout), layout.axis_name
    class_norms, inverse = norms(weights)
    matrix = similarities(
        dot_rows(operands.embeddings, flat(weights)),
        operands.inverse_norm,
        inverse.reshape(-1) if layout.normalize_classes else None,
        operands.bias,
        (-1, *weights.shape[1:-1]),
    )
    column = layout.first + jnp.arange(len(weights), dtype=labels.dtype)
    is_target = labels[:, None] == column[None, :]
    is_negative = ~is_target & (column < layout.num_classes)[None, :]
    target = total(jnp.sum(jnp.where(is_target, matrix, 0), axis=1), axis_name)
    fixed = lax.stop_gradient(matrix)

    def peak(values):
        return largest(lax.stop_gradient(jnp.max(values, axis=1)), axis_name)

    def log_sum_exp(logits):
        logits = jnp.where(is_negative, logits, VOID)
        high = peak(logits)
        sums = total(jnp.sum(jnp.exp(logits - high[:, None]), axis=1), axis_name)
        return high + jnp.log(sums)

    def reduce(negative, context):
        place = jnp.clip(labels - layout.first, 0, len(weights) - 1)
        lone = class_norms if weights.ndim == 2 else class_norms[:, 0]
        class_norm = total(
            jnp.where(is_here(labels, layout, len(weights)), lone[place], 0), axis_name
        )
        values = negative(matrix, target, class_norm, context)
        if layout.is_sum:
            reduced = total(jnp.sum(jnp.where(is_negative, values, 0), axis=1), axis_name)
        else:
            reduced = log_sum_exp(values)
        return Outputs(target, class_norm, reduced, peak(jnp.where(is_negative, fixed, VOID)))

    return Scores(
        lax.stop_gradient(target), lambda f: log_sum_exp(lax.stop_gradient(f(fixed))), reduce
    )
