"""TAR at FAR of millions of pairs, with other people drawn.

`facejax.evaluation.statistics.tars` weighs all pairs and sorts them once for each list; here, of
the different pairs only those are kept that can be accepted, a tenth of them or less, and few of
those are weighed in each resample.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from facejax.evaluation.bootstrap import Resampled, Units, resample_units

_TAIL = 3  # different pairs that are kept, as a multiple of those the largest rate accepts
_ROWS = 1 << 17  # of them are weighed at a time, and no more than must be
_COUNTS = 1 << 22  # that are drawn at a time, 32 MiB
_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


def resample_tars(
    scores: np.ndarray,
    same: np.ndarray,
    ends: np.ndarray,
    tars: np.ndarray,
    *,
    fars: Sequence[float],
    resamples: int = 400,
    seed: int = 0,
) -> Resampled:
    """Resamples the people of very many pairs, for the TAR at the threshold of each FAR.

    Besides the arguments it takes 16 bytes a pair for who is drawn, as many for the pairs of each
    two people, and 8 bytes to find those that can be accepted.

    Args:
      scores: [N] floats.
      same: [N] bool, with both kinds among them.
      ends: int32 [N, 2] from 0, who the two of each pair are, and everybody is in a pair.
      tars: [K] of the pairs as they are.
      fars: [K] in (0, 1].
      resamples: how many, and half as many of couples; at least 4.
      seed: of the resampling.
    """
    return resample_units(
        np.asarray(tars, np.float64),
        tar_replicates(scores, same, fars=fars),
        ends,
        resamples=resamples,
        seed=seed,
        rows=lambda units: max(1, _COUNTS // (units.size + 1)),
    )


def tar_replicates(
    scores: np.ndarray, same: np.ndarray, *, fars: Sequence[float]
) -> Callable[[Units], Callable[[np.ndarray], np.ndarray]]:
    """The TARs where some units are drawn, as `resample_units` asks for them.

    The threshold is chosen anew for each row of counts. Three times as many different
    pairs as the largest rate accepts are hardly ever too few; it then accepts less than it might.

    Args:
      scores: [N] floats.
      same: [N] bool, with both kinds among them.
      fars: in (0, 1].
    """
    wanted = np.array(fars, np.float64)
    positives = np.flatnonzero(same)
    positives = positives[np.argsort(scores[positives])]
    rising = scores[positives]
    different = ~same
    count = int(np.count_nonzero(different))
    kept = min(int(np.ceil(_TAIL * wanted.max() * count)) + 1, count)
    top = np.argpartition(np.where(same, -np.inf, scores), len(scores) - kept)[-kept:]
    top = top[np.argsort(-scores[top])]
    falling = scores[top]
    beyond = -np.inf if kept == count else falling[-1]

    def replicates(units: Units) -> Callable[[np.ndarray], np.ndarray]:
        totals = _totals(units, different)
        of_positives, of_top = (
            Units(units.size, tuple(place[chosen] for place in units.places))
            for chosen in (positives, top)
        )

        def tars(counts: np.ndarray) -> np.ndarray:
            result = np.full((len(counts), len(wanted)), np.nan)
            for row, total in enumerate(totals(counts)):
                drawn = counts[row : row + 1]
                weights = of_positives.weights(drawn)[0]
                accepted = np.append(0, np.cumsum(weights[::-1]))[::-1]  # of all from a place on
                if accepted[0] and total:
                    limits = wanted * total + _ROUNDING
                    refused = _refused(falling, of_top, drawn, limits, beyond)
                    places = np.searchsorted(rising, refused, side="right")
                    result[row] = accepted[places] / accepted[0]
            return result

        return tars

    return replicates


def _totals(units: Units, chosen: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What some pairs weigh together, [R], as a function of counts [R, size + 1]."""
    places = [place[chosen] for place in units.places]
    if len(places) == 1:
        often = np.bincount(places[0], minlength=units.size + 1)
        return lambda counts: counts @ often
    ones = np.ones(len(places[0]), np.float32)
    table = sparse.coo_array((ones, tuple(places)), shape=(units.size + 1,) * 2).tocsr()
    return lambda counts: np.einsum(
        "rp,pr->r", counts, table @ np.ascontiguousarray(counts.T, np.float32)
    )


def _refused(
    falling: np.ndarray, units: Units, drawn: np.ndarray, limits: np.ndarray, beyond: float
) -> np.ndarray:
    """The first score whose acceptance would exceed each limit; what is above it is accepted."""
    found = np.full(len(limits), beyond)
    sought = np.ones(len(limits), bool)
    total = 0.0
    for start in range(0, len(falling), _ROWS):
        part = slice(start, start + _ROWS)
        some = Units(units.size, tuple(place[part] for place in units.places))
        accepted = total + np.cumsum(some.weights(drawn)[0])
        total = accepted[-1]
        here = sought & (limits < total)
        places = np.searchsorted(accepted, limits[here], side="right")
        found[here] = falling[part][places]
        sought &= ~here
        if not sought.any():
            break
    return found
