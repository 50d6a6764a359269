"""Raw pixels and PCA against loops and NumPy's own SVD."""

import numpy as np
import pytest

from facejax.evaluation import (
    fit_pca,
    from_pairs,
    pca_features,
    pixel_features,
    truncate,
    verify,
)


def images(count, size, seed=0):
    """Images that vary along a few directions more than along others."""
    generator = np.random.default_rng(seed)
    patterns = (
        generator.normal(size=(6, size, size)) * np.array([40, 25, 15, 9, 5, 3])[:, None, None]
    )
    noisy = np.tensordot(generator.normal(size=(count, 6)), patterns, 1) + 128
    noisy += generator.normal(size=noisy.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_pixels_are_grey_in_the_range_of_a_network():
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    got = pixel_features(rgb)
    assert got.shape == (3, 20)
    assert got.dtype == np.float32
    for n, y, x in ((0, 0, 0), (2, 3, 4), (1, 2, 3)):
        r, g, b = rgb[n, y, x].astype(float)
        luma = 0.299 * r + 0.587 * g + 0.114 * b
        assert got[n, y * 5 + x] == pytest.approx(luma / 127.5 - 1, abs=1e-6)
    grey = np.repeat(rgb[..., :1], 3, axis=-1)
    np.testing.assert_allclose(pixel_features(grey), pixel_features(rgb[..., 0]), atol=1e-6)
    with pytest.raises(ValueError, match="float32"):
        pixel_features(rgb.astype(np.float32))


@pytest.mark.parametrize(("count", "size"), [(200, 6), (20, 9)])  # covariance; Gram matrix
def test_pca_against_the_singular_value_decomposition(count, size):
    train, test = images(count, size), images(7, size, seed=0)[:7]
    pca = fit_pca(train, components=5)
    pixels = (train.reshape(count, -1).astype(np.float64) - 127.5) / 127.5
    mean = pixels.mean(axis=0)
    _, values, rows = np.linalg.svd(pixels - mean, full_matrices=False)
    deviations = values[:5] / np.sqrt(count - 1)
    np.testing.assert_allclose(pca.scale, deviations, rtol=1e-5)
    signs = np.sign(np.sum(pca.basis * rows[:5].T, axis=0))
    np.testing.assert_allclose(pca.basis * signs, rows[:5].T, atol=1e-5)
    expected = ((test.reshape(7, -1) - 127.5) / 127.5 - mean) @ rows[:5].T / deviations
    np.testing.assert_allclose(pca_features(pca, test) * signs, expected, atol=2e-4)


def test_training_features_are_white():
    train = images(150, 6)
    features = pca_features(fit_pca(train, components=6), train)
    np.testing.assert_allclose(np.cov(features.T), np.eye(6), atol=1e-4)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-5)


def test_fewer_components_are_the_first_ones():
    train = images(50, 6)
    many, few = fit_pca(train, components=6), fit_pca(train, components=2)
    np.testing.assert_allclose(
        np.abs(pca_features(truncate(many, 2), train)), np.abs(pca_features(few, train)), atol=1e-4
    )


def test_a_direction_without_variance_gives_zero():
    train = np.repeat(images(2, 6), 10, axis=0)  # two distinct images: one direction
    features = pca_features(fit_pca(train, components=4), images(5, 6, seed=3))
    assert np.isfinite(features).all()
    assert (features[:, 1:] == 0).all()
    assert (features[:, 0] != 0).all()


def test_refuses_more_components_than_there_are():
    with pytest.raises(ValueError, match="10 images of 36 pixels have at most 9"):
        fit_pca(images(10, 6), components=10)
    with pytest.raises(ValueError, match="0 components"):
        fit_pca(images(10, 6), components=0)


def test_known_accuracy_on_real_faces(real_faces):
    """Raw grey pixels: 61 % is known of these pairs (standard error about 1.5)."""
    data = real_faces / "lfw_dev"
    test = from_pairs(data / "pairs_test.txt", data / "test", image_size=64)
    features = pixel_features(np.concatenate([*test.images]))
    got = verify(features, test.indices, test.same, test.folds, fars=(1e-2,))
    assert got.accuracy.accuracy == pytest.approx(0.61, abs=0.015)
