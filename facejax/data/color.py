"""Changes of color, pixel by pixel but for the mean that contrast turns about.

Images are float32 [B, H, W, 3] in [-1, 1], RGB, and stay in that range.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

# Luma and the two axes of color of NTSC (YIQ), of red, green and blue; and the way back.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_RGB = np.linalg.inv(_YIQ)
_ORDERS = np.array(list(itertools.permutations(range(3))), np.int32)

ORDERS = len(_ORDERS)  # in which `color_jitter` can do its three changes


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


def color_jitter(images: jax.Array, factors: jax.Array, order: jax.Array) -> jax.Array:
    """Scales brightness, contrast and saturation in any order, as torchvision's ColorJitter.

    Each keeps something where it is (black, the mean luma of the image, the luma of each pixel),
    and is clipped before the next. Factors of 1 change nothing. Unlike torchvision's on 8 bits,
    nothing is rounded.

    Args:
      images: float32 [B, H, W, 3] in [-1, 1].
      factors: [B, 3], of brightness, contrast and saturation.
      order: int [B], which of the `ORDERS` orders, as `itertools.permutations` counts them.
    """
    orders = jnp.asarray(_ORDERS)[order]
    for turn in range(3):
        which = orders[:, turn, None]
        factor = jnp.take_along_axis(factors, which, axis=1)[:, :, None, None]
        which, gray = which[:, :, None, None], luma(images)
        still = jnp.where(which == 0, -1.0, gray)
        still = jnp.where(which == 1, gray.mean((1, 2), keepdims=True), still)
        images = jnp.clip(images + (factor - 1.0) * (images - still), -1.0, 1.0)
    return images


def turn_hue(images: jax.Array, degrees: jax.Array, saturation: jax.Array) -> jax.Array:
    """Turns the hue and scales the saturation, both [B], as DALI's `hsv` does; clipped back.

    A pixel's color in YIQ is turned in its plane and scaled, its luma stays. 0 degrees and a
    saturation of 1 change nothing.
    """
    degrees, saturation = degrees[:, None, None, None], saturation[:, None, None, None]
    cos, sin = (saturation * wave(degrees * (np.pi / 180)) for wave in (jnp.cos, jnp.sin))
    i, q = (_along(images + 1.0, axis) for axis in _YIQ[1:])
    i, q = cos * i + sin * q - i, cos * q - sin * i - q  # what is added to them
    images = images + i * _colors(_RGB[:, 1]) + q * _colors(_RGB[:, 2])
    return jnp.clip(images, -1.0, 1.0)


def luma(images: jax.Array) -> jax.Array:
    """The gray of each pixel as the eye weighs the colors, float32 [B, H, W, 1]."""
    return _along(images, _YIQ[0])


def _along(images: jax.Array, weights: np.ndarray) -> jax.Array:
    """Sums over the colors; not a matrix product, which some devices round to 8 bits."""
    return (images * _colors(weights)).sum(3, keepdims=True)


def _colors(weights: np.ndarray) -> np.ndarray:
    return weights.astype(np.float32)[None, None, None]
