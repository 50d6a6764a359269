"""Values and gradients of the losses on this device, against float64 in NumPy."""

import functools
import traceback
from collections.abc import Callable, Iterator
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu import reference
from benchmarks.gpu.reference import Array
from benchmarks.gpu.row import Row, in_one_line
from facejax import losses
from facejax.losses import Classes

# Of the largest magnitude in an array. A logit of 64 carries 4e-6 of rounding whatever the code;
# bfloat16 gradients are rounded themselves, and so are the slopes that go into their products.
FLOAT32, PER_LOGIT, BFLOAT16_GRADIENT = 1e-5, 2e-7, 2e-2

STATES = {
    "curricularface": jnp.float32(reference.CURRICULUM),
    "adaface": losses.AdaFaceStatistics(*map(jnp.float32, reference.STATISTICS)),
    "sphereface2": jnp.float32(reference.BIAS),
}


def rows(*, batch: int, classes: int, dim: int, block: int) -> Iterator[Row]:
    """One row per loss and dtype, the largest errors of dense and streamed in it.

    Args:
      batch: embeddings.
      classes: not a multiple of the block, so that one block overlaps another.
      dim: length of an embedding.
      block: classes per block.
    """
    with futures.ThreadPoolExecutor(8) as pool:  # most of the time is the compiler's
        rows = [
            pool.submit(_row, name, dtype, inputs, block)
            for dtype in ("float32", "bfloat16")
            for inputs in [_draw(batch, classes, dim, dtype)]
            for name in reference.FORMULAS
        ]
        for row in rows:
            yield row.result()


def _row(name: str, dtype: str, inputs: tuple[jax.Array, ...], block: int) -> Row:
    try:
        return _compared(name, dtype, inputs, block)
    except Exception as error:  # the others are still worth knowing
        traceback.print_exc()
        return Row(f"{name}, {dtype}", {}, False, in_one_line(error))


def _draw(batch: int, classes: int, dim: int, dtype: str) -> tuple[jax.Array, ...]:
    """Embeddings at many angles to their classes, of many lengths.

    A negative that is hard or not by less than float32 can tell is no test of anything: rows with
    one are left out.
    """
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(classes, dim)) / np.sqrt(dim) * rng.uniform(0.5, 2, (classes, 1))
    labels = rng.integers(0, classes, 4 * batch)
    own, other = reference.unit(weights[labels])[0], rng.normal(size=(4 * batch, dim))
    other, _ = reference.unit(other - (other * own).sum(1, keepdims=True) * own)
    cosines = rng.uniform(-0.2, 0.95, (4 * batch, 1))
    embeddings = cosines * own + np.sqrt(1 - cosines**2) * other
    embeddings *= rng.uniform(5, 30, (4 * batch, 1))
    low = jnp.asarray(embeddings, dtype), jnp.asarray(weights, dtype)
    clear = reference.hard_gap(_double(low[0]), _double(low[1]), labels) > 2e-6
    kept = np.flatnonzero(clear)[:batch]
    return low[0][kept], low[1], jnp.asarray(labels[kept], jnp.int32)


def _double(array: jax.Array) -> Array:
    return np.asarray(array.astype(jnp.float32), np.float64)


def _compared(name: str, dtype: str, inputs: tuple[jax.Array, ...], block: int) -> Row:
    embeddings, weights, labels = inputs
    wanted = reference.evaluate(name, _double(embeddings), _double(weights), np.asarray(labels))
    layouts = {"dense": Classes(), "streamed": Classes(block_size=block)}
    compute = jax.jit(
        lambda *inputs: {
            which: _evaluate(functools.partial(_losses, name, layout), *inputs)
            for which, layout in layouts.items()
        }
    )
    bound = max(FLOAT32, PER_LOGIT * reference.FORMULAS[name].logit)
    gradient_bound = bound if dtype == "float32" else BFLOAT16_GRADIENT
    figures: dict[str, float] = {}
    passed = True
    for which, found in jax.device_get(compute(*inputs)).items():
        value, *gradients = map(_relative_error, found, wanted)
        figures |= {f"{which} value": value, f"{which} gradient": max(gradients)}
        passed &= value <= bound and max(gradients) <= gradient_bound
    return Row(f"{name}, {dtype}", figures, passed, f"at most {bound:.2g}, {gradient_bound:.2g}")


def _losses(
    name: str, layout: Classes, embeddings: jax.Array, weights: jax.Array, labels: jax.Array
) -> jax.Array:
    state = (STATES[name],) if name in STATES else ()
    result = getattr(losses, name)(embeddings, weights, labels, *state, classes=layout)
    return result[0] if isinstance(result, tuple) else result


def _evaluate(
    function: Callable[..., jax.Array], embeddings: jax.Array, weights: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(losses, gradients of their sum)."""
    found, pull = jax.vjp(lambda e, w: function(e, w, labels), embeddings, weights)
    return found, *pull(jnp.ones_like(found))


def _relative_error(found: Array, wanted: Array) -> float:
    """A number that JSON can hold: NaN becomes one that fails every bound."""
    error = np.abs(np.asarray(found, np.float64) - wanted).max() / np.abs(wanted).max()
    return float(np.nan_to_num(error, nan=1e30, posinf=1e30))
