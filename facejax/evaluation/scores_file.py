"""The score of every pair in a file, CSV or parquet, written a block at a time."""

import csv
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facejax import files
from facejax.errors import UserError
from facejax.evaluation.benchmarks import Benchmark, Result
from facejax.evaluation.ijb import TemplateProtocol, TemplateResults
from facejax.evaluation.protocols import Protocol
from facejax.evaluation.verification import Verification

COLUMNS = ("benchmark", "model", "first", "second", "same", "fold", "score")
_ROWS = 1 << 16  # pairs at a time

Block = dict[str, list[Any]]  # a list of each column, of one length


def pair_blocks(benchmark: Benchmark, model: str, result: Result) -> Iterator[Block]:
    """The pairs of a result.

    Args:
      benchmark: what was measured on.
      model: what was measured.
      result: of `facejax.evaluation.measure`.

    Yields:
      Up to 65,536 pairs, in order: `first` and `second` are the images' names, or the templates'
      ids, which have no `fold`. Of a search in a gallery, which has no pairs, nothing.
    """
    protocol = benchmark.protocol
    if isinstance(protocol, Protocol) and isinstance(result, Verification):
        names, indices = np.array(benchmark.names, object), protocol.indices
        folds: np.ndarray | None = protocol.folds
    elif isinstance(protocol, TemplateProtocol) and isinstance(result, TemplateResults):
        names, indices, folds = protocol.members.template_ids.astype(object), protocol.pairs, None
    else:
        return
    for start in range(0, len(indices), _ROWS):
        part = slice(start, start + _ROWS)
        first, second = (list(map(str, names[side])) for side in indices[part].T)
        count = len(first)
        yield {
            "benchmark": [benchmark.name] * count,
            "model": [model] * count,
            "first": first,
            "second": second,
            "same": result.same[part].tolist(),
            "fold": [None] * count if folds is None else folds[part].tolist(),
            "score": result.scores[part].tolist(),
        }


def refuse_scores_file(path: str | Path) -> None:
    """Refuses a file that `write_scores` could not write, before there is anything to write.

    Args:
      path: FILE.csv or FILE.parquet.

    Raises:
      UserError: it is another, or pyarrow is missing.
    """
    suffix = files.expand(path).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UserError(f"the scores file {path} has another suffix: give FILE.csv or FILE.parquet")
    if suffix == ".parquet":
        _pyarrow()


def write_scores(path: str | Path, blocks: Iterable[Block]) -> int:
    """Writes scores; the file appears when it is whole, and one block is held at a time.

    Args:
      path: FILE.csv, with a header, or FILE.parquet; `~` is the home.
      blocks: of `pair_blocks`, of as many results as are wanted.

    Returns:
      How many pairs were written.

    Raises:
      UserError: as `refuse_scores_file`, or it can't be written.
    """
    path = files.expand(path)
    refuse_scores_file(path)
    writing = _write_csv if path.suffix.lower() == ".csv" else _write_parquet
    with (
        files.refusing(path, "make room there, or give another file"),
        files.replacing(path) as partial,
    ):
        return writing(partial, blocks)


def _write_csv(path: Path, blocks: Iterable[Block]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for block in blocks:
            rows = {**block, "same": map(int, block["same"])}
            writer.writerows(zip(*(rows[column] for column in COLUMNS), strict=True))
            count += len(block["score"])
    return count


def _write_parquet(path: Path, blocks: Iterable[Block]) -> int:
    pa, pq = _pyarrow()
    text = pa.dictionary(pa.int32(), pa.string())
    types = [text, text, pa.string(), pa.string(), pa.bool_(), pa.int32(), pa.float64()]
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        for block in blocks:
            printed = {
                side: [name.encode(errors="backslashreplace").decode() for name in block[side]]
                for side in ("first", "second")
            }
            writer.write_table(pa.table({**block, **printed}, schema=schema))
            count += len(block["score"])
    return count


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError(
            'parquet files need pyarrow: pip install "facejax[parquet]", or give FILE.csv'
        ) from None
