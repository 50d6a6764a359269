"""Losses with a state: the same trajectory on one device and on many, from the real rows only."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from tests import reference_adaptive
from tests.cases import on_device
from tests.devices import WAYS, layout, padded, spread

STEPS, ROWS, CLASSES, DIM = 50, 16, 13, 6
START = {
    "curricularface": np.float32(0.0),
    "adaface": losses.AdaFaceStatistics(np.float32(20.0), np.float32(100.0)),
    "adacos": np.float32(losses.adacos_initial_scale(CLASSES)),
}
KEYWORDS = {"curricularface": {"rate": 0.05}, "adaface": {"rate": 0.05}, "adacos": {}}


@functools.cache
def stream():
    """Faces that come closer to their class and grow longer; padding, no class, nothing at all."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(CLASSES, DIM))
    labels = random.integers(0, CLASSES, (STEPS, ROWS)).astype(np.int32)
    pull = np.linspace(0, 2, STEPS)[:, None, None]
    embeddings = random.normal(size=(STEPS, ROWS, DIM)) + pull * weights[labels]
    embeddings *= np.geomspace(0.1, 60, STEPS)[:, None, None] * random.uniform(0.5, 2, (ROWS, 1))
    for step in range(STEPS):
        labels[step, random.permutation(ROWS)[: step % ROWS]] = -1
    labels[3, 5], labels[4, 6] = CLASSES, -2
    labels[20] = -1  # no row
    labels[21, 1:], labels[21, 0] = -1, 3  # one row
    return embeddings.astype(np.float32), weights.astype(np.float32), labels


def trajectories(embeddings, weights, labels, classes=None):
    """embeddings [B, steps, D], labels [B, steps] -> the states after every step, the losses."""

    def step(states, rows):
        e, y = rows
        results = {
            name: getattr(losses, name)(
                e, weights, y, states[name], classes=classes, **KEYWORDS[name]
            )
            for name in states
        }
        states = {name: state for name, (_, state) in results.items()}
        return states, (states, {name: values for name, (values, _) in results.items()})

    rows = jnp.swapaxes(embeddings, 0, 1), labels.T
    _, (states, values) = jax.lax.scan(step, on_device(START), rows)
    return states, {name: v.T for name, v in values.items()}


@functools.cache
def expected():
    """The same by float64 loops."""
    embeddings, weights, labels = stream()
    states: dict = {}
    values: dict = {}
    for name, state in START.items():
        states[name], values[name] = [], []
        for e, y in zip(embeddings, labels, strict=True):
            function = getattr(reference_adaptive, name)
            value, state = function(e, weights, y, state, **KEYWORDS[name])
            states[name].append(state)
            values[name].append(value)
    return states, values


@pytest.mark.parametrize("how", ["one device", *WAYS])
def test_fifty_steps_on_one_and_on_eight_devices(how):
    embeddings, weights, labels = stream()
    embeddings = np.swapaxes(embeddings, 0, 1)
    if how == "one device":
        states, values = jax.jit(trajectories)(*on_device((embeddings, weights, labels.T)))
        states = jax.tree.map(lambda a: a[None], states)
    else:
        run = spread(
            lambda e, w, y: trajectories(e, w, y, layout(CLASSES)),
            8,
            how,
            split=(True, True, True),
            split_out=(False, True),
        )
        states, values = run(*on_device((embeddings, padded(weights, 8), labels.T)))
    wanted_states, wanted_values = expected()
    for name in START:
        got = np.stack(jax.tree.leaves(states[name]), axis=-1).reshape(
            -1, STEPS, 2 if name == "adaface" else 1
        )
        want = np.array(wanted_states[name]).reshape(STEPS, -1)
        for device in got:  # all of them, not the first
            np.testing.assert_allclose(device, want, rtol=2e-5, atol=1e-6, err_msg=name)
        largest = np.nanmax(np.abs(wanted_values[name]))
        np.testing.assert_allclose(
            values[name].T, wanted_values[name], rtol=0, atol=2e-5 * largest, err_msg=name
        )


def test_the_stream_moves_every_state_but_on_the_empty_step():
    states, _ = expected()
    for name, trajectory in states.items():
        moved = np.abs(np.diff(np.array(trajectory).reshape(STEPS, -1), axis=0)).max(axis=1) > 1e-9
        assert not moved[19], f"{name} moved without a real row"
        assert moved.sum() == STEPS - 2, name
    mean, std = np.array(states["adaface"]).T
    assert mean[21] != mean[20]
    assert std[21] == std[20], "one row has no standard deviation"


@pytest.mark.parametrize("name", START)
def test_without_update_the_state_is_used_as_it_is(name):
    """As in evaluation: nothing of the batch enters the state, and so nothing the other rows."""
    embeddings, weights, labels = stream()
    assert (labels[32] >= 0).all()
    e, y = embeddings[32], labels[32]
    start: Any = {
        "curricularface": np.float32(0.4),
        "adaface": losses.AdaFaceStatistics(np.float32(7.0), np.float32(3.0)),
        "adacos": np.float32(11.0),
    }[name]
    function = functools.partial(getattr(losses, name), update=False)
    values, state = function(*on_device((e, weights, y, start)))
    assert jax.tree.leaves(state) == jax.tree.leaves(on_device(start))
    alone, _ = function(*on_device((e[7:8], weights, y[7:8], start)))
    np.testing.assert_allclose(values[7:8], alone, rtol=1e-6)
    moved, _ = getattr(losses, name)(*on_device((e, weights, y, start)))
    assert np.abs(np.asarray(moved - values)).max() > 1e-3


def test_the_state_has_no_gradient():
    embeddings, weights, labels = stream()
    e, w, y = on_device((embeddings[30], weights, labels[30]))
    for name, start in START.items():

        def value(state, name=name):
            return getattr(losses, name)(e, w, y, state)[0].sum()

        def moved(e, name=name, start=start):
            state = getattr(losses, name)(e, w, y, on_device(start))[1]
            return sum(jax.tree.leaves(state))

        assert not any(jax.tree.leaves(jax.grad(value)(on_device(start)))), name
        assert not jax.grad(moved)(e).any(), name


def test_adacos_takes_the_lower_median_of_an_even_batch():
    angles = np.array([0.2, 0.3, 0.6, 0.7], np.float32)
    e = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    w, y = jnp.eye(2), jnp.zeros(4, jnp.int32)
    _, scale = losses.adacos(e, w, y, jnp.float32(5.0))
    average = np.mean(np.exp(5.0 * np.sin(angles)))
    np.testing.assert_allclose(scale, np.log(average) / np.cos(0.3), rtol=1e-5)


def test_adacos_with_one_class_keeps_its_scale():
    e, w, y = jnp.ones((3, 2)), jnp.ones((1, 2)), jnp.zeros(3, jnp.int32)
    _, scale = losses.adacos(e, w, y, jnp.float32(5.0))
    assert scale == 5.0
    cut = losses.Classes(num_classes=1)
    _, scale = losses.adacos(e, jnp.ones((4, 2)), y, jnp.float32(5.0), classes=cut)
    assert scale == 5.0


@pytest.mark.parametrize("num_classes", [-1, 1, 2])
def test_adacos_initial_scale_wants_three_classes(num_classes):
    with pytest.raises(ValueError, match="3"):
        losses.adacos_initial_scale(num_classes)


def test_adacos_initial_scale():
    for num_classes in (3, 10, 100_000):
        np.testing.assert_allclose(
            losses.adacos_initial_scale(num_classes),
            reference_adaptive.adacos_initial_scale(num_classes),
            rtol=1e-6,
        )


def test_adaface_statistics_are_unbiased_and_of_clipped_norms():
    e = np.zeros((4, 3), np.float32)
    e[:, 0] = 300.0, 2.0, 6.0, 50.0  # the first counts as 100, the last is padding
    y = jnp.array([0, 1, 2, -1])
    start = losses.AdaFaceStatistics(*on_device(np.zeros((2,), np.float32)))
    _, got = losses.adaface(jnp.asarray(e), jnp.eye(3), y, start, rate=1.0)
    np.testing.assert_allclose(got.mean, 36.0, rtol=1e-6)
    np.testing.assert_allclose(got.std, np.std([100.0, 2.0, 6.0], ddof=1), rtol=1e-6)


def test_adaface_starts_at_the_papers_statistics():
    assert losses.AdaFaceStatistics() == (20.0, 100.0)
