"""Class margins and weights, smoothed labels and capped negatives, in every mode of the engine."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from facejax.losses import Classes, FusedSGD, Remedies, margins
from tests import reference, reference_remedies
from tests.cases import CASES, ONE_A_LOSS, batch, on_device, ours, theirs
from tests.cases import values as reference_values
from tests.devices import AXIS, WAYS, padded, spread

ROWS, COUNT = 12, 9
CHOSEN = {"scale": 5.0, "margin": 0.3}
MARGINS, WEIGHTS = np.linspace(0.1, 0.7, COUNT), np.linspace(0.5, 2.0, COUNT)
ALONE = {
    "margins": {"class_margins": MARGINS},
    "weights": {"class_weights": WEIGHTS},
    "smoothing": {"smoothing": 0.2},
    "cap": {"negative_cap": 0.1},
}
EVERY = {key: value for one in ALONE.values() for key, value in one.items()}
KINDS = ("l_softmax", "adacos", "circle")
RULES = ("arcface", "mv_softmax", "normface", "uniface")


def inputs(dtype=np.float32, classes=COUNT):
    e, w, y = batch("normface", 5, rows=ROWS, classes=classes, norm=(0.5, 3.0), dtype=dtype)
    y[7] = classes  # no class
    return e, w, y


def call(name, *, classes=None, **given):
    """(e, w, y, **remedies) -> losses of the loss by name, with a bias of 1 where it has one."""
    takes = CHOSEN if name != "normface" else {"scale": 5.0}
    extra = (1.0,) if CASES[ONE_A_LOSS[name]].extra else ()
    function = functools.partial(getattr(losses, name), **takes, **given, classes=classes)
    return lambda e, w, y, **more: function(e, w, y, *extra, **more)


def fitting(name, chosen):
    """Those of the remedies that the loss takes."""
    left = {"uniface": "smoothing", "normface": "class_margins"}.get(name)
    return {key: value for key, value in chosen.items() if key != left}


def gradients(function, e, w, y, chosen):
    """(losses, gradients of their sum, weighted by row, to e, w and every remedy)."""

    def total(e, w, chosen):
        values = function(e, w, y, **chosen)
        real = (y >= 0) & (y < COUNT)
        return jnp.sum(jnp.where(real, values, 0) * jnp.linspace(1, 2, len(y))), values

    (_, values), pulled = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(e, w, chosen)
    return values, pulled


def close(got, want, relative):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        bound = relative * max(1e-3, float(np.nanmax(np.abs(b))))
        np.testing.assert_allclose(a, b, rtol=0, atol=bound)


ONE_BY_ONE = [(alone, "arcface") for alone in ALONE] + [("all", name) for name in RULES]


@pytest.mark.parametrize(("alone", "name"), ONE_BY_ONE)
def test_values_are_those_of_the_formulas(alone, name):
    with jax.enable_x64(True):
        e, w, y = inputs(np.float64)
        chosen = fitting(name, ALONE.get(alone, EVERY))
        terms = getattr(reference_remedies, name)
        want = reference_remedies.remedied(terms, e, w, y, **CHOSEN, **chosen)
        for classes in (None, Classes(4)):
            run = jax.jit(call(name, classes=classes))
            got = run(*on_device((e, w, y)), **on_device(chosen))
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("classes", [None, Classes(4)], ids=["dense", "streamed"])
@pytest.mark.parametrize("name", ["arcface", "uniface"])
def test_gradients_are_those_of_the_formulas(name, classes):
    """To embeddings, class weights, margins, weights and smoothing, by finite differences."""
    terms = getattr(reference_remedies, name)
    e, w, y = inputs(np.float64)
    chosen = fitting(name, EVERY)
    cap = chosen.pop("negative_cap")
    cotangent = np.where((y >= 0) & (y < COUNT), np.linspace(1, 2, ROWS), 0)

    def theirs(e, w, chosen):
        values = reference_remedies.remedied(terms, e, w, y, **CHOSEN, negative_cap=cap, **chosen)
        return np.nansum(cotangent * values)

    with jax.enable_x64(True):
        function = jax.jit(call(name, classes=classes, negative_cap=cap))
        arrays = on_device((e, w, y, chosen))
        _, (d_e, d_w, d_chosen) = jax.jit(functools.partial(gradients, function))(*arrays)
    wants = [
        (d_e, reference.central_differences(lambda a: theirs(a, w, chosen), e)),
        (d_w, reference.central_differences(lambda a: theirs(e, a, chosen), w)),
    ]
    for key, value in chosen.items():
        moved = lambda a, key=key: theirs(e, w, {**chosen, key: a})  # noqa: E731
        wants.append((d_chosen[key], reference.central_differences(moved, np.asarray(value))))
    for got, want in wants:
        np.testing.assert_allclose(got, want, atol=1e-7 * np.abs(want).max())


@pytest.mark.parametrize("block", [None, 3])
@pytest.mark.parametrize("how", WAYS)
def test_over_devices_it_is_dense(how, block):
    """Every remedy in slices; their gradients are those of the classes, 0 in the padding."""
    e, w, y = inputs()
    arrays = on_device((e, w, y))
    by_class = {key: np.float32(EVERY[key]) for key in ("class_margins", "class_weights")}
    shared = {"smoothing": jnp.float32(0.2), "negative_cap": 0.1}
    function = lambda e, w, y, classes=None, **more: call("mv_softmax", classes=classes)(  # noqa: E731
        e, w, y, **shared, **more
    )

    def body(e, w, y, cotangent, by_class, classes=None):
        def total(e, w, by_class):
            values = function(e, w, y, classes=classes, **by_class)
            return jnp.sum(jnp.where(cotangent > 0, values * cotangent, 0)), values

        pulled, values = jax.grad(total, (0, 1, 2), has_aux=True)(e, w, by_class)
        return values, pulled[0], (pulled[1], pulled[2])

    cotangent = np.where((y >= 0) & (y < COUNT), np.linspace(1, 2, ROWS), 0).astype(np.float32)
    want = jax.jit(body)(*arrays, cotangent, on_device(by_class))
    run = spread(
        functools.partial(body, classes=Classes(block, AXIS, COUNT)),
        4,
        how,
        split=(True,) * 5,
        split_out=True,
    )
    more = {key: padded(value, 4) for key, value in by_class.items()}
    values, d_e, (d_w, d_by_class) = run(*on_device((e, padded(w, 4), y, cotangent, more)))
    assert not np.any(np.asarray(d_w)[COUNT:])
    got = values, d_e, jax.tree.map(lambda a: a[:COUNT], (d_w, d_by_class))
    close(got, want, 2e-5)


def test_a_sample_of_all_classes_is_all_of_them():
    e, w, y = on_device(inputs())
    y = jnp.where(y < COUNT, y, -1)
    by_class = {key: jnp.float32(EVERY[key]) for key in ("class_margins", "class_weights")}
    rest = {"smoothing": 0.2, "negative_cap": 0.1}
    index, labels = losses.sample_indices(jax.random.key(0), y, COUNT, rate=1.0)
    sampled = {key: value[index] for key, value in by_class.items()}
    run = jax.jit(call("arcface"))
    got = run(e, w[index], labels, **sampled, **rest)
    np.testing.assert_allclose(got, run(e, w, y, **by_class, **rest), rtol=1e-6)


NO_MARGIN = {"class_margins"}
NOT_TAKEN = {
    **{name: NO_MARGIN for name in ("normface", "adacos", "combined_margin")},
    **{name: NO_MARGIN for name in ("magface", "elasticface")},
    **{name: NO_MARGIN | {"negative_cap"} for name in ("softmax", "l_softmax", "sphereface")},
    **{name: NO_MARGIN | {"smoothing"} for name in ("sface", "p2sgrad")},
    **{name: {"smoothing"} for name in ("sphereface2", "uniface")},
}


def taken(name):
    """What of EVERY is a keyword of the loss."""
    return {key: EVERY[key] for key in getattr(losses, name).__kwdefaults__ if key in EVERY}


def test_what_a_loss_does_not_take_is_no_keyword_of_it():
    for name in ONE_A_LOSS:
        assert set(taken(name)) == set(Remedies._fields) - NOT_TAKEN.get(name, set()), name


@pytest.mark.parametrize("name", [name for name in ONE_A_LOSS if "class_margins" in taken(name)])
def test_a_row_has_the_margin_of_its_class(name):
    """Each row is that of the loss with this one margin, wherever it stands in the formula."""
    case, by_class = ONE_A_LOSS[name], MARGINS + (1 if name == "sphereface_r" else 0)
    fixed = {"update": False} if "update" in getattr(losses, name).__kwdefaults__ else {}
    e, w, y, *extra = batch(case, 8, norm=(0.5, 3.0), classes=COUNT, dtype=np.float64)
    with jax.enable_x64(True):
        run = jax.jit(functools.partial(ours(case, scale=5.0, **fixed), class_margins=by_class))
        got = run(*on_device((e, w, y, *extra)))[0]
    for i in np.flatnonzero(y >= 0):
        one = theirs(case, scale=5.0, margin=by_class[y[i]], **fixed)
        want = reference_values(one(e[i : i + 1], w, y[i : i + 1], *extra))
        np.testing.assert_allclose(got[i], want[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_streamed_is_dense(name):
    """Losses and every gradient, of one loss for each thing that goes into a block."""
    case = ONE_A_LOSS[name]

    def pulled(classes):
        def function(e, w, y, **more):
            return ours(case, classes=classes)(e, w, y, *extra, **more)[0]

        run = jax.jit(functools.partial(gradients, function))
        return run(e, w, y, jax.tree.map(jnp.float64, taken(name)))

    with jax.enable_x64(True):
        e, w, y, *extra = on_device(batch(case, 3, norm=(0.5, 20.0), dtype=np.float64))
        close(pulled(Classes(4)), pulled(None), 1e-9)


def test_a_fused_update_follows_the_gradient():
    with jax.enable_x64(True):
        e, w, y = on_device(inputs(np.float64))
        chosen = on_device(EVERY)
        function = call("arcface", classes=Classes(4))
        rates = {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.0}
        fused = FusedSGD(w, jnp.zeros_like(w), **jax.tree.map(jnp.float64, rates))
        run = jax.jit(functools.partial(gradients, function))
        _, (d_e, d_w, _) = run(e, w, y, chosen)
        _, (fused_d_e, updated, _) = run(e, fused, y, chosen)
        close((fused_d_e, updated.weights), (d_e, w - 0.3 * d_w), 1e-12)


@pytest.mark.parametrize("classes", [None, Classes(4)], ids=["dense", "streamed"])
def test_a_cap_on_everything_leaves_an_empty_sum(classes):
    """The least loss of a softmax, 0, and a finite gradient of nothing; of a sum the target's."""
    e, w, y = on_device(inputs())
    alone = {"negative_cap": -1.0}
    for name, chosen in (("arcface", alone), ("normface", {**alone, "smoothing": 0.2})):
        run = jax.jit(functools.partial(gradients, call(name, classes=classes)))
        values, pulled = run(e, w, y, chosen)
        assert not np.nan_to_num(values).any()
        chex.assert_tree_all_finite(pulled)
        assert not np.any(pulled[0])
        assert not np.any(pulled[1])
    want = reference_remedies.remedied(reference_remedies.uniface, *inputs(), **CHOSEN, **alone)
    got = jax.jit(call("uniface", classes=classes))(e, w, y, **alone)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("classes", [None, Classes(4)], ids=["dense", "streamed"])
def test_caps_and_smoothings_may_be_traced_and_mapped(classes):
    e, w, y = on_device(inputs())
    function = call("arcface", classes=classes)
    caps, eps = jnp.array([-0.2, 0.1, 1.0]), jnp.array([0.0, 0.1, 0.3])

    def gradient(cap, eps):
        return gradients(function, e, w, y, {"negative_cap": cap, "smoothing": eps})

    many = jax.jit(jax.vmap(gradient))(caps, eps)
    one = jax.jit(functools.partial(gradients, call("arcface")))
    for i in range(3):
        chosen = {"negative_cap": caps[i], "smoothing": eps[i]}
        want = reference_remedies.remedied(
            reference_remedies.arcface, *inputs(), **CHOSEN, **jax.tree.map(float, chosen)
        )
        np.testing.assert_allclose(many[0][i], want, atol=2e-5)
        close(jax.tree.map(lambda a: a[i], many[1]), one(e, w, y, chosen)[1], 2e-5)  # noqa: B023


def test_in_bfloat16():
    e, w, y = (a.astype(jnp.bfloat16) if a.ndim > 1 else a for a in on_device(inputs()))
    chosen = {key: jnp.bfloat16(value) for key, value in EVERY.items()}
    run = jax.jit(functools.partial(gradients, call("arcface", classes=Classes(4))))
    values, pulled = run(e, w, y, chosen)
    exact = jax.tree.map(lambda a: np.asarray(a, np.float64), (e, w, chosen))
    terms = reference_remedies.arcface
    want = reference_remedies.remedied(terms, *exact[:2], np.asarray(y), **CHOSEN, **exact[2])
    assert values.dtype == jnp.float32
    assert pulled[0].dtype == pulled[2]["class_margins"].dtype == jnp.bfloat16
    np.testing.assert_allclose(values, want, rtol=2e-2, atol=2e-2)


def test_the_scale_of_adacos_is_that_of_the_kept_negatives():
    e, w, y = inputs(np.float64)
    y[7] = -1
    with jax.enable_x64(True):
        run = jax.jit(functools.partial(losses.adacos, negative_cap=0.1))
        _, scale = run(*on_device((e, w, y)), 9.0)
    sums, angles = [], []
    for x, label in zip(e, y, strict=True):
        if label >= 0:
            c = [reference.cosine(x, row) for row in w]
            kept = [9 * one for j, one in enumerate(c) if j != label and one <= 0.1]
            sums.append(reference.log_sum_exp(kept))
            angles.append(np.arccos(c[label]))
    average = reference.log_sum_exp(sums) - np.log(len(sums))
    median = sorted(angles)[(len(angles) - 1) // 2]
    np.testing.assert_allclose(scale, average / np.cos(min(np.pi / 4, median)), rtol=1e-9)


RULE = margins.cosface(scale=5.0, margin=0.3)
OF_A_SUM = margins.p2sgrad()
REFUSED = [
    (RULE, {"smoothing": 1.0}, "smoothing is 1.0: give a number 0 or more and less than 1"),
    (RULE, {"smoothing": -0.1}, "smoothing is -0.1"),
    (RULE, {"smoothing": jnp.zeros(3)}, r"smoothing has the shape \(3,\): give one number"),
    (RULE, {"negative_cap": 64.0}, "negative_cap is 64.0: give a number from -1 to 1"),
    (RULE, {"negative_cap": jnp.zeros((3, 1))}, "negative_cap has the shape"),
    (
        RULE,
        {"class_margins": jnp.ones(5)},
        r"class_margins has the shape \(5,\).*per class, \(4,\)",
    ),
    (RULE, {"class_weights": 2.0}, r"class_weights has the shape \(\).*per class, \(4,\)"),
    (OF_A_SUM, {"smoothing": 0.1}, "this loss is a sum over the classes: leave it at 0"),
    (OF_A_SUM, {"class_margins": jnp.ones(4)}, "this margin has none"),
    (margins.softmax(), {"negative_cap": 0.5}, "negative_cap is a cosine, and the similarities"),
    (margins.sphereface(margin=2, blend=0.0), {"negative_cap": 0.5}, "negative_cap is a cosine"),
    (RULE, {"negative_cap": 0.5, "bias": jnp.ones(4)}, "without a bias"),
]


@pytest.mark.parametrize(("rule", "given", "message"), REFUSED)
def test_what_can_not_be_is_refused(rule, given, message):
    e, w, y = jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.arange(3)
    with pytest.raises(ValueError, match=message):
        losses.margin_softmax(e, w, y, rule, **given)


def test_from_counts():
    counts = np.array([3, 50, 1, 0, 700, 3])
    for largest, power in ((0.5, 0.25), (0.35, 1.0)):
        got = losses.margins_from_counts(counts, largest=largest, power=power)
        want = reference_remedies.margins_from_counts(counts, largest=largest, power=power)
        np.testing.assert_allclose(got, want, rtol=1e-6)
    for beta in (0.0, 0.9, 0.999, 0.999999):
        got = losses.weights_from_counts(counts, beta=beta)
        want = reference_remedies.weights_from_counts([int(n) for n in counts], beta=beta)
        np.testing.assert_allclose(got, want, rtol=1e-5)
        assert got.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"beta is 1.0: give a number 0 or more and less than 1"):
        losses.weights_from_counts(counts, beta=1.0)
