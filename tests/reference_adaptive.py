"""The losses that adapt to norms, to other rows or to a state, as float64 NumPy loops.

Those with a state return (losses, state). Batch statistics are those of the rows whose label is a
class; without one the state stays.
"""

import math

import numpy as np

from tests.reference import (
    cosine,
    cross_entropy,
    is_real,
    live,
    log_sum_exp,
    margined_cosine,
)


def _real_rows(embeddings, weights, labels):
    embeddings, weights = (np.asarray(a, np.float64) for a in (embeddings, weights))
    return [
        (embeddings[i], weights, label) for i, label in enumerate(labels) if is_real(label, weights)
    ]


def _own_cosines(embeddings, weights, labels):
    return [cosine(x, w[label]) for x, w, label in _real_rows(embeddings, weights, labels)]


def curricularface(
    embeddings,
    weights,
    labels,
    t,
    *,
    scale=64.0,
    margin=0.5,
    rate=0.01,
    update=True,
    hold=live,
):
    own_cosines = _own_cosines(embeddings, weights, labels)
    if update and own_cosines:
        t = rate * sum(own_cosines) / len(own_cosines) + (1 - rate) * float(t)
    t = hold(float(t))

    def negative(c, _, own):
        easy = margined_cosine(own, 1.0, margin, "plain") - c >= 0
        return scale * c if easy else scale * c * (t + c)

    losses = cross_entropy(
        embeddings,
        weights,
        labels,
        lambda c, _: scale * margined_cosine(c, 1.0, margin, "linear"),
        negative,
    )
    return losses, t


def magface(
    embeddings,
    weights,
    labels,
    *,
    scale=64.0,
    l_a=10.0,
    u_a=110.0,
    l_m=0.45,
    u_m=0.8,
    lambda_g=35.0,
    beyond_pi="linear",
):
    length = [
        min(u_a, max(l_a, math.sqrt(float(x @ x)))) for x in np.asarray(embeddings, np.float64)
    ]

    def target(c, i):
        margin = l_m + (u_m - l_m) / (u_a - l_a) * (length[i] - l_a)
        return scale * margined_cosine(c, 1.0, margin, beyond_pi)

    losses = cross_entropy(embeddings, weights, labels, target, lambda c, *_: scale * c)
    for i, label in enumerate(labels):
        if is_real(label, weights):
            losses[i] += lambda_g * (1 / length[i] + length[i] / u_a**2)
    return losses


def adaface(
    embeddings,
    weights,
    labels,
    statistics,
    *,
    scale=64.0,
    margin=0.4,
    h=0.333,
    rate=0.01,
    update=True,
    hold=live,
):
    def clipped_length(x):
        return min(100.0, max(1e-3, math.sqrt(float(x @ x))))

    mean, std = (float(value) for value in statistics)
    lengths = [clipped_length(x) for x, _, _ in _real_rows(embeddings, weights, labels)]
    if update and lengths:
        batch_mean = sum(lengths) / len(lengths)
        mean = rate * batch_mean + (1 - rate) * mean
        if len(lengths) > 1:
            squares = sum((v - batch_mean) ** 2 for v in lengths)
            std = rate * math.sqrt(squares / (len(lengths) - 1)) + (1 - rate) * std
    quality = [
        hold(min(1.0, max(-1.0, h * (clipped_length(x) - mean) / (std + 1e-3))))
        for x in np.asarray(embeddings, np.float64)
    ]

    def clipped(angle):
        return min(math.pi - 1e-3, max(1e-3, angle))

    def angle(c):
        return math.acos(min(1 - 1e-3, max(-(1 - 1e-3), c)))

    def target(c, i):
        turned = clipped(angle(c) - margin * quality[i])
        return scale * (math.cos(turned) - (margin + margin * quality[i]))

    losses = cross_entropy(
        embeddings,
        weights,
        labels,
        target,
        lambda c, *_: scale * math.cos(clipped(angle(c))),
    )
    return losses, (mean, std)


def elasticface(embeddings, weights, labels, margins, *, scale=64.0, base="arc", sort=False):
    margins = [float(m) for m in margins]
    if sort:
        real = [i for i, label in enumerate(labels) if is_real(label, weights)]
        own_cosines = _own_cosines(embeddings, weights, labels)
        by_cosine = sorted(range(len(real)), key=lambda k: -own_cosines[k])
        ascending = sorted(margins[i] for i in real)
        for k, margin in zip(by_cosine, ascending, strict=True):
            margins[real[k]] = margin

    def target(c, i):
        added = c - margins[i] if base == "cos" else math.cos(math.acos(c) + margins[i])
        return scale * added

    return cross_entropy(embeddings, weights, labels, target, lambda c, *_: scale * c)


def adacos(embeddings, weights, labels, scale, *, update=True, hold=live):
    scale = float(scale)
    rows = _real_rows(embeddings, weights, labels)
    if update and rows and len(weights) > 1:
        log_sums, angles = [], []
        for x, w, label in rows:
            cosines = [cosine(x, row) for row in w]
            angles.append(math.acos(cosines[label]))
            log_sums.append(log_sum_exp([scale * c for j, c in enumerate(cosines) if j != label]))
        log_average = log_sum_exp(log_sums) - math.log(len(rows))
        lower_median = sorted(angles)[(len(angles) - 1) // 2]
        scale = log_average / math.cos(min(math.pi / 4, lower_median))
    scale = hold(scale)
    losses = cross_entropy(
        embeddings, weights, labels, lambda c, _: scale * c, lambda c, *_: scale * c
    )
    return losses, scale


def adacos_initial_scale(num_classes):
    return math.sqrt(2) * math.log(num_classes - 1)
