"""What a person sees of a verification: its numbers as a record and as a table.

The names of a record's fields are made and read here, and nowhere else.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facejax.evaluation.verification import TarAtFar, Verification, format_far
from facejax.table import format_table

Scores = Mapping[str, Any]  # a record as `scores` makes it; it may have other fields too

_ACCURACY = "verification_accuracy"
_INTERVAL = "verification_interval"
_BASIS = "interval_basis"
# Before the FAR, as in "tar_at_far_1e-3".
_TAR, _TAR_INTERVAL, _TAR_NOTE = "tar_at_far_", "tar_interval_at_far_", "tar_note_at_far_"
_TAR_ACCEPTS = "false_accepts_at_far_"


def scores(result: Verification) -> dict[str, Any]:
    """The numbers of a verification as a flat record of what JSON has.

    Args:
      result: of `verify`.

    Returns:
      "verification_accuracy" and its "verification_interval" [low, high], "auc" and
      "auc_interval", "equal_error_rate" and "equal_error_rate_interval", and for each FAR
      "tar_at_far_1e-3" with "tar_interval_at_far_1e-3" and "false_accepts_at_far_1e-3", or None
      with the reason as "tar_note_at_far_1e-3". The note stands beside a TAR too, where its
      interval is not to be relied on. "interval_basis" says whose resampling gave the intervals,
      and "people" how many they are.
    """
    record: dict[str, Any] = {
        _ACCURACY: result.accuracy.accuracy,
        _INTERVAL: [result.accuracy.low, result.accuracy.high],
        "auc": result.auc,
        "auc_interval": [*result.auc_interval],
        "equal_error_rate": result.equal_error_rate.rate,
        "equal_error_rate_interval": [*result.equal_error_rate_interval],
        _BASIS: result.basis,
        "people": result.people,
    }
    return record | tar_fields(result.tars)


def tar_fields(tars: Sequence[TarAtFar]) -> dict[str, Any]:
    """The fields of a record that have TARs.

    Args:
      tars: of any test of pairs.

    Returns:
      "tar_at_far_1e-3" with "tar_interval_at_far_1e-3" where there is one, or None with the reason
      as "tar_note_at_far_1e-3".
    """
    record: dict[str, Any] = {}
    for tar in tars:
        far = format_far(tar.far)
        record[_TAR + far] = tar.tar
        if tar.low is not None:
            record[_TAR_INTERVAL + far] = [tar.low, tar.high]
            record[_TAR_ACCEPTS + far] = tar.false_accepts
        if tar.note:
            record[_TAR_NOTE + far] = tar.note
    return record


def score_labels(record: Scores) -> dict[str, str]:
    """The accuracy and the TARs among a record's fields, and what people call them.

    Args:
      record: any; of a record that is of no verification nothing is returned.

    Returns:
      {"verification_accuracy": "accuracy", "tar_at_far_1e-3": "TAR at FAR 1e-3", ...}
    """
    labels = {_ACCURACY: "accuracy"} if _ACCURACY in record else {}
    return labels | {name: f"TAR at FAR {far}" for far, name in _tars(record).items()}


def scores_in_words(record: Scores) -> str:
    """A record of `scores` as one line of text."""
    words = [f"verification accuracy {record[_ACCURACY]:.4f}"]
    for far, name in _tars(record).items():
        tar = record[name]
        said = "unknown (too few negatives)" if tar is None else f"{tar:.3f}"
        if _unsound(record, far):
            said += f" (false accepts: {record[_TAR_ACCEPTS + far]})"
        words.append(f"TAR at FAR {far} {said}")
    return ", ".join(words)


def scores_table(records: Mapping[str, Scores]) -> str:
    """The table of several results, one row per result, with 95 % intervals.

    A TAR that is not known is a dash, and its reason a line under the table. An interval that is
    not to be relied on has a "~" before it, and the reason under the table likewise.

    Args:
      records: of `scores`, by the name that is shown.
    """
    header, rows, notes = cells(records)
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


def _tars(record: Scores) -> dict[str, str]:
    """The names of a record's TARs by their FARs, as in {"1e-3": "tar_at_far_1e-3"}."""
    return {name.removeprefix(_TAR): name for name in record if name.startswith(_TAR)}


def cells(records: Mapping[str, Scores]) -> tuple[list[str], list[list[str]], list[str]]:
    """The header, the rows and the notes of `scores_table`.

    Args:
      records: of `scores`, by the name that is shown.
    """
    fars = list(dict.fromkeys(far for record in records.values() for far in _tars(record)))
    header = ["", "accuracy", "95 %", "AUC", "95 %", "EER", "95 %"]
    for far in fars:
        header += [f"TAR@FAR {far}", "95 %"]
    rows = []
    notes: dict[str, None] = {}  # each once, in order
    for name, record in records.items():
        row = [name, rate(record[_ACCURACY]), interval(record[_INTERVAL])]
        for field in ("auc", "equal_error_rate"):
            row += [rate(record[field]), interval(record.get(f"{field}_interval"))]
        for far in fars:
            doubt = "~" if _unsound(record, far) else ""
            row.append(rate(record.get(_TAR + far)))
            row.append(doubt + interval(record.get(_TAR_INTERVAL + far)))
            if _TAR_NOTE + far in record:
                notes[record[_TAR_NOTE + far]] = None
        rows.append(row)
    return header, rows, list(notes)


def _unsound(record: Scores, far: str) -> bool:
    """Whether a TAR is known, and its interval not to be relied on."""
    return record.get(_TAR + far) is not None and _TAR_NOTE + far in record


def rate(value: float | None) -> str:
    """A rate as a cell: four digits, or a dash where it is not known."""
    return "-" if value is None else f"{value:.4f}"


def interval(bounds: Sequence[float] | None) -> str:
    """An interval (low, high) as a cell, or a dash where there is none."""
    return "-" if bounds is None else f"{bounds[0]:.4f}-{bounds[1]:.4f}"
