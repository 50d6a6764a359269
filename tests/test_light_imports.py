"""Losses, networks, recognizers and the training step need JAX, flax, optax and chex, no more.

So they run on a bare accelerator machine. What reads images and writes checkpoints needs more, and
may be missing there.
"""

import pathlib
import subprocess
import sys

from tests.environment import surroundings

ROOT = pathlib.Path(__file__).parents[1]
MISSING = (
    "grain, tensorflow_datasets, ml_collections, orbax, cv2, onnx, onnxruntime, sqlalchemy, scipy, "
    "tqdm, matplotlib"
)

SCRIPT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING.split(", ")}:
            raise ModuleNotFoundError("blocked: " + name, name=name)

sys.meta_path.insert(0, Missing())

import functools
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from facejax import data, models, objectives, recognition
from facejax.losses import Classes
from facejax.models.layers import Conv
from facejax.training import head, optimizer, row_sgd, state, step
from benchmarks.gpu import about, child, fused, losses, parallel, training  # facejax's users there

class Tiny(nn.Module):
    @nn.compact
    def __call__(self, images, train, keys=None):
        return nn.Dense(4)(Conv(2)(images).reshape(len(images), -1))

network, objective = models.from_module(Tiny()), objectives.objective("cosface")
tx = optimizer.optimizer("sgd", lambda step: 0.1)
body = step.make_body(
    network, objective, head.whole(tx, classes=Classes(axis_name=step.AXIS)),
    functools.partial(data.augment, crop=1.0), key=jax.random.key(0),
)
first = state.create(
    jax.random.key(0), network=network, objective=objective, tx=tx, num_classes=5, image_size=8,
    embedding_size=4,
)
batch = {{"image": jnp.zeros((2, 8, 8, 3), jnp.uint8), "label": jnp.arange(2, dtype=jnp.int32)}}
built = step.build_step(body, first, batch, parallel="pmap", devices=jax.devices()[:1])
after, metrics = built.run(built.enter(first), built.feed(batch))
print(int(after.step), float(metrics["rows"]))
try:
    data.batches
except ModuleNotFoundError as error:
    print(error.name)
"""


def test_a_training_step_needs_neither_what_reads_images_nor_what_saves():
    environment = surroundings(devices=1) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1", "2.0", "cv2"], done.stderr
