"""A network small enough to compile in a moment, with all that a step must get right."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from facejax.models import Network
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


def network(axis_name=None, dropout=0.0) -> Network:
    module = _Toy(axis_name, dropout)

    def init(key, images):
        return module.clone(axis_name=None).init(key, images, train=False)

    def apply(variables, images, *, train, keys=None):
        if not train:
            return module.apply(variables, images, train=False), variables["batch_stats"]
        embeddings, updates = module.apply(
            variables, images, train=True, keys=keys, mutable=["batch_stats"]
        )
        return embeddings.astype(jnp.float32), updates["batch_stats"]

    return Network(init, apply)


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
