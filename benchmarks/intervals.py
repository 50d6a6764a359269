"""How often the intervals hold the truth, where pairs and probes share people.

    python benchmarks/intervals.py              # 1,000 draws of each kind of list
    python benchmarks/intervals.py --draws=20   # whether it runs
    python benchmarks/intervals.py --everything # k-fold accuracy and the EER too: twice the time

Each draw is of new people from one population: a direction for each person, and noise on it for
each image, of a strength that differs from person to person. So some people's pairs go wrong
together, and some people look like many. The truth of pairs is that of two million pairs, of people
who are in one pair each; that of probes, which depends on the gallery's size, is the mean of 4,000
other draws. Beside the intervals stand those that take pairs as independent.

There are fewer resamples than the library's 1,000, for the time. An interval is a little longer for
it (its degrees of freedom heed them), and holds the truth no less often.
"""

import argparse
import datetime
import shlex
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from facejax.evaluation import bootstrap, draw_pairs, identification, pair_folds, statistics
from facejax.evaluation.many_pairs import resample_tars
from facejax.evaluation.verification import kfold_accuracy, tar_at_far
from facejax.table import format_table

SIZE = 10  # of embeddings
NUMBERS = ("accuracy at a threshold", "AUC", "TAR", "k-fold accuracy", "EER")
FPIR = 0.2  # of 600 probes


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


def templates(rng: np.random.Generator) -> Pairs:
    """A gallery's and probes' templates: 60 people with one and with five, all pairs of the two."""
    people = np.concatenate([np.arange(60), np.repeat(np.arange(60), 5)])
    indices = np.stack(np.meshgrid(np.arange(60), np.arange(60, 360)), axis=-1).reshape(-1, 2)
    return scored(people, indices, rng)


def probes(rng: np.random.Generator) -> tuple[identification.Found, np.ndarray]:
    """Three probes of 400 people, half of them in the gallery: the search, and whose they are."""
    people = np.concatenate([np.arange(200), np.repeat(np.arange(400), 3)])
    units = embeddings(people, rng).astype(np.float32)
    searched = (units[200:], people[200:], units[:200], people[:200])
    return identification.find(*searched, depth=1, devices=jax.local_devices()[:1]), people[200:]


def population(parts: int = 20) -> Pairs:
    """100,000 pairs of each kind in each part, of people who are in one pair each."""
    found = []
    for seed in range(parts):
        people = np.arange(200_000) // 2
        images = np.arange(200_000)
        rng = np.random.default_rng([7, seed])
        found.append(scored(people, images.reshape(-1, 2), rng))
        other = np.stack([images, (images + 100_000) % 200_000], axis=1)
        found.append(scored(people, other[:100_000], rng))
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


def truth(everybody: Pairs, far: float, share: float, *, everything: bool) -> list[float]:
    """A threshold, and the true numbers; `share` is that of the same pairs in the list."""
    positives = np.sort(everybody.scores[everybody.same])
    negatives = np.sort(everybody.scores[~everybody.same])
    limit = float(np.quantile(negatives, 1 - far))
    tar = float((positives >= limit).mean())
    threshold = float(np.quantile(negatives, 0.9))
    accepted = float((positives >= threshold).mean())
    accuracy = share * accepted + (1 - share) * float((negatives < threshold).mean())
    auc = float(np.searchsorted(negatives, positives).mean() / len(negatives))
    known = [threshold, accuracy, auc, tar]
    if everything:
        rate = statistics.equal_error_rate(everybody.scores, everybody.same)
        known += [np.nan, float(rate(np.ones((1, len(everybody.same))))[0, 0])]
    return known


class Intervals(NamedTuple):
    """Of one draw: K estimates, and intervals [K, 2] by people and by pairs, NaN without one."""

    estimates: np.ndarray
    by_people: np.ndarray
    by_pairs: np.ndarray


def of_people(found: bootstrap.Resampled) -> Intervals:
    """What was resampled, without intervals by pairs."""
    ends = np.array([found.interval(number) for number in range(len(found.estimates))])
    return Intervals(found.estimates, ends, np.full(ends.shape, np.nan))


def of_pairs(
    pairs: Pairs,
    threshold: float,
    far: float,
    *,
    resamples: int,
    seed: int,
    everything: bool = False,
) -> Intervals:
    """Of the numbers of verification, the first three or all."""
    scores, same, identities = pairs
    parts = [
        statistics.accuracy(scores, same, threshold=threshold),
        statistics.auc(scores, same),
        statistics.tars(scores, same, fars=(far,)),
    ]
    folds = pair_folds(same)
    if everything:
        parts += [
            statistics.kfold_accuracy(scores, same, folds),
            statistics.equal_error_rate(scores, same),
        ]
    statistic = statistics.together(*parts)
    found = of_people(bootstrap.resample(statistic, identities, resamples=resamples, seed=seed))
    right = round(float(found.estimates[0]) * len(scores))
    found.by_pairs[0] = bootstrap.wilson_interval(right, len(scores))
    found.by_pairs[2] = tar_at_far(scores, same, far=far, bootstrap=resamples, seed=seed)[2:4]
    if everything:
        found.by_pairs[3] = kfold_accuracy(scores, same, folds)[2:4]
    return found


def of_templates(pairs: Pairs, far: float, *, resamples: int, seed: int) -> Intervals:
    """Of the TAR, as for IJB."""
    scores, same, ends = pairs
    tar = tar_at_far(scores, same, far=far, bootstrap=resamples, seed=seed)
    found = resample_tars(
        scores, same, ends, np.array([tar.tar]), fars=(far,), resamples=resamples, seed=seed
    )
    return of_people(found)._replace(by_pairs=np.array([tar[2:4]]))


def of_probes(found: identification.Found, subjects: np.ndarray, *, resamples: int) -> Intervals:
    """Of rank 1 and of the TPIR; by pairs that of the rank."""
    (result,), _ = identification.identify([found], subjects, fpirs=(FPIR,), bootstrap=resamples)
    (tpir,) = result.tpirs
    hits = round(float(result.cmc[0]) * result.mated)
    ends = [[result.cmc_low[0], result.cmc_high[0]], [tpir.low, tpir.high]]
    by_pairs = [bootstrap.wilson_interval(hits, result.mated), (np.nan, np.nan)]
    return Intervals(*(np.array(of, float) for of in ([result.cmc[0], tpir.tpir], ends, by_pairs)))


def rates_of_probes() -> list[float]:
    """The mean of other draws."""
    found = [probes(np.random.default_rng([8, seed])) for seed in range(4000)]
    results = (identification.identify([one], whose, fpirs=(FPIR,), bootstrap=0)[1]
               for one, whose in found)  # fmt: skip
    return np.mean([[one.cmc[0], one.tpirs[0].tpir] for one in results], axis=0).tolist()


def rows_of(
    name: str, labels: list[str], true: np.ndarray, draw: Callable[[int], Intervals], draws: int
) -> list[list[str]]:
    """A row for each number; a truth that is NaN is the mean of the estimates."""
    estimates, *kinds = map(np.array, zip(*map(draw, range(draws)), strict=True))
    true = np.where(np.isfinite(true), true, estimates.mean(axis=0))
    rows = []
    for number, label in enumerate(labels):
        row = [f"{name}: {label}", f"{true[number]:.4f}"]
        for ends in (kind[:, number] for kind in kinds):
            held = (ends[:, 0] <= true[number]) & (true[number] <= ends[:, 1])
            width = np.mean(ends[:, 1] - ends[:, 0])
            known = np.isfinite(ends).all()
            row += [f"{100 * held.mean():.1f} %", f"{width:.4f}"] if known else ["-", "-"]
        rows.append(row)
    return rows


# A FAR that allows at least 100 false accepts, for each kind of list.
LISTS = {"sparse": (sparse, 0.04), "drawn": (drawn, 0.04), "all pairs": (everyone, 0.01)}
TEMPLATES_FAR = 0.01  # of 17,700 pairs


def study(
    name: str, everybody: Pairs, *, resamples: int, everything: bool
) -> tuple[list[str], list[float], Callable[[int], Intervals]]:
    """The numbers of a kind of list, their truth, and the intervals of a draw by its seed."""
    generator = np.random.default_rng
    if name == "probes":
        return (
            ["rank 1", f"TPIR at FPIR {FPIR}"],
            rates_of_probes(),
            lambda seed: of_probes(*probes(generator(seed)), resamples=resamples),
        )
    if name == "templates":
        far = TEMPLATES_FAR
        return (
            [f"TAR at FAR {far}"],
            truth(everybody, far, 0.5, everything=False)[3:],
            lambda seed: of_templates(
                templates(generator(seed)), far, resamples=resamples, seed=seed
            ),
        )
    make, far = LISTS[name]
    share = float(make(generator(0)).same.mean())
    threshold, *true = truth(everybody, far, share, everything=everything)
    labels = [*NUMBERS[: len(true)]]
    labels[2] += f" at FAR {far}"
    return (
        labels,
        true,
        lambda seed: of_pairs(
            make(generator(seed)), threshold, far,
            resamples=resamples, seed=seed, everything=everything,
        ),
    )  # fmt: skip


def main() -> None:
    """Prints a table for each kind of list."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--lists", default=",".join([*LISTS, "templates", "probes"]))
    parser.add_argument("--everything", action="store_true")
    options = parser.parse_args()
    print(f"$ {shlex.join(['python', *sys.argv])}\n{datetime.date.today()}")
    everybody = population()
    for name in options.lists.split(","):
        start = time.process_time()
        labels, true, draw = study(
            name, everybody, resamples=options.resamples, everything=options.everything
        )
        rows = rows_of(name, labels, np.array(true), draw, options.draws)
        seconds = time.process_time() - start
        print(f"\n{options.draws} draws in {seconds:.0f} s of processor time")
        header = ["", "truth", "by people", "width", "by pairs", "width"]
        print(format_table(header, rows), flush=True)


if __name__ == "__main__":
    main()
