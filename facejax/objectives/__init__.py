"""Objectives: a loss with all that a trainer must keep for it, as an init/apply pair.

    init(key, num_classes, dim) -> (params, state)
    apply(params, state, embeddings, labels, *, keys, step, classes) -> (losses [B], state, metrics)

`params` is trained, `state` is carried. In both, every array with a rank has one row per class on
its first axis and may be split over devices there; scalars are shared. `keys` are PRNG keys [B],
one per row, for what a loss draws; None will do where it draws nothing. `metrics` are sums over the
rows given. `classes` is a `facejax.losses.Classes`, whose rules hold: with an `axis_name`, params
are this device's slice and the rows its part of the batch; `num_classes` leaves the slices' padding
rows out. The mean of the losses over the real rows is what is to be minimised.

What is kept for which loss is a row of `table.TABLE`.
"""

from facejax.objectives.common import Objective
from facejax.objectives.table import (
    LOSSES,
    can_sample,
    has_class_weights,
    hyperparameters,
    needs_pairs,
    neutral_margin,
    objective,
    remedies_taken,
)

__all__ = [
    "LOSSES",
    "Objective",
    "can_sample",
    "has_class_weights",
    "hyperparameters",
    "needs_pairs",
    "neutral_margin",
    "objective",
    "remedies_taken",
]
