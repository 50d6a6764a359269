"""Streamed class weights: the same numbers as one matrix, in memory that follows the block."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from facejax.losses import Classes, margins
from tests.cases import CASES, ONE_A_LOSS, batch, hostile, on_device, ours, typed
from tests.devices import AXIS, WAYS, padded, spread
from tests.gradients import arguments, compare, dense, pulled, pulled_over

# Another's negatives: these differ in the target's logit, which is not streamed, or in the state.
SAME = {f"{loss}_{m}" for loss in ("l_softmax", "sphereface") for m in (1, 2, 3)}
SAME |= {f"sphereface_r_{m}" for m in (1.0, 1.4, 3.6)} | {"sphereface_unblended", "adaface_close"}
SAME |= {"combined_m1_plain", "combined_narrow", "curricularface_fast"}
SAME |= {"elasticface_cos", "elasticface_cos_sorted"}
SAME |= {n for n, case in CASES.items() if case.keywords.get("beyond_pi", "plain") != "plain"}
each_negative = pytest.mark.parametrize("name", [name for name in CASES if name not in SAME])
each_loss = pytest.mark.parametrize("name", ONE_A_LOSS.values())

# One for each thing that goes into a block: context, statistics, sub-centres, norms, a sum.
KINDS = ("softmax", "arcface_plain", "subcenter", "l_softmax_4", "curricularface", "adaface")
KINDS += ("elasticface_arc", "sphereface2", "adacos")


@each_negative
def test_streamed_is_dense_in_float64(name):
    """Nine classes in blocks of four: the last block has one class, and overlaps."""
    assert set(CASES) > SAME
    with jax.enable_x64(True):
        inputs = on_device(arguments(name, dtype=np.float64))
        got = jax.jit(pulled(name, Classes(4)))(*inputs)
        compare(got, dense(name)(*inputs), 1e-9)


@pytest.mark.parametrize("block", [1, 8, 9, 1000, "auto"])
def test_any_block_size(block):
    inputs = on_device(arguments("arcface_learned"))
    got = jax.jit(pulled("arcface_learned", Classes(block)))(*inputs)
    compare(got, dense("arcface_learned")(*inputs), 1e-5)


@each_loss
def test_streamed_is_dense_with_small_logits(name):
    """One class more than a block, logits near 0: where a class too many or too few shows."""
    e, w, y, *rest = arguments(name, dim=64, classes=129, pull=False, norm=(1e-3, 1e-2))
    inputs = on_device((e, 0.01 * w, y, *rest))
    got = jax.jit(pulled(name, Classes(128)))(*inputs)
    compare(got, dense(name)(*inputs), 1e-5)


@pytest.mark.parametrize("scale", [64.0, 80.0, 300.0])
def test_with_and_without_a_running_maximum(scale):
    """A number that is traced has no known bound, and 300 would overflow; all logits at +-scale."""
    e, _, y = on_device(arguments("normface")[:3])
    w = jnp.stack([e[3], -e[3]] * 400)
    e, y = e.at[:].set(e[3]), jnp.abs(y)

    def call(scale, classes):
        call = functools.partial(losses.normface, scale=scale, classes=classes)
        return jax.vjp(lambda w: call(e, w, y), w)

    want, pull = call(scale, None)
    for given in (scale, jnp.float32(scale)):
        got, pull_streamed = call(given, Classes(300))
        np.testing.assert_allclose(got, want, rtol=1e-6)
        for a, b in zip(pull_streamed(got), pull(got), strict=True):  # 0 but for rounding
            np.testing.assert_allclose(a, b, atol=1e-5 * scale * float(got.max()))


@pytest.mark.parametrize("name", ["normface", "softmax", "sphereface2"])
def test_one_class_has_no_negatives(name):
    inputs = on_device(arguments(name, classes=1))
    with jax.debug_nans(True):
        got = pulled(name, Classes(4))(*inputs)
    chex.assert_tree_all_finite(got)
    compare(got, dense(name)(*inputs), 1e-5)


# Either wrapper in turn, both of them for one.
SHARDED = [(name, WAYS[k % 2]) for k, name in enumerate(ONE_A_LOSS.values())]
SHARDED += [("normface", how) for how in WAYS if ("normface", how) not in SHARDED]


@pytest.mark.parametrize(("name", "how"), SHARDED)
def test_streamed_and_sharded_is_dense(name, how):
    devices, classes = 4 if how == "pmap" else 2, 13
    inputs = arguments(name, rows=16, classes=classes)
    got = pulled_over(name, Classes(3, AXIS, classes), devices, how, inputs)
    first = jax.tree.map(lambda a: a[0], got[4:])
    chex.assert_trees_all_equal(jax.tree.map(lambda a: a[-1], got[5]), first[1])
    compare((*got[:4], *first), dense(name)(*on_device(inputs)), 2e-5)


@pytest.mark.parametrize("how", WAYS)
def test_negatives_may_see_their_targets(how):
    """What flows to a target or its class's norm from other devices goes where the class is."""
    e, w, y = batch("normface", 4, rows=16, classes=13, norm=(0.5, 3.0))
    rule = losses.Margin(
        target=lambda s, context: 3 * s * context.norm,
        negative=lambda s, seen: 5 * s + (s * seen.norm[:, None] + 1) * _seen(seen)[:, None],
    )

    def gradient(e, w, y, classes=None):
        call = functools.partial(losses.margin_softmax, margin=rule, classes=classes)
        return jax.grad(lambda e, w: call(e, w, y).sum(), (0, 1))(e, w)

    want = gradient(*on_device((e, w, y)))
    classes = Classes(3, AXIS, 13)
    run = spread(
        functools.partial(gradient, classes=classes), 4, how, split=(True,) * 3, split_out=True
    )
    d_e, d_w = run(*on_device((e, padded(w, 4), y)))
    for a, b in zip((d_e, d_w[:13]), want, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()))


def _seen(context):
    return jnp.square(context.target) + jnp.sin(context.class_norm)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@each_loss
def test_hostile_rows_are_finite(name, dtype):
    e, w, y, *extra = on_device(hostile(name, dtype))
    call = functools.partial(ours(name), classes=Classes(3))
    values, pull = jax.vjp(lambda e, w: call(e, w, y, *extra)[0], e, w)
    gradients = pull(jnp.ones_like(values))
    chex.assert_tree_all_finite((values, gradients))
    assert values.dtype == jnp.float32
    assert [g.dtype for g in gradients] == [dtype, dtype]


def test_a_uniform_start_in_bfloat16_keeps_every_negative():
    """At the start every probability is 1 / C: far below a bfloat16's step, but their sum is 1."""
    random = np.random.default_rng(0)
    e, w = random.normal(size=(8, 16)), random.normal(size=(5000, 16))
    y = jnp.arange(8, dtype=jnp.int32)

    def gradient(dtype, classes):
        low = jnp.asarray(e, jnp.bfloat16).astype(dtype), jnp.asarray(w, jnp.bfloat16).astype(dtype)
        call = functools.partial(losses.normface, scale=1.0, classes=classes)
        return jax.jit(jax.grad(lambda e, w: call(e, w, y).sum(), (0, 1)))(*low)

    exact = gradient(jnp.float32, None)
    for got, want in zip(gradient(jnp.bfloat16, Classes(1024)), exact, strict=True):
        np.testing.assert_allclose(
            np.asarray(got, np.float32), want, atol=0.02 * float(jnp.abs(want).max())
        )
        negatives = np.asarray(got, np.float32)[8:]
        assert np.all(np.any(negatives != 0, axis=-1))


@pytest.mark.parametrize("name", KINDS)
def test_vmap_and_jit(name):
    stacks = [arguments(name, seed)[:3] for seed in (1, 2)]
    e, w, y = (jnp.stack([jnp.asarray(a) for a in parts]) for parts in zip(*stacks, strict=True))
    extra = on_device(arguments(name, 1)[6])
    after = () if extra is None else (extra,)
    if "extra" in CASES[name].learned:
        after = (on_device({**arguments(name, 1)[4], **arguments(name, 1)[5]})["extra"],)

    def gradient(e, w, y):
        call = functools.partial(ours(name), classes=Classes(4))
        return jax.grad(lambda e, w: call(e, w, y, *after)[0].sum(), (0, 1))(e, w)

    one_by_one = [gradient(e[i], w[i], y[i]) for i in range(2)]
    together = jax.jit(jax.vmap(gradient))(e, w, y)
    for i in range(2):
        for got, want in zip(jax.tree.map(lambda a: a[i], together), one_by_one[i], strict=True):  # noqa: B023
            bound = 1e-5 * max(1e-3, float(jnp.abs(want).max()))
            np.testing.assert_allclose(got, want, atol=bound)


def test_hyperparameters_may_be_traced():
    e, w, y = on_device(arguments("arcface_plain")[:3])

    def mean(scale, margin, classes):
        return losses.arcface(e, w, y, scale=scale, margin=margin, classes=classes).mean()

    at = jnp.float32(20), jnp.float32(0.3)
    want = jax.grad(functools.partial(mean, classes=None), (0, 1))(*at)
    streamed = jax.jit(jax.grad(functools.partial(mean, classes=Classes(4)), (0, 1)))(*at)
    np.testing.assert_allclose(streamed, want, rtol=1e-4)
    many = jax.vmap(functools.partial(mean, classes=Classes(4)), (0, None))(
        jnp.array([10.0, 20.0]), jnp.float32(0.3)
    )
    np.testing.assert_allclose(many[1], mean(*at, None), rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "arcface_linear", "sphereface2", "subcenter"])
def test_temporaries_follow_the_block(name):
    e, w, y, *rest = arguments(name, rows=64, dim=8, classes=20_000)
    shapes = jax.eval_shape(lambda: on_device((e, w, y, *rest)))

    def temporaries(classes):
        compiled = jax.jit(pulled(name, classes)).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(Classes(500)) < temporaries(None) / 5


@pytest.mark.parametrize("block", [0, -4, 2.5, "all"])
def test_bad_block_sizes_are_refused(block):
    with pytest.raises(ValueError, match="block_size must be"):
        Classes(block)


def test_rows_of_a_streamed_batch():
    e, w, y = on_device(arguments("normface")[:3])
    rule = margins.normface(scale=9.0)
    whole = losses.margin_rows(e, w, y, rule)
    streamed = losses.margin_rows(e, w, y, rule, classes=Classes(2))
    for got, want in zip(streamed[:3], whole[:3], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_typed_inputs_may_differ():
    e, w, y = arguments("cosface")[:3]
    mixed = jnp.asarray(e), jnp.asarray(w, jnp.bfloat16), jnp.asarray(y)
    same = on_device(typed((e, np.asarray(mixed[1], np.float32)), np.float32))
    np.testing.assert_allclose(
        losses.cosface(*mixed, classes=Classes(4)), losses.cosface(*same, mixed[2]), atol=1e-4
    )
