"""What a gallery answers: who it is, whether it is so, and what it would not enroll."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple


class Candidate(NamedTuple):
    """A name and its similarity, a cosine."""

    name: str
    similarity: float


class Refusal(NamedTuple):
    """What was left out, and why."""

    source: str  # the photo's, or empty
    number: int  # of the face in it, from the left; -1 of a whole photo
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        face = f", face {self.number}" if self.number >= 0 else ""
        where = f"{self.source or 'embedding'}{face}: "
        return where + "; ".join(self.reasons)


@dataclasses.dataclass(frozen=True)
class Match:
    """Who a face is.

    Attributes:
      name: None is unknown: nobody reaches the threshold, or the two best names are too close.
      candidates: the most similar names, falling.
      threshold: the cosine that was asked for.
      margin: what the best name had to be ahead of the second one.
      source: the photo's, or empty.
      number: of the face in it, from the left; of plain embeddings, the row.
    """

    name: str | None
    candidates: tuple[Candidate, ...]
    threshold: float
    margin: float
    source: str
    number: int

    @property
    def similarity(self) -> float | None:
        """Of the most similar name, known or not; None in an empty gallery."""
        return self.candidates[0].similarity if self.candidates else None

    @property
    def second(self) -> Candidate | None:
        """The second most similar name; None where there is none."""
        return self.candidates[1] if len(self.candidates) > 1 else None

    def __str__(self) -> str:
        said = self.name or "unknown"
        if self.similarity is not None:
            said += f" {self.similarity:.2f}"
        asked = f"threshold {self.threshold:.2f}"
        if self.name is None and self.second and self.similarity >= self.threshold:  # type: ignore[operator]
            first, second = self.candidates[:2]
            asked += f", {first.name} and {second.name} within {self.margin:.2f}"
        return f"{said} ({asked})"


@dataclasses.dataclass(frozen=True)
class Matches:
    """Who the faces are, in their order: a sequence of `Match`.

    Attributes:
      all: of each face.
      skipped: (source, reason) of each photo that could not be read.
    """

    all: tuple[Match, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Match]:
        return iter(self.all)

    def __getitem__(self, number: int) -> Match:
        return self.all[number]

    def __str__(self) -> str:
        return ", ".join(map(str, self.all))


@dataclasses.dataclass(frozen=True)
class Verification:
    """Whether a face is who it is said to be; false in a condition where it isn't.

    Attributes:
      name: who it is said to be.
      same: whether the similarity reaches the threshold.
      similarity: the cosine.
      threshold: the cosine that was asked for.
      source: the photo's, or empty.
      number: of the face in it, from the left.
    """

    name: str
    same: bool
    similarity: float
    threshold: float
    source: str
    number: int

    def __bool__(self) -> bool:
        return self.same

    def __str__(self) -> str:
        said = self.name if self.same else f"not {self.name}"
        return f"{said} {self.similarity:.2f} (threshold {self.threshold:.2f})"


@dataclasses.dataclass(frozen=True)
class Enrollment:
    """What was enrolled; it is on the disk.

    Attributes:
      name: as it is kept.
      templates: their numbers; of an embedding that the person had before, that one's.
      refused: what was left out.
    """

    name: str
    templates: tuple[int, ...]
    refused: tuple[Refusal, ...]

    def __str__(self) -> str:
        left_out = "".join(f"; left out: {one}" for one in self.refused)
        return f"{self.name}: {len(self.templates)} enrolled{left_out}"
