"""Every loss against float64 loops: values, gradients, hostile rows, padding, transformations."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from facejax import losses
from tests import reference
from tests.cases import CASES, ONE_A_LOSS, batch, hostile, on_device, ours, theirs, typed, values

each_case = pytest.mark.parametrize("name", CASES)
each_loss = pytest.mark.parametrize("name", ONE_A_LOSS.values())


def summed(function, labels):
    """(e, w, *extra) -> the sum of the losses."""
    return lambda e, w, *extra: function(e, w, labels, *extra)[0].sum()


def gradients(function, e, w, y, *extra):
    return jax.grad(summed(function, y), (0, 1))(e, w, *extra)


def both(function, e, w, y, *extra):
    """(losses, state) and `gradients`, in one pass."""
    got, pull, state = jax.vjp(lambda e, w: function(e, w, y, *extra), e, w, has_aux=True)
    return (got, state), pull(jnp.ones_like(got))


def tolerance(expected, largest_logit):
    """DESIGN's float32 bound: relative to the largest magnitude, and to the rounding of a logit."""
    return max(1e-5, 2e-7 * largest_logit) * max(1.0, float(np.nanmax(np.abs(expected))))


@each_case
def test_float64_values_and_state_are_the_formula(name):
    inputs = batch(name, dtype=np.float64)
    with jax.enable_x64(True):
        got, state = ours(name)(*on_device(inputs))
        assert got.dtype == jnp.float64
    expected = theirs(name)(*inputs)
    np.testing.assert_allclose(got, values(expected), rtol=1e-9, atol=1e-9)
    if isinstance(expected, tuple):
        chex.assert_trees_all_close(
            tuple(jax.tree.leaves(state)), tuple(np.atleast_1d(expected[1])), rtol=1e-9
        )


@each_case
def test_float64_gradients_are_central_differences(name):
    case, inputs = CASES[name], batch(name, 1, norm=CASES[name].norm, dtype=np.float64)
    cotangent = np.random.default_rng(2).normal(size=len(inputs[2]))
    arguments = {"embeddings": inputs[0], "weights": inputs[1]}
    if inputs[3:]:
        arguments["extra"] = inputs[3]
    arguments |= {
        k: np.asarray(v, np.float64) for k, v in case.keywords.items() if k in case.learned
    }
    wanted = ["embeddings", "weights", *case.learned]

    def call(function, named):
        named = dict(named)
        e, w = named.pop("embeddings"), named.pop("weights")
        extra = (named.pop("extra"),) if "extra" in named else ()
        return function(e, w, inputs[2], *extra, **named)

    with jax.enable_x64(True):
        learned = on_device({k: arguments[k] for k in wanted})
        got = jax.grad(
            lambda learned: call(ours(name), {**on_device(arguments), **learned})[0] @ cotangent
        )(learned)
    frozen = reference.with_detached_parts_held(theirs(name), *inputs)
    for key in wanted:
        expected = reference.central_differences(
            lambda a, key=key: values(call(frozen, {**arguments, key: a})) @ cotangent,
            arguments[key],
        )
        np.testing.assert_allclose(
            got[key], expected, atol=1e-6 * np.abs(expected).max(), rtol=0, err_msg=key
        )
    assert not got["embeddings"][2].any(), "a padding row has a gradient"


@each_case
def test_float32_values_and_gradients_are_the_float64_ones(name):
    inputs = batch(name, 4)
    expected = values(theirs(name)(*inputs))
    (got, _), single = both(ours(name), *on_device(inputs))
    assert got.dtype == jnp.float32
    bound = tolerance(expected, CASES[name].logit)
    np.testing.assert_allclose(got, expected, atol=bound, rtol=0)
    with jax.enable_x64(True):
        _, double = both(ours(name), *on_device(typed(inputs, np.float64)))
    for a, b in zip(single, double, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max(), rtol=0)


@each_case
def test_float32_untrained_rows_are_within_2e6_of_the_largest(name):
    inputs = batch(name, 21, norm=(1.0, 30.0), pull=False)
    (got, _), slopes = both(ours(name), *on_device(inputs))
    with jax.enable_x64(True):
        (exact, _), exact_slopes = both(ours(name), *on_device(typed(inputs, np.float64)))
    every = zip(("losses", "d e", "d w"), (got, *slopes), (exact, *exact_slopes), strict=True)
    for what, a, b in every:
        np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(b).max(), rtol=0, err_msg=what)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@each_case
def test_hostile_rows_are_finite(name, dtype):
    inputs = hostile(name, dtype)
    e, w, y, *extra = on_device(inputs)
    exact = typed(inputs, np.float64)
    wide = {"scale": 256.0} if "scale" in inspect.signature(theirs(name)).parameters else {}
    for changed in ({}, wide) if not extra else ({},):
        (got, state), slopes = both(ours(name, **changed), e, w, y, *extra)
        chex.assert_tree_all_finite((got, slopes, state))
        assert got.dtype == jnp.float32
        assert [g.dtype for g in slopes] == [dtype, dtype]
        if CASES[name].keywords.get("sort"):
            continue  # of rows whose targets tie, rounding tells which comes first
        # sqrt(1 - c^2) turns a rounding of 1e-7 in the cosine into one of 4e-4 at c = 1.
        expected = values(theirs(name, **changed)(*exact))
        bound = 1e-3 * max(100.0, CASES[name].logit, *changed.values())
        np.testing.assert_allclose(got, expected, atol=bound, rtol=1e-3)


@each_loss
def test_one_row_and_one_class(name):
    inputs = batch(name, 5, rows=1, classes=1)
    expected = values(theirs(name)(*inputs))
    got, state = ours(name)(*on_device(inputs))
    np.testing.assert_allclose(got, expected, atol=tolerance(expected, CASES[name].logit))
    chex.assert_tree_all_finite((state, gradients(ours(name), *on_device(inputs))))


@each_case
def test_padding_and_unknown_labels(name):
    e, w, y, *extra = inputs = on_device(batch(name, 6))
    (got, state), slopes = both(ours(name), *inputs)
    assert got[2] == 0

    # Nothing of a padding row gets out: not its embedding, not what comes with the row.
    poison = [jax.tree.map(lambda a: a.at[2].set(jnp.nan) if a.ndim else a, x) for x in extra]
    poisoned = e.at[2].set(jnp.nan), w, y, *poison
    chex.assert_trees_all_equal(((got, state), slopes), both(ours(name), *poisoned))

    strange = y.at[0].set(w.shape[0]).at[1].set(-2)
    unknown, state = ours(name)(e, w, strange, *extra)
    assert np.isnan(unknown[:2]).all()
    expected = theirs(name)(e, w, np.asarray(strange), *extra)
    np.testing.assert_allclose(
        unknown[2:], values(expected)[2:], atol=tolerance(values(expected), CASES[name].logit)
    )
    if isinstance(expected, tuple):
        np.testing.assert_allclose(jnp.stack(jax.tree.leaves(state)), expected[1], rtol=1e-5)


@each_loss
def test_without_a_real_row_nothing_happens(name):
    e, w, y, *extra = on_device(batch(name, 7))
    padding = jnp.full_like(y, -1)
    (got, state), slopes = both(ours(name), e, w, padding, *extra)
    np.testing.assert_array_equal(got, 0)
    if jax.tree.leaves(state):
        chex.assert_trees_all_equal(state, extra[0])
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0)


@each_loss
def test_eager_is_jit_is_vmap(name):
    batches = [on_device(batch(name, seed)) for seed in range(3)]
    stacks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)

    def everything(*inputs):
        return ours(name)(*inputs), gradients(ours(name), *inputs)

    vmapped = jax.jit(jax.vmap(everything))(*stacks)
    for i, inputs in enumerate(batches):
        eager = everything(*inputs)
        chex.assert_trees_all_close(
            jax.tree.map(lambda a, i=i: a[i], vmapped[0]), eager[0], rtol=1e-5, atol=1e-5
        )
        for a, b in zip(vmapped[1], eager[1], strict=True):
            np.testing.assert_allclose(a[i], b, atol=1e-5 * float(jnp.abs(b).max()))


@each_loss
def test_float_hyperparameters_may_be_traced(name):
    function = getattr(losses, CASES[name].loss)
    floats = {
        key: jnp.float32(parameter.default)
        for key, parameter in inspect.signature(function).parameters.items()
        if isinstance(parameter.default, float)
    }
    inputs = on_device(batch(name, 9))

    def traced(floats):
        result = function(*inputs, **floats)
        return values(result).sum(), result

    slopes, got = jax.jit(jax.grad(traced, has_aux=True))(floats)
    chex.assert_trees_all_close(got, function(*inputs), rtol=1e-5, atol=1e-4)
    chex.assert_tree_all_finite(slopes)
    assert not floats or any(float(slope) != 0 for slope in slopes.values())


def keywords_of(function):
    parameters = inspect.signature(function).parameters.items()
    return {key: p.default for key, p in parameters if p.kind == p.KEYWORD_ONLY}


def test_defaults_are_those_of_the_contract():
    """The reference has the defaults of the contract; what else there is is off by default."""
    added = {"class_margins": None, "class_weights": None, "smoothing": 0.0, "negative_cap": None}
    for name in ONE_A_LOSS.values():
        function = getattr(losses, CASES[name].loss)
        expected = keywords_of(theirs(name).func) | {"classes": None}
        expected.pop("hold", None)
        if function in (losses.arcface, losses.subcenter_arcface):
            expected["gradient"] = "exact"
        found = keywords_of(function)
        expected |= {keyword: off for keyword, off in added.items() if keyword in found}
        assert found == expected, name


class Variants(chex.TestCase):
    """The same values with and without jit."""

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*ONE_A_LOSS.values())
    def test_values(self, name):
        inputs = batch(name, 12)
        expected = values(theirs(name)(*inputs))
        got, _ = self.variant(ours(name))(*on_device(inputs))
        chex.assert_shape(got, (len(inputs[2]),))
        np.testing.assert_allclose(got, expected, atol=tolerance(expected, CASES[name].logit))


@each_loss
def test_bfloat16_is_float32_on_rounded_inputs(name):
    """bfloat16 inputs: products of bfloat16 numbers, sums, margin and softmax in float32."""
    e, w, y, *extra = on_device(batch(name, 15, norm=(1.0, 20.0)))
    low = [a.astype(jnp.bfloat16) for a in (e, w)]
    same = [a.astype(jnp.float32) for a in low]
    expected = ours(name)(*same, y, *extra)[0]
    got, state = ours(name)(*low, y, *extra)
    assert got.dtype == jnp.float32
    chex.assert_trees_all_equal_dtypes(
        jax.tree.leaves(state), [jnp.float32(0)] * len(jax.tree.leaves(state))
    )
    np.testing.assert_allclose(got, expected, atol=tolerance(expected, CASES[name].logit))
    for a, b in zip(
        gradients(ours(name), *low, y, *extra), gradients(ours(name), *same, y, *extra), strict=True
    ):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.02 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("name", ["arcface_plain", "subcenter_plain"])
def test_straight_through_has_the_values_of_exact_and_a_gradient_of_scale(name):
    e, w, y = on_device(batch(name, 7))
    exact, straight = ours(name), ours(name, gradient="straight_through")
    np.testing.assert_allclose(exact(e, w, y)[0], straight(e, w, y)[0], atol=2e-5)
    classes = jnp.arange(w.shape[0])[None, :] == y[:, None]

    def definition(e, w):
        """Its gradient is the cross-entropy's over the logits, times scale d cos for every j."""
        unit = [v / jnp.linalg.norm(v, axis=-1, keepdims=True) for v in (e, w)]
        cosines = jnp.einsum("bd,c...d->bc...", *unit)
        if w.ndim == 3:
            cosines = cosines.max(axis=2)
        theta = jnp.arccos(jnp.clip(cosines, -1, 1))
        logits = 64.0 * jnp.where(classes, jnp.cos(theta + 0.5), cosines)
        slope = jax.nn.softmax(logits, axis=1) - classes.astype(logits.dtype)
        slope = jnp.where((y >= 0)[:, None], slope, 0)
        return jnp.sum(jax.lax.stop_gradient(slope) * 64.0 * cosines)

    expected = jax.grad(definition, (0, 1))(e, w)
    for a, b in zip(gradients(straight, e, w, y), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(b).max()))


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("arcface_linear", {"beyond_pi": "none"}),
        ("arcface_linear", {"gradient": "none"}),
        ("subcenter", {"beyond_pi": "none"}),
        ("combined_plain", {"beyond_pi": "none"}),
        ("magface_linear", {"beyond_pi": "none"}),
        ("mv_arc_fixed", {"beyond_pi": "none"}),
        ("mv_arc_fixed", {"base": "cos"}),
        ("elasticface_arc", {"base": "am"}),
    ],
)
def test_unknown_choices_are_refused(name, keywords):
    with pytest.raises(ValueError, match="must be one of"):
        ours(name, **keywords)(*on_device(batch(name)))
