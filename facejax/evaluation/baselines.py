"""What a trained network must beat: raw pixels, and principal components (Eigenfaces).

Both give feature vectors to be compared by their cosine, like embeddings. NumPy, no JAX.
"""

from typing import NamedTuple

import numpy as np


class Pca(NamedTuple):
    """A whitening projection fitted on training images."""

    mean: np.ndarray  # [P] float32, the mean image
    basis: np.ndarray  # [P, K] float32, orthonormal columns, most variance first
    scale: np.ndarray  # [K] float32, standard deviation of the training images along each


def pixel_features(images: np.ndarray) -> np.ndarray:
    """Grey pixels in [-1, 1], (grey - 127.5) / 127.5, as one vector per image.

    The image's own mean is not removed: mid-grey is zero, as in what a network is given.

    Args:
      images: uint8 [N, H, W], or RGB [N, H, W, 3], whose grey is ITU-R BT.601 luma as OpenCV's.

    Returns:
      float32 [N, H * W].
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(f"uint8 images are wanted, not {images.dtype} {images.shape}")
    if images.ndim == 4:
        red, green, blue = (images[..., channel].astype(np.float32) for channel in range(3))
        images = 0.299 * red + 0.587 * green + 0.114 * blue
    return (images.reshape(len(images), -1).astype(np.float32) - 127.5) / 127.5


def fit_pca(images: np.ndarray, *, components: int) -> Pca:
    """Principal components of images, with the scale that whitens them.

    Args:
      images: uint8 [N, H, W] or [N, H, W, 3], training images only.
      components: K, at most min(N - 1, H * W); `truncate` gives fewer without fitting again.

    Returns:
      Pca, by the eigenvectors of the smaller of the covariance and the Gram matrix, in float64.

    Raises:
      ValueError: more components than the images can have.

    References:
      Turk and Pentland, Eigenfaces for Recognition, 1991:
      https://doi.org/10.1162/jocn.1991.3.1.71
    """
    features = pixel_features(images).astype(np.float64)
    count, pixels = features.shape
    if not 0 < components <= min(count - 1, pixels):
        raise ValueError(
            f"{components} components are wanted, and {count} images of {pixels} pixels have at "
            f"most {min(count - 1, pixels)}"
        )
    mean = features.mean(axis=0)
    centered = features - mean
    if pixels <= count:
        values, basis = np.linalg.eigh(centered.T @ centered)
        values, basis = values[::-1][:components], basis[:, ::-1][:, :components]
    else:  # X X^T u = s^2 u gives X^T X (X^T u) = s^2 (X^T u), whose length is s
        values, dual = np.linalg.eigh(centered @ centered.T)
        values, dual = values[::-1][:components], dual[:, ::-1][:, :components]
        basis = centered.T @ dual
        basis /= np.maximum(np.linalg.norm(basis, axis=0), np.finfo(np.float64).tiny)
    scale = np.sqrt(np.maximum(values, 0) / (count - 1))
    return Pca(*(array.astype(np.float32) for array in (mean, basis, scale)))


def truncate(pca: Pca, components: int) -> Pca:
    """The first components of a fitted Pca."""
    return Pca(pca.mean, pca.basis[:, :components], pca.scale[:components])


def pca_features(pca: Pca, images: np.ndarray) -> np.ndarray:
    """Whitened coordinates: each component divided by its deviation over the training images.

    A component along which the training images do not vary (up to rounding) is left at zero.

    Args:
      pca: of `fit_pca`.
      images: as given to `fit_pca`, of the same size.

    Returns:
      float32 [N, K].
    """
    coordinates = (pixel_features(images) - pca.mean) @ pca.basis
    varying = pca.scale > 1e-6 * pca.scale[0]
    return np.where(varying, coordinates / np.where(varying, pca.scale, 1), 0).astype(np.float32)
