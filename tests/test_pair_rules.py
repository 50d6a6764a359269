"""What the contract's fine print says of the losses on pairs and proxies, by worked examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.losses import metric, pairs


def test_n_pairs_takes_the_first_row_of_an_identity_and_the_second():
    e = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)
    labels = jnp.array([4, 9, 4, -1, 4, 1, 9, 9])
    losses, back = jax.vjp(lambda e: pairs.n_pairs(e, labels), e)
    (slope,) = back(jnp.ones(8))
    # 4: anchor 0, positive 2; 9: anchor 1, positive 6; 1 has no pair; the rest stands by.
    expected = np.zeros(8)
    for anchor, own, other in ((0, 2, 6), (1, 6, 2)):
        expected[anchor] = np.log1p(np.exp(e[anchor] @ e[other] - e[anchor] @ e[own]))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_array_equal(
        np.any(np.asarray(slope), axis=1), np.isin(range(8), [0, 1, 2, 6])
    )


def test_proxy_nca_leaves_the_own_proxy_out_of_the_denominator():
    e, proxies = jnp.array([[3.0, 0.0]]), jnp.array([[2.0, 0.0], [0.0, 5.0]])
    # d(own) - d(other) = 0 - 2: below 0, which a softmax with its own term never is.
    np.testing.assert_allclose(pairs.proxy_nca(e, proxies, jnp.array([0])), [-2.0], atol=1e-6)


def test_proxy_nca_without_another_proxy_is_zero():
    e, one, y = jnp.array([[3.0, 1.0]]), jnp.array([[2.0, 0.0]]), jnp.array([0])
    losses, back = jax.vjp(lambda e, one: pairs.proxy_nca(e, one, y), e, one)
    np.testing.assert_array_equal(losses, [0.0])
    np.testing.assert_array_equal(back(jnp.ones(1)), np.zeros((2, 1, 2)))


def test_proxy_anchor_is_the_loss_of_the_batch_in_every_real_row():
    random = np.random.default_rng(0)
    y = np.array([3, 0, 3, -1, 0, 5, 3, 2, 5, 0, 1], np.int32)
    real = y >= 0
    e, proxies = (random.normal(size=(n, 5)).astype(np.float32) for n in (len(y), 6))
    got = pairs.proxy_anchor(*map(jnp.asarray, (e, proxies, y)))
    np.testing.assert_array_equal(got[real], got[0])
    assert got[3] == 0
    # Proxy 4 has no row: it is pushed, and does not count where the positives are averaged.
    cosines = (e / np.linalg.norm(e, axis=1, keepdims=True)) @ (
        proxies / np.linalg.norm(proxies, axis=1, keepdims=True)
    ).T
    pull, push = [], []
    for p in range(6):
        own, others = cosines[y == p, p], cosines[(y != p) & real, p]
        pull += [np.log1p(np.exp(-32 * (own - 0.1)).sum())] if len(own) else []
        push += [np.log1p(np.exp(32 * (others + 0.1)).sum())]
    assert len(pull) == 5
    np.testing.assert_allclose(got[0], np.mean(pull) + np.mean(push), rtol=1e-5)


def test_multi_similarity_mines_strictly_and_by_the_other_kind():
    # Cosines with the anchor: positives 1 and 0, negatives 1 and -1.
    e = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [1.0, 0.0], [-1.0, 0.0]])
    y = jnp.array([0, 0, 0, 1, 2])
    close = np.log1p(np.exp(-2 * 0.5)) / 2
    far = np.log1p(np.exp(-2 * 0.5) + np.exp(-2 * -0.5)) / 2
    negative = np.log1p(np.exp(50 * 0.5)) / 50
    both = np.log1p(np.exp(50 * 0.5) + np.exp(50 * -1.5)) / 50
    only_far = np.log1p(np.exp(-2 * -0.5)) / 2
    for epsilon, expected in {
        0.0: only_far + negative,  # s_p = 1 < 1 does not hold
        0.5: far + negative,
        1.0: far + negative,  # s_n = -1 > 0 - 1 does not hold
        1.5: far + both,
    }.items():
        got = pairs.multi_similarity(e, y, epsilon=epsilon)[0]
        np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=str(epsilon))
    assert close < far


def test_supcon_averages_over_positives_outside_the_log():
    e, y = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]), jnp.array([0, 0, 0, 1])
    total = np.exp(10.0) + 1 + np.exp(-10.0)  # the anchor itself is not in it, its positives are
    expected = -(np.log(np.exp(10.0) / total) + np.log(1 / total)) / 2
    np.testing.assert_allclose(pairs.supcon(e, y)[0], expected, rtol=1e-6)
    assert pairs.supcon(e, y)[3] == 0, "no positive"


def test_lifted_structure_is_half_the_mean_over_positives_of_unsquared_distances():
    # The anchor's positives lie at D = 0 and 2, the negative at sqrt 2 from all three.
    e, y = jnp.array([[1.0, 0.0], [2.0, 0.0], [-3.0, 0.0], [0.0, 1.0]]), jnp.array([7, 7, 7, 8])
    both_ends = 1 - np.sqrt(2) + np.log(2)
    expected = 0.5 * (both_ends**2 + (both_ends + 2) ** 2) / 2
    np.testing.assert_allclose(pairs.lifted_structure(e, y)[0], expected, rtol=1e-6)
    # Without a negative at either end there is nothing to lift.
    np.testing.assert_array_equal(pairs.lifted_structure(e[:3], y[:3]), 0)


def test_rows_that_coincide_have_no_direction_in_lifted_structure():
    """Also where the two unit vectors differ by a rounding, whose direction would be noise."""
    x, z = jax.random.normal(jax.random.key(0), (2, 64, 5))

    def own_loss(rows):
        return pairs.lifted_structure(rows, jnp.array([0, 0, 1]))[0]

    slope = jax.jit(jax.vmap(jax.grad(own_loss)))(jnp.stack([x, 3 * x, z], axis=1))
    # Rows 0 and 1 feel the negative alone, which is the same for both.
    np.testing.assert_allclose(slope[:, 0], 3 * slope[:, 1], atol=1e-5)


def test_what_is_no_batch_is_refused():
    e, y = jnp.ones((3, 4)), jnp.array([0, 0, 1])
    for function in (pairs.supcon, pairs.n_pairs, pairs.lifted_structure, metric.batch_triplet):
        with pytest.raises(AssertionError, match="rank"):
            function(e, y[:, None])
        with pytest.raises(AssertionError, match="prefix"):
            function(e, y[:-1])
    with pytest.raises(AssertionError, match="suffix"):
        pairs.proxy_nca(e, e[:, :-1], y)
