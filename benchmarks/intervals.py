"""How often the intervals of verification hold the truth, where pairs share people.

    python benchmarks/intervals.py             # 1,000 draws of each kind of list
    python benchmarks/intervals.py --draws=20  # whether it runs

Each draw is of new people from one population: a direction for each person, and noise on it for
each image, of a strength that differs from person to person. So some people's pairs go wrong
together, and some people look like many. The truth is that of two million pairs, of people who are
in one pair each. Beside the intervals stand those that take pairs as independent.
"""

import argparse
import datetime
import shlex
import sys
import time
from typing import NamedTuple

import numpy as np

from facejax.evaluation import bootstrap, draw_pairs, pair_folds, statistics
from facejax.evaluation.verification import kfold_accuracy, tar_at_far
from facejax.table import format_table

SIZE = 10  # of embeddings
NUMBERS = ("accuracy at a threshold", "k-fold accuracy", "AUC", "TAR", "EER")


class Pairs(NamedTuple):
    """Scored pairs of drawn people."""

    scores: np.ndarray  # [N]
    same: np.ndarray  # [N] bool
    identities: np.ndarray  # [N, 2]


def embeddings(people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit embeddings of images, of new people, by the people's numbers [M]."""
    count = int(people.max()) + 1
    directions = rng.normal(size=(count, SIZE)) + 1.2 * np.eye(SIZE)[0]
    noise = np.exp(0.35 * rng.normal(size=count)) * 0.75
    images = directions[people] + noise[people, None] * rng.normal(size=(len(people), SIZE))
    return images / np.linalg.norm(images, axis=1, keepdims=True)


def scored(people: np.ndarray, indices: np.ndarray, rng: np.random.Generator) -> Pairs:
    """The cosines of pairs of images of new people."""
    units = embeddings(people, rng)
    identities = people[indices]
    scores = np.einsum("nd,nd->n", units[indices[:, 0]], units[indices[:, 1]])
    return Pairs(scores, identities[:, 0] == identities[:, 1], identities)


def sparse(rng: np.random.Generator) -> Pairs:
    """Hardly anybody is in two pairs: 6,000 of them, of 4,000 people."""
    people = np.repeat(np.arange(4000), 2)
    same = rng.integers(0, 4000, 3000)
    first = rng.integers(0, 4000, 3000)
    second = (first + rng.integers(1, 4000, 3000)) % 4000
    different = np.stack([2 * first, 2 * second + 1], axis=1)
    indices = np.concatenate([np.stack([2 * same, 2 * same + 1], axis=1), different])
    return scored(people, indices, rng)


def drawn(rng: np.random.Generator) -> Pairs:
    """A balanced list: 6,000 pairs drawn from 150 people with eight images each."""
    people = np.repeat(np.arange(150), 8)
    indices = draw_pairs(people, pairs=6000, seed=int(rng.integers(2**31))).indices
    return scored(people, indices, rng)


def everyone(rng: np.random.Generator) -> Pairs:
    """All pairs of 60 people with three images each: 180 same, 15,930 different."""
    people = np.repeat(np.arange(60), 3)
    return scored(people, np.stack(np.triu_indices(180, 1), axis=1), rng)


# A FAR that allows at least 100 false accepts, for each kind of list.
LISTS = {"sparse": (sparse, 0.04), "drawn": (drawn, 0.04), "all pairs": (everyone, 0.01)}


def population() -> Pairs:
    """Two million pairs of each kind, of people who are in one pair each."""
    parts = []
    for seed in range(20):
        people = np.arange(200_000) // 2
        images = np.arange(200_000)
        rng = np.random.default_rng([7, seed])
        parts.append(scored(people, images.reshape(-1, 2), rng))
        other = np.stack([images, (images + 100_000) % 200_000], axis=1)
        parts.append(scored(people, other[:100_000], rng))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def truth(everybody: Pairs, far: float, share: float) -> tuple[float, list[float]]:
    """A threshold, and the true numbers; `share` is that of the same pairs in the list."""
    positives = np.sort(everybody.scores[everybody.same])
    negatives = np.sort(everybody.scores[~everybody.same])
    limit = float(np.quantile(negatives, 1 - far))
    tar = float((positives >= limit).mean())
    threshold = float(np.quantile(negatives, 0.9))
    accuracy = (
        share * (positives >= threshold).mean() + (1 - share) * (negatives < threshold).mean()
    )
    auc = float(np.searchsorted(negatives, positives).mean() / len(negatives))
    eer = statistics.equal_error_rate(everybody.scores, everybody.same)
    rate = float(eer(np.ones((1, len(everybody.same))))[0, 0])
    return threshold, [float(accuracy), np.nan, auc, tar, rate]


def intervals(
    pairs: Pairs, threshold: float, far: float, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates [K], and intervals [K, 2] by people and by pairs (NaN where there was none)."""
    scores, same, identities = pairs
    folds = pair_folds(same)
    statistic = statistics.together(
        statistics.accuracy(scores, same, threshold=threshold),
        statistics.kfold_accuracy(scores, same, folds),
        statistics.auc(scores, same),
        statistics.tars(scores, same, fars=(far,)),
        statistics.equal_error_rate(scores, same),
    )
    found = bootstrap.resample(statistic, identities, resamples=resamples, seed=seed)
    by_people = np.array([found.interval(number) for number in range(len(NUMBERS))])
    by_pairs = np.full((len(NUMBERS), 2), np.nan)
    by_pairs[0] = bootstrap.wilson(float(found.estimates[0]), len(scores), 1.959963984540054)
    by_pairs[1] = kfold_accuracy(scores, same, folds)[2:4]
    by_pairs[3] = tar_at_far(scores, same, far=far, bootstrap=resamples, seed=seed)[2:4]
    return found.estimates, by_people, by_pairs


def main() -> None:
    """Prints a table for each kind of list."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--lists", default=",".join(LISTS))
    options = parser.parse_args()
    print(f"$ {shlex.join(['python', *sys.argv])}\n{datetime.date.today()}")
    everybody = population()
    for name in options.lists.split(","):
        make, far = LISTS[name]
        rows = []
        start = time.process_time()
        share = float(make(np.random.default_rng(0)).same.mean())
        threshold, values = truth(everybody, far, share)
        found = [
            intervals(make(rng), threshold, far, options.resamples, seed)
            for seed, rng in enumerate(map(np.random.default_rng, range(options.draws)))
        ]
        estimates, by_people, by_pairs = map(np.array, zip(*found, strict=True))
        true = np.array(values)
        true[1] = estimates[:, 1].mean()  # what it is an estimate of depends on the number of pairs
        for number, label in enumerate(NUMBERS):
            row = [f"{name}: {label}" + (f" at FAR {far}" if label == "TAR" else "")]
            row.append(f"{true[number]:.4f}")
            for ends in (by_people[:, number], by_pairs[:, number]):
                held = (ends[:, 0] <= true[number]) & (true[number] <= ends[:, 1])
                known = np.isfinite(ends).all()
                width = np.mean(ends[:, 1] - ends[:, 0])
                row += [f"{100 * held.mean():.1f} %", f"{width:.4f}"] if known else ["-", "-"]
            rows.append(row)
        seconds = (time.process_time() - start) / options.draws
        print(f"\n{options.draws} draws, {seconds:.2f} s of processor time each")
        header = ["", "truth", "by people", "width", "by pairs", "width"]
        print(format_table(header, rows), flush=True)


if __name__ == "__main__":
    main()
