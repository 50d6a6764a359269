"""The checkpoint of the step that was best by one number, in a directory of its own."""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from facejax.checkpoints.orbax import (
    DamagedCheckpointError,
    Facts,
    close,
    open_directory,
    read_facts,
    save,
)


class BestCheckpoint:
    """Keeps the best step's state. Another one takes its place when that is whole on the disk.

    Of a process killed in between, the old one is left, or the new one, or both. All processes must
    call the functions here.

    Args:
      directory: where it is kept, in the form of a run's checkpoints.
      number: the name of the number that it is best by, "-" before it if less is better.
      measured_on: what stands for the questions that the number was measured on.
      earlier: whether one that is there counts: by what its facts say, if it is of this number and
        was measured on the same. One that does not count stays until there is a step to keep.

    Raises:
      UserError: the directory can't be read.
    """

    def __init__(
        self, directory: pathlib.Path, number: str, *, measured_on: str, earlier: bool
    ) -> None:
        self.number, self.measured_on = number, measured_on
        self.step: int | None = None
        self.value: float | None = None
        self._saved = open_directory(directory, keep=0)
        steps = sorted(self._saved.all_steps()) if earlier else []
        values = {step: self._value_of(step) for step in steps}
        known = {step: value for step, value in values.items() if value is not None}
        if known:
            self.step = max(known, key=lambda step: self._worth(known[step]))
            self.value = known[self.step]
            self._keep_only(self.step)

    def update(
        self, step: int, numbers: Mapping[str, Any], state: Callable[[], Any], facts: Facts
    ) -> bool:
        """Saves a step that is better than all before.

        Args:
          step: its number.
          numbers: what was measured of it, by name.
          state: makes the pytree of arrays to save.
          facts: to be found beside them, together with "best": {"number", "value", "measured_on"}.

        Returns:
          Whether it is the best now.

        Raises:
          UserError: it can't be written.
        """
        value: Any = numbers.get(self.number.removeprefix("-"))
        better = (
            is_number(value)
            and step != self.step  # a run that went back comes to its best a second time
            and (self.value is None or self._worth(value) > self._worth(self.value))
        )
        if jax.process_count() > 1:  # one decides, as last bits may differ between machines
            better = bool(multihost_utils.broadcast_one_to_all(np.array(better)))
        if not better:
            return False
        if step in self._saved.all_steps():  # one that does not count
            self._saved.delete(step)
        about = {"number": self.number, "value": value, "measured_on": self.measured_on}
        save(self._saved, step, state(), {**facts, "best": about}, wait=True)
        self._keep_only(step)
        self.step, self.value = step, value
        return True

    def close(self) -> None:
        """Ends what writes it."""
        close(self._saved)

    def _value_of(self, step: int) -> float | None:
        """What the facts of a step say; None if it does not count."""
        try:
            about = read_facts(self._saved, step).get("best", {})
        except DamagedCheckpointError:
            return None
        same = (about.get("number"), about.get("measured_on")) == (self.number, self.measured_on)
        return about["value"] if same else None

    def _worth(self, value: float) -> float:
        return -value if self.number.startswith("-") else value

    def _keep_only(self, step: int) -> None:
        for other in sorted(self._saved.all_steps()):
            if other != step:
                self._saved.delete(other)


def check_best(number: str, known: Mapping[str, Any]) -> None:
    """Refuses a number by which no checkpoint can be the best.

    Args:
      number: as of `BestCheckpoint`.
      known: the numbers that there will be, by name; one that can't be measured is None.

    Raises:
      ValueError: it is none of them.
    """
    name = number.removeprefix("-")
    if is_number(known.get(name)):
        return
    names = ", ".join(each for each, value in known.items() if is_number(value))
    what = (
        f"{name} can't be measured on so few pairs or probes"
        if name in known
        else (f"there is no number {name}")
    )
    raise ValueError(f"{what}; choose one of {names}")


def is_number(value: Any) -> bool:
    """Whether numbers can be compared with it: no text, no list, no NaN.

    Args:
      value: of a record of numbers.
    """
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
