"""Each change of augmentation against another library or a loop over pixels in float64."""

import functools
import itertools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from facejax.data import color, draws, occlusion
from facejax.data.augment import augment, normalize
from facejax.data.draws import draw
from facejax.data.resampling import OPENCV, blur_weights, opencv_weights
from facejax.recognition import templates
from tests import reference_augment as reference


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 12, 16, 3), dtype=np.uint8)


@pytest.fixture
def unit(images):
    """The same in float64, in [-1, 1]."""
    return images / 127.5 - 1.0


def keys_of(seed, count=6):
    return jax.random.split(jax.random.key(seed), count)


def float32(array):
    return jnp.asarray(array, jnp.float32)


def test_keep_is_black_around_its_box(images, unit):
    boxes = [[0, 0, 3, 4], [2.4, 3.6, 5.2, 6.3], [8, 8, 4, 8], [0, 0, 12, 16], [5, 5, 0, 0]]
    result = occlusion.keep(normalize(images[:5]), float32(boxes))
    for image, box, ours in zip(unit, boxes, result, strict=False):
        np.testing.assert_allclose(ours, reference.keep(image, box), atol=1e-6)


def test_crop_in_place_keeps_a_box_where_it_is(images, unit):
    keys = keys_of(1)
    result = augment(keys, images, flip=0.0, crop_in_place=1.0, crop_scale=(0.2, 0.5))
    boxes = draws.boxes_inside(draw(keys).kept, height=12, width=16, area=(0.2, 0.5))
    for image, box, ours in zip(unit, np.asarray(boxes), result, strict=True):
        np.testing.assert_allclose(ours, reference.keep(image, box), atol=1e-6)
    black = (np.asarray(result) == -1).all(3).mean((1, 2))
    assert np.all((black > 0.4) & (black < 0.9))


def test_cover_fills_a_trapezoid_and_nothing_else(images, unit):
    shapes = [
        [2.3, 9.7, 8.1, 7.0, 2.5],
        [0, 12, 8, 3, 9],
        [4, 4, 8, 5, 5],
        [1, 11, 3, 6, 6],
        [0] * 5,
    ]
    colors = np.random.default_rng(2).uniform(-1, 1, (5, 3))
    result = occlusion.cover(normalize(images[:5]), float32(shapes), float32(colors))
    for image, shape, paint, ours in zip(unit, shapes, colors, result, strict=False):
        np.testing.assert_allclose(ours, reference.cover(image, shape, paint), atol=1e-6)
    np.testing.assert_array_equal(result[4], normalize(images[4]))


@pytest.mark.parametrize("size", [(112, 96), (64, 64)])
def test_a_face_mask_covers_the_mouth_and_not_the_eyes(size):
    height, width = size
    blank = np.zeros((50, height, width, 3), np.uint8)
    view = jax.jit(functools.partial(augment, flip=0.0, face_mask=1.0))
    result = np.asarray(view(keys_of(3, 50), blank))
    covered = (result > -1).any(3)  # no color is black to the bit
    left_eye, right_eye, nose, left_mouth, right_mouth = templates.arcface(size)
    reach = 2 * height / 112

    def around(point):
        for move in itertools.product((-reach, 0, reach), repeat=2):
            x, y = np.round(point + np.array(move)).astype(int)
            yield covered[:, y, x]

    lids = [eye + np.array([0, 3 * height / 112]) for eye in (left_eye, right_eye)]
    assert not any(pixels.any() for eye in (left_eye, right_eye, *lids) for pixels in around(eye))
    below = [(left_mouth + right_mouth) / 2 + np.array([0, 4 * height / 112])]
    for point in (nose, left_mouth, right_mouth, *below):
        assert all(pixels.all() for pixels in around(point))
    share = covered.mean((1, 2)) * width / height  # of a square
    assert 0.12 < share.min() < share.max() < 0.36
    colors = [
        np.unique(image[inside], axis=0) for image, inside in zip(result, covered, strict=True)
    ]
    assert len(np.unique(np.concatenate(colors), axis=0)) == len(colors) == 50  # one color each


def test_color_jitter_equals_a_loop_in_every_order(images, unit):
    factors = np.random.default_rng(3).uniform(0.5, 1.5, (6, 3))
    result = color.color_jitter(normalize(images), float32(factors), jnp.arange(6))
    for i in range(6):
        expected = reference.color_jitter(unit[i], factors[i], i)
        np.testing.assert_allclose(result[i], expected, atol=1e-5)
    same = color.color_jitter(normalize(images), jnp.ones((6, 3)), jnp.arange(6))
    np.testing.assert_array_equal(same, normalize(images))


def test_color_jitter_is_torchvisions_but_for_rounding(images):
    """Which does to 8-bit images what Pillow's enhancers do."""
    factors = np.random.default_rng(4).uniform(0.5, 1.5, (6, 3))
    result = color.color_jitter(normalize(images), float32(factors), jnp.arange(6))
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for order, which in enumerate(itertools.permutations(range(3))):
        picture = Image.fromarray(images[order])
        for number in which:
            picture = enhancers[number](picture).enhance(factors[order, number])
        levels = (np.asarray(result[order]) + 1) * 127.5
        assert np.abs(levels - np.asarray(picture)).max() < 4  # of 255


def test_turn_hue_equals_a_loop(images, unit):
    degrees, saturation = np.random.default_rng(5).uniform([[0], [0.0]], [[360], [1.5]], (2, 6))
    result = color.turn_hue(normalize(images), float32(degrees), float32(saturation))
    for i in range(6):
        expected = reference.turn_hue(unit[i], degrees[i], saturation[i])
        np.testing.assert_allclose(result[i], expected, atol=1e-5)
    same = color.turn_hue(normalize(images), jnp.zeros(6), jnp.ones(6))
    np.testing.assert_array_equal(same, normalize(images))


def test_hue_turns_red_towards_what_it_does_in_dali():
    """DALI's matrix for 20 degrees and a saturation of 1.2, from its constants as printed."""
    forward = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    back = np.array([[1, 0.956, 0.621], [1, -0.272, -0.647], [1, -1.107, 1.705]])
    cos, sin = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    turn = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    matrix = back @ turn @ np.diag([1, 1.2, 1.2]) @ forward
    pixels = np.random.default_rng(6).uniform(60, 190, (1, 4, 4, 3))
    expected = np.clip(pixels @ matrix.T, 0, 255)
    ours = color.turn_hue(float32(pixels / 127.5 - 1), jnp.array([20.0]), jnp.array([1.2]))
    np.testing.assert_allclose((np.asarray(ours) + 1) * 127.5, expected, atol=0.5)


def test_luma_is_opencvs(images):
    expected = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    levels = (np.asarray(color.luma(normalize(images)))[..., 0] + 1) * 127.5
    np.testing.assert_allclose(levels, expected, atol=0.51)


OPENCV_WEIGHTS = jax.jit(opencv_weights, static_argnames="length")  # of all rules: compiled once


@pytest.mark.parametrize("rule", range(5), ids=OPENCV)
def test_opencv_weights_are_opencvs(rule):
    length, sizes = 24, np.array([1, 5, 7, 8, 12, 17, 18, 23, 24])
    image = np.random.default_rng(7).uniform(-1, 1, (length, 1))
    rules, full = jnp.full(len(sizes), rule), jnp.full(len(sizes), float(length))
    goal = float32(sizes)
    down = np.asarray(OPENCV_WEIGHTS(rules, full, goal, length=length))
    up = np.asarray(OPENCV_WEIGHTS(rules, goal, full, length=length))
    for i, size in enumerate(sizes):
        small = reference.resize(image, size, 1, rule)[:, 0]
        np.testing.assert_allclose(down[i, :size] @ image, small, atol=1e-5, err_msg=f"{size}")
        large = reference.resize(np.ascontiguousarray(image[:size]), length, 1, rule)[:, 0]
        np.testing.assert_allclose(
            up[i][:, :size] @ image[:size], large, atol=1e-5, err_msg=f"{size}"
        )
        assert np.all(up[i][:, size:] == 0)
    np.testing.assert_allclose(down[-1], np.eye(length), atol=1e-6)


def test_blur_weights_are_a_gaussian_mirrored_at_the_edge():
    image = np.random.default_rng(8).uniform(-1, 1, (16, 16))
    weights = np.asarray(blur_weights(jnp.array([0, 1, 2]), 16))
    np.testing.assert_array_equal(weights[0], np.eye(16))
    for radius in (1, 2):
        ours = weights[radius] @ image @ weights[radius].T
        np.testing.assert_allclose(ours, reference.blur(image, radius), atol=1e-6)
        side, sigma = 2 * radius + 1, 0.3 * (radius - 1) + 0.8
        theirs = cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_choices_among_several_are_equally_likely():
    count = 4000
    numbers = draw(keys_of(9, count))
    for uniform, options in (
        (numbers.rules[:, 0], len(OPENCV)),
        (numbers.rules[:, 1], len(OPENCV)),
        (numbers.order[:, 0], color.ORDERS),
        (numbers.radius[:, 0], 2),
    ):
        found = np.bincount(draws.one_of(uniform, options), minlength=options) / count
        assert len(found) == options
        error = np.sqrt((1 - 1 / options) / options / count)
        assert np.abs(found - 1 / options).max() < 5 * error


NEW = dict(
    flip=0.5, crop_in_place=0.5, low_resolution=0.5, resampling="opencv", blur=0.5,
    color_jitter=0.5, hue=0.5, gray=0.5, face_mask=0.5,
)  # fmt: skip


@functools.cache
def everything_new():
    """(keys, images, a compiled view, its views)."""
    images = np.random.default_rng(10).integers(0, 256, (16, 12, 16, 3), dtype=np.uint8)
    view = jax.jit(functools.partial(augment, **NEW))
    return keys_of(10, 16), images, view, view(keys_of(10, 16), images)


@pytest.mark.slow  # everything at once, for one device and for eight, takes long to compile
def test_a_view_is_the_same_on_many_devices_wherever_its_image_lies():
    keys, images, view, views = everything_new()
    assert views.dtype == jnp.float32
    assert np.abs(views).max() <= 1.0
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))
    order = np.random.default_rng(11).permutation(16)
    split = view(*jax.device_put((keys[order], images[order]), rows))
    assert split.sharding.is_equivalent_to(rows, 4)
    np.testing.assert_allclose(split, views[order], atol=1e-5)


@pytest.mark.slow  # some hundred small programs are compiled
def test_eager_and_jit_agree():
    keys, images, _, views = everything_new()
    np.testing.assert_allclose(augment(keys, images, **NEW), views, atol=2e-5)
