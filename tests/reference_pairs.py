"""The losses on pairs, triplets, centres and proxies once more: plain float64 loops.

`hold` stands around what a formula holds constant in the gradient; see `tests.reference`.
"""

import math

import numpy as np

from tests.reference import cosine, live, log_one_plus_exp, log_sum_exp, sigmoid


def unit(x: np.ndarray) -> np.ndarray:
    length = math.sqrt(float(x @ x))
    return x / length if length else x


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared, at unit length."""
    return sum((float(p) - float(q)) ** 2 for p, q in zip(unit(a), unit(b), strict=True))


def per_anchor(labels, loss_of_anchor, num_classes=None) -> np.ndarray:
    """loss_of_anchor(i) of the rows with an identity; padding has 0, an unknown label NaN."""
    losses = []
    for i, label in enumerate(labels):
        if label == -1:
            losses.append(0.0)
        elif label < 0 or (num_classes is not None and label >= num_classes):
            losses.append(math.nan)
        else:
            losses.append(loss_of_anchor(i))
    return np.array(losses, np.float64)


def positives(labels, i: int) -> list[int]:
    return [j for j in range(len(labels)) if j != i and labels[j] == labels[i] >= 0]


def negatives(labels, i: int) -> list[int]:
    return [j for j in range(len(labels)) if labels[j] >= 0 and labels[j] != labels[i]]


def contrastive(a, b, same, *, margin=1.0, distance="l2"):
    losses = []
    for x, z, alike in zip(a, b, same, strict=True):
        apart = [float(p) - float(q) for p, q in zip(x, z, strict=True)]
        d = sum(map(abs, apart)) if distance == "l1" else math.sqrt(sum(c * c for c in apart))
        losses.append(0.5 * d**2 if alike > 0 else 0.5 * max(0.0, margin - d) ** 2)
    return np.array(losses)


def contrastive_cosine(a, b, same, weight, bias):
    losses = []
    for x, z, alike in zip(a, b, same, strict=True):
        wanted = 1.0 if alike > 0 else 0.0
        losses.append(0.5 * (wanted - sigmoid(weight * cosine(x, z) + bias)) ** 2)
    return np.array(losses)


def triplet(anchors, positives, negatives, *, margin=0.2):
    return np.array(
        [
            max(0.0, distance(a, p) - distance(a, n) + margin)
            for a, p, n in zip(anchors, positives, negatives, strict=True)
        ]
    )


def mined_triplets(embeddings, labels, *, margin=0.2, mining="semihard"):
    """(anchor, loss) of every mined triplet."""
    found = []
    for a in range(len(labels)):
        for p in positives(labels, a):
            for n in negatives(labels, a):
                near = distance(embeddings[a], embeddings[p])
                far = distance(embeddings[a], embeddings[n])
                mined = {
                    "semihard": near < far < near + margin,
                    "hard": far <= near,
                    "all": True,
                }
                if mined[mining]:
                    found.append((a, max(0.0, near - far + margin)))
    return found


def batch_triplet(embeddings, labels, *, margin=0.2, mining="semihard"):
    found = mined_triplets(embeddings, labels, margin=margin, mining=mining)
    sums = per_anchor(labels, lambda i: sum(loss for a, loss in found if a == i))
    return sums, np.array([sum(a == i for a, _ in found) for i in range(len(labels))])


def center(embeddings, labels, centers):
    def loss_of_row(i):
        own = centers[labels[i]]
        return 0.5 * sum(
            (float(x) - float(c)) ** 2 for x, c in zip(embeddings[i], own, strict=True)
        )

    return per_anchor(labels, loss_of_row, len(centers))


def update_centers(embeddings, labels, centers, *, rate=0.5):
    moved = np.array(centers, np.float64)
    for j in range(len(centers)):
        rows = [i for i in range(len(labels)) if labels[i] == j]
        if rows:
            total = np.zeros(len(centers[j]))
            for i in rows:
                total += centers[j] - embeddings[i]
            moved[j] -= rate * total / (1 + len(rows))
    return moved


def circle_pairs(embeddings, labels, *, scale=80.0, margin=0.4, hold=live):
    def loss_of_anchor(i):
        pulled, pushed = [], []
        for j in positives(labels, i):
            s = cosine(embeddings[i], embeddings[j])
            weight = hold(max(0.0, 1 + margin - s))
            pulled.append(-scale * weight * (s - (1 - margin)))
        for j in negatives(labels, i):
            s = cosine(embeddings[i], embeddings[j])
            weight = hold(max(0.0, s + margin))
            pushed.append(scale * weight * (s - margin))
        if not pulled or not pushed:
            return 0.0
        return log_one_plus_exp(log_sum_exp(pushed) + log_sum_exp(pulled))

    return per_anchor(labels, loss_of_anchor)


def multi_similarity(embeddings, labels, *, alpha=2.0, beta=50.0, threshold=0.5, epsilon=0.1):
    def loss_of_anchor(i):
        same = [cosine(embeddings[i], embeddings[j]) for j in positives(labels, i)]
        other = [cosine(embeddings[i], embeddings[j]) for j in negatives(labels, i)]
        if not same or not other:
            return 0.0
        pulled = [-alpha * (s - threshold) for s in same if s < max(other) + epsilon]
        pushed = [beta * (s - threshold) for s in other if s > min(same) - epsilon]
        pull = log_one_plus_exp(log_sum_exp(pulled)) / alpha if pulled else 0.0
        push = log_one_plus_exp(log_sum_exp(pushed)) / beta if pushed else 0.0
        return pull + push

    return per_anchor(labels, loss_of_anchor)


def supcon(embeddings, labels, *, temperature=0.1):
    def loss_of_anchor(i):
        same = positives(labels, i)
        if not same:
            return 0.0
        logits = {
            j: cosine(embeddings[i], embeddings[j]) / temperature
            for j in same + negatives(labels, i)
        }
        everyone = log_sum_exp(list(logits.values()))
        return -sum(logits[j] - everyone for j in same) / len(same)

    return per_anchor(labels, loss_of_anchor)


def n_pairs(embeddings, labels):
    members: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        if label >= 0:
            members.setdefault(int(label), []).append(i)
    pair = {label: rows[:2] for label, rows in members.items() if len(rows) >= 2}

    def loss_of_anchor(i):
        own = pair.get(int(labels[i]))
        if own is None or own[0] != i:
            return 0.0
        right = float(embeddings[i] @ embeddings[own[1]])
        wrong = [
            float(embeddings[i] @ embeddings[rows[1]]) - right
            for label, rows in pair.items()
            if label != labels[i]
        ]
        return log_one_plus_exp(log_sum_exp(wrong)) if wrong else 0.0

    return per_anchor(labels, loss_of_anchor)


def lifted_structure(embeddings, labels, *, margin=1.0):
    def apart(i, j):
        return math.sqrt(distance(embeddings[i], embeddings[j]))

    def loss_of_anchor(i):
        squares = []
        for j in positives(labels, i):
            ends = [margin - apart(end, k) for end in (i, j) for k in negatives(labels, end)]
            if ends:
                squares.append(max(0.0, log_sum_exp(ends) + apart(i, j)) ** 2)
            else:
                squares.append(0.0)
        return 0.5 * sum(squares) / len(squares) if squares else 0.0

    return per_anchor(labels, loss_of_anchor)


def proxy_nca(embeddings, proxies, labels):
    def loss_of_row(i):
        distances = [distance(embeddings[i], p) for p in proxies]
        others = [-d for j, d in enumerate(distances) if j != labels[i]]
        return distances[labels[i]] + log_sum_exp(others) if others else 0.0

    return per_anchor(labels, loss_of_row, len(proxies))


def proxy_anchor(embeddings, proxies, labels, *, scale=32.0, margin=0.1):
    pulls, pushes = [], []
    for p, proxy in enumerate(proxies):
        own, others = [], []
        for x, label in zip(embeddings, labels, strict=True):
            if label == p:
                own.append(-scale * (cosine(x, proxy) - margin))
            elif 0 <= label < len(proxies):
                others.append(scale * (cosine(x, proxy) + margin))
        if own:
            pulls.append(log_one_plus_exp(log_sum_exp(own)))
        pushes.append(log_one_plus_exp(log_sum_exp(others)) if others else 0.0)
    loss = (sum(pulls) / len(pulls) if pulls else 0.0) + sum(pushes) / len(pushes)
    return per_anchor(labels, lambda i: loss, len(proxies))
