"""How far a rate differs between groups of people, by the measures in use."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """Measures of how unequal the rates of groups are; all are above 0 by chance alone, too."""

    maximum_over_minimum: float | None  # 1 where all are equal; None where the smallest is 0
    standard_deviation: float  # over the groups (ddof 0)
    gini: float | None  # 0 where all are equal, 1 where one group has everything; None if all are 0


def spread(rates: Sequence[float]) -> Spread:
    """The spread of a rate over groups, which count alike however large they are.

    Args:
      rates: [G] >= 0, of two groups or more.

    Returns:
      Spread. Gini's coefficient is that of a sample, n / (n - 1) times the mean absolute difference
      over twice the mean, as GARBE takes it.

    Raises:
      ValueError: there are fewer than two rates, or a negative one.

    References:
      Howard et al., Evaluating Proposed Fairness Models for Face Recognition Algorithms, 2022:
      https://arxiv.org/abs/2203.05051
      Wang et al., Racial Faces in the Wild, 2019 (ratio of errors): https://arxiv.org/abs/1812.00194
    """
    values = np.asarray(rates, np.float64)
    if values.ndim != 1 or len(values) < 2 or not (values >= 0).all():
        raise ValueError(f"two or more rates are wanted, none negative, not {values.tolist()}")
    ratio = float(values.max() / values.min()) if values.min() > 0 else None
    differences = np.abs(values[:, None] - values).sum()
    count = len(values)
    gini = None
    if values.any():
        gini = float(differences / (2 * count * (count - 1) * values.mean()))
    return Spread(ratio, float(values.std()), gini)
