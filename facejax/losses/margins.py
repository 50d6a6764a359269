"""The margins: what each loss does to the target's similarity and to the negatives'.

    loss_i = log(1 + exp(LSE_{j != y} n(s_ij) - p(s_iy)))

    similarity  s_ij             cosines, or the raw products of embeddings and class weights
      |             |
    target p    negative n       the margin: two elementwise functions, all that tells losses apart
      |             |
    engine                       sums over classes: dense | streamed | sharded | sampled, for all
    loss_i                       one per example

This file is the middle line. (LSE is the logarithm of a sum of exponentials. The binary losses,
`reduce="sum"`, are p(s_iy) + sum_{j != y} n(s_ij) instead.) Both read the margin, which may differ
from class to class, as `Context.margin`. A `Margin` is handed to `facejax.losses.margin_softmax`.
The losses by their papers' names, with formulas, references and defaults, are in `softmax.py`,
`additive.py`, `multiplicative.py`, `hard_negatives.py`, `quality.py` and `binary.py`.
Hyperparameters may be traced, but for strings, flags and the integer margins of `l_softmax` and
`sphereface`.
"""

import math
from collections.abc import Callable
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


def normface(*, scale: Number) -> Margin:
    """Scaled cosines, without any margin."""
    return _on_target(scale, lambda cosine, _: scale * cosine)


def cosface(*, scale: Number, margin: Number) -> Margin:
    """An additive margin in the cosine."""
    return _on_target(
        scale, lambda cosine, context: scale * (cosine - context.margin), margin=margin
    )


def arcface(
    *, scale: Number, margin: Number, beyond_pi: str = "linear", gradient: str = "exact"
) -> Margin:
    """An additive margin in the angle."""
    one_of("gradient", gradient, GRADIENTS)

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        value = cosine_of_sum(cosine, context.margin, beyond_pi=beyond_pi)
        if gradient == "straight_through":
            value = cosine + lax.stop_gradient(value - cosine)
        return scale * value

    return _on_target(scale, target, margin=margin)


def combined_margin(*, scale: Number, m1: Number, m2: Number, m3: Number, beyond_pi: str) -> Margin:
    """A factor, an angle and a cosine."""

    def target(cosine: jax.Array, _: Context) -> jax.Array:
        if isinstance(m1, (int, float)) and m1 == 1:
            return scale * (cosine_of_sum(cosine, m2, beyond_pi=beyond_pi) - m3)
        whole = m1 * angle(cosine) + m2
        value = beyond(jnp.cos(whole), whole <= math.pi, cosine, m2, beyond_pi)
        return scale * (value - m3)

    return _on_target(scale, target)


def li_arcface(*, scale: Number, margin: Number) -> Margin:
    """Logits linear in the angle."""

    def logit(cosine: jax.Array, added: Number) -> jax.Array:
        return scale * (1 - 2 / math.pi * (angle(cosine) + added))

    return Margin(
        lambda cosine, context: logit(cosine, context.margin),
        lambda cosine, _: logit(cosine, 0.0),
        bound=_known(scale),
        margin=margin,
    )


# Multiplicative margins


def l_softmax(*, margin: int, blend: Number) -> Margin:
    """psi(theta) on raw features and raw class weights."""

    def target(similarity: jax.Array, context: Context) -> jax.Array:
        return _annealed_psi(similarity, context.norm * context.class_norm, margin, blend)

    return Margin(target, _identity, normalize=(False, False))


def sphereface(*, margin: int, blend: Number) -> Margin:
    """psi(theta) on unit class weights and raw features."""

    def target(similarity: jax.Array, context: Context) -> jax.Array:
        return _annealed_psi(similarity, context.norm, margin, blend)

    return Margin(target, _identity, normalize=(False, True))


def _annealed_psi(
    similarity: jax.Array, lengths: jax.Array, margin: int, blend: Number
) -> jax.Array:
    """(blend lengths cos + lengths psi) / (1 + blend), where similarity = lengths cos."""
    positive = lengths > 0
    cosine = jnp.where(positive, similarity / jnp.where(positive, lengths, 1), 0)
    return (blend * similarity + lengths * psi(cosine, margin)) / (1 + blend)


def sphereface_r(*, scale: Number, margin: Number) -> Margin:
    """psi(theta) with a real factor, scaled."""
    return _on_target(
        scale, lambda cosine, context: scale * real_psi(cosine, context.margin), margin=margin
    )


# Hard negatives


def mv_softmax(
    *, scale: Number, margin: Number, base: str, hardness: Number, adaptive: bool, beyond_pi: str
) -> Margin:
    """Negatives above the margined target are raised."""
    one_of("base", base, ("arc", "am"))

    def margined(cosine: jax.Array, margin: Number, rule: str) -> jax.Array:
        if base == "am":
            return (
                jnp.where(cosine > 0, cosine - margin, cosine)
                if rule == "easy"
                else cosine - margin
            )
        return cosine_of_sum(cosine, margin, beyond_pi=rule)

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        return scale * margined(cosine, context.margin, beyond_pi)

    def negative(cosine: jax.Array, context: Context) -> jax.Array:
        hard = cosine > margined(context.target, context.margin, "plain")[:, None]
        raised = (1 + hardness) * cosine + hardness if adaptive else cosine + hardness
        return scale * jnp.where(hard, raised, cosine)

    return Margin(target, negative, margin=margin)


def circle(*, scale: Number, margin: Number) -> Margin:
    """Each cosine weighted by its distance from its optimum; the weights are constants."""

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        weight = lax.stop_gradient(jax.nn.relu(1 + context.margin - cosine))
        return scale * weight * (cosine - (1 - context.margin))

    def negative(cosine: jax.Array, context: Context) -> jax.Array:
        m = _beside(context.margin)
        weight = lax.stop_gradient(jax.nn.relu(cosine + m))
        return scale * weight * (cosine - m)

    return Margin(target, negative, margin=margin)


def curricularface(*, scale: Number, margin: Number, rate: Number, update: bool) -> Margin:
    """Hard negatives are modulated by t, which follows the mean target cosine."""

    def observe(seen: Seen, t: Any) -> tuple[Any, Any]:
        t = jnp.asarray(t, seen.target.dtype)
        if update:
            t = _moved(t, _mean(seen.target, seen.real), rate, jnp.any(seen.real))
        t = lax.stop_gradient(t)
        return t, t

    def negative(cosine: jax.Array, context: Context) -> jax.Array:
        edge = cosine_of_sum(context.target, context.margin, beyond_pi="plain")[:, None]
        return scale * jnp.where(cosine > edge, cosine * (context.extra + cosine), cosine)

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        return scale * cosine_of_sum(cosine, context.margin, beyond_pi="linear")

    return Margin(target, negative, observe=observe, margin=margin)


# Margins that follow the sample


def magface(
    *,
    scale: Number,
    l_a: Number,
    u_a: Number,
    l_m: Number,
    u_m: Number,
    lambda_g: Number,
    beyond_pi: str,
) -> Margin:
    """An angular margin that grows with the norm, and a penalty on small norms."""

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        size = jnp.clip(context.norm, l_a, u_a)
        margin = l_m + (u_m - l_m) / (u_a - l_a) * (size - l_a)
        return scale * cosine_of_sum(cosine, margin, beyond_pi=beyond_pi)

    def penalty(context: Context) -> jax.Array:
        size = jnp.clip(context.norm, l_a, u_a)
        return lambda_g * (1 / size + size / u_a**2)

    return _on_target(scale, target, penalty=penalty)


def adaface(*, scale: Number, margin: Number, h: Number, rate: Number, update: bool) -> Margin:
    """Angular and additive margins that follow the norm's place among the norms seen."""
    edge = 1e-3

    def observe(seen: Seen, statistics: Any) -> tuple[Any, Any]:
        norm = lax.stop_gradient(jnp.clip(seen.norm, edge, 100))
        mean, std = (jnp.asarray(one, norm.dtype) for one in statistics)
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

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        theta = angle(jnp.clip(cosine, edge - 1, 1 - edge))
        added = context.margin * context.extra
        moved = jnp.clip(theta - added, edge, math.pi - edge)
        return scale * (jnp.cos(moved) - (context.margin + added))

    def negative(cosine: jax.Array, _: Context) -> jax.Array:
        return scale * jnp.clip(cosine, edge - 1, 1 - edge)

    return Margin(target, negative, observe=observe, bound=_known(scale), margin=margin)


def elasticface(*, scale: Number, base: str, sort: bool) -> Margin:
    """One margin per row, drawn by the caller and handed in as the context."""
    one_of("base", base, ("arc", "cos"))

    def observe(seen: Seen, margins: Any) -> tuple[Any, Any]:
        if sort:
            margins = _smallest_to_largest_cosine(margins, seen)
        return margins, None

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        if base == "cos":
            return scale * (cosine - context.extra)
        return scale * cosine_of_sum(cosine, context.extra, beyond_pi="plain")

    return _on_target(scale, target, observe=observe)


# Binary losses: a sum over the classes


def sphereface2(
    *, scale: Number, margin: Number, balance: Number, t: Number, weight: Number
) -> Margin:
    """One logistic regression per class, on a bent cosine; the bias is the context."""

    def bent(cosine: jax.Array) -> jax.Array:
        inside = cosine > -1
        return jnp.where(inside, 2 * ((jnp.where(inside, cosine, 0) + 1) / 2) ** t, 0) - 1

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        logit = scale * (bent(cosine) - context.margin) + context.extra
        return weight * balance / scale * jax.nn.softplus(-logit)

    def negative(cosine: jax.Array, context: Context) -> jax.Array:
        logit = scale * (bent(cosine) + _beside(context.margin)) + context.extra
        return weight * (1 - balance) / scale * jax.nn.softplus(logit)

    return Margin(target, negative, reduce="sum", margin=margin)


def uniface(*, scale: Number, margin: Number, balance: Number) -> Margin:
    """One threshold for all pairs of sample and class; the bias is the context."""

    def target(cosine: jax.Array, context: Context) -> jax.Array:
        return jax.nn.softplus(context.extra - scale * (cosine - context.margin))

    def negative(cosine: jax.Array, context: Context) -> jax.Array:
        return balance * jax.nn.softplus(scale * cosine - context.extra)

    return Margin(target, negative, reduce="sum", margin=margin)


def sface(*, scale: Number, slope: Number, a: Number, b: Number) -> Margin:
    """Cosines weighted by sigmoids of the angle, which are constants."""

    def gate(signed: jax.Array) -> jax.Array:
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


def adacos(*, update: bool) -> Margin:
    """No margin; the scale follows the median angle and the negatives; the context is the scale."""

    def observe(seen: Seen, scale: Any) -> tuple[Any, Any]:
        scale = jnp.asarray(scale, seen.target.dtype)
        if update:
            negatives = seen.log_sum(lambda cosine: scale * cosine)
            count = jnp.sum(seen.real)
            total = jax.nn.logsumexp(jnp.where(seen.real, negatives, VOID))
            cosines = jnp.sort(jnp.where(seen.real, seen.target, -jnp.inf), descending=True)
            median = cosines[jnp.maximum(count - 1, 0) // 2]  # the lower median of the angles
            # cos(min(pi / 4, theta))
            largest = jnp.maximum(jnp.cos(jnp.pi / 4).astype(median.dtype), median)
            fresh = (total - jnp.log(jnp.maximum(count, 1)).astype(total.dtype)) / largest
            # Of the few negatives of two classes the sum may be below 1, and its logarithm below 0.
            scale = jnp.where((count > 0) & (total > VOID / 2) & (fresh > 0), fresh, scale)
        scale = lax.stop_gradient(scale)
        return scale, scale

    def logit(cosine: jax.Array, context: Context) -> jax.Array:
        return context.extra * cosine

    return Margin(logit, logit, observe=observe)


# Pieces


def _identity(similarity: jax.Array, _: Context) -> jax.Array:
    return similarity


def _on_target(
    scale: Number,
    target: Callable[[jax.Array, Context], jax.Array],
    *,
    margin: Number | None = None,
    observe: Callable[[Seen, Any], tuple[Any, Any]] | None = None,
    penalty: Callable[[Context], jax.Array] | None = None,
) -> Margin:
    """A margin on the target alone; the logit of a negative is its scaled cosine."""

    def negative(cosine: jax.Array, _: Context) -> jax.Array:
        return scale * cosine

    return Margin(
        target, negative, observe=observe, penalty=penalty, bound=_known(scale), margin=margin
    )


def _beside(margin: Any) -> Any:
    """A margin beside the similarities of a block: a number, or of [B] the column [B, 1]."""
    return margin[:, None] if jnp.ndim(margin) else margin


def _mean(values: jax.Array, real: jax.Array) -> jax.Array:
    count = jnp.maximum(jnp.sum(real), 1).astype(values.dtype)
    return jnp.sum(jnp.where(real, values, 0)) / count


def _moved(old: jax.Array, new: jax.Array, rate: Number, valid: jax.Array) -> jax.Array:
    """A running mean, moved by `rate` of the way where the batch has a value; of the old's type."""
    return jnp.where(valid, (rate * new + (1 - rate) * old).astype(old.dtype), old)


def _smallest_to_largest_cosine(margins: jax.Array, seen: Seen) -> jax.Array:
    """The real rows' margins, sorted: the largest cosine gets the smallest. 0 in other rows."""
    order = jnp.argsort(jnp.where(seen.real, seen.target, -jnp.inf), descending=True)
    ascending = jnp.sort(jnp.where(seen.real, margins, jnp.inf))
    placed = jnp.zeros_like(margins).at[order].set(ascending)
    return jnp.where(seen.real, placed, 0)


def _known(scale: Number) -> float | None:
    """The largest magnitude of a scaled cosine, unless it is traced."""
    return float(scale) if isinstance(scale, (int, float)) else None
