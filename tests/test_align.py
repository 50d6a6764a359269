"""Alignment: the least-squares similarity, the bilinear warp, crops of photos of any size."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition import align
from facejax.recognition.templates import ARCFACE
from tests.pictures import assert_one_sentence, smooth

TEMPLATE = ARCFACE.astype(np.float64)
EXACT_WARP = int(cv2.__version__.split(".")[0]) >= 5  # OpenCV 4 rounds positions to 1/32 pixel


def turned(rng, scale, *, noise=2.0, place=(0, 1500)):
    """Landmarks of a face that is `scale` times as large as in the crop, anywhere, turned."""
    angle = rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spread = rng.normal(size=(5, 2)) * noise
    return scale * (TEMPLATE + spread) @ turn.T + rng.uniform(*place, 2)


def umeyama(points, goal):
    """The paper's equations 38 to 43, by singular values, in float64."""
    x, y = points - points.mean(0), goal - goal.mean(0)
    u, d, vt = np.linalg.svd(y.T @ x / len(x))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = (d * np.diag(sign)).sum() / (x**2).sum() * len(x)
    return np.column_stack([scale * rotation, goal.mean(0) - scale * rotation @ points.mean(0)])


def test_the_transform_is_umeyamas():
    rng = np.random.default_rng(0)
    worst_host, worst_jax = 0.0, 0.0
    program = jax.jit(align.similarity)
    for _ in range(200):
        points = turned(rng, rng.uniform(0.3, 10), noise=rng.uniform(0, 15))
        wanted = umeyama(points, TEMPLATE)
        host = align.similarity(points, TEMPLATE)
        assert isinstance(host, np.ndarray)
        assert host.dtype == np.float64
        worst_host = max(worst_host, np.abs(host - wanted).max())
        small = points.astype(np.float32)
        got = np.asarray(program(jnp.asarray(small), jnp.asarray(ARCFACE)))
        assert got.dtype == np.float32
        wanted = umeyama(small.astype(np.float64), TEMPLATE)
        worst_jax = max(worst_jax, np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1))
    print(f"NumPy {worst_host:.1e}, JAX in float32 {worst_jax:.1e} of the largest entry")
    assert worst_host < 1e-9
    assert worst_jax < 2e-6


def test_the_transform_is_that_of_skimage():
    transform = pytest.importorskip("skimage.transform")
    rng = np.random.default_rng(1)
    for _ in range(50):
        points = turned(rng, rng.uniform(0.3, 10))
        wanted = transform.SimilarityTransform.from_estimate(points, TEMPLATE).params[:2]
        np.testing.assert_allclose(align.similarity(points, TEMPLATE), wanted, atol=1e-5)


def test_the_transform_is_that_of_opencv():
    rng = np.random.default_rng(2)
    for _ in range(50):
        points = turned(rng, rng.uniform(0.5, 5), place=(0, 400))
        wanted, _ = cv2.estimateAffinePartial2D(points, TEMPLATE, ransacReprojThreshold=1e4)
        np.testing.assert_allclose(align.similarity(points, TEMPLATE), wanted, atol=1e-3)


def test_the_transform_is_batched():
    rng = np.random.default_rng(3)
    points = np.stack([turned(rng, 2.0) for _ in range(6)]).reshape(2, 3, 5, 2).astype(np.float32)
    each = np.stack([align.similarity(one, ARCFACE) for one in points.reshape(6, 5, 2)])
    whole = align.similarity(points, ARCFACE)
    np.testing.assert_array_equal(whole, each.reshape(2, 3, 2, 3))
    got = jax.jit(align.similarity)(points, ARCFACE)
    np.testing.assert_allclose(got, whole, rtol=1e-5, atol=1e-3)
    mapped = jax.jit(jax.vmap(jax.vmap(align.similarity, (0, None)), (0, None)))(points, ARCFACE)
    np.testing.assert_allclose(mapped, got, rtol=1e-6, atol=1e-3)


DEGENERATE = {
    "coincident": np.full((5, 2), 700.1),
    "at the origin": np.zeros((5, 2)),
    "nan": np.where(np.arange(10).reshape(5, 2) == 3, np.nan, TEMPLATE),
    "infinite": np.where(np.arange(10).reshape(5, 2) == 3, np.inf, TEMPLATE),
}


@jax.jit
@jax.value_and_grad
def total_and_slope(points):
    return align.similarity(points, jnp.asarray(ARCFACE)).sum()


@pytest.mark.parametrize("name", DEGENERATE)
def test_landmarks_without_a_similarity_give_zeros_and_a_refusal(name):
    points = DEGENERATE[name]
    assert not align.similarity(points, TEMPLATE).any()
    value, slope = total_and_slope(jnp.asarray(points, jnp.float32))
    assert value == 0
    assert not np.asarray(slope).any()  # not NaN either
    with pytest.raises(UserError, match="face 1") as caught:
        align.crop_faces(np.zeros((9, 9, 3), np.uint8), np.stack([TEMPLATE, points]), ARCFACE, 112)
    assert_one_sentence(str(caught.value))


def test_landmarks_on_a_line_are_fine():
    line = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [5, 5.0]])
    wanted = umeyama(line, TEMPLATE)
    np.testing.assert_allclose(align.similarity(line, TEMPLATE), wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("points", "template"), [((4, 2), (5, 2)), ((5, 3), (5, 3)), ((1, 2), (1, 2)), ((2,), (2,))]
)
def test_other_shapes_are_refused(points, template):
    with pytest.raises(ValueError, match=r"landmarks must|two points"):
        align.similarity(np.ones(points), np.ones(template))


@pytest.mark.parametrize("border", ["black", "repeat"])
def test_the_warp_is_opencvs(border):
    rng = np.random.default_rng(4)
    flag = {"black": cv2.BORDER_CONSTANT, "repeat": cv2.BORDER_REPLICATE}[border]
    images = np.stack([smooth(90, 120, seed) for seed in range(6)])
    matrices = np.stack(
        [
            align.similarity(turned(rng, rng.uniform(0.4, 2), place=(30, 60)), TEMPLATE)
            for _ in range(6)
        ]
    )
    got = jax.jit(functools.partial(align.warp, size=(112, 96), border=border))(
        images, matrices.astype(np.float32)
    )
    assert got.shape == (6, 112, 96, 3)
    assert got.dtype == jnp.uint8
    for crop, image, matrix in zip(np.asarray(got), images, matrices, strict=True):
        wanted = cv2.warpAffine(image, matrix, (96, 112), flags=cv2.INTER_LINEAR, borderMode=flag)
        apart = np.abs(crop.astype(int) - wanted)
        ones = np.full(image.shape[:2], 255, np.uint8)
        inside = cv2.erode(cv2.warpAffine(ones, matrix, (96, 112)), np.ones((5, 5))) == 255
        assert inside.mean() > 0.05
        assert apart[inside].max() <= 1
        if EXACT_WARP:  # where black begins, OpenCV 4's rounded positions are worth more
            assert apart.max() <= 1


def test_whole_pixels_are_moved_exactly():
    image = np.random.default_rng(5).integers(0, 256, (9, 7, 3), np.uint8)
    program = jax.jit(functools.partial(align.warp, size=(12, 9)))
    moved = program(image, np.array([[1, 0, 2], [0, 1, 3]], np.float32))
    wanted = np.zeros((12, 9, 3), np.uint8)
    wanted[3:, 2:] = image
    np.testing.assert_array_equal(moved, wanted)


def test_a_transform_without_an_inverse_gives_black():
    nan, inf = np.nan, np.inf
    matrices = np.array([[0.0] * 6, [nan] * 6, [1, 2, 0, 2, 4, 0], [inf, 0, 0, 0, 1, 0]])
    matrices = jnp.asarray(matrices.reshape(4, 2, 3), jnp.float32)

    @jax.jit
    def both(images, matrices):
        return [
            align.warp(images, matrices, size=4, border=border) for border in ("black", "repeat")
        ]

    def total(images, matrices):
        black, repeated = both(images, matrices)
        return black.sum() + repeated.sum()

    for crops in both(jnp.full((4, 5, 5, 3), 9, jnp.uint8), matrices):
        assert not np.asarray(crops).any()
    slopes = jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.ones((4, 5, 5, 3)), matrices)
    assert not any(np.asarray(slope).any() for slope in slopes)


def test_gradients_by_central_differences():
    """Of the landmarks, the template and the image, through the transform and the warp."""
    rng = np.random.default_rng(6)
    with jax.enable_x64(True):
        image = jnp.asarray(smooth(60, 60, seed=3), jnp.float64) / 255
        weights = jnp.asarray(rng.normal(size=(20, 20, 3)))
        template = jnp.asarray(TEMPLATE * 20 / 112)
        points = jnp.asarray(TEMPLATE * 0.3 + 11 + rng.normal(size=(5, 2)))

        @jax.jit
        def value(image, points, template):
            matrix = align.similarity(points, template)
            return (weights * align.warp(image, matrix, size=20)).sum()

        given = (image, points, template)
        slopes = jax.grad(value, argnums=(0, 1, 2))(*given)
        step = 1e-5
        for place, slope in enumerate(slopes):
            for _ in range(6):
                way = jnp.asarray(rng.normal(size=given[place].shape))
                ahead, behind = list(given), list(given)
                ahead[place], behind[place] = given[place] + step * way, given[place] - step * way
                wanted = (value(*ahead) - value(*behind)) / (2 * step)
                got = (slope * way).sum()
                np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


def sampled(image, matrix, size, border):
    """Bilinear in float64: every pixel of the crop looked up in the photo with a margin."""
    kind = {"black": "constant", "repeat": "edge"}[border]
    padded = np.pad(image.astype(np.float64), ((2, 2), (2, 2), (0, 0)), kind)
    down, right = np.mgrid[: size[0], : size[1]]
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    x, y, _ = np.einsum("ij,jhw->ihw", inverse, np.stack([right, down, np.ones(size)]))
    x, y = np.clip(x, -1.5, image.shape[1] + 0.5) + 2, np.clip(y, -1.5, image.shape[0] + 0.5) + 2
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    total = 0.0
    for i in (0, 1):
        for j in (0, 1):
            weight = np.abs(1 - i - (y - top)) * np.abs(1 - j - (x - left))
            total = total + weight[..., None] * padded[top + i, left + j]
    return total


def reference_crop(photo, points, border):
    """The whole photo shrunk by halves on its own, then `sampled`."""
    step = 1
    while np.hypot(*umeyama(points, TEMPLATE)[:, 0]) * step <= 0.5:
        step *= 2
    height, width = (-(-n // step) * step for n in photo.shape[:2])
    kind = {"black": "constant", "repeat": "edge"}[border]
    padding = ((0, height - photo.shape[0]), (0, width - photo.shape[1]), (0, 0))
    image = np.pad(photo.astype(np.float64), padding, kind)
    image = image.reshape(height // step, step, width // step, step, 3).mean((1, 3))
    matrix = umeyama((points - (step - 1) / 2) / step, TEMPLATE)
    return sampled(image, matrix, (112, 112), border)


@pytest.mark.parametrize("border", ["black", "repeat"])
@pytest.mark.parametrize("scale", [0.2, 0.9, 1.7, 3.0, 9.0])
def test_crops_of_faces_of_any_size(scale, border):
    """Inside the photo and across its edges: rounded once, shrunken ones twice."""
    rng = np.random.default_rng(7)
    photo = smooth(330, 451, seed=1)
    points = np.stack([turned(rng, scale, place=(60, 260)) for _ in range(5)])
    crops = align.crop_faces(photo, points, ARCFACE, 112, border=border)
    assert crops.shape == (5, 112, 112, 3)
    wanted = np.stack([reference_crop(photo, five, border) for five in points])
    assert (wanted == 0).all(-1).any() == (border == "black" and scale > 0.5)
    assert np.abs(crops - wanted).max() < (0.52 if scale < 2 else 1.02)


def test_faces_outside_of_the_photo():
    photo = np.full((40, 50, 3), 200, np.uint8)
    for shift in ((-5000, 0), (5000, 0), (0, -5000), (0, 5000)):
        points = (3 * TEMPLATE + shift)[None]
        assert not align.crop_faces(photo, points, ARCFACE, 112).any()
        assert (align.crop_faces(photo, points, ARCFACE, 112, border="repeat") == 200).all()


def test_a_large_face_does_not_alias():
    """A fine checkerboard is grey from afar."""
    photo = np.indices((900, 900)).sum(0) % 2 * np.uint8(255)
    photo = np.repeat(photo[..., None], 3, 2).astype(np.uint8)
    points = 7.3 * TEMPLATE + 20
    crop = align.crop_faces(photo, points[None], ARCFACE, 112)[0]
    assert np.abs(crop.astype(float) - 127.5).max() < 2
    matrix = align.similarity(points, TEMPLATE).astype(np.float32)
    assert np.asarray(align._warper((112, 112), "black")(photo, matrix)).std() > 30


def test_few_programs_are_compiled_whatever_the_photos():
    rng = np.random.default_rng(8)
    align._warper.cache_clear()
    for count in (0, 1, 2, 8, 9, 32, 33, 70):
        photo = smooth(int(rng.integers(1, 300)), int(rng.integers(1, 300)))
        points = np.array([turned(rng, rng.uniform(0.1, 12)) for _ in range(count)])
        crops = align.crop_faces(photo, points.reshape(-1, 5, 2), ARCFACE[:, ::1], (28, 24))
        assert len(crops) == count
    assert 4 <= align._warper((28, 24), "black")._cache_size() <= 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: align.warp(jnp.zeros((2, 5, 5, 3)), jnp.zeros((3, 2, 3)), size=4), "leading"),
        (
            lambda: align.warp(jnp.zeros((5, 5, 3), int), jnp.zeros((2, 3)), size=4),
            "uint8 or float",
        ),
        (lambda: align.warp(jnp.zeros((5, 5, 3)), jnp.zeros((2, 3)), size=4, border="x"), "border"),
        (lambda: align.crop_faces(np.zeros((5, 5), np.uint8), TEMPLATE, TEMPLATE, 4), "photo must"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
