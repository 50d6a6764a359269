"""The streamed reduction: class blocks under a scan, so that memory follows the block, not C.

Forward, an online log-sum-exp (or a sum) over the blocks. Backward, each block is computed again;
its part of the class weights' gradient is written into one [C, D] array, and no normalised copy of
the weights is ever made. The rows' own classes are a gather of [B, D] beside the blocks. Logits of
a known bound are summed without a running maximum.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.fused import FusedSGD, update_block, update_rows
from facejax.losses.layout import (
    Layout,
    Operands,
    Outputs,
    Scores,
    flat,
    is_here,
    largest,
    log_or_void,
    rounded,
    similarities,
    total,
)
from facejax.losses.numerics import VOID, alike, contract, norms


def streamed(
    operands: Operands, labels: jax.Array, layout: Layout, *, block: int, backward_block: int
) -> Scores:
    """Class blocks of the sizes given; the same numbers as `dense`."""
    blocks = min(block, len(operands.weights)), min(backward_block, len(operands.weights))
    fixed = jax.tree.map(lax.stop_gradient, operands)
    target, _ = total(
        _own(fixed, _own_classes(fixed, labels, layout), labels, layout), layout.axis_name
    )

    def log_sum(function):
        negative = lambda similarity, _: lax.stop_gradient(function(similarity))  # noqa: E731
        return _negatives(
            negative, fixed, labels, layout._replace(is_sum=False, bounded=False), blocks[0]
        )[0]

    def reduce(negative, context):
        return _reduce(negative, operands._replace(context=context), labels, layout, blocks)

    return Scores(target, log_sum, reduce)


def _own_classes(operands: Operands, labels: jax.Array, layout: Layout):
    """The class weights [B, (K,) D] and biases [B] of the rows' own classes, if they are here."""
    place = jnp.clip(labels - layout.first, 0, len(operands.weights) - 1)
    bias = None if operands.bias is None else operands.bias[place]
    return rounded(operands.weights[place], layout), bias


def _own(operands: Operands, own: Any, labels: jax.Array, layout: Layout):
    """(target similarity, norm of the own class weight), [B] each; 0 where it is elsewhere."""
    rows, bias = own
    norm, inverse_class = norms(rows)
    embeddings = operands.embeddings.astype(norm.dtype)
    left = embeddings[:, None, :] if rows.ndim == 3 else embeddings
    products = jnp.sum(left * rows.astype(norm.dtype), axis=-1)
    if layout.normalize_classes:
        products *= inverse_class
    if rows.ndim == 3:
        products, norm = jnp.max(products, axis=1), norm[:, 0]
    if operands.inverse_norm is not None:
        products *= operands.inverse_norm
    if bias is not None:
        products += bias.astype(products.dtype)
    here = is_here(labels, layout, len(operands.weights))
    return jnp.where(here, products, 0), jnp.where(here, norm, 0)


def _reduce(negative, operands: Operands, labels, layout: Layout, blocks) -> Outputs:
    rows, dtype = len(labels), norms(operands.embeddings)[0].dtype
    per_row = jnp.zeros(rows, dtype)
    seen = (per_row, per_row, operands.context)
    # What a margin closes over may be traced: it becomes an operand, for the forward and for the
    # backward, whose blocks have another shape.
    (ahead, ahead_constants), (back, back_constants) = (
        jax.closure_convert(lambda s, seen: negative(s, *seen), jnp.zeros((rows, b), dtype), seen)
        for b in blocks
    )
    operands = operands._replace(constants=(ahead_constants, back_constants))

    def forward(operands, labels, first):
        here = layout._replace(first=first)
        own = _own_classes(operands, labels, here)
        if operands.update is not None:  # read before the backward writes over the weights
            own, weights = lax.optimization_barrier((own, operands.weights))
            operands = operands._replace(weights=weights)
        target, class_norm = total(_own(operands, own, labels, here), layout.axis_name)
        seen = (target, class_norm, operands.context)

        def values(similarity, seen):
            return ahead(similarity, seen, *operands.constants[0])

        found = _negatives(values, operands, labels, here, blocks[0], seen)
        outputs = Outputs(target, class_norm, *found)
        return outputs, (operands, own, labels, first, outputs)

    def backward(saved, cotangents):
        operands, own, labels, first, outputs = saved
        here = layout._replace(first=first)
        gradient = _backward(back, operands, own, labels, here, blocks[1], outputs, cotangents)
        return gradient, None, None

    reduce = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
    reduce.defvjp(forward, backward)
    return reduce(operands, labels, layout.first)


class _Block(NamedTuple):
    weights: jax.Array  # [block, (K,) D]
    counts: jax.Array  # [block]: is a class, and not in another block
    bias: jax.Array | None
    negative: jax.Array  # [B, block]: counts as a negative of the row, here


def _block(number, size, operands: Operands, labels, layout: Layout) -> tuple[Any, _Block]:
    """The start of a block and what is in it.

    Block 0 is the last of the classes; where it overlaps the one before, that one, which comes
    later, has the classes, and what is written for them.
    """
    count = len(operands.weights)
    start = jnp.where(number == 0, count - size, (number - 1) * size)
    column = start + jnp.arange(size, dtype=labels.dtype)
    overlap = jnp.where(number == 0, -(-count // size) * size - size, 0)
    fresh = (column >= overlap) & (column + layout.first < layout.num_classes)
    negative = fresh[None, :] & (labels[:, None] != (column + layout.first)[None, :])
    bias = operands.bias
    if bias is not None:
        bias = lax.dynamic_slice_in_dim(bias, start, size)
    weights = lax.dynamic_slice_in_dim(operands.weights, start, size)
    return start, _Block(weights, fresh, bias, negative)


def _negatives(negative, operands: Operands, labels, layout: Layout, size: int, seen=None):
    """(reduced [B], hardest [B]) over the blocks of all devices."""
    rows, dtype = len(labels), norms(operands.embeddings)[0].dtype

    def step(carry, number):
        peak, summed, hardest = carry
        _, block = _block(number, size, operands, labels, layout)
        similarity = _scores(operands, block, layout)
        values = negative(similarity, seen)
        hardest = jnp.maximum(hardest, jnp.max(jnp.where(block.negative, similarity, VOID), axis=1))
        if layout.is_sum:
            return (peak, summed + jnp.sum(jnp.where(block.negative, values, 0), 1), hardest), None
        values = jnp.where(block.negative, values, VOID)
        if layout.bounded:
            return (peak, summed + jnp.sum(jnp.exp(values), axis=1), hardest), None
        higher = jnp.maximum(peak, jnp.max(values, axis=1))
        summed = summed * jnp.exp(peak - higher)
        summed += jnp.sum(jnp.exp(values - higher[:, None]), axis=1)
        return (higher, summed, hardest), None

    void = jnp.full(rows, VOID, dtype)
    start = (void, jnp.zeros(rows, dtype), void)
    numbers = jnp.arange(-(-len(operands.weights) // size), dtype=labels.dtype)
    (peak, summed, hardest), _ = lax.scan(step, start, numbers)
    if layout.is_sum:
        reduced = total(summed, layout.axis_name)
    elif layout.bounded:
        reduced = log_or_void(total(summed, layout.axis_name))
    else:
        highest = largest(peak, layout.axis_name)
        reduced = highest + jnp.log(total(summed * jnp.exp(peak - highest), layout.axis_name))
    return reduced, largest(hardest, layout.axis_name)


def _scores(operands: Operands, block: _Block, layout: Layout) -> jax.Array:
    rows = _rows(rounded(block.weights, layout))
    inverse = norms(rows)[1] if layout.normalize_classes else None
    products = contract(*alike(operands.embeddings, rows), 1, 1)
    return similarities(products, operands.inverse_norm, inverse, block.bias, _shape(block.weights))


def _rows(weights: jax.Array) -> jax.Array:
    """[block, D], or [block, K, D] -> [K x block, D], so that a class's centres lie apart: the
    maximum over them is then taken of whole vectors of classes."""
    return flat(weights if weights.ndim == 2 else weights.swapaxes(0, 1))


def _shape(weights: jax.Array) -> tuple[int, ...]:
    return (-1,) if weights.ndim == 2 else (weights.shape[1], -1)


def _backward(negative, operands: Operands, own, labels, layout: Layout, size, outputs, cotangents):
    embeddings, weights = operands.embeddings, operands.weights
    # Every device needs the cotangents of all rows: its classes are negatives of them all.
    cotangents = total(cotangents, layout.axis_name)
    dtype = outputs.target.dtype

    def step(carry, number):
        written, d_bias, d_embeddings, d_rest = carry
        now = operands if operands.update is None else operands._replace(weights=written.weights)
        start, block = _block(number, size, now, labels, layout)
        rows = _rows(rounded(block.weights, layout))
        inverse = norms(rows)[1]
        left, right = alike(embeddings, rows)
        products = contract(left, right, 1, 1)

        def values(products, inverse, bias, rest):
            if not layout.normalize_classes:
                inverse = None
            similarity = similarities(
                products, operands.inverse_norm, inverse, bias, _shape(weights)
            )
            return negative(similarity, rest[0], *rest[1])

        rest = ((outputs.target, outputs.class_norm, operands.context), operands.constants[1])
        logits, pull = jax.vjp(values, products, inverse, block.bias, rest)
        slope = jnp.broadcast_to(cotangents.reduced[:, None], logits.shape)
        if not layout.is_sum:
            slope = slope * jnp.exp(logits - outputs.reduced[:, None])
        d_products, d_inverse, d_block_bias, d_more = pull(jnp.where(block.negative, slope, 0))
        # In the products' own type: a float32 one would drag both products into float32.
        d_products = d_products.astype(left.dtype)
        d_embeddings += contract(d_products, right, 1, 0)
        d_rows = contract(d_products, left, 0, 0)
        if layout.normalize_classes:  # d (1 / |w|) / d w = -w / |w|^3
            d_rows -= (d_inverse * inverse**3)[:, None] * rows.astype(dtype)
        if weights.ndim == 3:
            d_rows = d_rows.reshape(weights.shape[1], size, -1).swapaxes(0, 1)
        if isinstance(written, FusedSGD):
            written = update_block(written, d_rows, start, block.counts)
        else:
            written = _put(written, d_rows, start)
        if d_bias is not None:
            d_bias = _put(d_bias, d_block_bias, start)
        return (written, d_bias, d_embeddings, jax.tree.map(jnp.add, d_rest, d_more)), None

    rest = ((outputs.target, outputs.class_norm, operands.context), operands.constants[1])
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)  # noqa: E731
    written = zeros(weights)  # what becomes the weights' cotangent
    if operands.update is not None:
        written = operands.update._replace(weights=weights)
    start = (written, zeros(operands.bias), jnp.zeros(embeddings.shape, dtype), zeros(rest))
    numbers = jnp.arange(-(-len(weights) // size), dtype=labels.dtype)
    (written, d_bias, d_embeddings, d_rest), _ = lax.scan(step, start, numbers)
    (d_target, d_class_norm, d_context), d_constants = d_rest

    # What the negatives saw of the targets, on all devices, goes to the rows' own classes.
    d_own = total((d_target, d_class_norm), layout.axis_name)
    d_own = (d_own[0] + cotangents.target, d_own[1] + cotangents.class_norm)
    rows, bias = own
    learned = (operands.embeddings.astype(dtype), operands.inverse_norm, (rows.astype(dtype), bias))

    def again(embeddings, inverse_norm, own):
        given = operands._replace(embeddings=embeddings, inverse_norm=inverse_norm)
        return _own(given, own, labels, layout)

    own_embeddings, own_inverse, (own_weights, own_bias) = jax.vjp(again, *learned)[1](d_own)
    here = is_here(labels, layout, len(weights))
    index = jnp.where(here, labels - layout.first, len(weights))  # those elsewhere are dropped
    if isinstance(written, FusedSGD):
        updated = update_rows(written, index, own_weights)
        d_weights, d_update = updated.weights, zeros(updated)
        d_update = d_update._replace(weights=None, trace=updated.trace)
    else:
        d_weights = written.at[index].add(own_weights.astype(weights.dtype), mode="drop")
        d_update = None
    if d_bias is not None:
        d_bias = d_bias.at[index].add(own_bias, mode="drop")
    d_inverse_norm = None
    if operands.inverse_norm is not None:
        # The products scale with it as with the embedding: one dot product a row tells both.
        known = operands.inverse_norm > 0
        along = jnp.sum(embeddings.astype(dtype) * d_embeddings, axis=1)
        norm = jnp.where(known, 1 / jnp.where(known, operands.inverse_norm, 1), 0)
        d_inverse_norm = own_inverse + along * norm
    return Operands(
        (d_embeddings + own_embeddings).astype(embeddings.dtype),
        d_inverse_norm,
        d_weights,
        d_update,
        d_bias,
        d_context,
        (zeros(operands.constants[0]), d_constants),
    )


def _put(whole: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(whole, part.astype(whole.dtype), start, 0)
