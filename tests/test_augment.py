import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.data.augment import augment, normalize
from facejax.data.color import jitter
from facejax.data.draws import boxes_inside, draw
from facejax.data.occlusion import erase
from facejax.data.resampling import low_resolution_weights
from tests import toy

NEW = ["crop_in_place", "color_jitter", "blur", "hue", "gray", "face_mask"]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 12, 16, 3), dtype=np.uint8)


def keys_of(seed, count=6):
    return jax.random.split(jax.random.key(seed), count)


def in_range(images):
    return np.asarray(images, np.float64) / 127.5 - 1.0


def bilinear(image, rows, columns):
    """Samples image [H, W, C] at every (row, column), pixel by pixel, edges repeated."""
    height, width, _ = image.shape
    result = np.zeros((len(rows), len(columns), image.shape[2]))
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            top = (1 - x + x0) * image[y0, x0] + (x - x0) * image[y0, x1]
            bottom = (1 - x + x0) * image[y1, x0] + (x - x0) * image[y1, x1]
            result[i, j] = (1 - y + y0) * top + (y - y0) * bottom
    return result


def test_normalize():
    result = normalize(jnp.array([0, 51, 255], jnp.uint8))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, [-1.0, -0.6, 1.0], atol=1e-6)
    with pytest.raises(ValueError, match="uint8"):
        normalize(jnp.zeros((1, 8, 8, 3)))


def test_normalize_is_symmetric_about_mid_grey():
    values = np.arange(256, dtype=np.uint8)
    result = np.asarray(jax.jit(normalize)(values))
    np.testing.assert_array_equal(result, -result[::-1])
    exact = (values.astype(np.float64) - 127.5) / 127.5
    np.testing.assert_allclose(result, exact, rtol=1.2e-7, atol=0)  # one unit in the last place


def test_nothing_on_is_normalize_and_draws_nothing(images):
    keys = keys_of(0)
    np.testing.assert_array_equal(augment(keys, images, flip=0.0), normalize(images))
    text = jax.jit(functools.partial(augment, flip=0.0)).lower(keys, images).compile().as_text()
    assert "dot" not in text
    assert "while" not in text


def test_flip_always_is_the_mirror_and_half_is_half(images):
    keys = keys_of(1)
    np.testing.assert_array_equal(augment(keys, images, flip=1.0), normalize(images)[:, :, ::-1])
    twice = augment(keys, images[:, :, ::-1], flip=1.0)
    np.testing.assert_array_equal(twice, normalize(images))
    many = np.broadcast_to(images[:1], (4000, *images.shape[1:]))
    flipped = np.all(augment(keys_of(1, 4000), many, flip=0.3) != normalize(many), axis=3).any(
        (1, 2)
    )
    assert 0.26 < flipped.mean() < 0.34  # 5.5 standard deviations


def test_crop_equals_a_bilinear_loop_over_its_box(images):
    keys = keys_of(2)
    result = augment(keys, images, flip=0.0, crop=1.0, crop_scale=(0.3, 0.9))
    boxes = boxes_inside(draw(keys).crop, height=12, width=16, area=(0.3, 0.9))
    assert len(np.unique(np.asarray(boxes), axis=0)) == 6
    for image, (top, left, tall, wide), ours in zip(
        in_range(images), np.asarray(boxes, np.float64), result, strict=True
    ):
        rows = [top + (i + 0.5) * tall / 12 - 0.5 for i in range(12)]
        columns = [left + (j + 0.5) * wide / 16 - 0.5 for j in range(16)]
        np.testing.assert_allclose(ours, bilinear(image, rows, columns), atol=2e-5)


def test_crop_of_the_whole_image_is_the_image(images):
    square = images[:, :, :12]
    result = augment(keys_of(3), square, flip=0.0, crop=1e-9)
    np.testing.assert_allclose(result, normalize(square), atol=1e-6)


def test_boxes_lie_inside_with_the_stated_areas_and_ratios():
    uniform = draw(keys_of(4, 2000)).crop
    boxes = boxes_inside(uniform, height=40, width=40, area=(0.2, 0.5))
    top, left, tall, wide = np.asarray(boxes).T
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + tall).max() <= 40 + 1e-4
    assert (left + wide).max() <= 40 + 1e-4
    share, ratio = tall * wide / 1600, wide / tall
    assert 0.2 - 1e-4 < share.min() < 0.21
    assert 0.49 < share.max() < 0.5 + 1e-4
    assert 0.75 - 1e-4 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 4 / 3 + 1e-4
    assert abs(np.log(ratio).mean()) < 0.02
    assert abs((top / (40 - tall)).mean() - 0.5) < 0.04


def test_shift_moves_whole_pixels_and_repeats_the_edge(images):
    many = np.broadcast_to(images[:1], (200, *images.shape[1:]))
    result = np.asarray(augment(keys_of(5, 200), many, flip=0.0, shift=2))
    padded = np.pad(in_range(images[0]), ((2, 2), (2, 2), (0, 0)), mode="edge")
    views = [padded[y : y + 12, x : x + 16] for y in range(5) for x in range(5)]
    found = [
        [np.allclose(image, view, atol=1e-5) for view in views].index(True) for image in result
    ]
    assert set(found) == set(range(25))


def test_low_resolution_weights_equal_a_loop():
    length, sizes = 10, [10, 7, 3, 1]
    result = low_resolution_weights(jnp.array(sizes, jnp.float32), length)
    for size, ours in zip(sizes, result, strict=True):
        step = length / size
        down = np.zeros((size, length))
        for i in range(size):
            for j in range(length):
                down[i, j] = max(0.0, 1.0 - abs((i + 0.5) * step - 0.5 - j) / step)
            down[i] /= down[i].sum()
        rows = [min((i + 0.5) / step - 0.5, size - 1) for i in range(length)]
        expected = bilinear(down[:, :, None], rows, range(length))[..., 0]
        np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_allclose(result[0], np.eye(length), atol=1e-6)


def test_low_resolution_smooths_and_keeps_a_constant(images):
    constant = np.full_like(images, 200)
    result = augment(keys_of(6), constant, flip=0.0, low_resolution=1.0)
    np.testing.assert_allclose(result, normalize(constant), atol=1e-5)
    result = augment(keys_of(6), images, flip=0.0, low_resolution=1.0)
    assert np.all(result.std((1, 2, 3)) < 0.9 * in_range(images).std((1, 2, 3)))


def test_jitter_equals_the_formulas(images):
    x = in_range(images)
    brightness, contrast, saturation = np.random.default_rng(1).uniform(0.5, 1.5, (3, 6))
    result = jitter(
        jnp.array(x, jnp.float32),
        *(jnp.array(f, jnp.float32) for f in (brightness, contrast, saturation)),
    )
    for i in range(6):
        unit = (x[i] + 1.0) / 2.0 * brightness[i]
        unit = unit.mean() + contrast[i] * (unit - unit.mean())
        grey = unit.mean(2, keepdims=True)
        unit = np.clip(grey + saturation[i] * (unit - grey), 0.0, 1.0)
        np.testing.assert_allclose(result[i], 2.0 * unit - 1.0, atol=1e-5)
    ones = jnp.ones(6)
    same = jitter(normalize(images), ones, ones, ones)
    np.testing.assert_array_equal(same, normalize(images))


def test_erase_fills_its_box_and_nothing_else(images):
    boxes = np.array([[0, 0, 3, 4], [2.4, 3.6, 5.2, 6.3], [8, 8, 4, 8], [0, 0, 12, 16]] * 2)[:6]
    boxes[5] = 0.0
    colors = np.random.default_rng(2).uniform(-1, 1, (6, 3))
    result = erase(normalize(images), jnp.array(boxes, jnp.float32), jnp.array(colors, jnp.float32))
    for image, box, color, ours in zip(in_range(images), boxes, colors, result, strict=True):
        expected = image.copy()
        for y in range(12):
            for x in range(16):
                inside_y = box[0] <= y + 0.5 < box[0] + box[2]
                if inside_y and box[1] <= x + 0.5 < box[1] + box[3]:
                    expected[y, x] = color
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["crop", "photometric", "low_resolution", "erasing", *NEW])
def test_a_probability_is_the_share_of_images_changed(name, images):
    many = np.broadcast_to(images[:1], (2000, *images.shape[1:]))
    result = augment(keys_of(7, 2000), many, flip=0.0, **{name: 0.25})
    changed = (np.abs(result - normalize(many)) > 1e-3).any((1, 2, 3)).mean()
    # A small low resolution rounds up to the whole size once in a dozen.
    assert 0.2 < changed < 0.3


def test_range_dtype_and_key(images):
    one = augment(keys_of(8), images, **toy.EVERYTHING)
    chex.assert_shape(one, images.shape)
    chex.assert_type(one, jnp.float32)
    assert np.abs(one).max() <= 1.0 + 1e-5
    np.testing.assert_array_equal(one, augment(keys_of(8), images, **toy.EVERYTHING))
    assert np.abs(one - augment(keys_of(9), images, **toy.EVERYTHING)).max() > 0.1


def test_eager_jit_vmap_and_pmap_agree(images):
    stack = np.stack([images, images[::-1]] * 4)
    keys = keys_of(10, 48).reshape(8, 6)
    view = functools.partial(augment, **toy.EVERYTHING)
    eager = view(keys[3], stack[3])
    np.testing.assert_allclose(jax.jit(view)(keys[3], stack[3]), eager, atol=2e-5)
    mapped = jax.jit(jax.vmap(view))(keys, stack)
    np.testing.assert_allclose(mapped[3], eager, atol=2e-5)
    np.testing.assert_allclose(jax.pmap(view)(keys, stack), mapped, atol=2e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(flip=1.5),
        dict(crop=-0.1),
        dict(shift=-1),
        dict(crop_scale=(0.0, 1.0)),
        dict(crop_scale=(0.9, 0.5)),
        dict(hue=1.1),
        dict(low_resolution_scale=(0.0, 0.5)),
        dict(erasing_scale=(0.1, 1.1)),
        dict(resampling="bilinear"),
    ],
)
def test_wrong_arguments(wrong, images):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        augment(keys_of(0), images, **wrong)
    with pytest.raises(ValueError, match="shape"):
        augment(keys_of(0), images[0])
    for keys in (jax.random.key(0), keys_of(0, 5)):
        with pytest.raises(ValueError, match="one key per image"):
            augment(keys, images)


def test_a_view_follows_its_key_and_image_wherever_they_lie(images):
    keys, order = keys_of(11), np.array([4, 1, 5, 0, 3, 2])
    view = jax.jit(functools.partial(augment, **toy.EVERYTHING))
    moved = view(keys[order], images[order])
    np.testing.assert_allclose(moved, view(keys, images)[order], atol=1e-6)


def test_no_number_is_drawn_twice():
    draws = draw(keys_of(12, 500))
    numbers = np.concatenate(draws, axis=1)
    assert numbers.shape == (500, 49)
    likeness = np.abs(np.corrcoef(numbers.T) - np.eye(49))
    assert likeness.max() < 0.2  # 4.5 standard deviations


def test_the_first_numbers_stay_as_they_were_before_there_were_more():
    keys = keys_of(13)
    expected = jax.vmap(lambda key: jax.random.uniform(key, (22,)))(keys)
    draws = draw(keys)
    first = (draws.choices[:, :5], *draws[1:7])
    np.testing.assert_array_equal(np.concatenate(first, axis=1), expected)
