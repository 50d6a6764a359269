"""Results as the cells of tables: (header, rows, notes), with "~" before an interval in doubt."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from facejax.evaluation import report
from facejax.evaluation.comparison import Comparison, Difference
from facejax.evaluation.fairness import Fairness, Rate
from facejax.evaluation.identification import Identification
from facejax.evaluation.insightface_compat import InsightFaceVerification
from facejax.evaluation.quality import RejectCurve
from facejax.evaluation.verification import SOUND, Verification, format_far


class Cells(NamedTuple):
    """A table."""

    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def verification(names: Sequence[tuple[str, str]], records: Sequence[report.Scores]) -> Cells:
    """Accuracy, AUC, EER and TARs.

    Args:
      names: of the set and of the model, for each
      records: of `report.scores`.
    """
    header, rows, notes = report.cells({str(i): record for i, record in enumerate(records)})
    named = [[*name, *row[1:]] for name, row in zip(names, rows, strict=True)]
    return Cells(["set", "model", *header[1:]], named, notes)


def searches(names: Sequence[tuple[str, str]], records: Sequence[Mapping[str, Any]]) -> Cells:
    """AUC, TARs, ranks, mAP and TPIRs of templates and galleries, as far as there are any.

    Args:
      names: of the set and of the model, for each
      records: of `template_scores` or `gallery_scores`.
    """
    kinds = {
        "auc": "AUC",
        "tar_at_far_": "TAR@FAR ",
        "rank_": "rank ",
        "mean_average_precision": "mAP",
        "tpir_at_fpir_": "TPIR@FPIR ",
    }
    columns: dict[str, str] = {}  # what people call it, by its field
    for start, called in kinds.items():
        for record in records:
            for field in record:
                if field.startswith(start) and "interval" not in field:
                    columns.setdefault(field, called + field.removeprefix(start))
    header = ["set", "model"]
    for field, called in columns.items():
        header += [called] if field == "auc" else [called, "95 %"]
    rows = []
    notes: dict[str, None] = {}
    for name, record in zip(names, records, strict=True):
        row = [*name]
        for field in columns:
            value = record.get(field)
            row.append(report.rate(value))
            if field == "auc":
                continue
            kind, rest = field.split("_", 1)  # as in "tar" and "at_far_1e-3", "rank" and "5"
            note = record.get(f"{kind}_note_{rest}")
            bounds = record.get(f"{kind}_interval_{rest}", record.get(f"{field}_interval"))
            row.append(_doubted(bounds, bool(note)))
            if note:
                notes[note] = None
        rows.append(row)
    return Cells(header, rows, list(notes))


def stacked(cells: Cells) -> Cells:
    """The same with each interval under its rate, in one cell of two lines.

    Args:
      cells: a table with columns "95 %", each behind that of its rates.
    """
    ends = [number for number, name in enumerate(cells.header) if name == "95 %"]

    def row_of(row: list[str]) -> list[str]:
        return [
            f"{cell}\n{row[number + 1]}" if number + 1 in ends and row[number + 1] != "-" else cell
            for number, cell in enumerate(row)
            if number not in ends
        ]

    header = [name for number, name in enumerate(cells.header) if number not in ends]
    return Cells(header, [row_of(row) for row in cells.rows], cells.notes)


def folds(results: Mapping[str, Verification]) -> Cells:
    """The accuracy and the threshold of each fold, then their mean and its standard error.

    Args:
      results: by the model's name, of the same folds.
    """
    header = ["fold"]
    for name in results:
        header += [name, "threshold"]
    accuracies = [result.accuracy for result in results.values()]
    rows = [
        [str(number + 1)]
        + [
            cell
            for one in accuracies
            for cell in (report.rate(one.fold_accuracies[number]), f"{one.thresholds[number]:.4f}")
        ]
        for number in range(len(accuracies[0].thresholds))
    ]
    mean = ["mean ± standard error"]
    for one in accuracies:
        mean += [f"{one.fold_accuracies.mean():.4f} ± {one.standard_error:.4f}", ""]
    return Cells(header, [*rows, mean], [])


def identification(results: Mapping[str, Identification]) -> Cells:
    """TPIRs at their thresholds.

    Args:
      results: by what is shown.
    """
    rows = []
    notes: dict[str, None] = {}
    for name, result in results.items():
        for tpir in result.tpirs:
            bounds = None if tpir.low is None or tpir.high is None else (tpir.low, tpir.high)
            rows.append(
                [
                    name,
                    format_far(tpir.fpir),
                    report.rate(tpir.tpir),
                    _doubted(bounds, bool(tpir.note)),
                    "-" if tpir.threshold is None else f"{tpir.threshold:.4f}",
                    report.rate(tpir.achieved_fpir),
                ]
            )
            if tpir.note:
                notes[tpir.note] = None
    return Cells(["", "FPIR", "TPIR", "95 %", "threshold", "FPIR there"], rows, list(notes))


def comparisons(found: Mapping[str, Comparison]) -> Cells:
    """Paired differences with their p-values.

    Args:
      found: by "first - second".
    """
    rows = []
    notes: dict[str, None] = {}
    for name, comparison in found.items():
        named = {"accuracy": comparison.accuracy, "AUC": comparison.auc}
        doubted = {note.split(" rests on")[0] for note in comparison.notes if " rests on" in note}
        named |= {f"TAR at FAR {format_far(far)}": one for far, one in comparison.tars.items()}
        for what, one in named.items():
            rows.append([name, what, *_difference(one, what in doubted)])
        notes |= dict.fromkeys(comparison.notes)
    return Cells(["models", "", "difference", "95 %", "p"], rows, list(notes))


def insightface(found: Mapping[str, InsightFaceVerification]) -> Cells:
    """InsightFace's numbers, plus and minus their deviations over the folds.

    Args:
      found: by the model's name.
    """
    rows = [
        [
            name,
            f"{one.accuracy:.5f} ± {one.deviation:.5f}",
            "-" if np.isnan(one.tar) else f"{one.tar:.5f} ± {one.tar_deviation:.5f}",
            "-" if np.isnan(one.achieved_far) else f"{one.achieved_far:.5f}",
        ]
        for name, one in found.items()
    ]
    return Cells(["", "Accuracy-Flip", "val", "FAR"], rows, [])


def rejects(curves: Mapping[str, RejectCurve]) -> Cells:
    """Areas under the error-versus-reject curves, and of chance.

    Args:
      curves: by the model's name.
    """
    rows = []
    for name, curve in curves.items():
        row = [name, f"{curve.threshold:.4f}"]
        for upto in (0.2, 1.0):
            row += [f"{curve.area(upto=upto):.5f}", f"{curve.area_by_chance(upto=upto):.5f}"]
        rows.append(row)
    header = ["", "threshold", "area to 20 %", "by chance", "whole area", "by chance"]
    return Cells(header, rows, [])


def groups(found: Mapping[str, Fairness]) -> Cells:
    """Error rates of groups of people at one threshold, and the groups' own thresholds.

    Args:
      found: by the model's name.
    """
    rows = []
    notes: dict[str, None] = {}
    for name, one in found.items():
        for group in one.groups:
            matches = group.false_matches
            row = [name, group.name, f"{one.threshold:.4f}"]
            row += _error(matches, matches is not None and matches.errors < SOUND)
            row += _error(group.false_non_matches, False)
            own = group.own_threshold
            row.append("-" if own is None else f"{own.threshold:.4f}")
            row.append("-" if own is None else f"{own.low:.4f}-{own.high:.4f}")
            rows.append(row)
            notes |= dict.fromkeys(group.notes)
    header = ["model", "group", "threshold", "FMR", "95 %", "errors", "FNMR", "95 %", "errors"]
    return Cells([*header, "own threshold", "95 %"], rows, list(notes))


def spreads(found: Mapping[str, Fairness]) -> Cells:
    """How unequal the groups' rates are.

    Args:
      found: by the model's name.
    """
    rows = []
    for name, one in found.items():
        for rate, how in (
            ("FMR", one.false_match_spread),
            ("FNMR", one.false_non_match_spread),
        ):
            if how is not None:
                ratio = how.maximum_over_minimum
                rows.append(
                    [
                        name,
                        rate,
                        "-" if ratio is None else f"{ratio:.2f}",
                        f"{how.standard_deviation:.4f}",
                        "-" if how.gini is None else f"{how.gini:.3f}",
                    ]
                )
    return Cells(
        ["model", "rate", "largest / smallest", "standard deviation", "Gini (GARBE)"], rows, []
    )


def _doubted(bounds: Sequence[float] | None, doubted: bool) -> str:
    return ("~" if doubted and bounds is not None else "") + report.interval(bounds)


def _difference(one: Difference, doubted: bool) -> list[str]:
    bounds = f"{one.low:+.4f} to {one.high:+.4f}"
    p_value = "<0.0001" if one.p_value < 1e-4 else f"{one.p_value:.4f}"
    return [f"{one.difference:+.4f}", "~" * doubted + bounds, p_value]


def _error(found: Rate | None, doubted: bool) -> list[str]:
    if found is None:
        return ["-", "-", "-"]
    bounds = _doubted((found.low, found.high), doubted)
    return [report.rate(found.rate), bounds, f"{found.errors} of {found.pairs}"]
