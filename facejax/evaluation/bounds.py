"""How far a false accept rate may lie above what was counted, where pairs share people."""

import numpy as np
from scipy import special

_CONFIDENCE = 0.95


def upper_bound(accepted: np.ndarray, pairs: np.ndarray) -> float:
    """The upper end of the one-sided 95 % confidence interval of a FAR.

    Of independent pairs it is that of Clopper and Pearson, and as such also the 95 % quantile of
    the true FAR at a threshold that was chosen as an order statistic of the same pairs. But pairs
    share people, some of whom resemble many: the variance of the FAR is that which resampling
    *people* gives, in its closed form, the sum over people of (their false accepts - FAR * their
    pairs)^2, less the variance of the single pairs, which is in it twice (the infinitesimal
    jackknife of a U-statistic; several accepted pairs of the same two people stay in twice, which
    widens the interval). So many pairs as would have this variance if they were independent, but
    never more than there are, are given to Clopper and Pearson's formula (Korn and Graubard).
    The variance is itself an estimate, which few people make too small at times: of 80 people in 8
    groups that look alike, 92 % of the bounds held, and 55 % of those for independent pairs
    (tests/test_thresholds.py).

    Args:
      accepted: [people] of each one, the accepted pairs with somebody else.
      pairs: [people] of each one, all pairs with somebody else.

    Returns:
      The bound, 0 to 1.

    References:
      Clopper and Pearson, The Use of Confidence or Fiducial Limits, Biometrika 1934:
      https://doi.org/10.1093/biomet/26.4.404
      Korn and Graubard, Confidence Intervals for Proportions With Small Expected Number of Positive
      Counts Estimated From Survey Data, Survey Methodology 24, 1998, pages 193-201
      Fogliato, Patil and Perona, Confidence Intervals for Error Rates in 1:1 Matching Tasks, 2023:
      https://arxiv.org/abs/2306.01198
    """
    count, total = accepted.sum() / 2, pairs.sum() / 2
    far = count / total
    if count == 0:
        effective = len(pairs) / 2  # as many pairs as share nobody
    elif count == total:
        return 1.0
    else:
        single = count * (1 - far)
        spread = float(np.sum((accepted - far * pairs) ** 2)) - single
        effective = total * single / max(spread, single)
    found = far * effective
    return float(special.betaincinv(found + 1, effective - found, _CONFIDENCE))
