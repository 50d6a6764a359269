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

from facejax.losses.curves import Number
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
from facejax.losses.numerics import VOID, leveled, norms, working_dtype
from facejax.losses.remedies import Remedies, around, capped, check, of_own_class
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
      margin: what comes to all of them as `Context.margin`, unless `class_margins` come in its
        place, [B]; None, if the loss has no such margin.
    """

    target: Callable[[jax.Array, Context], jax.Array]
    negative: Callable[[jax.Array, Context], jax.Array]
    normalize: tuple[bool, bool] = (True, True)
    reduce: str = "logsumexp"
    observe: Callable[[Seen, Any], tuple[Any, Any]] | None = None
    penalty: Callable[[Context], jax.Array] | None = None
    bound: float | None = None
    margin: Number | None = None


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
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: Number = 0.0,
    negative_cap: Number | None = None,
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
      class_margins: [C], the margin of each class, in place of `Margin.margin`: of a row wherever
        its formula has the margin, that of its own class.
      class_weights: [C], by which a row's whole loss is multiplied, that of its own class. The
        mean of the losses is still over the rows.
      smoothing: eps in [0, 1). 1 - eps of the label's mass stays on the own class, eps is spread
        evenly over all C (of a sample: all of the sample); the logits have their margin.
      negative_cap: a cosine. Negatives whose own cosine is above it leave the sum, without a
        gradient; it may be left empty. With smoothing, the own class keeps their share.
      classes: how the classes are laid out; by default all in `weights`. What is [C] is laid out as
        they are. Gradients flow to all of it.

    Returns:
      Losses [B], float32 (float64 for float64 inputs).

    Raises:
      ValueError: on another `Margin.reduce`, an axis name that is not there, or a number of classes
        that is smaller than that of the devices or larger than that of the rows; on a smoothing of
        a `reduce="sum"`, a cap on similarities that are no cosines, or margins of classes for a
        loss without one.
    """
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    return margin_rows(
        embeddings,
        weights,
        labels,
        margin,
        bias=bias,
        context=context,
        remedies=remedies,
        classes=classes,
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
    remedies: Remedies = Remedies(),  # noqa: B008, immutable
    classes: Classes | None = None,
    dtype: jax.typing.DTypeLike | None = None,
) -> Rows:
    """As `margin_softmax`, with the similarities that tell whether a row was classified right.

    `remedies` are that function's four keywords from `class_margins` to `negative_cap`, in one.
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
    is_sum = margin.reduce == "sum"
    check(
        remedies,
        rows=slice_size,
        takes_margins=margin.margin is not None,
        is_sum=is_sum,
        cosines=all(margin.normalize) and bias is None,
    )
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
    smooths = remedies.smooths
    bound = math.inf if margin.bound is None or bias is not None or smooths else margin.bound
    bounded = bound + math.log(num_classes) <= LARGEST_LOG_SUM
    layout = Layout(
        first, num_classes, axis_name, margin.normalize[1], dtype, work, is_sum, bounded, smooths
    )
    operands = Operands(embeddings, scaled_inverse, weights, bias)
    size = _block_size(classes.block_size, weights)
    if size is None:
        scores = dense(operands, labels, layout)
    else:
        scores = streamed(operands, labels, layout, block=size)

    def log_sum(function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        return scores.log_sum(capped(function, remedies, VOID))

    state = None
    if margin.observe is not None:
        seen = Seen(scores.target(), lax.stop_gradient(norm), real, log_sum)
        context, state = margin.observe(seen, context)
    negative = around(margin.negative, margin.target, remedies, 0 if is_sum else VOID)
    margins = None
    if remedies.class_margins is None:
        negative = _with_margin(negative, margin.margin)
    else:
        margins = of_own_class(remedies.class_margins, labels, layout)
    blank = jnp.zeros_like(norm)  # in place of what the reduction fills in
    unfilled = Context(blank, norm, context, blank, margins)
    _check_elementwise(negative, unfilled)
    outputs = scores.reduce(negative, unfilled)
    own_margin = margin.margin if margins is None else margins
    shared = Context(outputs.target, norm, context, outputs.class_norm, own_margin)
    # softplus(LSE of the negatives - target): the cross-entropy without a second target logit.
    reduced, positive = outputs.reduced, margin.target(outputs.target, shared)
    if is_sum:
        losses = reduced + positive
    elif outputs.summed is None:
        losses = jax.nn.softplus(reduced - positive)
    else:  # the target is subtracted already
        share = jnp.asarray(remedies.smoothing, work) / num_classes
        losses = jax.nn.softplus(reduced) - share * outputs.summed
    if margin.penalty is not None:
        losses += margin.penalty(shared)
    if remedies.class_weights is not None:
        losses *= of_own_class(remedies.class_weights, labels, layout)
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


def _with_margin(negative: Negative, margin: Number | None) -> Negative:
    """Negatives that see the margin that all classes share."""
    return lambda similarity, context: negative(similarity, context._replace(margin=margin))


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
