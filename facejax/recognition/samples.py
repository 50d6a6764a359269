"""What a gallery is given (photos, faces, plain embeddings) as rows of one kind."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from facejax.errors import UserError
from facejax.recognition.matches import Refusal

# A face -> what speaks against it, in words; nothing is in its favor.
Check = Callable[[Any], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Sample:
    """A face's embedding, of unit length, and where it comes from."""

    embedding: np.ndarray  # float32 [D]
    source: str
    number: int
    face: Any  # with box, landmarks, score and quality; None of a plain embedding


def default_check(face: Any) -> Sequence[str]:
    """Too small, blurred, turned too far: the reasons of `facejax.recognition.quality`.

    Args:
      face: with a `quality`, which may be None: then there are none.
    """
    if face.quality is None:
        return []
    from facejax.recognition.quality import reasons  # here: plain embeddings do without

    return reasons(face.quality)


def collect(
    given: Any, find: Callable[[list[Any]], Any]
) -> tuple[list[Sample], list[tuple[str, str]]]:
    """Samples of whatever was given, in its order.

    Args:
      given: a photo (a path, encoded bytes, or uint8 [H, W, 3]), a face (what has an `embedding`),
        embeddings (float [D] or [N, D]), or a sequence of such.
      find: photos -> `Faces`.

    Returns:
      samples: of the faces.
      skipped: (source, reason) of the photos without one.

    Raises:
      UserError: an embedding is no vector of finite numbers, or zero.
    """
    skipped = _without_faces(given)
    if isinstance(given, str | os.PathLike | bytes) or hasattr(given, "embedding"):
        given = [given]
    elif isinstance(given, np.ndarray) or hasattr(given, "__array__"):
        array = np.asarray(given)
        given = (
            [array] if array.ndim == 1 or (array.dtype == np.uint8 and array.ndim == 3) else array
        )
        if not isinstance(given, list) and array.ndim != 2:
            raise UserError(
                f"embeddings are an array [D] or [N, D], and this one is {list(array.shape)}: give "
                "one row a face"
            )
    samples: list[Sample] = []
    photos: list[Any] = []
    for number, item in enumerate(given):
        if isinstance(item, str | os.PathLike | bytes) or getattr(item, "ndim", 0) == 3:
            photos.append(item)
        elif hasattr(item, "embedding"):
            samples.append(Sample(_unit(item.embedding), item.source, item.number, item))
        else:
            samples.append(Sample(_unit(item), "", number, None))
    if photos:
        found = find(photos)
        skipped += _without_faces(found)
        samples += [Sample(_unit(one.embedding), one.source, one.number, one) for one in found]
    return samples, skipped


def one_a_photo(samples: list[Sample], face: int | None) -> tuple[list[Sample], list[Refusal]]:
    """Leaves one face of each photo, for nobody is in a photo twice.

    Args:
      samples: those of one person.
      face: which of a photo's faces, counted from the left; None wants only one to be there.

    Returns:
      samples: of which one is asked for.
      refused: the others.
    """
    faces: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.face is not None and sample.source:
            faces.setdefault(sample.source, []).append(sample)
    kept, refused, told = [], [], set()
    for sample in samples:
        among = faces.get(sample.source, [sample]) if sample.face is not None else [sample]
        numbers = list(dict.fromkeys(one.number for one in among))  # a photo may be given twice
        if (face is None and len(numbers) == 1) or (face is not None and sample.number == face):
            kept.append(sample)
        elif face is None and sample.source not in told:
            told.add(sample.source)
            listed = ", ".join(map(str, numbers))
            reason = f"there are {len(numbers)} faces in it: say which, face={listed} from the left"
            refused.append(Refusal(sample.source, -1, (reason,)))
        elif face is not None and face not in numbers and sample.source not in told:
            told.add(sample.source)
            reason = f"there is no face {face} in it, only {', '.join(map(str, numbers))}"
            refused.append(Refusal(sample.source, -1, (reason,)))
    return kept, refused


def _without_faces(faces: Any) -> list[tuple[str, str]]:
    """The photos of `Faces` that gave none, and why."""
    empty = [
        (photo.source, "there is no face in it")
        for photo in getattr(faces, "photos", ())
        if not photo.faces and not photo.skipped
    ]
    return list(getattr(faces, "skipped", ())) + empty


def _unit(embedding: Any) -> np.ndarray:
    """float32 [D] of unit length."""
    row = np.asarray(embedding, np.float64)
    if row.ndim != 1 or not row.size:
        raise UserError(f"an embedding is a row [D], and this one is {list(row.shape)}: give that")
    length = np.linalg.norm(row)
    if not np.isfinite(length) or length == 0:
        raise UserError(
            "an embedding is zero or not finite, which no face has: look at what made it"
        )
    if abs(length - 1) > 1e-6:  # else bit for bit what it was
        row = row / length
    return row.astype(np.float32)
