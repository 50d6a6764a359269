"""Results as tables of text: those of the page, with all benchmarks in one table of each kind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facejax.evaluation import results_tables
from facejax.evaluation.benchmarks import numbers
from facejax.evaluation.identification import Identification
from facejax.evaluation.ijb import TemplateResults
from facejax.evaluation.report import scores_table
from facejax.evaluation.results_page import Shown
from facejax.evaluation.results_tables import Cells
from facejax.evaluation.target_far import angle, squared_distance
from facejax.evaluation.verification import Verification, format_far
from facejax.recognition.thresholds import Threshold
from facejax.table import format_table


def tables(shown: Sequence[Shown]) -> Iterator[str]:
    """All tables of several benchmarks.

    Args:
      shown: the benchmarks, one or more, with the same models.

    Yields:
      One of pairs, of InsightFace's numbers, of differences, reject curves, groups and their
      spreads, and one of templates and galleries each, as far as there is something for them.
    """
    models = len(shown[0].results)

    def rows(field: str) -> dict[str, Any]:
        found = {}
        for one in shown:
            values = getattr(one, field)
            for name, value in values.items():
                both = f"{one.name}, {name}" if max(models, len(values)) > 1 else one.name
                found[both if len(shown) > 1 else name] = value
        return found

    results = rows("results")
    pairs = {name: one for name, one in results.items() if isinstance(one, Verification)}
    if pairs:
        yield scores_table({name: numbers(one) for name, one in pairs.items()})
    for field, title, make in (
        ("compat", "As InsightFace computes it", results_tables.insightface),
        ("comparisons", "Differences on the same people", results_tables.comparisons),
        ("rejects", "FNMR when the worst images are rejected", results_tables.rejects),
        ("fairness", "Groups", results_tables.groups),
        ("fairness", "Spread over the groups", results_tables.spreads),
    ):
        if found := rows(field):
            yield f"{title}:\n{_text(make(found))}"
    for kind in (TemplateResults, Identification):
        records = {name: numbers(one) for name, one in results.items() if isinstance(one, kind)}
        if records:
            names = [("", name) for name in records]
            yield _text(_upright(results_tables.searches(names, [*records.values()])))


def thresholds_table(thresholds: Mapping[str, Sequence[Threshold]]) -> str:
    """Thresholds in the three forms in use, with what is behind them.

    Args:
      thresholds: by the name that is shown, one or more.
    """
    rows = [
        [
            name,
            format_far(one.far),
            f"{one.cosine:.4f}",
            "-" if one.upper_bound is None else f"{one.upper_bound:.2e}",
            f"{squared_distance(one.cosine):.4f}",
            f"{angle(one.cosine):.2f}",
            str(one.negatives),
        ]
        for name, several in thresholds.items()
        for one in several
    ]
    header = ["threshold", "FAR", "cosine", "FAR at most (95 %)", "squared L2", "angle, degrees"]
    return format_table([*header, "different pairs"], rows)


def _upright(cells: Cells) -> Cells:
    """A row for each rate and a column for each model: of templates there are more rates."""
    stacked = results_tables.stacked(cells)
    _, models, *rates = zip(stacked.header, *stacked.rows, strict=True)  # first, the sets
    lines = [[text.replace("\n", " ") for text in rate] for rate in rates]
    return Cells(["", *models[1:]], lines, cells.notes)


def _text(cells: Cells) -> str:
    return "\n".join([format_table(cells.header, cells.rows), *cells.notes])
