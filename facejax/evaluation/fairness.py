"""Verification by groups of people: who is taken for another more often, who is refused?

A group's pairs are those whose two images are both of it. FMR, the false match rate, is the share
of its different pairs that are accepted; FNMR, the false non-match rate, that of its same pairs
that are refused; both at one threshold for all, as a program in use has.
"""

from typing import NamedTuple

import numpy as np

from facejax.errors import UserError
from facejax.evaluation import bootstrap, statistics
from facejax.evaluation.spread import Spread, spread
from facejax.evaluation.verification import SOUND, tar_at_far


class Rate(NamedTuple):
    """A share of pairs that go wrong, with its 95 % interval by resampling people."""

    rate: float
    low: float
    high: float
    errors: int  # pairs that go wrong
    pairs: int
    people: int  # in these pairs


class Limit(NamedTuple):
    """The threshold at which a group has the wanted FAR, with its 95 % interval likewise."""

    threshold: float
    low: float
    high: float


class Group(NamedTuple):
    """What is known of one group; None of what it has no pairs for."""

    name: str
    false_matches: Rate | None
    false_non_matches: Rate | None
    own_threshold: Limit | None  # None too where it has too few different pairs for the FAR
    notes: tuple[str, ...]


class Fairness(NamedTuple):
    """Groups at one threshold, and how far they differ."""

    threshold: float
    groups: tuple[Group, ...]  # by name
    false_match_spread: Spread | None  # None with fewer than two groups that have the rate
    false_non_match_spread: Spread | None
    across: int  # pairs of two groups, which count for none


def fairness(
    scores: np.ndarray,
    same: np.ndarray,
    identities: np.ndarray,
    groups: np.ndarray,
    *,
    far: float,
    threshold: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Fairness:
    """The error rates of groups of people.

    Args:
      scores: [N] finite floats, larger is more alike.
      same: [N] bool, with both kinds among them.
      identities: [N, 2] whole numbers, who the two of each pair are.
      groups: [N, 2] names, the groups of the two; a column of `ImageTable.texts` at the pairs'
        indices. An empty name is of no group.
      far: the false accept rate of the threshold, among all different pairs, those of two groups
        too; and that of the groups' own thresholds.
      threshold: another one, such as that of a program in use.
      resamples: of the people.
      seed: of the resampling.

    Returns:
      Fairness.

    Raises:
      UserError: no pair is of one group, or there are too few different pairs for the FAR and no
        threshold is given.
      ValueError: on wrong shapes, or what `tar_at_far` refuses.
    """
    scores, same, groups = np.asarray(scores, np.float64), np.asarray(same), np.asarray(groups)
    identities = np.asarray(identities)
    if groups.shape != (len(scores), 2) or identities.shape != groups.shape:
        raise ValueError(
            f"identities and groups [{len(scores)}, 2] are wanted, not {identities.shape} and "
            f"{groups.shape}"
        )
    overall = tar_at_far(scores, same, far=far)
    if threshold is None:
        if overall.threshold is None:
            raise UserError(f"{overall.note}; or give a threshold")
        threshold = overall.threshold
    one_group = groups[:, 0] == groups[:, 1]
    names = [str(name) for name in np.unique(groups[one_group, 0]) if name != ""]
    if not names:
        raise UserError("no pair is of two images of one group: give pairs within groups")
    wrong = (scores >= threshold) != same
    found = []
    for name in names:
        inside = one_group & (groups[:, 0] == name)
        found.append(
            _group(
                name,
                scores[inside],
                same[inside],
                wrong[inside],
                identities[inside],
                far=far,
                resamples=resamples,
                seed=seed,
            )
        )
    return Fairness(
        float(threshold),
        tuple(found),
        _spread([group.false_matches for group in found]),
        _spread([group.false_non_matches for group in found]),
        int((groups[:, 0] != groups[:, 1]).sum()),
    )


def _group(
    name: str,
    scores: np.ndarray,
    same: np.ndarray,
    wrong: np.ndarray,
    identities: np.ndarray,
    *,
    far: float,
    resamples: int,
    seed: int,
) -> Group:
    """A group by its own pairs, whose people are resampled apart from those of others."""
    notes = []
    parts = [statistics.shares((wrong, ~same), (wrong, same))]
    own = None
    if same.any() and not same.all():
        own = tar_at_far(scores, same, far=far)
        if own.threshold is not None:
            parts.append(statistics.limits(scores, same, fars=(far,)))
        elif own.note:
            notes.append(f"{name}: {own.note}")
    result = bootstrap.resample(
        statistics.together(*parts), identities, resamples=resamples, seed=seed
    )
    rates: list[Rate | None] = []
    for number, kind in enumerate((~same, same)):
        if not kind.any():
            rates.append(None)
            continue
        people = len(np.unique(identities[kind]))
        share, variance, degrees = (
            float(of[number]) for of in (result.estimates, result.variances, result.degrees)
        )
        low, high = bootstrap.share_interval(share, variance, people, degrees=degrees)
        rates.append(Rate(share, low, high, int(wrong[kind].sum()), int(kind.sum()), people))
    matches = rates[0]
    if matches is not None and matches.errors < SOUND:
        notes.append(
            f"{name}: the FMR rests on {matches.errors} false accept{'s' * (matches.errors != 1)} "
            f"of {matches.pairs} different pairs: below {SOUND} its interval is not to be relied on"
        )
    limit = None
    if own is not None and own.threshold is not None:
        half = bootstrap.student(result.degrees[2]) * float(np.sqrt(result.variances[2]))
        limit = Limit(own.threshold, own.threshold - half, own.threshold + half)
    return Group(name, rates[0], rates[1], limit, tuple(notes))


def _spread(rates: list[Rate | None]) -> Spread | None:
    known = [rate.rate for rate in rates if rate is not None]
    return spread(known) if len(known) > 1 else None
