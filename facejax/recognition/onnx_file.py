"""The weights of an ONNX file, without the `onnx` package; those in int8 blocks become float32.

The messages and their field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import math
import pathlib
from typing import NamedTuple

import numpy as np

from facejax.errors import UserError
from facejax.recognition.wire import DamagedError, fields, packed, signed

# TensorProto.DataType, and the field that has the numbers where `raw_data` has not. Others, such
# as texts and the narrowest floats, are passed over.
_TYPES = {
    1: (np.float32, 4),
    2: (np.uint8, 5),
    3: (np.int8, 5),
    4: (np.uint16, 5),
    5: (np.int16, 5),
    6: (np.int32, 5),
    7: (np.int64, 7),
    9: (np.bool_, 5),
    10: (np.float16, 5),
    11: (np.float64, 10),
    12: (np.uint32, 11),
    13: (np.uint64, 11),
}
_RAW, _EXTERNAL = 9, 14
_MOST_DIMENSIONS = 8


class _Node(NamedTuple):
    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, int]


def read_tensors(content: bytes, path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The constant tensors of a model, by name.

    Args:
      content: of the file.
      path: of the file, for what is said of it.

    Returns:
      The initializers, and what DequantizeLinear (float32, whole or in blocks) and Reshape make of
      them.

    Raises:
      UserError: it is no ONNX file, is damaged, or has its weights in another file.
    """
    try:
        graphs = [
            _message(value) for number, _, value in fields(memoryview(content)) if number == 7
        ]
        if len(graphs) != 1:
            raise DamagedError("it has no graph")
        tensors: dict[str, np.ndarray] = {}
        nodes = []
        for number, _, value in fields(graphs[0]):
            if number == 1:
                nodes.append(_node(_message(value)))
            elif number == 5:
                name, tensor = _tensor(_message(value))
                if tensor is not None:
                    tensors[name] = tensor
        _compute(nodes, tensors, most=len(content))
    except (DamagedError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} can't be read as an ONNX file ({error}): get it anew, or give another"
        ) from error
    return tensors


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise DamagedError("there is a number where a message should be")
    return value


def _text(value: int | memoryview) -> str:
    return str(_message(value), "utf-8")


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise DamagedError("there are bytes where a number should be")
    return signed(value)


def _node(message: memoryview) -> _Node:
    node = _Node("", [], [], {})
    for number, _, value in fields(message):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 4:
            node = node._replace(kind=_text(value))
        elif number == 5:
            name, integer = "", None
            for inner, _, part in fields(_message(value)):
                if inner == 1:
                    name = _text(part)
                elif inner == 3:
                    integer = _number(part)
            if integer is not None:
                node.attributes[name] = integer
    return node


def _tensor(message: memoryview) -> tuple[str, np.ndarray | None]:
    """Name and values; None where its type is none of ours."""
    name, kind, raw = "", 0, None
    shape: list[int] = []
    parts: dict[int, list[int | memoryview]] = {}
    for number, _, value in fields(message):
        if number == 1:
            shape += map(signed, packed(value))
        elif number == 2:
            kind = _number(value)
        elif number == 8:
            name = _text(value)
        elif number == _RAW:
            raw = _message(value)
        elif number == _EXTERNAL and value == 1:
            raise DamagedError("its weights are in another file")
        else:
            parts.setdefault(number, []).append(value)
    if kind not in _TYPES:
        return name, None
    if len(shape) > _MOST_DIMENSIONS or min(shape, default=0) < 0:
        raise DamagedError("a tensor has an impossible shape")
    dtype, field = _TYPES[kind]
    array = _of_raw(raw, dtype) if raw is not None else _of_parts(parts.get(field, []), dtype)
    if array.size != math.prod(shape):
        raise DamagedError("a tensor has not as many numbers as its shape says")
    return name, array.reshape(shape)


def _of_raw(raw: memoryview, dtype: type) -> np.ndarray:
    little = np.dtype(dtype).newbyteorder("<")
    if len(raw) % little.itemsize:
        raise DamagedError("a tensor ends within a number")
    return np.frombuffer(raw, little)


def _of_parts(parts: list[int | memoryview], dtype: type) -> np.ndarray:
    """Of floats the bytes, of integers varints; float16 is written as the integer of its bits."""
    if dtype in (np.float32, np.float64):
        return _of_raw(memoryview(b"".join(map(_message, parts))), dtype)
    integers = [number for part in parts for number in packed(part)]
    bits = np.array([n & 0xFFFF_FFFF_FFFF_FFFF for n in integers], np.uint64)
    if dtype == np.bool_:
        return bits != 0
    width = np.dtype(dtype).itemsize
    return bits.astype(f"u{width}").view(dtype)  # the lowest bytes: negative ones come in 64 bits


def _compute(nodes: list[_Node], tensors: dict[str, np.ndarray], *, most: int) -> None:
    """Adds what comes of constant tensors alone; no more numbers than the file has bytes."""
    made = 0
    for node in nodes:  # in an order in which they can be computed, as ONNX demands
        given = [tensors.get(name) for name in node.inputs if name]
        if not node.outputs or any(tensor is None for tensor in given):
            continue
        known = [tensor for tensor in given if tensor is not None]
        if node.kind == "DequantizeLinear" and len(known) in (2, 3):
            made += known[0].size
            if made > most:
                raise DamagedError("it makes more weights than it has room for")
            axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
            tensors[node.outputs[0]] = _dequantize(*known, axis=axis, block=block)
        elif node.kind == "Reshape" and len(known) == 2:
            shape = known[1]
            if shape.dtype != np.int64 or shape.ndim != 1 or shape.size > _MOST_DIMENSIONS:
                raise DamagedError("a Reshape has an impossible shape")
            tensors[node.outputs[0]] = _reshape(known[0], shape.tolist())


def _reshape(tensor: np.ndarray, shape: list[int]) -> np.ndarray:
    if 0 in shape or shape.count(-1) > 1 or min(shape, default=1) < -1:
        raise DamagedError("a Reshape has an impossible shape")
    rest = math.prod(side for side in shape if side != -1)
    if tensor.size % rest or (-1 not in shape and tensor.size != rest):
        raise DamagedError("a Reshape changes the number of weights")
    return tensor.reshape(shape)


def _dequantize(
    quantized: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray | None = None,
    *,
    axis: int,
    block: int,
) -> np.ndarray:
    """(quantized - zero) * scale: one pair for all, one an index along an axis, or one a block."""
    if quantized.dtype not in (np.int8, np.uint8, np.int16, np.uint16, np.int32):
        raise DamagedError("weights that are no integers are to be dequantized")
    zero = np.zeros(scale.shape, quantized.dtype) if zero is None else zero
    if scale.dtype != np.float32 or zero.dtype != quantized.dtype or zero.shape != scale.shape:
        raise DamagedError("a scale does not go with its weights")
    difference = np.subtract(
        quantized, _spread(zero, quantized.shape, axis=axis, block=block), dtype=np.float32
    )
    with np.errstate(all="ignore"):  # a damaged scale may be anything
        difference *= _spread(scale, quantized.shape, axis=axis, block=block)
    return difference


def _spread(given: np.ndarray, shape: tuple[int, ...], *, axis: int, block: int) -> np.ndarray:
    """What is given for all, an index along the axis, or a block, against arrays of that shape."""
    if given.size == 1 and block == 0:
        return given.reshape(())
    if not -len(shape) <= axis < len(shape) or block < 0:
        raise DamagedError("a scale does not go with its weights")
    axis %= len(shape)
    before, length, behind = shape[:axis], shape[axis], shape[axis + 1 :]
    block = min(block, max(length, 1))
    if given.shape != ((*before, -(-length // block), *behind) if block else (length,)):
        raise DamagedError("there are not as many scales as blocks of weights")
    if block == 0:
        return given.reshape(length, *(1 for _ in behind))
    repeated = np.repeat(given, block, axis)
    return repeated[(*(slice(None) for _ in before), slice(length))]
