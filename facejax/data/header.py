"""What an image's header says of its size, before anything is decoded: a few bytes may be huge."""

import re
import struct
from collections.abc import Callable

_PNM = re.compile(rb"P[2356]" + 2 * rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})" + rb"[\s#]")
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # of JPEG's markers C0 to CF
_BARE = (0x01, *range(0xD0, 0xD9))  # those without a length
_TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}  # by the type of an entry


def size(data: bytes) -> tuple[int, int] | None:
    """How large an image says that it is.

    Args:
      data: of an encoded image, of one of the formats of `facejax.data.IMAGE_SUFFIXES`.

    Returns:
      (height, width) in pixels as they are stored; None where no header of those is found.
    """
    read = next((read for start, read in _FORMATS if data.startswith(start)), _avif)
    try:
        found = read(data)
    except (struct.error, IndexError):  # it ends before that
        return None
    return None if found is None else (found[1], found[0])


# Each gives (width, height), None where there is none, or raises `struct.error` or `IndexError`.


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:  # as libjpeg, which passes over what is between
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if marker == 0xDA:  # pixels follow
            return None
        if marker and marker not in _BARE:
            at += struct.unpack_from(">H", data, at)[0]
    return None


def _png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    (length,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return abs(width), abs(height)  # of a negative height the first row is the uppermost


def _webp(data: bytes) -> tuple[int, int] | None:
    form = data[12:16]
    if form == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(data: bytes) -> tuple[int, int] | None:
    order = "<" if data[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version not in (42, 43):
        return None
    big = version == 43  # BigTIFF
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    first, length, value = (at + 8, 20, 12) if big else (at + 2, 12, 8)
    sides = {}
    for entry in range(first, min(first + count * length, len(data)), length):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257) and kind in _TIFF_NUMBERS:
            (sides[tag],) = struct.unpack_from(order + _TIFF_NUMBERS[kind], data, entry + value)
    return (sides[256], sides[257]) if len(sides) == 2 else None


def _pnm(data: bytes) -> tuple[int, int] | None:
    found = _PNM.match(data)
    return None if found is None else (int(found[1]), int(found[2]))


def _jpeg_2000(data: bytes) -> tuple[int, int]:
    height, width = _box(data, b"ihdr", 0)
    return width, height


def _avif(data: bytes) -> tuple[int, int] | None:
    return _box(data, b"ispe", 4) if data[4:8] == b"ftyp" else None


def _box(data: bytes, name: bytes, skipped: int) -> tuple[int, int]:
    """The two largest numbers behind the boxes of a name, of which a file may have several."""
    sides = [
        struct.unpack_from(">II", data, place.end() + skipped) for place in re.finditer(name, data)
    ]
    return max(sides, key=lambda pair: pair[0] * pair[1], default=(0, 0))


_FORMATS: tuple[tuple[bytes, Callable[[bytes], tuple[int, int] | None]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF8", _gif),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    (b"II", _tiff),
    (b"MM", _tiff),
    (b"P", _pnm),
    (b"\0\0\0\x0cjP  ", _jpeg_2000),
)
