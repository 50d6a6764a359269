"""Crop, shift, low resolution and blur as weights along one side of an image.

All of them are linear in the image and act on rows and columns separately, so together they are one
small matrix a side of each image. Pixel i of a side has its centre at position i.
"""

import jax
import jax.numpy as jnp
import numpy as np

RESAMPLING = ("antialiased", "opencv")  # how an image goes down and up again
OPENCV = ("nearest", "linear", "area", "cubic", "lanczos")
_NEAREST, _LINEAR, _AREA, _CUBIC, _LANCZOS = range(5)
_BENT = -0.75  # OpenCV's cubic: the slope at the next pixel


def _apart(positions: jax.Array, length: int) -> jax.Array:
    """[B, n] positions less those of an axis' pixels: [B, n, length]."""
    return positions[:, :, None] - jnp.arange(length, dtype=jnp.float32)[None, None]


def interpolation(positions: jax.Array, length: int) -> jax.Array:
    """Weights [B, n, length] of linear interpolation at `positions` [B, n] along an axis.

    Positions outside are those of the edge.
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


def opencv_weights(
    rules: jax.Array, source: jax.Array, goal: jax.Array, *, length: int
) -> jax.Array:
    """Weights [B, length, length] of `cv2.resize` from `source` [B] to `goal` [B] pixels.

    Args:
      rules: int [B], which of `OPENCV`: nearest, linear, area, cubic (4 pixels) or Lanczos (8). But
        for area none of them widens when it makes smaller: they alias, as OpenCV's do.
      source: whole numbers [B], from 1 to `length`.
      goal: whole numbers [B], from 1 to `length`. The rows behind it mean nothing.
      length: of the side of the matrices.
    """
    rules, source, step = rules[:, None], source[:, None], (source / goal)[:, None]
    pixels = jnp.arange(length, dtype=jnp.float32)
    start = pixels[None] * step  # where an output pixel begins
    corner = jnp.floor(start + 1e-4)  # a quotient that is whole may come out a little smaller
    centre = start + 0.5 * step - 0.5
    first = jnp.floor(centre)
    part = centre - first
    # Enlarged by area: linear between two pixels only where an output pixel has a part of both.
    shared = jnp.maximum(pixels[None] + 1 - (corner + 1) / step, 0.0)
    shared = shared - jnp.floor(shared)
    by_corner = (rules == _NEAREST) | (rules == _AREA)
    base = jnp.where(by_corner, corner, first)

    offsets = jnp.arange(-3.0, 5.0)
    away = jnp.abs(offsets[None, None] - part[..., None])  # [B, length, 8]
    lanczos = jnp.where(away < 4, jnp.sinc(away) * jnp.sinc(away / 4), 0.0)
    lanczos = lanczos / lanczos.sum(2, keepdims=True)
    near = ((_BENT + 2) * away - (_BENT + 3)) * away * away + 1
    far = ((_BENT * away - 5 * _BENT) * away + 8 * _BENT) * away - 4 * _BENT
    taps = jnp.where(away < 1, near, jnp.where(away < 2, far, 0.0))
    which = rules[..., None]
    taps = jnp.where(which == _LANCZOS, lanczos, taps)
    taps = jnp.where(which == _LINEAR, jnp.maximum(1 - away, 0.0), taps)
    corner_away = jnp.abs(offsets[None, None] - shared[..., None])
    corner_taps = jnp.where(which == _AREA, corner_away, jnp.abs(offsets)[None, None])
    taps = jnp.where(by_corner[..., None], jnp.maximum(1 - corner_taps, 0.0), taps)

    weights = jnp.zeros((len(rules), length, length), jnp.float32)
    for number in range(len(offsets)):  # beyond the edge is the edge
        place = jnp.clip(base + offsets[number], 0.0, source - 1)
        here = place[..., None] == pixels[None, None]
        weights = weights + jnp.where(here, taps[..., number, None], 0.0)
    begin, end = start[..., None], (start + step)[..., None]
    overlap = jnp.minimum(end, pixels[None, None] + 1) - jnp.maximum(begin, pixels[None, None])
    averaged = jnp.maximum(overlap, 0.0) / step[..., None]
    return jnp.where((which == _AREA) & (step[..., None] > 1), averaged, weights)


def blur_weights(radii: jax.Array, length: int) -> jax.Array:
    """Weights [B, length, length] of a Gaussian over 2 radius + 1 pixels, as DALI has it.

    Its standard deviation is 0.8 + 0.3 (radius - 1) pixels, and an image goes on mirrored about its
    outermost pixel. A radius of 0 is the identity.

    Args:
      radii: int [B], 0 to 2.
      length: of the side, in pixels.
    """
    radii = radii[:, None].astype(jnp.float32)
    offsets = jnp.arange(-2.0, 3.0)[None]
    taps = jnp.exp(-0.5 * (offsets / (0.5 + 0.3 * radii)) ** 2)
    taps = jnp.where(jnp.abs(offsets) <= radii, taps, 0.0)
    taps = taps / taps.sum(1, keepdims=True)
    mirrored = np.pad(np.arange(length), 2, mode="reflect")
    shifted = np.stack([np.eye(length, dtype=np.float32)[mirrored[k:][:length]] for k in range(5)])
    return jnp.einsum("bk,kij->bij", taps, shifted)
