"""Mean average precision: how far in front of all others the mates of a probe are found.

Beside rank k it is TinyFace's metric. Where a probe has several mates in the gallery, rank k asks
for the best of them only; the average precision asks for all: at each mate, the share of mates
among the rows that are at least as similar. What ties with a mate is found together with it.
"""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from facejax.evaluation import statistics
from facejax.evaluation.bootstrap import resample

_SIMILARITIES = 1 << 25  # at a time on a device: 128 MiB
_QUERIES = 1024  # at most at a time
_BLOCK = 65_536  # rows of the gallery at a time on a device


class MeanAveragePrecision(NamedTuple):
    """The mean over the mated probes, with its 95 % interval."""

    mean: float  # NaN without a mated probe
    low: float | None  # None without resamples
    high: float | None


class _Block(NamedTuple):
    """Rows of the gallery on a device."""

    start: int  # of its rows in the gallery
    rows: jax.Array  # float32 [n, D]
    subjects: jax.Array  # int32 [n]


def average_precisions(
    probes: np.ndarray,
    probe_subjects: np.ndarray,
    gallery: np.ndarray,
    gallery_subjects: np.ndarray,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> np.ndarray:
    """The average precision of each probe's search, whose mean is the mAP.

    Each device holds a part of the gallery, and the products of some probes with a block of it.
    These are made twice, by one program: first for the similarities of the mates, then to count
    what is as similar.

    Args:
      probes: float32 [P, D] unit vectors.
      probe_subjects: [P] integers.
      gallery: float32 [N, D] unit vectors.
      gallery_subjects: [N] integers; -1 is a distractor, which is nobody's.
      devices: of this process; None takes all of them.

    Returns:
      float64 [P] in (0, 1]: the mean over the probe's mates of the share of mates among the rows
      that are at least as similar as this one, which is scikit-learn's `average_precision_score`;
      NaN of a probe without a mate.

    Raises:
      ValueError: arrays that don't fit each other.

    References:
      Cheng, Zhu and Gong, Low-Resolution Face Recognition, ACCV 2018, section 4:
      https://arxiv.org/abs/1811.08965
    """
    probe_subjects, gallery_subjects = np.asarray(probe_subjects), np.asarray(gallery_subjects)
    if probe_subjects.shape != (len(probes),) or gallery_subjects.shape != (len(gallery),):
        raise ValueError(
            f"{len(probes)} probes and {len(gallery)} rows need a subject each, and have "
            f"{probe_subjects.shape} and {gallery_subjects.shape}"
        )
    result = np.full(len(probes), np.nan)
    owned = np.flatnonzero(gallery_subjects >= 0)
    owned = owned[np.argsort(gallery_subjects[owned], kind="stable")]  # a subject's together
    first = np.searchsorted(gallery_subjects[owned], probe_subjects, side="left")
    sizes = np.searchsorted(gallery_subjects[owned], probe_subjects, side="right") - first
    order = np.argsort(sizes, kind="stable")  # so that few are padded to the mates of others
    order = order[sizes[order] > 0]
    if not len(order):
        return result
    # Small numbers for the subjects, equal where they are, and -1 for a distractor.
    codes = np.full(len(gallery), -1, np.int32)
    codes[owned] = np.unique(gallery_subjects[owned], return_inverse=True)[1]
    shards = _shards(gallery, codes, list(devices or jax.local_devices()))
    step = min(_SIMILARITIES // min(_BLOCK, len(gallery)), _QUERIES, len(order))
    with ThreadPoolExecutor(len(shards)) as threads:
        for start in range(0, len(order), step):
            some = order[start : start + step]
            padded = np.pad(some, (0, step - len(some)), mode="edge")  # one size is compiled
            widest = 1 << (int(sizes[some[-1]]) - 1).bit_length()
            column = np.arange(widest)
            mates = owned[np.minimum(first[padded, None] + column, len(owned) - 1)]
            mates = np.where(column < sizes[padded, None], mates, -1)
            queries = itertools.repeat(np.asarray(probes[padded], np.float32))
            found = threads.map(_of_mates, shards, queries, itertools.repeat(mates))
            own = np.max([*found], axis=0)
            whose = itertools.repeat(codes[mates[:, 0]])
            ahead = threads.map(_as_similar, shards, queries, whose, itertools.repeat(own))
            others = np.sum([*ahead], axis=0)
            result[some] = _averaged(own, others, sizes[padded])[: len(some)]
    return result


def mean_average_precision(
    precisions: np.ndarray, subjects: np.ndarray, *, bootstrap: int = 1000, seed: int = 0
) -> MeanAveragePrecision:
    """The mAP of a search, with its interval by resampling the probes' subjects.

    Args:
      precisions: [P] of `average_precisions`.
      subjects: [P] integers of the probes.
      bootstrap: the number of resamples, at least 4; 0 for no interval.
      seed: of the resampling.
    """
    mated = np.isfinite(precisions)
    if not mated.any():
        return MeanAveragePrecision(float("nan"), None, None)
    mean = float(precisions[mated].mean())
    if not bootstrap:
        return MeanAveragePrecision(mean, None, None)
    people = np.repeat(np.asarray(subjects)[mated, None], 2, axis=1)
    statistic = statistics.ratios(precisions[mated, None], np.ones((len(people), 1)))
    found = resample(statistic, people, resamples=bootstrap, seed=seed)
    return MeanAveragePrecision(mean, *found.interval())


def _shards(
    gallery: np.ndarray, subjects: np.ndarray, devices: Sequence[jax.Device]
) -> list[list[_Block]]:
    """The blocks of each device."""
    bounds = np.linspace(0, len(gallery), min(len(devices), len(gallery)) + 1).astype(int)
    shards = []
    for device, low, high in zip(devices, bounds[:-1], bounds[1:], strict=False):
        shard = []
        for start in range(low, high, _BLOCK):
            part = slice(start, min(start + _BLOCK, high))
            rows = np.asarray(gallery[part], np.float32)
            shard.append(_Block(start, *jax.device_put((rows, subjects[part]), device)))
        shards.append(shard)
    return shards


def _of_mates(shard: list[_Block], queries: np.ndarray, mates: np.ndarray) -> np.ndarray:
    """float32 [Q, m], the similarities of those rows that are in the shard; -inf elsewhere."""
    found = np.full(mates.shape, -np.inf, np.float32)
    for block in shard:
        places = mates - block.start
        here = (mates >= 0) & (places >= 0) & (places < len(block.rows))
        if here.any():
            products = _products(jax.device_put(queries, block.rows.device), block.rows)
            placed = jax.device_put(np.where(here, places, 0).astype(np.int32), block.rows.device)
            taken = np.asarray(jnp.take_along_axis(products, placed, axis=1))
            found = np.where(here, taken, found)
    return found


def _as_similar(
    shard: list[_Block], queries: np.ndarray, whose: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """int64 [Q, m], how many rows of others in the shard are at least as similar as each mate."""
    total = np.zeros(own.shape, np.int64)
    for block in shard:
        placed = jax.device_put((queries, whose, own), block.rows.device)
        total += np.asarray(_count(_products(placed[0], block.rows), block.subjects, *placed[1:]))
    return total


@jax.jit
def _products(queries: jax.Array, rows: jax.Array) -> jax.Array:
    """By itself, so that both passes see the same bits."""
    return lax.dot_general(queries, rows, (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)


@jax.jit
def _count(products: jax.Array, subjects: jax.Array, whose: jax.Array, own: jax.Array) -> jax.Array:
    of_others = jnp.where(subjects[None] == whose[:, None], -jnp.inf, products)

    def one(mate: jax.Array) -> jax.Array:
        return jnp.sum(of_others >= mate[:, None], axis=1, dtype=jnp.int32)

    return lax.map(one, own.T).T


def _averaged(own: np.ndarray, others: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """float64 [Q], of the similarities of the mates and the others that are as similar."""
    order = np.argsort(-own, axis=1, kind="stable")
    own, others = (np.take_along_axis(array, order, 1) for array in (own, others))
    column = np.arange(own.shape[1])
    # How many mates are at least as similar: those up to the last one of a tie.
    last = np.where(own[:, :-1] > own[:, 1:], column[:-1], column[-1])
    last = np.append(last, np.full((len(own), 1), column[-1]), axis=1)
    mates = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1] + 1
    precision = np.where(column < sizes[:, None], mates / (mates + others), 0)
    return precision.sum(axis=1) / sizes
