"""A state and a compiled step of facejax's trainer, as `train.py` has them, on one device."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from facejax import compilation, data, models, objectives
from facejax.losses import Classes
from facejax.training import head, optimizer, state, step

RATE, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
SCALE, MARGIN = 64.0, 0.35  # of CosFace


class Sizes(NamedTuple):
    """Of a training run; `network` and `dtype` are names."""

    network: str
    dtype: str
    batch: int
    image_size: int
    classes: int
    dim: int = 512


def build(sizes: Sizes, *, parallel: str) -> tuple[step.Step, state.TrainState]:
    """The step, compiled, and the state before the first one.

    A CosFace head, in the blocks that facejax chooses by itself; SGD with momentum and decay; the
    augmentation is the flip, as in InsightFace's recipes.
    """
    network = models.network(
        sizes.network,
        embedding_size=sizes.dim,
        dtype=sizes.dtype,
        axis_name=step.AXIS,
    )
    objective = objectives.objective(
        "cosface", {"scale": SCALE, "margin": MARGIN}, dtype=jnp.dtype(sizes.dtype)
    )
    rate = optimizer.learning_rate(peak=RATE, steps=1, warmup=0.0, schedule="constant")
    tx = optimizer.optimizer("sgd", rate, momentum=MOMENTUM, weight_decay=DECAY)
    body = step.make_body(
        network,
        objective,
        head.whole(tx, classes=Classes("auto", step.AXIS, sizes.classes)),
        functools.partial(data.augment, flip=0.5),
        key=jax.random.key(1),
    )
    create = functools.partial(
        state.create,
        network=network,
        objective=objective,
        tx=tx,
        num_classes=sizes.classes,
        image_size=sizes.image_size,
        embedding_size=sizes.dim,
    )
    key = jax.random.key(0)
    built = step.build_step(
        body,
        jax.eval_shape(create, key),
        batch(sizes),
        parallel=parallel,
        devices=jax.devices()[:1],
    )
    return built, compilation.jit(create)(key)


def batch(sizes: Sizes) -> dict[str, np.ndarray]:
    """Noise with labels, in the host's memory."""
    rng = np.random.default_rng(0)
    shape = (sizes.batch, sizes.image_size, sizes.image_size, 3)
    return {
        "image": rng.integers(0, 256, shape, np.uint8),
        "label": rng.integers(0, sizes.classes, sizes.batch, np.int32),
    }
