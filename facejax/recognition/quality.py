"""Quality: how fit a face is to be recognised, from its landmarks and its aligned crop.

What is measured is plain and has a unit: pixels between the eyes, the blur's width, angles of the
head, brightness. `reasons` says in sentences what speaks against a face. Training's quality-aware
losses have nothing to do with it.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np

# The limits of `reasons`; what they let through is in tests/test_quality.py.
MINIMUM_SIZE = 16.0
MAXIMUM_BLUR = 0.07
MAXIMUM_YAW, MAXIMUM_PITCH = 45.0, 35.0
BRIGHTNESS = (25.0, 235.0)
MINIMUM_CONTRAST = 8.0

# A mean face, in units of the distance between the eyes: x to the right, y up, z to the camera.
_MEAN_FACE = np.array(
    [
        [-0.5, 0.0, 0.0],
        [0.5, 0.0, 0.0],
        [0.0, -0.58, 0.42],
        [-0.41, -1.06, 0.06],
        [0.41, -1.06, 0.06],
    ]
)
# Shapes differ by some 0.05 of the distance between the eyes, poses by some 0.6 of a radian.
_PRIOR = 0.08
_STEPS, _NUDGE = 25, 1e-5  # of the fit; most faces take five steps
_REBLUR = 1.5  # pixels of a crop of 112
_EDGES = 0.15  # the share of the steepest pixels that the blur is measured at


class Quality(NamedTuple):
    """The measures of one face.

    Attributes:
      size: pixels between the eyes in the photo, as they would be seen from the front.
      blur: standard deviation of the blur, as a share of the distance between the eyes: 0.02 is
        sharp, 0.1 hardly shows the eyes. What a small face loses by being enlarged counts, too.
      yaw: degrees that the head is turned to the side, positive where the nose points to the right
        of the photo.
      pitch: degrees that it is raised (positive) or lowered.
      roll: degrees that it is tilted, positive clockwise as one sees it.
      brightness: mean of the face's luma in the crop, 0 to 255.
      contrast: its standard deviation.
    """

    size: float
    blur: float
    yaw: float
    pitch: float
    roll: float
    brightness: float
    contrast: float


def measure(landmarks: np.ndarray, crops: np.ndarray, template: np.ndarray) -> list[Quality]:
    """All measures of faces.

    Args:
      landmarks: float [N, 5, 2], (x, y) in their photos.
      crops: uint8 RGB [N, H, W, 3], aligned.
      template: float [5, 2], the landmarks' places in a crop.
    """
    measured = []
    for (yaw, pitch, roll, size), crop in zip(pose(landmarks).tolist(), crops, strict=True):
        brightness, contrast = light(crop, template)
        measured.append(Quality(size, blur(crop, template), yaw, pitch, roll, brightness, contrast))
    return measured


def pose(landmarks: np.ndarray) -> np.ndarray:
    """The head's angles and its size, from five landmarks.

    A mean face is turned, scaled and moved until its points lie nearest to the landmarks in the
    sense of least squares, without perspective (scaled orthographic projection), and a little
    nearer to the front than that, since faces differ from the mean one. Single angles are off by
    some 5 to 10 degrees, pitch more than yaw.

    Args:
      landmarks: float [..., 5, 2], (x, y) in pixels, y downward.

    Returns:
      float64 [..., 4]: yaw, pitch and roll in degrees, as in `Quality`, and pixels in a distance
      between the eyes. NaN where landmarks are not finite or all in one place.
    """
    points = np.asarray(landmarks, np.float64) * [1.0, -1.0]
    points = points.reshape(-1, 5, 2) - points.reshape(-1, 5, 2).mean(axis=1, keepdims=True)
    model = _MEAN_FACE - _MEAN_FACE.mean(axis=0)
    spread = np.sqrt((points**2).sum(axis=(1, 2)) / (model[:, :2] ** 2).sum())
    some = np.isfinite(spread) & (spread > 0)
    points = points[some] / spread[some, None, None]

    # Levenberg-Marquardt over yaw, pitch, roll and scale, all faces at a time.
    eyes, mouth = (
        points[:, 1] - points[:, 0],
        points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1),
    )
    along = eyes + np.stack([-mouth[:, 1], mouth[:, 0]], axis=1)  # for a start
    value = np.zeros((len(points), 4))
    value[:, 2], value[:, 3] = np.arctan2(along[:, 1], along[:, 0]), 1.0
    error, damping = points - _seen(value, model), np.full(len(points), 1e-3)
    prior = np.diag([_PRIOR**2, _PRIOR**2, 0.0, 0.0])
    for _ in range(_STEPS if len(points) else 0):
        nudged = value + _NUDGE * np.eye(4)[:, None]  # forward differences lead down well enough
        jacobian = (_seen(nudged, model) - (points - error)).reshape(4, -1, 10) / _NUDGE
        normal = np.einsum("ink,jnk->nij", jacobian, jacobian) + damping[:, None, None] * np.eye(4)
        normal += prior
        slope = np.einsum("ink,nk->ni", jacobian, error.reshape(-1, 10)) - value @ prior
        change = np.linalg.solve(normal, slope[..., None])[..., 0]
        after = points - _seen(value + change, model)
        better = _cost(after, value + change) < _cost(error, value)
        value = np.where(better[:, None], value + change, value)
        error = np.where(better[:, None, None], after, error)
        damping = np.where(better, damping / 5, damping * 5)
        if np.abs(change).max() < 1e-4:
            break
    result = np.full((len(some), 4), np.nan)
    degrees = (np.degrees(value[:, :3]) + 180) % 360 - 180
    result[some] = np.column_stack([degrees * [1.0, 1.0, -1.0], value[:, 3] * spread[some]])
    return result.reshape(*np.shape(landmarks)[:-2], 4)


def _cost(error: np.ndarray, value: np.ndarray) -> np.ndarray:
    return (error**2).sum(axis=(1, 2)) + ((_PRIOR * value[:, :2]) ** 2).sum(axis=1)


def _seen(value: np.ndarray, model: np.ndarray) -> np.ndarray:
    """The model [5, 3] turned by yaw, pitch and roll, in this order, and scaled: [..., 5, 2]."""
    yaw, pitch, roll, scale = np.moveaxis(value[..., None], -2, 0)
    x = np.cos(yaw) * model[:, 0] + np.sin(yaw) * model[:, 2]
    z = np.cos(yaw) * model[:, 2] - np.sin(yaw) * model[:, 0]
    y = np.cos(pitch) * model[:, 1] + np.sin(pitch) * z
    turned = [np.cos(roll) * x - np.sin(roll) * y, np.sin(roll) * x + np.cos(roll) * y]
    return scale[..., None] * np.stack(turned, axis=-1)


def blur(crop: np.ndarray, template: np.ndarray) -> float:
    """The blur's standard deviation as a share of the distance between the eyes.

    The crop is blurred once more by a known Gaussian, and the slopes before and after are compared
    where they are steepest: at an edge blurred by s, s0 more makes the slope R = sqrt(1 + (s0/s)^2)
    times smaller (Zhuo and Sim, "Defocus map estimation from a single image", Pattern Recognition
    44, 2011, equation 6). So it depends on neither contrast nor brightness.

    Args:
      crop: uint8 RGB [H, W, 3], aligned.
      template: float [5, 2], the landmarks' places in it.

    Returns:
      The share; infinite for a crop without any edge.
    """
    gray, mask, eyes = _face(crop, template)
    more = _REBLUR * eyes / 35.24  # the distance between the eyes in a crop of 112
    slope, after = (_slopes(image)[mask] for image in (gray, cv2.GaussianBlur(gray, (0, 0), more)))
    steepest = np.argpartition(slope, -int(_EDGES * slope.size))[-int(_EDGES * slope.size) :]
    before, behind = float(slope[steepest].mean()), float(after[steepest].mean())
    if before < 0.5:  # of a grey level in a pixel: less than the rounding makes
        return float("inf")
    return float(more / np.sqrt(max((before / behind) ** 2 - 1, 1e-4)) / eyes)


def _slopes(gray: np.ndarray) -> np.ndarray:
    """The length of the gradient [H, W], by central differences."""
    right, down = (
        cv2.Sobel(gray, cv2.CV_32F, *axes, ksize=1, scale=0.5) for axes in ((1, 0), (0, 1))
    )
    return cv2.magnitude(right, down)


def light(crop: np.ndarray, template: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the luma on the face, 0 to 255.

    Args:
      crop: uint8 RGB [H, W, 3], aligned.
      template: float [5, 2], the landmarks' places in it.
    """
    gray, mask, _ = _face(crop, template)
    return float(gray[mask].mean()), float(gray[mask].std())


def _face(crop: np.ndarray, template: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Luma float32 [H, W], the pixels on the face, and the pixels between the eyes."""
    gray = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY).astype(np.float32)
    points = np.asarray(template, np.float64)
    eyes = float(np.linalg.norm(points[1] - points[0]))
    mask = _ellipse(gray.shape[0], gray.shape[1], *(float(v) for v in points.mean(axis=0)), eyes)
    return gray, mask, eyes


@functools.cache
def _ellipse(height: int, width: int, x: float, y: float, eyes: float) -> np.ndarray:
    """The pixels from brows to mouth: no hair, and little of what is behind the head."""
    down, right = np.mgrid[:height, :width]
    return ((right - x) / (1.1 * eyes)) ** 2 + ((down - y) / (1.3 * eyes)) ** 2 <= 1.0


def reasons(
    quality: Quality,
    *,
    minimum_size: float = MINIMUM_SIZE,
    maximum_blur: float = MAXIMUM_BLUR,
    maximum_yaw: float = MAXIMUM_YAW,
    maximum_pitch: float = MAXIMUM_PITCH,
    brightness: tuple[float, float] = BRIGHTNESS,
    minimum_contrast: float = MINIMUM_CONTRAST,
) -> list[str]:
    """What speaks against a face, a clause each; empty if nothing does.

    Args:
      quality: of `measure`.
      minimum_size: pixels between the eyes; with fewer it is "too small". A face of 16 is some 32
        pixels wide.
      maximum_blur: a share of the distance between the eyes; above it is "blurred".
      maximum_yaw: degrees to either side; beyond it is "turned too far".
      maximum_pitch: degrees up or down, likewise.
      brightness: least and greatest mean luma; outside it is "too dark" or "too bright".
      minimum_contrast: least standard deviation of the luma.

    Returns:
      Clauses such as "too small (12 pixels between the eyes, at least 16 are wanted)".
    """
    found = []
    if not quality.size >= minimum_size:
        found.append(
            f"too small ({quality.size:.0f} pixels between the eyes, at least {minimum_size:g} are "
            "wanted)"
        )
    if not quality.blur <= maximum_blur:
        found.append(
            f"blurred (over {quality.blur:.3f} of the distance between the eyes, at most "
            f"{maximum_blur:g} is wanted)"
        )
    turned = (("sideways", quality.yaw, maximum_yaw), ("up or down", quality.pitch, maximum_pitch))
    for way, angle, most in turned:
        if not abs(angle) <= most:
            found.append(
                f"turned too far {way} ({abs(angle):.0f} degrees, at most {most:g} are wanted)"
            )
    if quality.brightness < brightness[0]:
        found.append(f"too dark (mean {quality.brightness:.0f} of 255)")
    elif quality.brightness > brightness[1]:
        found.append(f"too bright (mean {quality.brightness:.0f} of 255)")
    if not quality.contrast >= minimum_contrast:
        found.append(f"without contrast (a standard deviation of {quality.contrast:.0f} of 255)")
    return found
