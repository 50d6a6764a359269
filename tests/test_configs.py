"""Every recipe loads, and its network and loss can be built."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest

from facejax import models
from facejax.training import from_config, optimizer

CONFIGS = sorted(p.stem for p in (pathlib.Path(__file__).parents[1] / "configs").glob("[a-z]*.py"))


SURVEY = [
    "deepid2",
    "facenet",
    "center_loss",
    "l_softmax",
    "sphereface",
    "normface",
    "cosface",
    "arcface",
    "mv_softmax",
    "circle_loss",
    "curricularface",
    "magface",
]


def test_every_system_of_the_survey_has_a_short_config():
    folder = pathlib.Path(__file__).parents[1] / "configs"
    for name in SURVEY:
        text = (folder / f"{name}.py").read_text()
        assert len(text.splitlines()) <= 40
        assert "accuracy" in text, name


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_builds(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    network = models.network(**from_config.network(config))
    size = config.data.image_size
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    embeddings, _ = jax.eval_shape(
        lambda v, x: network.apply(v, x, train=True, keys=jax.random.split(jax.random.key(1), 2)),
        variables,
        images,
    )
    assert embeddings.shape == (2, config.model.embedding_size)
    assert embeddings.dtype == jnp.float32
    params, _ = from_config.objective(config).init(jax.random.key(0), 5, embeddings.shape[1])
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(params) if leaf.ndim)
    optimizer.learning_rate(steps=10, **from_config.schedule(config))
    from_config.augmentation(config)
    assert (importlib.import_module(f"configs.{name}").__doc__ or "").count("python train.py")
