"""Random numbers of a batch of images, and the boxes and shapes that they stand for.

Every number of an image comes from the image's own key, so a view follows its key and image alone.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

_RATIO = (3 / 4, 4 / 3)

# A mask over nose and mouth, as shares of the image's height. In a crop of 112x112 pixels that is
# aligned to ArcFace's template the eyes lie at 52 pixels, the tip of the nose at 72, the mouth at
# 92, and 15 to either side of the middle.
_MASK = (
    (58 / 112, 68 / 112),  # the upper edge, between the eyes and the tip of the nose
    (100 / 112, 112 / 112),  # the lower edge, below the mouth
    (-0.03, 0.03),  # the middle, to the right of the image's
    (0.30, 0.42),  # half the width of the upper edge
    (0.17, 0.30),  # half the width of the lower edge
)


class Draws(NamedTuple):
    """Random numbers of a batch of images, each uniform in [0, 1)."""

    # [B, 11]: flip, crop, photometric, low resolution and erasing; crop in place, color jitter,
    # blur, hue, gray and face mask
    choices: jax.Array
    crop: jax.Array  # [B, 4]
    shift: jax.Array  # [B, 2]
    resolution: jax.Array  # [B, 1]
    photometric: jax.Array  # [B, 3]
    erased: jax.Array  # [B, 4]
    color: jax.Array  # [B, 3]
    kept: jax.Array  # [B, 4], the box of the crop in place
    rules: jax.Array  # [B, 2], of the resampling, down and up
    jitter: jax.Array  # [B, 3]
    order: jax.Array  # [B, 1], of the color jitter
    radius: jax.Array  # [B, 1], of the blur
    hue: jax.Array  # [B, 2]
    mask: jax.Array  # [B, 5]
    mask_color: jax.Array  # [B, 3]


# How many numbers each field takes. What is newer has a key of its own: the older numbers stay.
_FIRST = (5, 4, 2, 1, 3, 4, 3)
_SECOND = (6, 4, 2, 3, 1, 1, 2, 5, 3)


def draw(keys: jax.Array) -> Draws:
    """The numbers of each image from its own key, one of `keys` [B]."""

    def fields(keys: jax.Array, counts: tuple[int, ...]) -> list[jax.Array]:
        numbers = jax.vmap(lambda key: jax.random.uniform(key, (sum(counts),)))(keys)
        return jnp.split(numbers, list(itertools.accumulate(counts))[:-1], axis=1)

    choices, *first = fields(keys, _FIRST)
    more, *second = fields(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), _SECOND)
    return Draws(jnp.concatenate([choices, more], axis=1), *first, *second)


def between(uniform: jax.Array, low: float, high: float) -> jax.Array:
    """Numbers in [0, 1) to [low, high)."""
    return low + (high - low) * uniform


def one_of(uniform: jax.Array, count: int) -> jax.Array:
    """Numbers in [0, 1) to whole numbers from 0 to count - 1, int32."""
    return jnp.floor(uniform * count).astype(jnp.int32)


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
    pixels = height * width * between(uniform[:, 0], *area)
    shape = jnp.exp(between(uniform[:, 1], math.log(ratio[0]), math.log(ratio[1])))
    tall = jnp.minimum(jnp.sqrt(pixels / shape), height)
    wide = jnp.minimum(jnp.sqrt(pixels * shape), width)
    top, left = (height - tall) * uniform[:, 2], (width - wide) * uniform[:, 3]
    return jnp.stack([top, left, tall, wide], axis=1)


def face_masks(uniform: jax.Array, *, height: int, width: int) -> jax.Array:
    """Trapezoids over the nose and mouth of aligned faces, float32 [B, 5], in pixels.

    Of uniform numbers [B, 5]: the upper and the lower edge, the middle, half the width of the upper
    and of the lower edge, each uniform in its range. They cover the mouth and the tip of the nose
    and leave the eyes free, of faces aligned to ArcFace's template scaled by the height and
    centered in the width. On a square that is 13 to 35 % of the image.
    """
    top, bottom, middle, upper, lower = (
        height * between(uniform[:, i], *bounds) for i, bounds in enumerate(_MASK)
    )
    return jnp.stack([top, bottom, width / 2 + middle, upper, lower], axis=1)
