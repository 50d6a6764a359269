"""Remedies against noise and imbalance: the formulas once more, as float64 NumPy loops.

`remedied` takes a loss by its two terms: (cosine, target's cosine, margin of the row's class,
scale) -> (what the target has at that cosine, what a negative has).
"""

import math

import numpy as np

from tests.reference import cosine, log_one_plus_exp, log_sum_exp, margined_cosine


def arcface(c, own, margin, scale):
    """(logit of the target, of a negative) at a cosine c, the target's being `own`."""
    return scale * margined_cosine(c, 1.0, margin, "linear"), scale * c


def mv_softmax(c, own, margin, scale):
    hard = c > math.cos(math.acos(own) + margin)
    return scale * margined_cosine(c, 1.0, margin, "plain"), scale * (1.2 * c + 0.2 if hard else c)


def normface(c, own, margin, scale):
    return scale * c, scale * c


def uniface(c, own, margin, scale):
    """Terms of a sum, of the bias 1."""
    return log_one_plus_exp(1 - scale * (c - margin)), log_one_plus_exp(scale * c - 1)


def remedied(
    terms,
    embeddings,
    weights,
    labels,
    *,
    scale,
    margin,
    class_margins=None,
    class_weights=None,
    smoothing=0.0,
    negative_cap=None,
):
    """Losses [B]: the cross-entropy with the smoothed labels q, or the sum, of what is kept."""
    embeddings, weights = (np.asarray(a, np.float64) for a in (embeddings, weights))
    losses = []
    for x, y in zip(embeddings, labels, strict=True):
        if y == -1:
            losses.append(0.0)
            continue
        if not 0 <= y < len(weights):
            losses.append(math.nan)
            continue
        m = margin if class_margins is None else float(class_margins[y])
        cosines = [cosine(x, row) for row in weights]
        kept = [
            j for j, c in enumerate(cosines) if j == y or negative_cap is None or c <= negative_cap
        ]
        z = {j: terms(cosines[j], cosines[y], m, scale)[int(j != y)] for j in kept}
        if terms is uniface:
            loss = sum(z.values())
        else:
            q = {j: smoothing / len(weights) for j in kept if j != y}
            q[y] = 1 - sum(q.values())
            loss = log_sum_exp(list(z.values())) - sum(q[j] * z[j] for j in kept)
        losses.append(loss * (1 if class_weights is None else float(class_weights[y])))
    return np.array(losses)


def margins_from_counts(counts, *, largest, power):
    smallest = min(n for n in counts if n > 0)
    return [largest * (smallest / n) ** power if n else 0.0 for n in counts]


def weights_from_counts(counts, *, beta):
    raw = [(1 - beta) / (1 - beta**n) if n else 0.0 for n in counts]
    return [w * sum(n > 0 for n in counts) / sum(raw) for w in raw]
