"""From the labels that a file has, which are numbers or names, to 0, 1, ..."""

import array
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from facejax.errors import UserError


class Numbering:
    """Gives each label that comes up a number; memory grows by 4 bytes a record."""

    def __init__(self) -> None:
        self._numbers: dict[int | str, int] = {}
        self._labels = array.array("i")

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, label: int | str) -> None:
        """The label of the next record.

        Args:
          label: a number or a name; the text of a whole number is that number.
        """
        if isinstance(label, str) and label.isascii() and label.isdecimal() and len(label) < 19:
            label = int(label)
        self._labels.append(self._numbers.setdefault(label, len(self._numbers)))

    def finish(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The labels and their names.

        Numbers come before names, each in order, so that the result does not depend on the order
        of the records; where labels are missing, those behind them move up.

        Returns:
          (int32 [N], in the order in which they were added; K names of the labels 0 to K - 1).
        """
        found = list(self._numbers)
        order = sorted(
            range(len(found)), key=lambda number: (isinstance(found[number], str), found[number])
        )
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        labels = np.frombuffer(self._labels, np.int32) if self._labels else np.zeros(0, np.int32)
        return place[labels], tuple(str(found[number]) for number in order)


def number_labels(labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `Numbering`, of whole numbers in an array.

    Args:
      labels: integers [N].

    Returns:
      (int32 [N]; K names of the labels 0 to K - 1).
    """
    found, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int32), tuple(map(str, found.tolist()))


def read_names(path: pathlib.Path, names: Sequence[str]) -> tuple[str, ...]:
    """What a file of names calls labels that are numbers.

    Args:
      path: of a JSON list with the name of each number from 0; it need not be there.
      names: the labels as decimal numbers.

    Returns:
      As many names; `names` themselves where there is no file.

    Raises:
      UserError: it cannot be read, or does not name each of them otherwise.
    """
    try:
        known = json.loads(path.read_bytes())
    except FileNotFoundError:
        return tuple(names)
    except (OSError, ValueError, RecursionError):
        known = None
    wanted = [int(name) for name in names]
    if (
        not isinstance(known, list)
        or not all(isinstance(name, str) for name in known)
        or any(number >= len(known) for number in wanted)
        or len({known[number] for number in wanted}) < len(wanted)
    ):
        raise UserError(
            f"{path} is not a list with another name for each label: mend it, or remove it to have "
            "the labels as names."
        )
    return tuple(known[number] for number in wanted)
