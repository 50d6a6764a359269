"""Streamed under the transformations of JAX, on any operands: as the dense loss in a plain loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from facejax.losses import Classes

ROWS, DIM, CLASSES = 4, 5, 7


def own_margin(e, w, y, value, classes):
    """Closes over what is traced: a float, an integer and a boolean."""
    flip, whole = value > 0.5, jnp.int32(value > 0.7)
    rule = losses.Margin(
        target=lambda s, _: value * s,
        negative=lambda s, c: jnp.where(flip, 2 * s, value * s) * (1 + whole.astype(s.dtype)),
    )
    return losses.margin_softmax(e, w, y, rule, classes=classes)


# (embeddings, class weights, labels, a number in [0.4, 0.8], classes) -> losses
LOSSES = {
    "bias": lambda e, w, y, v, c: losses.uniface(e, w, y, 4 * v, classes=c),
    "t": lambda e, w, y, v, c: losses.curricularface(e, w, y, v, scale=8.0, classes=c)[0],
    "scale": lambda e, w, y, v, c: losses.cosface(e, w, y, scale=10 * v, classes=c),
    "hardness": lambda e, w, y, v, c: losses.mv_softmax(e, w, y, hardness=v, scale=8.0, classes=c),
    "fixed scale": lambda e, w, y, v, c: losses.adacos(e, w, y, 9 * v, update=False, classes=c)[0],
    "closed over": own_margin,
}
WAYS = {
    "grad of vmap": lambda f, axes, args: jax.grad(
        lambda *args: jax.vmap(f, axes)(*args).sum(), (0, 1, 3)
    )(*args),
    "vmap of grad": lambda f, axes, args: summed(
        jax.vmap(jax.grad(f, (0, 1, 3)), axes)(*args), axes
    ),
    "map": lambda f, axes, args: jax.grad(lambda *args: mapped(f, axes, args).sum(), (0, 1, 3))(
        *args
    ),
}


def mapped(f, axes, args):
    many = [arg for arg, axis in zip(args, axes, strict=True) if axis == 0]

    def one(many):
        taken = iter(many)
        return f(
            *(arg if axis is None else next(taken) for arg, axis in zip(args, axes, strict=True))
        )

    return jax.lax.map(one, many, batch_size=2)


def summed(gradients, axes):
    """Gradients of a sum over copies: of what all copies share, they add up."""
    return tuple(
        g if axis == 0 else g.sum(0)
        for g, axis in zip(gradients, (*axes[:2], axes[3]), strict=True)
    )


def batch(axes, copies=4):
    random = np.random.default_rng(0)
    shapes = (ROWS, DIM), (CLASSES, DIM), (ROWS,), ()
    made = []
    for number, (shape, axis) in enumerate(zip(shapes, axes, strict=True)):
        shape = (copies, *shape) if axis == 0 else shape
        if number == 2:
            made.append(random.integers(0, CLASSES, shape).astype(np.int32))
        elif number == 3:
            made.append(random.uniform(0.4, 0.8, shape).astype(np.float32))
        else:
            made.append(random.normal(size=shape).astype(np.float32))
    return tuple(jnp.asarray(array) for array in made)


ALONE = [(name, operand) for name in LOSSES for operand in range(4) if operand == 3 or name == "t"]


@pytest.mark.parametrize(("name", "operand"), ALONE)
def test_one_operand_is_mapped(name, operand):
    axes = tuple(0 if number == operand else None for number in range(4))
    check(name, axes)


def test_all_but_one_operand_is_mapped():
    check("hardness", (None, 0, 0, 0))
    check("bias", (0, None, 0, 0))


def check(name, axes):
    args = batch(axes)

    def mean(e, w, y, v, classes):
        return LOSSES[name](e, w, y, v, classes).mean()

    dense = jax.jit(jax.grad(functools.partial(mean, classes=None), (0, 1, 3)))
    copies = [
        dense(*(a[i] if axis == 0 else a for a, axis in zip(args, axes, strict=True)))
        for i in range(4)
    ]
    want = summed(jax.tree.map(lambda *g: jnp.stack(g), *copies), axes)
    streamed = functools.partial(mean, classes=Classes(3))
    for way, run in WAYS.items():
        got = jax.jit(lambda *args, run=run: run(streamed, axes, args))(*args)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(
                a, b, atol=2e-5 * max(1e-3, float(jnp.abs(b).max())), err_msg=f"{name}, {way}"
            )


def test_eagerly_too():
    """Without a jit around, where a custom rule's closures would outlive what they close over."""
    args = batch((None, None, None, 0), copies=2)

    def mean(v, classes):
        return own_margin(*args[:3], v, classes).mean()

    streamed = functools.partial(mean, classes=Classes(3))
    got = jax.grad(lambda values: jax.vmap(streamed)(values).sum())(args[3])
    dense = jax.jit(jax.grad(functools.partial(mean, classes=None)))
    want = [dense(v) for v in args[3]]
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("wrap", [jax.checkpoint, jax.jit])
def test_under_scan_and_checkpoint(wrap):
    e, w, y, v = batch((None, None, None, 0))

    def total(e, classes):
        step = wrap(lambda carry, v: (carry + LOSSES["t"](e, w, y, v, classes).sum(), None))
        return jax.lax.scan(step, jnp.float32(0), v)[0]

    got, want = (
        jax.jit(jax.grad(functools.partial(total, classes=classes)))(e)
        for classes in (Classes(3), None)
    )
    np.testing.assert_allclose(got, want, atol=1e-4)
