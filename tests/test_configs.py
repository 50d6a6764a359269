"""Every recipe loads, and its network and loss can be built."""

import dataclasses
import importlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import compilation, models
from facejax.errors import UserError
from facejax.training import from_config
from facejax.training.config import Config, from_dict
from tests.pictures import Faces

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
    network = from_config.network(config)
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
    rate = from_config.schedule(config, steps=10)
    assert float(rate(9)) >= 0
    from_config.update_rule(config, rate)
    from_config.augmentation(config)
    assert (importlib.import_module(f"configs.{name}").__doc__ or "").count("python train.py")


def test_margins_and_weights_of_the_classes_follow_their_images():
    config = Config()
    config.loss.class_margins = config.loss.class_weights = "counts"
    config.loss.margin, config.loss.weights_beta = 0.3, 0.9
    source = Faces(("a", "b", "c"), [0, 0, 0, 0, 1, 2, 2])
    _, state = from_config.objective(config, source).init(jax.random.key(0), 3, 2)
    raw = np.array([0.1 / (1 - 0.9**n) for n in (4, 1, 2)])
    np.testing.assert_allclose(state["class_weights"], raw / raw.mean(), rtol=1e-5)
    margins = [0.3 / 4**0.25, 0.3, 0.3 / 2**0.25]
    np.testing.assert_allclose(state["class_margins"], margins, rtol=1e-6)
    from_config.objective(config)  # what can be checked without the images
    config.loss.name, config.loss.margin = "sphereface_r", 1.7  # a factor: 1 is no margin
    _, state = from_config.objective(config, source).init(jax.random.key(0), 3, 2)
    factors = [1 + 0.7 / 4**0.25, 1.7, 1 + 0.7 / 2**0.25]
    np.testing.assert_allclose(state["class_margins"], factors, rtol=1e-6)


def test_facts_rebuild_the_network_and_the_config():
    """As JSON, in the form that checkpoints have always had."""
    config = Config(seed=3)
    config.augment.crop_scale = (0.5, 0.9)
    source = Faces(("a", "b"), [0, 0, 1])
    facts = json.loads(json.dumps(from_config.facts(config, source)))
    assert list(facts["architecture"]) == ["name", "width", "embedding_size", "dropout", "dtype"]
    assert models.network(**facts["architecture"]).init
    assert facts["num_classes"] == 2
    assert facts["data"]["identities"] == ["a", "b"]
    assert facts["data"]["images"] == 3
    assert dataclasses.asdict(from_dict(facts["config"])) == dataclasses.asdict(config)


def test_what_is_wrong_is_said_once():
    """An argument that is refused is the field's; a sentence that names a field stays as it is."""
    with pytest.raises(UserError, match=r"^config\.data: 3 is odd$"), from_config.named("data"):
        raise ValueError("3 is odd")
    with pytest.raises(UserError, match=r"^give more$"), from_config.named("data"):
        raise UserError("give more")
    assert issubclass(UserError, ValueError)


def test_fields_out_of_their_range():
    config = Config()
    config.model.dtype, config.optimizer.accumulate = "float", 0
    with pytest.raises(
        UserError, match=r"config\.model\.dtype is 'float'; choose float16, float32"
    ):
        from_config.settled(config)
    with pytest.raises(UserError, match="times 0 micro-batch"):
        from_config.devices(config)


def test_facejax_home_moves_both_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEJAX_HOME", str(tmp_path))
    used = []
    monkeypatch.setattr(from_config, "SyntheticFaces", lambda **given: used.append(given["cache"]))
    monkeypatch.setattr(from_config.data, "select", lambda source, **_: source)
    config = Config()
    from_config.settled(config)
    from_config.training_source(config)
    assert used == [tmp_path / "datasets"]
    kept = jax.config.jax_compilation_cache_dir
    compilation.enable_cache(Config().compilation_cache)
    jax.config.update("jax_compilation_cache_dir", kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["datasets", "xla"]
