"""Identification: whose face is this, among a gallery, and is it anybody's there?

A probe is *mated* where the gallery has its subject. Its rank is one more than the number of other
subjects' rows that are at least as similar as its own best one: what ties counts against the probe,
so a network that maps all to one point finds nobody. Closed set: the share of the mated probes
whose rank is at most k (CMC). Open set: the share whose rank is at most k and whose similarity
reaches a threshold that refuses most probes that are not mated (DIR at FAR, or TPIR at FPIR).

Searching is the blocked exact top-k of `facejax.recognition.search`, over several devices at once.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from facejax.evaluation import statistics
from facejax.evaluation.average_precision import MeanAveragePrecision
from facejax.evaluation.bootstrap import Interval, Statistic, resample
from facejax.evaluation.templates import few_note, first_refused, just_above, pair_scores
from facejax.recognition import search

FPIRS = (1e-1, 1e-2, 1e-3)
DEPTH = 20
_SIMILARITIES = 1 << 25  # at a time on a device: 128 MiB
_QUERIES = 4096  # at most at a time


class Found(NamedTuple):
    """What a search of the gallery gave for each probe."""

    ranks: np.ndarray  # [P] int32 from 1; depth + 1 stands for all that are larger, and for no mate
    mates: np.ndarray  # [P] float32, similarity of the own subject; -inf where it's not within rank
    impostors: np.ndarray  # [P] float32, the largest of another subject; -inf without one
    mated: np.ndarray  # [P] bool, whether the gallery has the subject
    depth: int  # up to which ranks are known


class TpirAtFpir(NamedTuple):
    """TPIR (DIR) at a wanted FPIR (FAR) with its 95 % interval, or the reason there is none."""

    fpir: float
    tpir: float | None
    low: float | None
    high: float | None
    threshold: float | None
    achieved_fpir: float | None
    note: str = ""


class Identification(NamedTuple):
    """All that is said about one search."""

    cmc: np.ndarray  # [depth] float64, at k - 1 the share of mated probes of rank k or better
    cmc_low: np.ndarray  # [depth], its 95 % interval; NaN without resamples
    cmc_high: np.ndarray
    tpirs: tuple[TpirAtFpir, ...]
    mated: int  # probes
    non_mated: int
    average_precision: MeanAveragePrecision | None = None  # where it was asked for


def best(
    queries: np.ndarray,
    gallery: np.ndarray,
    *,
    k: int,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of a gallery, whose rows are split over this process's devices.

    Args:
      queries: float32 [Q, D].
      gallery: float32 [N, D].
      k: how many of each query, at least 1.
      devices: of this process; None takes all of them.

    Returns:
      similarities: float32 [Q, min(k, N)] inner products, falling.
      indices: int32 [Q, min(k, N)], of equal similarities the lower first.
    """
    if not len(queries) or not len(gallery):
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int32)
    devices = list(devices or jax.local_devices())
    bounds = np.linspace(0, len(gallery), min(len(devices), len(gallery)) + 1).astype(int)
    block = min(search.BLOCK, int(np.diff(bounds).max()))
    step = min(_SIMILARITIES // block, _QUERIES, len(queries))

    def part(number: int) -> tuple[np.ndarray, np.ndarray]:
        low, high = bounds[number], bounds[number + 1]
        rows = jax.device_put(np.asarray(gallery[low:high], np.float32), devices[number])
        found = []
        for start in range(0, len(queries), step):
            some = np.asarray(queries[start : start + step], np.float32)
            padded = np.pad(some, [(0, step - len(some)), (0, 0)])  # so that one size is compiled
            placed = jax.device_put(padded, devices[number])
            found.append([np.asarray(a) for a in search.top_k(placed, rows, k=k, block=block)])
        values, places = (np.concatenate(each)[: len(queries)] for each in zip(*found, strict=True))
        return values, np.where(places < 0, -1, places + np.int32(low))

    with ThreadPoolExecutor(len(bounds) - 1) as threads:
        parts = list(threads.map(part, range(len(bounds) - 1)))
    values, places = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    if len(parts) > 1:  # stable, and the parts are in order: of equal ones the lower first
        order = np.argsort(-values, axis=1, kind="stable")
        values, places = (np.take_along_axis(array, order, 1) for array in (values, places))
    kept = min(k, len(gallery))
    return values[:, :kept], places[:, :kept]


def find(
    probes: np.ndarray,
    probe_subjects: np.ndarray,
    gallery: np.ndarray,
    gallery_subjects: np.ndarray,
    *,
    depth: int = DEPTH,
    devices: Sequence[jax.Device] | None = None,
) -> Found:
    """Searches a gallery for each probe. A subject may have several rows in it, or none.

    Args:
      probes: float32 [P, D] unit vectors.
      probe_subjects: [P] integers.
      gallery: float32 [N, D] unit vectors.
      gallery_subjects: [N] integers; -1 is a distractor, which is nobody's.
      depth: up to which ranks are known, at least 1.
      devices: of this process; None takes all of them.

    Raises:
      ValueError: arrays that don't fit each other, or `depth` is less than 1.
    """
    probe_subjects, gallery_subjects = np.asarray(probe_subjects), np.asarray(gallery_subjects)
    if probe_subjects.shape != (len(probes),) or gallery_subjects.shape != (len(gallery),):
        raise ValueError(
            f"{len(probes)} probes and {len(gallery)} rows need a subject each, and have "
            f"{probe_subjects.shape} and {gallery_subjects.shape}"
        )
    if depth < 1:
        raise ValueError(f"depth is {depth}, and must be 1 at least")
    subjects, sizes = np.unique(gallery_subjects[gallery_subjects >= 0], return_counts=True)
    mated = np.isin(probe_subjects, subjects)
    # Among so many there are `depth` rows of others, however many are the probe's own.
    k = depth + int(sizes[np.isin(subjects, probe_subjects)].max(initial=0))
    values, places = best(probes, gallery, k=k, devices=devices)
    own = (gallery_subjects[places] == probe_subjects[:, None]) & mated[:, None]
    mates = np.where(own, values, -np.inf).max(axis=1, initial=-np.inf)
    impostors = np.where(own, -np.inf, values).max(axis=1, initial=-np.inf)
    ahead = np.sum(~own & (values >= mates[:, None]), axis=1)
    ranks = np.where(np.isfinite(mates), np.minimum(ahead, depth) + 1, depth + 1)
    return Found(ranks.astype(np.int32), mates, impostors, mated, depth)


def identify(
    searches: Sequence[Found],
    subjects: np.ndarray,
    *,
    fpirs: Sequence[float] = FPIRS,
    rank: int = 1,
    bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[tuple[Identification, ...], Identification]:
    """Closed-set and open-set rates of the same probes' searches in one gallery or several.

    The intervals, of 95 %, are by bootstrap over the probes' subjects, the threshold chosen anew
    each time; the galleries stay as they are.

    Args:
      searches: of `find`, one for each gallery.
      subjects: [P] integers of the probes.
      fpirs: the false positive identification rates at which TPIR is wanted, in (0, 1]: the share
        of the probes that are not mated for whom somebody reaches the threshold.
      rank: at which a mated probe counts in TPIR, at most the searches' depth.
      bootstrap: the number of resamples, at least 4; 0 for no intervals.
      seed: of the resampling.

    Returns:
      each: Identification of each search. Without a mated probe the CMC is NaN; a TPIR that the
        probes can't support is None, with a note.
      mean: over the galleries as IJB has it: the CMC over all mated probes, and the mean of the
        galleries' TPIRs, without a threshold, None where one of them is.

    Raises:
      ValueError: a rate is not in (0, 1], or `rank` is deeper than was searched.
    """
    depth = min(found.depth for found in searches)
    if not 1 <= rank <= depth:
        raise ValueError(f"rank is {rank}, and must be from 1 to the searches' depth, {depth}")
    each = [
        Identification(
            *_cmc([found], found.depth),
            tuple(_tpir(found, fpir, rank) for fpir in fpirs),
            int(found.mated.sum()),
            int((~found.mated).sum()),
        )
        for found in searches
    ]
    mean = Identification(
        *_cmc(searches, depth),
        tuple(map(_mean, zip(*(result.tpirs for result in each), strict=True))),
        sum(result.mated for result in each),
        sum(result.non_mated for result in each),
    )
    if not bootstrap or not len(subjects):
        return tuple(each), mean
    of_each = [_tpirs_by_weights(found, fpirs, rank) for found in searches]

    def tpirs(weights: np.ndarray) -> np.ndarray:
        values = [statistic(weights) for statistic in of_each]
        return np.concatenate([*values, np.mean(values, axis=0)], axis=1)

    together = statistics.together(
        *(_cmc_by_weights([found], found.depth) for found in searches),
        _cmc_by_weights(searches, depth),
        tpirs,
    )
    people = np.repeat(np.asarray(subjects)[:, None], 2, axis=1)
    resampled = resample(together, people, resamples=bootstrap, seed=seed)
    intervals = iter(map(resampled.interval, range(len(resampled.estimates))))
    results = [*each, mean]
    results = [_with_cmc(one, [next(intervals) for _ in one.cmc]) for one in results]
    results = [_with_tpirs(one, [next(intervals) for _ in one.tpirs]) for one in results]
    return tuple(results[:-1]), results[-1]


def cmc(ranks: np.ndarray, depth: int) -> np.ndarray:
    """The cumulative match characteristic: at k - 1 the share of the ranks that are k or less.

    Args:
      ranks: [n] integers from 1.
      depth: the largest k.

    Returns:
      float64 [depth], NaN without ranks.
    """
    if not len(ranks):
        return np.full(depth, np.nan)
    counts = np.bincount(np.minimum(ranks, depth + 1), minlength=depth + 2)
    return np.cumsum(counts[1 : depth + 1]) / len(ranks)


def distractor_ranks(
    probes: np.ndarray,
    subjects: np.ndarray,
    distractors: np.ndarray,
    *,
    depth: int = DEPTH,
    devices: Sequence[jax.Device] | None = None,
) -> np.ndarray:
    """MegaFace's protocol: each probe looks for each of its mates, one at a time, among all others.

    For every ordered pair of images of one subject, the first is the probe, and the gallery is the
    second with all distractors. `cmc` of the ranks is the identification rate.

    Args:
      probes: float32 [P, D] unit vectors.
      subjects: [P] integers.
      distractors: float32 [N, D] unit vectors, none of a probe's subject.
      depth: up to which ranks are known.
      devices: of this process; None takes all of them.

    Returns:
      int32 [pairs] of ranks, depth + 1 for all that are larger, in the order of the probes.

    References:
      Kemelmacher-Shlizerman et al., The MegaFace Benchmark, CVPR 2016, section 3.2:
      https://arxiv.org/abs/1512.00596
    """
    probes = np.asarray(probes, np.float32)
    above, _ = best(probes, distractors, k=depth, devices=devices)
    pairs = mated_pairs(subjects)
    similarities = pair_scores(probes, pairs)
    ahead = np.zeros(len(pairs), np.int32)
    for column in above.T:
        ahead += column[pairs[:, 0]] >= similarities
    return ahead + 1


def mated_pairs(subjects: np.ndarray) -> np.ndarray:
    """All ordered pairs of two images of one subject, int64 [pairs, 2], in the first's order.

    Args:
      subjects: [P] integers.
    """
    subjects = np.asarray(subjects)
    order = np.argsort(subjects, kind="stable")
    starts = np.searchsorted(subjects[order], subjects)
    sizes = np.searchsorted(subjects[order], subjects, side="right") - starts
    first = np.repeat(np.arange(len(subjects)), sizes)
    within = np.arange(len(first)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    pairs = np.stack([first, order[starts[first] + within]], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _cmc(searches: Sequence[Found], depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the mated probes of all the searches together, as yet without its interval."""
    ranks = np.concatenate([found.ranks[found.mated] for found in searches])
    return cmc(ranks, depth), np.full(depth, np.nan), np.full(depth, np.nan)


def _cmc_by_weights(searches: Sequence[Found], depth: int) -> Statistic:
    """The same of the probes' weights."""
    mated = [found.mated[:, None] for found in searches]
    hits = [found.ranks[:, None] <= np.arange(1, depth + 1) for found in searches]
    return statistics.ratios(
        np.sum([hit & one for hit, one in zip(hits, mated, strict=True)], axis=0),
        np.sum(mated, axis=0),
    )


def _tpirs_by_weights(found: Found, fpirs: Sequence[float], rank: int) -> Statistic:
    """Of the probes' weights; the threshold is chosen anew."""
    if found.mated.all() or not found.mated.any():
        return lambda weights: np.full((len(weights), len(fpirs)), np.nan)
    scores = np.where(found.mated, _counting(found, rank), found.impostors)
    return statistics.tars(scores, found.mated, fars=fpirs)


def _counting(found: Found, rank: int) -> np.ndarray:
    """The similarities of the probes' own, -inf of those beyond the rank."""
    return np.where(found.ranks <= rank, found.mates, np.float32(-np.inf))


def _tpir(found: Found, fpir: float, rank: int) -> TpirAtFpir:
    """As yet without its interval."""
    others = np.sort(found.impostors[~found.mated])
    allowed, refused = first_refused(others, fpir)
    note = few_note("FPIR", fpir, others, refused)
    if not found.mated.any():
        note = "no probe has its subject in the gallery"
    if not allowed or not found.mated.any():
        return TpirAtFpir(fpir, None, None, None, None, None, note)
    hits = _counting(found, rank)[found.mated] > (-np.inf if refused is None else refused)
    return TpirAtFpir(
        fpir,
        float(hits.mean()),
        None,
        None,
        just_above(others, refused),
        float((others > refused).mean()) if refused is not None else 1.0,
        note,
    )


def _mean(same: Sequence[TpirAtFpir]) -> TpirAtFpir:
    """Of several galleries at one FPIR."""
    fpir, note = same[0].fpir, next((one.note for one in same if one.note), "")
    known = [(one.tpir, one.achieved_fpir) for one in same if one.tpir is not None]
    if len(known) < len(same):
        return TpirAtFpir(fpir, None, None, None, None, None, note)
    tpir, achieved = np.mean(np.array(known, float), axis=0)
    return TpirAtFpir(fpir, float(tpir), None, None, None, float(achieved), note)


def _with_cmc(result: Identification, intervals: Sequence[Interval]) -> Identification:
    if not result.mated:
        return result
    low, high = np.array(intervals).T
    return result._replace(cmc_low=low, cmc_high=high)


def _with_tpirs(result: Identification, intervals: Sequence[Interval]) -> Identification:
    tpirs = (
        tpir if tpir.tpir is None else tpir._replace(low=ends.low, high=ends.high)
        for tpir, ends in zip(result.tpirs, intervals, strict=True)
    )
    return result._replace(tpirs=tuple(tpirs))
