"""The engine: margins of one's own, what it tells of its rows, and classes over devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from facejax.losses import margins
from tests import reference
from tests.cases import CASES, ONE_A_LOSS, batch, on_device, ours
from tests.devices import AXIS, WAYS, layout, padded, spread
from tests.gradients import arguments, compare, dense, pulled_over


def plain_batch(seed, **shape):
    return batch("normface", seed, **shape)


def rows_of(inputs, margin, **keywords):
    e, w, y = on_device(inputs)
    return losses.margin_rows(e, w, y, margin, **keywords)


def test_a_margin_of_ones_own():
    """The engine takes any pair of functions; `context` reaches both."""
    e, w, y = plain_batch(10)
    extra = np.linspace(0.0, 0.3, len(y)).astype(np.float32)
    mine = losses.Margin(
        target=lambda s, context: 20 * (s - context.extra["margin"]),
        negative=lambda s, context: context.extra["scale"] * s + 0 * context.target[:, None],
    )
    context = {"margin": jnp.asarray(extra), "scale": jnp.float32(20)}
    e, w, y = on_device((e, w, y))
    got = losses.margin_softmax(e, w, y, mine, context=context)
    expected = [
        reference.cosface(e[i : i + 1], w, y[i : i + 1], scale=20.0, margin=float(extra[i]))[0]
        for i in range(len(y))
    ]
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_gradients_flow_through_the_context():
    """The target's similarity and the norm, seen by the negatives, have a gradient."""
    e, w, y = batch("normface", 11, norm=(0.5, 3.0), dtype=np.float64)
    mine = losses.Margin(
        target=lambda s, context: s * context.norm,
        negative=lambda s, context: s * context.extra + jnp.square(context.target)[:, None],
    )

    def theirs(arguments):
        e, w, extra = arguments
        length = np.linalg.norm(e, axis=1)
        return reference.cross_entropy(
            e, w, y, lambda c, i: c * length[i], lambda c, i, own: c * float(extra) + own**2
        ).sum()

    arguments = e, w, np.float64(1.7)
    with jax.enable_x64(True):
        gradient = jax.grad(
            lambda e, w, extra: losses.margin_softmax(
                e, w, jnp.asarray(y), mine, context=extra
            ).sum(),
            (0, 1, 2),
        )
        got = jax.jit(gradient)(*on_device(arguments))
    for k in range(3):
        expected = reference.central_differences(
            lambda a, k=k: theirs((*arguments[:k], a, *arguments[k + 1 :])),
            np.asarray(arguments[k]),
        )
        np.testing.assert_allclose(got[k], expected, atol=1e-7 * np.abs(expected).max())


def test_a_sum_in_place_of_the_softmax():
    """reduce="sum": the target's term and all others, without logarithm."""
    e, w, y = plain_batch(12)
    mine = losses.Margin(
        target=lambda s, _: jnp.square(s - 1),
        negative=lambda s, _: 3 * s + 2,  # not 0 at 0: a masked class would show
        reduce="sum",
    )
    arrays = e, padded(w, 4), y
    got = rows_of(arrays, mine, classes=losses.Classes(num_classes=len(w))).losses
    expected = reference.binary_sum(e, w, y, lambda c: (c - 1) ** 2, lambda c: 3 * c + 2)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    with pytest.raises(ValueError, match="reduce must be one of"):
        rows_of(arrays, mine._replace(reduce="mean"))


def test_what_a_margin_observes_of_the_batch():
    e, w, y = plain_batch(13)
    y[4] = len(w)  # no class
    seen = []

    def observe(rows, context):
        seen.append(rows)
        return context + 1, {"log_sum": rows.log_sum(lambda s: 5 * s)}

    mine = losses.Margin(
        target=lambda s, context: s * context.extra,
        negative=lambda s, context: s * context.extra,
        observe=observe,
        penalty=lambda context: 0.5 * context.norm,
    )
    rows = rows_of((e, w, y), mine, context=jnp.float32(6))
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0].real, (y >= 0) & (y < len(w)))
    real = np.flatnonzero(seen[0].real)
    length = np.linalg.norm(e, axis=1)
    np.testing.assert_allclose(seen[0].norm[real], length[real], rtol=1e-5)
    for i in real:
        cosines = [reference.cosine(e[i], row) for row in w.astype(np.float64)]
        np.testing.assert_allclose(seen[0].target[i], cosines[y[i]], atol=1e-6)
        others = [5 * c for j, c in enumerate(cosines) if j != y[i]]
        np.testing.assert_allclose(
            rows.state["log_sum"][i], reference.log_sum_exp(others), atol=1e-5
        )
    expected = reference.normface(e, w, y, scale=7.0)
    expected[real] += 0.5 * length[real]
    np.testing.assert_allclose(rows.losses, expected, rtol=1e-5, atol=1e-5)


def test_rows_tell_target_and_hardest_similarity():
    e, w, y = plain_batch(11)
    rows = rows_of((e, w, y), margins.normface(scale=30.0))
    for i in np.flatnonzero(y >= 0):
        cosines = [reference.cosine(e[i], row) for row in w]
        others = [c for j, c in enumerate(cosines) if j != y[i]]
        np.testing.assert_allclose(rows.target[i], cosines[y[i]], atol=1e-6)
        np.testing.assert_allclose(rows.hardest[i], max(others), atol=1e-6)


@pytest.mark.parametrize("name", ONE_A_LOSS.values())
def test_rows_past_num_classes_are_not_there(name):
    """Small logits, where a class left at logit 0 would show; their labels are unknown."""
    e, w, y, *extra = batch(name, 14, norm=(0.1, 1.0), classes=5)
    more = np.concatenate([w, np.full_like(w[:3], np.nan)])
    cut = losses.Classes(num_classes=5)
    small = {"scale": 1.0} if "scale" in CASES[name].keywords else {}
    arrays = on_device((e, w, y, *extra))
    got = ours(name, **small)(arrays[0], jnp.asarray(more), *arrays[2:], classes=cut)
    chex.assert_trees_all_close(got, ours(name, **small)(*arrays), rtol=1e-6, atol=1e-6)
    beyond = arrays[2].at[0].set(6)
    assert np.isnan(ours(name)(arrays[0], arrays[1], beyond, *arrays[3:], classes=cut)[0][0])


# Over devices: each gives its rows' losses; gradients are those of the sum over devices.


WHERE = [("pmap", 8, 13), ("shard_map", 8, 13), ("pmap", 4, 16), ("shard_map", 4, 7)]
SHARDED = [(name, *WHERE[k % 2]) for k, name in enumerate(ONE_A_LOSS.values())]
SHARDED += [
    (name, *WHERE[2 + k % 2])
    for k, name in enumerate(name for name in CASES if name.split("_")[-1] in ("sorted", "fixed"))
]
SHARDED += [("arcface_linear", "pmap", 8, 8), ("arcface_linear", "shard_map", 8, 9)]


@pytest.mark.parametrize(("name", "how", "devices", "classes"), SHARDED)
def test_sharded_is_dense(name, how, devices, classes):
    inputs = arguments(name, 13, rows=16, classes=classes)
    _, _, y, cotangent, *_ = inputs
    y[5], cotangent[5] = classes, 0  # unknown
    got = pulled_over(name, layout(classes), devices, how, inputs)
    compare(got, dense(name)(*on_device(inputs)), 1e-5, least=1.0)


@pytest.mark.parametrize("how", WAYS)
def test_a_sharded_bias_per_class(how):
    classes = 13
    e, w, y = plain_batch(15, rows=16, classes=classes, norm=(0.5, 3.0))
    bias = np.linspace(-2, 2, classes).astype(np.float32)

    def gradient(e, w, y, bias, classes=None):
        return jax.value_and_grad(lambda b: losses.softmax(e, w, y, bias=b, classes=classes).sum())(
            bias
        )[1]

    run = spread(
        lambda e, w, y, b: gradient(e, w, y, b, classes=layout(classes)),
        8,
        how,
        split=(True,) * 4,
        split_out=True,
    )
    want = gradient(*on_device((e, w, y, bias)))
    got = run(*on_device((e, padded(w, 8), y, padded(bias, 8))))
    np.testing.assert_allclose(got[:classes], want, atol=1e-5)
    assert not np.asarray(got[classes:]).any()


@pytest.mark.parametrize("block_size", [None, 1])
def test_sharded_rows_are_those_of_this_device(block_size):
    e, w, y = plain_batch(14, rows=16, classes=16)
    margin = margins.normface(scale=9.0)
    classes = losses.Classes(block_size, AXIS)
    run = spread(
        lambda e, w, y: losses.margin_rows(e, w, y, margin, classes=classes)[:3],
        8,
        "pmap",
        split=(True, True, True),
        split_out=True,
    )
    whole = rows_of((e, w, y), margin)[:3]
    for got, want in zip(run(*on_device((e, w, y))), whole, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_an_axis_that_is_not_there_is_refused():
    e, w, y = jnp.ones((2, 3)), jnp.ones((4, 3)), jnp.zeros(2, jnp.int32)
    with pytest.raises(ValueError, match="no device axis 'nowhere'"):
        losses.cosface(e, w, y, classes=losses.Classes(axis_name="nowhere"))


def test_more_classes_than_rows_are_refused():
    e, w, y = jnp.ones((2, 3)), jnp.ones((4, 3)), jnp.zeros(2, jnp.int32)
    with pytest.raises(ValueError, match="every device needs a class"):
        losses.cosface(e, w, y, classes=losses.Classes(num_classes=5))


@pytest.mark.parametrize("how", WAYS)
def test_more_devices_than_classes_are_refused(how):
    e, w, y = np.ones((4, 3), np.float32), np.ones((4, 3), np.float32), np.zeros(4, np.int32)
    call = functools.partial(losses.cosface, classes=layout(3))
    run = spread(call, 4, how, split=(True, True, True), split_out=True)
    with pytest.raises(ValueError, match=r"3 classes don't fit 4 device\(s\)"):
        run(*on_device((e, w, y)))
