"""Rendered faces whose nuisances are known, and five-point stand-ins for recognition's tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from facejax.synthetic import draw_identity, draw_nuisance, render


def rendered(people: list[int], size: int = 112, **nuisances: list[float]) -> np.ndarray:
    """Passport photographs uint8 [N, size, size, 3] of people, but for the nuisances given."""
    base = draw_nuisance(jax.random.key(0), jnp.float32(0.0))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(people)), base)
    batch = batch._replace(
        **{name: jnp.array(values, jnp.float32) for name, values in nuisances.items()}
    )
    keys = jnp.stack([jax.random.key(person) for person in people])
    return np.asarray(_program(size)(jax.vmap(draw_identity)(keys), batch))


@functools.cache
def _program(size):
    return jax.jit(jax.vmap(functools.partial(render, image_size=size)))


def yunet_or_skip():
    """The packaged detector, where its package is installed."""
    import pytest

    from facejax.errors import UserError
    from facejax.recognition.detection import YuNet

    try:
        return YuNet()
    except UserError as error:
        pytest.skip(str(error))
