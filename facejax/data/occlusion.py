"""What covers a part of an image: rectangles, all but a rectangle, a mask over the lower face.

Images are float32 [B, H, W, 3]. Positions are in pixels from the upper left corner, where the first
pixel's centre lies at (0.5, 0.5). A pixel lies inside if its centre does.
"""

import jax
import jax.numpy as jnp

BLACK = -1.0


def _inside(boxes: jax.Array, height: int, width: int) -> jax.Array:
    """Which pixels lie inside boxes [B, 4] (top, left, height, width): bool [B, H, W, 1]."""
    top, left, tall, wide = (boxes[:, i, None] for i in range(4))
    y = jnp.arange(height, dtype=jnp.float32) + 0.5
    x = jnp.arange(width, dtype=jnp.float32) + 0.5
    rows = (y[None] >= top) & (y[None] < top + tall)
    columns = (x[None] >= left) & (x[None] < left + wide)
    return rows[:, :, None, None] & columns[:, None, :, None]


def erase(images: jax.Array, boxes: jax.Array, colors: jax.Array) -> jax.Array:
    """Fills boxes [B, 4] (top, left, height, width) with colors [B, 3].

    A box without height fills nothing.
    """
    inside = _inside(boxes, *images.shape[1:3])
    return jnp.where(inside, colors[:, None, None, :], images)


def keep(images: jax.Array, boxes: jax.Array) -> jax.Array:
    """Makes black what lies outside of boxes [B, 4] (top, left, height, width)."""
    return jnp.where(_inside(boxes, *images.shape[1:3]), images, BLACK)


def cover(images: jax.Array, shapes: jax.Array, colors: jax.Array) -> jax.Array:
    """Fills upright trapezoids with colors [B, 3].

    Args:
      images: float32 [B, H, W, 3].
      shapes: [B, 5], as `draws.face_masks` has them: upper edge, lower edge, middle, half the width
        of the upper and of the lower edge. One without width fills nothing.
      colors: float32 [B, 3].
    """
    top, bottom, middle, upper, lower = (shapes[:, i, None, None] for i in range(5))
    y = jnp.arange(images.shape[1], dtype=jnp.float32)[None, :, None] + 0.5
    x = jnp.arange(images.shape[2], dtype=jnp.float32)[None, None, :] + 0.5
    down = (y - top) / jnp.maximum(bottom - top, 1e-6)  # 0 at the upper edge, 1 at the lower one
    inside = (down >= 0) & (down < 1) & (jnp.abs(x - middle) < upper + (lower - upper) * down)
    return jnp.where(inside[..., None], colors[:, None, None, :], images)
