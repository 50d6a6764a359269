"""A row of the report, as it travels from the process that measured it."""

import json
from typing import NamedTuple

_MARK = "@row "  # libraries may print to the same stream


class Row(NamedTuple):
    """One thing that was measured.

    Attributes:
      what: it is.
      figures: by name, which ends with the unit.
      passed: whether a bound is met; None where there is none.
      note: one line: the bound, or what went wrong.
    """

    what: str
    figures: dict[str, float]
    passed: bool | None = None
    note: str = ""

    def line(self) -> str:
        """For the parent process."""
        return _MARK + json.dumps(self._asdict())

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: ""}[self.passed]
        figures = ", ".join(f"{name} {_short(value)}" for name, value in self.figures.items())
        said = "; ".join(part for part in (figures, self.note) if part)
        return f"{self.what:<50} {verdict:<5} {said}".rstrip()


def of_line(line: str) -> Row | None:
    """What `Row.line` wrote; None for any other line."""
    return Row(**json.loads(line.removeprefix(_MARK))) if line.startswith(_MARK) else None


def in_one_line(error: BaseException) -> str:
    """Its type and the first line of what it says, at most 200 characters."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else ''}"[:200]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether JAX says so."""
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def _short(value: float) -> str:
    """Four digits, and no exponent for what is large."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
