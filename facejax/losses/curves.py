"""The curves of the margins: functions of a cosine, finite in value and gradient everywhere."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.numerics import angle, sine

BEYOND_PI = ("plain", "linear", "easy", "saturate")

Number = float | jax.Array


def cosine_of_sum(cosine: jax.Array, margin: Number, *, beyond_pi: str) -> jax.Array:
    """cos(theta + margin) of theta = arccos(cosine), finite in value and gradient everywhere.

    Args:
      cosine: any shape; rounding may have carried it beyond +-1.
      margin: radians, in [0, pi]; a scalar or an array of the cosine's shape.
      beyond_pi: what holds where theta + margin > pi: `plain` (the formula, which rises again),
        `linear` (cosine - margin sin(margin)), `saturate` (-1); or `easy`, no margin at all where
        theta > pi / 2.

    Raises:
      ValueError: on another `beyond_pi`.
    """
    value = cosine * jnp.cos(margin) - sine(cosine) * jnp.sin(margin)
    return beyond(value, cosine > -jnp.cos(margin), cosine, margin, beyond_pi)


def beyond(
    value: jax.Array, within: jax.Array, cosine: jax.Array, margin: Number, beyond_pi: str
) -> jax.Array:
    """Where theta + margin is not `within` pi: see `cosine_of_sum`."""
    one_of("beyond_pi", beyond_pi, BEYOND_PI)
    if beyond_pi == "linear":
        return jnp.where(within, value, cosine - margin * jnp.sin(margin))
    if beyond_pi == "easy":
        return jnp.where(cosine > 0, value, cosine)
    if beyond_pi == "saturate":
        return jnp.where(within, value, -1)
    return value


def psi(cosine: jax.Array, margin: int) -> jax.Array:
    """(-1)^k cos(m theta) - 2k for theta in [k pi/m, (k+1) pi/m]: cos(m theta), made decreasing.

    Raises:
      ValueError: unless the margin is a whole number >= 1.
    """
    if int(margin) != margin or margin < 1:
        raise ValueError(f"margin must be a whole number of at least 1, got {margin!r}")
    before, multiple = jnp.ones_like(cosine), cosine  # Chebyshev: cos(0 theta), cos(1 theta)
    for _ in range(int(margin) - 1):
        before, multiple = multiple, 2 * cosine * multiple - before
    edges = [math.cos(j * math.pi / margin) for j in range(1, int(margin))]
    k = sum(((cosine <= edge).astype(cosine.dtype) for edge in edges), jnp.zeros_like(cosine))
    return jnp.where(k % 2 == 0, multiple, -multiple) - 2 * k


def real_psi(cosine: jax.Array, margin: Number) -> jax.Array:
    """psi for a real margin >= 1."""
    theta = angle(cosine)
    last = jnp.ceil(jnp.asarray(margin, theta.dtype)) - 1
    k = lax.stop_gradient(jnp.minimum(jnp.floor(margin * theta / math.pi), last))
    multiple = jnp.cos(margin * theta)
    return jnp.where(k % 2 == 0, multiple, -multiple) - 2 * k


def one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises a ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{what} must be one of {', '.join(choices)}, got {value!r}")
