"""Which similarity is enough: thresholds that were calibrated for false accept rates (FAR)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from facejax.errors import UserError

FAR = 1e-3  # of a comparison, where nobody says otherwise


@dataclasses.dataclass(frozen=True)
class Threshold:
    """One calibrated cosine.

    Attributes:
      far: the share of pairs of different people that reach `cosine`, 0 to 1.
      cosine: the threshold.
      upper_bound: of the FAR at `cosine`, one-sided, 95 % (`facejax.evaluation.bounds`); None
        where none was computed.
      negatives: pairs of different people that it was calibrated on.
      data: where they came from.
    """

    far: float
    cosine: float
    upper_bound: float | None = None
    negatives: int | None = None
    data: str = ""

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Threshold":
        """Made of its fields; others are passed over."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in names})


def far_of_fpir(fpir: float, *, people: int) -> float:
    """The FAR of one comparison at which a stranger gets a name so often.

    Args:
      fpir: the false positive identification rate: the share of strangers who get a name, 0 to 1.
      people: how many a stranger is compared with; of nobody it is one.

    Returns:
      FPIR / people, which bounds it: a stranger may resemble several.
    """
    return fpir / max(1, people)


def choose(
    thresholds: Sequence[Threshold],
    *,
    far: float,
    whose: str,
    remedy: str = "give threshold=, a cosine",
) -> Threshold:
    """The loosest threshold whose FAR is at most the wanted one.

    Args:
      thresholds: to choose from.
      far: the wanted FAR, 0 to 1.
      whose: in what the thresholds are, for the sentences.
      remedy: what to do where none fits, the end of the sentences.

    Raises:
      UserError: there are none, or none is so strict: what a calibration's pairs don't support has
        no entry.
    """
    if not thresholds:
        raise UserError(f"{whose} has no calibrated threshold: {remedy}")
    strict = [one for one in thresholds if one.far <= far * (1 + 1e-9)]
    if not strict:
        least = min(one.far for one in thresholds)
        raise UserError(
            f"{whose} has thresholds down to FAR {least:.3g}, not to {far:.3g}: calibrate on more "
            f"pairs, or {remedy}"
        )
    return min(strict, key=lambda one: one.cosine)
