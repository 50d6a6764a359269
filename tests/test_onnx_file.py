"""Weights of an ONNX file without the package, against the package and its reference evaluator."""

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition import packages
from facejax.recognition.onnx_file import read_tensors
from tests.packaged import flipped, installed, read_or_refused

onnx = pytest.importorskip("onnx", reason='pip install "facejax[test]"')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

RANDOM = np.random.default_rng(0)
TYPES = {
    "FLOAT": np.float32,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "UINT16": np.uint16,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "FLOAT16": np.float16,
    "DOUBLE": np.float64,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
}


def model(nodes, initializers, outputs=("x",)):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", [], values, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def numbers(dtype, shape):
    values = RANDOM.integers(-100, 100, shape)
    return np.abs(values).astype(dtype) if np.dtype(dtype).kind in "ub" else values.astype(dtype)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("raw", [True, False])
def test_every_type_of_number(kind, raw):
    array = numbers(TYPES[kind], (2, 3))
    tensor = numpy_helper.from_array(array, "w")
    if not raw:
        tensor = helper.make_tensor("w", getattr(TensorProto, kind), array.shape, array.ravel())
    got = read_tensors(model([], [tensor]).SerializeToString(), "m.onnx")["w"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


def quantized(kind="INT8", shape=(4, 10), scales=(4, 3), zero=True, **attributes):
    """A model that dequantizes w to x and reshapes it to y."""
    dtype = TYPES[kind]
    tensors = [numpy_helper.from_array(numbers(dtype, shape), "w")]
    factors = RANDOM.uniform(0.1, 1, scales).astype(np.float32)
    tensors.append(numpy_helper.from_array(factors, "s"))
    if zero:
        tensors.append(numpy_helper.from_array(numbers(dtype, scales), "z"))
    tensors.append(numpy_helper.from_array(np.array([2, -1], np.int64), "shape"))
    names = [tensor.name for tensor in tensors[:-1]]
    nodes = [
        helper.make_node("DequantizeLinear", names, ["x"], **attributes),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    return model(nodes, tensors, outputs=("x", "y"))


@pytest.mark.parametrize(
    "given",
    [
        {"scales": (4, 3), "axis": 1, "block_size": 4},  # the last block is shorter
        {"scales": (4, 3), "axis": -1, "block_size": 4, "zero": False},
        {"scales": (2, 10), "axis": 0, "block_size": 2, "kind": "UINT8"},
        {"scales": (10,), "axis": 1},
        {"scales": (4,), "axis": 0, "kind": "INT16"},
        {"scales": (), "kind": "UINT16"},
        {"scales": (), "kind": "INT32", "zero": False},
        {"shape": (6,), "scales": (1,), "axis": 0, "block_size": 64},
    ],
)
def test_integers_are_dequantized(given):
    content = quantized(**given)
    expected = ReferenceEvaluator(content).run(None, {})
    got = read_tensors(content.SerializeToString(), "m.onnx")
    for name, array in zip("xy", expected, strict=True):
        assert got[name].dtype == np.float32
        np.testing.assert_allclose(got[name], array, rtol=1e-6)


def test_sface_has_the_packages_tensors():
    path = installed(packages.SFACE)
    got = read_tensors(path.read_bytes(), path)
    initializers = onnx.load(str(path)).graph.initializer
    assert len(initializers) == 261
    for tensor in initializers:
        np.testing.assert_array_equal(got[tensor.name], numpy_helper.to_array(tensor))
    kernels = [array for name, array in got.items() if name.endswith("weight_reshaped")]
    assert (len(kernels), sum(kernel.size for kernel in kernels)) == (27, 3_185_088)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scales": (4, 2), "axis": 1, "block_size": 4}, "not as many scales as blocks"),
        ({"scales": (9,), "axis": 1}, "not as many scales as blocks"),
        ({"scales": (4, 3), "axis": 7, "block_size": 4}, "does not go with its weights"),
        ({"kind": "FLOAT", "scales": ()}, "no integers"),
        ({"shape": (3, 5), "scales": ()}, "changes the number of weights"),
    ],
)
def test_refuses_what_does_not_go_together(given, message):
    with pytest.raises(UserError, match=message):
        read_tensors(quantized(**given).SerializeToString(), "m.onnx")


def test_refuses_weights_that_lie_elsewhere():
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    with pytest.raises(UserError, match="its weights are in another file"):
        read_tensors(model([], [tensor]).SerializeToString(), "m.onnx")


@pytest.mark.parametrize(
    ("kind", "dims", "message"),
    [
        (TensorProto.FLOAT, [2**62, 2**62], "not as many numbers"),
        (TensorProto.FLOAT, [-1], "impossible shape"),
        (TensorProto.FLOAT, [1] * 9, "impossible shape"),
        (TensorProto.DOUBLE, [1], "ends within a number"),
    ],
)
def test_refuses_impossible_tensors(kind, dims, message):
    tensor = TensorProto(name="w", data_type=kind, dims=dims, raw_data=bytes(4))
    with pytest.raises(UserError, match=message):
        read_tensors(model([], [tensor]).SerializeToString(), "m.onnx")


def test_a_small_file_makes_no_large_arrays():
    """A thousand nodes that dequantize the same tensor."""
    tensors = [
        numpy_helper.from_array(np.zeros(10_000, np.int8), "w"),
        numpy_helper.from_array(np.float32(1), "s"),
    ]
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], [f"x{i}"]) for i in range(1000)]
    with pytest.raises(UserError, match="more weights than it has room for"):
        read_tensors(model(nodes, tensors).SerializeToString(), "m.onnx")


def test_damage_is_one_sentence():
    whole = quantized(scales=(4, 3), axis=1, block_size=4).SerializeToString()
    assert read_or_refused(read_tensors, whole)
    assert (
        sum(read_or_refused(read_tensors, whole[:end]) for end in range(len(whole)))
        < len(whole) / 4
    )
    random = np.random.default_rng(1)
    for _ in range(3000):
        read_or_refused(read_tensors, flipped(whole, random))
    for _ in range(300):
        read_or_refused(read_tensors, random.bytes(200))
    assert not read_or_refused(read_tensors, b"")
    assert not read_or_refused(read_tensors, b"\xff" * 100)
