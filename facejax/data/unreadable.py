"""Records that can't be read: why, and what stands in for them."""

import numpy as np

from facejax.data.images import decode
from facejax.data.sources import Source
from facejax.errors import UserError


def stand_ins(labels: np.ndarray, number: int, *, most: int) -> np.ndarray:
    """What may stand in for a record: the others of its identity, then all others.

    Args:
      labels: int [N], of all records.
      number: of the record.
      most: how many are wanted.

    Returns:
      int64 [at most `most`], record numbers, both parts in order from the record on and round.
    """
    own = np.flatnonzero(labels == labels[number])
    own = np.roll(own, -int(np.searchsorted(own, number)))[1 : most + 1]
    behind = (number + np.arange(1, min(most + len(own) + 1, len(labels)))) % len(labels)
    return np.concatenate([own, behind[labels[behind] != labels[number]]])[:most]


def fault(source: Source, number: int) -> str:
    """The sentence that says why a record can't be read, "" where it can.

    Args:
      source: any.
      number: of the record.
    """
    try:
        record = source[number]
        decode(record["image"], None, record.get("id", f"record {number}"))
    except UserError as error:
        return str(error)
    return ""
