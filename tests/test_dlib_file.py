"""The reader of dlib's file, on small files that are written here another way, and damaged ones."""

import struct

import numpy as np
import pytest

from facejax import models
from facejax.errors import UserError
from facejax.recognition import packages
from facejax.recognition.dlib_file import read_layers
from tests.packaged import flipped, installed, read_or_refused


def integer(value):
    magnitude = abs(value).to_bytes(max(1, (abs(value).bit_length() + 7) // 8), "little")
    return bytes([len(magnitude) | (0x80 if value < 0 else 0)]) + magnitude


def decimal(mantissa, exponent):
    return integer(mantissa) + integer(exponent)


def text(value):
    return integer(len(value)) + value.encode()


def tensor(array):
    sides = (*array.shape, *(1,) * (4 - array.ndim)) if array.size else (0, 0, 0, 0)
    numbers = struct.pack(f"<{array.size}f", *array.ravel())
    return integer(2) + b"".join(map(integer, sides)) + numbers


def alias(*sides):
    return b"".join(map(integer, (1, *sides)))


NOTHING = tensor(np.zeros(0))
COMPUTED = b"110" + 3 * NOTHING
MULTIPLIERS = b"".join(decimal(16, -4) for _ in range(4))
KERNEL = np.arange(2 * 3 * 3 * 3 + 2, dtype=np.float32) / 7
AFFINE = np.array([1.5, -2, 0.25, 4], np.float32)
MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3) - 300


AVERAGES = decimal(16093282, -17) + decimal(15335555, -17) + decimal(13670547, -17)


def small(size=150, kind="fc_2", mean=AVERAGES):
    """A file of four layers: a convolution, its affine layer, a pooling and a matrix."""
    head = integer(1) + text("loss_metric_2") + decimal(10736394, -28) + decimal(3, -2)
    head += b"".join(integer(1 + i % 2) for i in range(129)) + integer(3)
    head += text("input_rgb_image_sized") + mean
    head += integer(size) + integer(size)
    conv = text("con_4") + tensor(KERNEL) + b"".join(map(integer, (2, 3, 3, 2, 2, 0, 0)))
    conv += alias(2, 3, 3, 3) + alias(1, 2, 1, 1) + MULTIPLIERS + COMPUTED + integer(1)
    affine = text("affine_") + tensor(AFFINE) + alias(1, 2, 1, 1) * 2 + integer(0) + COMPUTED
    pool = text("max_pool_2") + b"".join(map(integer, (3, 3, 2, 2, 0, 0))) + COMPUTED
    matrix = text(kind) + integer(3) + integer(2) + tensor(MATRIX)
    matrix += alias(2, 3, 1, 1) + alias(0, 0, 0, 0) + integer(1) + MULTIPLIERS + COMPUTED
    return head + conv + affine + pool + matrix


def test_layers_are_read():
    layers = read_layers(small(), "n.dat")
    assert [layer.kind for layer in layers] == ["con_4", "affine_", "max_pool_2", "fc_2"]
    assert [layer.numbers for layer in layers] == [
        (2, 3, 3, 2, 2, 0, 0),
        (0,),
        (3, 3, 2, 2, 0, 0),
        (3, 2, 1),
    ]
    for layer, array in zip(layers, (KERNEL, AFFINE, np.zeros(0), MATRIX), strict=True):
        assert layer.weights.dtype == np.float32
        np.testing.assert_array_equal(layer.weights, array.ravel())


def test_the_packaged_file_is_read():
    path = installed(packages.DLIB)
    layers = read_layers(path.read_bytes(), path)
    kinds = [layer.kind for layer in layers]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        "con_4": 29,
        "affine_": 29,
        "relu_": 29,
        "add_prev_": 14,
        "avg_pool_2": 5,
        "max_pool_2": 1,
        "fc_2": 1,
    }
    assert sum(layer.weights.size for layer in layers) == 5_614_592
    with pytest.raises(ValueError, match="other layers"):
        models.dlib_variables(layers[:-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (small(size=151), "images of another size"),
        (small(mean=3 * decimal(16093282, -17)), "another mean"),
        (small(kind="fc_3"), "the unknown kind 'fc_3'"),
        (small().replace(b"loss_metric_2", b"loss_metric_3"), "loss_metric_2 should be there"),
        (small()[:-1], "ends too early"),
        (small() + b"\x01", "ends too early"),
        (small() + b"\x00", "a number is none"),
        (b"", "ends too early"),
    ],
)
def test_refuses_other_files(content, message):
    with pytest.raises(UserError, match=message):
        read_layers(content, "n.dat")


def test_damage_is_one_sentence():
    whole = small()
    assert read_or_refused(read_layers, whole)
    read = [end for end in range(len(whole)) if read_or_refused(read_layers, whole[:end])]
    assert len(read) <= 4  # between layers
    random = np.random.default_rng(1)
    for _ in range(3000):
        read_or_refused(read_layers, flipped(whole, random))
    # Sides of 2^64 - 1 each, and a float that is none.
    huge = integer(2) + 4 * integer(2**64 - 1)
    assert not read_or_refused(read_layers, whole.replace(NOTHING, huge, 1))
    assert not read_or_refused(read_layers, whole.replace(decimal(3, -2), decimal(3, 2**40), 1))
