"""What the training loop shows and writes: a bar, metrics as JSON lines, a final table."""

import contextlib
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from facejax import checkpoints, data, evaluation, files
from facejax.errors import UserError
from facejax.evaluation import figures
from facejax.table import format_table
from facejax.training import evaluating, tensorboard


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
      scalars: what is given every line too.
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
        scalars: tensorboard.Scalars | None = None,
    ) -> None:
        self.path, self.every, self.learning_rates = path, every, learning_rates
        self.source, self.scalars = source, scalars
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

    def update(self, step: int, metrics: dict[str, Any], records: np.ndarray) -> None:
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
            where = record_names(self.source, records)
            raise UserError(
                f"at step {step} the loss is {loss:.4g} and the gradient's norm {norm:.4g}, on "
                f"{where}: training stopped; lower config.optimizer.learning_rate or set "
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
        """Appends a line to the metrics.

        Raises:
          UserError: if it can't be written.
        """
        if not self.bar.disable:
            with files.refusing(self.path, "make room there; what was saved before is whole"):
                files.append_line(self.path, json.dumps(record))
            if self.scalars is not None:
                with files.refusing("tensorboard", "make room there; what was saved is whole"):
                    self.scalars.write(record)

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


@contextlib.contextmanager
def told_when_interrupted(workdir: pathlib.Path) -> Iterator[None]:
    """Makes Ctrl-C say what is saved.

    Args:
      workdir: whose `checkpoints` are looked at then.

    Raises:
      KeyboardInterrupt: with a sentence, where the block raises one.
    """
    try:
        yield
    except KeyboardInterrupt:
        steps = checkpoints.saved_steps(workdir / "checkpoints")
        there = f"step {steps[-1]} is saved, and the same command goes on from it" if steps else ""
        raise KeyboardInterrupt(
            f"interrupted; in {workdir} {there or 'nothing is saved yet'}"
        ) from None


def make_directory(directory: pathlib.Path) -> None:
    """Makes a run's folder, with those above it, and tries all that the run will write into it.

    Args:
      directory: the workdir; `checkpoints/` in it is made too.

    Raises:
      UserError: if something can't be made or written.
    """
    path = directory
    try:
        optional = [directory / name for name in ("best", "report", "tensorboard")]
        for path in (directory, directory / "checkpoints", *optional):
            if path.exists() or path not in optional:  # not every run writes them
                files.try_folder(path)
        for path in (directory / "metrics.jsonl", directory / "config.json"):
            if path.exists():
                path.open("ab").close()
    except OSError as error:
        what = "write" if path.exists() else "make the folder"
        raise UserError(f"can't {what} {path} ({error.strerror}): give another") from error


def those_there(directory: pathlib.Path, names: Sequence[str]) -> list[str]:
    """Those of a folder's entries that are there, folders with a `/` and only if they hold any."""
    found = []
    for path in (directory / name for name in names):
        if path.is_dir() and any(path.iterdir()):
            found.append(f"{path.name}/")
        elif path.is_file():
            found.append(path.name)
    return found


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


def final_table(lines: list[dict[str, Any]]) -> str:
    """The first evaluation beside the last, as tables: of verification, and of each other one."""
    found: dict[str, dict[str, dict[str, Any]]] = {}  # by benchmark, by what is said of the step
    for line in lines:
        when = f"trained, step {line['step']}" if line["step"] else "untrained"
        for name, record in evaluating.by_benchmark(line).items():
            if name or evaluation.score_labels(record):
                found.setdefault(name, {})[when] = record
    verified: dict[str, dict[str, Any]] = {}
    others = []
    for name, records in found.items():
        ends = {when: records[when] for when in (next(iter(records)), list(records)[-1])}
        if all(map(evaluation.score_labels, ends.values())):
            before = f"{name}, " if name else ""
            verified |= {before + when: record for when, record in ends.items()}
        else:
            columns = {when: evaluating.headlines(record) for when, record in ends.items()}
            others.append(
                format_table(
                    [name, *columns],
                    [
                        [row, *(_rate(column.get(row)) for column in columns.values())]
                        for row in dict.fromkeys(itertools.chain(*columns.values()))
                    ],
                )
            )
    if not found:
        return (
            "nothing was verified: the config has no pairs; give evaluation.pairs and "
            "evaluation.images, or evaluation.benchmarks"
        )
    return "\n\n".join([*([evaluation.scores_table(verified)] if verified else []), *others])


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def plot_training(metrics: pathlib.Path, picture: pathlib.Path) -> None:
    """Draws the loss over steps and, beside it, the verification numbers.

    Args:
      metrics: a file of JSON objects, one per line, each with "step" and some of "loss" and the
        fields of `evaluation.scores`, or benchmarks' numbers; other fields are passed over, and so
        is a last line that is cut off.
      picture: the PNG to write.
    """
    figures.save(_training_figure(read_lines(metrics)), picture)


def _training_figure(records: list[dict[str, Any]]) -> Figure:
    def series(name: str) -> tuple[list[float], list[float]]:
        found = [record for record in records if record.get(name) is not None]
        return [record["step"] for record in found], [record[name] for record in found]

    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*series("loss"), color=figures.LINES[0])
    left.set(xlabel="step", ylabel="loss", title="training loss")
    labels: dict[str, str] = {}
    for record in records:
        for name, own in evaluating.by_benchmark(record).items():
            shown = evaluation.score_labels(own)
            if not name:
                labels |= shown
            else:  # of many, one line each
                first = next(iter(shown or evaluating.headlines(own)), None)
                if first:
                    labels[f"{name}/{first}"] = f"{name} {shown.get(first, first)}"
    for color, (name, label) in zip(figures.LINES, labels.items(), strict=False):
        steps, values = series(name)
        if steps:
            right.plot(steps, values, color=color, marker="o", markersize=3, label=label)
    right.set(xlabel="step", ylim=(0, 1.02), title="verification of unseen identities")
    if right.lines:
        right.legend(frameon=False, fontsize=9, loc="lower right")
    for axes in (left, right):
        axes.title.set_fontsize(10)
        figures.bare(axes)
    return figure
