"""The streamed reduction: class blocks under a scan, so that memory follows the block, not C.

Forward. For each block of class weights w_j, in float32:

    s_ij = (e_i . w_j) / (|e_i| |w_j|)      the products of the raw weights, scaled afterwards
    n_ij = negative(s_ij, context_i)        the margin's function; j = y_i and padding are left out
    r_i  = log sum_j exp n_ij               an online log-sum-exp over blocks, or a sum of n_ij
                                            (with smoothed labels both)

and over devices r is combined by pmax and psum. Logits of a known bound are summed without a
running maximum. Only [B] arrays are kept: r, the target's similarity, the own class's norm.

Backward. Each block is computed again. With g_i the cotangent of r_i:

    p_ij = g_i exp(n_ij - r_i)              (g_i alone for a sum)
    ds   = p d(n)/d(s)                      JAX's own derivative of the margin's function; what it
                                            saw besides s (target, norms, t, scale) adds up by row
    d(e . w)_ij = ds_ij / (|e_i| |w_j|)
    de  += d(e . w) w                       [B, D], in the scan's carry
    dw_j = d(e . w)^T e - (...) w_j         written in place into one [C, D], never made twice

The rows' own classes are a gather of [B, D] beside the blocks, forward and backward.

Blocks cover the classes from the front. The last one is flush with the end, so that nothing is
padded, and overlaps the one before it; it is computed first, leaves the classes they share out
(xx), and what it writes there is overwritten. Ten classes in blocks of four:

    class      0  1  2  3  4  5  6  7  8  9
    first                        xx xx |--|
    second     |--------|
    third                  |--------|
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.closures import axes_of, differing, gradient_of, hoisted, partition
from facejax.losses.fused import FusedSGD, update_block, update_rows
from facejax.losses.layout import (
    Context,
    Layout,
    Negative,
    Operands,
    Outputs,
    Scores,
    flat,
    is_here,
    kept,
    largest,
    log_or_void,
    raw,
    rounded,
    similarities,
    total,
)
from facejax.losses.numerics import VOID, add_rows, alike, contract, norms


def streamed(operands: Operands, labels: jax.Array, layout: Layout, *, block: int) -> Scores:
    """So many classes at a time; the same numbers as `dense`."""
    size = min(block, len(raw(operands.weights)))
    fixed = jax.tree.map(lax.stop_gradient, operands)

    def target() -> jax.Array:
        own = _own_class(fixed, labels, layout)
        return total(_own(fixed, own, labels, layout)[0], layout.axis_name)

    def log_sum(function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        def negative(similarity: jax.Array, scale: Any) -> jax.Array:
            return lax.stop_gradient(call(similarity, scale))

        block = differing(jnp.zeros((len(labels), size), layout.dtype), axes_of(fixed))
        call, constants = hoisted(function, block)
        unbounded = layout._replace(is_sum=False, bounded=False, and_sum=False)
        return _negatives(negative, constants, fixed, labels, unbounded, size)[0]

    def reduce(negative: Negative, context: Context) -> Outputs:
        return _reduce(negative, context, operands, labels, layout, size)

    return Scores(target, log_sum, reduce)


def _reduce(
    negative: Negative,
    context: Context,
    operands: Operands,
    labels: jax.Array,
    layout: Layout,
    size: int,
) -> Outputs:
    """The custom rule: the forward by `_negatives`, the backward by `_backward`."""
    block = differing(jnp.zeros((len(labels), size), layout.dtype), axes_of(operands))
    filled = differing((context.target, context.class_norm), axes_of((operands, labels)))
    context = context._replace(target=filled[0], class_norm=filled[1])
    function, constants = hoisted(negative, block, context)
    arguments = operands, context, constants, (labels, layout.first)
    floats, others, join = partition(arguments)

    def forward(floats: Any, others: Any) -> tuple[jax.Array, Any]:
        operands, context, constants, (labels, first) = join(floats, others)
        here = layout._replace(first=first)
        own = _own_class(operands, labels, here)
        if isinstance(operands.weights, FusedSGD):  # read before the backward writes over them
            own, weights = lax.optimization_barrier((own, operands.weights))
            operands = operands._replace(weights=weights)
        target, class_norm = total(_own(operands, own, labels, here), layout.axis_name)
        context = context._replace(target=target, class_norm=class_norm)

        def values(similarity: jax.Array, seen: Any) -> jax.Array:
            return function(similarity, *seen)

        found = _negatives(values, (context, constants), operands, labels, here, size)
        # One array, so that vmap batches all of it or nothing: what came out unbatched would have
        # its cotangent summed before the backward, and counted again by each copy of it.
        outputs = jnp.stack([target, class_norm, *jax.tree.leaves(found)])
        return outputs, (floats, others, own, outputs)

    def backward(saved: Any, cotangents: jax.Array) -> tuple[Any, None]:
        floats, others, own, outputs = saved
        operands, context, constants, (labels, first) = join(floats, others)
        here, outputs = layout._replace(first=first), Outputs(*outputs)
        context = context._replace(target=outputs.target, class_norm=outputs.class_norm)
        gradients = _backward(
            function,
            context,
            constants,
            operands,
            own,
            labels,
            here,
            size,
            outputs,
            Outputs(*cotangents),
        )
        return [gradient_of(g, x) for g, x in zip(gradients, floats, strict=True)], None

    rule = jax.custom_vjp(lambda floats, others: forward(floats, others)[0])
    rule.defvjp(forward, backward)
    return Outputs(*rule(floats, others))


def _own_class(
    operands: Operands, labels: jax.Array, layout: Layout
) -> tuple[jax.Array, jax.Array | None]:
    """The class weights [B, (K,) D] and biases [B] of the rows' own classes, if they are here."""
    weights = raw(operands.weights)
    place = jnp.clip(labels - layout.first, 0, len(weights) - 1)
    bias = None if operands.bias is None else operands.bias[place]
    return rounded(weights[place], layout), bias


def _own(
    operands: Operands, own: Any, labels: jax.Array, layout: Layout
) -> tuple[jax.Array, jax.Array]:
    """(target similarity, norm of the own class weight), [B] each; 0 where it is elsewhere."""
    rows, bias = own
    norm, inverse_class = (part.astype(layout.dtype) for part in norms(rows))
    embeddings = operands.embeddings.astype(layout.dtype)
    left = embeddings[:, None, :] if rows.ndim == 3 else embeddings
    products = jnp.sum(left * rows.astype(layout.dtype), axis=-1)
    if layout.normalize_classes:
        products *= inverse_class
    if rows.ndim == 3:
        products, norm = jnp.max(products, axis=1), norm[:, 0]
    if operands.inverse_norm is not None:
        products *= operands.inverse_norm
    if bias is not None:
        products += bias.astype(products.dtype)
    here = is_here(labels, layout, len(raw(operands.weights)))
    return jnp.where(here, products, 0), jnp.where(here, norm, 0)


class _Block(NamedTuple):
    weights: jax.Array  # [block, (K,) D]
    counts: jax.Array  # [block]: is a class, and not left to another block
    bias: jax.Array | None
    negative: jax.Array  # [B, block]: counts as a negative of the row, here


def _block(
    number: jax.Array, size: int, operands: Operands, labels: jax.Array, layout: Layout
) -> tuple[jax.Array, _Block]:
    """The start of a block and what is in it. Block 0 ends with the last class, see above."""
    weights, bias = raw(operands.weights), operands.bias
    count = len(weights)
    start = jnp.where(number == 0, count - size, (number - 1) * size)
    column = start + jnp.arange(size, dtype=labels.dtype)
    shared = jnp.where(number == 0, -(-count // size) * size - size, 0)  # those before are left out
    counts = (column >= shared) & (column + layout.first < layout.num_classes)
    negative = counts[None, :] & (labels[:, None] != (column + layout.first)[None, :])
    if bias is not None:
        bias = lax.dynamic_slice_in_dim(bias, start, size)
    return start, _Block(lax.dynamic_slice_in_dim(weights, start, size), counts, bias, negative)


def _numbers(operands: Operands, labels: jax.Array, size: int) -> jax.Array:
    return jnp.arange(-(-len(raw(operands.weights)) // size), dtype=labels.dtype)


def _negatives(
    negative: Callable[[jax.Array, Any], jax.Array],
    seen: Any,
    operands: Operands,
    labels: jax.Array,
    layout: Layout,
    size: int,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """(reduced [B], hardest [B], summed [B] or None), as `Outputs`, over all devices' blocks."""

    def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
        peak, summed, hardest, plain = carry
        _, block = _block(number, size, operands, labels, layout)
        similarity = _scores(operands, block, layout)
        values = negative(similarity, seen).astype(layout.dtype)
        hardest = jnp.maximum(hardest, jnp.max(jnp.where(block.negative, similarity, VOID), axis=1))
        if layout.is_sum:
            summed += jnp.sum(jnp.where(block.negative, values, 0), axis=1)
            return (peak, summed, hardest, plain), None
        values = jnp.where(block.negative, values, VOID)
        if plain is not None:
            plain += jnp.sum(jnp.where(kept(values), values, 0), axis=1)
        if layout.bounded:
            return (peak, summed + jnp.sum(jnp.exp(values), axis=1), hardest, plain), None
        higher = jnp.maximum(peak, jnp.max(values, axis=1))
        summed = summed * jnp.exp(peak - higher)
        summed += jnp.sum(jnp.exp(values - higher[:, None]), axis=1)
        return (higher, summed, hardest, plain), None

    void = jnp.full(len(labels), VOID, layout.dtype)
    start = void, jnp.zeros_like(void), void, jnp.zeros_like(void) if layout.and_sum else None
    start = differing(start, axes_of((operands, seen, labels)))
    (peak, summed, hardest, plain), _ = lax.scan(step, start, _numbers(operands, labels, size))
    if layout.is_sum:
        reduced = total(summed, layout.axis_name)
    elif layout.bounded:
        reduced = log_or_void(total(summed, layout.axis_name))
    else:
        highest = largest(peak, layout.axis_name)
        reduced = highest + jnp.log(total(summed * jnp.exp(peak - highest), layout.axis_name))
    return reduced, largest(hardest, layout.axis_name), total(plain, layout.axis_name)


def _scores(operands: Operands, block: _Block, layout: Layout) -> jax.Array:
    rows = _rows(rounded(block.weights, layout))
    inverse = norms(rows)[1].astype(layout.dtype) if layout.normalize_classes else None
    products = contract(*alike(operands.embeddings, rows), 1, 1).astype(layout.dtype)
    return similarities(products, operands.inverse_norm, inverse, block.bias, _shape(block.weights))


def _rows(weights: jax.Array) -> jax.Array:
    """[block, D], or [block, K, D] -> [K x block, D], so that a class's centres lie apart: the
    maximum over them is then taken of whole vectors of classes."""
    return flat(weights if weights.ndim == 2 else weights.swapaxes(0, 1))


def _shape(weights: jax.Array) -> tuple[int, ...]:
    return (-1,) if weights.ndim == 2 else (weights.shape[1], -1)


def _backward(
    negative: Callable[[jax.Array, Context, Any], jax.Array],
    context: Context,
    constants: Any,
    operands: Operands,
    own: Any,
    labels: jax.Array,
    layout: Layout,
    size: int,
    outputs: Outputs,
    cotangents: Outputs,
) -> list[jax.Array]:
    """Gradients of the floating-point leaves of (operands, context, constants)."""
    embeddings, dtype = operands.embeddings, layout.dtype
    # Every device needs the cotangents of all rows: its classes are negatives of them all.
    cotangents = total(cotangents, layout.axis_name)
    seen, unseen, join = partition((context, constants))
    axes = axes_of((operands, context, constants, labels, cotangents))
    fused = isinstance(operands.weights, FusedSGD)

    def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
        written, d_bias, d_embeddings, d_seen = carry
        now = operands._replace(weights=written) if fused else operands
        start, block = _block(number, size, now, labels, layout)
        rows = _rows(rounded(block.weights, layout))
        inverse = norms(rows)[1].astype(dtype)
        left, right = alike(embeddings, rows)
        products = contract(left, right, 1, 1).astype(dtype)

        def values(
            products: jax.Array, inverse: jax.Array, bias: jax.Array | None, seen: Any
        ) -> jax.Array:
            similarity = similarities(
                products,
                operands.inverse_norm,
                inverse if layout.normalize_classes else None,
                bias,
                _shape(block.weights),
            )
            return negative(similarity, *join(seen, unseen)).astype(dtype)

        blockwise = differing((products, inverse, block.bias), axes)
        logits, pull = jax.vjp(values, *blockwise, seen)
        slope = jnp.broadcast_to(cotangents.reduced[:, None], logits.shape)
        if not layout.is_sum:
            slope = slope * jnp.exp(logits - outputs.reduced[:, None])
        if cotangents.summed is not None:
            slope += cotangents.summed[:, None]
        d_products, d_inverse, d_block_bias, d_more = pull(jnp.where(block.negative, slope, 0))
        # In the products' own type: a float32 one would drag both products into float32.
        d_products = d_products.astype(left.dtype)
        d_embeddings += contract(d_products, right, 1, 0)
        d_rows = contract(d_products, left, 0, 0)
        if layout.normalize_classes:  # d (1 / |w|) / d w = -w / |w|^3, without the cube
            unit = rows.astype(dtype) * inverse[:, None]
            d_rows -= (d_inverse * inverse * inverse)[:, None] * unit
        if block.weights.ndim == 3:
            d_rows = d_rows.reshape(block.weights.shape[1], size, -1).swapaxes(0, 1)
        if isinstance(written, FusedSGD):
            written = update_block(written, d_rows, start, block.counts)
        else:
            written = _put(written, d_rows, start)
        if d_bias is not None:
            d_bias = _put(d_bias, d_block_bias, start)
        return (written, d_bias, d_embeddings, jax.tree.map(jnp.add, d_seen, d_more)), None

    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)  # noqa: E731
    written = operands.weights if fused else zeros(operands.weights)
    start = written, zeros(operands.bias), jnp.zeros(embeddings.shape, dtype)
    d_seen = [differing(jnp.zeros_like(leaf), axes_of(leaf)) for leaf in seen]
    numbers = _numbers(operands, labels, size)
    (written, d_bias, d_embeddings, d_seen), _ = lax.scan(
        step, (*differing(start, axes), d_seen), numbers
    )
    d_context, d_constants = join(d_seen, unseen)

    # What the negatives saw of the targets, on all devices, goes to the rows' own classes.
    d_target, d_norm = total((d_context.target, d_context.class_norm), layout.axis_name)
    rows, bias = own

    def again(
        embeddings: jax.Array, inverse_norm: jax.Array | None, own: Any
    ) -> tuple[jax.Array, jax.Array]:
        given = operands._replace(embeddings=embeddings, inverse_norm=inverse_norm)
        return _own(given, own, labels, layout)

    learned = embeddings.astype(dtype), operands.inverse_norm, (rows.astype(dtype), bias)
    learned = differing(learned, axes)
    own_embeddings, own_inverse, (own_weights, own_bias) = jax.vjp(again, *learned)[1](
        (d_target + cotangents.target, d_norm + cotangents.class_norm)
    )
    count = len(raw(operands.weights))
    place = jnp.where(is_here(labels, layout, count), labels - layout.first, count)
    if isinstance(written, FusedSGD):
        updated = update_rows(written, place, own_weights)
        d_weights = zeros(updated)._replace(weights=updated.weights, trace=updated.trace)
    else:
        d_weights = add_rows(written, place, own_weights)
    if d_bias is not None:
        d_bias = add_rows(d_bias, place, own_bias)
    d_inverse_norm = None
    if operands.inverse_norm is not None:
        # The products scale with it as with the embedding: one dot product per row tells both.
        known = operands.inverse_norm > 0
        along = jnp.sum(embeddings.astype(dtype) * d_embeddings, axis=1)
        norm = jnp.where(known, 1 / jnp.where(known, operands.inverse_norm, 1), 0)
        d_inverse_norm = own_inverse + along * norm
    d_operands = Operands(
        (d_embeddings + own_embeddings).astype(embeddings.dtype), d_inverse_norm, d_weights, d_bias
    )
    d_context = d_context._replace(target=zeros(d_target), class_norm=zeros(d_norm))
    return partition((d_operands, d_context, d_constants))[0]


def _put(whole: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(whole, part.astype(whole.dtype), start, 0)
