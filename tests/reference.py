"""The class-weight losses once more: plain float64 NumPy loops written from the formulas.

Each takes embeddings [B, D], weights [C, D], labels [B] and returns losses [B]; those that depend
on the whole batch are in `reference_adaptive`. Where a formula holds a factor constant in the
gradient, the reference passes it through `hold`; see `with_detached_parts_held`.
"""

import inspect
import math

import numpy as np


def live(value):
    """The `hold` of a value: nothing is held."""
    return value


def with_detached_parts_held(function, *inputs):
    """The function with every part that it detaches as it was at `inputs`."""
    if "hold" not in inspect.signature(function).parameters:
        return function
    recorded = []

    def record(value):
        recorded.append(value)
        return value

    function(*inputs, hold=record)

    def held(*others):
        replayed = iter(recorded)
        return function(*others, hold=lambda _: next(replayed))

    return held


def central_differences(function, array: np.ndarray, *, step: float = 1e-6) -> np.ndarray:
    """d function / d array for a scalar function of one float64 array."""
    gradient = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient


def log_sum_exp(values: list[float]) -> float:
    if not values:
        return -math.inf
    peak = max(values)
    return peak + math.log(sum(math.exp(v - peak) for v in values))


def log_one_plus_exp(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def sigmoid(value: float) -> float:
    return math.exp(-log_one_plus_exp(-value))


def cosine(x: np.ndarray, w: np.ndarray) -> float:
    """0 where either is zero; of several sub-centres, w [K, D], the largest."""
    if w.ndim == 2:
        return max(cosine(x, center) for center in w)
    lengths = math.sqrt(float(x @ x)) * math.sqrt(float(w @ w))
    return min(1.0, max(-1.0, float(x @ w) / lengths)) if lengths else 0.0


def is_real(label: int, weights: np.ndarray) -> bool:
    return 0 <= label < len(weights)


def per_row(embeddings, weights, labels, loss_of_row) -> np.ndarray:
    """loss_of_row(i, label) of the real rows; padding has 0, an unknown label NaN."""
    losses = []
    for i, label in enumerate(labels):
        if label == -1:
            losses.append(0.0)
        else:
            losses.append(loss_of_row(i, label) if is_real(label, weights) else math.nan)
    return np.array(losses, np.float64)


def cross_entropy(embeddings, weights, labels, target, negative=None, *, similarity=cosine):
    """-log softmax of target(s_iy, i) among negative(s_ij, i, s_iy), j not y."""
    embeddings, weights = (np.asarray(a, np.float64) for a in (embeddings, weights))

    def loss_of_row(i, label):
        similarities = [similarity(embeddings[i], row) for row in weights]
        own = similarities[label]
        logits = [
            target(own, i) if j == label else negative(s, i, own)
            for j, s in enumerate(similarities)
        ]
        return log_sum_exp(logits) - logits[label]

    return per_row(embeddings, weights, labels, loss_of_row)


def binary_sum(embeddings, weights, labels, target, negative):
    """target(cos_iy) + the sum of negative(cos_ij), j not y."""
    embeddings, weights = (np.asarray(a, np.float64) for a in (embeddings, weights))

    def loss_of_row(i, label):
        loss = 0.0
        for j, row in enumerate(weights):
            c = cosine(embeddings[i], row)
            loss += target(c) if j == label else negative(c)
        return loss

    return per_row(embeddings, weights, labels, loss_of_row)


def softmax(embeddings, weights, labels, *, bias=None):
    embeddings, weights = (np.asarray(a, np.float64) for a in (embeddings, weights))

    def loss_of_row(i, label):
        logits = [float(embeddings[i] @ row) for row in weights]
        if bias is not None:
            logits = [z + float(b) for z, b in zip(logits, bias, strict=True)]
        return log_sum_exp(logits) - logits[label]

    return per_row(embeddings, weights, labels, loss_of_row)


def normface(embeddings, weights, labels, *, scale=30.0):
    return cosface(embeddings, weights, labels, scale=scale, margin=0.0)


def cosface(embeddings, weights, labels, *, scale=64.0, margin=0.35):
    return cross_entropy(
        embeddings,
        weights,
        labels,
        lambda c, _: scale * (c - margin),
        lambda c, *_: scale * c,
    )


def margined_cosine(c: float, m1: float, m2: float, beyond_pi: str) -> float:
    """cos(m1 theta + m2), and what stands for it where that angle is past pi."""
    angle = m1 * math.acos(c) + m2
    if beyond_pi == "easy":
        return math.cos(angle) if c > 0 else c
    if beyond_pi == "plain" or angle < math.pi:
        return math.cos(angle)
    return {"linear": c - m2 * math.sin(m2), "saturate": -1.0}[beyond_pi]


def arcface(embeddings, weights, labels, *, scale=64.0, margin=0.5, beyond_pi="linear"):
    return combined_margin(
        embeddings, weights, labels, scale=scale, m1=1.0, m2=margin, m3=0.0, beyond_pi=beyond_pi
    )


subcenter_arcface = arcface  # weights [C, K, D]: `cosine` takes the nearest sub-centre


def combined_margin(
    embeddings, weights, labels, *, scale=64.0, m1=1.0, m2=0.3, m3=0.2, beyond_pi="plain"
):
    return cross_entropy(
        embeddings,
        weights,
        labels,
        lambda c, _: scale * (margined_cosine(c, m1, m2, beyond_pi) - m3),
        lambda c, *_: scale * c,
    )


def li_arcface(embeddings, weights, labels, *, scale=64.0, margin=0.45):
    def logit(c, added):
        return scale * (math.pi - 2 * (math.acos(c) + added)) / math.pi

    return cross_entropy(
        embeddings, weights, labels, lambda c, _: logit(c, margin), lambda c, *_: logit(c, 0.0)
    )


def psi(theta: float, margin: float) -> float:
    """(-1)^k cos(m theta) - 2k, theta in [k pi/m, (k+1) pi/m]; m may be a fraction.

    For a fraction m the last of the ceil(m) pieces is cut short by theta = pi.
    """
    k = min(math.floor(margin * theta / math.pi), math.ceil(margin) - 1)
    return (-1) ** k * math.cos(margin * theta) - 2 * k


def l_softmax(embeddings, weights, labels, *, margin=4, blend=0.0):
    embeddings, weights = (np.asarray(a, np.float64) for a in (embeddings, weights))

    def loss_of_row(i, label):
        logits = [float(embeddings[i] @ row) for row in weights]
        lengths = np.linalg.norm(embeddings[i]) * np.linalg.norm(weights[label])
        raised = lengths * psi(math.acos(cosine(embeddings[i], weights[label])), margin)
        logits[label] = (blend * logits[label] + raised) / (1 + blend)
        return log_sum_exp(logits) - logits[label]

    return per_row(embeddings, weights, labels, loss_of_row)


def sphereface(embeddings, weights, labels, *, margin=4, blend=5.0):
    length = [math.sqrt(float(x @ x)) for x in np.asarray(embeddings, np.float64)]

    def target(c, i):
        return length[i] * (blend * c + psi(math.acos(c), margin)) / (1 + blend)

    return cross_entropy(embeddings, weights, labels, target, lambda c, i, _: length[i] * c)


def sphereface_r(embeddings, weights, labels, *, scale=30.0, margin=1.7):
    return cross_entropy(
        embeddings,
        weights,
        labels,
        lambda c, _: scale * psi(math.acos(c), margin),
        lambda c, *_: scale * c,
    )


def annealed_blend(step, *, base=1000.0, gamma=0.12, power=1.0, minimum=5.0):
    return max(minimum, base * (1 + gamma * step) ** -power)


def mv_softmax(
    embeddings,
    weights,
    labels,
    *,
    scale=32.0,
    margin=0.5,
    base="arc",
    hardness=0.2,
    adaptive=True,
    beyond_pi="plain",
):
    def margined(c, rule):
        return c - margin if base == "am" else margined_cosine(c, 1.0, margin, rule)

    def negative(c, _, own):
        if margined(own, "plain") - c >= 0:
            return scale * c
        return scale * ((1 + hardness) * c + hardness if adaptive else c + hardness)

    return cross_entropy(
        embeddings, weights, labels, lambda c, _: scale * margined(c, beyond_pi), negative
    )


def circle(embeddings, weights, labels, *, scale=256.0, margin=0.25, hold=live):
    def target(c, _):
        return scale * hold(max(0.0, 1 + margin - c)) * (c - (1 - margin))

    def negative(c, *_):
        return scale * hold(max(0.0, c + margin)) * (c - margin)

    return cross_entropy(embeddings, weights, labels, target, negative)


def sphereface2(
    embeddings,
    weights,
    labels,
    bias,
    *,
    scale=40.0,
    margin=0.4,
    balance=0.7,
    t=3.0,
    weight=50.0,
):
    def bent(c):
        return 2 * ((c + 1) / 2) ** t - 1

    def positive(c):
        inner = -scale * (bent(c) - margin) - bias
        return weight * balance / scale * log_one_plus_exp(inner)

    def negative(c):
        inner = scale * (bent(c) + margin) + bias
        return weight * (1 - balance) / scale * log_one_plus_exp(inner)

    return binary_sum(embeddings, weights, labels, positive, negative)


def uniface(embeddings, weights, labels, bias, *, scale=64.0, margin=0.4, balance=1.0):
    return binary_sum(
        embeddings,
        weights,
        labels,
        lambda c: log_one_plus_exp(-(scale * (c - margin) - bias)),
        lambda c: balance * log_one_plus_exp(scale * c - bias),
    )


def sface(embeddings, weights, labels, *, scale=64.0, slope=80.0, a=0.8, b=1.23, hold=live):
    return binary_sum(
        embeddings,
        weights,
        labels,
        lambda c: -scale * hold(sigmoid(slope * (math.acos(c) - a))) * c,
        lambda c: scale * hold(sigmoid(slope * (b - math.acos(c)))) * c,
    )


def p2sgrad(embeddings, weights, labels):
    return binary_sum(
        embeddings, weights, labels, lambda c: 0.5 * (c - 1) ** 2, lambda c: 0.5 * c**2
    )


def softmax_lower_bound(num_classes, scale):
    n = num_classes
    return math.log(1 + (n - 1) * math.exp(-n / (n - 1) * scale))


def minimal_scale(num_classes, probability):
    n = num_classes
    return (n - 1) / n * math.log((n - 1) * probability / (1 - probability))
