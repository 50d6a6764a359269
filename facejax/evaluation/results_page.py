"""The report of an evaluation: one page that needs nothing else, its numbers, its pictures alone.

Pieces are made one by one and written at once, so that no more than one picture is held.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from facejax import files, page
from facejax.evaluation import figures, report, results_figures, results_sections
from facejax.evaluation.benchmarks import Result, numbers
from facejax.evaluation.results_sections import Show, Shown
from facejax.evaluation.verification import Verification
from facejax.page import Html


def write_page(directory: str | Path, shown: Sequence[Shown], *, title: str) -> list[Path]:
    """Writes `evaluation.json`, the pictures alone and `index.html`, in place of old ones.

    Args:
      directory: made where it is missing; `~` is the home.
      shown: one benchmark or more.
      title: of the page.

    Returns:
      The files: the numbers, then the pictures, called by benchmark and what they show, then the
      page. The JSON has every number but those of each pair or image. The page needs no other
      file, and is there whole or not at all.

    Raises:
      OSError: a file can't be written.
      ValueError: two benchmarks have one name, or one has no results or those of several kinds.
    """
    names = [one.name for one in shown]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"one benchmark or more is wanted, each of another name, not {names}")
    for one in shown:
        kinds = {type(result) for result in one.results.values()}
        if len(kinds) != 1:
            raise ValueError(f"{one.name} has results of {len(kinds)} kinds, and must have one")
    directory = files.expand(directory)
    written = [directory / "evaluation.json"]
    records = {one.name: _record(one) for one in shown}
    files.write(written[0], json.dumps(records, indent=1, allow_nan=False) + "\n")
    index = directory / "index.html"
    page.write(index, title, _pieces(shown, directory, written))
    return [*written, index]


def write_report(
    directory: str | Path, results: Mapping[str, Verification], *, title: str = "Verification"
) -> list[Path]:
    """Writes `verification.json`, `roc.png`, `scores.png` and `index.html`, in place of old ones.

    This is the short form of `write_page`, for one list of pairs.

    Args:
      directory: made where it is missing; `~` is the home.
      results: by the name that is shown, one or more, on the same pairs.
      title: of the page, which should say whose faces they are.

    Returns:
      The four files. The JSON has all numbers but the pairs' scores; the page shows the table and
      the pictures, and needs no other file.
    """
    directory = files.expand(directory)
    written = [directory / "verification.json"]
    summary = {name: _details(result) for name, result in results.items()}
    files.write(written[0], json.dumps(summary, indent=1, allow_nan=False) + "\n")
    index = directory / "index.html"
    page.write(index, title, results_sections.brief(results, _shower(directory, "", written)))
    return [*written, index]


def _pieces(shown: Sequence[Shown], directory: Path, written: list[Path]) -> Iterator[Html]:
    """The page, and on the way the pictures alone, which are added to what was written."""
    anchors = [f"set-{number}" for number in range(1, len(shown) + 1)]
    links = (
        page.link(anchor, page.plain(one.name)) for anchor, one in zip(anchors, shown, strict=True)
    )
    yield page.line(page.joined(links, between=" · "))
    yield from results_sections.overview(shown)
    by_model: dict[str, dict[str, np.ndarray]] = {}
    for one in shown:
        for model, qualities in one.qualities.items():
            by_model.setdefault(model, {})[one.name] = qualities
    several = {model: sets for model, sets in by_model.items() if len(sets) > 1}
    if several:
        yield page.heading("Quality by set", level=3)
        show = _shower(directory, "", written)
        yield show(
            "qualities",
            results_figures.quality_figure(several),
            "Qualities of the images of each set, such as the norms of embeddings.",
        )
    taken = {"index", ""}
    for anchor, one in zip(anchors, shown, strict=True):
        yield page.heading(one.name, anchor=anchor)
        show = _shower(directory, f"{_file_name(one.name, taken)}-", written)
        yield from results_sections.section(one, show)


def _shower(directory: Path, start: str, written: list[Path]) -> Show:
    """What saves a figure by itself, and gives it as a piece of the page."""

    def show(name: str, figure: Figure, caption: str) -> Html:
        path = directory / f"{start}{name}.png"
        figures.save(figure, path)
        written.append(path)
        return page.picture(path.read_bytes(), caption)

    return show


def _file_name(name: str, taken: set[str]) -> str:
    """What a benchmark's files are called, of letters that every system has; another each time."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name)[:40].strip("-") or "set"
    found, number = plain, 1
    while found.lower() in taken:
        number += 1
        found = f"{plain}-{number}"
    taken.add(found.lower())
    return found


def _record(one: Shown) -> dict[str, Any]:
    """All numbers of a benchmark but those with a value per pair or image."""
    extra = {
        "rejects": {
            name: {**curve._asdict(), "area": curve.area(), "area_to_0.2": curve.area(upto=0.2)}
            for name, curve in one.rejects.items()
        },
        "fairness": one.fairness,
        "comparisons": one.comparisons,
        "compat": one.compat,
        "qualities": {
            name: {
                "mean": np.mean(each),
                "deviation": np.std(each),
                "quartiles": np.quantile(each, [0, 0.25, 0.5, 0.75, 1]),
            }
            for name, each in one.qualities.items()
        },
    }
    return {
        "scores": {name: numbers(result) for name, result in one.results.items()},
        "details": {name: _details(result) for name, result in one.results.items()},
        **report.to_json({name: each for name, each in extra.items() if each}),
    }


def _details(result: Result) -> dict[str, Any]:
    """All fields of a result but those with a value per pair, and how many pairs there were."""
    fields = result._asdict()
    for each in ("scores", "same", "identities"):
        fields.pop(each, None)
    if isinstance(result, Verification):
        fields = {"pairs": result.same.size, "same_pairs": result.same.sum(), **fields}
    return report.to_json(fields)
