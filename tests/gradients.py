"""A loss with every gradient that it has: dense, in blocks, over devices; and their comparison."""

import functools

import jax
import numpy as np

from tests.cases import CASES, batch, on_device, ours
from tests.devices import AXIS, padded, spread


def arguments(name, seed=31, **shape):
    """What `pulled` takes: a batch with a random cotangent per row, and all that is learned."""
    e, w, y, *extra = batch(name, seed, **{"norm": (0.5, 20.0), **shape})
    cotangent = np.random.default_rng(seed).normal(size=len(y)).astype(e.dtype)
    case = CASES[name]
    learned = {key: case.keywords[key] for key in case.learned if key in case.keywords}
    if "extra" in case.learned:
        learned["extra"] = extra.pop()
    learned = {key: np.asarray(value, e.dtype) for key, value in learned.items()}
    scalars = {key: value for key, value in learned.items() if value.ndim == 0}
    rows = {key: value for key, value in learned.items() if value.ndim}
    return e, w, y, cotangent, scalars, rows, extra[0] if extra else None


def pulled(name, classes=None):
    """(e, w, y, cotangent, learned scalars, learned [B], extra) -> losses, gradients, state."""

    def run(e, w, y, cotangent, scalars, rows, extra):
        def loss(e, w, scalars, rows):
            named = {**scalars, **rows}
            after = named.pop("extra", extra)
            after = () if after is None else (after,)
            return ours(name, **named)(e, w, y, *after, classes=classes)

        value, pull, state = jax.vjp(loss, e, w, scalars, rows, has_aux=True)
        d_e, d_w, d_scalars, d_rows = pull(cotangent)
        if classes is not None and classes.axis_name:
            d_scalars = jax.lax.psum(d_scalars, AXIS)
        return value, d_e, d_w, d_rows, d_scalars, state

    return run


@functools.cache
def dense(name):
    """`pulled` without devices, one program per case."""
    return jax.jit(pulled(name))


def pulled_over(name, classes, devices, how, arguments):
    """What `pulled` gives over devices, which nothing flows into the padding classes of."""
    run = spread(
        pulled(name, classes),
        devices,
        how,
        split=(True, True, True, True, False, True, False),
        split_out=(True, True, True, True, False, False),
    )
    e, w, *rest = arguments
    got = run(*on_device((e, padded(w, devices), *rest)))
    assert not np.asarray(got[2][len(w) :]).any(), "a padding class has a gradient"
    return (*got[:2], got[2][: len(w)], *got[3:])


def compare(got, want, relative, least=1e-3):
    """Two results of `pulled`, each array to a share of its largest magnitude, or of `least`."""
    names = ("losses", "d embeddings", "d weights", "d rows", "d scalars", "state")
    for what, a, b in zip(names, got, want, strict=True):
        for x, z in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            bound = relative * max(least, float(np.nanmax(np.abs(z), initial=0)))
            x, z = np.asarray(x, np.float64), np.asarray(z, np.float64)
            np.testing.assert_allclose(
                x, np.broadcast_to(z, x.shape), atol=bound, rtol=0, err_msg=what
            )
