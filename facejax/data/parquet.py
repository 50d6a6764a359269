"""Parquet files as hubs hand them out: a column `image` and a column `label`."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from facejax import files
from facejax.data.labels import Numbering
from facejax.data.read_at import PerThread, ReadAt
from facejax.errors import UserError


class ParquetSource:
    """The rows of parquet files; build it with `parquet_source`.

    A row is read with its whole row group, the last of which each thread keeps: quick in order,
    slow at random. A dataset that is built of it is quick at random too.
    """

    def __init__(
        self,
        tables: list[ReadAt],
        starts: np.ndarray,
        places: list[tuple[int, int]],
        labels: np.ndarray,
        names: tuple[str, ...],
    ) -> None:
        self._tables, self._starts, self._places = tables, starts, places
        self._last = PerThread()
        self.labels = labels
        self.identity_names = names

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        table, number = self._places[group]
        file = self._tables[table]
        if getattr(self._last, "group", None) != group:
            file.check()
            self._last.rows = _images(file.path, number)
            self._last.group = group
        row = index - int(self._starts[group])
        with _readable(file.path):
            image = self._last.rows[row].as_py()
        name = f"{file.path.name}:{group}:{row}"
        if isinstance(image, dict):
            name, image = image.get("path") or name, image.get("bytes")
        if not isinstance(image, bytes):
            raise UserError(f"{name} of {file.path} has no image: give files that hold the images.")
        return {"image": image, "label": int(self.labels[index]), "id": name}


def parquet_source(path: files.Path) -> ParquetSource:
    """Parquet files as a source, by their names and in the order of the rows.

    `image` is encoded bytes, or has fields `bytes` and `path`; `label` is a whole number or a name.
    What a hub says of the names of the numbers is taken.

    Args:
      path: of a file, or of a folder that has some, or has them in `data`; `~` is the home.

    Returns:
      A source whose `[i]` is `{"image": bytes, "label": int, "id": str}`. It can be pickled.

    Raises:
      UserError: pyarrow is not installed; a file cannot be read, is damaged or has other columns.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError("parquet files need pyarrow: pip install 'facejax[parquet]'.") from None
    path = files.expand(path)
    found = [path]
    if path.is_dir():
        found = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    if not found:
        raise UserError(f"{path} has no .parquet file: give the folder of some, or a file.")
    tables, places, rows, labels = [], [], [0], Numbering()
    for number, file in enumerate(found):
        tables.append(ReadAt(file))
        with _readable(file), pq.ParquetFile(file) as table:
            columns = table.schema_arrow.names
            if not {"image", "label"} <= set(columns):
                listed = " ".join(", ".join(columns[:9]).split())  # on one line
                raise UserError(f"{file} has the columns {listed}: name them image and label.")
            names = _names(table.schema_arrow.metadata)
            for group in range(table.num_row_groups):
                column = table.read_row_group(group, columns=["label"]).column("label")
                places.append((number, group))
                rows.append(rows[-1] + len(column))
                for value in _labels(column.to_pylist(), file):
                    named = isinstance(value, int) and value < len(names)
                    labels.add(names[value] if named else value)  # type: ignore[index]
    if not len(labels):
        raise UserError(f"{path} has no rows: give other files.")
    numbers, identities = labels.finish()
    return ParquetSource(tables, np.array(rows[:-1]), places, numbers, identities)


def _labels(values: list[Any], file: pathlib.Path) -> Iterator[int | str]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | str) or value in ("", -1):
            raise UserError(
                f"{file} has the label {value!r}: give a whole number or a name for each row."
            )
        yield value


def _images(file: pathlib.Path, group: int) -> Any:
    import pyarrow.parquet as pq

    with _readable(file), pq.ParquetFile(file) as table:
        return table.read_row_group(group, columns=["image"]).column("image")


@contextlib.contextmanager
def _readable(file: pathlib.Path) -> Iterator[None]:
    """pyarrow's errors, in one sentence; of damaged names and lengths they are Python's own."""
    import pyarrow as pa

    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{file} cannot be read ({reason}): get the file again.") from error


def _names(metadata: dict[bytes, bytes] | None) -> list[str]:
    """The names of the labels 0, 1, ... that a hub keeps with the columns."""
    try:
        kept = json.loads((metadata or {})[b"huggingface"])
        names = kept["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else []
