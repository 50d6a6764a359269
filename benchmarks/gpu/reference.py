"""Eight losses and their gradients in float64 NumPy, from the formulas of docs/losses.md.

A loss is two functions of a similarity. They take complex numbers too: the imaginary part of
f(s + ih) / h is the derivative of f to the last digit, and what a loss holds constant in its
gradient is what is computed from the real part alone.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
_STEP = 1e-30
# The state that goes in, and the numbers that come with it.
CURRICULUM, STATISTICS, BIAS = 0.3, (20.0, 10.0), -3.0


class Known(NamedTuple):
    """What the two functions may look at: [B] each."""

    norm: Array  # of the raw embedding
    own: Array  # similarity with the row's own class, real


class Formula(NamedTuple):
    """A loss: softplus(LSE_j negative(s_ij) - target(s_iy)), or a sum of the two.

    Attributes:
      target: ([B], Known) -> [B].
      negative: ([B, C], Known) -> [B, C].
      logit: its largest magnitude.
      normalize: whether similarities are cosines.
      is_sum: whether the loss is target(s_iy) + sum_j negative(s_ij).
    """

    target: Callable[[Array, Known], Array]
    negative: Callable[[Array, Known], Array]
    logit: float
    normalize: bool = True
    is_sum: bool = False


def _turned(cosine: Array, margin: Any) -> Array:
    """cos(theta + margin)."""
    return cosine * np.cos(margin) - np.sqrt(1 - cosine**2) * np.sin(margin)


def _linear_beyond_pi(cosine: Array, margin: Any) -> Array:
    inside = cosine.real > -np.cos(margin).real
    return np.where(inside, _turned(cosine, margin), cosine - margin * np.sin(margin))


def _hard(cosine: Array, known: Known) -> Array:
    return cosine.real > _turned(known.own, 0.5)[:, None]


def _mv_negative(cosine: Array, known: Known) -> Array:
    return 32 * np.where(_hard(cosine, known), 1.2 * cosine + 0.2, cosine)


def _curricular_negative(cosine: Array, known: Known) -> Array:
    t = 0.01 * known.own.mean() + 0.99 * CURRICULUM
    return 64 * np.where(_hard(cosine, known), cosine * (t + cosine), cosine)


def _magface_target(cosine: Array, known: Known) -> Array:
    norm = np.where(known.norm.real < 10, 10, np.where(known.norm.real > 110, 110, known.norm))
    return 64 * _linear_beyond_pi(cosine, 0.45 + 0.35 / 100 * (norm - 10))


def _magface_penalty(norm: Array) -> Array:
    norm = np.where(norm.real < 10, 10, np.where(norm.real > 110, 110, norm))
    return 35 * (1 / norm + norm / 110**2)


def _adaface_target(cosine: Array, known: Known) -> Array:
    norm = np.clip(known.norm.real, 1e-3, 100)
    mean = 0.01 * norm.mean() + 0.99 * STATISTICS[0]
    std = 0.01 * norm.std(ddof=1) + 0.99 * STATISTICS[1]
    quality = np.clip(0.333 * (norm - mean) / (std + 1e-3), -1, 1)
    turn = np.clip(
        -0.4 * quality, *(edge - np.arccos(cosine.real) for edge in (1e-3, np.pi - 1e-3))
    )
    return 64 * (_turned(cosine, turn) - 0.4 - 0.4 * quality)


def _softplus(value: Array) -> Array:
    return np.where(value.real > 0, value, 0) + np.log1p(
        np.exp(np.where(value.real > 0, -value, value))
    )


def _bent(cosine: Array) -> Array:
    return 2 * ((cosine + 1) / 2) ** 3 - 1


FORMULAS = {
    "softmax": Formula(lambda s, _: s, lambda s, _: s, logit=60, normalize=False),
    "arcface": Formula(
        lambda c, _: 64 * _linear_beyond_pi(c, 0.5), lambda c, _: 64 * c, logit=64
    ),
    "mv_softmax": Formula(lambda c, _: 32 * _turned(c, 0.5), _mv_negative, logit=45),
    "circle": Formula(
        lambda c, _: 256 * np.maximum(0, 1.25 - c.real) * (c - 0.75),
        lambda c, _: 256 * np.maximum(0, c.real + 0.25) * (c - 0.25),
        logit=1000,
    ),
    "curricularface": Formula(
        lambda c, _: 64 * _linear_beyond_pi(c, 0.5), _curricular_negative, logit=84
    ),
    "magface": Formula(_magface_target, lambda c, _: 64 * c, logit=64),
    "adaface": Formula(_adaface_target, lambda c, _: 64 * c, logit=64),
    "sphereface2": Formula(
        lambda c, _: 50 * 0.7 / 40 * _softplus(-40 * (_bent(c) - 0.4) - BIAS),
        lambda c, _: 50 * 0.3 / 40 * _softplus(40 * (_bent(c) + 0.4) + BIAS),
        logit=60,
        is_sum=True,
    ),
}  # fmt: skip


def _derivative(function: Callable[[Array], Array], at: Array) -> Array:
    return function(at + 1j * _STEP).imag / _STEP


def unit(vectors: Array) -> tuple[Array, Array]:
    """(vectors of length 1, their former lengths [..., 1])."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths, lengths


def hard_gap(embeddings: Array, weights: Array, labels: Array) -> Array:
    """[B]: how far the nearest class is from where a negative begins to count as hard."""
    cosines = unit(embeddings)[0] @ unit(weights)[0].T
    edge = _turned(cosines[np.arange(len(labels)), labels], 0.5)
    return np.abs(cosines - edge[:, None]).min(axis=1)


def evaluate(
    name: str, embeddings: Array, weights: Array, labels: Array
) -> tuple[Array, Array, Array]:
    """(losses [B], gradient [B, D] and gradient [C, D] of their sum)."""
    formula, rows = FORMULAS[name], np.arange(len(labels))
    left, lengths = unit(embeddings)
    right, class_lengths = unit(weights)
    if not formula.normalize:
        left, right = embeddings, weights
    similarities = left @ right.T
    own, norm = similarities[rows, labels], lengths[:, 0]
    known = Known(norm, own)
    target, negatives = formula.target(own, known), formula.negative(similarities, known)
    on_target = _derivative(lambda s: formula.target(s, known), own)
    slopes = _derivative(lambda s: formula.negative(s, known), similarities)
    on_norm = _derivative(lambda n: formula.target(own, Known(n, own)), norm)
    if formula.is_sum:
        negatives[rows, labels] = slopes[rows, labels] = 0
        losses = target + negatives.sum(axis=1)
    else:
        negatives[rows, labels] = -math.inf
        peak = negatives.max(axis=1, keepdims=True)
        powers = np.exp(negatives - peak)
        total = powers.sum(axis=1, keepdims=True)
        difference = (peak + np.log(total))[:, 0] - target
        losses = _softplus(difference)
        share = 1 / (1 + np.exp(-difference))
        slopes *= share[:, None] * powers / total
        on_target, on_norm = -share * on_target, -share * on_norm
    slopes[rows, labels] = on_target
    d_left, d_right = slopes @ right, slopes.T @ left
    if formula.normalize:
        d_left = (d_left - (d_left * left).sum(1, keepdims=True) * left) / lengths
        d_right = (d_right - (d_right * right).sum(1, keepdims=True) * right) / class_lengths
        if name == "magface":
            losses = losses + _magface_penalty(norm)
            on_norm = on_norm + _derivative(_magface_penalty, norm)
        d_left += on_norm[:, None] * left
    return losses, d_left, d_right
