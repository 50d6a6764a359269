"""Sampled classes: exact targets, a fair share of the others, and the whole at rate 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from facejax.losses import Classes, margins, sample_classes
from tests.devices import AXIS, WAYS, padded, spread


def batch(classes=40, rows=8, dim=6, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows).astype(np.int32)
    labels[1] = -1
    e, w = random.normal(size=(rows, dim)), random.normal(size=(classes, dim))
    return e.astype(np.float32), w.astype(np.float32), labels


def test_targets_are_kept_and_no_class_comes_twice():
    _, w, y = batch()
    for seed in range(20):
        rows, labels = sample_classes(jax.random.key(seed), jnp.asarray(y), w, rate=0.25)
        assert rows.shape == (10, 6)
        assert len(np.unique(rows, axis=0)) == 10
        real = y >= 0
        np.testing.assert_array_equal(rows[labels[real]], w[y[real]])
        assert labels[1] == -1


def test_every_other_class_comes_equally_often():
    _, _, y = batch(rows=4)
    w = jnp.arange(40.0)[:, None]
    draw = jax.jit(jax.vmap(lambda key: sample_classes(key, jnp.asarray(y), w, rate=0.25)[0]))
    taken = np.bincount(
        np.asarray(draw(jax.random.split(jax.random.key(0), 2000)), int).ravel(), minlength=40
    )
    own = np.unique(y[y >= 0])
    assert (taken[own] == 2000).all()
    others = np.delete(taken, own) / 2000
    expected = (10 - len(own)) / (40 - len(own))
    # Five standard deviations of a share of 2,000 draws.
    assert np.abs(others - expected).max() < 5 * np.sqrt(expected * (1 - expected) / 2000)


def test_labels_of_no_class_stay_so():
    e, w, y = batch()
    y[0], y[2] = 40, -3
    rows, labels = sample_classes(jax.random.key(0), jnp.asarray(y), jnp.asarray(w), rate=0.5)
    values = losses.cosface(jnp.asarray(e), rows, labels)
    assert np.isnan(values[np.array([0, 2])]).all()
    assert np.isfinite(np.delete(values, [0, 2])).all()
    assert values[1] == 0


def test_rate_one_is_dense():
    e, w, y = map(jnp.asarray, batch())

    def mean(e, w, rate):
        rows, labels = sample_classes(jax.random.key(0), y, w, rate=rate)
        return losses.arcface(e, rows, labels).mean()

    dense = jax.value_and_grad(lambda e, w: losses.arcface(e, w, y).mean(), (0, 1))(e, w)
    sampled = jax.value_and_grad(functools.partial(mean, rate=1.0), (0, 1))(e, w)
    for got, want in zip(jax.tree.leaves(sampled), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_the_expected_gradient_approaches_the_dense_one():
    """With a sum over the classes the negatives' part, divided by its share, is unbiased."""
    e, w, y = map(jnp.asarray, batch(rows=4))

    def negatives(w, key, rate):
        rows, labels = sample_classes(key, y, w, rate=rate)
        return losses.p2sgrad(e, rows, labels).sum()

    exact = jax.grad(negatives)(w, jax.random.key(0), 1.0)
    draws = jax.jit(jax.vmap(lambda key: jax.grad(negatives)(w, key, 0.25)))(
        jax.random.split(jax.random.key(1), 4000)
    )
    own = np.unique(y[y >= 0])
    share = (10 - len(own)) / (40 - len(own))
    draws = np.asarray(draws, np.float64) / share
    draws[:, own] *= share
    error = draws.mean(0) - np.asarray(exact)
    bound = 6 * draws.std(0) / np.sqrt(4000) + 2e-6  # six standard errors, entry by entry
    assert (np.abs(error) < bound).all()


def test_devices_draw_by_themselves():
    """Else the classes that come together would always be those of the same numbers."""

    def body(y, w):
        return sample_classes(jax.random.key(3), y, w, rate=0.5, axis_name=AXIS)[0]

    run = spread(body, 4, "pmap", split=(True, True), split_out=True)
    rows = run(jnp.full(4, -1, jnp.int32), jnp.arange(160.0)[:, None])
    drawn = np.asarray(rows).reshape(4, 20) - 40 * np.arange(4)[:, None]
    assert len({tuple(places) for places in drawn}) == 4


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("rate", [1.0, 0.8])
def test_sampled_over_devices(how, rate):
    """At rate 1 it is dense; below, each row still meets its own class, wherever that is."""
    e, w, y = batch(classes=42, rows=8)
    w = padded(w, 4)

    def body(e, w, y):
        rows, labels = sample_classes(
            jax.random.key(3), y, w, rate=rate, axis_name=AXIS, num_classes=42
        )
        classes = Classes(axis_name=AXIS, num_classes=42 if rate == 1 else None)
        rule = margins.normface(scale=8.0)
        found = losses.margin_rows(e, rows, labels, rule, classes=classes)
        return found.losses, found.target, rows

    got, target, rows = spread(body, 4, how, split=(True,) * 3, split_out=(True,) * 3)(e, w, y)
    rule = margins.normface(scale=8.0)
    dense = losses.margin_rows(jnp.asarray(e), jnp.asarray(w[:42]), jnp.asarray(y), rule)
    np.testing.assert_allclose(target, dense.target, atol=1e-6)
    if rate == 1:
        np.testing.assert_allclose(got, dense.losses, atol=1e-5)
    else:
        assert len(rows) == 4 * round(0.8 * 11)
        assert (np.asarray(got) <= np.asarray(dense.losses) + 1e-5).all(), "fewer negatives"
        assert not (np.asarray(rows) == 1).all(axis=1).any(), "a row of padding was drawn"


@pytest.mark.parametrize(
    ("rate", "classes", "message"),
    [
        (0.0, 40, "rate must be"),
        (1.5, 40, "rate must be"),
        (0.1, 40, "can't hold"),
        (0.5, 15, "lower the rate"),
    ],
)
def test_bad_rates_are_refused(rate, classes, message):
    _, w, y = batch()
    with pytest.raises(ValueError, match=message):
        sample_classes(
            jax.random.key(0), jnp.asarray(y), jnp.asarray(w), rate=rate, num_classes=classes
        )
