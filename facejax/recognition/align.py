"""Alignment: from five landmarks to a crop in which they lie where the network expects them.

The transform is the least-squares similarity (Umeyama, 1991), the warp is bilinear; both are pure,
batched, and differentiable. `crop_faces` does the same for a photograph of any size with a few
compiled programs. Positions are in pixels, (x, y), with the centre of the first pixel at (0, 0).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from facejax.compilation import jit
from facejax.errors import UserError
from facejax.recognition.templates import height_width

# Points this near each other, as a share of their distance from the origin, are one point.
_COINCIDENT = 1e-6
_BORDERS = ("black", "repeat")
_BATCHES = (1, 8, 32)  # faces in a call of the warp


def similarity(landmarks: jax.Array | np.ndarray, template: jax.Array | np.ndarray) -> Any:
    """The similarity (rotation, uniform scale, translation) from a photo's landmarks to a template.

    It minimises the sum of squared distances in the crop; Umeyama, "Least-squares estimation of
    transformation parameters between two point patterns" (PAMI 13, 1991), equations 40 to 43. In
    the plane that is the complex least-squares fit, so there is no singular value decomposition
    and the gradient is smooth. It never mirrors.

    Args:
      landmarks: float [..., K, 2], (x, y) in the photo; five points for a face.
      template: float [K, 2], where they shall lie in the crop.

    Returns:
      [..., 2, 3], the matrix A | t of crop = A photo + t, as `cv2.warpAffine` takes it. A JAX array
      (float32, or float64 under x64), differentiable in both; for two NumPy arrays a NumPy array,
      computed in float64. Where the landmarks have no similarity (one is not finite, all lie in
      one place, or they say nothing of a direction) the matrix is zero, never NaN, and the
      gradient zero; `warp` gives a black crop for it.

    Raises:
      ValueError: shapes that are not [..., K, 2] and [K, 2] with K of at least two.
    """
    if np.shape(landmarks)[-2:] != np.shape(template) or np.shape(template)[1:] != (2,):
        raise ValueError(
            f"landmarks must be [..., K, 2] and the template [K, 2], not {np.shape(landmarks)} and "
            f"{np.shape(template)}"
        )
    if len(template) < 2:
        raise ValueError("a similarity needs at least two points, and the template has one")
    on_host = not isinstance(landmarks, jax.Array) and not isinstance(template, jax.Array)
    xp: Any = np if on_host else jnp
    points, goal = xp.asarray(landmarks), xp.asarray(template)
    given = np.promote_types(points.dtype, np.float32) if on_host else _working(points.dtype)
    points, goal = (array.astype(np.float64 if on_host else given) for array in (points, goal))
    goal = xp.broadcast_to(goal, points.shape)

    finite = xp.isfinite(points).all(axis=(-2, -1))
    points = xp.where(finite[..., None, None], points, xp.zeros_like(points))
    middle, goal_middle = (array.mean(axis=-2, keepdims=True) for array in (points, goal))
    (x, y), (u, v) = (xp.moveaxis(points - middle, -1, 0), xp.moveaxis(goal - goal_middle, -1, 0))
    spread, goal_spread = (x * x + y * y).sum(axis=-1), (u * u + v * v).sum(axis=-1)
    real, imaginary = (x * u + y * v).sum(axis=-1), (x * v - y * u).sum(axis=-1)
    reach = _COINCIDENT * xp.abs(points).max(axis=(-2, -1))
    some = finite & (spread > points.shape[-2] * reach * reach) & (spread > 0)
    some = some & (real * real + imaginary * imaginary > 1e-10 * spread * goal_spread)
    divisor = xp.where(some, spread, xp.ones_like(spread))
    a, b = real / divisor, imaginary / divisor
    linear = xp.stack([xp.stack([a, -b], axis=-1), xp.stack([b, a], axis=-1)], axis=-2)
    moved = xp.moveaxis(goal_middle, -2, -1) - (linear * middle).sum(axis=-1, keepdims=True)
    matrix = xp.concatenate([linear, moved], axis=-1)
    return xp.where(some[..., None, None], matrix, xp.zeros_like(matrix)).astype(given)


def _working(dtype: Any) -> Any:
    """The type to compute in: float32, or float64 for what has it."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def warp(
    images: jax.Array, transforms: jax.Array, *, size: int | tuple[int, int], border: str = "black"
) -> jax.Array:
    """Crops out of images by affine transforms, bilinear.

    What `cv2.warpAffine` gives with INTER_LINEAR, but with exact weights (OpenCV 4 rounds positions
    to 1/32 of a pixel). It does not average: where a crop is less than half of the original's scale
    it aliases, and `crop_faces` shrinks first.

    Args:
      images: uint8 or float [..., H, W, C].
      transforms: float [..., 2, 3], from image to crop, one for each image.
      size: of the crop: its side, or (height, width).
      border: what lies outside of the image: "black", or "repeat" for its edge.

    Returns:
      [..., height, width, C]: of uint8 images uint8, rounded; of float images their type,
      differentiable in the images and the transforms. Where a transform can't be inverted or is
      not finite the crop is black, never NaN, without a gradient.

    Raises:
      ValueError: leading shapes that differ, another dtype, or an unknown border.
    """
    if images.ndim < 3 or transforms.shape != (*images.shape[:-3], 2, 3):
        raise ValueError(
            f"images [..., H, W, C] and transforms [..., 2, 3] need the same leading shape, and "
            f"are {images.shape} and {transforms.shape}"
        )
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be uint8 or float, not {images.dtype}")
    if border not in _BORDERS:
        raise ValueError(f"border must be one of {', '.join(_BORDERS)}, not {border!r}")
    height, width = height_width(size)
    leading, shape = images.shape[:-3], images.shape[-3:]
    crop = functools.partial(_warp_one, height=height, width=width, border=border)
    crops = jax.vmap(crop)(images.reshape(-1, *shape), transforms.reshape(-1, 2, 3))
    crops = crops.reshape(*leading, height, width, shape[-1])
    return jnp.round(crops).astype(jnp.uint8) if images.dtype == jnp.uint8 else crops


def _warp_one(
    image: jax.Array, transform: jax.Array, *, height: int, width: int, border: str
) -> jax.Array:
    """An image [H, W, C] and its transform [2, 3] to a crop [height, width, C], float."""
    exact = image.dtype if image.dtype != jnp.uint8 else jnp.dtype(jnp.float32)
    working = _working(exact)
    regular = jnp.isfinite(transform).all()
    t = jnp.where(regular, transform.astype(working), jnp.eye(2, 3, dtype=working))
    determinant = t[0, 0] * t[1, 1] - t[0, 1] * t[1, 0]
    some = jnp.abs(determinant) > jnp.finfo(working).tiny
    regular, determinant = regular & some, jnp.where(some, determinant, jnp.ones_like(determinant))

    down, right = (jnp.arange(n, dtype=working) for n in (height, width))
    right, down = right[None, :] - t[0, 2], down[:, None] - t[1, 2]
    x = (t[1, 1] * right - t[0, 1] * down) / determinant
    y = (t[0, 0] * down - t[1, 0] * right) / determinant

    # A margin of one pixel: all that lies farther out is the same.
    if border == "black":
        image = jnp.pad(image, ((1, 2), (1, 2), (0, 0)))
    else:
        image = jnp.pad(image, ((1, 2), (1, 2), (0, 0)), mode="edge")
    x = jnp.clip(x + 1, 0, image.shape[1] - 2)
    y = jnp.clip(y + 1, 0, image.shape[0] - 2)
    left, top = jnp.floor(x), jnp.floor(y)
    beside, below = (x - left)[..., None], (y - top)[..., None]
    column, row = left.astype(jnp.int32), top.astype(jnp.int32)

    def pixel(rows: jax.Array, columns: jax.Array) -> jax.Array:
        return image.at[rows, columns].get(mode="promise_in_bounds").astype(working)

    upper = pixel(row, column) * (1 - beside) + pixel(row, column + 1) * beside
    lower = pixel(row + 1, column) * (1 - beside) + pixel(row + 1, column + 1) * beside
    crop = upper * (1 - below) + lower * below
    return jnp.where(regular, crop, jnp.zeros_like(crop)).astype(exact)


class Region(NamedTuple):
    """The part of a photo that a face's crop is made of, on a square of one of two sizes.

    Attributes:
      pixels: uint8 [S, S, 3].
      transform: float32 [2, 3], from these pixels to the crop.
    """

    pixels: np.ndarray
    transform: np.ndarray


def _squares(size: tuple[int, int]) -> tuple[int, int]:
    """The two sides S: for faces of up to about the crop's scale, and of up to twice that."""
    reach = math.hypot(*size)
    return 16 * math.ceil((reach + 4) / 16), 16 * math.ceil((2 * reach + 6) / 16)


def cut(
    photo: np.ndarray,
    landmarks: np.ndarray,
    template: np.ndarray,
    size: int | tuple[int, int],
    *,
    border: str = "black",
) -> list[Region]:
    """Cuts out of a photo what the crops of its faces need, so that the photo can be let go.

    A face larger than twice its size in the crop is shrunk by a power of two, averaging areas, so
    that nothing aliases.

    Args:
      photo: uint8 [H, W, 3].
      landmarks: float [K, 5, 2].
      template: float [5, 2].
      size: of the crops.
      border: as in `warp`.

    Returns:
      A region of each face, for `crop_regions`.

    Raises:
      UserError: landmarks of a face that no crop can be made from.
    """
    landmarks = np.asarray(landmarks, np.float64).reshape(-1, *np.shape(template))
    transforms = similarity(landmarks, np.asarray(template, np.float64))
    for number, transform in enumerate(np.asarray(transforms)):
        if not transform.any():
            raise UserError(
                f"the landmarks of face {number} are not five finite points apart from each other "
                f"({np.round(landmarks[number], 1).tolist()}): give those that a detector finds."
            )
    return [
        _region(photo, transform, height_width(size), border)
        for transform in np.asarray(transforms)
    ]


def _region(photo: np.ndarray, transform: np.ndarray, size: tuple[int, int], border: str) -> Region:
    height, width = size
    scale = math.hypot(*transform[:, 0])
    step = 2 ** max(math.floor(-math.log2(scale)), 0)
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    inside = (corners - transform[:, 2]) @ np.linalg.inv(transform[:, :2]).T
    # In steps, with a pixel more on each side for the interpolation.
    first = np.floor(inside.min(0) / step).astype(int) - 1
    last = np.ceil((inside.max(0) + 1) / step).astype(int) + 1
    small, large = _squares(size)
    side = small if (last - first).max() <= small else large

    # The part of it that the photo has; at least an edge of it, for what repeats that.
    bounds = np.array([-(-photo.shape[1] // step), -(-photo.shape[0] // step)])
    low, high = np.clip(first, 0, bounds - 1), np.clip(last, 1, bounds)
    low = np.minimum(low, high - 1)
    part = photo[low[1] * step : high[1] * step, low[0] * step : high[0] * step]
    if step > 1:
        missing = (high - low) * step - np.array([part.shape[1], part.shape[0]])
        if missing.any():
            kind = cv2.BORDER_CONSTANT if border == "black" else cv2.BORDER_REPLICATE
            part = cv2.copyMakeBorder(part, 0, int(missing[1]), 0, int(missing[0]), kind)
        wanted = tuple(int(n) for n in high - low)
        part = cv2.resize(part, wanted, interpolation=cv2.INTER_AREA)
    if border == "repeat":
        columns, rows = (
            np.clip(np.arange(side) + first[axis] - low[axis], 0, high[axis] - low[axis] - 1)
            for axis in (0, 1)
        )
        pixels = part[rows[:, None], columns[None]]
    else:
        pixels = np.zeros((side, side, photo.shape[2]), np.uint8)
        if (first < bounds).all() and (last > 0).all():
            left, top = low - first
            part = part[: side - top, : side - left]
            pixels[top : top + part.shape[0], left : left + part.shape[1]] = part

    # A shrunk pixel p covers the original's from p step to p step + step - 1.
    linear = transform[:, :2] * step
    moved = transform[:, 2] + transform[:, :2] @ (first * step + (step - 1) / 2)
    return Region(pixels, np.column_stack([linear, moved]).astype(np.float32))


@functools.cache
def _warper(size: tuple[int, int], border: str) -> Callable[..., jax.Array]:
    return jit(functools.partial(warp, size=size, border=border))


def crop_regions(
    regions: Sequence[Region], size: int | tuple[int, int], *, border: str = "black"
) -> np.ndarray:
    """The crops of regions that `cut` made, in batches of a few sizes, so that few are compiled.

    Args:
      regions: of any number of photos, all cut for this size and border.
      size: of the crops.
      border: as in `warp`.

    Returns:
      uint8 [len(regions), height, width, 3].
    """
    size = height_width(size)
    crops = np.zeros((len(regions), *size, 3), np.uint8)
    for side in _squares(size):
        chosen = [i for i, region in enumerate(regions) if len(region.pixels) == side]
        for start in range(0, len(chosen), _BATCHES[-1]):
            part = chosen[start : start + _BATCHES[-1]]
            batch = next(n for n in _BATCHES if n >= len(part))
            pixels = np.zeros((batch, side, side, 3), np.uint8)
            transforms = np.zeros((batch, 2, 3), np.float32)
            for place, index in enumerate(part):
                pixels[place], transforms[place] = regions[index]
            made = _warper(size, border)(pixels, transforms)
            crops[part] = np.asarray(made)[: len(part)]
    return crops


def crop_faces(
    photo: np.ndarray,
    landmarks: np.ndarray,
    template: np.ndarray,
    size: int | tuple[int, int],
    *,
    border: str = "black",
) -> np.ndarray:
    """Aligned crops of the faces of a photo of any size.

    At most six programs are compiled for a size of crop, whatever the photos. Faces larger than
    twice their size in the crop are shrunk first, averaging areas.

    Args:
      photo: uint8 RGB [H, W, 3].
      landmarks: float [K, 5, 2], (x, y) in pixels of the photo: left eye, right eye, nose, left and
        right corner of the mouth, left and right as one sees them.
      template: float [5, 2], where they shall lie in the crop.
      size: of the crops: the side, or (height, width).
      border: what lies outside of the photo: "black", or "repeat" for its edge.

    Returns:
      uint8 [K, height, width, 3].

    Raises:
      UserError: landmarks of a face that no crop can be made from: not finite, or all in one place.
      ValueError: a photo that is not uint8 [H, W, 3], or an unknown border.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise ValueError(f"photo must be uint8 [H, W, 3], not {photo.dtype} {photo.shape}")
    if border not in _BORDERS:
        raise ValueError(f"border must be one of {', '.join(_BORDERS)}, not {border!r}")
    regions = cut(photo, landmarks, template, size, border=border)
    return crop_regions(regions, size, border=border)
