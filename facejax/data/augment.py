"""Augmentation inside the compiled step: uint8 images in, float32 images in [-1, 1] out.

Flip, shift, crop, low resolution and blur are all linear in the image and act on rows and columns
separately, so together they are one small matrix a side of each image: two matrix products a
batch, whichever of them are on.
"""

import functools

import jax
import jax.numpy as jnp

from facejax.data import color, occlusion
from facejax.data.draws import between, boxes_inside, draw, face_masks, one_of
from facejax.data.resampling import (
    OPENCV,
    RESAMPLING,
    blur_weights,
    interpolation,
    low_resolution_weights,
    opencv_weights,
)

_ERASED_RATIO = (0.3, 3.3)
_JITTER = 0.5  # brightness, contrast and saturation are scaled by 1 +- this
_HUE = (0.0, 20.0)  # degrees
_SATURATION = (1.0, 1.2)


def normalize(images: jax.Array) -> jax.Array:
    """uint8 [...] to float32 [...] in [-1, 1], as the networks take them.

    Raises:
      ValueError: the images are not uint8.
    """
    if images.dtype != jnp.uint8:
        raise ValueError(f"images must be uint8, not {images.dtype}")
    return (images.astype(jnp.float32) - 127.5) / 127.5  # mid-grey is 0, exactly symmetric


def augment(
    keys: jax.Array,
    images: jax.Array,
    *,
    flip: float = 0.5,
    shift: int = 0,
    crop: float = 0.0,
    crop_in_place: float = 0.0,
    crop_scale: tuple[float, float] = (0.7, 1.0),
    photometric: float = 0.0,
    color_jitter: float = 0.0,
    hue: float = 0.0,
    gray: float = 0.0,
    low_resolution: float = 0.0,
    low_resolution_scale: tuple[float, float] = (0.2, 1.0),
    resampling: str = "antialiased",
    blur: float = 0.0,
    erasing: float = 0.0,
    erasing_scale: tuple[float, float] = (0.02, 0.25),
    face_mask: float = 0.0,
) -> jax.Array:
    """Random training views of a batch, normalised to [-1, 1].

    `preset` has the keywords of published recipes by name. What is off costs nothing, and with all
    off this is `normalize`. An image's view is a function of the image and its key, whatever batch
    it lies in and wherever: keys made from a row's number in the whole batch give the same views
    on any number of devices.

    Done in this order: crop in place; crop, shift, low resolution and blur; flip; photometric,
    color jitter, hue and gray; erasing and the mask. Each is drawn by itself.

    Args:
      keys: PRNG keys [B], one per image.
      images: uint8 [B, H, W, 3].
      flip: probability, per image, of a mirror image.
      shift: every image moves by whole pixels, uniform in [-shift, shift], both ways; what comes
        in repeats the edge.
      crop: probability of a random resized crop (ratio 3/4 to 4/3, bilinear).
      crop_in_place: probability of a random crop that stays where it is, black around it (ratio
        3/4 to 4/3): AdaFace's.
      crop_scale: bounds of either crop's share of the image's area, in (0, 1].
      photometric: probability of brightness, contrast and saturation each scaled by 0.5 to 1.5, in
        this order, about the plain mean of the colors.
      color_jitter: probability of the same in a random order, about the luma, clipped after each:
        AdaFace's, which is torchvision's ColorJitter.
      hue: probability of a hue turned by 0 to 20 degrees and a saturation scaled by 1 to 1.2.
      gray: probability of no color, the luma alone.
      low_resolution: probability of going down to a smaller size and up again.
      low_resolution_scale: bounds of the smaller size, as a share of the image's, in (0, 1].
      resampling: how low resolution goes down and up. "antialiased": down by a triangle as wide as
        the step, up by linear interpolation, sizes rounded up. "opencv": down and up each by one of
        nearest, linear, area, cubic and Lanczos as `cv2.resize` has them, sizes rounded down:
        AdaFace's.
      blur: probability of a Gaussian over 3 or 5 pixels (of 0.8 or 1.1 pixels).
      erasing: probability of a rectangle of one random color (ratio 0.3 to 3.3; arXiv:1708.04896).
      erasing_scale: bounds of the rectangle's share of the image's area, in (0, 1].
      face_mask: probability of a trapezoid of one random color over nose and mouth, where they lie
        in a face aligned to ArcFace's template: 13 to 35 % of the area.

    Returns:
      float32 [B, H, W, 3] in [-1, 1].

    Raises:
      ValueError: images of another rank or dtype, not one key per image, a
        probability outside [0, 1], a negative shift, a resampling that there is not, or a scale
        that is not 0 < low <= high <= 1.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be [B, H, W, 3], not of shape {images.shape}")
    if keys.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"keys of shape {keys.shape} for {len(images)} images: give one key per image, as "
            "jax.random.split(key, len(images)) makes them"
        )
    chances = {  # in the order of their draws
        "flip": flip,
        "crop": crop,
        "photometric": photometric,
        "low_resolution": low_resolution,
        "erasing": erasing,
        "crop_in_place": crop_in_place,
        "color_jitter": color_jitter,
        "blur": blur,
        "hue": hue,
        "gray": gray,
        "face_mask": face_mask,
    }
    for name, chance in chances.items():
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"{name} is a probability in [0, 1], not {chance}")
    if shift < 0:
        raise ValueError(f"shift must not be negative, and is {shift}")
    for name, (low, high) in {
        "crop_scale": crop_scale,
        "low_resolution_scale": low_resolution_scale,
        "erasing_scale": erasing_scale,
    }.items():
        if not 0.0 < low <= high <= 1.0:
            raise ValueError(f"{name} must be 0 < low <= high <= 1, not {(low, high)}")
    if resampling not in RESAMPLING:
        raise ValueError(f"resampling is one of {', '.join(RESAMPLING)}, not {resampling!r}")

    count, height, width, _ = images.shape
    draws = draw(keys)
    drawn = draws.choices < jnp.array(list(chances.values()))[None]
    chosen = dict(zip(chances, drawn.T, strict=True))
    whole = jnp.array([[0.0, 0.0, height, width]])
    output = normalize(images)

    def boxes(name: str, uniform: jax.Array) -> jax.Array:
        inside = boxes_inside(uniform, height=height, width=width, area=crop_scale)
        return jnp.where(chosen[name][:, None], inside, whole)

    def lowered(length: int) -> jax.Array:
        share = between(draws.resolution[:, 0], *low_resolution_scale)
        share = jnp.where(chosen["low_resolution"], share, 1.0)
        if resampling == "antialiased":
            return low_resolution_weights(jnp.ceil(share * length), length)
        full = jnp.full(count, length, jnp.float32)
        sizes = jnp.maximum(jnp.floor(share * length), 1.0)
        down, up = one_of(draws.rules, len(OPENCV)).T
        return opencv_weights(up, sizes, full, length=length) @ opencv_weights(
            down, full, sizes, length=length
        )

    def weights(side: int) -> jax.Array:
        """Those of all that is linear, [B, length, length], of rows (0) or columns (1)."""
        length = (height, width)[side]
        matrices = []
        if crop or shift:
            positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.float32), (count, length))
            if crop:
                start, extent = cropped[:, side, None], cropped[:, side + 2, None]
                positions = start + (positions + 0.5) * (extent / length) - 0.5
            if shift:
                moves = jnp.floor(draws.shift[:, side, None] * (2 * shift + 1)) - shift
                positions = positions + moves
            matrices.append(interpolation(positions, length))
        if low_resolution:
            matrices.append(lowered(length))
        if blur:
            radii = jnp.where(chosen["blur"], 1 + one_of(draws.radius[:, 0], 2), 0)
            matrices.append(blur_weights(radii, length))
        return functools.reduce(lambda first, then: then @ first, matrices)

    if crop_in_place:
        output = occlusion.keep(output, boxes("crop_in_place", draws.kept))
    if crop:
        cropped = boxes("crop", draws.crop)
    if crop or shift or low_resolution or blur:
        output = jnp.einsum("bij,bjkc,blk->bilc", weights(0), output, weights(1))
        if low_resolution and resampling == "opencv":  # cubic and Lanczos overshoot
            output = jnp.clip(output, -1.0, 1.0)
    if flip:
        output = jnp.where(chosen["flip"][:, None, None, None], output[:, :, ::-1], output)
    if photometric:
        factors = between(draws.photometric, 1 - _JITTER, 1 + _JITTER)
        output = color.jitter(output, *jnp.where(chosen["photometric"][:, None], factors, 1.0).T)
    if color_jitter:
        factors = between(draws.jitter, 1 - _JITTER, 1 + _JITTER)
        factors = jnp.where(chosen["color_jitter"][:, None], factors, 1.0)
        output = color.color_jitter(output, factors, one_of(draws.order[:, 0], color.ORDERS))
    if hue:
        degrees = jnp.where(chosen["hue"], between(draws.hue[:, 0], *_HUE), 0.0)
        saturation = jnp.where(chosen["hue"], between(draws.hue[:, 1], *_SATURATION), 1.0)
        output = color.turn_hue(output, degrees, saturation)
    if gray:
        output = jnp.where(chosen["gray"][:, None, None, None], color.luma(output), output)
    if erasing:
        erased = boxes_inside(
            draws.erased, height=height, width=width, area=erasing_scale, ratio=_ERASED_RATIO
        )
        erased = jnp.where(chosen["erasing"][:, None], erased, 0.0)
        output = occlusion.erase(output, erased, between(draws.color, -1.0, 1.0))
    if face_mask:
        masks = face_masks(draws.mask, height=height, width=width)
        masks = jnp.where(chosen["face_mask"][:, None], masks, 0.0)
        output = occlusion.cover(output, masks, between(draws.mask_color, -1.0, 1.0))
    return output
