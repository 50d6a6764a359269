"""Stand-ins for what finds and embeds faces: people are directions, photos are noise on them."""

import dataclasses
import json

import numpy as np

SIZE = 64


def person(seed: int, size: int = SIZE) -> np.ndarray:
    """A direction; two of them have a cosine of 0 give or take."""
    row = np.random.default_rng([7, seed]).standard_normal(size)
    return (row / np.linalg.norm(row)).astype(np.float32)


def photo(seed: int, number: int, noise: float = 0.5, size: int = SIZE) -> np.ndarray:
    """An embedding of a person, at a cosine of about 0.9 to the direction."""
    row = person(seed, size) + noise * person(1000 + 97 * seed + number, size)
    return (row / np.linalg.norm(row)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Quality:
    size: float
    blurred: bool = False


@dataclasses.dataclass(frozen=True)
class Face:
    source: str
    number: int
    embedding: np.ndarray
    quality: Quality | None = None
    score: float = 0.9
    box: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(4, dtype=np.float32))
    landmarks: np.ndarray = dataclasses.field(default_factory=lambda: np.ones((5, 2), np.float32))
    crop: None = None


@dataclasses.dataclass(frozen=True)
class PhotoFaces:
    source: str
    faces: tuple[Face, ...] = ()
    skipped: str = ""


@dataclasses.dataclass(frozen=True)
class Faces:
    photos: list[PhotoFaces]

    @property
    def skipped(self):
        return [(photo.source, photo.skipped) for photo in self.photos if photo.skipped]

    def __iter__(self):
        return (face for photo in self.photos for face in photo.faces)


@dataclasses.dataclass(frozen=True)
class Card:
    name: str = "toy"
    embedding_size: int = SIZE
    sha256: str = "a" * 64
    unit: bool = True

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Recognizer:
    card: Card = Card()
    thresholds: tuple = ()
