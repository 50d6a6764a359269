"""The engine: every classification loss is two elementwise functions and one reduction.

    loss_i = log(1 + exp(LSE_{j != y} negative(s_ij) - target(s_iy))),   s = features . classes

or, for the binary losses, target(s_iy) + sum_{j != y} negative(s_ij). A `Margin` gives the two
functions; the engine gives the similarities, the reduction, the padding rules and the layout of
the classes over devices, once for all losses.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.dense import dense
from facejax.losses.fused import FusedSGD
from facejax.losses.layout import Layout, Operands, axis_size, centers
from facejax.losses.numerics import norms, working_dtype
from facejax.losses.streamed import streamed

LARGEST_LOG_SUM = 85.0  # float32 holds exp of it, and of minus it
REDUCTIONS = ("logsumexp", "sum")
# From so many rows of class weights on, `auto` streams, so many at a time. Measured on a CPU
# (benchmarks/RESULTS.md), where a block of a power of two is slower.
AUTO_ROWS, AUTO_BLOCK = 40_000, 4000


class Context(NamedTuple):
    """What a margin may see of a row besides the similarity at hand; gradients flow through it."""

    target: jax.Array  # [B], the similarity with the row's own class
    norm: jax.Array  # [B], the norm of the raw embedding
    extra: Any = None  # the caller's `context`, or what `Margin.observe` made of it
    class_norm: jax.Array | None = None  # [B], the norm of the row's own raw class weight


class Seen(NamedTuple):
    """The rows of all devices, [B] each, without gradient, as `Margin.observe` sees them."""

    target: jax.Array  # similarity with the row's own class
    norm: jax.Array  # norm of the raw embedding
    real: jax.Array  # whether the label is a class
    log_sum: Callable[[Callable], jax.Array]  # f -> [B], LSE_{j != y} f(s_ij), without gradient


class Margin(NamedTuple):
    """A loss: what it does to the target's similarity and to every other one.

    Attributes:
      target: (similarity [B], Context) -> the target's logit [B]; with `reduce="sum"` the target's
        term of the loss.
      negative: (similarities [B, classes], Context) -> logits (or terms) [B, classes], elementwise.
      normalize: whether features and class weights are scaled to unit length.
      reduce: `logsumexp`, the softmax; or `sum`, target term + sum of the negative terms.
      observe: (Seen, context) -> (extra, state), called once before the two: batch statistics go
        in, `extra` comes to them as `Context.extra`, `state` to the caller as `Rows.state`.
      penalty: Context -> [B], added to the losses.
      bound: the largest magnitude of a negative's logit (without `bias`), if it is known before
        the call. Streaming then needs no running maximum, unless the sum could overflow.
    """

    target: Callable[[jax.Array, Context], jax.Array]
    negative: Callable[[jax.Array, Context], jax.Array]
    normalize: tuple[bool, bool] = (True, True)
    reduce: str = "logsumexp"
    observe: Callable[[Seen, Any], tuple[Any, Any]] | None = None
    penalty: Callable[[Context], jax.Array] | None = None
    bound: float | None = None


@dataclasses.dataclass(frozen=True)
class Classes:
    """How the class dimension is laid out.

    Attributes:
      axis_name: the device axis over which the classes are split, inside `jax.pmap` or
        `jax.shard_map(..., check_vma=False)`. `weights` is then this device's slice in axis order,
        `embeddings` and `labels` its part of the batch, and labels are global class numbers.
        Differentiate `losses.sum() / global_rows`: embeddings and slice get the gradient of the
        sum over all devices; what is replicated gets a part, so `psum` it once.
      num_classes: how many of the rows (of all slices) are classes; the rest is padding.
      block_size: None computes one [B, C] matrix; a number streams that many classes at a time, so
        that memory follows the block; `auto` streams from `AUTO_ROWS` rows of class weights on.

    Raises:
      ValueError: if the block size is not a positive whole number or `auto`.
    """

    block_size: int | str | None = None
    axis_name: str | None = None
    num_classes: int | None = None

    def __post_init__(self):
        size = self.block_size
        if size in (None, "auto") or (isinstance(size, int) and size >= 1):
            return
        raise ValueError(f"block_size must be a whole number of at least 1, or auto; got {size!r}")


class Rows(NamedTuple):
    """Results: [B] each but the last."""

    losses: jax.Array
    target: jax.Array  # similarity with the row's own class, before any margin
    hardest: jax.Array  # the largest similarity with another class, without gradient
    state: Any  # what `Margin.observe` returned, equal on every device; else None


def margin_softmax(
    embeddings: jax.Array,
    weights: jax.Array | FusedSGD,
    labels: jax.Array,
    margin: Margin,
    *,
    bias: jax.Array | None = None,
    context: Any = None,
    classes: Classes | None = None,
) -> jax.Array:
    """Per-example losses of a margin softmax.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row a class; or [C, K, D], K sub-centres a class, of which the
        most similar one counts. Streamed, it may be a `FusedSGD` of them.
      labels: [B] integers in [0, C). -1 marks a padding row: loss 0, no gradient to anything.
        Any other label outside [0, C) makes that row's loss NaN.
      margin: the two functions of the loss, and how they are reduced.
      bias: [C], added to the similarities.
      context: a pytree of [B] and scalar arrays, handed to the margin as `Context.extra`, in the
        type of the losses.
      classes: how the classes are laid out; by default all in `weights`.

    Returns:
      Losses [B], float32 (float64 for float64 inputs).

    Raises:
      ValueError: on another `Margin.reduce`, an axis name that is not there, or a number of classes
        that is smaller than that of the devices or larger than that of the rows.
    """
    return margin_rows(
        embeddings, weights, labels, margin, bias=bias, context=context, classes=classes
    ).losses


def margin_rows(
    embeddings: jax.Array,
    weights: jax.Array | FusedSGD,
    labels: jax.Array,
    margin: Margin,
    *,
    bias: jax.Array | None = None,
    context: Any = None,
    classes: Classes | None = None,
    dtype: jax.typing.DTypeLike | None = None,
) -> Rows:
    """As `margin_softmax`, with the similarities that tell whether a row was classified right.

    With `dtype` (bfloat16, say) embeddings and class weights are rounded to it before the products,
    the weights a block at a time where they are streamed, so that no rounded copy of them exists.
    """
    if margin.reduce not in REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(REDUCTIONS)}, got {margin.reduce!r}")
    update = None
    if isinstance(weights, FusedSGD):
        if classes is None or classes.block_size is None:
            raise ValueError("FusedSGD needs streamed class weights: give Classes(block_size=...)")
        update = weights._replace(weights=None)  # type: ignore[arg-type]
        weights = weights.weights
    chex.assert_rank([embeddings, weights, labels], [2, {2, 3}, 1])
    chex.assert_type([embeddings, weights, labels], [float, float, int])
    chex.assert_equal_shape_prefix([embeddings, labels], 1)
    chex.assert_equal_shape_suffix([embeddings, weights], 1)
    classes = classes or Classes()
    axis_name, num_classes = classes.axis_name, classes.num_classes
    slice_size, row_count = weights.shape[0], labels.shape[0]
    slices, first = 1, jnp.zeros((), jnp.int32)
    if axis_name is not None:
        slices = axis_size(axis_name)
        first = lax.axis_index(axis_name) * slice_size
        embeddings, labels, context = _gather_rows((embeddings, labels, context), axis_name)
    if num_classes is None:
        num_classes = slice_size * slices
    if not slices <= num_classes <= slice_size * slices:
        raise ValueError(
            f"{num_classes} classes don't fit {slices} device(s) with {slice_size} rows of class "
            "weights each: every device needs a class, and every class a row"
        )

    real = labels != -1
    known = (labels >= 0) & (labels < num_classes)
    # Whatever stands in a padding row must not reach a gradient as 0 * NaN.
    embeddings = jnp.where(real[:, None], embeddings, jnp.zeros((), embeddings.dtype))
    if dtype is not None:
        embeddings = embeddings.astype(dtype)
    context = _for_rows(context, real, working_dtype(embeddings, weights))
    norm, inverse_norm = norms(embeddings)
    is_sum = margin.reduce == "sum"
    bound = math.inf if margin.bound is None or bias is not None else margin.bound
    bounded = bound + math.log(num_classes) <= LARGEST_LOG_SUM
    layout = Layout(first, num_classes, axis_name, margin.normalize[1], dtype, is_sum, bounded)
    inverse = inverse_norm if margin.normalize[0] else None
    operands = Operands(embeddings, inverse, weights, update, bias, None, None)
    labels = labels.astype(jnp.int32)
    size = classes.block_size
    if isinstance(size, str):  # auto
        few = slice_size * centers(weights) < AUTO_ROWS and update is None
        size = None if few else max(1, AUTO_BLOCK // centers(weights))
    if size is None:
        scores = dense(operands, labels, layout)
    else:
        scores = streamed(operands, labels, layout, block=size, backward_block=size)

    state = None
    if margin.observe is not None:
        seen = Seen(scores.target, lax.stop_gradient(norm), known, scores.log_sum)
        context, state = margin.observe(seen, context)

    def negative(similarity, target, class_norm, rest):
        return margin.negative(similarity, Context(target, rest[0], rest[1], class_norm))

    outputs = scores.reduce(negative, (norm, context))
    shared = Context(outputs.target, norm, context, outputs.class_norm)
    positive = margin.target(outputs.target, shared)
    if margin.reduce == "sum":
        losses = positive + outputs.reduced
    else:
        # softplus(LSE of the negatives - target): the cross-entropy without a second target logit.
        losses = jax.nn.softplus(outputs.reduced - positive)
    if margin.penalty is not None:
        losses += margin.penalty(shared)
    losses = jnp.where(real & ~known, jnp.nan, jnp.where(known, losses, 0))

    losses = losses.astype(working_dtype(embeddings, weights))
    own = functools.partial(own_rows, count=row_count, axis_name=axis_name)
    return Rows(own(losses), own(outputs.target), own(outputs.hardest), state)


def own_rows(values: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """This device's part of rows gathered from all devices."""
    if axis_name is None:
        return values
    return lax.dynamic_slice_in_dim(values, lax.axis_index(axis_name) * count, count)


def _for_rows(context: Any, real: jax.Array, dtype: jnp.dtype) -> Any:
    """The context in the losses' type, with nothing of a padding row in it."""

    def clean(leaf):
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            leaf = leaf.astype(dtype)
        return jnp.where(real, leaf, jnp.zeros((), leaf.dtype)) if leaf.ndim else leaf

    return jax.tree.map(clean, context)


def _gather_rows(tree: Any, axis_name: str) -> Any:
    """Per-row arrays of all devices, in axis order; scalars as they are."""

    def gather(leaf):
        return lax.all_gather(leaf, axis_name, tiled=True) if jnp.ndim(leaf) else leaf

    return jax.tree.map(gather, tree)
