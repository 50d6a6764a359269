"""A gallery's names and templates in memory, brought up to date by what has changed."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import sqlalchemy as sql

from facejax.errors import UserError
from facejax.recognition.search import Index
from facejax.recognition.tables import gallery, people, removed, templates, unpack

_BATCH = 4096


class Loaded:
    """What is searched.

    Args:
      size: length D of an embedding.
      dtype: float32 or int8, as the gallery keeps them.
      shown: the gallery, for the sentences.
    """

    def __init__(self, size: int, dtype: str, shown: str):
        self._size, self._dtype, self._shown = size, dtype, shown
        self._clear()

    def _clear(self) -> None:
        self.names: dict[int, str] = {}
        self._changes = 0  # the last that is in here
        self._owners = np.full(0, -1, np.int64)  # the person of each template, by its number
        self._templates = Index(self._size, dtype=self._dtype)
        self._means: Index | None = None  # a row a person, made when first asked for
        self._moved: set[int] = set()  # people whose mean is not what it was

    def refresh(
        self, connection: sql.Connection, *, means: bool = False, writing: bool = False
    ) -> None:
        """Reads what other processes and this one have written since.

        Args:
          connection: in a transaction.
          means: whether the people's means are wanted, too.
          writing: whether it is a writing one that has written nothing of its own yet, and may be
            undone, its number then another's.

        Raises:
          UserError: a template is damaged.
        """
        latest = connection.execute(sql.select(gallery.c.changes)).scalar_one() - writing
        if latest < self._changes:  # somebody put an older copy in its place
            self._clear()
        if latest > self._changes:
            self._read_removed(connection)
            self._read_people(connection)
            self._read_templates(connection)
            self._changes = latest
        if means:
            self._read_means(connection)

    def best(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The people with the most similar template.

        Args:
          queries: float32 [Q, D] of unit length.
          k: how many people.

        Returns:
          similarities: float32 [Q, k], falling; -inf where there are fewer people.
          people: int64 [Q, k], their numbers, -1 there.
        """
        similarities = np.full((len(queries), k), -np.inf, np.float32)
        owners = np.full((len(queries), k), -1, np.int64)
        # A person may have many of the best templates: ask for more where others are wanted.
        asked, missing = _power(4 * k), np.arange(len(queries))
        while len(missing):
            found, keys = self._templates.search(queries[missing], k=asked)
            everything = asked >= len(self._templates)
            people_of = np.where(keys < 0, -1, self._owners[keys] if len(self._owners) else -1)
            later = []
            for row, values, persons in zip(missing, found, people_of, strict=True):
                first = np.sort(np.unique(persons, return_index=True)[1])
                first = first[persons[first] >= 0][:k]
                if len(first) < k and not everything:
                    later.append(row)
                    continue
                similarities[row, : len(first)] = values[first]
                owners[row, : len(first)] = persons[first]
            missing, asked = np.array(later, np.int64), 8 * asked
        return similarities, owners

    def mean(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The people whose mean template, of unit length, is most similar; as `best`."""
        assert self._means is not None, "refresh(means=True) comes first"
        return self._means.search(queries, k=k)

    def _read_removed(self, connection: sql.Connection) -> None:
        columns = (removed.c.person, removed.c.template)
        rows = connection.execute(sql.select(*columns).where(removed.c.changed > self._changes))
        gone, numbers = [], []
        for row in rows:
            if row.person is not None:
                self.names.pop(row.person, None)
                self._moved.discard(row.person)
                gone.append(row.person)
            elif row.template < len(self._owners):
                self._moved.add(int(self._owners[row.template]))
                self._owners[row.template] = -1
                numbers.append(row.template)
        self._templates.drop(np.array(numbers, np.int64))
        self._moved.difference_update(gone)
        if self._means is not None:
            self._means.drop(np.array(gone, np.int64))

    def _read_people(self, connection: sql.Connection) -> None:
        columns = (people.c.id, people.c.name)
        found = connection.execute(sql.select(*columns).where(people.c.changed > self._changes))
        self.names.update((row.id, row.name) for row in found)

    def _read_templates(self, connection: sql.Connection) -> None:
        new = templates.c.changed > self._changes
        count, last = connection.execute(
            sql.select(sql.func.count(), sql.func.max(templates.c.id)).where(new)
        ).one()
        if not count:
            return
        added = max(0, last + 1 - len(self._owners))
        self._owners = np.pad(self._owners, (0, added), constant_values=-1)
        self._templates.reserve(len(self._templates) + count)
        for rows in _batches(connection, _embeddings().where(new)):
            embeddings = self._unpack(rows)
            numbers = np.array([row.id for row in rows], np.int64)
            owners = np.array([row.person for row in rows], np.int64)
            before = self._owners[numbers]
            self._moved.update(owners.tolist(), before[before >= 0].tolist())
            self._owners[numbers] = owners
            unknown = before < 0  # what has only got another owner is here already
            self._templates.put(numbers[unknown], embeddings[unknown])

    def _read_means(self, connection: sql.Connection) -> None:
        if self._means is None:
            self._means = Index(self._size, dtype=self._dtype)
            self._means.reserve(len(self.names))
            self._moved = set(self.names)
        wanted = sorted(self._moved & self.names.keys())
        for start in range(0, len(wanted), _BATCH):
            part = np.array(wanted[start : start + _BATCH], np.int64)
            theirs = templates.c.person.in_(part.tolist())
            sums = np.zeros((len(part), self._size), np.float64)
            for rows in _batches(connection, _embeddings().where(theirs)):
                owners = np.array([row.person for row in rows], np.int64)
                order = np.argsort(owners, kind="stable")
                held, first = np.unique(owners[order], return_index=True)
                added = np.add.reduceat(self._unpack(rows)[order], first, axis=0, dtype=np.float64)
                sums[np.searchsorted(part, held)] += added
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            self._means.put(part, (sums / np.maximum(lengths, 1e-12)).astype(np.float32))
        self._moved.clear()

    def _unpack(self, rows: list[Any]) -> np.ndarray:
        embeddings = unpack(rows, dtype=self._dtype, size=self._size)
        if embeddings is None:
            bad = next(
                row.person
                for row in rows
                if unpack([row], dtype=self._dtype, size=self._size) is None
            )
            raise UserError(
                f"a template of {self.names.get(bad, 'somebody')} in {self._shown} is damaged: "
                "remove that person and enroll them anew, or restore a copy"
            )
        return embeddings


def _embeddings() -> sql.Select:
    columns = templates.c
    return sql.select(
        columns.id, columns.person, columns.embedding, columns.scale, columns.checksum
    )


def _batches(connection: sql.Connection, query: sql.Select) -> Iterable[list[Any]]:
    """Rows as they come, a batch at a time in memory."""
    streamed = connection.execute(query.execution_options(yield_per=_BATCH))
    for rows in streamed.partitions():
        yield list(rows)


def _power(count: int) -> int:
    """The next power of two, so that few programs are compiled."""
    return 1 << (count - 1).bit_length()
