"""What a person sees of an evaluation: a table, a JSON file and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from facejax.evaluation.verification import Verification, format_far, roc

SAME, DIFFERENT, GRID = "#1f6f8b", "#d1603d", "#dddddd"
LINES = ("#1f6f8b", "#d1603d", "#6b8e23", "#7b5ea7", "#8c6d46", "#555555")


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A text table: the first column to the left, the others to the right.

    Args:
      header: the column names.
      rows: as many strings each.

    Returns:
      Lines without trailing spaces, joined by newlines, a rule under the header.
    """
    table = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def verification_table(results: Mapping[str, Verification]) -> str:
    """The table of several results on the same pairs, a row each, with 95 % intervals.

    A refused TAR is a dash, and its reason is a line under the table.

    Args:
      results: by the name that is shown, all of the same FARs.
    """
    tars = next(iter(results.values())).tars
    header = ["", "accuracy", "95 %", "AUC", "EER"]
    for tar in tars:
        header += [f"TAR@FAR {format_far(tar.far)}", "95 %"]
    rows, notes = [], {}
    for name, result in results.items():
        accuracy = result.accuracy
        row = [name, f"{accuracy.accuracy:.4f}", f"{accuracy.low:.4f}-{accuracy.high:.4f}"]
        row += [f"{result.auc:.4f}", f"{result.equal_error_rate.rate:.4f}"]
        for tar in result.tars:
            if tar.tar is None:
                row += ["-", "-"]
                notes[tar.note] = True
            else:
                row += [f"{tar.tar:.4f}", f"{tar.low:.4f}-{tar.high:.4f}"]
        rows.append(row)
    return "\n".join([format_table(header, rows), *notes])


def to_json(value: Any) -> Any:
    """NumPy numbers, arrays and NamedTuples as what JSON has; a number not finite as None."""
    if hasattr(value, "_asdict"):
        return {name: to_json(field) for name, field in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): to_json(field) for name, field in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json(field) for field in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_report(directory: str | Path, results: Mapping[str, Verification]) -> list[Path]:
    """Writes `verification.json`, `roc.png` and `scores.png`; old ones are replaced.

    Args:
      directory: made where it is missing.
      results: by the name that is shown in the pictures, one or more, on the same pairs.

    Returns:
      The three files.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / name for name in ("verification.json", "roc.png", "scores.png")]
    files[0].write_text(_json_text(results))
    _save(_roc_figure(results), files[1])
    _save(_score_figure(results), files[2])
    return files


def _json_text(results: Mapping[str, Verification]) -> str:
    """One line a field: an indented dump would give each of the scores a line."""
    parts = []
    for name, result in to_json(results).items():
        fields = (f"  {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in result.items())
        parts.append(f" {json.dumps(name)}: {{\n" + ",\n".join(fields) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _roc_figure(results: Mapping[str, Verification]) -> Figure:
    """TAR over log FAR, from one false accept up; bars are the TAR's 95 % intervals."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    fewest = 1.0
    for i, (name, result) in enumerate(results.items()):
        colour = LINES[i % len(LINES)]
        curve = roc(result.scores, result.same)
        smallest = 1 / int((~result.same).sum())
        fewest = min(fewest, smallest)
        # The staircase holds its TAR until the next false accept, so start it at one accept.
        far = np.maximum(curve.false_accept_rates, smallest)
        label = f"{name}: AUC {result.auc:.3f}, EER {result.equal_error_rate.rate:.3f}"
        axes.plot(far, curve.true_accept_rates, color=colour, drawstyle="steps-post", label=label)
        for tar in result.tars:
            if tar.tar is None or tar.low is None or tar.high is None:
                continue
            axes.vlines(tar.far, tar.low, tar.high, color=colour, linewidth=4, alpha=0.35)
            axes.plot(tar.far, tar.tar, color=colour, marker="o", markersize=4)
    far = np.geomspace(fewest, 1, 200)
    axes.plot(far, far, color="#999999", linewidth=0.8, linestyle=":", label="chance")
    axes.set(xscale="log", xlim=(fewest, 1), ylim=(0, 1.02))
    axes.set(xlabel="false accept rate", ylabel="true accept rate")
    _bare(axes)
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure


def _score_figure(results: Mapping[str, Verification]) -> Figure:
    """Histograms of the cosines of same and different pairs, one panel a result."""
    figure = Figure(figsize=(6.4, 0.6 + 2.6 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), 1, squeeze=False)[:, 0]
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        scores, same = result.scores, result.same
        bins = np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-6), 51)
        for kind, chosen, colour in (("different", ~same, DIFFERENT), ("same", same, SAME)):
            weights = np.full(int(chosen.sum()), 100 / chosen.sum())
            axes.hist(scores[chosen], bins, weights=weights, color=colour, alpha=0.6, label=kind)
        threshold = float(np.median(result.accuracy.thresholds))
        axes.axvline(threshold, color="#333333", linewidth=1, label=f"threshold {threshold:.3f}")
        axes.set_title(f"{name}: accuracy {result.accuracy.accuracy:.3f}", loc="left", fontsize=10)
        axes.set_ylabel("% of pairs of the kind")
        _bare(axes)
        axes.legend(frameon=False, fontsize=9)
    panels[-1].set_xlabel("cosine similarity")
    return figure


def plot_training(metrics: str | Path, picture: str | Path) -> None:
    """Draws the loss over steps and, beside it, the verification numbers.

    Args:
      metrics: a file of one JSON object a line, each with "step" and some of "loss",
        "verification_accuracy" and "tar_at_far_..."; other fields are passed over.
      picture: the PNG to write.

    Raises:
      ValueError: a line is not such an object.
    """
    records = [json.loads(line) for line in Path(metrics).read_text().splitlines() if line]
    _save(_training_figure(records), Path(picture))


def _training_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    def series(name: str) -> tuple[list[float], list[float]]:
        found = [record for record in records if record.get(name) is not None]
        return [record["step"] for record in found], [record[name] for record in found]

    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*series("loss"), color=SAME)
    left.set(xlabel="step", ylabel="loss", title="training loss")
    rates = sorted({name for record in records for name in record if name.startswith("tar_at_far")})
    names = {"verification_accuracy": "accuracy"}
    names |= {name: f"TAR at FAR {name.removeprefix('tar_at_far_')}" for name in rates}
    for colour, (name, label) in zip(LINES, names.items(), strict=False):
        steps, values = series(name)
        if steps:
            right.plot(steps, values, color=colour, marker="o", markersize=3, label=label)
    right.set(xlabel="step", ylim=(0, 1.02), title="verification of unseen identities")
    if right.lines:
        right.legend(frameon=False, fontsize=9, loc="lower right")
    for axes in (left, right):
        axes.title.set_fontsize(10)
        _bare(axes)
    return figure
