"""Where the five landmarks of an upright face lie in the image that a network takes.

The rows are left eye, right eye, nose, left and right corner of the mouth, left and right as they
are seen in the image; x, y in pixels, (0, 0) is the middle of the first pixel.
"""

import numpy as np

Size = int | tuple[int, int]  # a side, or (height, width)

# That of InsightFace, whose data sets, and most that came after, are aligned to it: 112x112 pixels.
ARCFACE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    np.float32,
)

# [2, 3], from a pixel of an ArcFace crop to one of dlib's chip (`get_face_chip`, 150x150 pixels,
# padding 0.25): the median of 390 ArcFace crops of LFW, aligned by dlib's five-point predictor.
ARCFACE_TO_DLIB = np.array([[1.5262, -0.0094, -9.020], [0.0094, 1.5262, -33.463]], np.float32)

# dlib aligns by the corners of the eyes and the base of the nose, which detectors of five points
# don't find. At these five the least-squares similarity gives the chip that dlib's alignment gives.
DLIB = (ARCFACE @ ARCFACE_TO_DLIB[:, :2].T + ARCFACE_TO_DLIB[:, 2]).astype(np.float32)

for _template in (ARCFACE, ARCFACE_TO_DLIB, DLIB):
    _template.setflags(write=False)


def arcface(image_size: Size) -> np.ndarray:
    """The ArcFace template for images of another size: scaled by the height, centered in the width.

    An image of 112x112 pixels that is resized to a square has its landmarks there. 112x96, another
    usual size, is the 112x112 image without 8 columns on either side.

    Args:
      image_size: in pixels, the side or (height, width).

    Returns:
      float32 [5, 2].
    """
    height, width = height_width(image_size)
    scaled = (ARCFACE + 0.5) * (
        height / 112
    ) - 0.5  # pixels are squares, and 0 is the middle of one
    return (scaled + np.array([(width - height) / 2, 0])).astype(np.float32)


def height_width(image_size: Size) -> tuple[int, int]:
    """(height, width) of a size that may be a side.

    Args:
      image_size: in pixels, the side or (height, width).
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return int(height), int(width)
