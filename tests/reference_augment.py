"""What augmentation does, in float64, pixel by pixel where no other library does it.

Images are [H, W, 3] in [-1, 1]; the numbers that are drawn are given.
"""

import itertools

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])
INTERPOLATIONS = (
    cv2.INTER_NEAREST,
    cv2.INTER_LINEAR,
    cv2.INTER_AREA,
    cv2.INTER_CUBIC,
    cv2.INTER_LANCZOS4,
)


def keep(image, box):
    """Black where a pixel's centre lies outside of (top, left, height, width)."""
    result = np.full(image.shape, -1.0)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            rows = box[0] <= y + 0.5 < box[0] + box[2]
            if rows and box[1] <= x + 0.5 < box[1] + box[3]:
                result[y, x] = image[y, x]
    return result


def cover(image, shape, color):
    """A trapezoid of one color; its left and right edges by the line through two corners."""
    top, bottom, middle, upper, lower = shape
    result = image.copy()
    for y in range(image.shape[0]):
        if not top <= y + 0.5 < bottom:
            continue
        half = np.interp(y + 0.5, [top, bottom], [upper, lower])
        for x in range(image.shape[1]):
            if middle - half < x + 0.5 < middle + half:
                result[y, x] = color
    return result


def resize(image, height, width, rule):
    """`cv2.resize`; in float64, which it has for all rules."""
    made = cv2.resize(image, (width, height), interpolation=INTERPOLATIONS[rule])
    return made.reshape(height, width, -1)


def low_resolution(image, share, down, up):
    """To a share of the size, rounded down, and up again."""
    height, width = image.shape[:2]
    small = resize(image, max(int(share * height), 1), max(int(share * width), 1), down)
    return np.clip(resize(small, height, width, up), -1, 1)


def antialiased(image, share):
    """To a share of the size, rounded up, by a triangle; up again by linear interpolation."""
    for axis in range(2):
        image = np.swapaxes(image, 0, axis)
        length = len(image)
        size = int(np.ceil(share * length))
        small = []
        for i in range(size):
            centre, step = (i + 0.5) * length / size - 0.5, length / size
            weights = [max(0.0, 1 - abs(centre - j) / step) for j in range(length)]
            small.append(sum(w * image[j] for j, w in enumerate(weights)) / sum(weights))
        large = []
        for i in range(length):
            position = min(max((i + 0.5) * size / length - 0.5, 0), size - 1)
            before = int(position)
            after, part = min(before + 1, size - 1), position - before
            large.append((1 - part) * small[before] + part * small[after])
        image = np.swapaxes(np.array(large), 0, axis)
    return image


def blur(image, radius):
    """A Gaussian over 2 radius + 1 pixels, mirrored about the outermost pixels."""
    if not radius:
        return image
    sigma = 0.8 + 0.3 * (radius - 1)
    taps = range(-radius, radius + 1)
    total = sum(np.exp(-0.5 * (k / sigma) ** 2) for k in taps)
    for axis in range(2):
        image = np.swapaxes(image, 0, axis)
        last = len(image) - 1
        rows = []
        for i in range(len(image)):
            mirrored = [last - abs(last - abs(i + k)) for k in taps]
            weights = [np.exp(-0.5 * (k / sigma) ** 2) / total for k in taps]
            rows.append(sum(w * image[j] for w, j in zip(weights, mirrored, strict=True)))
        image = np.swapaxes(np.array(rows), 0, axis)
    return image


def color_jitter(image, factors, order):
    """Brightness, contrast and saturation, number `order` of their permutations."""
    image = (image + 1) / 2
    for which in list(itertools.permutations(range(3)))[order]:
        mean = np.mean([pixel @ LUMA for row in image for pixel in row])
        for y, x in itertools.product(*map(range, image.shape[:2])):
            still = (0.0, mean, image[y, x] @ LUMA)[which]
            changed = factors[which] * image[y, x] + (1 - factors[which]) * still
            image[y, x] = np.clip(changed, 0, 1)
    return 2 * image - 1


def turn_hue(image, degrees, saturation):
    """A turn of I + iQ, as a complex number, for each pixel."""
    forward = np.array([LUMA, [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    back = np.linalg.inv(forward)
    result = np.empty(image.shape)
    for y, x in itertools.product(*map(range, image.shape[:2])):
        luma, i, q = forward @ ((image[y, x] + 1) / 2)
        turned = (i + 1j * q) * saturation * np.exp(-1j * np.deg2rad(degrees))
        result[y, x] = 2 * np.clip(back @ [luma, turned.real, turned.imag], 0, 1) - 1
    return result


def gray(image):
    return np.repeat((image @ LUMA)[..., None], 3, axis=2)
