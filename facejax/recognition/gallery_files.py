"""A whole gallery as one file that NumPy and any unzip open: arrays, and JSON beside them."""

import json
import os
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sql

from facejax import files
from facejax.errors import UserError
from facejax.recognition.database import Database
from facejax.recognition.tables import clean_name, pack, people, templates, unpack

FORMAT = 1
_FACTS = "gallery.json"
_DETAILS = ("box", "landmarks", "quality")  # JSON in the database, and here
_BATCH = 4096


class Content(NamedTuple):
    """What is in an exported file."""

    embeddings: np.ndarray  # float32 [N, D], of unit length
    names: list[str]  # of each row
    details: list[dict[str, Any]]  # of each row: source, number, score, box, landmarks, quality
    facts: dict[str, Any]  # recognizer, card, thresholds


def write(path: str | os.PathLike[str], database: Database, facts: dict[str, Any]) -> None:
    """Writes a gallery as one .npz, whole or not at all.

    It holds `embeddings` float32 [N, D] of unit length, `names` [N] (a text array, no pickle), and
    `gallery.json`: the recognizer's card, the thresholds, and of each row its source, the face's
    number in it, score, box (x, y, width, height in pixels), landmarks and quality. Templates of
    int8 are written as the float32 that they stand for.

    Args:
      path: of the file, .npz.
      database: of the gallery.
      facts: what it says of itself.

    Raises:
      UserError: it can't be written, or a template is damaged.
    """
    path = files.expand(path)
    size, dtype = facts.get("embedding_size") or 0, facts["dtype"]
    columns = (people.c.name, *(column for column in templates.c))
    joined = sql.select(*columns).join_from(templates, people).order_by(templates.c.id)
    parts: list[np.ndarray] = [np.zeros((0, size), np.float32)]
    names: list[str] = []
    details: list[dict[str, Any]] = []
    with database.reading() as connection:
        streamed = connection.execute(joined.execution_options(yield_per=_BATCH))
        for rows in streamed.partitions():
            embeddings = unpack(rows, dtype=dtype, size=size)
            if embeddings is None:
                raise UserError(
                    f"a template in {database.shown} is damaged: restore a copy of it first"
                )
            parts.append(embeddings)
            names += [row.name for row in rows]
            details += [_details(row) for row in rows]
    kept = {name: facts[name] for name in ("recognizer", "card", "thresholds") if facts.get(name)}
    about = {"format": FORMAT, "dtype": dtype, **kept, "templates": details}
    with files.refusing(path, "give another path"), files.replacing(path) as partial:
        with partial.open("wb") as file:  # savez would add a suffix to a path
            np.savez(file, embeddings=np.concatenate(parts), names=np.array(names, np.str_))
        with zipfile.ZipFile(partial, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_FACTS, json.dumps(about))


def read(path: str | os.PathLike[str]) -> Content:
    """Reads what `write` wrote; nothing in it is executed.

    Args:
      path: of the file.

    Raises:
      UserError: it is not there, damaged or no export, or of a newer format.
    """
    path = pathlib.Path(files.expand(path))
    if not path.is_file():
        raise UserError(f"there is no file {path}: give an exported gallery, .npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            embeddings = np.asarray(archive["embeddings"], np.float32)
            names = [str(name) for name in archive["names"]]
            about = json.loads(archive[_FACTS])
        newer = about["format"] > FORMAT
        details = [] if newer else [_cleaned(one) for one in about["templates"]]
        facts = {name: about.get(name) for name in ("recognizer", "card", "thresholds")}
        whole = embeddings.ndim == 2 and len(embeddings) == len(names) == len(details)
        lengths = np.linalg.norm(embeddings, axis=-1)
    except Exception as error:  # of a damaged file NumPy and zipfile raise nearly everything
        raise UserError(f"{path} is damaged, or no exported gallery: export it anew") from error
    if newer:
        raise UserError(
            f"{path} has format {about['format']}, and this facejax knows {FORMAT}: install a "
            "newer facejax"
        )
    if not whole or not np.allclose(lengths, 1, atol=0.02):  # int8 rows are nearly of unit length
        raise UserError(
            f"{path} is no whole gallery: it takes a name and an embedding of unit length a row"
        )
    return Content(embeddings, [clean_name(name) for name in names], details, facts)


def add(connection: sql.Connection, stamp: int, content: Content, *, dtype: str) -> int:
    """Adds rows to the people of the same names, in a writing transaction.

    Args:
      connection: of the transaction.
      stamp: its number.
      content: of a file.
      dtype: of the gallery's templates.

    Returns:
      How many were added; a person's template that is there already is not.
    """
    numbers = {row.name: row.id for row in connection.execute(sql.select(people))}
    new = [name for name in dict.fromkeys(content.names) if name not in numbers]
    for start in range(0, len(new), _BATCH):
        rows = [{"name": name, "changed": stamp} for name in new[start : start + _BATCH]]
        connection.execute(sql.insert(people), rows)
    if new:
        mine = sql.select(people).where(people.c.changed == stamp)
        numbers.update((row.name, row.id) for row in connection.execute(mine))
    known = {
        (row.person, row.checksum)
        for row in connection.execute(sql.select(templates.c.person, templates.c.checksum))
    }
    added = 0
    for start in range(0, len(content.names), _BATCH):
        part = slice(start, start + _BATCH)
        values = []
        for name, packed, details in zip(
            content.names[part],
            pack(content.embeddings[part], dtype=dtype),
            content.details[part],
            strict=True,
        ):
            mark = (numbers[name], packed["checksum"])
            if mark not in known:
                known.add(mark)
                values.append({**packed, **details, "person": numbers[name], "changed": stamp})
        if values:
            connection.execute(sql.insert(templates), values)
        added += len(values)
    return added


def _details(row: Any) -> dict[str, Any]:
    """Of a row of the database, for the file."""
    found = {name: getattr(row, name) for name in ("source", "number", "score", *_DETAILS)}
    return {
        name: json.loads(value) if name in _DETAILS else value
        for name, value in found.items()
        if value is not None
    }


def _cleaned(details: dict[str, Any]) -> dict[str, Any]:
    """Of the file, for a row of the database; every column is there."""
    score = details.get("score")
    return {
        "source": str(details.get("source", "")),
        "number": int(details.get("number", 0)),
        "score": None if score is None else float(score),
        **{
            name: None if details.get(name) is None else json.dumps(details[name])
            for name in _DETAILS
        },
    }
