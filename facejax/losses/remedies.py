"""What is done about wrong labels and unequal classes, in any loss with class weights.

    class_margins   a margin per class, in place of the one that all share
    class_weights   a factor per class, on the losses of its rows
    smoothing       eps of the label's mass is spread over all classes
    negative_cap    negatives above a cosine leave the sum

The engine takes the first two as one number per row, and the others as functions around the
margin's negatives. So no reduction knows of them, but for a sum of the logits.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.losses.curves import Number
from facejax.losses.layout import Context, Layout, Negative, is_here, total


class Remedies(NamedTuple):
    """The four keywords, which `facejax.losses.margin_softmax` explains, in one."""

    class_margins: jax.Array | None = None
    class_weights: jax.Array | None = None
    smoothing: Number = 0.0
    negative_cap: Number | None = None

    @property
    def smooths(self) -> bool:
        """Whether the labels are smoothed: a traced number may be anything."""
        return not (isinstance(self.smoothing, int | float) and self.smoothing == 0)


def check(
    remedies: Remedies, *, rows: int, takes_margins: bool, is_sum: bool, cosines: bool
) -> None:
    """Refuses what a loss can't take.

    Args:
      remedies: as given.
      rows: of this device's class weights.
      takes_margins: whether the loss has one margin, which may differ from class to class.
      is_sum: whether it sums over the classes instead of a softmax.
      cosines: whether its similarities are cosines.

    Raises:
      ValueError: if it can't.
    """
    if remedies.class_margins is not None and not takes_margins:
        raise ValueError(
            "class_margins stand in place of `Margin.margin`, and this margin has none: leave them "
            "out, or let it read `Context.margin`"
        )
    if remedies.smooths and is_sum:
        raise ValueError(
            "smoothing is for the labels of a softmax, and this loss is a sum over the classes: "
            "leave it at 0"
        )
    if remedies.negative_cap is not None and not cosines:
        raise ValueError(
            "negative_cap is a cosine, and the similarities here are none: leave it out, or take a "
            "loss on unit features and unit class weights, without a bias"
        )
    for name in ("class_margins", "class_weights"):
        given = getattr(remedies, name)
        if given is not None and jnp.shape(given) != (rows,):
            raise ValueError(
                f"{name} has the shape {jnp.shape(given)}: give one number per class, ({rows},)"
            )
    _check_number(
        "smoothing", remedies.smoothing, "0 or more and less than 1", lambda x: 0 <= x < 1
    )
    _check_number("negative_cap", remedies.negative_cap, "from -1 to 1", lambda x: -1 <= x <= 1)


def _check_number(
    name: str, value: Number | None, words: str, holds: Callable[[float], bool]
) -> None:
    if value is not None and jnp.ndim(value):
        raise ValueError(f"{name} has the shape {jnp.shape(value)}: give one number")
    if isinstance(value, int | float) and not holds(value):
        raise ValueError(f"{name} is {value}: give a number {words}")


def margins_from_counts(
    counts: jax.Array, *, largest: float | jax.Array = 0.5, power: float | jax.Array = 0.25
) -> jax.Array:
    """Larger margins for classes with fewer examples, for `class_margins` (LDAM).

    largest (n_min / n_j)^power, where n_min is the smallest count above 0.

    Args:
      counts: [C], the examples of each class, >= 0. A class without any gets 0.
      largest: the margin of the smallest class, in the loss's own unit.
      power: >= 0; the paper's is 1/4.

    Returns:
      Margins [C], float32 (float64 for float64 counts).

    >>> import jax.numpy as jnp
    >>> [f"{margin:.3f}" for margin in margins_from_counts(jnp.array([1, 16, 81, 0]))]
    ['0.500', '0.250', '0.167', '0.000']

    References:
      Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019, eq.
      11: https://arxiv.org/abs/1906.07413
    """
    counts = _as_floats(counts)
    some = counts > 0
    smallest = jnp.min(jnp.where(some, counts, jnp.inf))
    return jnp.where(some, largest * (smallest / jnp.where(some, counts, 1)) ** power, 0)


def weights_from_counts(counts: jax.Array, *, beta: float | jax.Array = 0.999) -> jax.Array:
    """Larger weights for classes with fewer examples, for `class_weights` (class-balanced loss).

    (1 - beta) / (1 - beta^n_j), times what makes their mean over the classes with examples 1. beta
    0 gives every class 1; near 1 they approach 1 / n_j.

    Args:
      counts: [C], the examples of each class, >= 0. A class without any gets 0.
      beta: in [0, 1).

    Returns:
      Weights [C], float32 (float64 for float64 counts).

    Raises:
      ValueError: if beta, unless it is traced, is not in [0, 1).

    >>> import jax.numpy as jnp
    >>> [f"{weight:.3f}" for weight in weights_from_counts(jnp.array([1, 3, 0]), beta=0.5)]
    ['1.273', '0.727', '0.000']

    References:
      Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019, eq. 4:
      https://arxiv.org/abs/1901.05555
    """
    _check_number("beta", beta, "0 or more and less than 1", lambda x: 0 <= x < 1)
    counts = _as_floats(counts)
    some = counts > 0
    # 1 - beta^n without cancellation where beta is next to 1; the factor 1 - beta falls away.
    decay = jnp.log1p(jnp.asarray(beta - 1, counts.dtype))
    effective = -jnp.expm1(jnp.where(some, counts, 1) * decay)
    weights = jnp.where(some, 1 / effective, 0)
    return weights * (jnp.sum(some).astype(weights.dtype) / jnp.sum(weights))


def _as_floats(counts: jax.Array) -> jax.Array:
    counts = jnp.asarray(counts)
    return counts.astype(jnp.float64 if counts.dtype == jnp.float64 else jnp.float32)


def of_own_class(values: jax.Array, labels: jax.Array, layout: Layout) -> jax.Array:
    """From a number per class, split as the class weights are, to one per row [B]; else 0."""
    values = jnp.asarray(values).astype(layout.dtype)
    place = jnp.clip(labels - layout.first, 0, len(values) - 1)
    here = is_here(labels, layout, len(values))
    return total(jnp.where(here, values[place], 0), layout.axis_name)


def around(
    negative: Negative,
    target: Callable[[jax.Array, Context], jax.Array],
    remedies: Remedies,
    void: float,
) -> Negative:
    """The negatives, smoothed and capped: smoothed ones are what they have above the target."""

    def gap(similarity: jax.Array, context: Context) -> jax.Array:
        return negative(similarity, context) - target(context.target, context)[:, None]

    return capped(gap if remedies.smooths else negative, remedies, void)


def capped(
    function: Callable[..., jax.Array], remedies: Remedies, void: float
) -> Callable[..., jax.Array]:
    """A function of similarities and more, `void` and without gradient where they pass the cap."""
    cap = remedies.negative_cap
    if cap is None:
        return function

    def call(similarity: jax.Array, *seen: Context) -> jax.Array:
        above = similarity > jnp.asarray(cap, similarity.dtype)
        return jnp.where(above, void, function(similarity, *seen))

    return call
