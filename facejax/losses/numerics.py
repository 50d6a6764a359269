"""Guarded arithmetic: norms, sines, angles and products with gradients finite everywhere."""

import math

import jax
import jax.numpy as jnp
from jax import lax

# Stands for "not in the sum". Finite: minus infinity makes NaN of inf - inf in a softmax without
# a single negative, forward or backward.
VOID = -1e30

_LIFT, _LOW = 2.0**40, 1e-24  # what short vectors are multiplied by, and the squares of those


def working_dtype(*arrays: jax.Array) -> jnp.dtype:
    """The type in which losses are computed: float32, or float64 where an input has it."""
    double = any(array.dtype == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if double else jnp.float32)


@jax.custom_jvp
def norms(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Euclidean norms over the last axis and their inverses, in `working_dtype`.

    A vector whose square underflows has norm 0, inverse 0 and no gradient, so that a similarity
    with it is 0 and finite rather than NaN.

    Args:
      vectors: [..., D], any float type.

    Returns:
      (norms [...], inverse norms [...]).
    """
    vectors = vectors.astype(working_dtype(vectors))
    squares = jnp.sum(jnp.square(vectors), axis=-1)
    # Near the end of the range squares have lost digits: there, those of larger numbers are taken.
    lifted = jnp.sum(jnp.square(vectors * _LIFT), axis=-1)
    low, positive = squares < _LOW, squares > jnp.finfo(squares.dtype).tiny
    safe = jnp.where(positive, jnp.where(low, lifted, squares), 1)
    norm = jnp.where(low, jnp.sqrt(safe) / _LIFT, jnp.sqrt(safe))
    inverse = jnp.where(low, lax.rsqrt(safe) * _LIFT, lax.rsqrt(safe))
    return jnp.where(positive, norm, 0), jnp.where(positive, inverse, 0)


@norms.defjvp
def _norms_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    # Without the cube of the inverse norm, which float32 can't hold below 1e-13 or above 1e13.
    (vectors,), (moved,) = primals, tangents
    norm, inverse = norms(vectors)
    # The tangent is scaled, not the vectors: those scaled would be kept for the backward.
    along = jnp.sum(
        vectors.astype(norm.dtype) * (moved.astype(norm.dtype) * inverse[..., None]), axis=-1
    )
    # Without the `where` XLA:CPU fuses the reduction over a batch into what follows, and keeps one
    # more [B, C] array until then.
    return (norm, inverse), (along, jnp.where(norm > 0, -inverse * (inverse * along), 0))


def leveled(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Vectors [..., D] near unit length, and the inverses of their lengths, for products of any.

    They are multiplied by powers of two, which is exact; so products of vectors of lengths from
    1e-18 to 1e18 stay far from the ends of float32. float16 becomes float32.
    """
    inverse = norms(vectors)[1]
    if vectors.dtype == jnp.float16:
        vectors = vectors.astype(inverse.dtype)
    bits = jnp.finfo(inverse.dtype).nexp
    power = lax.reduce_precision(lax.stop_gradient(inverse), bits, 0)
    power = jnp.where(inverse > 0, power, 1)
    return vectors * power.astype(vectors.dtype)[..., None], inverse / power


def sine(cosine: jax.Array) -> jax.Array:
    """sqrt(1 - c^2), 0 with a zero gradient where rounding has brought |c| to 1 or beyond."""
    square = (1 - cosine) * (1 + cosine)
    inside = square > 0
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, square, 1)), 0)


# arccos(x) = sqrt(1 - x) times this polynomial for 0 <= x <= 1, to 2e-8: Abramowitz and Stegun,
# Handbook of Mathematical Functions, 4.4.46.
_ARCCOS = (
    1.5707963050, -0.2145988016, 0.0889789874, -0.0501743046,
    0.0308918810, -0.0170881256, 0.0066700901, -0.0012624911,
)  # fmt: skip


@jax.custom_jvp
def angle(cosine: jax.Array) -> jax.Array:
    """arccos(c) in [0, pi], with a zero gradient where rounding has brought |c| to 1 or beyond."""
    if cosine.dtype == jnp.float64:
        return jnp.arctan2(sine(cosine), cosine)
    # A polynomial is vectorised on the CPU, where arctan2 is a call for each element.
    size = jnp.minimum(jnp.abs(cosine), 1)
    acute = jnp.sqrt(1 - size) * jnp.polyval(jnp.asarray(_ARCCOS[::-1], size.dtype), size)
    return jnp.where(cosine < 0, math.pi - acute, acute)


@angle.defjvp
def _angle_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (cosine,), (tangent,) = primals, tangents
    opposite = sine(cosine)
    inside = opposite > 0
    slope = jnp.where(inside, -1 / jnp.where(inside, opposite, 1), 0)
    return angle(cosine), slope * tangent


def dot_rows(left: jax.Array, right: jax.Array) -> jax.Array:
    """left [B, D] times right [C, D] transposed: [B, C] in `working_dtype`.

    bfloat16 inputs are multiplied as they are and summed in float32; so are, in the backward, their
    gradients. float32 products take full precision on every platform.
    """
    left, right = alike(left, right)
    if jnp.finfo(left.dtype).bits < 32:
        return _low_precision_dot(left, right)
    return contract(left, right, 1, 1)


def alike(left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in one type: bfloat16 if both are, else `working_dtype`.

    float16 is no type for products: the gradient of a raw product, scale / (|e| |w|), leaves its
    range where that of an embedding does not.
    """
    low = left.dtype == right.dtype == jnp.bfloat16
    common = left.dtype if low else working_dtype(left, right)
    return left.astype(common), right.astype(common)


def contract(left: jax.Array, right: jax.Array, left_axis: int, right_axis: int) -> jax.Array:
    """The product of two matrices over one axis of each, summed in `working_dtype`."""
    return lax.dot_general(
        left,
        right,
        (((left_axis,), (right_axis,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=working_dtype(left, right),
    )


@jax.custom_vjp
def _low_precision_dot(left: jax.Array, right: jax.Array) -> jax.Array:
    return contract(left, right, 1, 1)


def _low_precision_dot_forward(
    left: jax.Array, right: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _low_precision_dot(left, right), (left, right)


def _low_precision_dot_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    # A float32 gradient here would drag both products into float32.
    left, right = saved
    gradient = gradient.astype(left.dtype)
    d_left = contract(gradient, right, 1, 0)
    d_right = contract(gradient, left, 0, 0)
    return d_left.astype(left.dtype), d_right.astype(right.dtype)


_low_precision_dot.defvjp(_low_precision_dot_forward, _low_precision_dot_backward)


def add_rows(whole: jax.Array, place: jax.Array, rows: jax.Array) -> jax.Array:
    """Adds rows [B, ...] to those of `whole` at `place` [B], some more than once.

    Rows past the end are dropped.
    """
    if jnp.finfo(whole.dtype).bits >= 32:
        return whole.at[place].add(rows.astype(whole.dtype), mode="drop")
    # One by one in a low precision, the later ones would be too small to count: summed up first.
    place, which = jnp.unique(place, size=len(place), fill_value=len(whole), return_inverse=True)
    sums = jnp.zeros_like(rows).at[which].add(rows)
    sums += whole.at[place].get(mode="fill", fill_value=0).astype(rows.dtype)
    return whole.at[place].set(sums.astype(whole.dtype), mode="drop")
