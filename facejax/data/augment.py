"""Augmentation inside the compiled step: uint8 images in, float32 images in [-1, 1] out.

Flip, shift, crop and low resolution are all linear in the image and act on rows and columns
separately, so together they are one small matrix a side of each image: two matrix products a
batch, whichever of them are on.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

_RATIO = (3 / 4, 4 / 3)
_LOW_RESOLUTION = (0.2, 1.0)  # the smaller size, as a share of the image's
_ERASED_AREA = (0.02, 0.25)
_ERASED_RATIO = (0.3, 3.3)
_JITTER = 0.5  # brightness, contrast and saturation are scaled by 1 +- this


def normalize(images: jax.Array) -> jax.Array:
    """uint8 [...] to float32 [...] in [-1, 1], as the networks take them.

    Raises:
      ValueError: the images are not uint8.
    """
    if images.dtype != jnp.uint8:
        raise ValueError(f"images must be uint8, not {images.dtype}")
    return (images.astype(jnp.float32) - 127.5) / 127.5  # mid-grey is 0, exactly symmetric


class Draws(NamedTuple):
    """Random numbers of a batch of images, each uniform in [0, 1)."""

    choices: jax.Array  # [B, 5]: which of flip, crop, photometric, low resolution and erasing
    crop: jax.Array  # [B, 4]
    shift: jax.Array  # [B, 2]
    resolution: jax.Array  # [B, 1]
    photometric: jax.Array  # [B, 3]
    erased: jax.Array  # [B, 4]
    color: jax.Array  # [B, 3]


_DRAWN = (5, 4, 2, 1, 3, 4, 3)  # how many numbers each field takes


def draw(keys: jax.Array) -> Draws:
    """The numbers of each image from its own key, one of `keys` [B], and all in one draw."""
    numbers = jax.vmap(lambda key: jax.random.uniform(key, (sum(_DRAWN),)))(keys)
    return Draws(*jnp.split(numbers, list(itertools.accumulate(_DRAWN))[:-1], axis=1))


def _between(uniform: jax.Array, low: float, high: float) -> jax.Array:
    """Numbers in [0, 1) to [low, high)."""
    return low + (high - low) * uniform


def boxes_inside(
    uniform: jax.Array,
    *,
    height: int,
    width: int,
    area: tuple[float, float],
    ratio: tuple[float, float] = _RATIO,
) -> jax.Array:
    """Boxes (top, left, height, width) inside an image, float32 [B, 4], in pixels.

    Of uniform numbers [B, 4]: the share of the image's area is uniform in `area`, the ratio of
    width to height log-uniform in `ratio`; a side longer than the image is cut to it. The place is
    uniform.
    """
    pixels = height * width * _between(uniform[:, 0], *area)
    shape = jnp.exp(_between(uniform[:, 1], math.log(ratio[0]), math.log(ratio[1])))
    tall = jnp.minimum(jnp.sqrt(pixels / shape), height)
    wide = jnp.minimum(jnp.sqrt(pixels * shape), width)
    top, left = (height - tall) * uniform[:, 2], (width - wide) * uniform[:, 3]
    return jnp.stack([top, left, tall, wide], axis=1)


def _apart(positions: jax.Array, length: int) -> jax.Array:
    """[B, n] positions less those of an axis' pixels: [B, n, length]."""
    return positions[:, :, None] - jnp.arange(length, dtype=jnp.float32)[None, None]


def interpolation(positions: jax.Array, length: int) -> jax.Array:
    """Weights [B, n, length] of linear interpolation at `positions` [B, n] along an axis.

    Pixel i has its centre at position i; positions outside are those of the edge.
    """
    positions = jnp.clip(positions, 0.0, length - 1.0)
    return jnp.maximum(1.0 - jnp.abs(_apart(positions, length)), 0.0)


def low_resolution_weights(sizes: jax.Array, length: int) -> jax.Array:
    """Weights [B, length, length]: down to `sizes` [B] pixels (at most `length`) and up again.

    Down with a triangle as wide as the step (so nothing aliases), up by linear interpolation.
    A size of `length` is the identity.
    """
    centres = jnp.arange(length, dtype=jnp.float32)[None] + 0.5
    sizes = sizes[:, None]
    step = length / sizes
    down = jnp.abs(_apart(centres * step - 0.5, length)) / step[..., None]
    down = jnp.maximum(1.0 - down, 0.0)
    down = down / jnp.maximum(down.sum(2, keepdims=True), 1e-6)
    up = interpolation(jnp.minimum(centres / step - 0.5, sizes - 1.0), length)
    return up @ down


def jitter(
    images: jax.Array, brightness: jax.Array, contrast: jax.Array, saturation: jax.Array
) -> jax.Array:
    """Scales brightness, contrast and saturation of [B, H, W, 3] in [-1, 1] by factors [B].

    In this order: black stays, the image's mean grey stays, each pixel's grey stays; then clipped
    back. Factors of 1 change nothing. Grey is the plain mean of the three colours.
    """
    brightness, contrast, saturation = (
        factor[:, None, None, None] for factor in (brightness, contrast, saturation)
    )
    images = images + (brightness - 1.0) * (images + 1.0)
    images = images + (contrast - 1.0) * (images - images.mean((1, 2, 3), keepdims=True))
    images = images + (saturation - 1.0) * (images - images.mean(3, keepdims=True))
    return jnp.clip(images, -1.0, 1.0)


def erase(images: jax.Array, boxes: jax.Array, colors: jax.Array) -> jax.Array:
    """Fills boxes [B, 4] (top, left, height, width) of [B, H, W, 3] with colors [B, 3].

    A pixel is filled if its centre lies inside; a box without height fills nothing.
    """
    top, left, tall, wide = (boxes[:, i, None] for i in range(4))
    y = jnp.arange(images.shape[1], dtype=jnp.float32) + 0.5
    x = jnp.arange(images.shape[2], dtype=jnp.float32) + 0.5
    rows = (y[None] >= top) & (y[None] < top + tall)
    columns = (x[None] >= left) & (x[None] < left + wide)
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(inside, colors[:, None, None, :], images)


def augment(
    keys: jax.Array,
    images: jax.Array,
    *,
    flip: float = 0.5,
    crop: float = 0.0,
    crop_scale: tuple[float, float] = (0.7, 1.0),
    photometric: float = 0.0,
    low_resolution: float = 0.0,
    erasing: float = 0.0,
    shift: int = 0,
) -> jax.Array:
    """Random training views of a batch, normalised to [-1, 1].

    Crop, photometric jitter and low resolution are AdaFace's three (arXiv:2204.00964, section
    5.1), erasing is arXiv:1708.04896 with one random colour. What is off costs nothing, and with
    all off this is `normalize`. An image's view is a function of the image and its key, whatever
    batch it lies in and wherever: keys made from a row's number in the whole batch give the same
    views on any number of devices.

    Args:
      keys: PRNG keys [B], one per image.
      images: uint8 [B, H, W, 3].
      flip: probability, per image, of a mirror image.
      crop: probability of a random resized crop (ratio 3/4 to 4/3, bilinear).
      crop_scale: bounds of the crop's share of the image's area, in (0, 1].
      photometric: probability of brightness, contrast and saturation each scaled by 0.5 to 1.5.
      low_resolution: probability of going down to 20-100 % of the size and up again.
      erasing: probability of a rectangle (2-25 % of the area) of one random colour.
      shift: every image moves by whole pixels, uniform in [-shift, shift], both ways; what comes
        in repeats the edge.

    Returns:
      float32 [B, H, W, 3] in [-1, 1].

    Raises:
      ValueError: images of another rank or dtype, not one key per image, a
        probability outside [0, 1], a negative shift, or a crop_scale that is not
        0 < low <= high <= 1.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be [B, H, W, 3], not of shape {images.shape}")
    if keys.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"keys of shape {keys.shape} for {len(images)} images: give one key per image, as "
            "jax.random.split(key, len(images)) makes them"
        )
    chances = {
        "flip": flip,
        "crop": crop,
        "photometric": photometric,
        "low_resolution": low_resolution,
        "erasing": erasing,
    }
    for name, chance in chances.items():
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"{name} is a probability in [0, 1], not {chance}")
    if shift < 0:
        raise ValueError(f"shift must not be negative, and is {shift}")
    if not 0.0 < crop_scale[0] <= crop_scale[1] <= 1.0:
        raise ValueError(f"crop_scale must be 0 < low <= high <= 1, not {crop_scale}")

    count, height, width, _ = images.shape
    draws = draw(keys)
    chosen = draws.choices < jnp.array(list(chances.values()))[None]
    flipped, cropped, jittered, lowered, erased = chosen.T
    output = normalize(images)

    if crop or low_resolution or shift:
        rows = jnp.broadcast_to(jnp.arange(height, dtype=jnp.float32), (count, height))
        columns = jnp.broadcast_to(jnp.arange(width, dtype=jnp.float32), (count, width))
        if crop:
            boxes = boxes_inside(draws.crop, height=height, width=width, area=crop_scale)
            whole = jnp.array([0.0, 0.0, height, width])
            boxes = jnp.where(cropped[:, None], boxes, whole)
            top, left, tall, wide = (boxes[:, i, None] for i in range(4))
            rows = top + (rows + 0.5) * (tall / height) - 0.5
            columns = left + (columns + 0.5) * (wide / width) - 0.5
        if shift:
            moves = jnp.floor(draws.shift * (2 * shift + 1)) - shift
            rows, columns = rows + moves[:, :1], columns + moves[:, 1:]
        row_weights, column_weights = interpolation(rows, height), interpolation(columns, width)
        if low_resolution:
            share = _between(draws.resolution[:, 0], *_LOW_RESOLUTION)
            share = jnp.where(lowered, share, 1.0)
            row_weights = low_resolution_weights(jnp.ceil(share * height), height) @ row_weights
            column_weights = low_resolution_weights(jnp.ceil(share * width), width) @ column_weights
        output = jnp.einsum("bij,bjkc,blk->bilc", row_weights, output, column_weights)
    if flip:
        output = jnp.where(flipped[:, None, None, None], output[:, :, ::-1], output)
    if photometric:
        factors = _between(draws.photometric, 1 - _JITTER, 1 + _JITTER)
        output = jitter(output, *jnp.where(jittered[:, None], factors, 1.0).T)
    if erasing:
        boxes = boxes_inside(
            draws.erased, height=height, width=width, area=_ERASED_AREA, ratio=_ERASED_RATIO
        )
        boxes = jnp.where(erased[:, None], boxes, 0.0)
        output = erase(output, boxes, _between(draws.color, -1.0, 1.0))
    return output
