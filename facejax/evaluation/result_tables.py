"""Results as tables of text, one row for each benchmark and model; those of pairs: `scores_table`.

A rate stands with its 95 % interval. A "~" is before an interval that is not to be relied on, a
dash in place of what is not known; the reasons are lines under the table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from facejax.evaluation import ijb, tinyface
from facejax.evaluation.comparison import Comparison, Difference
from facejax.evaluation.fairness import Fairness, Rate
from facejax.evaluation.identification import Identification
from facejax.evaluation.ijb import TemplateResults
from facejax.evaluation.insightface_compat import InsightFaceVerification
from facejax.evaluation.measured import UPTO, Shown
from facejax.evaluation.quality import RejectCurve
from facejax.evaluation.report import scores, scores_table
from facejax.evaluation.spread import Spread
from facejax.evaluation.target_far import angle, squared_distance
from facejax.evaluation.verification import Verification, format_far
from facejax.recognition.thresholds import Threshold
from facejax.table import format_table


class _Cell(NamedTuple):
    """A rate, and what is to be said of it."""

    text: str
    note: str = ""


def tables(shown: Sequence[Shown]) -> Iterator[str]:
    """All tables of several benchmarks.

    Args:
      shown: the benchmarks, one or more, with the same models.

    Yields:
      One of pairs, of InsightFace's numbers, of differences, reject curves and groups, of templates
      and of galleries, as far as there is something for them.
    """
    models = len(shown[0].results)

    def rows(field: str) -> dict[str, Any]:
        found = {}
        for one in shown:
            values = getattr(one, field)
            for model, value in values.items():
                both = f"{one.name}, {model}" if max(models, len(values)) > 1 else one.name
                found[both if len(shown) > 1 else model] = value
        return found

    def of_kind(kind: type) -> dict[str, Any]:
        return {name: one for name, one in rows("results").items() if isinstance(one, kind)}

    if pairs := of_kind(Verification):
        yield scores_table({name: scores(one) for name, one in pairs.items()})
    if compat := rows("compat"):
        yield insightface_table(compat)
    if comparisons := rows("comparisons"):
        yield comparison_table(comparisons)
    if curves := rows("rejects"):
        yield reject_table(curves)
    if groups := rows("fairness"):
        yield fairness_table(groups)
    if templates := of_kind(TemplateResults):
        yield template_tables(templates)
    if searches := of_kind(Identification):
        yield gallery_table(searches)


def template_tables(results: Mapping[str, TemplateResults]) -> str:
    """Pairs of templates, and where there are galleries the searches in them.

    Args:
      results: by the name that is shown, one or more.
    """
    pairs = {
        name: {
            "pairs": _Cell(str(one.pairs.same + one.pairs.different)),
            "AUC": _Cell(f"{one.pairs.auc:.4f}"),
            **{
                f"TAR@FAR {format_far(tar.far)}": _rate(tar.tar, tar.low, tar.high, tar.note)
                for tar in one.pairs.tars
            },
        }
        for name, one in results.items()
    }
    searches = {
        name: one.identification for name, one in results.items() if one.identification is not None
    }
    tables = [_table(pairs)]
    if searches:
        tables.append(_searches(searches, ijb.RANKS))
    return "\n\n".join(tables)


def gallery_table(results: Mapping[str, Identification]) -> str:
    """Searches in a gallery.

    Args:
      results: by the name that is shown, one or more.
    """
    return _searches(results, tinyface.RANKS)


def insightface_table(results: Mapping[str, InsightFaceVerification]) -> str:
    """InsightFace's numbers, as it prints them.

    Args:
      results: by the name that is shown, one or more.
    """
    rows = [
        [
            name,
            f"{one.accuracy:.5f}+-{one.deviation:.5f}",
            *(
                ["-", "-"]  # a fold has no pair of a kind
                if np.isnan(one.tar)
                else [f"{one.tar:.5f}+-{one.tar_deviation:.5f}", f"{one.achieved_far:.5f}"]
            ),
        ]
        for name, one in results.items()
    ]
    return format_table(["InsightFace's", "Accuracy-Flip", "val", "@FAR"], rows)


def comparison_table(comparisons: Mapping[str, Comparison]) -> str:
    """By how much one model exceeds another, in points of a percent.

    Args:
      comparisons: by the name that is shown, one or more.
    """
    return _table(
        {
            name: {
                "accuracy": _difference(one.accuracy),
                "AUC": _difference(one.auc),
                **{f"TAR@FAR {format_far(far)}": _difference(tar) for far, tar in one.tars.items()},
            }
            for name, one in comparisons.items()
        },
        notes=(note for one in comparisons.values() for note in one.notes),
    )


def reject_table(curves: Mapping[str, RejectCurve]) -> str:
    """The areas under reject curves, up to a fifth of the images, beside chance.

    Args:
      curves: by the name that is shown, one or more.
    """
    rows = [
        [
            name,
            f"{one.threshold:.4f}",
            f"{one.false_non_match_rates[0]:.4f}",
            f"{_at(one, UPTO):.4f}",
            f"{one.area(upto=UPTO):.5f}",
            f"{one.area_by_chance(upto=UPTO):.5f}",
        ]
        for name, one in curves.items()
    ]
    share = f"{UPTO:.0%}"
    header = ["error versus reject", "cosine", "FNMR", f"at {share}", f"area to {share}"]
    return format_table([*header, "by chance"], rows)


def fairness_table(found: Mapping[str, Fairness]) -> str:
    """Each group's error rates at one threshold for all, its own threshold, and the spreads.

    Args:
      found: by the name that is shown, one or more.
    """
    rows: dict[str, dict[str, _Cell]] = {}
    spreads: list[list[str]] = []
    notes: list[str] = []
    for name, one in found.items():
        for group in one.groups:
            own = group.own_threshold
            rows[f"{name}, {group.name}"] = {
                "cosine": _Cell(f"{one.threshold:.4f}"),
                "FMR": _of_group(group.false_matches),
                "FNMR": _of_group(group.false_non_matches),
                "own cosine": _Cell("-")
                if own is None
                else _Cell(f"{own.threshold:.4f} ({own.low:.4f}-{own.high:.4f})"),
            }
            notes += group.notes
        for rate, spread in (
            ("FMR", one.false_match_spread),
            ("FNMR", one.false_non_match_spread),
        ):
            spreads.append([f"{name}, {rate}", *_of_spread(spread)])
    header = ["spread over the groups", "max / min", "deviation", "Gini"]
    return "\n".join([_table(rows, notes=notes), "", format_table(header, spreads)])


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
    header = ["threshold", "FAR", "cosine", "FAR at most (95 %)", "squared L2", "angle"]
    return format_table([*header, "different pairs"], rows)


def _searches(results: Mapping[str, Identification], ranks: Sequence[int]) -> str:
    rows = {}
    for name, one in results.items():
        known = [rank for rank in ranks if rank <= len(one.cmc)]
        rows[name] = {
            "probes": _Cell(str(one.mated + one.non_mated)),
            **{
                f"rank {rank}": _rate(
                    one.cmc[rank - 1], one.cmc_low[rank - 1], one.cmc_high[rank - 1]
                )
                for rank in known
            },
            **{
                f"TPIR@FPIR {format_far(tpir.fpir)}": _rate(
                    tpir.tpir, tpir.low, tpir.high, tpir.note
                )
                for tpir in one.tpirs
            },
        }
    return _table(rows)


def _table(rows: Mapping[str, Mapping[str, _Cell]], *, notes: Iterable[str] = ()) -> str:
    """Rows that may lack a column, and what is to be said under them, each once."""
    header = list(dict.fromkeys(column for row in rows.values() for column in row))
    said = [cell.note for row in rows.values() for cell in row.values() if cell.note]
    cells = [
        [name, *(row.get(column, _Cell("-")).text for column in header)]
        for name, row in rows.items()
    ]
    return "\n".join([format_table(["", *header], cells), *dict.fromkeys([*said, *notes])])


def _rate(rate: float | None, low: float | None, high: float | None, note: str = "") -> _Cell:
    if rate is None:
        return _Cell("-", note)
    if low is None or high is None or np.isnan(low):
        return _Cell(f"{rate:.4f}", note)
    return _Cell(f"{rate:.4f} ({'~' if note else ''}{low:.4f}-{high:.4f})", note)


def _difference(one: Difference) -> _Cell:
    low, high = 100 * one.low, 100 * one.high
    return _Cell(f"{100 * one.difference:+.2f} ({low:+.2f} to {high:+.2f}), p {one.p_value:.2g}")


def _of_group(rate: Rate | None) -> _Cell:
    if rate is None:
        return _Cell("-")
    return _Cell(f"{rate.rate:.4f} ({rate.low:.4f}-{rate.high:.4f}), {rate.errors} of {rate.pairs}")


def _of_spread(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["-"] * 3
    ratio, gini = spread.maximum_over_minimum, spread.gini
    return [
        "-" if ratio is None else f"{ratio:.2f}",
        f"{spread.standard_deviation:.4f}",
        "-" if gini is None else f"{gini:.3f}",
    ]


def _at(curve: RejectCurve, share: float) -> float:
    """The FNMR once a share is rejected: the curve is a step."""
    number = np.searchsorted(curve.rejected, share, side="right") - 1
    return float(curve.false_non_match_rates[number])
