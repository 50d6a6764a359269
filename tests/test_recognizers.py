"""SFace and dlib's network against the programs that they come from, and what holds for each."""

import functools
import json
import pathlib
import subprocess
import sys

import chex
import cv2
import numpy as np
import pytest

from facejax import recognition
from facejax.errors import UserError
from facejax.recognition import packages, recognizer, templates
from tests.environment import surroundings
from tests.packaged import installed
from tests.rendered import kept

ROOT = pathlib.Path(__file__).parents[1]

# The first numbers of the embeddings of `face`, as onnxruntime and dlib made them of it.
SFACE_NUMBERS = [-0.6398, -1.6976, 1.5087, -0.0381, 0.0805, 0.3422, 0.2192, 0.0965]
DLIB_NUMBERS = [-0.03821, 0.0947, -0.02779, -0.03093, -0.01454, -0.06024, -0.00463, -0.10563]


@pytest.fixture(scope="module")
def face():
    return kept(0)


@pytest.fixture(scope="module")
def sface():
    return recognition.open("sface", weights=installed(packages.SFACE))


@pytest.fixture(scope="module")
def dlib():
    return recognition.open("dlib", weights=installed(packages.DLIB))


def around(crop):
    """A crop of 112x112 pixels in the middle of one of 150x150."""
    return np.pad(crop, [(19, 19), (19, 19), (0, 0)], mode="edge")


def chips(crops):
    return np.stack(
        [
            cv2.warpAffine(each, templates.ARCFACE_TO_DLIB, (150, 150), borderMode=1)
            for each in crops
        ]
    )


def real_crops(folder, count=4):
    paths = sorted((folder / "lfw_dev" / "test").rglob("*.jpg"))
    return np.stack([cv2.imread(str(path))[:, :, ::-1] for path in paths[:: len(paths) // count]])


@functools.cache
def session():
    """Of the file's network, after its weights were taken off its inputs."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = onnx.load(str(installed(packages.SFACE)))
    (image,) = (each for each in model.graph.input if each.name == "data")
    del model.graph.input[:]
    model.graph.input.append(image)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def onnxruntime_sface(crops):
    images = crops.transpose(0, 3, 1, 2).astype(np.float32)
    return np.concatenate([session().run(None, {"data": each[None]})[0] for each in images])


def dlib_itself(crops):
    network = pytest.importorskip("dlib").face_recognition_model_v1(str(installed(packages.DLIB)))
    return np.array([network.compute_face_descriptor(np.ascontiguousarray(c)) for c in crops])


def one_by_one(one, crops):
    return one.embed(crops, batch_size=1, unit=False)


def test_sface_of_a_rendered_face(sface, face):
    got = one_by_one(sface, face[None])[0, :8]
    np.testing.assert_allclose(got, SFACE_NUMBERS, atol=0.02)
    swapped = one_by_one(sface, face[None, :, :, ::-1])[0, :8]
    assert np.abs(swapped - SFACE_NUMBERS).max() > 1


def test_dlib_of_a_rendered_face(dlib, face):
    got = one_by_one(dlib, around(face)[None])[0, :8]
    np.testing.assert_allclose(got, DLIB_NUMBERS, atol=1e-3)
    swapped = one_by_one(dlib, around(face)[None, :, :, ::-1])[0, :8]
    assert np.abs(swapped - DLIB_NUMBERS).max() > 1e-2


def test_sface_is_onnxruntimes(sface, face):
    noise = np.random.default_rng(0).integers(0, 256, face.shape, np.uint8)
    crops = np.stack([face, noise])
    np.testing.assert_allclose(one_by_one(sface, crops), onnxruntime_sface(crops), atol=1e-5)


def test_dlib_is_dlibs(dlib, face):
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)
    crops = np.stack([around(face), noise])
    np.testing.assert_allclose(one_by_one(dlib, crops), dlib_itself(crops), atol=1e-6)


def test_sface_is_onnxruntimes_on_real_faces(sface, real_faces):
    crops = real_crops(real_faces)
    np.testing.assert_allclose(one_by_one(sface, crops), onnxruntime_sface(crops), atol=1e-5)


def test_dlib_is_dlibs_on_real_faces(dlib, real_faces):
    crops = chips(real_crops(real_faces))
    np.testing.assert_allclose(one_by_one(dlib, crops), dlib_itself(crops), atol=1e-6)


@pytest.mark.slow
def test_scores_on_lfws_development_pairs(real_faces):
    for weights in (packages.SFACE, packages.DLIB):
        installed(weights)
    # In a process of its own, whose programs are optimised: the tests' are not.
    environment = surroundings(devices=1) | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
        "XLA_FLAGS": "",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.lfw_dev", str(real_faces / "lfw_dev")]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert (scores["sface"]["genuine"], scores["sface"]["impostors"]) == (983, 1_197_943)
    assert scores["sface"]["accuracy"] >= 0.99
    assert scores["sface"]["TAR at 0.001"] >= 0.985
    assert scores["dlib"]["accuracy"] >= 0.975
    assert scores["dlib"]["TAR at 0.001"] >= 0.9


# --- What holds for every recognizer, shown on a small one ----------------------------------------


CARD = recognition.Card(
    name="toy",
    image_size=(6, 4),
    template=templates.arcface((6, 4)),
    color="bgr",
    mean=(10.0, 20.0, 30.0),
    scale=1 / 64,
    flip=False,
    unit=True,
    embedding_size=5,
    sha256="0" * 64,
)
WEIGHTS = np.random.default_rng(0).normal(size=(6 * 4 * 3, 5)).astype(np.float32)
CROPS = np.random.default_rng(1).integers(0, 256, (21, 6, 4, 3), np.uint8)


def linear(variables, images, *, train):
    assert not train
    return images.reshape(len(images), -1) @ variables["weights"], {}


def toy(apply=linear):
    return recognizer.of_network(CARD, apply, {"weights": WEIGHTS}, directory=pathlib.Path("toy"))


def expected(crops, flip=False):
    ordered = crops[:, :, :, ::-1].astype(np.float64)
    rows = ((ordered - [10.0, 20.0, 30.0]) / 64).reshape(len(crops), -1)
    got = rows @ WEIGHTS.astype(np.float64)
    return (got + expected(crops[:, :, ::-1])) / 2 if flip else got


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("flip", [False, True])
def test_colors_mean_scale_flip_and_length_are_the_cards(flip):
    one = toy()
    raw = one.embed(CROPS, batch_size=8, flip=flip, unit=False)
    np.testing.assert_allclose(raw, expected(CROPS, flip), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        one.embed(CROPS, batch_size=8, flip=flip), unit(expected(CROPS, flip)), atol=1e-5
    )


def test_nothing_but_a_few_sizes_is_compiled():
    chex.clear_trace_counter()
    one = toy(chex.assert_max_traces(linear, n=3))  # 1, 8 and 16
    for count in (1, 2, 5, 8, 9, 16, 17, 21, 1, 3):
        got = one.embed(CROPS[:count], batch_size=16)
        np.testing.assert_allclose(got, unit(expected(CROPS[:count])), atol=1e-5)


def test_parts_are_put_together_and_none_is_none():
    one = toy()
    parts = (CROPS[start : start + 3] for start in range(0, 21, 3))
    np.testing.assert_array_equal(one.embed(parts, batch_size=8), one.embed(CROPS, batch_size=8))
    assert one.embed(CROPS[:0]).shape == (0, 5)


@pytest.mark.parametrize(
    "crops",
    [
        CROPS.astype(np.float32),
        CROPS[0],
        CROPS[:, :, :3],
        CROPS[..., :1],
        CROPS.transpose(0, 2, 1, 3),
    ],
)
def test_refuses_other_crops(crops):
    with pytest.raises(UserError, match=r"toy takes uint8 RGB crops \[N, 6, 4, 3\], not"):
        toy().embed(crops)
    with pytest.raises(UserError, match=r"toy takes uint8 RGB crops \[N, 6, 4, 3\], not"):
        toy().embed(iter([crops]))


def test_a_wrong_channel_order_would_be_seen():
    swapped = unit(expected(CROPS[..., ::-1]))
    assert np.abs(toy().embed(CROPS) - swapped).max() > 0.1
