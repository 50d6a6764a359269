"""The numbers of a run as scalars for TensorBoard, in files of their own."""

import os
import pathlib
import platform
import time
from typing import Any

from facejax.checkpoints import is_number
from facejax.errors import UserError


def check_installed() -> None:
    """Refuses to go on without the package that writes what TensorBoard reads.

    Raises:
      UserError: it is missing.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise UserError(
            "config.tensorboard takes the package tensorboardX: pip install "
            '"facejax[tensorboard]", or leave it out'
        ) from None


class Scalars:
    """Writes every number of a row as a scalar of that step, at once.

    Args:
      directory: made where it is missing; each run that goes on adds a file.
      start: the step that the run goes on from: TensorBoard drops what it has read of later ones,
        and at 0 all of it.

    Raises:
      OSError: it can't be written.
    """

    def __init__(self, directory: pathlib.Path, *, start: int) -> None:
        from tensorboardX import RecordWriter
        from tensorboardX.proto import event_pb2

        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads them in the order of their names.
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{platform.node()}.{os.getpid()}"
        self._file = RecordWriter(str(directory / name))
        self._event: Any = event_pb2.Event
        self._add(file_version="brain.Event:2")
        purged = start + 1 if start else 0  # step 0 is that of the untrained network
        self._add(step=purged, session_log={"status": "START"})

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row.

        Args:
          row: {"step": a step, ...}; what is no finite number is passed over.

        Raises:
          OSError: it can't be written.
        """
        numbers = {name: value for name, value in row.items() if name != "step"}
        values = [
            {"tag": name, "simple_value": value}
            for name, value in numbers.items()
            if is_number(value)
        ]
        self._add(step=row["step"], summary={"value": values})

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _add(self, **fields: Any) -> None:
        event = self._event(wall_time=time.time(), **fields)
        self._file.write(event.SerializeToString())
        self._file.flush()
