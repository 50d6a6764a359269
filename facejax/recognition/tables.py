"""What a gallery keeps in its database, and which names it takes."""

import unicodedata
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sql

from facejax.errors import UserError
from facejax.recognition.search import quantize

SCHEMA = 1
NAME_LENGTH = 200

METADATA = sql.MetaData()
_key = sql.BigInteger().with_variant(sql.Integer, "sqlite")  # counts up by itself in both


def _changed() -> sql.Column:
    """The number of the transaction that wrote the row."""
    return sql.Column("changed", sql.BigInteger, nullable=False, index=True)


gallery = sql.Table(
    "facejax_gallery",
    METADATA,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=False),  # 1: the only row
    sql.Column("schema", sql.Integer, nullable=False),
    sql.Column("changes", sql.BigInteger, nullable=False),
    # The last removal whose bytes may be in the file still, or 0.
    sql.Column("erase", sql.BigInteger, nullable=False),
    sql.Column("facts", sql.Text, nullable=False),  # JSON
)
people = sql.Table(
    "facejax_people",
    METADATA,
    sql.Column("id", _key, primary_key=True),
    sql.Column("name", sql.Text, nullable=False, unique=True),
    _changed(),
    sqlite_autoincrement=True,  # a number is never given twice
)
templates = sql.Table(
    "facejax_templates",
    METADATA,
    sql.Column("id", _key, primary_key=True),
    sql.Column(
        "person", _key, sql.ForeignKey(people.c.id, ondelete="CASCADE"), nullable=False, index=True
    ),
    sql.Column("embedding", sql.LargeBinary, nullable=False),  # of unit length, little-endian
    sql.Column("scale", sql.Double),  # of int8
    sql.Column("checksum", sql.BigInteger, nullable=False),  # crc32 of the embedding's bytes
    sql.Column("source", sql.Text, nullable=False),
    sql.Column("number", sql.Integer, nullable=False),
    sql.Column("box", sql.Text),  # JSON, like the next two
    sql.Column("landmarks", sql.Text),
    sql.Column("quality", sql.Text),
    sql.Column("score", sql.Double),
    _changed(),
    sqlite_autoincrement=True,
)
removed = sql.Table(
    "facejax_removed",
    METADATA,
    sql.Column("id", _key, primary_key=True),
    sql.Column("person", sql.BigInteger),  # one of the two
    sql.Column("template", sql.BigInteger),
    _changed(),
    sqlite_autoincrement=True,
)


def clean_name(name: str) -> str:
    """A person's name as the gallery keeps it: in Unicode's NFC, without spaces at its ends.

    Letters of any script, spaces, slashes and case are kept.

    Args:
      name: as it was typed.

    Raises:
      UserError: it is empty, longer than 200 characters, or has a line break or another control
        character.
    """
    if not isinstance(name, str):
        raise UserError(f"a name is a text, not {name!r}: give a str")
    cleaned = unicodedata.normalize("NFC", name).strip()
    shown = repr(cleaned if len(cleaned) <= 40 else cleaned[:40] + "...")
    if not cleaned:
        raise UserError("a name is empty: give one with a letter at least")
    if len(cleaned) > NAME_LENGTH:
        raise UserError(
            f"the name {shown} has {len(cleaned)} characters: {NAME_LENGTH} are the most"
        )
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in cleaned):
        raise UserError(
            f"the name {shown} has a line break or another control character: leave it out"
        )
    return cleaned


def pack(embeddings: np.ndarray, *, dtype: str) -> list[dict[str, Any]]:
    """Embeddings as the columns of the table of templates that hold them.

    Args:
      embeddings: float32 [N, D] of unit length.
      dtype: float32 or int8, of what is kept.

    Returns:
      Of each one the `embedding`'s bytes, its `scale` and `checksum`.
    """
    rows, scales = quantize(embeddings) if dtype == "int8" else (embeddings, None)
    blobs = [row.tobytes() for row in rows.astype(_stored(dtype))]
    return [
        {
            "embedding": blob,
            "scale": None if scales is None else float(scales[number]),
            "checksum": zlib.crc32(blob),
        }
        for number, blob in enumerate(blobs)
    ]


def unpack(rows: Sequence[Any], *, dtype: str, size: int) -> np.ndarray | None:
    """The embeddings of rows that have an `embedding`, a `scale` and a `checksum`.

    Args:
      rows: of the table of templates.
      dtype: float32 or int8, of what is kept.
      size: length D of an embedding.

    Returns:
      float32 [N, D], finite; None where one of them is damaged.
    """
    stored = _stored(dtype)
    length = size * stored.itemsize
    for row in rows:
        if len(row.embedding) != length or zlib.crc32(row.embedding) != row.checksum:
            return None
    joined = b"".join(row.embedding for row in rows)
    embeddings = np.frombuffer(joined, stored).reshape(len(rows), size).astype(np.float32)
    if dtype == "int8":
        embeddings *= np.array([row.scale for row in rows], np.float32)[:, None]
    return embeddings


def _stored(dtype: str) -> np.dtype:
    return np.dtype(dtype).newbyteorder("<")
