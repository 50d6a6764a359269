"""The margins: what each loss does to the target's similarity and to the negatives'.

A `Margin` is handed to `facejax.losses.margin_softmax`. The losses by their papers' names, with
formulas, references and defaults, are in `softmax.py`, `additive.py`, `multiplicative.py`,
`hard_negatives.py`, `quality.py` and `binary.py`. Hyperparameters may be traced, but for strings,
flags and the integer margins of `l_softmax` and `sphereface`.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.curves import Number, beyond, cosine_of_sum, one_of, psi, real_psi
from facejax.losses.engine import Context, Margin, Seen
from facejax.losses.numerics import VOID, angle

GRADIENTS = ("exact", "straight_through")


class AdaFaceStatistics(NamedTuple):
    """Running mean and standard deviation of the embeddings' norms: scalars."""

    mean: Any = 20.0
    std: Any = 100.0


# Fixed margins


def softmax() -> Margin:
    """Raw inner products, without any margin."""
    return Margin(_identity, _identity, normalize=(False, False))


def normface(*, scale) -> Margin:
    """Scaled cosines, without any margin."""
    return Margin(_scaled(scale), _scaled(scale), bound=_known(scale))


def cosface(*, scale, margin) -> Margin:
    """An additive margin in the cosine."""
    target = lambda cosine, _: scale * (cosine - margin)  # noqa: E731
    return Margin(target, _scaled(scale), bound=_known(scale))


def arcface(*, scale, margin, beyond_pi="linear", gradient="exact") -> Margin:
    """An additive margin in the angle."""
    one_of("gradient", gradient, GRADIENTS)

    def target(cosine, _):
        value = cosine_of_sum(cosine, margin, beyond_pi=beyond_pi)
        if gradient == "straight_through":
            value = cosine + lax.stop_gradient(value - cosine)
        return scale * value

    return Margin(target, _scaled(scale), bound=_known(scale))


def combined_margin(*, scale, m1, m2, m3, beyond_pi) -> Margin:
    """A factor, an angle and a cosine."""

    def target(cosine, _):
        if isinstance(m1, (int, float)) and m1 == 1:
            return scale * (cosine_of_sum(cosine, m2, beyond_pi=beyond_pi) - m3)
        whole = m1 * angle(cosine) + m2
        value = beyond(jnp.cos(whole), whole <= math.pi, cosine, m2, beyond_pi)
        return scale * (value - m3)

    return Margin(target, _scaled(scale), bound=_known(scale))


def li_arcface(*, scale, margin) -> Margin:
    """Logits linear in the angle."""

    def logit(cosine, added):
        return scale * (1 - 2 / math.pi * (angle(cosine) + added))

    return Margin(
        lambda cosine, _: logit(cosine, margin),
        lambda cosine, _: logit(cosine, 0.0),
        bound=_known(scale),
    )


# Multiplicative margins


def l_softmax(*, margin, blend) -> Margin:
    """psi(theta) on raw features and raw class weights."""

    def target(similarity, context):
        return _annealed_psi(similarity, context.norm * context.class_norm, margin, blend)

    return Margin(target, _identity, normalize=(False, False))


def sphereface(*, margin, blend) -> Margin:
    """psi(theta) on unit class weights and raw features."""

    def target(similarity, context):
        return _annealed_psi(similarity, context.norm, margin, blend)

    return Margin(target, _identity, normalize=(False, True))


def _annealed_psi(similarity, lengths, margin, blend) -> jax.Array:
    """(blend lengths cos + lengths psi) / (1 + blend), where similarity = lengths cos."""
    positive = lengths > 0
    cosine = jnp.where(positive, similarity / jnp.where(positive, lengths, 1), 0)
    return (blend * similarity + lengths * psi(cosine, margin)) / (1 + blend)


def sphereface_r(*, scale, margin) -> Margin:
    """psi(theta) with a real factor, scaled."""
    target = lambda cosine, _: scale * real_psi(cosine, margin)  # noqa: E731
    return Margin(target, _scaled(scale), bound=_known(scale))


# Hard negatives


def mv_softmax(*, scale, margin, base, hardness, adaptive, beyond_pi) -> Margin:
    """Negatives above the margined target are raised."""
    one_of("base", base, ("arc", "am"))

    def margined(cosine, rule):
        if base == "am":
            return cosine - margin
        return cosine_of_sum(cosine, margin, beyond_pi=rule)

    def negative(cosine, context):
        hard = cosine > margined(context.target, "plain")[:, None]
        raised = (1 + hardness) * cosine + hardness if adaptive else cosine + hardness
        return scale * jnp.where(hard, raised, cosine)

    return Margin(lambda cosine, _: scale * margined(cosine, beyond_pi), negative)


def circle(*, scale, margin) -> Margin:
    """Each cosine weighted by its distance from its optimum; the weights are constants."""

    def target(cosine, _):
        weight = lax.stop_gradient(jax.nn.relu(1 + margin - cosine))
        return scale * weight * (cosine - (1 - margin))

    def negative(cosine, _):
        weight = lax.stop_gradient(jax.nn.relu(cosine + margin))
        return scale * weight * (cosine - margin)

    return Margin(target, negative)


def curricularface(*, scale, margin, rate, update) -> Margin:
    """Hard negatives are modulated by t, which follows the mean target cosine."""

    def observe(seen: Seen, t):
        if update:
            t = _moved(t, _mean(seen.target, seen.real), rate, jnp.any(seen.real))
        t = lax.stop_gradient(t)
        return t, t

    def negative(cosine, context):
        hard = cosine > cosine_of_sum(context.target, margin, beyond_pi="plain")[:, None]
        return scale * jnp.where(hard, cosine * (context.extra + cosine), cosine)

    target = functools.partial(cosine_of_sum, margin=margin, beyond_pi="linear")
    return Margin(lambda cosine, _: scale * target(cosine), negative, observe=observe)


# Margins that follow the sample


def magface(*, scale, l_a, u_a, l_m, u_m, lambda_g, beyond_pi) -> Margin:
    """An angular margin that grows with the norm, and a penalty on small norms."""

    def target(cosine, context):
        size = jnp.clip(context.norm, l_a, u_a)
        margin = l_m + (u_m - l_m) / (u_a - l_a) * (size - l_a)
        return scale * cosine_of_sum(cosine, margin, beyond_pi=beyond_pi)

    def penalty(context):
        size = jnp.clip(context.norm, l_a, u_a)
        return lambda_g * (1 / size + size / u_a**2)

    return Margin(target, _scaled(scale), penalty=penalty, bound=_known(scale))


def adaface(*, scale, margin, h, rate, update) -> Margin:
    """Angular and additive margins that follow the norm's place among the norms seen."""
    edge = 1e-3

    def observe(seen: Seen, statistics):
        norm = lax.stop_gradient(jnp.clip(seen.norm, edge, 100))
        mean, std = statistics
        if update:
            count = jnp.sum(seen.real, dtype=norm.dtype)
            batch_mean = _mean(norm, seen.real)
            squares = jnp.where(seen.real, jnp.square(norm - batch_mean), 0)
            batch_std = jnp.sqrt(jnp.sum(squares) / jnp.maximum(count - 1, 1))
            mean = _moved(mean, batch_mean, rate, count >= 1)
            std = _moved(std, batch_std, rate, count >= 2)
        mean, std = lax.stop_gradient((mean, std))
        quality = jnp.clip(h * (norm - mean) / (std + edge), -1, 1)
        return quality, AdaFaceStatistics(mean, std)

    def target(cosine, context):
        theta = angle(jnp.clip(cosine, edge - 1, 1 - edge))
        moved = jnp.clip(theta - margin * context.extra, edge, math.pi - edge)
        return scale * (jnp.cos(moved) - (margin + margin * context.extra))

    def negative(cosine, _):
        return scale * jnp.clip(cosine, edge - 1, 1 - edge)

    return Margin(target, negative, observe=observe, bound=_known(scale))


def elasticface(*, scale, base, sort) -> Margin:
    """A margin a row, drawn by the caller and handed in as the context."""
    one_of("base", base, ("arc", "cos"))

    def observe(seen: Seen, margins):
        if sort:
            margins = _smallest_to_largest_cosine(margins, seen)
        return margins, None

    def target(cosine, context):
        if base == "cos":
            return scale * (cosine - context.extra)
        return scale * cosine_of_sum(cosine, context.extra, beyond_pi="plain")

    return Margin(target, _scaled(scale), observe=observe, bound=_known(scale))


# Binary losses: a sum over the classes


def sphereface2(*, scale, margin, balance, t, weight) -> Margin:
    """One logistic regression a class, on a bent cosine; the bias is the context."""

    def bent(cosine):
        inside = cosine > -1
        return jnp.where(inside, 2 * ((jnp.where(inside, cosine, 0) + 1) / 2) ** t, 0) - 1

    def target(cosine, context):
        logit = scale * (bent(cosine) - margin) + context.extra
        return weight * balance / scale * jax.nn.softplus(-logit)

    def negative(cosine, context):
        logit = scale * (bent(cosine) + margin) + context.extra
        return weight * (1 - balance) / scale * jax.nn.softplus(logit)

    return Margin(target, negative, reduce="sum")


def uniface(*, scale, margin, balance) -> Margin:
    """One threshold for all pairs of sample and class; the bias is the context."""

    def target(cosine, context):
        return jax.nn.softplus(context.extra - scale * (cosine - margin))

    def negative(cosine, context):
        return balance * jax.nn.softplus(scale * cosine - context.extra)

    return Margin(target, negative, reduce="sum")


def sface(*, scale, slope, a, b) -> Margin:
    """Cosines weighted by sigmoids of the angle, which are constants."""

    def gate(signed):
        return scale * lax.stop_gradient(jax.nn.sigmoid(slope * signed))

    return Margin(
        lambda cosine, _: -gate(angle(cosine) - a) * cosine,
        lambda cosine, _: gate(b - angle(cosine)) * cosine,
        reduce="sum",
    )


def p2sgrad() -> Margin:
    """Half the squared distance of the cosines from a one-hot vector."""
    return Margin(
        lambda cosine, _: jnp.square(cosine - 1) / 2,
        lambda cosine, _: jnp.square(cosine) / 2,
        reduce="sum",
    )


# A scale that follows the batch


def adacos(*, update) -> Margin:
    """No margin; the scale follows the median angle and the negatives; the context is the scale."""

    def observe(seen: Seen, scale):
        if update:
            negatives = seen.log_sum(lambda cosine: scale * cosine)
            count = jnp.sum(seen.real)
            total = jax.nn.logsumexp(jnp.where(seen.real, negatives, VOID))
            cosines = jnp.sort(jnp.where(seen.real, seen.target, -jnp.inf), descending=True)
            median = cosines[jnp.maximum(count - 1, 0) // 2]  # the lower median of the angles
            # cos(min(pi / 4, theta))
            largest = jnp.maximum(jnp.cos(jnp.pi / 4).astype(median.dtype), median)
            fresh = (total - jnp.log(jnp.maximum(count, 1)).astype(total.dtype)) / largest
            scale = jnp.where((count > 0) & (total > VOID / 2), fresh, scale)
        scale = lax.stop_gradient(scale)
        return scale, scale

    def logit(cosine, context):
        return context.extra * cosine

    return Margin(logit, logit, observe=observe)


# Pieces


def _identity(similarity: jax.Array, _: Context) -> jax.Array:
    return similarity


def _scaled(scale: Number):
    return lambda cosine, _: scale * cosine


def _mean(values: jax.Array, real: jax.Array) -> jax.Array:
    count = jnp.maximum(jnp.sum(real), 1).astype(values.dtype)
    return jnp.sum(jnp.where(real, values, 0)) / count


def _moved(old, new: jax.Array, rate: Number, valid: jax.Array) -> jax.Array:
    """A running mean, moved by `rate` of the way where the batch has a value."""
    return jnp.where(valid, rate * new + (1 - rate) * old, old)


def _smallest_to_largest_cosine(margins: jax.Array, seen: Seen) -> jax.Array:
    """The real rows' margins, sorted: the largest cosine gets the smallest. 0 in other rows."""
    order = jnp.argsort(jnp.where(seen.real, seen.target, -jnp.inf), descending=True)
    ascending = jnp.sort(jnp.where(seen.real, margins, jnp.inf))
    placed = jnp.zeros_like(margins).at[order].set(ascending)
    return jnp.where(seen.real, placed, 0)


def _known(scale: Number) -> float | None:
    """The largest magnitude of a scaled cosine, unless it is traced."""
    return float(scale) if isinstance(scale, (int, float)) else None
