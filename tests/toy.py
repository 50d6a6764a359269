"""A network and batches small enough to compile in a moment, with all that a step needs."""

import functools
from typing import Any

import chex
import flax.linen as nn
import jax
import numpy as np

from facejax.models import Network, from_module
from facejax.models.layers import BatchNorm, dropout
from facejax.training import state

SIZE, DIM = 8, 6
EVERYTHING: dict[str, Any] = dict(  # what `augment` can do
    flip=0.5, crop=0.5, photometric=0.5, low_resolution=0.5, erasing=0.5, shift=2
)


class _Toy(nn.Module):
    axis_name: str | None
    dropout: float

    @nn.compact
    def __call__(self, images, train, keys=None):
        x = nn.Conv(4, (3, 3), strides=2, use_bias=False)(images)
        x = BatchNorm(prelu=True, axis_name=self.axis_name)(x, train=train)
        if train:
            x = dropout(x, keys, rate=self.dropout)
        return nn.Dense(DIM)(x.reshape(x.shape[0], -1))


class _LayerNorm(nn.Module):
    """As a transformer: without running statistics, and with a layer of the name `head`."""

    @nn.compact
    def __call__(self, images, train, keys=None):
        x = nn.Conv(4, (3, 3), strides=2, use_bias=False)(images)
        x = nn.relu(nn.LayerNorm()(x))
        return nn.Dense(DIM, name="head")(x.reshape(x.shape[0], -1))


@functools.cache
def network(axis_name=None, dropout=0.0) -> Network:
    made = from_module(_Toy(axis_name, dropout))
    return made._replace(init=jax.jit(made.init))  # compiled once for all who ask


def layer_norm_network() -> Network:
    return from_module(_LayerNorm())


def fresh(network, objective, tx, classes, slices=1) -> state.TrainState:
    """A state before its first step."""
    objective = objective._replace(init=jax.jit(objective.init, static_argnums=(1, 2)))
    return state.create(
        jax.random.key(0),
        network=network,
        objective=objective,
        tx=tx,
        num_classes=classes,
        image_size=SIZE,
        embedding_size=DIM,
        slices=slices,
    )


def batches(count, rows, identities):
    """Of random images, the same ones at each call; the fourth row is padding."""
    random = np.random.default_rng(0)
    for _ in range(count):
        labels = random.integers(0, identities, rows).astype(np.int32)
        labels[3] = -1
        images = random.integers(0, 256, (rows, SIZE, SIZE, 3), dtype=np.uint8)
        yield {"image": images, "label": labels}


def assert_close(got, expected, tolerance=1e-5):
    """Leaf by leaf, to a share of the leaf's largest magnitude (sums come in another order)."""
    chex.assert_trees_all_equal_shapes_and_dtypes(got, expected)
    pairs = zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        largest = max(float(np.abs(b).max(initial=0)), 1e-3)
        np.testing.assert_allclose(a, b, atol=tolerance * largest, rtol=0, err_msg=str(path))
