"""The layers are Flax's own in value and gradient, on one device and synchronised over several."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from facejax import compilation
from facejax.models import layers


def value(module: nn.Module, variables: Any, x: jax.Array) -> jax.Array:
    result: Any = module.apply(variables, x)
    return result


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(dtype)


@pytest.fixture(params=["tuned", "plain"])
def form(request, monkeypatch):
    """Both forms of every layer, whatever the platform."""
    monkeypatch.setattr(compilation, "tuned_gradients", lambda: request.param == "tuned")
    return request.param


def pair(use_scale=True, prelu=False, axis_name=None):
    """Our layer and Flax's, each with a PReLU behind it or without."""
    ours = layers.BatchNorm(use_scale=use_scale, prelu=prelu, axis_name=axis_name)
    flax = nn.BatchNorm(momentum=0.9, epsilon=1e-5, use_scale=use_scale, axis_name=axis_name)

    def run(variables, x, train=True):
        return ours.apply(variables, x, train=train, mutable=["batch_stats"])

    def flax_run(variables, x, train=True):
        params = dict(variables["params"])
        slope = params.pop("slope", jnp.ones(x.shape[-1])).reshape((1,) * (x.ndim - 1) + (-1,))
        variables = {**variables, "params": params}
        y, updates = flax.apply(
            variables, x, use_running_average=not train, mutable=["batch_stats"]
        )
        return jnp.maximum(y, 0) + slope * jnp.minimum(y, 0), updates

    return run, flax_run


def norm_variables(channels, use_scale=True, prelu=False):
    params = {"bias": jnp.asarray(draw(channels, seed=1))}
    if use_scale:
        params["scale"] = jnp.asarray(draw(channels, seed=2))
    if prelu:
        params["slope"] = jnp.asarray(draw(channels, seed=8))
    stats = {"mean": jnp.asarray(draw(channels, seed=3)), "var": 2 * jnp.ones(channels)}
    return {"params": params, "batch_stats": stats}


def gradients(run, variables, x, cotangent):
    def weighted(params, x):
        y, updates = run({**variables, "params": params}, x)
        return jnp.sum(y * cotangent), updates

    return jax.grad(weighted, (0, 1), has_aux=True)(variables["params"], x)


@pytest.mark.parametrize(("use_scale", "prelu"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (7, 3)])
def test_batch_norm_is_flax(form, shape, use_scale, prelu):
    del form
    ours, flax = pair(use_scale, prelu)
    x, cotangent = jnp.asarray(draw(*shape)), jnp.asarray(draw(*shape, seed=4))
    variables = norm_variables(3, use_scale, prelu)
    for a, b in zip(ours(variables, x), flax(variables, x), strict=True):
        chex.assert_trees_all_close(a, b, atol=2e-5)
    chex.assert_trees_all_close(
        gradients(ours, variables, x, cotangent),
        gradients(flax, variables, x, cotangent),
        atol=1e-4,
    )


@pytest.mark.parametrize("prelu", [True, False])
def test_batch_norm_in_evaluation_is_flax(prelu):
    x, variables = jnp.asarray(draw(6, 5, 4, 3)), norm_variables(3, prelu=prelu)
    ours, flax = (run(variables, x, train=False) for run in pair(prelu=prelu))
    np.testing.assert_allclose(ours[0], flax[0], atol=2e-5)
    chex.assert_trees_all_equal(ours[1]["batch_stats"], variables["batch_stats"])


def test_batch_norm_is_a_loop():
    """Values and the input's gradient once more, from the definition in float64."""
    x, cotangent, variables = draw(9, 2), draw(9, 2, seed=5), norm_variables(2)
    scale, bias = (np.asarray(variables["params"][k], np.float64) for k in ("scale", "bias"))

    def by_hand(x):
        out = np.zeros(x.shape)
        for c in range(2):
            mean = sum(x[:, c]) / len(x)
            variance = sum((v - mean) ** 2 for v in x[:, c]) / len(x)
            out[:, c] = (x[:, c] - mean) / np.sqrt(variance + 1e-5) * scale[c] + bias[c]
        return out

    ours, _ = pair()
    np.testing.assert_allclose(ours(variables, jnp.asarray(x))[0], by_hand(x), atol=1e-5)
    (_, dx), _ = gradients(ours, variables, jnp.asarray(x), jnp.asarray(cotangent))
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-5
        wide = np.asarray(x, np.float64)
        slope = ((by_hand(wide + step) - by_hand(wide - step)) * cotangent).sum() / 2e-5
        np.testing.assert_allclose(dx[index], slope, atol=1e-4)


@pytest.mark.parametrize(("devices", "prelu"), [(4, False), (8, True)])
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_synchronised_batch_norm_is_one_device(form, how, devices, prelu):
    """psum of the devices' parameter gradients, and each one's dx: those of the whole batch."""
    del form
    x, cotangent = draw(16, 3, 3, 2), draw(16, 3, 3, 2, seed=6)
    variables = norm_variables(2, prelu=prelu)
    alone, _ = pair(prelu=prelu)
    (expected_params, expected_dx), expected_stats = gradients(
        alone, variables, jnp.asarray(x), jnp.asarray(cotangent)
    )
    together, _ = pair(prelu=prelu, axis_name="d")

    def body(x, cotangent):
        (params, dx), stats = gradients(together, variables, x, cotangent)
        return lax.psum(params, "d"), dx, stats

    split = [a.reshape(devices, -1, *a.shape[1:]) for a in (x, cotangent)]
    if how == "pmap":
        mapped = jax.pmap(body, "d", out_axes=(None, 0, None), devices=jax.devices()[:devices])
        params, dx, stats = mapped(*split)
        dx = dx.reshape(x.shape)
    else:
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("d",))
        spec = jax.sharding.PartitionSpec
        params, dx, stats = jax.jit(
            jax.shard_map(
                body,
                mesh=mesh,
                in_specs=spec("d"),
                out_specs=(spec(), spec("d"), spec()),
                check_vma=False,
            )
        )(x, cotangent)
    chex.assert_trees_all_close(params, expected_params, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, expected_dx, atol=1e-4)
    chex.assert_trees_all_close(stats, expected_stats, atol=1e-5)


def test_batch_norm_statistics_of_bfloat16_are_float32(form):
    del form
    x = jnp.asarray(draw(64, 8, 8, 3), jnp.bfloat16)
    ours, _ = pair()
    y, updates = ours(norm_variables(3), x)
    assert y.dtype == jnp.bfloat16
    exact, expected = ours(norm_variables(3), x.astype(jnp.float32))
    chex.assert_trees_all_close(updates, expected, atol=1e-6)
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("size", "side", "stride"),
    [(1, 8, 1), (1, 7, 2), (3, 8, 1), (3, 8, 2), (3, 9, 2), (3, 11, 1), (5, 6, 2)],
)
@pytest.mark.parametrize("depthwise", [True, False])
def test_conv_is_flax(form, size, side, stride, depthwise):
    del form
    x = jnp.asarray(draw(3, side, side, 4))
    ours = layers.Conv(4, size=size, stride=stride, depthwise=depthwise)
    flax = nn.Conv(
        4,
        (size, size),
        stride,
        padding=(size - 1) // 2,
        feature_group_count=4 if depthwise else 1,
        use_bias=False,
    )
    variables = ours.init(jax.random.key(0), x)
    chex.assert_trees_all_equal_shapes(variables, flax.init(jax.random.key(0), x))
    y, pull = jax.vjp(lambda v, x: value(ours, v, x), variables, x)
    expected, flax_pull = jax.vjp(lambda v, x: value(flax, v, x), variables, x)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    cotangent = jnp.asarray(draw(*y.shape, seed=7))
    chex.assert_trees_all_close(pull(cotangent), flax_pull(cotangent), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("depthwise", [True, False])
def test_conv_in_bfloat16(form, depthwise):
    del form
    x = jnp.asarray(draw(3, 8, 8, 4))
    low = layers.Conv(4, depthwise=depthwise, dtype=jnp.bfloat16)
    variables = low.init(jax.random.key(0), x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    y = value(low, variables, x)
    assert y.dtype == jnp.bfloat16
    full = value(layers.Conv(4, depthwise=depthwise), variables, x)
    np.testing.assert_allclose(y.astype(jnp.float32), full, atol=0.1)
    slope = jax.grad(lambda v: value(low, v, x).astype(jnp.float32).sum())(variables)
    assert slope["params"]["kernel"].dtype == jnp.float32


def test_dropout_scales_what_it_keeps_row_by_row():
    x, keys = jnp.asarray(draw(5, 40, 50)), jax.random.split(jax.random.key(0), 5)
    y = np.asarray(layers.dropout(x, keys, rate=0.3))
    kept = y != 0
    np.testing.assert_allclose(y[kept], np.asarray(x)[kept] / 0.7, rtol=1e-6)
    assert (np.abs(kept.mean((1, 2)) - 0.7) < 0.05).all()  # 5 standard deviations
    assert all((kept[0] != other).any() for other in kept[1:])
    order = np.array([3, 1])
    np.testing.assert_array_equal(layers.dropout(x[order], keys[order], rate=0.3), y[order])


def test_dropout_of_nothing_needs_no_keys_and_more_does():
    x = jnp.asarray(draw(5, 4))
    assert layers.dropout(x, None, rate=0.0) is x
    with pytest.raises(ValueError, match="one per row, for 5 rows; got none"):
        layers.dropout(x, None, rate=0.1)
    with pytest.raises(ValueError, match=r"for 5 rows; got keys of shape \(4,\)"):
        layers.dropout(x, jax.random.split(jax.random.key(0), 4), rate=0.1)
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\)"):
            layers.dropout(x, None, rate=rate)


def test_prelu_is_a_loop():
    x = draw(5, 3)
    slopes = np.array([0.1, 0.25, 2.0], np.float32)
    got = layers._prelu(jnp.asarray(x), jnp.asarray(slopes))
    for i, j in np.ndindex(x.shape):
        expected = x[i, j] if x[i, j] > 0 else slopes[j] * x[i, j]
        np.testing.assert_allclose(got[i, j], expected, rtol=1e-6)
    fresh = layers.BatchNorm(prelu=True).init(jax.random.key(0), jnp.asarray(x), train=False)
    np.testing.assert_array_equal(fresh["params"]["slope"], np.full(3, 0.25))


def test_eager_is_jit_is_vmap():
    variables = norm_variables(3, prelu=True)
    x = jnp.asarray(draw(2, 4, 5, 5, 3))
    conv = layers.Conv(3, stride=2, depthwise=True)
    kernel = conv.init(jax.random.key(0), x[0])

    def both(x):
        norm = layers.BatchNorm(prelu=True)
        y, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
        return conv.apply(kernel, y)

    slope = jax.grad(lambda x: jnp.sum(jnp.sin(both(x))))
    for function in (both, slope):
        eager = jnp.stack([function(x[0]), function(x[1])])
        for transformed in (jax.jit(jax.vmap(function)), lambda x, f=function: lax.map(f, x)):
            np.testing.assert_allclose(transformed(x), eager, atol=1e-4)
