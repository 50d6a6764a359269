"""Quality: blur and pose against known ones, on rendered faces and on arrays of known numbers."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from facejax.recognition import quality
from facejax.recognition.quality import Quality, blur, light, measure, pose, reasons
from facejax.recognition.templates import ARCFACE
from facejax.synthetic import draw_identity, draw_nuisance
from facejax.synthetic.shape import nose_and_mouth, rotation, skin_distance

EYES = 35.24  # pixels between the eyes of the template
FINE = Quality(60.0, 0.02, 3.0, -4.0, 2.0, 120.0, 40.0)


def edges(sigma, *, low=60.0, high=180.0, size=112):
    """Slanted stripes, their edges blurred by a known Gaussian: error functions in float64."""
    down, right = np.mgrid[:size, :size]
    across = (right * np.cos(0.3) + down * np.sin(0.3)) * 112 / size
    share = 0.0
    for number in range(-1, 12):
        share = share + (-1) ** number * 0.5 * erf((across - 14 * number) / np.sqrt(2) / sigma)
    share = share - share.min()
    grey = low + (high - low) * share / share.max()
    return np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, 2)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_an_edges_blur_is_measured_whatever_its_contrast(sigma):
    measured = [
        blur(edges(sigma, low=low, high=high), ARCFACE)
        for low, high in ((60, 180), (100, 140), (0, 255))
    ]
    # Differences between neighbors blur, and the pixels beside the steepest count, too.
    known = sigma / EYES
    assert (np.array(measured) > 0.95 * known).all()
    assert (np.array(measured) < np.hypot(known, 0.03)).all()
    np.testing.assert_allclose(measured, measured[0], rtol=0.05)


def test_blur_is_a_share_of_the_face():
    """The same picture at another size of crop has the same blur."""
    for factor in (0.5, 2.0):
        got = blur(edges(2.0, size=int(112 * factor)), ARCFACE * factor)
        np.testing.assert_allclose(got, blur(edges(2.0), ARCFACE), rtol=0.15)
    assert blur(np.full((112, 112, 3), 90, np.uint8), ARCFACE) == np.inf


def projected(yaw, pitch, roll, scale, rng, spread):
    """Five points of a head of its own shape, turned by matrices, as a camera sees them."""
    points = np.array(
        [[-1, 0, 0], [1, 0, 0], [0, -1.16, 0.84], [-0.82, -2.12, 0.12], [0.82, -2.12, 0.12]]
    )
    points = points + spread * rng.normal(size=(5, 3))
    y, p, r = np.radians([yaw, pitch, -roll])
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_x = [[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]]
    about_z = [[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]
    seen = (points / 2) @ (np.array(about_z) @ about_x @ about_y).T * scale
    return seen[:, :2] * [1, -1] + rng.uniform(0, 2000, 2)


def test_the_pose_of_a_head_that_is_known():
    rng = np.random.default_rng(0)
    wanted = np.column_stack(
        [*(rng.uniform(-most, most, 300) for most in (55, 35, 170)), rng.uniform(5, 300, 300)]
    )
    exact = pose(np.stack([projected(*row, rng, 0.0) for row in wanted]))
    # The fit leans to the front a little.
    np.testing.assert_allclose(exact[:, :3], wanted[:, :3], atol=1.5)
    np.testing.assert_allclose(exact[:, 3], wanted[:, 3], rtol=0.01)
    assert (np.abs(exact[:, :2]) <= np.abs(wanted[:, :2]) + 0.3).all()
    # Heads that differ from the mean one by a tenth of half the distance between the eyes.
    near = pose(np.stack([projected(*row, rng, 0.1) for row in wanted])) - wanted
    print("degrees off, yaw, pitch, roll:", np.abs(near[:, :3]).mean(0).round(1))
    assert (np.abs(near[:, :3]).mean(0) < [8, 10, 6]).all()


def test_pose_of_what_is_no_face():
    points = np.stack([ARCFACE, np.full((5, 2), np.nan), np.full((5, 2), 3.0)])
    got = pose(points)
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1:]).all()
    assert np.abs(got[0, :3]).max() < 8
    np.testing.assert_allclose(pose(points.reshape(3, 1, 5, 2))[:, 0], got)
    assert pose(np.zeros((0, 5, 2))).shape == (0, 4)
    clauses = reasons(FINE._replace(size=np.nan, yaw=np.nan, pitch=np.nan))
    assert len(clauses) == 3


def landmarks_of(identity, nuisance):
    """Where five points of a synthetic head are seen, from its own surface: [5, 2], y downward."""
    nose, mouth = nose_and_mouth(identity)
    spacing, width, eye = identity.eye_spacing, identity.mouth_width, identity.eye_height
    x = jnp.stack([-spacing, spacing, jnp.zeros_like(nose), -width, width])
    y = jnp.stack([eye, eye, nose + 0.05, mouth, mouth])
    depths = jnp.linspace(0.2, 1.3, 80)
    grid = jnp.broadcast_arrays(x[:, None], y[:, None], depths[None])
    inside = skin_distance(*grid, identity, nuisance) <= 0
    z = depths[jnp.where(inside, jnp.arange(80)[None], 0).max(axis=1)]
    seen = jnp.stack([x, y, z], axis=1) @ rotation(nuisance).T
    return seen[:, :2] * jnp.array([[1.0, -1.0]])


def test_synthetic_heads_turn():
    """The angles grow with those of the renderer, for each of 8 people."""
    turns = np.radians([-40, -20, 0, 20, 40])
    nods = np.radians([-25, -12, 0, 12, 25])
    angles = np.zeros((2, 10), np.float32)
    angles[0, :5], angles[1, 5:] = turns, nods

    def series(key):
        base = draw_nuisance(jax.random.key(0), jnp.float32(0.0))
        identity = draw_identity(key)
        pose_at = lambda yaw, pitch: base._replace(yaw=yaw, pitch=pitch)  # noqa: E731
        return jax.vmap(lambda *angles: landmarks_of(identity, pose_at(*angles)))(*angles)

    people = jax.random.split(jax.random.key(1), 8)
    seen = np.asarray(jax.jit(jax.vmap(series))(people))
    turned, nodded = seen[:, :5], seen[:, 5:]
    yaws, pitches = pose(turned)[..., 0], pose(nodded)[..., 1]
    print(
        yaws.mean(0).round(), yaws.std(0).round(), pitches.mean(0).round(), pitches.std(0).round()
    )
    assert (np.diff(yaws) > 0).all()
    assert (np.diff(pitches) > 0).all()
    assert np.abs(yaws.mean(0) - np.degrees(turns)).max() < 8
    # These heads are no mean ones: their mouths lie 0.14 behind their eyes.
    assert (pitches[:, 0] < -15).all()
    assert (pitches[:, -1] > 10).all()
    assert np.abs(yaws - np.degrees(turns)).mean() < 8


def test_light_is_that_of_the_face():
    image = np.full((112, 112, 3), 240, np.uint8)
    image[20:, 10:102] = (100, 100, 100)
    image[60:70, 10:102] = (120, 120, 120)
    brightness, contrast = light(image, ARCFACE)
    assert 100 < brightness < 130
    assert 3 < contrast < 20
    dark = [light((image * share).astype(np.uint8), ARCFACE)[0] for share in (1.0, 0.5, 0.1)]
    assert dark == sorted(dark, reverse=True)
    assert "too dark" in reasons(FINE._replace(brightness=dark[-1]))[0]
    assert "too bright" in reasons(FINE._replace(brightness=250.0))[0]


def test_reasons_are_clauses_with_numbers():
    assert reasons(FINE) == []
    small = FINE._replace(size=11.7)
    assert reasons(small) == ["too small (12 pixels between the eyes, at least 16 are wanted)"]
    assert reasons(small, minimum_size=10) == []
    assert reasons(FINE, minimum_size=100, maximum_blur=0.01, maximum_yaw=2, maximum_pitch=3) != []
    worst = Quality(3.0, 0.2, -70.0, 50.0, 0.0, 10.0, 2.0)
    starts = [
        "too small",
        "blurred",
        "turned too far sideways",
        "turned too far up",
        "too dark",
        "without",
    ]
    assert [
        text[: len(start)] for text, start in zip(reasons(worst), starts, strict=True)
    ] == starts
    assert len(reasons(FINE._replace(blur=np.inf, contrast=0.0))) == 2
    for limit, value in (("yaw", quality.MAXIMUM_YAW), ("pitch", quality.MAXIMUM_PITCH)):
        assert reasons(FINE._replace(**{limit: -value})) == []
        assert len(reasons(FINE._replace(**{limit: -value - 0.1}))) == 1


def test_real_crops_are_sane(real_faces):
    """Published photographs of faces: nearly all fit, and blurring one is noticed."""
    paths = sorted((real_faces / "lfw_dev" / "test").glob("*/*.jpg"))[::25]
    crops = np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])
    measured = measure(np.stack([ARCFACE] * len(crops)), crops, ARCFACE)
    refused = [one for one in measured if reasons(one)]
    assert len(refused) <= 0.03 * len(crops)
    for crop, one in zip(crops[:10], measured, strict=False):
        before = one.blur
        for sigma in (1.0, 2.0, 3.0, 5.0):
            now = blur(cv2.GaussianBlur(crop, (0, 0), sigma), ARCFACE)
            assert now > before
            before = now
        assert reasons(one._replace(blur=before))
