"""Records of a run that could not be read: named in a file, counted, and too many at some point."""

import json
import pathlib

import numpy as np

from facejax import data, files
from facejax.errors import UserError
from facejax.training import log


def file_name(process: int) -> str:
    """In the workdir: each process names its own.

    Args:
      process: its number.
    """
    return f"bad_records-{process}.jsonl" if process else "bad_records.jsonl"


class BadRecords:
    """Names each of them once, as a line {"step", "record", "reason", "instead"} of a file.

    Args:
      path: of the file; it has what was found up to the step that the run goes on from.
      source: what the records are numbered in.
      most: the share of the records that may be bad.
      start: the step that the run goes on from.
    """

    def __init__(self, path: pathlib.Path, source: data.Source, *, most: float, start: int) -> None:
        self.path, self.source, self.most = path, source, most
        if path.exists():
            log.forget_after(path, start)
        self.known = {line["record"] for line in log.read_lines(path)}

    def update(self, step: int, records: np.ndarray, replaced: np.ndarray) -> None:
        """Takes in a batch.

        Args:
          step: that it is trained on, from 1.
          records: int64 [B], what this process's rows were read from.
          replaced: int64 [B], the records that could not be read, -1 in all other rows.

        Raises:
          UserError: there are too many, or the file can't be written.
        """
        for row in np.flatnonzero(replaced >= 0):
            number = int(replaced[row])
            if number in self.known:
                continue
            self.known.add(number)
            reason = data.fault(self.source, number) or "it could be read at another time"
            line = {"record": number, "reason": reason, "instead": int(records[row])}
            with files.refusing(self.path, "make room there; what was saved before is whole"):
                files.append_line(self.path, json.dumps({"step": step, **line}))
            if len(self.known) > self.most * len(self.source):
                raise UserError(
                    f"{reason.rstrip('.')}; {len(self.known)} of {len(self.source)} records can't "
                    f"be read ({self.path} names them), and config.data.bad_records={self.most:g} "
                    "allows no more: mend them, leave them out, or allow a larger share"
                )
