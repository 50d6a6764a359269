"""Losses on the pairs of a batch and on proxies against float64 loops, and their fine print."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax.sharding import PartitionSpec as P

from facejax.losses import metric, pairs
from tests import reference, reference_pairs


class Case(NamedTuple):
    loss: Callable
    keywords: Mapping[str, Any] = MappingProxyType({})
    logit: float = 50.0  # the largest magnitude
    classes: int = 0  # with proxies


CASES = {
    "circle_pairs": Case(pairs.circle_pairs, logit=400.0),
    "circle_pairs_faces": Case(pairs.circle_pairs, {"scale": 256.0, "margin": 0.25}, logit=1e3),
    "multi_similarity": Case(pairs.multi_similarity),
    "multi_similarity_wide": Case(
        pairs.multi_similarity, {"alpha": 5.0, "beta": 10.0, "threshold": 0.1, "epsilon": 0.7}
    ),
    "supcon": Case(pairs.supcon),
    "supcon_cold": Case(pairs.supcon, {"temperature": 0.02}),
    "n_pairs": Case(pairs.n_pairs, logit=4e4),
    "lifted_structure": Case(pairs.lifted_structure),
    "lifted_structure_near": Case(pairs.lifted_structure, {"margin": -1.0}),
    "semihard": Case(metric.batch_triplet),
    "semihard_wide": Case(metric.batch_triplet, {"margin": 1.5}),
    "hard": Case(metric.batch_triplet, {"mining": "hard"}),
    "all": Case(metric.batch_triplet, {"mining": "all"}),
    "proxy_nca": Case(pairs.proxy_nca, classes=6),
    "proxy_anchor": Case(pairs.proxy_anchor, classes=6),
    "proxy_anchor_wide": Case(pairs.proxy_anchor, {"scale": 8.0, "margin": 0.4}, classes=6),
}
JUMPS = ("semihard", "hard")  # in value, where two distances are the same
VARIANTS = ("faces", "wide", "cold", "near")
ONE_A_LOSS = {case.loss: name for name, case in reversed(CASES.items())}
each_case = pytest.mark.parametrize("name", CASES)
each_kind = pytest.mark.parametrize("name", [n for n in CASES if not n.endswith(VARIANTS)])
each_loss = pytest.mark.parametrize("name", ONE_A_LOSS.values())
LABELS = np.array([3, 0, 3, -1, 0, 5, 3, 2, 5, 0, 1], np.int32)
REAL = LABELS >= 0


def ours(name, **changed):
    """(e, [proxies,] y) -> losses."""
    case = CASES[name]
    function = functools.partial(case.loss, **{**case.keywords, **changed})
    return lambda *arrays: jax.tree.leaves(function(*arrays))[0]


@functools.cache  # compiled once for all tests, which take care to have few shapes
def compiled(name, **changed):
    """(e, [proxies,] y, [cotangent]) -> (losses, their gradients but for the labels)."""

    def run(*arrays, cotangent=None):
        losses, back = jax.vjp(
            lambda *floats: ours(name, **changed)(*floats, arrays[-1]), *arrays[:-1]
        )
        return losses, back(jnp.ones_like(losses) if cotangent is None else cotangent)

    return jax.jit(run)


def theirs(name, **changed):
    case = CASES[name]
    function = getattr(reference_pairs, case.loss.__name__)
    function = functools.partial(function, **{**case.keywords, **changed})
    if case.loss is metric.batch_triplet:
        return lambda *arrays: function(*arrays)[0]
    return function


def batch(
    name, seed=0, labels=LABELS, dim=5, norm: tuple[float, float] = (0.01, 200.0), dtype=np.float32
):
    """(e, [proxies,] y): rows near, beside and far from their identity, norms over decades."""
    random = np.random.default_rng(seed)
    proxies = random.normal(size=(6, 5))
    strength = np.array([1.5, 0.0, -0.5, 3.0, 0.7])[np.arange(len(labels)) % 5]
    e = random.normal(size=(len(labels), 5)) + strength[:, None] * proxies[labels]
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    e *= random.permutation(np.geomspace(*norm, len(labels)))[:, None]
    with_proxies = (proxies.astype(dtype),) if CASES[name].classes else ()
    return e.astype(dtype), *with_proxies, labels


def on_device(arrays):
    return tuple(jnp.asarray(a) for a in arrays)


def cast(arrays, dtype):
    return *(np.asarray(a, dtype) for a in arrays[:-1]), arrays[-1]


def assert_close(got, expected, logit=0.0, relative=1e-5, least=1e-30):
    """To the largest magnitude of the array, or the least one that counts."""
    bound = max(relative, 2e-7 * logit) * max(float(np.abs(expected).max(initial=0)), least)
    np.testing.assert_allclose(got, expected, atol=bound, rtol=0)


@each_case
def test_float64_values_are_the_formula(name):
    inputs = batch(name, dtype=np.float64)
    expected = theirs(name)(*inputs)
    assert expected.any()
    with jax.enable_x64(True):
        got, _ = compiled(name)(*on_device(inputs), cotangent=jnp.ones(len(LABELS)))
        assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@each_case
def test_float64_gradients_are_central_differences(name):
    """With what the formula detaches, the weights of circle's pairs, held as it is."""
    inputs = batch(name, 1, norm=(0.5, 3.0), dtype=np.float64)
    cotangent = np.random.default_rng(2).normal(size=len(LABELS))
    with jax.enable_x64(True):
        _, got = compiled(name)(*on_device(inputs), cotangent=jnp.asarray(cotangent))
    frozen = reference.with_detached_parts_held(theirs(name), *inputs)
    for i, slope in enumerate(got):
        expected = reference.central_differences(
            lambda a, i=i: frozen(*inputs[:i], a, *inputs[i + 1 :]) @ cotangent, inputs[i]
        )
        assert expected.any()
        assert_close(slope, expected, relative=1e-6)
    assert not got[0][3].any(), "a padding row has a gradient"


@each_kind
def test_float32_is_float64_rounded(name):
    inputs = batch(name, 4)
    losses, slopes = compiled(name)(*on_device(inputs))
    assert losses.dtype == jnp.float32
    with jax.enable_x64(True):
        wide = on_device(cast(inputs, np.float64))
        _, expected = compiled(name)(*wide, cotangent=jnp.ones(len(LABELS)))
    assert_close(losses, theirs(name)(*cast(inputs, np.float64)), CASES[name].logit)
    for a, b in zip(slopes, expected, strict=True):
        assert_close(a, b, CASES[name].logit)


def hostile(name):
    """Rows that coincide, are opposite, are zero, of every length; in one identity and in two."""
    x, z = np.random.default_rng(3).normal(size=(2, 5))
    rows = [x, x, -x, x, 0 * x, 0 * x, 200 * x, 0.01 * x, z, -200 * z, z]
    labels = np.array([0, 0, 0, 1, 1, 0, 2, 1, 2, 2, -1], np.int32)
    proxies = (np.stack([x, -x, 0 * x, z, x - z, -z]),) if CASES[name].classes else ()
    return np.array(rows), *proxies, labels


@pytest.mark.parametrize(
    ("dtype", "scale"), [(jnp.float32, None), (jnp.float32, 256.0), (jnp.bfloat16, None)]
)
@each_kind
def test_hostile_batches_are_finite(name, dtype, scale):
    if scale is not None and "scale" not in inspect.signature(CASES[name].loss).parameters:
        return
    changed = {} if scale is None else {"scale": scale}
    inputs = on_device(cast(hostile(name), dtype))
    got, slopes = compiled(name, **changed)(*inputs)
    chex.assert_tree_all_finite((got, slopes))
    assert got.dtype == jnp.float32
    assert all(slope.dtype == dtype for slope in slopes)
    if name != "n_pairs":
        assert not slopes[0][4].any(), "a zero row has a direction"
    if name not in JUMPS:
        expected = theirs(name, **changed)(*cast(inputs, np.float64))
        assert_close(got, expected, max(CASES[name].logit, 256.0))


FEW = {
    "one_row": [0],
    "one_identity": [2] * 11,
    "one_pair": [2, 2] + [-1] * 9,
    "all_different": list(range(6)) + [-1] * 5,
    "one_real_row": [-1, 1] + [-1] * 9,
    "one_negative": [0] * 10 + [1],
    "none": [-1] * 11,
}


@pytest.mark.parametrize("labels", FEW.values(), ids=FEW.keys())
@each_loss
def test_few_rows(name, labels):
    inputs = batch(name, 5, labels=np.array(labels, np.int32))
    got, slopes = compiled(name)(*on_device(inputs))
    expected = theirs(name)(*cast(inputs, np.float64))
    assert_close(got, expected, CASES[name].logit, least=1.0)
    chex.assert_tree_all_finite(slopes)
    if not expected.any() and (name, labels) != ("supcon", FEW["one_pair"]):  # a softmax of 1
        chex.assert_trees_all_equal(slopes, jax.tree.map(jnp.zeros_like, slopes))


@each_kind
def test_padding_and_unknown_labels(name):
    e, *proxies, y = on_device(batch(name, 6))
    got, slopes = compiled(name)(e, *proxies, y)
    assert got[3] == 0
    assert not slopes[0][3].any()
    # The others come out as in the batch without it.
    alone = theirs(name)(*cast((e[REAL], *proxies, y[REAL]), np.float64))
    assert_close(got[REAL], alone, CASES[name].logit)

    # Nothing of a padding row gets out.
    poisoned = compiled(name)(e.at[3].set(jnp.nan), *proxies, y)
    chex.assert_trees_all_equal(poisoned, (got, slopes))

    # Nor of one with a label that does not exist, but for its own loss.
    strange = y.at[2].set(-2)
    if proxies:
        strange = strange.at[8].set(len(proxies[0]))
    unknown, unknown_slopes = compiled(name)(e, *proxies, strange)
    expected = theirs(name)(*cast((e, *proxies, strange), np.float64))
    assert np.isnan(unknown[2])
    np.testing.assert_array_equal(np.isnan(unknown), np.isnan(expected))
    known = ~np.isnan(expected)
    assert_close(unknown[known], expected[known], CASES[name].logit)
    dropped = jnp.where(known, strange, -1)
    chex.assert_trees_all_equal(unknown_slopes, compiled(name)(e, *proxies, dropped)[1])


@each_loss
def test_vmap_is_one_by_one(name):
    batches = [on_device(batch(name, seed)) for seed in range(3)]
    stacks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    singly = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[compiled(name)(*b) for b in batches])
    jax.tree.map(
        lambda a, b: assert_close(a, b, CASES[name].logit),
        jax.vmap(compiled(name))(*stacks),
        singly,
    )


class Variants(chex.TestCase):
    """The same values with and without jit."""

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*ONE_A_LOSS.values())
    def test_values(self, name):
        inputs = batch(name, 12)
        got = self.variant(ours(name))(*on_device(inputs))
        chex.assert_shape(got, LABELS.shape)
        assert_close(got, theirs(name)(*cast(inputs, np.float64)), CASES[name].logit)


@each_loss
def test_hyperparameters_may_be_traced(name):
    floats = {
        key: jnp.float32(parameter.default)
        for key, parameter in inspect.signature(CASES[name].loss).parameters.items()
        if isinstance(parameter.default, float)
    }
    inputs = on_device(batch(name, 9))

    @jax.jit
    def traced(floats):
        losses = ours(name, **floats)(*inputs)
        return losses.sum(), losses

    slopes, losses = jax.jit(jax.grad(traced, has_aux=True))(floats)
    assert_close(losses, theirs(name)(*cast(inputs, np.float64)), CASES[name].logit)
    chex.assert_tree_all_finite(slopes)
    # epsilon chooses, and a choice has no gradient
    assert all(float(slope) != 0 for key, slope in slopes.items() if key != "epsilon")


@each_loss
def test_defaults_are_those_of_the_contract(name):
    """Which the reference has."""

    def defaults(function):
        parameters = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    loss = CASES[name].loss
    expected = defaults(getattr(reference_pairs, loss.__name__))
    expected.pop("hold", None)
    assert defaults(loss) == expected


@each_loss
def test_bfloat16_is_float32_on_rounded_inputs(name):
    inputs = on_device(cast(batch(name, 15, norm=(1.0, 20.0)), jnp.bfloat16))
    got, slopes = compiled(name)(*inputs)
    expected, expected_slopes = compiled(name)(*on_device(cast(inputs, np.float32)))
    assert got.dtype == jnp.float32
    assert_close(got, expected, CASES[name].logit)
    for a, b in zip(slopes, expected_slopes, strict=True):
        assert_close(a.astype(jnp.float32), b, relative=0.02)


def test_mined_on_the_gathered_batch_inside_shard_map():
    """Every device sees all rows and keeps the losses of its own; gradients meet in the gather."""
    name = "semihard_wide"
    e, y = on_device(batch(name, 16, labels=np.tile(LABELS, 8)))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))

    def split(e, y):
        def own(e):
            rows, labels = (jax.lax.all_gather(a, "data", tiled=True) for a in (e, y))
            start = jax.lax.axis_index("data") * len(y)
            own = jax.lax.dynamic_slice_in_dim(ours(name)(rows, labels), start, len(y))
            return own.sum(), own

        slope, losses = jax.grad(own, has_aux=True)(e)
        return losses, slope

    rows = P("data")
    split = jax.shard_map(split, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    losses, slope = jax.jit(split)(e, y)
    expected, (expected_slope,) = compiled(name)(e, y)
    assert_close(losses, expected)
    assert_close(slope, expected_slope)


def test_mining_keeps_no_array_of_all_triplets():
    rows = 128
    e, y = jnp.ones((rows, 8)), jnp.arange(rows) // 2
    needed = compiled("all").lower(e, y).compile().memory_analysis().temp_size_in_bytes
    assert needed < rows**3


@each_loss
def test_the_length_of_an_embedding_matters_to_n_pairs_only(name):
    e, *rest = on_device(batch(name, 17))
    lengths = jnp.geomspace(0.1, 10.0, len(e))[:, None]
    a, b = compiled(name)(e, *rest)[0], compiled(name)(e * lengths, *rest)[0]
    if name == "n_pairs":
        assert float(jnp.abs(a - b).max()) > 1
    else:
        assert_close(a, b, CASES[name].logit)
