"""Losses on distances against float64 loops, and their fine print."""

import functools
import inspect
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from facejax.losses import metric
from tests import reference, reference_pairs

SAME = np.array([1, 0, -1, 1, 2, 0, 0, 1], np.int32)
# name: (loss, keywords, how many [N, D] arrays, what comes after)
CASES: dict[str, tuple[str, dict[str, Any], int, tuple]] = {
    "contrastive_l2": ("contrastive", {"margin": 2.5}, 2, (SAME,)),
    "contrastive_l1": ("contrastive", {"margin": 6.0, "distance": "l1"}, 2, (SAME,)),
    "contrastive_cosine": ("contrastive_cosine", {}, 2, (SAME, 1.7, -0.4)),
    "triplet": ("triplet", {}, 3, ()),
    "triplet_wide": ("triplet", {"margin": 1.5}, 3, ()),
    "center": ("center", {}, 1, (np.array([2, 0, 2, -1, 1, 0, 2, 2]), np.ones((4, 5)))),
}
each_case = pytest.mark.parametrize("name", CASES)


def batch(name, seed=0, norm: tuple[float, float] = (0.5, 3.0), dtype=np.float32):
    """The arguments of a loss: rows near to each other and far, norms over decades."""
    _, _, count, rest = CASES[name]
    random = np.random.default_rng(seed)
    shared = random.normal(size=(8, 5))
    lengths = np.geomspace(*norm, 8)[:, None]
    rows = [shared + random.normal(size=(8, 5)) for _ in range(count)]
    rows = [lengths * x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows]
    return typed((*rows, *rest), dtype)


def typed(arrays, dtype):
    """Embeddings, centres and scalars in dtype, labels as they are."""
    arrays = [np.asarray(a) for a in arrays]
    return tuple(a if np.issubdtype(a.dtype, np.integer) else a.astype(dtype) for a in arrays)


def on_device(arrays):
    return tuple(map(jnp.asarray, arrays))


def ours(name):
    return functools.partial(getattr(metric, CASES[name][0]), **CASES[name][1])


def theirs(name):
    return functools.partial(getattr(reference_pairs, CASES[name][0]), **CASES[name][1])


def trained(name, arrays):
    """Which arguments have a gradient: the embeddings, and DeepID2's weight and bias."""
    count = CASES[name][2]
    return tuple(i for i, a in enumerate(arrays) if i < count or np.ndim(a) == 0)


@functools.cache
def compiled(name):
    """(arguments, cotangent) -> (losses, gradients)."""

    def run(arrays, cotangent):
        learned = trained(name, arrays)

        def loss(*values):
            filled = list(arrays)
            for i, value in zip(learned, values, strict=True):
                filled[i] = value
            return ours(name)(*filled)

        losses, back = jax.vjp(loss, *(arrays[i] for i in learned))
        return losses, back(cotangent.astype(losses.dtype))

    return jax.jit(run)


def assert_close(got, expected, relative=1e-5):
    bound = relative * max(float(np.nanmax(np.abs(expected))), 1e-30)
    np.testing.assert_allclose(got, expected, atol=bound, rtol=0)


@each_case
def test_float64_values_and_gradients(name):
    inputs = batch(name, dtype=np.float64)
    cotangent = np.random.default_rng(1).normal(size=8)
    with jax.enable_x64(True):
        losses, slopes = compiled(name)(on_device(inputs), jnp.asarray(cotangent))
        assert losses.dtype == jnp.float64
    expected = theirs(name)(*inputs)
    assert expected.any()
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-9)
    for i, slope in zip(trained(name, inputs), slopes, strict=True):
        expected = reference.central_differences(
            lambda a, i=i: theirs(name)(*inputs[:i], a, *inputs[i + 1 :]) @ cotangent, inputs[i]
        )
        assert expected.any()
        assert_close(slope, expected, 1e-6)


@each_case
def test_float32_and_bfloat16_are_float64_on_the_same_numbers(name):
    for norm, dtype in (((0.01, 200.0), jnp.float32), ((0.5, 20.0), jnp.bfloat16)):
        inputs = batch(name, 2, norm, dtype)
        losses, slopes = compiled(name)(on_device(inputs), jnp.ones(8))
        assert losses.dtype == jnp.float32
        assert_close(losses, theirs(name)(*typed(inputs, np.float64)))
        with jax.enable_x64(True):
            exact = compiled(name)(on_device(typed(inputs, np.float64)), jnp.ones(8))[1]
        for a, b in zip(slopes, exact, strict=True):
            assert a.dtype == dtype
            assert_close(np.asarray(a, np.float64), b, 1e-5 if dtype == jnp.float32 else 0.01)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@each_case
def test_hostile_rows_are_finite(name, dtype):
    x = np.random.default_rng(3).normal(size=5)
    rows = np.array([x, x, -x, 0 * x, 0 * x, 200 * x, 0.01 * x, x])
    count, rest = CASES[name][2:]
    inputs = (rows, rows[[0, 2, 1, 0, 4, 5, 7, 7]], rows[[1, 1, 2, 4, 4, 2, 6, 0]])[:count]
    inputs = typed((*inputs, *rest), dtype)
    losses, slopes = compiled(name)(on_device(inputs), jnp.ones(8))
    chex.assert_tree_all_finite((losses, slopes))
    assert_close(losses, theirs(name)(*typed(inputs, np.float64)))


class Variants(chex.TestCase):
    """The same values with and without jit."""

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*CASES)
    def test_values(self, name):
        got = self.variant(ours(name))(*on_device(batch(name)))
        chex.assert_shape(got, (8,))
        assert_close(got, theirs(name)(*batch(name, dtype=np.float64)))


@each_case
def test_vmap_is_one_by_one(name):
    batches = [on_device(batch(name, seed)) for seed in range(3)]
    run = functools.partial(compiled(name), cotangent=jnp.ones(8))
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    jax.tree.map(assert_close, jax.vmap(run)(stack(*batches)), stack(*map(run, batches)))


def test_unknown_choices_are_refused():
    x, y = jnp.ones((2, 3)), jnp.array([0, 1])
    with pytest.raises(ValueError, match="distance must be one of l2, l1, got 'cosine'"):
        metric.contrastive(x, x, y, distance="cosine")
    with pytest.raises(ValueError, match="mining must be one of semihard, hard, all, got 'easy'"):
        metric.batch_triplet(x, y, mining="easy")
    with pytest.raises(AssertionError, match="shape"):
        metric.triplet(x, x, x[:1])


@pytest.mark.parametrize("dtype", [bool, jnp.int32, jnp.int8, jnp.float32, jnp.bfloat16])
def test_contrastive_same_may_be_of_any_type(dtype):
    a, b = jnp.array([[3.0, 4.0], [0.3, 0.4]]), jnp.zeros((2, 2))
    np.testing.assert_allclose(
        metric.contrastive(a, b, jnp.array([1, 0], dtype)), [12.5, 0.125], rtol=1e-6
    )
    if dtype is not bool:  # anything above 0, nothing else
        got = metric.contrastive(a, b, jnp.array([7, -1], dtype))
        np.testing.assert_allclose(got, [12.5, 0.125], rtol=1e-6)


@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_contrastive_at_distance_zero_has_no_gradient(distance):
    a = jnp.array([[3.0, 4.0]])
    loss = functools.partial(metric.contrastive, same=jnp.array([0]), distance=distance)
    np.testing.assert_array_equal(loss(a, a), [0.5])
    np.testing.assert_array_equal(jax.grad(lambda a, b: loss(a, b).sum())(a, a), [[0.0, 0.0]])


def test_margins_may_be_traced_and_trained():
    a, b = jnp.array([[0.3, 0.4]]), jnp.zeros((1, 2))
    slope = jax.jit(jax.grad(lambda m: metric.contrastive(a, b, jnp.array([0]), margin=m).sum()))(
        jnp.float32(1.0)
    )
    np.testing.assert_allclose(slope, 0.5, rtol=1e-6)
    p, n = jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]])
    slope = jax.grad(lambda m: metric.triplet(a, p, n, margin=m).sum())(jnp.float32(0.5))
    assert slope == 1


# Unit vectors whose squared distances are 0, 2 and 4 exactly.
EAST, NORTH, UP, WEST = np.eye(3)[0], np.eye(3)[1], np.eye(3)[2], -np.eye(3)[0]


def mined(rows, labels, **keywords):
    """(sums, counts) of the first row's triplets."""
    sums, counts = metric.batch_triplet(
        jnp.asarray(np.array(rows), jnp.float32), jnp.array(labels), **keywords
    )
    return float(sums[0]), int(counts[0])


def test_the_semihard_window_is_open_at_both_ends():
    # d_ap = 2, d_an = 2
    tie = functools.partial(mined, [EAST, NORTH, UP], [0, 0, 1])
    assert tie(margin=0.5) == (0.0, 0)
    assert tie(margin=0.5, mining="hard") == (0.5, 1)
    # d_ap = 2, d_an = 4
    wide = functools.partial(mined, [EAST, NORTH, WEST], [0, 0, 1])
    assert wide(margin=2.0) == (0.0, 0)
    assert wide(margin=2.5) == (0.5, 1)
    assert wide(margin=2.5, mining="hard") == (0.0, 0)


def test_hard_is_every_triplet_with_the_negative_no_farther():
    # d_ap = 4 and 2; d_an = 2, 2, 0 and 4
    rows = [EAST, WEST, NORTH, UP, UP, EAST, WEST]
    sums, counts = mined(rows, [0, 0, 0, 1, 2, 2, 1], margin=0.25, mining="hard")
    assert counts == 4 + 3
    assert sums == (2 + 2 + 4 + 0) + (0 + 0 + 2) + 7 * 0.25


def test_counts_take_in_triplets_of_zero_loss():
    assert mined([EAST, NORTH, WEST], [0, 0, 1], margin=0.2, mining="all") == (0.0, 1)


@pytest.mark.parametrize("mining", metric.MININGS)
def test_counts_are_those_of_the_loop(mining):
    random = np.random.default_rng(4)
    e, y = random.normal(size=(12, 3)), np.array([0, 1, 2, 0, 1, 2, 0, 1, -1, 0, 3, -2])
    with jax.enable_x64(True):
        sums, counts = metric.batch_triplet(jnp.asarray(e), jnp.asarray(y), mining=mining)
        assert (sums.dtype, counts.dtype) == (jnp.float64, jnp.int32)
    expected = reference_pairs.batch_triplet(e, y, mining=mining)
    np.testing.assert_allclose(sums, expected[0], rtol=1e-9)
    np.testing.assert_array_equal(counts, expected[1])
    assert expected[1].sum() > 3
    assert np.isnan(sums[11])


def test_center_labels_and_what_has_no_gradient():
    e, centers = jnp.ones((4, 2)).at[1].set(jnp.nan), jnp.zeros((3, 2))
    labels = jnp.array([2, -1, 3, -2])
    np.testing.assert_array_equal(metric.center(e, labels, centers), [1.0, 0.0, np.nan, np.nan])

    def total(e, centers):
        return jnp.nansum(metric.center(e, labels, centers))

    d_e, d_centers = jax.grad(total, (0, 1))(e, centers)
    np.testing.assert_array_equal(d_e, [[1, 1], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(d_centers, 0)

    def moved(e, centers):
        return metric.update_centers(e, labels, centers).sum()

    chex.assert_trees_all_equal(
        jax.grad(moved, (0, 1))(e, centers), (jnp.zeros_like(e), jnp.zeros_like(centers))
    )


def test_centers_move_by_the_rule():
    random = np.random.default_rng(5)
    e, centers = random.normal(size=(9, 4)), random.normal(size=(6, 4))
    labels = np.array([0, 3, 3, -1, 5, 3, 6, -7, 0])
    with jax.enable_x64(True):
        got = metric.update_centers(*on_device((e, labels, centers)), rate=0.7)
    expected = reference_pairs.update_centers(e, labels, centers, rate=0.7)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    # A single row moves its centre by rate / 2 of the way.
    np.testing.assert_allclose(got[5], centers[5] + 0.35 * (e[4] - centers[5]), rtol=1e-12)
    # Without a real row, nothing moves.
    nothing = metric.update_centers(jnp.full((2, 4), jnp.nan), jnp.full(2, -1), jnp.ones((6, 4)))
    np.testing.assert_array_equal(nothing, 1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_centers_of_absent_identities_stay_to_the_bit(dtype):
    centers = jax.random.normal(jax.random.key(0), (5, 4), dtype).at[0, 0].set(-0.0)
    e = jnp.full((4, 4), 2.0).at[3].set(jnp.nan)
    got = jax.jit(metric.update_centers)(e, jnp.array([1, 3, 1, -1]), centers)
    assert got.dtype == dtype
    bits = np.dtype(f"uint{8 * dtype.dtype.itemsize}")
    absent = np.array([0, 2, 4])
    np.testing.assert_array_equal(
        np.asarray(got)[absent].view(bits), np.asarray(centers)[absent].view(bits)
    )
    assert (got[1] != centers[1]).all()


def test_defaults_are_those_of_the_contract():
    for name in ("contrastive", "contrastive_cosine", "triplet", "center", "update_centers"):
        got, expected = (
            {
                p.name: (p.kind, p.default)
                for p in inspect.signature(getattr(module, name)).parameters.values()
            }
            for module in (metric, reference_pairs)
        )
        assert got == expected, name
