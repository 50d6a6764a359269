"""Any ONNX model as a recognizer: small ones, of the kinds that people have, against NumPy."""

import numpy as np
import pytest

from facejax import recognition
from facejax.errors import UserError
from facejax.recognition import onnx_model
from tests.pictures import assert_one_sentence

onnx = pytest.importorskip("onnx", reason='pip install "facejax[test]"')
pytest.importorskip("onnxruntime", reason='pip install "facejax[test]"')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

HEIGHT, WIDTH, LENGTH = 6, 4, 5
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(3 * HEIGHT * WIDTH, LENGTH)).astype(np.float32)
CROPS = RANDOM.integers(0, 256, (11, HEIGHT, WIDTH, 3), np.uint8)
CHANNELS_FIRST = (1, 3, HEIGHT, WIDTH)


def build(
    path,
    shape=CHANNELS_FIRST,
    *,
    weights_as_inputs=True,
    written_out=False,
    kind=TensorProto.FLOAT,
    unused=False,
):
    """images -> rows -> rows x weights. `written_out`: the batch is in a Reshape, too."""
    batch = shape[0] if isinstance(shape[0], int) else "batch"
    weights = WEIGHTS.astype(helper.tensor_dtype_to_np_dtype(kind))
    tensors = [numpy_helper.from_array(weights, "w")]
    if written_out:
        tensors.append(numpy_helper.from_array(np.array([batch, len(WEIGHTS)], np.int64), "rows"))
        flatten = helper.make_node("Reshape", ["images", "rows"], ["flat"])
    else:
        flatten = helper.make_node("Flatten", ["images"], ["flat"])
    inputs = [helper.make_tensor_value_info("images", kind, shape)]
    if weights_as_inputs:
        inputs.append(helper.make_tensor_value_info("w", kind, WEIGHTS.shape))
    if unused:
        inputs.append(helper.make_tensor_value_info("left_over", kind, (7,)))
    graph = helper.make_graph(
        [flatten, helper.make_node("MatMul", ["flat", "w"], ["embedding"])],
        "g",
        inputs,
        [helper.make_tensor_value_info("embedding", kind, (batch, LENGTH))],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def expected(crops, *, bgr=False, mean=127.5, scale=1 / 127.5, channels_first=True):
    images = (crops[..., ::-1] if bgr else crops).astype(np.float64)
    images = (images - mean) * scale
    images = images.transpose(0, 3, 1, 2) if channels_first else images
    return images.reshape(len(crops), -1) @ WEIGHTS


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        (CHANNELS_FIRST, {}),
        (CHANNELS_FIRST, {"unused": True}),
        (CHANNELS_FIRST, {"written_out": True}),  # the batch of 1 can't be taken off
        ((2, 3, HEIGHT, WIDTH), {"written_out": True}),
        (("batch", 3, HEIGHT, WIDTH), {"weights_as_inputs": False}),
        ((None, 3, HEIGHT, WIDTH), {}),
        ((1, HEIGHT, WIDTH, 3), {}),
        (("batch", HEIGHT, WIDTH, 3), {}),
    ],
)
def test_kinds_of_models(tmp_path, shape, given):
    one = recognition.open(build(tmp_path / "model.onnx", shape, **given))
    assert one.card.name == "model"
    assert one.card.image_size == (HEIGHT, WIDTH)
    assert one.card.embedding_size == LENGTH
    assert (one.card.color, one.card.mean, one.card.scale) == ("rgb", 127.5, 1 / 127.5)
    wanted = expected(CROPS, channels_first=shape[1] == 3)
    np.testing.assert_allclose(one.embed(CROPS, batch_size=4, unit=False), wanted, atol=1e-4)
    np.testing.assert_allclose(one.embed(CROPS), unit(wanted), atol=1e-5)


def test_a_fixed_batch_is_taken_off_where_it_can_be(tmp_path, monkeypatch):
    """Two calls of onnxruntime for six crops; one a crop where the batch is written out."""
    import onnxruntime

    calls = []
    original = onnxruntime.InferenceSession

    class Session(original):
        def run(self, names, feed):
            calls.append(len(feed["images"]))
            return super().run(names, feed)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    for written_out, wanted in ((False, [4, 2]), (True, [1] * 6)):
        one = recognition.open(build(tmp_path / "model.onnx", written_out=written_out))
        calls.clear()
        one.embed(CROPS[:6], batch_size=4)
        assert calls == wanted


def test_colors_mean_scale_and_flip(tmp_path):
    path = build(tmp_path / "model.onnx")
    mean = (10.0, 20.0, 30.0)
    one = recognition.open(path, color="bgr", mean=mean, scale=0.02, size=(HEIGHT, WIDTH))
    wanted = expected(CROPS, bgr=True, mean=mean, scale=0.02)
    np.testing.assert_allclose(one.embed(CROPS, unit=False), wanted, rtol=1e-4, atol=1e-4)
    mirrored = expected(CROPS[:, :, ::-1], bgr=True, mean=mean, scale=0.02)
    flipped = one.embed(CROPS, flip=True)
    np.testing.assert_allclose(flipped, unit(wanted + mirrored), atol=1e-5)
    lasting = recognition.open(path, color="bgr", mean=list(mean), scale=0.02, flip=True)
    np.testing.assert_array_equal(lasting.embed(CROPS), flipped)


def test_half_precision(tmp_path):
    one = recognition.open(build(tmp_path / "model.onnx", kind=TensorProto.FLOAT16))
    got = one.embed(CROPS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, unit(expected(CROPS)), atol=1e-2)


def test_a_size_that_is_left_open_must_be_given(tmp_path):
    path = build(tmp_path / "model.onnx", ("batch", 3, "height", "width"))
    with pytest.raises(UserError, match="leaves the size of its images open: give size="):
        recognition.open(path)
    one = recognition.open(path, size=(HEIGHT, WIDTH))
    np.testing.assert_allclose(one.embed(CROPS), unit(expected(CROPS)), atol=1e-5)
    with pytest.raises(UserError, match="can't be run on images of 8x8 pixels"):
        recognition.open(path, size=8)


def test_weights_in_a_file_beside_it(tmp_path):
    path = build(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    one = recognition.open(path)
    np.testing.assert_allclose(one.embed(CROPS), unit(expected(CROPS)), atol=1e-5)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-8] + bytes(8))
    assert recognition.open(path).card.sha256 != one.card.sha256


def test_the_card_beside_the_file_counts(tmp_path):
    path = build(tmp_path / "model.onnx")
    card = recognition.open(path, color="bgr", mean=10.0, scale=0.5, flip=True).card
    card.write(recognition.card_path(path))
    assert (tmp_path / "model.card.json").is_file()
    one = recognition.open(path)
    assert one.card == card
    assert recognition.open(path, color="bgr", mean=10).card == card
    with pytest.raises(UserError, match=r"model.card.json says color bgr, but it is rgb"):
        recognition.open(path, color="rgb")
    with pytest.raises(UserError, match=r"of 6x4 pixels .* and not of 7x7"):
        recognition.open(path, size=7)
    other = build(tmp_path / "model.onnx", ("batch", 3, HEIGHT, WIDTH))
    with pytest.raises(UserError, match=r"model.card.json says sha256 "):
        recognition.open(other)
    (tmp_path / "model.card.json").write_text("{}")
    with pytest.raises(UserError, match="this is no recognizer's card"):
        recognition.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "besides its weights"),
        (b"no model at all", "can't be read as an ONNX file"),
        (bytes(range(256)), "can't be read as an ONNX file"),
    ],
)
def test_refuses_what_is_no_model(tmp_path, content, message):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        recognition.open(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_refuses_other_networks(tmp_path):
    path = build(tmp_path / "model.onnx", (1, 1, HEIGHT, WIDTH))
    with pytest.raises(UserError, match="takes no float images"):
        recognition.open(path)
    path = build(tmp_path / "model.onnx", (1, 3, HEIGHT, WIDTH + 1))
    with pytest.raises(UserError, match="can't be run on images of 6x5 pixels"):
        recognition.open(path)
    with pytest.raises(UserError, match=r"of 6x5 pixels .* and not of 112x112"):
        recognition.open(path, size=112)


def one_sentence_or_read(path):
    """1 if it is refused."""
    try:
        recognition.open(path)
    except UserError as error:
        return int("\n" not in str(error))
    return 0


def test_damage_is_one_sentence(tmp_path):
    """onnxruntime is handed the bytes: what it raises is told, and nothing is printed."""
    whole = build(tmp_path / "model.onnx").read_bytes()
    random = np.random.default_rng(1)
    path = tmp_path / "m.onnx"
    refused = 0
    for number in range(60):
        flipped = np.frombuffer(whole, np.uint8).copy()
        flipped[random.integers(0, 120, 3)] ^= np.uint8(1 << random.integers(8))
        flipped = flipped[: random.integers(1, len(whole)) if number % 2 else None]
        path.write_bytes(flipped.tobytes())
        refused += one_sentence_or_read(path)
    assert refused > 40


def test_a_missing_extra_is_one_sentence(tmp_path, monkeypatch):
    path = build(tmp_path / "model.onnx")

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(onnx_model.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r'pip install "facejax\[onnx\]"') as caught:
        recognition.open(path)
    assert_one_sentence(str(caught.value) + ".")
