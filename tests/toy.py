"""A network small enough to compile in a moment, with all that a step must get right."""

import flax.linen as nn
import jax

from facejax.models import Network, from_module
from facejax.models.layers import BatchNorm, dropout
from facejax.training import state

SIZE, DIM = 8, 6


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


def network(axis_name=None, dropout=0.0) -> Network:
    return from_module(_Toy(axis_name, dropout))


def layer_norm_network() -> Network:
    return from_module(_LayerNorm())


def fresh(network, objective, tx, classes, slices=1) -> state.TrainState:
    """A state before its first step."""

    def create(key):
        return state.create(
            key,
            network=network,
            objective=objective,
            tx=tx,
            num_classes=classes,
            image_size=SIZE,
            embedding_size=DIM,
            slices=slices,
        )

    return jax.jit(create)(jax.random.key(0))
