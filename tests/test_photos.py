"""Photographs: every kind of file, folders in order, threads ahead of the consumer."""

import io
import threading
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from facejax.data.images import IMAGE_SUFFIXES
from facejax.errors import UserError
from facejax.recognition.photos import Photo, expand, read_ahead, read_photo
from tests.pictures import JPEGS, assert_one_sentence, encode, smooth, zero_tail


def saved(image, **options):
    """The bytes of a Pillow image: an encoder other than OpenCV's."""
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_photo(orientation):
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :16] = (250, 0, 0)
    image[16:, :16] = (0, 0, 250)
    # What turns a stored image upright, by the standard's table.
    upright = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        8: np.rot90,
    }[orientation](image)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(image), format="JPEG", quality=95, exif=exif, subsampling=0)
    got = read_photo(data)
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).mean() < 2


def test_cmyk_and_grey_become_rgb():
    image = Image.fromarray(smooth(40, 50))
    cmyk = read_photo(saved(image.convert("CMYK"), format="JPEG", quality=95))
    assert cmyk.shape == (40, 50, 3)
    assert np.abs(cmyk.astype(int) - np.asarray(image)).mean() < 4
    grey = image.convert("L")
    for options in ({"format": "JPEG", "quality": 95}, {"format": "PNG"}, {"format": "BMP"}):
        got = read_photo(saved(grey, **options))
        assert got.shape == (40, 50, 3)
        assert (got == got[..., :1]).all()
        assert np.abs(got[..., 0].astype(int) - np.asarray(grey)).max() <= 8


def test_16_bits_are_scaled():
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    np.testing.assert_array_equal(read_photo(data)[..., 1].ravel(), np.arange(256))


@pytest.mark.skipif(".gif" not in IMAGE_SUFFIXES, reason="this OpenCV reads no GIF")
def test_the_first_frame_of_a_gif_is_taken():
    frames = [Image.new("RGB", (20, 10), color) for color in ((200, 10, 30), (0, 90, 0))]
    data = saved(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert np.abs(read_photo(data).astype(int) - (200, 10, 30)).max() < 8


def test_tiny_and_very_wide_photos():
    for shape in ((1, 1), (2, 20000), (20000, 1)):
        image = np.full((*shape, 3), 77, np.uint8)
        for suffix in (".jpg", ".png"):
            assert read_photo(encode(image, suffix)).shape == image.shape


def test_arrays_are_taken_as_they_are():
    image = smooth(5, 6)
    np.testing.assert_array_equal(read_photo(image), image)
    np.testing.assert_array_equal(read_photo(image[..., 0])[..., 2], image[..., 0])
    np.testing.assert_array_equal(read_photo(image[..., :1])[..., 2], image[..., 0])
    four = np.dstack([image, image[..., 0]])
    np.testing.assert_array_equal(read_photo(four), image)


BAD = {
    "empty": b"",
    "text": b"this is no image at all",
    "cut": JPEGS["baseline"][:-200],
    "zeros": zero_tail(JPEGS["baseline"], b""),
    "noise": np.random.default_rng(0).bytes(3000),
    "header": b"\xff\xd8\xff",
    "pixels": np.zeros((3, 3), np.float32),
    "no pixels": np.zeros((0, 3, 3), np.uint8),
    "five colors": np.zeros((3, 3, 5), np.uint8),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_photo_is_one_sentence_with_its_name(name, tmp_path):
    content = BAD[name]
    if isinstance(content, bytes):
        path = tmp_path / "bad.jpg"
        path.write_bytes(content)
        content, called = path, str(path)
    else:
        called = "photo 7"
    with pytest.raises(UserError) as caught:
        read_photo(content, name=None if called != "photo 7" else called)
    message = str(caught.value)
    assert message.startswith(called)
    assert_one_sentence(message)


def test_missing_files_and_folders_are_one_sentence(tmp_path):
    for path in (tmp_path / "nowhere.jpg", tmp_path):
        with pytest.raises(UserError) as caught:
            read_photo(path)
        assert_one_sentence(str(caught.value))


def test_folders_are_expanded_in_sorted_order(tmp_path):
    names = ["b.jpg", "a.png", "B.JPG", "sub/z.jpg", "sub/deep/y.bmp", "c.jpg", "é.jpg"]
    others = [".hidden.jpg", "notes.txt", "@eaDir/x.jpg", ".git/x.jpg", "Thumbs.db"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    (tmp_path / "back").symlink_to(tmp_path)
    found = [photo.source for photo in expand(tmp_path)]
    wanted = ["B.JPG", "a.png", "b.jpg", "c.jpg", "sub/deep/y.bmp", "sub/z.jpg", "é.jpg"]
    assert found == [str(tmp_path / name) for name in wanted]
    assert [photo.source for photo in expand(tmp_path / "notes.txt")] == [f"{tmp_path}/notes.txt"]


def test_the_home_folder_is_put_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ann.png").write_bytes(encode(smooth(8, 8), ".png"))
    (tmp_path / "~$ann.png").write_bytes(encode(smooth(8, 8), ".png"))  # as office programs leave
    assert read_photo("~/ann.png").shape == (8, 8, 3)
    assert [photo.source for photo in expand("~")] == [
        str(tmp_path / name) for name in ("ann.png", "~$ann.png")
    ]
    first, second, third = expand(["~$ann.png", "~nobody-at-all/ann.png", "~/ann.png"])
    assert first.read().shape == third.read().shape == (8, 8, 3)
    with pytest.raises(UserError, match=r"~nobody-at-all/ann\.png is in a home folder that is not"):
        second.read()
    with pytest.raises(UserError, match="File name too long"):
        read_photo(300 * "a")


def test_what_has_no_path_is_called_by_its_number(tmp_path):
    (tmp_path / "empty").mkdir()
    given = [tmp_path / "x.jpg", b"-", np.zeros((1, 1, 3), np.uint8), tmp_path / "empty"]
    photos = list(expand(given))
    wanted = [f"{tmp_path}/x.jpg", "photo 1", "photo 2", f"{tmp_path}/empty"]
    assert [photo.source for photo in photos] == wanted
    with pytest.raises(UserError, match="has no photographs") as caught:
        photos[-1].read()
    assert_one_sentence(str(caught.value))
    assert list(expand([])) == []


def test_results_are_in_order_and_few_are_ahead():
    taken = []

    def endless():
        for number in range(10**9):
            taken.append(number)
            yield Photo(str(number), np.zeros((1, 1, 3), np.uint8))

    def work(photo):
        time.sleep(0.004 if int(photo.source) % 3 else 0.0)  # later ones are done earlier
        return int(photo.source)

    results = read_ahead(work, endless(), workers=4)
    for number in range(40):
        assert next(results) == number
        assert len(taken) <= number + 9
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("facejax-photos")]


def test_an_error_comes_in_its_photos_place():
    def work(photo):
        if photo.source == "photo 5":
            raise KeyError(photo.source)
        return photo.source

    results = read_ahead(work, expand([np.zeros((1, 1, 3), np.uint8)] * 20), workers=3)
    assert [next(results) for _ in range(5)] == [f"photo {n}" for n in range(5)]
    with pytest.raises(KeyError):
        next(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("facejax-photos")]
