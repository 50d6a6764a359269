"""The protobuf wire format, as far as it takes to read an ONNX file.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class DamagedError(ValueError):
    """The bytes are not what they should be."""


def varint(data: memoryview, start: int) -> tuple[int, int]:
    """An unsigned number of up to 64 bits, and where the next byte is.

    Args:
      data: bytes.
      start: its first.

    Raises:
      DamagedError: there is none.
    """
    value = 0
    for index in range(start, min(start + 10, len(data))):
        value |= (data[index] & 0x7F) << (7 * (index - start))
        if data[index] < 0x80:
            return value & (2**64 - 1), index + 1
    raise DamagedError("a number has no end")


def signed(value: int) -> int:
    """The same 64 bits as an int64."""
    return value - 2**64 if value >= 2**63 else value


def fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """The fields of a message: (number, wire type, value), a number or the bytes.

    Args:
      data: of the message.

    Raises:
      DamagedError: it is cut off, or has a type that the format has not.
    """
    position = 0
    while position < len(data):
        key, position = varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = varint(data, position)
            yield number, kind, value
            continue
        if kind == BYTES:
            length, position = varint(data, position)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise DamagedError(f"a field has the unknown type {kind}")
        if length > len(data) - position:
            raise DamagedError("a field is longer than its message")
        yield number, kind, data[position : position + length]
        position += length


def packed(value: int | memoryview) -> Iterator[int]:
    """The numbers of a repeated field, which come one by one or all together.

    Args:
      value: of the field.

    Raises:
      DamagedError: the last is cut off.
    """
    if isinstance(value, int):
        yield value
        return
    position = 0
    while position < len(value):
        number, position = varint(value, position)
        yield number
