"""Drawing: what is marked, where labels lie, and that nothing leaves the picture."""

import itertools

import numpy as np
import pytest

from facejax.recognition import draw
from facejax.recognition.draw import draw_faces

GREY = 127


def canvas(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def changed(picture):
    return (picture != GREY).any(-1)


def five(boxes):
    """Five landmarks in each box."""
    places = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    boxes = np.asarray(boxes, float)
    return boxes[:, None, :2] + places * boxes[:, None, 2:]


def test_boxes_and_landmarks_are_where_they_are():
    photo = canvas(600, 800)
    boxes = [[100, 200, 150, 200], [500, 50, 90, 120]]
    picture = draw_faces(photo, boxes, five(boxes))
    assert picture.shape == photo.shape
    assert not changed(photo).any()  # it is a copy
    marked = changed(picture)
    for x, y, width, height in boxes:
        for row, column in (
            (y, x + width // 2),
            (y + height, x + width // 2),
            (y + height // 2, x),
            (y + height // 2, x + width),
        ):
            assert marked[row, column], (row, column)
        assert not marked[y + height // 4, x + width // 4]
    for x, y in five(boxes).reshape(-1, 2).round().astype(int):
        assert picture[y, x].tolist() == list(draw._COLORS[0])
    far = np.ones(photo.shape[:2], bool)
    for x, y, width, height in boxes:
        far[y - 5 : y + height + 6, x - 5 : x + width + 6] = False
    assert not marked[far].any()


def test_labels_are_written_and_grow_with_the_photo():
    heights = []
    for size in (640, 1200, 2560):
        photo = canvas(size, size)
        box = [[0.4 * size, 0.4 * size, 0.2 * size, 0.25 * size]]
        plain = changed(draw_faces(photo, box))
        named = changed(draw_faces(photo, box, names=["Ann"], similarities=[0.714]))
        rows = np.flatnonzero((named & ~plain).any(1))
        heights.append(rows.max() - rows.min() + 1)
        assert rows.max() <= 0.4 * size  # above the box
        assert rows.min() > 0.25 * size
    assert heights[0] >= 14
    assert heights == sorted(heights)
    assert heights[2] > 3 * heights[0]


@pytest.mark.parametrize("shape", [(640, 640), (300, 2000), (2000, 300), (900, 1200)])
def test_no_label_leaves_the_picture_or_hides_another(shape):
    """Faces in the corners, one that fills it, names of any length: all text is there."""
    placed = []
    whole = draw._fill

    def fill(picture, x, y, mask, color):
        placed.append((x, y, mask.shape[1], mask.shape[0]))
        whole(picture, x, y, mask, color)

    height, width = shape
    side = min(shape) // 4
    corners = itertools.product((0, width - side), (0, height - side))
    boxes = [[x, y, side, side] for x, y in corners] + [[0, 0, width, height]]
    names = ["Jo", "Maximiliane von und zu Hohenlohe", "Ann", None, "X" * 300]
    patch = pytest.MonkeyPatch()
    patch.setattr(draw, "_fill", fill)
    draw_faces(canvas(*shape), boxes, names=names, similarities=[0.5] * 5)
    patch.undo()
    assert len(placed) == 5
    for x, y, wide, tall in placed:
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + tall <= height
    if width > 600:
        for a, b in itertools.combinations(placed[:4], 2):
            assert draw._shared(np.array(a), np.array(b)) == 0


def test_faces_side_by_side_keep_their_faces_free():
    """Labels of a row of faces hide little of any face."""
    boxes = np.array([[60 + 130 * i, 300 + 140 * (i % 2), 100, 130] for i in range(8)])
    photo = canvas(800, 1200)
    bare = draw_faces(photo, boxes)
    named = draw_faces(photo, boxes, names=[f"Person {i}" for i in range(8)])
    hidden = (bare != named).any(-1)
    for x, y, width, height in boxes:
        inside = hidden[y + 6 : y + height - 6, x + 6 : x + width - 6]  # the frames differ in color
        assert inside.mean() < 0.05
    assert hidden.sum() > 8 * 1000


def test_a_name_has_one_color_and_the_unknown_are_grey():
    boxes = [[100 + 250 * i, 300, 120, 150] for i in range(4)]
    points = five(boxes)
    picture = draw_faces(canvas(700, 1200), boxes, points, names=["Ann", None, "Bo", "Ann"])
    colors = [tuple(picture[y, x]) for x, y in points[:, 2].round().astype(int)]
    assert colors[0] == colors[3] != colors[2]
    assert colors[1] == draw._UNKNOWN
    assert len(set(colors)) == 3


def test_a_small_photo_is_enlarged():
    box = [[20, 20, 60, 70]]
    picture = draw_faces(canvas(112, 100), box, five(box), names=["Ann"])
    assert picture.shape == (672, 600, 3)
    x, y = (five(box)[0, 2] * 6 + 2.5).round().astype(int)
    assert picture[y, x].tolist() == list(draw._COLORS[0])


def test_text_is_whole_or_cut_with_a_sign():
    short, long = (draw._written(text, 20, 400) for text in ("Ann", "A name without an end " * 20))
    assert short.shape[1] < 80
    assert long.shape[1] <= 400
    assert short.max() > 0.9
    for mask in (short, long):  # a margin on every side
        assert mask[:, 0].max() == mask[:, -1].max() == mask[0].max() == mask[-1].max() == 0
    shrunk = draw._written("Maximiliane von Hohenlohe", 30, 300)
    assert shrunk.shape[0] < draw._written("Max", 30, 300).shape[0]  # rather than cut
    accents = draw._written("Žofie Ångström Жанна gjpqy", 20, 400)
    assert accents[0].max() == accents[-1].max() == 0
    one = draw._written("É", 20, 400)
    other = draw._written("Ł", 20, 400)
    assert one.shape != other.shape or (one != other).any()


def test_nothing_to_draw_and_odd_arguments():
    photo = canvas(700, 640)
    np.testing.assert_array_equal(draw_faces(photo, np.zeros((0, 4))), photo)
    tiny = draw_faces(canvas(1, 1), [[0, 0, 1, 1]], names=["somebody"])
    assert tiny.shape == (640, 640, 3)
    box = [[-50, -60, 2000, 3000]]  # beyond every edge
    assert draw_faces(photo, box, np.full((1, 5, 2), np.nan), names=["a\nb"]).shape == photo.shape
    for wrong in ({"names": ["a", "b"]}, {"similarities": []}, {"landmarks": np.zeros((2, 5, 2))}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            draw_faces(photo, box, **wrong)
