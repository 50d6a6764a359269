"""The margins: what each loss does to the target's similarity and to the negatives'.

A `Margin` is handed to `facejax.losses.margin_softmax`; the losses by their papers' names, with
formulas and references, are in `angular.py`. Hyperparameters may be traced.
"""

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.engine import Context, Margin
from facejax.losses.numerics import sine

BEYOND_PI = ("plain", "linear", "easy", "saturate")
GRADIENTS = ("exact", "straight_through")


def softmax() -> Margin:
    """Raw inner products, without any margin."""
    return Margin(_identity, _identity, normalize=(False, False))


def normface(*, scale: float | jax.Array) -> Margin:
    """Scaled cosines, without any margin."""
    return Margin(_scaled(scale), _scaled(scale))


def cosface(*, scale: float | jax.Array, margin: float | jax.Array) -> Margin:
    """An additive margin in the cosine."""
    return Margin(lambda cosine, _: scale * (cosine - margin), _scaled(scale))


def arcface(
    *,
    scale: float | jax.Array,
    margin: float | jax.Array,
    beyond_pi: str = "linear",
    gradient: str = "exact",
) -> Margin:
    """An additive margin in the angle."""
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}, got {gradient!r}")

    def target(cosine, _):
        value = cosine_of_sum(cosine, margin, beyond_pi=beyond_pi)
        if gradient == "straight_through":
            value = cosine + lax.stop_gradient(value - cosine)
        return scale * value

    return Margin(target, _scaled(scale))


def cosine_of_sum(cosine: jax.Array, margin: float | jax.Array, *, beyond_pi: str) -> jax.Array:
    """cos(theta + margin) of theta = arccos(cosine), finite in value and gradient everywhere.

    Args:
      cosine: any shape; rounding may have carried it beyond +-1.
      margin: radians, in [0, pi].
      beyond_pi: what holds where theta + margin > pi: `plain` (the formula, which rises again),
        `linear` (cosine - margin sin(margin)), `saturate` (-1); or `easy`, no margin at all where
        theta > pi / 2.

    Raises:
      ValueError: on another `beyond_pi`.
    """
    value = cosine * jnp.cos(margin) - sine(cosine) * jnp.sin(margin)
    within = cosine > -jnp.cos(margin)
    if beyond_pi == "plain":
        return value
    if beyond_pi == "linear":
        return jnp.where(within, value, cosine - margin * jnp.sin(margin))
    if beyond_pi == "easy":
        return jnp.where(cosine > 0, value, cosine)
    if beyond_pi == "saturate":
        return jnp.where(within, value, -1)
    raise ValueError(f"beyond_pi must be one of {', '.join(BEYOND_PI)}, got {beyond_pi!r}")


def _identity(similarity: jax.Array, _: Context) -> jax.Array:
    return similarity


def _scaled(scale: float | jax.Array):
    return lambda cosine, _: scale * cosine
