"""Whether a face is somebody's (1:1), and who the faces are (1:N), in a gallery that is open."""

from typing import Any

import numpy as np

from facejax.errors import UserError
from facejax.recognition import administration, enrolling
from facejax.recognition.matches import Candidate, Match, Matches, Verification
from facejax.recognition.opened import Opened, Pool
from facejax.recognition.tables import clean_name
from facejax.recognition.thresholds import far_of_fpir


def verify(
    opened: Opened,
    name: str,
    faces: Any,
    *,
    face: int | None,
    threshold: float | None,
    far: float,
    pool: Pool,
) -> Verification:
    """Whether a face is that person's; see `Gallery.verify`.

    Args:
      opened: the gallery.
      name: as there, and so are the others.
      faces: one face.
      face: which of a photo's.
      threshold: a cosine.
      far: in its place.
      pool: best or mean.
    """
    _check_pool(pool)
    name = clean_name(name)
    samples, refused = opened.collect_one_a_photo(faces, face)
    if len(samples) != 1:
        said = ", ".join(map(str, refused)) or f"{len(samples)} faces were given"
        raise UserError(f"one face is wanted to compare with {name} ({said})")
    limit = opened.threshold(threshold, far)
    (sample,) = samples
    with opened.database.reading() as connection:
        theirs, _ = enrolling.of_person(
            connection,
            administration.number(connection, name, shown=str(opened)),
            dtype=opened.dtype,
            size=len(sample.embedding),
            shown=str(opened),
        )
    if pool == "mean":
        theirs = theirs.mean(axis=0, keepdims=True)
        theirs /= np.maximum(np.linalg.norm(theirs), 1e-12)
    similarity = float((theirs @ sample.embedding).max())
    same = similarity >= limit
    return Verification(name, same, similarity, limit, sample.source, sample.number)


def identify(
    opened: Opened,
    faces: Any,
    *,
    k: int,
    threshold: float | None,
    far: float,
    fpir: float | None,
    margin: float,
    pool: Pool,
) -> Matches:
    """Who the faces are; see `Gallery.identify`.

    Args:
      opened: the gallery.
      faces: as there, and so are the others.
      k: names of each.
      threshold: a cosine.
      far: in its place.
      fpir: in place of both.
      margin: a cosine.
      pool: best or mean.
    """
    _check_pool(pool)
    samples, skipped = opened.collect(faces)
    if fpir is not None:
        far = far_of_fpir(fpir, people=len(opened))
    limit = opened.threshold(threshold, far)
    queries = np.array([sample.embedding for sample in samples])
    found = _search(opened, queries, max(k, 2), pool) if samples else []
    matches = []
    for sample, candidates in zip(samples, found, strict=True):
        best = candidates[0] if candidates else None
        name = best.name if best and best.similarity >= limit else None
        if name and len(candidates) > 1 and margin > 0:
            ahead = candidates[0].similarity - candidates[1].similarity
            name = None if ahead < margin else name
        matches.append(Match(name, tuple(candidates), limit, margin, sample.source, sample.number))
    return Matches(tuple(matches), tuple(skipped))


def _search(opened: Opened, queries: np.ndarray, k: int, pool: Pool) -> list[list[Candidate]]:
    """Of each query the k names with the largest similarities, falling."""
    with opened.lock:
        loaded = opened.refresh(pool=pool)
        if loaded is None:
            return [[] for _ in queries]
        similarities, persons = (loaded.best if pool == "best" else loaded.mean)(queries, k)
        return [
            [
                Candidate(loaded.names[person], float(value))
                for value, person in zip(values, row, strict=True)
                if person >= 0
            ]
            for values, row in zip(similarities, persons.tolist(), strict=True)
        ]


def _check_pool(pool: str) -> None:
    if pool not in ("best", "mean"):
        raise UserError(f"there is no pool {pool!r}: take best or mean")
