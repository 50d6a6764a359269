"""From a run's workdir to a recognizer: the right step, the right network, its embeddings."""

import json

import jax
import numpy as np
import pytest

from facejax import checkpoints, data, models, recognition
from facejax.errors import UserError
from facejax.recognition import templates

ARCHITECTURE = {
    "name": "iresnet10",
    "width": 0.125,
    "embedding_size": 8,
    "dropout": 0.0,
    "dtype": "float32",
}
FACTS = {
    "architecture": ARCHITECTURE,
    "num_classes": 4,
    "config": {"data": {"image_size": 16}},
}
NETWORK = models.network(**ARCHITECTURE)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir with the checkpoints 3 and 5, and the variables of each."""
    workdir = tmp_path_factory.mktemp("run")
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    saved = checkpoints.open_directory(workdir / "checkpoints")
    variables = {}
    for step in (3, 5):
        random = np.random.default_rng(step)
        variables[step] = jax.tree.map(
            lambda leaf, random=random: random.uniform(0.1, 1, leaf.shape).astype(leaf.dtype),
            shapes,
        )
        state = {
            "params": {"backbone": variables[step]["params"], "head": np.ones((4, 8), np.float32)},
            "batch_stats": variables[step]["batch_stats"],
        }
        checkpoints.save(saved, step, state, FACTS)
    saved.close()
    return workdir, variables


@pytest.fixture(scope="module")
def newest(run):
    """The newest checkpoint's, and what it made of the images."""
    recognizer = recognition.load(run[0])
    return recognizer, recognizer.embed(IMAGES, batch_size=4)


def refused(*arguments, **keywords):
    with pytest.raises(UserError) as caught:
        recognition.open(*arguments, **keywords)
    return str(caught.value)


def test_the_newest_checkpoint_of_a_workdir_embeds(run, newest):
    workdir, variables = run
    recognizer, got = newest
    assert (recognizer.step, recognizer.flip) == (5, True)
    assert (recognizer.image_size, recognizer.embedding_size) == (16, 8)
    assert recognizer.directory == workdir / "checkpoints"
    assert recognizer.facts == FACTS
    assert len(repr(recognizer)) < 1000
    assert (got.shape, got.dtype) == ((5, 8), np.float32)
    views = [data.normalize(view) for view in (IMAGES, IMAGES[:, :, ::-1])]
    apply = jax.jit(lambda images: NETWORK.apply(variables[5], images, train=False)[0])
    total = np.asarray(apply(views[0]), np.float64) + np.asarray(apply(views[1]), np.float64)
    expected = total / np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    parts = (IMAGES[i : i + 2] for i in (0, 2, 4))
    np.testing.assert_array_equal(recognizer.embed(parts, batch_size=4), got)


def test_another_step_of_the_checkpoints_folder_without_the_flip(run):
    workdir, variables = run
    recognizer = recognition.load(workdir / "checkpoints", step=3, flip=False)
    assert (recognizer.step, recognizer.flip) == (3, False)
    assert recognizer.directory == workdir / "checkpoints"
    expected = recognition.embed(
        recognition.make_embedder(NETWORK.apply, flip=False), variables[3], IMAGES, batch_size=5
    )
    np.testing.assert_array_equal(recognizer.embed(IMAGES, batch_size=5), expected)


def test_refuses_what_is_not_there(run, tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint in"):
        recognition.load(tmp_path)
    with pytest.raises(UserError, match=r"no step 4; it has 3, 5"):
        recognition.load(run[0], step=4)


def test_a_run_has_a_card(run, newest):
    workdir, _ = run
    one = recognition.open(workdir)
    card = one.card
    assert (card.image_size, card.embedding_size, card.color) == (16, 8, "rgb")
    assert (card.mean, card.scale, card.flip, card.unit) == (127.5, 1 / 127.5, True, True)
    np.testing.assert_array_equal(card.template, templates.arcface(16))
    assert (one.step, one.facts["num_classes"]) == (5, 4)
    np.testing.assert_array_equal(one.embed(IMAGES, batch_size=4), newest[1])
    assert recognition.open(workdir / "checkpoints", step=5).card.sha256 == card.sha256
    assert recognition.open(workdir, flip=False).card.flip is False
    moved = recognition.open(workdir, template=card.template + 1).card
    np.testing.assert_array_equal(moved.template, card.template + 1)
    assert "has color rgb" in refused(workdir, color="bgr")
    assert "has size 16" in refused(workdir, size=112)
    assert "no step 4" in refused(workdir, step=4)


def test_a_runs_own_card(run):
    workdir, _ = run
    path = recognition.card_path(workdir)
    card = recognition.open(workdir, template=templates.arcface(16) + 2).card
    try:
        card.write(path)
        assert recognition.open(workdir).card == card
        values = json.loads(card.to_json())
        path.write_text(json.dumps(values | {"image_size": 32}))
        assert "says image_size 32, but the run beside it was trained with 16" in refused(workdir)
        path.write_text(json.dumps(values | {"color": "bgr"}))
        assert "says color bgr" in refused(workdir)
    finally:
        path.unlink()
