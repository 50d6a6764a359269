"""The losses once more: plain float64 NumPy loops written from the formulas, one row at a time.

Each takes embeddings [B, D], weights [C, D], labels [B] and returns losses [B].
"""

import math

import numpy as np


def cross_entropy(logits: list[float], label: int) -> float:
    peak = max(logits)
    return math.log(sum(math.exp(z - peak) for z in logits)) + peak - logits[label]


def _cosine(x: np.ndarray, w: np.ndarray) -> float:
    lengths = math.sqrt(sum(v * v for v in x)) * math.sqrt(sum(v * v for v in w))
    return float(sum(a * b for a, b in zip(x, w, strict=True)) / lengths) if lengths else 0.0


def _rows(embeddings, weights, labels, logits_of_row) -> np.ndarray:
    losses = []
    for x, label in zip(np.asarray(embeddings, np.float64), labels, strict=True):
        if label == -1:
            losses.append(0.0)
        elif not 0 <= label < len(weights):
            losses.append(math.nan)
        else:
            logits = logits_of_row(x, np.asarray(weights, np.float64), label)
            losses.append(cross_entropy(logits, label))
    return np.array(losses)


def softmax(embeddings, weights, labels, *, bias=None):
    def logits(x, w, label):
        return [float(x @ row) + (0.0 if bias is None else bias[j]) for j, row in enumerate(w)]

    return _rows(embeddings, weights, labels, logits)


def _margined(embeddings, weights, labels, scale, target):
    def logits(x, w, label):
        cosines = [_cosine(x, row) for row in w]
        return [scale * (target(c) if j == label else c) for j, c in enumerate(cosines)]

    return _rows(embeddings, weights, labels, logits)


def normface(embeddings, weights, labels, *, scale=30.0):
    return _margined(embeddings, weights, labels, scale, lambda c: c)


def cosface(embeddings, weights, labels, *, scale=64.0, margin=0.35):
    return _margined(embeddings, weights, labels, scale, lambda c: c - margin)


def arcface_target(cosine: float, margin: float, beyond_pi: str) -> float:
    theta = math.acos(min(1.0, max(-1.0, cosine)))
    if beyond_pi == "easy":
        return math.cos(theta + margin) if cosine > 0 else cosine
    if beyond_pi == "plain" or theta + margin < math.pi:
        return math.cos(theta + margin)
    return {"linear": cosine - margin * math.sin(margin), "saturate": -1.0}[beyond_pi]


def arcface(embeddings, weights, labels, *, scale=64.0, margin=0.5, beyond_pi="linear"):
    return _margined(
        embeddings, weights, labels, scale, lambda c: arcface_target(c, margin, beyond_pi)
    )


def central_differences(function, array: np.ndarray, *, step: float = 1e-6) -> np.ndarray:
    """d function / d array for a scalar function of one float64 array."""
    gradient = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient
