"""Row-sparse SGD against a plain loop, and against optax where every row is given."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import tree_utils

from facejax.training.row_sgd import RowUpdates, apply_rows, row_sgd

RATE, MOMENTUM, DECAY = 0.2, 0.8, 0.05


def params():
    random = np.random.default_rng(0)
    tree = {"weights": random.normal(size=(9, 3)), "bias": random.normal(size=9)}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def samples(steps=6, size=4):
    random = np.random.default_rng(1)
    for _ in range(steps):
        index = np.sort(random.choice(9, size, replace=False)).astype(np.int32)
        values = {"weights": random.normal(size=(size, 3)), "bias": random.normal(size=size)}
        yield index, jax.tree.map(np.float32, values)


def run(**options):
    tx = row_sgd(RATE, momentum=MOMENTUM, weight_decay=DECAY, **options)
    tree = params()
    state = tx.init(tree)
    step = jax.jit(lambda updates, state, tree: tx.update(updates, state, tree))
    for index, values in samples():
        updates, state = step(RowUpdates(jnp.asarray(index), values), state, tree)
        tree = apply_rows(tree, updates)
    return tree, state


@pytest.mark.parametrize("lazy_decay", [False, True])
def test_it_is_the_loop(lazy_decay):
    got, state = run(lazy_decay=lazy_decay)
    want = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params())
    trace = jax.tree.map(np.zeros_like, want)
    last = np.zeros(9, int)
    for count, (index, values) in enumerate(samples()):
        for place, row in enumerate(index):
            for name, decays in (("weights", True), ("bias", False)):
                param, gradient = want[name][row], np.float64(values[name][place])
                if decays:
                    if lazy_decay:
                        owed = count - last[row]
                        param = param * (1 - RATE * DECAY / (1 - MOMENTUM)) ** owed
                    gradient = gradient + DECAY * param
                trace[name][row] = gradient + MOMENTUM * trace[name][row]
                want[name][row] = param - RATE * trace[name][row]
            last[row] = count + 1
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-6)
        np.testing.assert_allclose(state.trace[name], trace[name], atol=1e-6)
    assert state.step == 6
    if lazy_decay:
        np.testing.assert_array_equal(state.last, last)
    else:
        assert state.last is None


def test_untouched_rows_stay_the_same_to_the_bit():
    tx = row_sgd(RATE, momentum=MOMENTUM, weight_decay=DECAY)
    tree, state = run()
    index, values = next(samples(1))
    updates, after = tx.update(RowUpdates(jnp.asarray(index), values), state, tree)
    others = np.setdiff1d(np.arange(9), index)
    moved = apply_rows(tree, updates)
    for name in tree:
        for new, old in ((moved, tree), (after.trace, state.trace)):
            np.testing.assert_array_equal(new[name][others], old[name][others])
            assert np.all(new[name][index] != old[name][index])


def test_with_every_row_it_is_optax():
    tree = params()
    rate = optax.linear_schedule(0.1, 0.5, 3)
    rows = row_sgd(rate, momentum=MOMENTUM, weight_decay=DECAY)
    dense = optax.chain(
        optax.add_decayed_weights(DECAY, lambda p: jax.tree.map(lambda leaf: leaf.ndim > 1, p)),
        optax.sgd(rate, MOMENTUM),
    )
    row_state, state, other = rows.init(tree), dense.init(tree), tree
    for seed in range(3):
        random = np.random.default_rng(seed)
        gradient = jax.tree.map(lambda p: jnp.float32(random.normal(size=p.shape)), tree)  # noqa: B023
        updates, row_state = rows.update(
            RowUpdates(jnp.arange(9, dtype=jnp.int32), gradient), row_state, tree
        )
        tree = apply_rows(tree, updates)
        updates, state = dense.update(gradient, state, other)
        other = optax.apply_updates(other, updates)
    trace = tree_utils.tree_get(state, "trace")
    for name in tree:
        np.testing.assert_allclose(tree[name], other[name], atol=1e-6)
        np.testing.assert_allclose(row_state.trace[name], trace[name], atol=1e-6)
