"""Which files are images, what they decode to, and what is said of those that are damaged."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from facejax.data import IMAGE_SUFFIXES, decode, header, is_hidden, is_image
from facejax.data.images import damage
from facejax.errors import UserError
from tests.pictures import JPEGS, encode, smooth, zero_tail


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_that_libjpeg_would_repair_is_damaged(kind, capfd):
    whole = JPEGS[kind]
    assert damage(whole) == ""
    assert damage(whole + b"\0" * 100) == "", "what follows the end marker is no part of it"
    half = len(whole) // 2
    damaged = {
        "zero tail": zero_tail(whole, b"\xff\xd9"),
        "zero tail without an end": zero_tail(whole, b""),
        "cut": whole[:half],
        "cut and ended": whole[:half] + b"\xff\xd9",
    }
    for name, data in damaged.items():
        assert damage(data), name
        with pytest.raises(UserError, match=r"^x\.jpg (is damaged|does not decode) .*remove it\.$"):
            decode(data, None, "x.jpg")
    assert capfd.readouterr() == ("", ""), "libjpeg spoke for itself"


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jp2"])
def test_other_formats_with_an_end_of_zeros_or_cut_are_damaged(suffix, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    whole = encode(noise, suffix)
    assert damage(whole) == ""
    for data in (zero_tail(whole, b""), whole[: len(whole) // 2], whole[:20], whole[:-8], b""):
        assert damage(data)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", sorted(set(IMAGE_SUFFIXES) - {".jfif"}))
def test_the_beginning_of_a_file_is_damage_however_short(suffix):
    layers = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    pixels = {".pgm": layers[..., 0], ".ppm": layers[..., :3], ".pnm": layers[..., :3]}.get(
        suffix, layers
    )
    ok, data = cv2.imencode(suffix, np.ascontiguousarray(pixels))
    assert ok
    assert damage(data.tobytes()) == ""
    for length in range(60):
        assert damage(data.tobytes()[:length])


def black_png(width: int, height: int) -> bytes:
    """One bit a pixel, packed a thousandfold."""
    packer = zlib.compressobj()
    rows = [packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)]
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
        (b"IDAT", b"".join(rows) + packer.flush()),
        (b"IEND", b""),
    ):
        data += struct.pack(">I", len(content)) + name + content
        data += struct.pack(">I", zlib.crc32(name + content))
    return data


def test_an_image_that_would_fill_the_memory_is_not_decoded(monkeypatch):
    np.testing.assert_array_equal(decode(black_png(200, 100), None), np.zeros((100, 200, 3)))
    bombs = {
        "14143x14143": black_png(14143, 14143),
        "60000x60000": black_png(60000, 10).replace(
            struct.pack(">II", 60000, 10), struct.pack(">II", 60000, 60000)
        ),
        "999999999x999999999": b"P5\n999999999 999999999\n255\n" + bytes(99),
    }
    assert len(bombs["14143x14143"]) < 50_000
    for suffix, place, sides in (
        (".bmp", 18, struct.pack("<ii", 2**30, -(2**30))),
        (".jpg", 0, struct.pack(">HH", 65500, 65500)),
        (".gif", 6, struct.pack("<HH", 65500, 65500)),
        (".tif", 0, b""),
    ):
        if suffix not in IMAGE_SUFFIXES:
            continue
        data = encode(smooth(8, 9), suffix)
        if suffix == ".jpg":
            place = data.index(struct.pack(">HH", 8, 9))
        if suffix == ".tif":  # the values of the entries of width and height
            for tag in (256, 257):
                at = data.index(struct.pack("<HHI", tag, 3, 1)) + 8
                data = data[:at] + struct.pack("<I", 65500) + data[at + 4 :]
        data = data[:place] + sides + data[place + len(sides) :]
        side = 2**30 if suffix == ".bmp" else 65500
        bombs[f"{side}x{side}{suffix}"] = data
    monkeypatch.setattr(cv2, "imdecode", None)
    for sides, data in bombs.items():
        with pytest.raises(UserError) as refused:
            decode(data, 112, "bomb")
        assert str(refused.value) == (
            f"bomb has {sides.partition('.')[0]} pixels, more than the 200 million that are read: "
            "replace the file or remove it."
        )


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_a_header_says_the_size(suffix):
    pixels = smooth(40, 72)
    kept = pixels[..., 0] if suffix == ".pgm" else pixels
    data = cv2.imencode({".jfif": ".jpg"}.get(suffix, suffix), kept)[1].tobytes()
    assert header.size(data) == (40, 72)
    for end in range(min(len(data), 400)):
        assert header.size(data[:end]) in (None, (0, 0), (40, 72))


def test_headers_of_other_encoders():
    image = Image.fromarray(smooth(19, 37))
    clear = image.copy()
    clear.putalpha(128)
    small = io.BytesIO()
    image.resize((8, 8)).save(small, "JPEG")
    exif = Image.Exif()
    exif[0x9286] = small.getvalue()  # a picture before the picture
    for picture, options in (
        (image, {"format": "JPEG", "exif": exif, "progressive": True, "comment": b"\xff\xc0" * 9}),
        (clear, {"format": "WEBP"}),
        (image, {"format": "WEBP", "lossless": True}),
        (image, {"format": "TIFF", "compression": "tiff_lzw"}),
        (image, {"format": "TIFF", "big_tiff": True}),
        (image.convert("P"), {"format": "BMP"}),
    ):
        stream = io.BytesIO()
        picture.save(stream, **options)
        assert header.size(stream.getvalue()) == (19, 37), options
    assert header.size(b"BM" + bytes(12) + struct.pack("<IHH", 12, 37, 19)) == (19, 37)
    assert header.size(b"no image") is None


def pnm(kind: int, maximum: int, values: np.ndarray) -> bytes:
    """[H, W] (PGM) or [H, W, 3] (PPM) values up to `maximum`, as text or in binary."""
    head = f"P{kind}\n# a comment\n{values.shape[1]} {values.shape[0]}\n{maximum}\n".encode()
    if kind in (2, 3):
        return head + " ".join(map(str, values.ravel().tolist())).encode() + b"\n"
    return head + values.astype(">u2" if maximum > 255 else np.uint8).tobytes()


@pytest.mark.parametrize("maximum", [1, 100, 255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_pgm_and_ppm_are_scaled_by_their_own_maximum(kind, maximum):
    shape = (5, 4, 3) if kind in (3, 6) else (5, 4)
    values = np.random.default_rng(0).integers(0, maximum + 1, shape)
    values.flat[0], values.flat[1] = maximum, 0
    decoded = decode(pnm(kind, maximum, values), None)
    expected = np.floor(values * 255 / maximum + 0.5)
    expected = np.broadcast_to(expected.reshape(5, 4, -1), (5, 4, 3))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, expected)
    assert decoded[0, 0, 0] == 255
    assert damage(pnm(kind, maximum, values)[: -7 if kind in (2, 3) else -1]), "cut"


@pytest.mark.parametrize("maximum", [0, 65536])
def test_a_pgm_without_a_usable_maximum_is_damage(maximum):
    assert damage(b"P5\n2 2\n%d\n" % maximum + bytes(8))


def test_images_of_16_bits_are_scaled():
    values = np.array([0, 127, 129, 257, 32768, 40000, 65280, 65535], np.uint16)
    image = np.repeat(values[None, :, None], 3, axis=2)
    for suffix in (".png", ".tif"):
        decoded = decode(cv2.imencode(suffix, image)[1].tobytes(), None)
        np.testing.assert_array_equal(decoded[0, :, 1], np.round(values / 257.0))


def test_float_pixels_are_refused_by_their_type():
    data = cv2.imencode(".tif", np.ones((4, 4, 3), np.float32))[1].tobytes()
    assert damage(data) == "has pixels of type float32, not of 8 or 16 bits"


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jp2", ".avif", ".gif"])
def test_transparent_pixels_show_grey(suffix):
    if suffix not in IMAGE_SUFFIXES:
        pytest.skip(f"this OpenCV does not read {suffix}")
    image = np.zeros((32, 32, 4), np.uint8)
    image[..., 2], image[:16, :, 3] = 255, 255  # red, the lower half wholly transparent
    flags = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    decoded = decode(cv2.imencode(suffix, image, flags)[1].tobytes(), None).astype(int)
    assert np.abs(decoded[2, 2] - [255, 0, 0]).max() <= 4  # some of them lose a little
    np.testing.assert_array_equal(decoded[29, 29], 127)


def test_half_transparent_pixels_are_mixed_at_8_and_16_bits():
    image = np.zeros((4, 4, 4), np.uint8)
    image[..., 2], image[..., 3] = 255, 128
    mixed = [255 * 128 / 255 + 127 * 127 / 255, 127 * 127 / 255, 127 * 127 / 255]
    for pixels in (image, image.astype(np.uint16) * 257):
        decoded = decode(cv2.imencode(".png", pixels)[1].tobytes(), None)
        assert np.abs(decoded[0, 0] - mixed).max() <= 0.51


def test_a_palette_with_a_transparent_entry():
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0))
    data += chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255])) + chunk(b"tRNS", b"\0")
    data += chunk(b"IDAT", zlib.compress(b"\0\0\1")) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode(data, None)[0], [[127, 127, 127], [0, 0, 255]])


def test_every_suffix_that_is_taken_can_be_read():
    for suffix in IMAGE_SUFFIXES:
        pixels = smooth(32, 32)  # JPEG 2000 takes none smaller
        pixels = pixels[..., 0] if suffix == ".pgm" else pixels
        same = {".jfif": ".jpg", ".jpe": ".jpg", ".pnm": ".ppm"}
        data = cv2.imencode(same.get(suffix, suffix), pixels)[1].tobytes()
        assert decode(data, 8, suffix).shape == (8, 8, 3)
    assert {".jpg", ".jfif", ".png", ".pgm", ".ppm", ".tif", ".tiff"} <= set(IMAGE_SUFFIXES)


def test_names_of_images_and_hidden_names():
    assert all(
        is_image(f"x{suffix}") and is_image(f"x{suffix.upper()}") for suffix in IMAGE_SUFFIXES
    )
    assert not any(map(is_image, ("x.txt", "jpg", ".jpg", "._x.jpg", "x.jpg.txt", "x")))
    hidden = ".git .ipynb_checkpoints .thumbnails __MACOSX @eaDir #recycle Thumbs.db lost+found"
    assert all(map(is_hidden, hidden.split()))
    assert not any(map(is_hidden, ("Ann", "_Ann", "@ann", "#1", "__ann__", "Ann.", "a.b")))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"x must be uint8 \[H, W, 3\]"):
        decode(np.zeros(shape, np.uint8), 8, "x")
    with pytest.raises(ValueError, match="float64"):
        decode(np.zeros((4, 4, 3)), 8, "x")
