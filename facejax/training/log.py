"""What the training loop shows and writes: a bar, metrics as JSON lines, a final table."""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from facejax import data, evaluation, files
from facejax.errors import UserError


class Progress:
    """A bar with loss, accuracy, images/s and time left, and a line of metrics every few steps.

    Metrics are sums over rows; what is shown and written is their mean since the last line.

    Args:
      path: the file of the metrics, a JSON object in each line.
      steps: of the whole run.
      start: how many of them are done.
      learning_rates: [steps], of each step.
      source: what the records are numbered in, so that a bad batch can be named.
      every: steps between two lines.
      silent: neither bar nor lines: in all processes but one.
    """

    def __init__(
        self,
        path: pathlib.Path,
        *,
        steps: int,
        start: int,
        learning_rates: np.ndarray,
        source: data.Source,
        every: int = 10,
        silent: bool = False,
    ) -> None:
        self.path, self.every, self.learning_rates = path, every, learning_rates
        self.source = source
        self.bar = tqdm(
            disable=silent,
            total=steps,
            initial=start,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 15,
        )
        self._sums: dict[str, float] = {}
        self._since = time.perf_counter()

    def update(self, step: int, metrics: dict[str, Any], records: np.ndarray | None = None) -> None:
        """Takes in the metrics of a step.

        Args:
          step: counted from 1.
          metrics: those of `step.Step.run`.
          records: int64 [B], which records this process's rows of the batch are.

        Raises:
          UserError: if the loss or the gradient is not finite.
        """
        values = {name: float(np.asarray(value)) for name, value in metrics.items()}
        norm = values.pop("gradient_norm")
        if not np.isfinite(values["loss"] + norm):
            self.bar.close()
            loss = values["loss"] / max(values["rows"], 1)
            where = "" if records is None else f", on {record_names(self.source, records)}"
            raise UserError(
                f"at step {step} the loss is {loss:.4g} and the gradient's norm {norm:.4g}{where}: "
                "training stopped; lower config.optimizer.learning_rate or set "
                "config.optimizer.clip_norm"
            )
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self.bar.update(1)
        if step % self.every == 0 or step == self.bar.total:
            now = time.perf_counter()
            rows = max(self._sums.pop("rows"), 1.0)
            line = {name: total / rows for name, total in self._sums.items()}
            line["accuracy"] = line.pop("correct", float("nan"))
            line["images_per_second"] = rows / (now - self._since)
            line |= {"gradient_norm": norm, "learning_rate": float(self.learning_rates[step - 1])}
            self.write({"step": step, **line})
            self.bar.set_postfix_str(
                f"loss {line['loss']:.3f}, accuracy {line['accuracy']:.3f}, "
                f"{line['images_per_second']:.0f} images/s"
            )
            self._sums, self._since = {}, now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is not training, so that it does not count in images/s."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def write(self, record: dict[str, Any]) -> None:
        """Appends a line to the metrics."""
        if not self.bar.disable:
            files.append_line(self.path, json.dumps(record))

    def say(self, text: str) -> None:
        """A line above the bar."""
        if not self.bar.disable:
            self.bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        self.bar.close()


def record_names(source: data.Source, records: np.ndarray, *, count: int = 5) -> str:
    """The first few records of a batch, for a person: their numbers, and ids where they have any.

    Args:
      source: what the records are numbered in.
      records: int64 [B].
      count: how many are named.
    """
    ids = [(int(number), source[int(number)].get("id")) for number in records[:count]]
    named = [f"{number} ({name})" if name else str(number) for number, name in ids]
    more = f" and {len(records) - count} more" if len(records) > count else ""
    return f"the records {', '.join(named)}{more}"


def make_directory(directory: pathlib.Path) -> None:
    """Makes a folder, with those above it.

    Raises:
      UserError: if it can't be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"can't make the folder {directory} ({error.strerror}): give another"
        ) from error


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, [] if it is not there; a last line cut off is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def forget_after(path: pathlib.Path, step: int) -> None:
    """Drops the lines of later steps than the one that training resumes from; 0 keeps none."""
    kept = [record for record in read_lines(path) if 0 < step >= record.get("step", 0)]
    files.write(path, "".join(json.dumps(record) + "\n" for record in kept))


def due(step: int, every: int) -> bool:
    """Whether something done `every` so many steps (0: never) is due after this one."""
    return every > 0 and step % every == 0


def scores(step: int, result: evaluation.Verification) -> dict[str, Any]:
    """The numbers of a verification as a line of metrics."""
    accuracy = result.accuracy
    line: dict[str, Any] = {
        "step": step,
        "verification_accuracy": accuracy.accuracy,
        "verification_interval": [accuracy.low, accuracy.high],
        "auc": result.auc,
        "equal_error_rate": result.equal_error_rate.rate,
    }
    for tar in result.tars:
        line[f"tar_at_far_{evaluation.format_far(tar.far)}"] = tar.tar
    return line


def in_words(line: dict[str, Any]) -> str:
    """A line of `scores` as one sentence."""
    tars = [
        f"TAR at FAR {name.removeprefix('tar_at_far_')} "
        + ("unknown (too few negatives)" if value is None else f"{value:.3f}")
        for name, value in line.items()
        if name.startswith("tar_at_far_")
    ]
    return ", ".join([f"verification accuracy {line['verification_accuracy']:.4f}", *tars])


def final_table(lines: list[dict[str, Any]]) -> str:
    """The first evaluation beside the last, as a table."""
    evaluated = [line for line in lines if "verification_accuracy" in line]
    if not evaluated:
        return "nothing was verified: give --config.evaluation.pairs and --config.evaluation.images"
    tars = [name for name in evaluated[0] if name.startswith("tar_at_far_")]
    header = ["network", "accuracy", "95 %", "AUC", "EER"]
    header += [f"TAR@FAR {name.removeprefix('tar_at_far_')}" for name in tars]
    rows = []
    for line in dict.fromkeys((0, len(evaluated) - 1)):
        found = evaluated[line]
        low, high = found["verification_interval"]
        values = [found["verification_accuracy"], found["auc"], found["equal_error_rate"]]
        cells = [f"{value:.4f}" for value in values]
        name = f"trained, step {found['step']}" if found["step"] else "untrained"
        row = [name, cells[0], f"{low:.4f}-{high:.4f}", *cells[1:]]
        rows.append(row + ["-" if found[tar] is None else f"{found[tar]:.4f}" for tar in tars])
    return evaluation.format_table(header, rows)
