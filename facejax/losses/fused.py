"""Class weights that the backward updates itself: a gradient of all classes never exists."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.numerics import add_rows


class FusedSGD(NamedTuple):
    """Class weights with all that SGD needs, to be given to a streamed loss in their place.

    The "gradient" with respect to it is a `FusedSGD` of the updated weights and trace, made block
    by block in place of the ones given if those are donated:

        trace = gradient + weight_decay weights + momentum trace
        weights = weights - learning_rate trace

    Let one loss use it, once, and differentiate what the step minimises: scaled or added up, this
    gradient means nothing. Its other fields come back as 0.

    Attributes:
      weights: [C, D] or [C, K, D], this device's.
      trace: of the same shape; 0 before the first step.
      learning_rate: scalar.
      momentum: scalar.
      weight_decay: scalar.
    """

    weights: jax.Array
    trace: jax.Array
    learning_rate: jax.Array | float
    momentum: jax.Array | float
    weight_decay: jax.Array | float


def update_block(
    given: FusedSGD, gradient: jax.Array, start: jax.Array, counts: jax.Array
) -> FusedSGD:
    """Updates the rows from `start` on, where `counts` [block]."""
    counts = jnp.expand_dims(counts, range(1, gradient.ndim))

    def read(whole: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(whole, start, len(gradient))

    def write(whole: jax.Array, part: jax.Array) -> jax.Array:
        old = read(whole)
        part = jnp.where(counts, part.astype(old.dtype), old)
        return lax.dynamic_update_slice_in_dim(whole, part, start, 0)

    weights = read(given.weights).astype(gradient.dtype)
    moved = gradient + given.weight_decay * weights
    moved += given.momentum * read(given.trace).astype(gradient.dtype)
    trace = write(given.trace, moved)
    # The trace is read back: both arrays then have one reader before their writer, and XLA
    # updates them in place.
    moved = read(trace).astype(gradient.dtype)
    return given._replace(
        weights=write(given.weights, weights - given.learning_rate * moved), trace=trace
    )


def update_rows(given: FusedSGD, index: jax.Array, gradient: jax.Array) -> FusedSGD:
    """Adds to the rows at `index` what was not yet known of their gradient; the update is linear.

    Rows past the end are left out.
    """
    return given._replace(
        weights=add_rows(given.weights, index, -given.learning_rate * gradient),
        trace=add_rows(given.trace, index, gradient),
    )
