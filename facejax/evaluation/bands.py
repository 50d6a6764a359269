"""How far an ROC may lie from the truth: TAR with its interval at many FARs, for a picture."""

from typing import NamedTuple

import numpy as np

from facejax.evaluation import bootstrap, statistics
from facejax.evaluation.verification import SOUND

_POINTS = 64
_WEIGHTS = 10**8  # that are drawn at most, so that many pairs don't take minutes


class Band(NamedTuple):
    """TARs at FARs from one false accept up, each with its own 95 % interval by people."""

    false_accept_rates: np.ndarray  # [K] rising to 1
    true_accept_rates: np.ndarray  # [K]
    low: np.ndarray  # [K]
    high: np.ndarray  # [K]
    sound: np.ndarray  # bool [K], whether there are 100 false accepts


def tar_band(
    scores: np.ndarray,
    same: np.ndarray,
    identities: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Band:
    """The pointwise 95 % band of an ROC, by resampling people.

    It holds the truth at each FAR by itself 95 % of the time, and all of it at once less often.

    Args:
      scores: [N] finite floats.
      same: [N] bool, with both kinds among them.
      identities: [N, 2] whole numbers, who the two of each pair are.
      resamples: of the people; of more than 100,000 pairs as many fewer as keeps the time.
      seed: of the resampling.

    Returns:
      Band, at FARs that are whole numbers of false accepts.

    Raises:
      ValueError: as `facejax.evaluation.resample`.
    """
    scores, same = np.asarray(scores), np.asarray(same)
    negatives = int((~same).sum())
    accepts = np.unique(np.geomspace(1, negatives, _POINTS).round().astype(int))
    fars = accepts / negatives
    found = bootstrap.resample(
        statistics.tars(scores, same, fars=fars.tolist()),
        identities,
        resamples=max(min(resamples, _WEIGHTS // len(scores)), min(resamples, 100)),
        seed=seed,
    )
    low, high = np.transpose([found.interval(number) for number in range(len(fars))])
    return Band(fars, found.estimates, low, high, accepts >= SOUND)
