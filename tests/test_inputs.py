"""What may be given to a loss: types, shapes, NumPy arrays, contexts, rows of any length."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from facejax.losses import Classes
from tests.cases import CASES, ONE_A_LOSS, batch, ours

LAYOUTS = {"dense": None, "streamed": Classes(3)}
each_layout = pytest.mark.parametrize("classes", LAYOUTS.values(), ids=LAYOUTS)

random = np.random.default_rng(0)
E, W = random.normal(size=(6, 5)), random.normal(size=(7, 5))
Y = np.array([0, 1, 2, 3, 6, -1], np.int32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def cosface_gradients(e, w, y, cotangents, *, scale=64.0, margin=0.35):
    """d embeddings and d weights in plain float64."""
    e, w = np.asarray(e, np.float64), np.asarray(w, np.float64)
    unit_e, unit_w, real = unit(e), unit(w), y >= 0
    logits = scale * (unit_e @ unit_w.T - margin * (y[:, None] == np.arange(len(w))))
    slope = np.exp(logits - logits.max(1, keepdims=True))
    slope /= slope.sum(1, keepdims=True)
    slope[np.arange(len(y))[real], y[real]] -= 1
    slope = scale * slope * (cotangents * real)[:, None]
    d_e, d_w = slope @ unit_w, slope.T @ unit_e
    d_e = (d_e - (d_e * unit_e).sum(1, keepdims=True) * unit_e) / np.linalg.norm(e, axis=1)[:, None]
    d_w = (d_w - (d_w * unit_w).sum(1, keepdims=True) * unit_w) / np.linalg.norm(w, axis=1)[:, None]
    return d_e, d_w


def gradients(e, w, classes, cotangents):
    def total(e, w):
        return (losses.cosface(e, w, jnp.asarray(Y), classes=classes) * cotangents).sum()

    return jax.jit(jax.grad(total, (0, 1)))(e, w)


# Lengths


@each_layout
@pytest.mark.parametrize(
    ("length", "class_length"),
    [
        (1e-18, 1),
        (1e-13, 1),
        (1e13, 1),
        (1e18, 1),
        (1, 1e-18),
        (1, 1e18),
        (1e-18, 1e-18),
        (1e18, 1e18),
    ],
)
def test_rows_of_any_length(classes, length, class_length):
    e, w = (np.float32(n) * unit(a).astype(np.float32) for n, a in ((length, E), (class_length, W)))
    cotangents = np.linspace(0.5, 1, 6).astype(np.float32) / 6
    got = gradients(jnp.asarray(e), jnp.asarray(w), classes, cotangents)
    for a, b in zip(got, cosface_gradients(e, w, Y, cotangents), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), b, atol=1e-5 * np.abs(b).max())


# Types


@each_layout
@pytest.mark.parametrize("length", [1.0, 0.03])
@pytest.mark.parametrize(
    ("e_type", "w_type"),
    [
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("float16", "float32"),
        ("float32", "bfloat16"),
    ],
)
def test_low_precision(classes, length, e_type, w_type):
    """Against float64 of the rounded numbers; float16 would overflow in the raw products."""
    e, w = jnp.asarray(length * unit(E), e_type), jnp.asarray(length * unit(W), w_type)
    cotangents = np.ones(6, np.float32) / 6
    got = gradients(e, w, classes, cotangents)
    assert [g.dtype for g in got] == [e.dtype, w.dtype]
    for a, b in zip(got, cosface_gradients(e, w, Y, cotangents), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), b, atol=2e-2 * np.abs(b).max())


@each_layout
def test_many_rows_of_a_class_add_up_in_low_precision(classes):
    rows = 1024
    y = random.integers(0, 2, rows).astype(np.int32)
    e = (random.normal(size=(rows, 5)) + 0.5 * W[y]).astype(np.float32)
    w = jnp.asarray(W[:2], jnp.bfloat16)

    def mean(w):
        return losses.cosface(jnp.asarray(e), w, jnp.asarray(y), scale=16.0, classes=classes).mean()

    _, want = cosface_gradients(e, w, y, np.ones(rows) / rows, scale=16.0)
    got = np.asarray(jax.jit(jax.grad(mean))(w), np.float64)
    assert np.linalg.norm(got - want) < 1e-2 * np.linalg.norm(want)


@pytest.mark.parametrize(
    "name", ["arcface_plain", "curricularface", "adaface", "sphereface2", "softmax"]
)
def test_float64_beside_float32(name):
    """Under x64, where a random array is float64: each of the inputs in either type."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        inputs = [jnp.asarray(a) if not isinstance(a, tuple) else a for a in batch(name, 3)]
        e, w, y, *extra = inputs
        want = jax.jit(lambda: ours(name)(e, w, y, *extra)[0])()
        for e_type, w_type in (("float32", "float64"), ("float64", "float32")):

            def total(e, w, classes):
                return ours(name)(e, w, y, *extra, classes=classes)[0].sum()

            given = e.astype(e_type), w.astype(w_type)
            dense, streamed = (
                jax.jit(jax.value_and_grad(functools.partial(total, classes=classes), (0, 1)))(
                    *given
                )
                for classes in LAYOUTS.values()
            )
            assert dense[0].dtype == streamed[0].dtype == jnp.float64
            np.testing.assert_allclose(dense[0], want.sum(), rtol=1e-4)
            for a, b in zip(jax.tree.leaves(streamed), jax.tree.leaves(dense), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max()))


@each_layout
def test_strong_hyperparameters_leave_the_types_alone(classes):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        e, w = (jnp.asarray(a, jnp.float32) for a in (E, W))
        values = losses.cosface(e, w, jnp.asarray(Y), scale=np.float64(64), classes=classes)
        assert values.dtype == jnp.float32
        plain = losses.cosface(e, w, jnp.asarray(Y), classes=classes)
        np.testing.assert_allclose(values, plain, rtol=1e-6)
        rate = np.float64(0.1)
        t = losses.curricularface(e, w, jnp.asarray(Y), jnp.float32(0), rate=rate, classes=classes)[
            1
        ]
        state = losses.AdaFaceStatistics(jnp.float32(20), jnp.float32(100))
        state = losses.adaface(e, w, jnp.asarray(Y), state, rate=rate, classes=classes)[1]
        assert t.dtype == state.mean.dtype == state.std.dtype == jnp.float32


# NumPy


@each_layout
def test_numpy_arrays(classes):
    """All but the embeddings closed over as NumPy arrays, which a tracer can't index."""
    inputs = {name: batch(name, 5) for name in ONE_A_LOSS.values()}

    def gradients(embeddings, rest, classes=None):
        def total(embeddings):
            values = [
                ours(name)(embeddings[name], *rest[name], classes=classes)[0] for name in inputs
            ]
            return sum(jnp.sum(value) for value in values)

        return jax.grad(total)(embeddings)

    embeddings = {name: given[0] for name, given in inputs.items()}
    rest = {name: given[1:] for name, given in inputs.items()}
    got = jax.jit(lambda embeddings: gradients(embeddings, rest, classes))(embeddings)
    want = jax.jit(gradients)(embeddings, rest)
    for name in inputs:
        bound = 2e-5 * max(1e-3, float(jnp.abs(want[name]).max()))
        np.testing.assert_allclose(got[name], want[name], atol=bound, err_msg=name)


def test_numpy_arrays_of_the_other_functions():
    e, w, y = E.astype(np.float32), W.astype(np.float32), Y
    rows, _ = jax.jit(lambda y: losses.sample_classes(jax.random.key(0), y, w, rate=0.9))(y)
    assert rows.shape == (6, 5)
    on_device = [jnp.asarray(a) for a in (e, y, w)]
    for function in (losses.update_centers, losses.center):
        np.testing.assert_array_equal(function(e, y, w), function(*on_device))
    np.testing.assert_array_equal(
        losses.proxy_nca(e, w, y), losses.proxy_nca(*(on_device[i] for i in (0, 2, 1)))
    )
    same = np.arange(6) % 2
    for function in (
        losses.contrastive,
        functools.partial(losses.contrastive_cosine, weight=1.0, bias=0.0),
    ):
        np.testing.assert_array_equal(
            function(e, e[::-1].copy(), same),
            function(on_device[0], on_device[0][::-1], jnp.asarray(same)),
        )
    for function in (losses.supcon, losses.circle_pairs, losses.batch_triplet, losses.n_pairs):
        chex.assert_trees_all_equal(function(e, y), function(*on_device[:2]))


# Contexts


@pytest.mark.parametrize(
    "extra", [2, True, np.int32(2), jnp.arange(6), jnp.arange(6) > 2, "key", None], ids=repr
)
def test_contexts_of_any_kind(extra):
    extra = jax.random.key(0) if extra == "key" else extra

    def number(extra):
        if extra is None:
            return 0.0
        if jnp.issubdtype(extra.dtype, jax.dtypes.prng_key):
            return jax.random.uniform(extra, ())
        value = extra.astype(jnp.float32)
        return value if value.ndim == 0 else value[:, None]

    rule = losses.Margin(
        target=lambda s, _: 8 * s, negative=lambda s, context: (8 + number(context.extra)) * s
    )

    def total(e, classes):
        call = functools.partial(losses.margin_softmax, margin=rule, context=extra, classes=classes)
        return call(e, jnp.asarray(W, jnp.float32), jnp.asarray(Y)).sum()

    e = jnp.asarray(E, jnp.float32)
    dense, streamed = (
        jax.jit(jax.grad(functools.partial(total, classes=classes)))(e)
        for classes in LAYOUTS.values()
    )
    np.testing.assert_allclose(streamed, dense, atol=1e-5)


@each_layout
def test_states_may_be_whole_numbers(classes):
    e, w, y = jnp.asarray(E, jnp.float32), jnp.asarray(W, jnp.float32), jnp.asarray(Y)
    for call, state in (
        (losses.uniface, 2),
        (losses.sphereface2, 2),
        (functools.partial(losses.adacos, update=False), 30),
        (functools.partial(losses.curricularface, update=False), 0),
    ):

        def total(e, state, call=call):
            return jnp.sum(jax.tree.leaves(call(e, w, y, state, classes=classes))[0])

        got, want = (
            jax.jit(jax.grad(functools.partial(total, state=number)))(e)
            for number in (state, float(state))
        )
        np.testing.assert_allclose(got, want, atol=1e-6)


# Shapes

PER_ROW = jnp.linspace(0.1, 0.4, 6)
COLUMN = PER_ROW[:, None]


@pytest.mark.parametrize("wrong", [COLUMN, PER_ROW[:5], COLUMN.T])
@each_layout
def test_one_number_per_row_or_a_refusal(wrong, classes):
    e, w, y = jnp.asarray(E, jnp.float32), jnp.asarray(W, jnp.float32), jnp.asarray(Y)
    calls = {
        "margins": lambda: losses.elasticface(e, w, y, wrong, classes=classes),
        "context": lambda: losses.margin_softmax(
            e,
            w,
            y,
            losses.margins.cosface(scale=8.0, margin=0.1),
            context={"a": wrong},
            classes=classes,
        ),
        "margin": lambda: losses.cosface(e, w, y, margin=wrong, classes=classes),
        "scale": lambda: losses.cosface(e, w, y, scale=wrong, classes=classes),
        "t": lambda: losses.curricularface(e, w, y, wrong, update=False, classes=classes),
    }
    for name, call in calls.items():
        with (
            jax.numpy_rank_promotion("allow"),
            pytest.raises((ValueError, AssertionError, TypeError)),
        ):
            assert call() is name


@pytest.mark.parametrize("wrong", [COLUMN, PER_ROW[:5], COLUMN.T])
def test_pairs_take_one_number_per_pair(wrong):
    a, b = jnp.asarray(E, jnp.float32), jnp.asarray(E[::-1].copy(), jnp.float32)
    for call in (
        lambda: losses.contrastive(a, b, wrong > 0.2),
        lambda: losses.contrastive(a, b, PER_ROW > 0.2, margin=wrong),
        lambda: losses.contrastive_cosine(a, b, wrong > 0.2, 1.0, 0.0),
        lambda: losses.contrastive_cosine(a, b, PER_ROW > 0.2, wrong, 0.0),
        lambda: losses.triplet(a, b, -a, margin=wrong),
    ):
        with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=r"give \[N\]"):
            call()


def test_a_scale_per_row_is_no_scale_per_class():
    """As many rows as classes: it would be taken class by class without a word."""
    e, w = jnp.asarray(E, jnp.float32), jnp.asarray(W[:6], jnp.float32)
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match="scalars"):
        losses.cosface(e, w, jnp.arange(6), scale=60 + PER_ROW)


@each_layout
def test_a_bias_is_that_of_the_classes_given(classes):
    e, w, y = jnp.asarray(E, jnp.float32), jnp.asarray(W, jnp.float32), jnp.asarray(Y)
    bias = jnp.linspace(-1, 1, 7)
    index, labels = losses.sample_indices(jax.random.key(0), y, 7, rate=0.9)
    rows, same_labels = losses.sample_classes(jax.random.key(0), y, w, rate=0.9)
    np.testing.assert_array_equal(labels, same_labels)
    np.testing.assert_array_equal(rows, w[index])
    with pytest.raises(AssertionError):
        losses.softmax(e, rows, labels, bias=bias, classes=classes)
    z = E @ W[index].T + np.asarray(bias)[index]
    want = np.log(np.exp(z).sum(1)) - z[np.arange(6), np.asarray(labels)]
    got = losses.softmax(e, rows, labels, bias=bias[index], classes=classes)
    np.testing.assert_allclose(got[:5], want[:5], rtol=1e-5)


# Rules


def test_easy_additive_margin_of_mv_softmax():
    """No margin where the cosine is not positive; the mask of hard negatives keeps it."""
    cosines = np.array([0.3, -0.3, 0.0])
    e = jnp.asarray(np.stack([cosines, np.sqrt(1 - cosines**2)], 1), jnp.float32)
    w = jnp.asarray([[1.0, 0.0], [0.0, 1.0]], jnp.float32)
    got = losses.mv_softmax(
        e,
        w,
        jnp.zeros(3, jnp.int32),
        base="am",
        beyond_pi="easy",
        scale=8.0,
        margin=0.2,
        hardness=0.1,
    )
    other = np.sqrt(1 - cosines**2)
    raised = np.where(other > cosines - 0.2, 1.1 * other + 0.1, other)
    target = np.where(cosines > 0, cosines - 0.2, cosines)
    np.testing.assert_allclose(got, np.log1p(np.exp(8 * (raised - target))), rtol=1e-5)


def test_adacos_of_two_classes_never_trains_in_reverse():
    e, scale = jnp.asarray([[1.0, 0.0], [-1.0, 0.0]]), jnp.float32(1)
    for _ in range(4):
        _, scale = losses.adacos(e, e, jnp.arange(2), scale)
        assert scale > 0


def test_every_loss_is_tried():
    assert set(ONE_A_LOSS) >= {"arcface", "l_softmax", "sphereface2", "adacos"}
    assert set(ONE_A_LOSS.values()) <= set(CASES)
