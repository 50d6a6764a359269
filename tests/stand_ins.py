"""Photographs of patterns in place of faces, and what finds and embeds them: no weights."""

import dataclasses
import json
import pathlib

import cv2
import numpy as np

from facejax.recognition.detection import Detection
from facejax.recognition.templates import ARCFACE
from tests.pictures import encode

SIDE = 64  # of a face, in pixels
_CROP = SIDE


def pattern(person: int, number: int = 0, side: int = SIDE) -> np.ndarray:
    """A person's checks uint8 [side, side, 3], a little other in each photo."""
    checks = np.random.default_rng([5, person]).integers(20, 236, (4, 4, 3))
    other = np.random.default_rng([6, person, number]).integers(-20, 21, (4, 4, 3))
    checks = np.clip(checks + other, 0, 255).astype(np.uint8)
    return cv2.resize(checks, (side, side), interpolation=cv2.INTER_NEAREST)


def photo(*people: int, number: int = 0, side: int = SIDE) -> np.ndarray:
    """Faces side by side on grey; the first pixels say how many and how large."""
    picture = np.full((side + 40, 40 + (side + 20) * max(len(people), 1), 3), 127, np.uint8)
    picture[0, 0] = len(people), side, 0
    for place, person in enumerate(people):
        left = 20 + place * (side + 20)
        picture[20 : 20 + side, left : left + side] = pattern(person, number, side)
    return picture


def save(path: pathlib.Path, picture: np.ndarray) -> str:
    """Writes a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(picture, ".png"))
    return str(path)


def detector(picture: np.ndarray) -> Detection:
    """The faces of `photo`."""
    count, side = int(picture[0, 0, 0]), int(picture[0, 0, 1])
    corners = np.array([[20 + n * (side + 20), 20] for n in range(count)], np.float32)
    corners = corners.reshape(-1, 2)
    return Detection(
        np.column_stack([corners, np.full((count, 2), side)]).astype(np.float32),
        (corners[:, None] + ARCFACE * (side / 112)).astype(np.float32),
        np.full(count, 0.9, np.float32),
    )


@dataclasses.dataclass(frozen=True)
class Card:
    name: str = "checks"
    sha256: str = "a" * 64
    embedding_size: int = 48
    image_size = _CROP
    shape = (_CROP, _CROP, 3)
    template = ARCFACE * (_CROP / 112)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Recognizer:
    """Embeds by the colors of the checks."""

    card: Card = Card()
    thresholds: tuple = ()
    embedding_size: int = 48

    def embed(self, crops: np.ndarray) -> np.ndarray:
        assert crops.shape[1:] == (_CROP, _CROP, 3)
        assert len(crops) <= 32  # of many, a batch at a time
        part = _CROP // 4
        means = crops.reshape(len(crops), 4, part, 4, part, 3).mean(axis=(2, 4), dtype=np.float32)
        rows = means.reshape(len(crops), -1) - np.float32(127.3)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
