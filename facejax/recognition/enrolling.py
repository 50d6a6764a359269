"""People into a gallery that is open: what is taken, what is refused, and how it is written."""

import dataclasses
import json
from typing import Any, Literal

import numpy as np
import sqlalchemy as sql

from facejax.errors import UserError
from facejax.recognition.loaded import Loaded
from facejax.recognition.matches import Enrollment, Refusal
from facejax.recognition.opened import Opened
from facejax.recognition.samples import Check, Sample
from facejax.recognition.tables import clean_name, pack, people, templates, unpack

SAME_PICTURE = 0.999  # a threshold for a face under two names, where none is calibrated
SAME_TEMPLATE = 1 - 1e-5  # cosine of what is one embedding but for rounding


def enroll(
    opened: Opened,
    name: str,
    faces: Any,
    *,
    face: int | None,
    check: Check | None,
    duplicates: Literal["refuse", "allow"],
    limit: float | None,
) -> Enrollment:
    """Adds templates to a person; see `Gallery.enroll`.

    Args:
      opened: the gallery.
      name: as there, and so are the others.
      faces: all of this person.
      face: which of a photo's.
      check: face -> the reasons against it.
      duplicates: whether to refuse a face that is enrolled under another name.
      limit: the cosine from which it is that face; None is as there.
    """
    name = clean_name(name)
    samples, refused = opened.collect_one_a_photo(faces, face)
    samples, refused = checked(name, samples, refused, check)
    if duplicates == "allow":
        limit = None
    elif limit is None:
        limit = max((one.cosine for one in opened.thresholds), default=SAME_PICTURE)
    numbers, others = _write(opened, name, samples, limit)
    refused += others
    if not numbers:
        raise nothing(name, refused)
    return Enrollment(name, tuple(numbers), tuple(refused))


def find(connection: sql.Connection, name: str) -> int | None:
    """A person's number; None where there is nobody of that name.

    Args:
      connection: in a transaction.
      name: as the gallery keeps it.
    """
    return connection.scalar(sql.select(people.c.id).where(people.c.name == name))


def insert(connection: sql.Connection, name: str, stamp: int) -> int:
    """A new person's number.

    Args:
      connection: in a writing transaction.
      name: as the gallery keeps it.
      stamp: of the transaction.
    """
    done = connection.execute(sql.insert(people).values(name=name, changed=stamp))
    assert done.inserted_primary_key is not None
    return done.inserted_primary_key[0]


def of_person(
    connection: sql.Connection, person: int, *, dtype: str, size: int, shown: str
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """A person's templates.

    Args:
      connection: in a transaction.
      person: the number.
      dtype: of the gallery's templates.
      size: length D of an embedding.
      shown: the gallery, for the sentence.

    Returns:
      embeddings: float32 [n, D].
      known: the number and the checksum of each.

    Raises:
      UserError: one is damaged.
    """
    kept = templates.c
    chosen = sql.select(kept.id, kept.embedding, kept.scale, kept.checksum)
    rows = connection.execute(chosen.where(kept.person == person).order_by(kept.id)).all()
    embeddings = unpack(rows, dtype=dtype, size=size)
    if embeddings is None:
        raise UserError(
            f"a template in {shown} is damaged: remove that person and enroll them anew, or "
            "restore a copy"
        )
    return embeddings, [(row.id, row.checksum) for row in rows]


def checked(
    name: str, samples: list[Sample], refused: list[Refusal], check: Check | None
) -> tuple[list[Sample], list[Refusal]]:
    """Leaves out the faces that something speaks against.

    Args:
      name: of the person, for the sentence.
      samples: the person's.
      refused: what was left out before.
      check: face -> the reasons against it; None takes every face, as plain embeddings are taken.

    Returns:
      samples: those that are left.
      refused: what was left out before and now.

    Raises:
      UserError: nothing is left.
    """
    kept, refused = [], list(refused)
    for sample in samples:
        reasons = () if check is None or sample.face is None else tuple(check(sample.face))
        if reasons:
            refused.append(Refusal(sample.source, sample.number, reasons))
        else:
            kept.append(sample)
    if not kept:
        raise nothing(name, refused)
    return kept, refused


def nothing(name: str, refused: list[Refusal]) -> UserError:
    """What to raise where nothing of a person could be enrolled.

    Args:
      name: of the person.
      refused: what was left out.
    """
    said = ", ".join(map(str, refused)) or "no face was given"
    return UserError(f"{name} is not enrolled ({said})")


def without_others(
    loaded: Loaded, samples: list[Sample], person: int | None, *, limit: float
) -> tuple[list[Sample], list[Refusal]]:
    """Leaves out the faces that are enrolled under another name.

    Args:
      loaded: the gallery, up to date.
      samples: one person's.
      person: that person's number; None is not there yet.
      limit: the cosine from which a face is that of whoever it resembles.
    """
    similarities, persons = loaded.best(np.array([one.embedding for one in samples]), 2)
    kept: list[Sample] = []
    refused: list[Refusal] = []
    for sample, values, row in zip(samples, similarities, persons.tolist(), strict=True):
        others = [
            (float(value), loaded.names[other])
            for value, other in zip(values, row, strict=True)
            if other not in (-1, person) and value >= limit
        ]
        if not others:
            kept.append(sample)
            continue
        value, other = others[0]
        reason = f"this face is enrolled as {other} ({value:.2f}, from {limit:.2f} on)"
        refused.append(Refusal(sample.source, sample.number, (reason,)))
    return kept, refused


def add(
    connection: sql.Connection,
    stamp: int,
    person: int,
    samples: list[Sample],
    *,
    dtype: str,
    shown: str,
) -> list[int]:
    """Adds templates to a person; of an embedding that is there already, its number is given.

    Args:
      connection: in a writing transaction.
      stamp: of the transaction.
      person: the number.
      samples: to be added.
      dtype: of the gallery's templates.
      shown: the gallery, for the sentence.

    Returns:
      The numbers of the samples' templates, each once.
    """
    embeddings = np.array([sample.embedding for sample in samples])
    size = embeddings.shape[1]
    theirs, known = of_person(connection, person, dtype=dtype, size=size, shown=shown)
    numbers = []
    for sample, row in zip(samples, pack(embeddings, dtype=dtype), strict=True):
        alike = theirs @ sample.embedding >= SAME_TEMPLATE
        alike |= np.array([row["checksum"] == checksum for _, checksum in known], bool)
        if alike.any():
            numbers.append(known[int(alike.argmax())][0])
            continue
        values = {**row, **_details(sample), "person": person, "changed": stamp}
        done = connection.execute(sql.insert(templates).values(values))
        assert done.inserted_primary_key is not None
        numbers.append(done.inserted_primary_key[0])
        theirs = np.concatenate([theirs, sample.embedding[None]])
        known.append((numbers[-1], row["checksum"]))
    return list(dict.fromkeys(numbers))


def _write(
    opened: Opened, name: str, samples: list[Sample], limit: float | None
) -> tuple[list[int], list[Refusal]]:
    """Writes samples in one transaction: the numbers of their templates, and what is refused.

    From `limit` on, a face is that of whoever it resembles.
    """
    refused: list[Refusal] = []
    size, dtype, shown = len(samples[0].embedding), opened.dtype, str(opened)
    with opened.lock:
        if limit is not None:  # most of the work, while others may write
            opened.refresh(pool="best")
        with opened.database.writing() as (connection, stamp):
            known = opened.join(connection, {"embedding_size": size}, "the embedding")
            person = find(connection, name)
            if limit is not None:
                loaded = opened.loaded or Loaded(size, dtype, shown)
                loaded.refresh(connection, writing=True)
                samples, refused = without_others(loaded, samples, person, limit=limit)
            if not samples:
                return [], refused
            if person is None:
                person = insert(connection, name, stamp)
            numbers = add(connection, stamp, person, samples, dtype=dtype, shown=shown)
        opened.facts = known
    return numbers, refused


def _details(sample: Sample) -> dict[str, Any]:
    """The columns that say where a template comes from."""
    face = sample.face
    columns = {"source": sample.source, "number": sample.number}
    if face is None:
        return columns
    quality = face.quality
    if dataclasses.is_dataclass(quality) and not isinstance(quality, type):
        quality = dataclasses.asdict(quality)
    elif hasattr(quality, "_asdict"):
        quality = quality._asdict()
    return {
        **columns,
        "box": _json(face.box),
        "landmarks": _json(face.landmarks),
        "quality": _json(quality),
        "score": None if face.score is None else float(face.score),
    }


def _json(value: Any) -> str | None:
    """As JSON, arrays as lists."""
    if value is None:
        return None
    return json.dumps(value, default=lambda one: np.asarray(one).tolist())
