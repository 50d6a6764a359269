"""Image files: which names are images, how they are read, and how they become uint8 RGB."""

import pathlib
import re
from collections.abc import Callable

import cv2
import numpy as np

from facejax.data import header
from facejax.data.stderr import heard
from facejax.errors import UserError

# OpenCV prints lines of its own for a damaged image; `decode` says it once, with the name.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
_set_log_level(0)  # OpenCV 4 has the one, OpenCV 5 the other

# Which of the later ones OpenCV reads depends on its version and on how it was built.
_ALWAYS = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".pnm")
_SOMETIMES = (".tif", ".tiff", ".gif", ".avif", ".jp2")

# In lower case; the first of them is taken where a name without one fits several files.
IMAGE_SUFFIXES = _ALWAYS + tuple(s for s in _SOMETIMES if cv2.haveImageWriter(f"image{s}"))

# What file managers, archivers and servers leave beside the files they are given.
_HIDDEN = (
    *("__macosx", "network trash folder", "temporary items"),
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "lost+found"),
    *("$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"),
)

MAX_PIXELS = 200_000_000  # 600 MB once decoded; the largest sensors of phones have as many
BACKGROUND = 127  # the grey behind transparent pixels

_LIBRARY_LINES = (
    "Corrupt JPEG",
    "Premature end of JPEG",
    "Inconsistent progression",
    "Invalid SOS",
    "Unsupported marker",
    "Warning: unknown JFIF",
    "libpng",
)
_DAMAGE = ("Corrupt JPEG", "Premature end of JPEG", "Inconsistent progression", "libpng error")
_PART = 1 << 20  # numbers
_JPEG = b"\xff\xd8\xff"
_NOT_AN_IMAGE = "does not decode as an image"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: `.name`, or left by a system.

    Args:
      name: of the file or folder, without what it is in.
    """
    return name.startswith(".") or name.lower() in _HIDDEN


def is_image(name: str) -> bool:
    """Whether a file is an image by its name: one of `IMAGE_SUFFIXES`, and not hidden.

    Args:
      name: of the file, without its folder.
    """
    return name.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(name)


def read_file(path: pathlib.Path, name: str | None = None) -> bytes:
    """The bytes of an image file.

    Args:
      path: of the file.
      name: what to call it in the message; the path, if it is None.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path if name is None else name} cannot be read ({error.strerror}): mend the file "
            "or who may read it, or remove it."
        ) from error


def damage(image: bytes | np.ndarray) -> str:
    """What is wrong with an image: a clause to stand behind its name, "" if it is whole.

    Args:
      image: as in `decode`.
    """
    return "" if isinstance(image, np.ndarray) else _decoded(image, listen=True)[1]


def decode(
    image: bytes | np.ndarray,
    image_size: int | None,
    name: str = "an image",
    *,
    whole: bool = False,
) -> np.ndarray:
    """Decodes an image to RGB and resizes it to a square.

    Of more than 200 million pixels (`MAX_PIXELS`), by its header, an image is not decoded at all.
    Images of 16 bits, and PGM and PPM of any maximum, are scaled to 0 to 255; what is transparent
    shows grey, 127. Of several frames the first is taken.

    Args:
      image: an encoded image, or uint8 [H, W, 3] RGB.
      image_size: side of the result in pixels, or None to keep the size it has. Shrinking averages
        over areas, enlarging interpolates linearly; the aspect ratio is not kept.
      name: what to call the image in the message.
      whole: it is known to be whole, by `damage` or an earlier call. Otherwise it is found out
        from what libjpeg and libpng print; a thread that has a damaged one holds up the others.

    Returns:
      uint8 [image_size, image_size, 3] RGB; a view of `image` where nothing is to be done.

    Raises:
      UserError: the bytes are not an image that OpenCV can decode, not a whole one, or too large.
      ValueError: an array is not uint8 [H, W, 3].
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"{name} must be uint8 [H, W, 3], not {image.dtype} of shape {image.shape}"
            )
        pixels = image
    else:
        decoded, reason = _decoded(image, listen=not whole)
        if decoded is None or reason:
            raise UserError(f"{name} {reason}: replace the file or remove it.")
        pixels = decoded
    if image_size is None or pixels.shape[:2] == (image_size, image_size):
        return pixels
    shrink = max(pixels.shape[:2]) > image_size
    interpolation = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return cv2.resize(pixels, (image_size, image_size), interpolation=interpolation)


def _decoded(data: bytes, *, listen: bool) -> tuple[np.ndarray | None, str]:
    """uint8 [H, W, 3] RGB, and what is wrong: "" if nothing is."""
    # What is known to be whole was decoded before.
    if not listen and data.startswith(_JPEG):  # most images of a run: straight to the pixels
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:
            pixels = None
        return pixels, _NOT_AN_IMAGE if pixels is None else ""
    height, width = (header.size(data) if listen else None) or (0, 0)
    if height * width > MAX_PIXELS:
        most = f"more than the {MAX_PIXELS / 1e6:.0f} million that are read"
        return None, f"has {width}x{height} pixels, {most}"
    kind = _kind(data)
    said: list[str] = []
    try:
        if kind == "pnm":
            pixels = _decode_pnm(data)
        elif listen and kind in ("jpeg", "png"):
            pixels, said = heard(lambda: _decode_any(data, kind), *_LIBRARY_LINES)
        else:
            pixels = _decode_any(data, kind)
    except cv2.error:
        pixels = None
    if pixels is None:
        return None, _NOT_AN_IMAGE
    if pixels.dtype != np.uint8:
        return None, f"has pixels of type {pixels.dtype}, not of 8 or 16 bits"
    complaint = next((line for line in said if line.startswith(_DAMAGE)), "")
    if not complaint and kind in ("jpeg", "webp", "jp2") and _ends_in_zeros(data):
        complaint = "its end is all zeros"
    return pixels, f"is damaged ({complaint})" if complaint else ""


def _kind(data: bytes) -> str:
    """The format, told by the first bytes; "" for those that need no care."""
    if re.match(rb"P[2356]\s", data):
        return "pnm"
    for kind, start in (
        ("jpeg", _JPEG),
        ("png", b"\x89PNG\r\n\x1a\n"),
        ("gif", b"GIF8"),
        ("tiff", b"II*\0"),
        ("tiff", b"MM\0*"),
        ("jp2", b"\0\0\0\x0cjP  "),
    ):
        if data.startswith(start):
            return kind
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return "avif" if data[4:8] == b"ftyp" else ""


def _decode_any(data: bytes, kind: str) -> np.ndarray | None:
    """What OpenCV makes of an image: [H, W, 3] RGB, None where it can make nothing of it."""
    encoded = np.frombuffer(data, np.uint8)
    if not encoded.size:  # imdecode raises
        return None
    deep = kind in ("png", "tiff")  # of others OpenCV gives 8 bits, scaled
    if _may_be_transparent(data, kind):
        layers = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if (
            layers is not None
            and layers.ndim == 3
            and layers.shape[2] == 4
            and (deep or layers.dtype == np.uint8)
        ):
            layers = _eight_bits(layers)
            return _composed(layers[..., 2::-1], layers[..., 3:], premultiplied=kind == "tiff")
    flags = cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_ANYDEPTH if deep else 0)
    pixels = cv2.imdecode(encoded, flags)
    return None if pixels is None else _eight_bits(pixels)


def _may_be_transparent(data: bytes, kind: str) -> bool:
    """False where the header rules it out, so that most images are decoded once only."""
    if kind == "png":
        return data[25:26] in (b"\4", b"\6") or b"tRNS" in data[: data.find(b"IDAT")]
    if kind == "webp":  # the extended form has a flag, the lossless one a bit, the lossy one none
        flags = int.from_bytes(data[20:21], "big")
        return (data[12:16] == b"VP8X" and bool(flags & 16)) or data[12:16] == b"VP8L"
    return kind in ("gif", "tiff", "avif", "jp2")


def _eight_bits(pixels: np.ndarray, maximum: int = 65535) -> np.ndarray:
    if pixels.dtype != np.uint16:
        return pixels

    def scaled(values: np.ndarray) -> np.ndarray:
        return (values.astype(np.uint32) * 255 + maximum // 2) // maximum

    return _by_parts(scaled, pixels)


def _composed(color: np.ndarray, alpha: np.ndarray, *, premultiplied: bool) -> np.ndarray:
    """A color [H, W, 3] of opacity [H, W, 1] before the background, all of them uint8."""

    def mixed(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        weight = alpha.astype(np.uint16)
        front = color.astype(np.uint16) * (255 if premultiplied else weight)
        behind = BACKGROUND * (255 - weight)
        return np.minimum((front + behind + 127) // 255, 255)

    return _by_parts(mixed, color, alpha)


def _by_parts(
    work: Callable[..., np.ndarray], first: np.ndarray, *others: np.ndarray
) -> np.ndarray:
    """uint8 of the first one's shape, made row by row or so: what is wider in between is large."""
    done = np.empty(first.shape, np.uint8)
    rows = max(1, _PART * len(first) // max(first.size, 1))
    for start in range(0, len(first), rows):
        part = slice(start, start + rows)
        done[part] = work(first[part], *(other[part] for other in others))
    return done


def _ends_in_zeros(data: bytes) -> bool:
    """Whether there are more zeros at the end than a compressed image has by chance."""
    content = data.rstrip(b"\0")
    ended = content.endswith(b"\xff\xd9")  # of JPEG and JPEG 2000: the zeros are padding
    return not ended and len(data) - len(content) > max(64, len(data) // 16)


_PNM_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})" + rb"\s")


def _decode_pnm(data: bytes) -> np.ndarray | None:
    """A PGM or PPM [H, W, 3]; OpenCV would take any maximum for 255 or 65535."""
    header = _PNM_HEADER.match(data)
    if header is None:
        return None
    kind, width, height, maximum = map(int, header.groups())
    channels = 3 if kind in (3, 6) else 1
    count = width * height * channels
    raster = data[header.end() :]
    if kind in (5, 6):
        dtype = np.dtype(">u2" if maximum > 255 else np.uint8)
        whole = len(raster) >= count * dtype.itemsize
        values = np.frombuffer(raster, dtype, count) if whole else None
    else:
        values = _numbers(raster, count)
    if not (count and 1 <= maximum <= 65535) or values is None:
        return None
    scaled = _eight_bits(np.minimum(values, maximum).astype(np.uint16), maximum)
    return np.broadcast_to(scaled.reshape(height, width, channels), (height, width, 3)).copy()


def _numbers(text: bytes, count: int) -> np.ndarray | None:
    """The first `count` numbers of a text [count], None where there are fewer or others."""
    words = text.split(maxsplit=count)[:count]
    if len(words) < count or not all(word.isdigit() and len(word) < 10 for word in words):
        return None
    return np.array(words, np.int64)
