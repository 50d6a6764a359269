"""Face-recognition losses: pure functions of arrays, per example, for any JAX code.

>>> import jax, jax.numpy as jnp
>>> from facejax.losses import arcface
>>> key_e, key_w = jax.random.split(jax.random.key(0))
>>> embeddings = jax.random.normal(key_e, (4, 8))
>>> weights = jax.random.normal(key_w, (10, 8))
>>> arcface(embeddings, weights, jnp.array([0, 3, 9, -1])).shape
(4,)
"""

from facejax.losses.angular import arcface, cosface, normface, softmax
from facejax.losses.engine import (
    Classes,
    Context,
    Margin,
    Rows,
    margin_rows,
    margin_softmax,
)

__all__ = [
    "Classes",
    "Context",
    "Margin",
    "Rows",
    "arcface",
    "cosface",
    "margin_rows",
    "margin_softmax",
    "normface",
    "softmax",
]
