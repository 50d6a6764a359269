"""The fused update: weights and momentum as after the gradient and SGD, without the gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facejax import losses
from facejax.losses import Classes, FusedSGD, margins
from tests.cases import ONE_A_LOSS, batch, on_device, ours
from tests.devices import AXIS, WAYS, padded, spread

RATES = {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.01}


def by_optax(gradient, weights, trace):
    """What the trainer's optimizer makes of the gradient."""
    tx = optax.chain(
        optax.add_decayed_weights(RATES["weight_decay"]),
        optax.sgd(RATES["learning_rate"], RATES["momentum"]),
    )
    state = optax.tree_utils.tree_set(tx.init(weights), trace=trace)
    updates, state = tx.update(gradient, state, weights)
    return optax.apply_updates(weights, updates), optax.tree_utils.tree_get(state, "trace")


def momentum_like(weights):
    return np.random.default_rng(5).normal(size=weights.shape).astype(weights.dtype)


def close(got, want, relative=1e-6):
    bound = relative * max(1e-3, float(np.abs(want).max()))
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), atol=bound)


@pytest.mark.parametrize("name", ONE_A_LOSS.values())
def test_every_loss_updates_as_optax_does(name):
    """Nine classes in blocks of four: rows of the last block lie in the one before too."""
    with jax.enable_x64(True):
        e, w, y, *extra = on_device(batch(name, 3, norm=(0.5, 20.0), dtype=np.float64))
        trace = jnp.asarray(momentum_like(w))
        cotangent = jnp.asarray(np.random.default_rng(1).normal(size=len(y)))
        call = functools.partial(ours(name), classes=Classes(4))

        def total(e, w):
            return jnp.vdot(cotangent, call(e, w, y, *extra)[0])

        d_embeddings, d_weights = jax.jit(jax.grad(total, (0, 1)))(e, w)
        rates = {key: jnp.float64(value) for key, value in RATES.items()}
        fused = FusedSGD(w, trace, **rates)
        got_embeddings, got = jax.jit(jax.grad(total, (0, 1)))(e, fused)
        close(got_embeddings, d_embeddings, 1e-12)
        for new, want in zip(got[:2], by_optax(d_weights, w, trace), strict=True):
            close(new, want, 1e-12)
        assert not any(np.any(rest) for rest in got[2:])


@pytest.mark.parametrize("how", WAYS)
def test_slices_are_updated_where_they_are(how):
    e, w, y = batch("cosface", 3, rows=16, classes=13)
    trace = momentum_like(w)
    given = padded(w, 4), padded(trace, 4)

    def body(e, w, trace, y):
        def mean(fused):
            layout = Classes(3, AXIS, 13)
            return losses.cosface(e, fused, y, scale=8.0, classes=layout).sum() / 16

        return jax.grad(mean)(FusedSGD(w, trace, **RATES))[:2]

    run = spread(body, 4, how, split=(True,) * 4, split_out=True)
    got = run(*on_device((e, *given, y)))
    real = jnp.asarray(e), jnp.asarray(w), jnp.asarray(y)
    gradient = jax.grad(lambda w: losses.cosface(real[0], w, real[2], scale=8.0).mean())(real[1])
    for new, before, want in zip(got, given, by_optax(gradient, w, trace), strict=True):
        close(new[:13], want, 1e-5)
        np.testing.assert_array_equal(new[13:], before[13:])  # padding is left alone


def test_no_second_array_of_the_classes_exists():
    """With the weights and the momentum donated, temporaries follow the block."""
    e, y = jax.ShapeDtypeStruct((32, 64), jnp.float32), jax.ShapeDtypeStruct((32,), jnp.int32)
    w = jax.ShapeDtypeStruct((10_001, 64), jnp.float32)

    def step(e, w, trace, y):
        def mean(fused):
            return losses.arcface(e, fused, y, classes=Classes(500)).mean()

        loss, new = jax.value_and_grad(mean)(FusedSGD(w, trace, **RATES))
        return loss, new.weights, new.trace

    memory = jax.jit(step, donate_argnums=(1, 2)).lower(e, w, w, y).compile().memory_analysis()
    one = 10_001 * 64 * 4
    assert memory.alias_size_in_bytes >= 2 * one
    assert memory.temp_size_in_bytes < one / 4


def test_low_precision_weights_keep_a_full_momentum():
    e, w, y = on_device(batch("cosface", 3))
    low = w.astype(jnp.bfloat16)

    def mean(fused):
        return losses.cosface(e, fused, y, classes=Classes(4)).mean()

    got = jax.grad(mean)(FusedSGD(low, jnp.zeros_like(w), **RATES))
    assert got.weights.dtype == jnp.bfloat16
    assert got.trace.dtype == jnp.float32
    want = by_optax(jax.grad(mean)(low.astype(jnp.float32)), low.astype(jnp.float32), 0 * w)
    close(got.trace, want[1], 1e-2)
    close(got.weights.astype(jnp.float32), want[0], 1e-2)


def test_products_may_be_rounded_block_by_block():
    """As if the weights had been rounded before, but their gradient is float32."""
    e, w, y = on_device(batch("normface", 3, dim=16))
    rule = margins.normface(scale=8.0)

    def gradients(e, w, **layout):
        def mean(e, w):
            return losses.margin_rows(e, w, y, rule, **layout).losses.mean()

        return jax.grad(mean, (0, 1))(e, w)

    low = gradients(e.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
    for classes in (Classes(), Classes(4)):
        rounded = gradients(e, w, classes=classes, dtype=jnp.bfloat16)
        for got, want in zip(rounded, low, strict=True):
            assert got.dtype == jnp.float32
            close(got, want.astype(jnp.float32), 2e-2)


def test_a_fused_update_without_blocks_is_refused():
    e, w, y = on_device(batch("cosface", 3))
    fused = FusedSGD(w, jnp.zeros_like(w), **RATES)
    with pytest.raises(ValueError, match="block_size"):
        losses.cosface(e, fused, y)
