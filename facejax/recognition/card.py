"""What has to be known of a network to use it; it travels with the weights."""

import dataclasses
import json
import math
import pathlib
import re
from typing import Any, Literal

import numpy as np

from facejax import files
from facejax.errors import UserError
from facejax.recognition.templates import Size, height_width

Color = Literal["rgb", "bgr"]


@dataclasses.dataclass(frozen=True, eq=False)
class Card:
    """How images are made ready for a network, and what comes out.

    Attributes:
      name: for people: of the network, or of the run.
      image_size: in pixels, the side or (height, width).
      template: float32 [5, 2], where the landmarks lie; see `facejax.recognition.templates`.
      color: the order of the channels that the network takes. Crops are RGB, whatever it says.
      mean: taken off a pixel's 0 to 255; three numbers are in the network's order of channels.
      scale: times that: the network is given (x - mean) * scale.
      flip: whether the mirror image's embedding is added where nobody says otherwise.
      unit: whether embeddings are made unit vectors where nobody says otherwise.
      embedding_size: length D of an embedding.
      sha256: of the weights, 64 hexadecimal digits.
    """

    name: str
    image_size: Size
    template: np.ndarray
    color: Color
    mean: float | tuple[float, float, float]
    scale: float
    flip: bool
    unit: bool
    embedding_size: int
    sha256: str

    def __post_init__(self) -> None:
        _check(self)
        template = np.array(self.template, np.float32)
        template.setflags(write=False)
        mean = tuple(map(float, self.mean)) if isinstance(self.mean, tuple) else float(self.mean)
        for field, value in (("template", template), ("mean", mean), ("scale", float(self.scale))):
            object.__setattr__(self, field, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Card) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of a crop."""
        return (*height_width(self.image_size), 3)

    def to_json(self) -> str:
        """The card as text, from which `from_json` makes an equal one."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        # As float64, the shortest decimals of a float32 are exact.
        values["template"] = [[float(x) for x in row] for row in self.template]
        return json.dumps(values, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """The card of a text that `to_json` wrote.

        Raises:
          UserError: it is not one.
        """
        try:
            values = json.loads(text)
            return cls(
                **{
                    field.name: _of_json(field.name, values.pop(field.name))
                    for field in dataclasses.fields(cls)
                },
                **values,  # what is left is no field, and refused
            )
        except UserError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(
                f"this is no recognizer's card ({type(error).__name__}: {error}): take the one "
                "that was written with the weights"
            ) from error

    def difference(self, other: "Card") -> str | None:
        """The first field in which another card differs; None where they are equal."""
        mine, theirs = json.loads(self.to_json()), json.loads(other.to_json())
        return next((field for field, value in mine.items() if value != theirs[field]), None)

    def write(self, path: str | pathlib.Path) -> None:
        """Writes the card; beside FILE.onnx or in a run's folder it is found by `card_path`.

        Raises:
          OSError: it can't be written.
        """
        files.write(files.expand(path), self.to_json() + "\n")


def card_path(weights: str | pathlib.Path) -> pathlib.Path:
    """Where a card lies: FILE.card.json beside FILE.onnx, card.json in a folder.

    Args:
      weights: a file, or a run's folder.
    """
    path = files.expand(weights)
    return path / "card.json" if path.is_dir() else path.with_suffix(".card.json")


def read_card(path: str | pathlib.Path) -> Card:
    """Reads a card.

    Args:
      path: of the JSON file.

    Raises:
      UserError: it can't be read, or is none.
    """
    try:
        return Card.from_json(files.expand(path).read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"the card {path} can't be read ({error.strerror}): give one that can"
        ) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except UnicodeDecodeError:
        raise UserError(
            f"the card {path} is no text in UTF-8: take the one that was written with the weights"
        ) from None


def _of_json(name: str, value: Any) -> Any:
    if name in ("image_size", "mean") and isinstance(value, list):
        return tuple(value)
    return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(card: Card) -> None:
    """Refuses what no network takes."""
    size = card.image_size
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 4096 for side in sides):
        raise UserError(
            f"image_size is {size!r}: give a side or (height, width) of 1 to 4096 pixels"
        )
    try:
        template = np.asarray(card.template, np.float64)
    except (ValueError, TypeError):
        template = np.zeros(0)
    if template.shape != (5, 2) or not np.isfinite(template).all():
        raise UserError("the template is not five points: give x, y in pixels for each of them")
    if card.color not in ("rgb", "bgr"):
        raise UserError(f"color is {card.color!r}: choose rgb or bgr")
    means = card.mean if isinstance(card.mean, tuple) else (card.mean,)
    if len(means) not in (1, 3) or not all(map(_number, means)):
        raise UserError(f"mean is {card.mean!r}: give one number or three, of pixels of 0 to 255")
    if not _number(card.scale) or card.scale <= 0:
        raise UserError(
            f"scale is {card.scale!r}: give the number above 0 that pixels are multiplied by"
        )
    if type(card.flip) is not bool or type(card.unit) is not bool:
        raise UserError(f"flip is {card.flip!r} and unit {card.unit!r}: give true or false")
    if type(card.embedding_size) is not int or card.embedding_size < 1:
        raise UserError(f"embedding_size is {card.embedding_size!r}: give a whole number above 0")
    if not isinstance(card.name, str) or not card.name:
        raise UserError(f"the name is {card.name!r}: give a text")
    if not isinstance(card.sha256, str) or not re.fullmatch("[0-9a-f]{64}", card.sha256):
        raise UserError(f"sha256 is {card.sha256!r}: give the 64 hexadecimal digits of the weights")
