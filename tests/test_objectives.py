"""Objectives: the losses by name, with what a trainer keeps for them."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses, objectives
from facejax.errors import UserError

CLASSES, DIM = 7, 5


def batch():
    random = np.random.default_rng(0)
    labels = np.array([0, 3, 6, -1, 2, 2], np.int32)
    weights = random.normal(size=(CLASSES, DIM)).astype(np.float32)
    embeddings = random.normal(size=(len(labels), DIM)) + weights[labels]
    embeddings[4] -= 3 * weights[2]  # this one is classified wrongly
    return embeddings.astype(np.float32), weights, labels


@pytest.mark.parametrize("name", objectives.LOSSES)
def test_an_objective_is_its_loss_and_counts_hits(name):
    embeddings, weights, labels = batch()
    objective = objectives.objective(name)
    params, state = objective.init(jax.random.key(0), CLASSES, DIM)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params)} == {CLASSES}
    params["weights"] = jnp.asarray(weights)
    if "bias" in params:  # the same for all, and below a padding row's similarity of 0
        params["bias"] = -jnp.ones(CLASSES)
    got, state, sums = objective.apply(
        params, state, jnp.asarray(embeddings), jnp.asarray(labels), key=None, step=0
    )
    expected = getattr(losses, name)(*map(jnp.asarray, (embeddings, weights, labels)))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    lengths = 1 if name == "softmax" else np.linalg.norm(weights, axis=1)
    best = np.argmax(embeddings @ weights.T / lengths, axis=1)
    assert float(sums["correct"]) == ((best == labels) & (labels >= 0)).sum()
    assert best[4] != labels[4]


def test_hyperparameters_are_read_from_the_losses():
    for name in objectives.LOSSES:
        defaults = objectives.hyperparameters(name)
        for parameter, value in defaults.items():
            assert inspect.signature(getattr(losses, name)).parameters[parameter].default == value
    assert objectives.hyperparameters("cosface") == {"scale": 64.0, "margin": 0.35}
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    chosen = objectives.objective("cosface", {"margin": 0.1})
    got, _, _ = chosen.apply({"weights": weights}, {}, embeddings, labels, key=None, step=0)
    expected = losses.cosface(embeddings, weights, labels, margin=0.1)
    np.testing.assert_array_equal(got, expected)


def test_bfloat16_products_give_float32_losses():
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    low = objectives.objective("arcface", dtype=jnp.bfloat16)
    got, _, _ = low.apply({"weights": weights}, {}, embeddings, labels, key=None, step=0)
    assert got.dtype == jnp.float32
    rounded = [a.astype(jnp.bfloat16) for a in (embeddings, weights)]
    np.testing.assert_array_equal(got, losses.arcface(*rounded, labels))
    assert (np.asarray(got) != np.asarray(losses.arcface(embeddings, weights, labels))).any()


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("arcfase", {}, "no loss 'arcfase'; choose one of softmax"),
        ("normface", {"margin": 0.5}, "normface has no margin: its hyperparameters are scale"),
        ("softmax", {"scale": 2.0}, "softmax has no scale: its hyperparameters are none"),
        ("arcface", {"beyond_pi": "round"}, "must be one of plain"),
        ("arcface", {"gradient": "none"}, "must be one of exact"),
    ],
)
def test_what_does_not_exist_is_refused(name, chosen, message):
    with pytest.raises(UserError, match=message):
        objectives.objective(name, chosen)
