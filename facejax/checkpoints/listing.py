"""What checkpoints there are, and which of them are whole."""

import datetime
import pathlib
from typing import NamedTuple

from facejax.checkpoints.orbax import Facts, open_existing, read_facts, saved_shapes
from facejax.errors import UserError


class Summary(NamedTuple):
    """A checkpoint, as far as can be said without reading its arrays.

    Attributes:
      step: its number.
      saved: when it was written, in the local time zone.
      size: on disk, in bytes.
      facts: those beside its arrays; empty if they can't be read.
      whole: whether the facts can be read and every array is there.
    """

    step: int
    saved: datetime.datetime
    size: int
    facts: Facts
    whole: bool


def summaries(directory: str | pathlib.Path) -> list[Summary]:
    """The checkpoints of a run, the oldest first.

    Args:
      directory: where they are, or the workdir of train.py that has them in `checkpoints/`.

    Raises:
      UserError: if there is none.
    """
    manager = open_existing(directory)
    found = []
    for step in sorted(manager.all_steps()):
        folder = pathlib.Path(manager.directory) / str(step)
        facts, whole = {}, True
        try:
            facts = read_facts(manager, step)
            saved_shapes(manager, step)
        except UserError:
            whole = False
        found.append(
            Summary(
                step=step,
                saved=datetime.datetime.fromtimestamp(folder.stat().st_mtime).astimezone(),
                size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
                facts=facts,
                whole=whole,
            )
        )
    manager.close()
    return found
