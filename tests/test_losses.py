"""The losses against float64 loops: values, gradients, hostile rows, transformations."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

import facejax.losses as losses
from facejax.losses import margins
from tests import reference

RULES = ("plain", "linear", "easy", "saturate")
CASES = {
    "softmax": ("softmax", {}),
    "normface": ("normface", {"scale": 30.0}),
    "cosface": ("cosface", {"scale": 64.0, "margin": 0.35}),
    "amsoftmax": ("cosface", {"scale": 30.0, "margin": 0.2}),
    **{f"arcface_{rule}": ("arcface", {"margin": 0.5, "beyond_pi": rule}) for rule in RULES},
    "arcface_wide": ("arcface", {"scale": 256.0, "margin": 1.2, "beyond_pi": "linear"}),
}
each_case = pytest.mark.parametrize("case", CASES)


def functions(case):
    name, keywords = CASES[case]
    ours = functools.partial(getattr(losses, name), **keywords)
    return ours, functools.partial(getattr(reference, name), **keywords)


def batch(seed=0, rows=7, dim=5, classes=9, norm=(0.01, 200.0), dtype=np.float32):
    """Norms over four decades, every other row pushed to or away from its class, one padding."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(classes, dim))
    labels = random.integers(0, classes, rows).astype(np.int32)
    embeddings = random.normal(size=(rows, dim))
    pull = np.array([0.0, 1.5, -1.5, 3.0, -3.0])[np.arange(rows) % 5]
    embeddings += pull[:, None] * weights[labels]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings *= np.geomspace(*norm, rows)[:, None]
    if rows > 2:
        labels[2] = -1
    return embeddings.astype(dtype), weights.astype(dtype), labels


def hostile(dtype=np.float32):
    """On the class weight, opposite it, at zero, with a zero class; every label and padding."""
    _, weights, _ = batch(3, dtype=dtype)
    weights[7] = 0
    embeddings = np.stack(
        [
            weights[0],
            -weights[1],
            3 * weights[2],
            0 * weights[3],
            weights[4],
            weights[5],
            weights[6],
        ]
    )
    labels = np.array([0, 1, 2, 3, 7, -1, 0], np.int32)
    return embeddings.astype(dtype), weights, labels


def tolerance(expected, largest_logit):
    """DESIGN's float32 bound: relative to the largest magnitude, and to the rounding of a logit."""
    return max(1e-5, 2e-7 * largest_logit) * max(1.0, float(np.nanmax(np.abs(expected))))


@each_case
def test_float64_values_are_the_formula(case):
    ours, theirs = functions(case)
    with jax.enable_x64(True):
        inputs = batch(dtype=np.float64)
        values = ours(*map(jnp.asarray, inputs))
        assert values.dtype == jnp.float64
    np.testing.assert_allclose(values, theirs(*inputs), rtol=1e-9, atol=1e-9)


@each_case
def test_float64_gradients_are_central_differences(case):
    ours, theirs = functions(case)
    # Norms near 1, where a central difference in float64 is good to 1e-6.
    embeddings, weights, labels = batch(1, norm=(0.5, 3.0), dtype=np.float64)
    cotangent = np.random.default_rng(2).normal(size=len(labels))
    with jax.enable_x64(True):
        by_rule = jax.grad(lambda e, w: ours(e, w, jnp.asarray(labels)) @ cotangent, (0, 1))
        d_embeddings, d_weights = by_rule(jnp.asarray(embeddings), jnp.asarray(weights))
    expected_e = reference.central_differences(
        lambda e: theirs(e, weights, labels) @ cotangent, embeddings
    )
    expected_w = reference.central_differences(
        lambda w: theirs(embeddings, w, labels) @ cotangent, weights
    )
    np.testing.assert_allclose(d_embeddings, expected_e, atol=1e-6 * np.abs(expected_e).max())
    np.testing.assert_allclose(d_weights, expected_w, atol=1e-6 * np.abs(expected_w).max())
    assert not d_embeddings[2].any(), "a padding row has a gradient"


@each_case
def test_float32_values_and_gradients_are_the_float64_ones(case):
    ours, theirs = functions(case)
    inputs = batch(4)
    expected = theirs(*inputs)
    largest = 256.0 if "wide" in case else 64.0
    values = ours(*map(jnp.asarray, inputs))
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, expected, atol=tolerance(expected, largest))
    gradient = jax.grad(lambda e, w, y: ours(e, w, y).sum(), (0, 1))
    single = gradient(*map(jnp.asarray, inputs))
    with jax.enable_x64(True):
        e, w, y = inputs
        double = gradient(jnp.asarray(e, jnp.float64), jnp.asarray(w, jnp.float64), jnp.asarray(y))
    for got, want in zip(single, double, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@each_case
def test_hostile_rows_are_finite(case, dtype):
    ours, theirs = functions(case)
    e, w, y = hostile()
    arrays = jnp.asarray(e, dtype), jnp.asarray(w, dtype), jnp.asarray(y)
    values = ours(*arrays)
    gradients = jax.grad(lambda e, w: ours(e, w, arrays[2]).sum(), (0, 1))(*arrays[:2])
    chex.assert_tree_all_finite((values, gradients))
    assert values.dtype == jnp.float32
    assert [g.dtype for g in gradients] == [dtype, dtype]
    exact = theirs(np.asarray(arrays[0], np.float64), np.asarray(arrays[1], np.float64), y)
    # sqrt(1 - c^2) turns a rounding of 1e-7 in the cosine into one of 4e-4 at c = 1.
    np.testing.assert_allclose(values, exact, atol=0.1, rtol=1e-3)


@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (1, 2), (3, 1)])
@each_case
def test_one_row_and_one_class(case, rows, classes):
    ours, theirs = functions(case)
    inputs = batch(5, rows=rows, classes=classes)
    arrays = [jnp.asarray(a) for a in inputs]
    expected = theirs(*inputs)
    np.testing.assert_allclose(ours(*arrays), expected, atol=tolerance(expected, 256))
    chex.assert_tree_all_finite(
        jax.grad(lambda e, w: ours(e, w, arrays[2]).sum(), (0, 1))(*arrays[:2])
    )


@each_case
def test_padding_and_unknown_labels(case):
    ours, _ = functions(case)
    e, w, y = (jnp.asarray(a) for a in batch(6))
    kept = np.array([0, 1, 3, 4, 5, 6])
    np.testing.assert_array_equal(ours(e, w, y)[kept], ours(e[kept], w, y[kept]))
    poisoned = e.at[2].set(jnp.nan)
    gradients = jax.grad(lambda e, w: ours(e, w, y).sum(), (0, 1))(poisoned, w)
    chex.assert_tree_all_finite(gradients)
    unknown = ours(e, w, y.at[0].set(w.shape[0]).at[1].set(-2))
    assert np.isnan(unknown[:2]).all()
    assert np.isfinite(unknown[2:]).all()


@each_case
def test_eager_is_jit_is_vmap(case):
    ours, _ = functions(case)
    batches = [batch(seed) for seed in range(3)]
    stacks = [jnp.stack(arrays) for arrays in zip(*batches, strict=True)]
    eager = jnp.stack([ours(*(stack[i] for stack in stacks)) for i in range(3)])
    for transformed in (jax.jit(jax.vmap(ours)), jax.vmap(ours), jax.vmap(jax.jit(ours))):
        np.testing.assert_allclose(transformed(*stacks), eager, rtol=1e-5, atol=1e-5)


def test_straight_through_has_the_values_of_exact_and_a_gradient_of_scale():
    e, w, y = (jnp.asarray(a) for a in batch(7))
    exact, straight = (
        functools.partial(losses.arcface, beyond_pi="plain", gradient=g)
        for g in ("exact", "straight_through")
    )
    np.testing.assert_allclose(exact(e, w, y), straight(e, w, y), atol=2e-5)

    target = jnp.arange(w.shape[0])[None, :] == y[:, None]

    def definition(e, w):
        """Its gradient is the cross-entropy's over the logits, times scale d cos for every j."""
        unit = [v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (e, w)]
        cosines = unit[0] @ unit[1].T
        theta = jnp.arccos(jnp.clip(cosines, -1, 1))
        logits = 64.0 * jnp.where(target, jnp.cos(theta + 0.5), cosines)
        slope = jnp.where((y >= 0)[:, None], jax.nn.softmax(logits, axis=1), 0)
        slope -= jnp.where(target, 1, 0).astype(slope.dtype)
        return jnp.sum(jax.lax.stop_gradient(slope) * 64.0 * cosines)

    expected = jax.grad(definition, (0, 1))(e, w)
    got = jax.grad(lambda e, w: straight(e, w, y).sum(), (0, 1))(e, w)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(b).max()))


def test_softmax_bias():
    e, w, y = batch(8, norm=(0.5, 3.0))
    bias = np.random.default_rng(0).normal(size=len(w)).astype(np.float32)
    expected = reference.softmax(e, w, y, bias=bias)
    got = losses.softmax(*map(jnp.asarray, (e, w, y)), bias=jnp.asarray(bias))
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_hyperparameters_may_be_traced():
    e, w, y = (jnp.asarray(a) for a in batch(9))
    slope = jax.jit(jax.grad(lambda s: losses.normface(e, w, y, scale=s).sum()))(jnp.float32(30))
    up, down = (reference.normface(*batch(9), scale=s).sum() for s in (30.001, 29.999))
    np.testing.assert_allclose(slope, (up - down) / 0.002, rtol=1e-3)


def test_a_margin_of_ones_own():
    """The engine takes any pair of functions; `context` reaches both."""
    e, w, y = batch(10)
    extra = np.linspace(0.0, 0.3, len(y)).astype(np.float32)
    mine = losses.Margin(
        target=lambda s, context: 20 * (s - context.extra),
        negative=lambda s, context: 20 * s + 0 * context.target[:, None],
    )
    got = losses.margin_softmax(*map(jnp.asarray, (e, w, y)), mine, context=jnp.asarray(extra))
    expected = [
        reference.cosface(e[i : i + 1], w, y[i : i + 1], scale=20.0, margin=float(extra[i]))[0]
        for i in range(len(y))
    ]
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_rows_tell_target_and_hardest_similarity():
    e, w, y = batch(11)
    rows = losses.margin_rows(*map(jnp.asarray, (e, w, y)), margins.normface(scale=30.0))
    for i in np.flatnonzero(y >= 0):
        cosines = [reference._cosine(e[i], row) for row in w]
        others = [c for j, c in enumerate(cosines) if j != y[i]]
        np.testing.assert_allclose(rows.target[i], cosines[y[i]], atol=1e-6)
        np.testing.assert_allclose(rows.hardest[i], max(others), atol=1e-6)


@pytest.mark.parametrize("keywords", [{"beyond_pi": "none"}, {"gradient": "none"}])
def test_unknown_choices_are_refused(keywords):
    with pytest.raises(ValueError, match="must be one of"):
        losses.arcface(*map(jnp.asarray, batch()), **keywords)


class Variants(chex.TestCase):
    """The same values with and without jit, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    @parameterized.parameters("softmax", "normface", "cosface", "arcface")
    def test_values(self, name):
        inputs = batch(12)
        expected = getattr(reference, name)(*inputs)
        got = self.variant(getattr(losses, name))(*map(jnp.asarray, inputs))
        chex.assert_shape(got, (len(inputs[2]),))
        np.testing.assert_allclose(got, expected, atol=tolerance(expected, 64))


# Sharded over devices: each gives its rows' losses; gradients are those of the sum over devices.


def sharded(function, devices, classes, how):
    """function(e, w, y, cotangent, classes) -> (losses, d e, d w) run on slices over devices."""
    layout = losses.Classes(axis_name="d", num_classes=classes)

    def body(e, w, y, g):
        value, pull = jax.vjp(lambda e, w: function(e, w, y, classes=layout), e, w)
        return value, *pull(g)

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("d",))
    spec = jax.sharding.PartitionSpec("d")
    if how == "shard_map":
        return jax.jit(
            jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        )
    mapped = jax.pmap(body, "d", devices=jax.devices()[:devices])

    def run(*arrays):
        split = [a.reshape(devices, len(a) // devices, *a.shape[1:]) for a in arrays]
        return [out.reshape(-1, *out.shape[2:]) for out in mapped(*split)]

    return run


@pytest.mark.parametrize(("devices", "classes"), [(8, 13), (4, 16), (8, 3)])
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
@pytest.mark.parametrize("case", ["softmax", "normface", "cosface", "arcface_linear"])
def test_sharded_is_dense(case, how, devices, classes):
    ours, _ = functions(case)
    e, w, y = batch(13, rows=16, classes=classes, norm=(0.5, 20.0))
    y[5] = classes  # unknown
    cotangent = np.random.default_rng(1).normal(size=len(y)).astype(np.float32)
    cotangent[5] = 0
    dense, pull = jax.vjp(lambda e, w: ours(e, w, jnp.asarray(y)), jnp.asarray(e), jnp.asarray(w))
    expected = dense, *pull(jnp.asarray(cotangent))
    padded = np.concatenate([w, np.ones((-classes % devices, w.shape[1]), np.float32)])
    got = sharded(ours, devices, classes, how)(*map(jnp.asarray, (e, padded, y, cotangent)))
    assert not np.asarray(got[2][classes:]).any(), "a padding class has a gradient"
    for name, a, b in zip(
        ("losses", "d embeddings", "d weights"),
        (got[0], got[1], got[2][:classes]),
        expected,
        strict=True,
    ):
        np.testing.assert_allclose(
            a, b, atol=1e-5 * max(1.0, float(np.nanmax(np.abs(b)))), err_msg=name
        )


def test_sharded_rows_are_those_of_this_device():
    e, w, y = batch(14, rows=16, classes=16)
    layout = losses.Classes(axis_name="d")
    rows = jax.pmap(
        lambda e, w, y: losses.margin_rows(e, w, y, margins.normface(scale=9.0), classes=layout),
        "d",
    )(*(a.reshape(8, 2, *a.shape[1:]) for a in (e, w, y)))
    dense = losses.margin_rows(*map(jnp.asarray, (e, w, y)), margins.normface(scale=9.0))
    for got, want in itertools.islice(zip(rows, dense, strict=True), 3):
        np.testing.assert_allclose(got.reshape(-1), want, atol=1e-5)


def test_half_precision_gradients_follow_float32():
    """bfloat16 inputs: products of bfloat16 numbers, sums, margin and softmax in float32."""
    e, w, y = batch(15, rows=16, classes=40, dim=32, norm=(1.0, 20.0))
    low = [jnp.asarray(a, jnp.bfloat16) for a in (e, w)]
    same = [a.astype(jnp.float32) for a in low]
    np.testing.assert_allclose(
        losses.arcface(*low, jnp.asarray(y)), losses.arcface(*same, jnp.asarray(y)), atol=5e-5
    )
    gradient = jax.grad(lambda e, w: losses.arcface(e, w, jnp.asarray(y)).sum(), (0, 1))
    for a, b in zip(gradient(*low), gradient(*same), strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.02 * float(jnp.abs(b).max()))
