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
from facejax.losses.layout import (
    Context,
    Layout,
    Negative,
    Operands,
    axis_size,
    center_count,
    raw,
)
from facejax.losses.meshes import rows_may_be_split
from facejax.losses.numerics import leveled, norms, working_dtype
from facejax.losses.streamed import streamed

LARGEST_LOG_SUM = 85.0  # float32 holds exp of it, and of minus it
REDUCTIONS = ("logsumexp", "sum")
# From so many rows of class weights on, `auto` streams, so many at a time. Measured on a CPU
# (benchmarks/RESULTS.md), where a block of a power of two is slower.
AUTO_ROWS, AUTO_BLOCK = 40_000, 4000


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

    def __post_init__(self) -> None:
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
      weights: [C, D], raw, one row per class; or [C, K, D], K sub-centres per class, of which the
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


@rows_may_be_split
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
    classes = classes or Classes()
    if isinstance(weights, FusedSGD) and classes.block_size is None:
        raise ValueError("FusedSGD needs streamed class weights: give Classes(block_size=...)")
    embeddings, weights, labels, bias = jax.tree.map(
        jnp.asarray, (embeddings, weights, labels, bias)
    )
    chex.assert_rank([embeddings, raw(weights), labels], [2, {2, 3}, 1])
    chex.assert_type([embeddings, raw(weights), labels], [float, float, int])
    chex.assert_equal_shape_prefix([embeddings, labels], 1)
    chex.assert_equal_shape_suffix([embeddings, raw(weights)], 1)
    slice_size, row_count = len(raw(weights)), len(labels)
    if bias is not None:
        chex.assert_shape(bias, (slice_size,))
    axis_name = classes.axis_name
    slices, first = 1, jnp.zeros((), jnp.int32)
    if axis_name is not None:
        slices = axis_size(axis_name)
        first = lax.axis_index(axis_name) * slice_size
        embeddings, labels, context = _gather_rows((embeddings, labels, context), axis_name)
    num_classes = slice_size * slices if classes.num_classes is None else classes.num_classes
    if not slices <= num_classes <= slice_size * slices:
        raise ValueError(
            f"{num_classes} classes don't fit {slices} device(s) with {slice_size} rows of class "
            "weights each: every device needs a class, and every class a row"
        )

    padding = labels == -1
    real = (labels >= 0) & (labels < num_classes)  # neither padding nor out of range
    labels = labels.astype(jnp.int32)
    work = working_dtype(embeddings, raw(weights))
    # Whatever stands in a padding row must not reach a gradient as 0 * NaN.
    embeddings = jnp.where(padding[:, None], jnp.zeros((), embeddings.dtype), embeddings)
    context = _for_rows(context, padding, work)
    if dtype is not None:
        embeddings = embeddings.astype(dtype)
    norm, scaled_inverse = norms(embeddings)[0].astype(work), None
    if margin.normalize[0]:
        embeddings, scaled_inverse = leveled(embeddings)
        scaled_inverse = scaled_inverse.astype(work)
    is_sum = margin.reduce == "sum"
    bound = math.inf if margin.bound is None or bias is not None else margin.bound
    bounded = bound + math.log(num_classes) <= LARGEST_LOG_SUM
    layout = Layout(
        first, num_classes, axis_name, margin.normalize[1], dtype, work, is_sum, bounded
    )
    operands = Operands(embeddings, scaled_inverse, weights, bias)
    size = _block_size(classes.block_size, weights)
    if size is None:
        scores = dense(operands, labels, layout)
    else:
        scores = streamed(operands, labels, layout, block=size)

    state = None
    if margin.observe is not None:
        seen = Seen(scores.target(), lax.stop_gradient(norm), real, scores.log_sum)
        context, state = margin.observe(seen, context)
    blank = jnp.zeros_like(norm)  # in place of what the reduction fills in
    unfilled = Context(blank, norm, context, blank)
    _check_elementwise(margin.negative, unfilled)
    outputs = scores.reduce(margin.negative, unfilled)
    shared = Context(outputs.target, norm, context, outputs.class_norm)
    positive = margin.target(outputs.target, shared)
    # softplus(LSE of the negatives - target): the cross-entropy without a second target logit.
    reduced = outputs.reduced
    losses = reduced + positive if is_sum else jax.nn.softplus(reduced - positive)
    if margin.penalty is not None:
        losses += margin.penalty(shared)
    chex.assert_equal_shape([losses, labels])  # a hyperparameter of another shape would show here
    losses = jnp.where(real | padding, jnp.where(real, losses, 0), jnp.nan).astype(work)
    own = functools.partial(own_rows, count=row_count, axis_name=axis_name)
    return Rows(own(losses), own(outputs.target), own(outputs.hardest), state)


def _block_size(given: int | str | None, weights: jax.Array | FusedSGD) -> int | None:
    """How many classes are streamed at a time; None for all at once."""
    if not isinstance(given, str):
        return given
    centers = center_count(raw(weights))
    if len(raw(weights)) * centers < AUTO_ROWS and not isinstance(weights, FusedSGD):
        return None
    return max(1, AUTO_BLOCK // centers)


def _check_elementwise(negative: Negative, context: Context) -> None:
    """Refuses a margin that spreads hyperparameters of another shape over rows or classes."""
    rows = context.norm
    column = jax.ShapeDtypeStruct((len(rows), 1), rows.dtype)
    found = jax.eval_shape(negative, column, context).shape
    if found != column.shape:
        raise ValueError(
            f"similarities {column.shape} become negatives {found}: hyperparameters are scalars; "
            "what differs from row to row is [B, 1] there"
        )


def own_rows(values: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """This device's part of rows gathered from all devices."""
    if axis_name is None:
        return values
    return lax.dynamic_slice_in_dim(values, lax.axis_index(axis_name) * count, count)


def _for_rows(context: Any, padding: jax.Array, dtype: jnp.dtype) -> Any:
    """The context in the losses' type, with nothing of a padding row in it."""

    def clean(leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        if leaf.ndim and leaf.shape != padding.shape:
            raise ValueError(
                f"an array of {leaf.shape} stands in the context of {padding.shape} rows: give one "
                "number per row, or a scalar"
            )
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.where(padding, 0, leaf.astype(dtype)) if leaf.ndim else leaf.astype(dtype)

    return jax.tree.map(clean, context)


def _gather_rows(tree: Any, axis_name: str) -> Any:
    """Per-row arrays of all devices, in axis order; scalars as they are."""

    def gather(leaf: Any) -> Any:
        return lax.all_gather(leaf, axis_name, tiled=True) if jnp.ndim(leaf) else leaf

    return jax.tree.map(gather, tree)
