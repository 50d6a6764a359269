"""The dense reduction: one [B, C] matrix of similarities, whose gradient is JAX's."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.layout import (
    Context,
    Layout,
    Negative,
    Operands,
    Outputs,
    Scores,
    flat,
    kept,
    largest,
    raw,
    rounded,
    similarities,
    total,
)
from facejax.losses.numerics import VOID, dot_rows, norms


def dense(operands: Operands, labels: jax.Array, layout: Layout) -> Scores:
    """All similarities at once."""
    weights, axis_name = rounded(raw(operands.weights), layout), layout.axis_name
    class_norms, inverse = (part.astype(layout.dtype) for part in norms(weights))
    matrix = similarities(
        dot_rows(operands.embeddings, flat(weights)).astype(layout.dtype),
        operands.inverse_norm,
        inverse.reshape(-1) if layout.normalize_classes else None,
        operands.bias,
        (-1, *weights.shape[1:-1]),
    )
    column = layout.first + jnp.arange(len(weights), dtype=labels.dtype)
    is_target = labels[:, None] == column[None, :]
    is_negative = ~is_target & (column < layout.num_classes)[None, :]
    fixed = lax.stop_gradient(matrix)

    def own(values: jax.Array) -> jax.Array:
        return total(jnp.sum(jnp.where(is_target, values, 0), axis=1), axis_name)

    def peak(values: jax.Array) -> jax.Array:
        return largest(lax.stop_gradient(jnp.max(values, axis=1)), axis_name)

    def log_sum_exp(logits: jax.Array) -> jax.Array:
        logits = jnp.where(is_negative, logits.astype(layout.dtype), VOID)
        high = peak(logits)
        sums = total(jnp.sum(jnp.exp(logits - high[:, None]), axis=1), axis_name)
        return high + jnp.log(sums)

    def plain_sum(terms: jax.Array, counts: jax.Array) -> jax.Array:
        terms = jnp.where(counts, terms.astype(layout.dtype), 0)
        return total(jnp.sum(terms, axis=1), axis_name)

    def log_sum(function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        return log_sum_exp(lax.stop_gradient(function(fixed)))

    target = own(matrix)

    def reduce(negative: Negative, context: Context) -> Outputs:
        lone = class_norms if weights.ndim == 2 else class_norms[:, 0]
        class_norm = own(
            lone[None, :]
        )  # two of the losses look at it; for the others it is dropped
        values = negative(matrix, context._replace(target=target, class_norm=class_norm))
        reduced = plain_sum(values, is_negative) if layout.is_sum else log_sum_exp(values)
        summed = plain_sum(values, is_negative & kept(values)) if layout.and_sum else None
        hardest = peak(jnp.where(is_negative, fixed, VOID))
        return Outputs(target, class_norm, reduced, hardest, summed)

    return Scores(lambda: lax.stop_gradient(target), log_sum, reduce)
