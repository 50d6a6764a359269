"""What dense and streamed share: operands, where the classes are, sums over devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.fused import FusedSGD
from facejax.losses.numerics import VOID


class Context(NamedTuple):
    """What a margin may see of a row besides the similarity at hand; gradients flow through it."""

    target: jax.Array  # [B], the similarity with the row's own class
    norm: jax.Array  # [B], the norm of the raw embedding
    extra: Any = None  # the caller's `context`, or what `Margin.observe` made of it
    class_norm: Any = None  # [B], the norm of the row's own raw class weight
    margin: Any = None  # the margin: a number, or [B] where every class has its own


# What becomes of the negatives, elementwise: (similarities [B, classes], Context) -> logits.
Negative = Callable[[jax.Array, Context], jax.Array]


class Operands(NamedTuple):
    """The arrays of which similarities are made."""

    embeddings: jax.Array  # [B, D], of all devices
    inverse_norm: jax.Array | None  # [B], if features are normalised
    weights: jax.Array | FusedSGD  # [C, D] or [C, K, D], this device's
    bias: jax.Array | None  # [C]


class Layout(NamedTuple):
    """Where the classes are, and what is to be made of their similarities."""

    first: jax.Array  # the number of this device's first class
    num_classes: int  # over all devices; what lies behind is padding
    axis_name: str | None
    normalize_classes: bool
    products: Any  # the type to which class weights are rounded before the products, or None
    dtype: Any  # of similarities and losses: float32, or float64
    is_sum: bool  # of the negatives' terms, else the log-sum-exp of their logits
    bounded: bool  # a float32 sum of the negatives' exponentials cannot overflow
    and_sum: bool = False  # besides the log-sum-exp, the plain sum of the logits


class Outputs(NamedTuple):
    """Of each row of all devices, [B], equal on every device."""

    target: jax.Array  # similarity with the row's own class
    class_norm: jax.Array  # norm of the own class weight
    reduced: jax.Array  # log-sum-exp, or sum, of the negatives
    hardest: jax.Array  # the largest similarity with another class; without gradient
    summed: jax.Array | None = None  # the negatives' logits, but for those that are VOID


class Scores(NamedTuple):
    """The similarities of a batch, in two steps: the targets, then the negatives.

    Attributes:
      target: () -> similarities with the rows' own classes [B], without gradient.
      log_sum: f -> LSE_{j != y} f(s_ij) [B], without gradient.
      reduce: (negative, Context) -> Outputs. The `target` and `class_norm` of the context given are
        blank; they are filled in before the negatives see it.
    """

    target: Callable[[], jax.Array]
    log_sum: Callable[[Callable[[jax.Array], jax.Array]], jax.Array]
    reduce: Callable[[Negative, Context], Outputs]


def similarities(
    products: jax.Array,
    inverse_norm: jax.Array | None,
    inverse_class_norms: jax.Array | None,
    bias: jax.Array | None,
    shape: tuple[int, ...],
) -> jax.Array:
    """From raw products [B, rows] to similarities [B, classes].

    `shape` is that of the rows, with -1 for the classes: (-1,), (-1, K) or (K, -1).
    """
    if inverse_norm is not None:
        products *= inverse_norm[:, None]
    if inverse_class_norms is not None:  # scaling the products spares a second [C, D] array
        products *= inverse_class_norms[None, :]
    if len(shape) > 1:  # the most similar centre
        products = jnp.max(products.reshape(len(products), *shape), axis=2 - shape.index(-1))
    return products if bias is None else products + bias.astype(products.dtype)[None, :]


def raw(weights: jax.Array | FusedSGD) -> jax.Array:
    """The class weights themselves."""
    return weights.weights if isinstance(weights, FusedSGD) else weights


def rounded(weights: jax.Array, layout: Layout) -> jax.Array:
    """Class weights in the products' type."""
    return weights if layout.products is None else weights.astype(layout.products)


def flat(weights: jax.Array) -> jax.Array:
    """[C, D] or [C, K, D] -> [C x K, D]."""
    return weights.reshape(-1, weights.shape[-1])


def center_count(weights: jax.Array) -> int:
    """K, the number of centres of a class."""
    return weights.shape[1] if weights.ndim == 3 else 1


def is_here(labels: jax.Array, layout: Layout, count: int) -> jax.Array:
    """Whether a label is one of this device's `count` classes."""
    return (labels >= layout.first) & (labels < layout.first + count)


def axis_size(axis_name: str) -> int:
    """The number of devices on the axis.

    Raises:
      ValueError: if there is no such axis.
    """
    try:
        return lax.axis_size(axis_name)
    except NameError as error:
        raise ValueError(
            f"there is no device axis {axis_name!r} here: call this inside a jax.pmap or "
            "jax.shard_map that has it"
        ) from error


def total(values: Any, axis_name: str | None) -> Any:
    """The sum over devices."""
    return values if axis_name is None else lax.psum(values, axis_name)


def largest(values: jax.Array, axis_name: str | None) -> jax.Array:
    """The maximum over devices."""
    return values if axis_name is None else lax.pmax(values, axis_name)


def kept(logits: jax.Array) -> jax.Array:
    """Which logits of negatives were not left out by being VOID."""
    return logits > VOID / 2


def log_or_void(summed: jax.Array) -> jax.Array:
    """The logarithm of a sum of exponentials, finite where it is empty."""
    return jnp.where(summed > 0, jnp.log(jnp.where(summed > 0, summed, 1)), VOID)
