"""Drawing: boxes, landmarks, names and similarities into a photograph, to be looked at."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

# Told apart by color-blind eyes, too, and read on them in white (Okabe and Ito, darkened).
_COLORS = (
    *((0, 114, 178), (190, 75, 0), (0, 128, 96), (158, 82, 134)),
    *((36, 128, 176), (150, 110, 0), (110, 70, 180), (170, 40, 60)),
)
_UNKNOWN = (96, 96, 96)
_WHITE, _DARK = (255, 255, 255), (20, 20, 20)
_LEAST_SIDE = 640  # what is smaller is enlarged, or no text could be read on it
_FINE = 3  # binary places of a pixel in OpenCV's positions


def draw_faces(
    photo: np.ndarray,
    boxes: np.ndarray,
    landmarks: np.ndarray | None = None,
    *,
    names: Sequence[str | None] | None = None,
    similarities: Sequence[float | None] | None = None,
    smallest_text: int = 12,
) -> np.ndarray:
    """A copy of a photo with its faces marked.

    A name has one color wherever it stands. Labels lie above their boxes where there is room, else
    below, beside or inside, where they hide the fewest faces and labels; they never leave the
    picture, and what is too long for it is cut short. Lines and text grow with the photo.

    Args:
      photo: uint8 RGB [H, W, 3].
      boxes: float [N, 4]: x and y of the upper left corner, width, height.
      landmarks: float [N, 5, 2], or None for none.
      names: of the faces; None in its place is drawn grey, as unknown; None for no names.
      similarities: a number to stand behind each name, with two digits; None in its place for none.
      smallest_text: pixels of its height; more where the picture will be shown smaller than it is.

    Returns:
      uint8 RGB, of the photo's size; a photo with a longest side below 640 pixels is enlarged by
      the least whole factor that makes it so.

    Raises:
      ValueError: names, similarities or landmarks of another number than the boxes.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    count = len(boxes)
    for what, given in (("names", names), ("similarities", similarities), ("landmarks", landmarks)):
        if given is not None and len(given) != count:
            raise ValueError(f"there are {len(given)} {what} for {count} boxes")
    factor = max(-(-_LEAST_SIDE // max(photo.shape[:2])), 1)
    if factor > 1:
        wanted = (photo.shape[1] * factor, photo.shape[0] * factor)
        picture = cv2.resize(photo, wanted, interpolation=cv2.INTER_CUBIC)
    else:
        picture = np.array(photo, order="C")
    boxes = boxes * factor
    colors = _colors(names, count)
    line = max(round(max(picture.shape[:2]) / 500), 2)

    for box, color in zip(boxes, colors, strict=True):
        _draw_box(picture, box, color, line)
    if landmarks is not None:
        # The centre of an enlarged pixel lies between those it became.
        points = np.asarray(landmarks, np.float64).reshape(count, 5, 2) * factor + (factor - 1) / 2
        for box, five, color in zip(boxes, points, colors, strict=True):
            _draw_points(picture, box, five, color)
    texts = _texts(names, similarities, count)
    _draw_labels(picture, boxes, texts, colors, line, smallest_text)
    return picture


def _colors(names: Sequence[str | None] | None, count: int) -> list[tuple[int, int, int]]:
    if names is None:
        return [_COLORS[0]] * count
    known = list(dict.fromkeys(name for name in names if name))
    return [_COLORS[known.index(name) % len(_COLORS)] if name else _UNKNOWN for name in names]


def _texts(
    names: Sequence[str | None] | None, similarities: Sequence[float | None] | None, count: int
) -> list[str]:
    texts = []
    for i in range(count):
        name = "" if names is None else " ".join((names[i] or "unknown").split())
        similarity = None if similarities is None else similarities[i]
        texts.append(f"{name} {similarity:.2f}".strip() if similarity is not None else name)
    return texts


def _draw_box(picture: np.ndarray, box: np.ndarray, color: tuple[int, int, int], line: int) -> None:
    """A rounded frame, with a dark rim so that it shows on any ground."""
    left, top, width, height = box
    line = max(min(line, round(min(width, height) / 12)), 1)
    radius = 0.12 * min(width, height)
    corners = (
        (left + radius, top + radius, 180),
        (left + width - radius, top + radius, 270),
        (left + width - radius, top + height - radius, 0),
        (left + radius, top + height - radius, 90),
    )
    outline = np.concatenate(
        [
            np.array([x, y]) + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
            for x, y, start in corners
            for turn in [np.radians(np.arange(start, start + 91, 10))]
        ]
    )
    points = [np.round(outline * 2**_FINE).astype(np.int32)]
    for wide, shade in ((line + 2, _DARK), (line, color)):
        cv2.polylines(picture, points, True, shade, wide, cv2.LINE_AA, _FINE)


def _draw_points(
    picture: np.ndarray, box: np.ndarray, points: np.ndarray, color: tuple[int, int, int]
) -> None:
    radius = max(0.018 * min(box[2], box[3]), 1.5)
    for point in points[np.isfinite(points).all(axis=1)]:
        x, y = (int(value) for value in np.round(point * 2**_FINE))
        for size, shade in ((radius * 1.6, _DARK), (radius * 1.3, _WHITE), (radius * 0.8, color)):
            place = ((x, y), round(size * 2**_FINE))
            cv2.circle(picture, *place, shade, cv2.FILLED, cv2.LINE_AA, _FINE)


def _draw_labels(
    picture: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    line: int,
    smallest: int,
) -> None:
    height, width = picture.shape[:2]
    placed: list[np.ndarray] = []  # x, y, width, height of each label
    # Small faces first: a large one has more places for its label.
    for i in np.argsort(boxes[:, 2] * boxes[:, 3], kind="stable"):
        if not texts[i]:
            continue
        # In proportion to the face, but readable, and no banner.
        least, most = max(height, width) / 90, max(height, width) / 28
        size = round(float(np.clip(boxes[i, 3] / 5, max(least, smallest), max(most, smallest + 2))))
        mask = _written(texts[i], size, width - 2)
        rectangle = _place(i, boxes, mask.shape, placed, (height, width), line)
        placed.append(rectangle)
        x, y = (int(value) for value in rectangle[:2])
        _fill(picture, x, y, mask, colors[i])


def _place(
    index: int,
    boxes: np.ndarray,
    shape: tuple[int, int],
    placed: Sequence[np.ndarray],
    size: tuple[int, int],
    gap: int,
) -> np.ndarray:
    """Where a label of (height, width) `shape` hides least: x, y, width, height."""
    tall, wide = shape
    left, top, width, height = boxes[index]
    right, bottom = left + width, top + height
    columns = (left, right - wide, left + (width - wide) / 2)
    candidates = [(x, top - tall - gap) for x in columns]
    candidates += [(x, bottom + gap) for x in columns]
    candidates += [(right + gap, top), (left - wide - gap, top)]
    candidates += [(right + gap, bottom - tall), (left - wide - gap, bottom - tall)]
    candidates += [(x, bottom - tall) for x in columns]
    best, least = None, np.inf
    for order, (x, y) in enumerate(candidates):
        # Pushed back into the picture.
        x, y = min(max(x, 0), size[1] - wide), min(max(y, 0), size[0] - tall)
        spot = np.array([round(max(x, 0)), round(max(y, 0)), wide, tall])
        others = np.delete(boxes, index, axis=0)
        cost = 2 * sum(_shared(spot, box) / (box[2] * box[3] + 1) for box in others)
        cost += 3 * sum(_shared(spot, label) for label in placed) / (wide * tall)
        cost += (
            1.5 * _shared(spot, boxes[index]) / (boxes[index, 2] * boxes[index, 3] + 1)
            + 0.01 * order
        )
        if cost < least:
            best, least = spot, cost
    assert best is not None
    return best


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    """The area that two boxes x, y, width, height have in common."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return float(np.maximum(high - low, 0).prod())


def _fill(
    picture: np.ndarray, x: int, y: int, mask: np.ndarray, color: tuple[int, int, int]
) -> None:
    """Writes a mask in white on a ground of a color, which lets a little of the picture through."""
    part = picture[y : y + mask.shape[0], x : x + mask.shape[1]]
    mask = mask[: part.shape[0], : part.shape[1], None].astype(np.float32)
    ground = 0.1 * part.astype(np.float32) + 0.9 * np.array(color, np.float32)
    part[:] = np.round(ground + mask * (255 - ground)).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _font(size: int) -> Any:
    """matplotlib's own font, which has the letters of Europe's languages."""
    import matplotlib
    from PIL import ImageFont

    path = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(str(path), size)


def _written(text: str, size: int, widest: int) -> np.ndarray:
    """A text as opacities float [H, W] in [0, 1], with a margin, at most `widest` pixels wide."""
    from PIL import Image, ImageDraw

    margin = max(round(size / 3), 2)
    while True:
        font = _font(size)
        if font.getlength(text) + 2 * margin <= widest:
            break
        if size > 12:
            size -= 1
        elif len(text) > 1:
            text = text[:-2].rstrip() + "…"
            if text == "…":
                break
        else:
            break
    wide = max(min(round(font.getlength(text)) + 2 * margin, widest), 1)
    tall = round(1.25 * size) + margin
    image = Image.new("L", (wide, tall), 0)
    baseline = tall - margin / 2 - 0.27 * size
    ImageDraw.Draw(image).text((margin, baseline), text, fill=255, font=font, anchor="ls")
    return np.asarray(image, np.float32) / 255
