"""The .dat file of dlib's face-recognition network: its layers and their weights.

As dlib serializes (http://dlib.net/dlib/serialize.h.html), a whole number is a control byte (bit 7:
negative, bits 0-3: how many bytes follow) and its magnitude, lowest byte first; a float is two of
them, m 2^e; a truth value is `0` or `1`; a text is its length and its bytes; a tensor is 2, four
sides, and float32s, lowest byte first; an alias of a part of one is 1 and four sides.
"""

import math
import pathlib
from typing import NamedTuple

import numpy as np

from facejax.errors import UserError
from facejax.recognition.wire import DamagedError

# What follows a layer's name: i a whole number, f a float, t a tensor, a an alias.
_LAYERS = {
    "con_4": "tiiiiiiiaaffff",
    "affine_": "taai",
    "relu_": "",
    "add_prev_": "",
    "max_pool_2": "iiiiii",
    "avg_pool_2": "iiiiii",
    "fc_2": "iitaaiffff",
}
MEAN = (122.782, 117.001, 104.298)  # taken off the pixels, red, green, blue
_VERSIONS = 130  # of the layers, tags and skips, outermost first


class Layer(NamedTuple):
    """One layer.

    Attributes:
      kind: dlib's name.
      numbers: its whole numbers, in order.
      weights: float32, flat; empty where it has none.
    """

    kind: str
    numbers: tuple[int, ...]
    weights: np.ndarray


class _Cursor:
    """Where in the file we are."""

    def __init__(self, content: bytes):
        self.content = memoryview(content)
        self.position = 0

    def take(self, count: int) -> memoryview:
        if count > len(self.content) - self.position:
            raise DamagedError("it ends too early")
        self.position += count
        return self.content[self.position - count : self.position]

    def integer(self) -> int:
        control = self.take(1)[0]
        count = control & 0x0F
        if control & 0x70 or not 1 <= count <= 8:
            raise DamagedError("a number is none")
        magnitude = int.from_bytes(self.take(count), "little")
        return -magnitude if control & 0x80 else magnitude

    def decimal(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if not -1100 <= exponent <= 1000:
            raise DamagedError("a number is none")
        return math.ldexp(mantissa, exponent)

    def text(self) -> str:
        length = self.integer()
        if not 0 <= length <= 64:
            raise DamagedError("a name is none")
        return bytes(self.take(length)).decode("ascii", "replace")

    def sides(self, version: int) -> tuple[int, ...]:
        if self.integer() != version:
            raise DamagedError("a tensor is of another version")
        sides = tuple(self.integer() for _ in range(4))
        if min(sides) < 0:
            raise DamagedError("a tensor has an impossible shape")
        return sides

    def tensor(self) -> np.ndarray:
        raw = self.take(4 * math.prod(self.sides(version=2)))
        return np.frombuffer(raw, "<f4")

    def expect(self, name: str) -> None:
        found = self.text()
        if found != name:
            raise DamagedError(f"{name} should be there, and not {found!r}")


def read_layers(content: bytes, path: str | pathlib.Path) -> list[Layer]:
    """The layers of the network, from the image upwards.

    Args:
      content: of the file.
      path: of the file, for what is said of it.

    Raises:
      UserError: it is not such a file, or damaged.
    """
    try:
        return _layers(_Cursor(content))
    except DamagedError as error:
        raise UserError(
            f"{path} can't be read as dlib's face-recognition network ({error}): get it anew, or "
            "give another"
        ) from error


def _layers(cursor: _Cursor) -> list[Layer]:
    if cursor.integer() != 1:
        raise DamagedError("it begins otherwise")
    cursor.expect("loss_metric_2")
    for _ in range(2):
        cursor.decimal()
    versions = [cursor.integer() for _ in range(_VERSIONS)]
    if not set(versions) <= {1, 2, 3}:
        raise DamagedError("a layer is of another version")
    cursor.expect("input_rgb_image_sized")
    mean = tuple(round(cursor.decimal(), 3) for _ in range(3))
    if mean != MEAN:
        raise DamagedError("it takes images off which another mean was taken")
    if (cursor.integer(), cursor.integer()) != (150, 150):
        raise DamagedError("it takes images of another size")
    layers: list[Layer] = []
    while cursor.position < len(cursor.content):
        layers.append(_layer(cursor))
        _computed(cursor)
        if len(layers) == 1:
            cursor.integer()  # of the lowest: how many images come of one
    return layers


def _layer(cursor: _Cursor) -> Layer:
    kind = cursor.text()
    if kind not in _LAYERS:
        raise DamagedError(f"it has a layer of the unknown kind {kind!r}")
    numbers: list[int] = []
    weights = np.zeros(0, np.float32)
    for code in _LAYERS[kind]:
        if code == "i":
            numbers.append(cursor.integer())
        elif code == "f":
            cursor.decimal()
        elif code == "t":
            weights = cursor.tensor()
        else:
            cursor.sides(version=1)
    return Layer(kind, tuple(numbers), weights)


def _computed(cursor: _Cursor) -> None:
    """What a layer held while it was trained: three truth values and three tensors, now empty."""
    if not set(bytes(cursor.take(3))) <= set(b"01"):
        raise DamagedError("a truth value is none")
    for _ in range(3):
        cursor.tensor()
