"""The commands on photographs: what they print, write and end with; stand-ins for the networks."""

import json
import sys

import cv2
import numpy as np
import pytest

from facejax import compilation
from facejax.commands import work
from facejax.errors import UserError
from facejax.recognition import packages
from tests import stand_ins
from tests.commanding import (
    ANN,
    BOB,
    CYD,
    answer,
    complaint,
    cosine,
    run,
    save_people,
    without_networks,
)
from tests.packaged import installed
from tests.pictures import encode
from tests.rendered import kept
from tests.stand_ins import SIDE, photo, save


@pytest.fixture(autouse=True)
def _networks(monkeypatch, tmp_path):
    without_networks(monkeypatch, tmp_path)


@pytest.fixture
def people(tmp_path):
    return save_people(tmp_path)


# detect


def test_detect(tmp_path, capsys):
    save(tmp_path / "two.png", photo(ANN, BOB))
    save(tmp_path / "none.png", photo())
    (tmp_path / "torn.jpg").write_bytes(encode(photo(ANN), ".jpg")[:300])
    found = answer(capsys, "detect", "two.png", "torn.jpg", "none.png", "gone.png", "--draw=out")
    two, none = found["photos"]
    assert (two["photo"], two["width"], two["height"]) == ("two.png", 40 + 2 * 84, SIDE + 40)
    assert [face["box"] for face in two["faces"]] == [[20, 20, 64, 64], [104, 20, 64, 64]]
    assert np.shape([face["landmarks"] for face in two["faces"]]) == (2, 5, 2)
    assert none["faces"] == []
    assert found["counts"] == {"photos": 2, "faces": 2, "skipped": 2}
    assert [one["source"] for one in found["skipped"]] == ["torn.jpg", "gone.png"]
    assert "torn.jpg" in found["skipped"][0]["reason"]
    drawn = cv2.imread(str(tmp_path / "out" / "two.png"))
    assert drawn.shape[1] >= 640  # small photos are enlarged to be looked at

    assert run("detect", "two.png", "torn.jpg", "none.png") == 0
    said, error = capsys.readouterr()
    header, _, first, second, ending, skip = said.splitlines()
    assert header.split() == ["photo", "face", "x", "y", "width", "height", "score"]
    assert first.split() == ["two.png", "0", "20", "20", "64", "64", "0.90"]
    assert second.split()[:3] == ["two.png", "1", "104"]
    assert ending == "photos: 2, faces: 2, skipped: 1"
    assert skip.startswith("  torn.jpg ")
    assert error == ""


def test_what_was_drawn_keeps_its_place(tmp_path):
    for place in ("a/x.png", "a/b/x.png", "c/x.png"):
        save(tmp_path / "photos" / place, photo(ANN))
    assert run("detect", "photos/a", "photos/c", "--draw=out") == 0
    drawn = sorted(
        str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("out/**/*.png")
    )
    assert drawn == ["b/x.png", "x-2.png", "x.png"]


def test_nothing_could_be_done(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "zero.jpg").write_bytes(b"")
    assert "gone.jpg cannot be read (No such file or directory)" in complaint(
        capsys, "detect", "gone.jpg"
    )
    assert "empty has no photographs" in complaint(capsys, "detect", "empty")
    said = complaint(capsys, "detect", "empty", "zero.jpg")
    assert said.endswith("(and 1 more were skipped)")
    found = answer(capsys, "detect", "empty", "zero.jpg", status=2)
    assert [one["source"] for one in found["skipped"]] == ["empty", "zero.jpg"]
    assert found["counts"] == {"photos": 0, "faces": 0, "skipped": 2}


def test_where_pictures_cannot_go(tmp_path, capsys):
    one, two = (save(tmp_path / name, photo(ANN)) for name in ("one.png", "two.png"))
    before = (tmp_path / "one.png").read_bytes()
    assert "is one file, and there are 2" in complaint(capsys, "detect", one, two, "--draw=out.png")
    assert "would be written over" in complaint(capsys, "detect", one, f"--draw={tmp_path}")
    (tmp_path / "file").write_text("")
    assert "is a file" in complaint(capsys, "detect", one, "--draw=file")
    assert (tmp_path / "one.png").read_bytes() == before
    assert run("detect", one, "--draw=out.png") == 0
    assert (tmp_path / "out.png").is_file()


def test_a_name_with_a_line_break_stays_on_its_line(capsys):
    assert "a\\nb.jpg cannot be read" in complaint(capsys, "detect", "a\nb.jpg")


# align


def test_align_makes_a_training_folder(people, tmp_path, capsys):
    save(people / "Ann" / "2020" / "1.png", photo(ANN, number=3))
    save(people / "Bob" / "group.png", photo(BOB, CYD))
    found = answer(capsys, "align", "people", "--out=crops", "--recognizer=checks", "--format=png")
    assert found["counts"] == {"crops": 7, "skipped": 1}
    assert found["skipped"][0]["source"] == "people/Bob/group.png"
    assert "there are 2 faces in it" in found["skipped"][0]["reason"]
    made = sorted(str(p.relative_to(tmp_path / "crops")) for p in tmp_path.glob("crops/*/*"))
    assert made == [
        *("Ann/1.png", "Ann/2.png", "Ann/2020_1.png"),
        *("Bob/1.png", "Bob/2.png", "Cyd/1.png", "Cyd/2.png"),
    ]
    crop = cv2.cvtColor(cv2.imread(str(tmp_path / "crops/Cyd/2.png")), cv2.COLOR_BGR2RGB)
    checks = stand_ins.pattern(CYD, 2).astype(int)
    middles = np.abs(crop.astype(int) - checks)[8::16, 8::16]  # away from the edges of the checks
    assert middles.max() <= 1

    from facejax.data import folder_source

    source = folder_source(tmp_path / "crops")
    assert (len(source), source.identity_names) == (7, ("Ann", "Bob", "Cyd"))


def test_align_takes_the_face_that_is_asked_for(tmp_path, capsys, monkeypatch):
    picture = photo(ANN, BOB, CYD)
    save(tmp_path / "three.png", picture)
    assert answer(capsys, "align", "three.png", "--out=c", "--face=center")["crops"] == [
        {"photo": "three.png", "number": 1, "person": None, "crop": "c/three.jpg"}
    ]
    assert cv2.imread("c/three.jpg").shape == (112, 112, 3)
    (found,) = answer(capsys, "align", "three.png", "--out=c", "--face=largest")["crops"]
    assert found["number"] == 0  # all alike: the first

    def of_other_sizes(pixels):
        found = stand_ins.detector(pixels)
        return found._replace(boxes=found.boxes * np.float32([[1], [1], [1.1]]))

    monkeypatch.setattr(work, "open_detector", lambda given: of_other_sizes)
    (found,) = answer(capsys, "align", "three.png", "--out=c", "--face=largest")["crops"]
    assert found["number"] == 2
    assert "--face=largest" in complaint(capsys, "align", "three.png", "--out=c")


# embed


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_embed(suffix, tmp_path, capsys):
    save(tmp_path / "two.png", photo(ANN, BOB))
    save(tmp_path / "one.png", photo(CYD))
    save(tmp_path / "none.png", photo())
    out = f"out.{suffix}"
    found = answer(capsys, "embed", "two.png", "none.png", "one.png", f"--out={out}")
    assert found["counts"] == {"photos": 2, "faces": 3, "skipped": 1}
    assert (found["file"], found["sha256"]) == (out, "a" * 64)
    if suffix == "npz":
        with np.load(out, allow_pickle=False) as file:
            arrays = dict(file)
        about = {name: str(arrays.pop(name)) for name in ("recognizer", "sha256", "quality_names")}
        names = arrays.pop("names").tolist()
    else:
        safetensors = pytest.importorskip("safetensors")
        with safetensors.safe_open(out, framework="np") as file:
            about = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        names = json.loads(about.pop("names"))
    assert names == ["two.png", "two.png", "one.png"]
    assert (about["recognizer"], about["sha256"]) == ("checks", "a" * 64)
    assert len(about["quality_names"].split(",")) == arrays["quality"].shape[1]
    assert arrays["numbers"].tolist() == [0, 1, 0]
    assert arrays["boxes"].tolist() == [[20, 20, 64, 64], [104, 20, 64, 64], [20, 20, 64, 64]]
    rows = arrays["embeddings"]
    assert (rows.dtype, rows.shape) == (np.float32, (3, 48))
    patterns = [stand_ins.pattern(person) for person in (ANN, BOB, CYD)]
    expected = [[cosine(one, other) for other in patterns] for one in patterns]
    np.testing.assert_allclose(rows @ rows.T, expected, atol=0.01)


def test_embed_crops_as_they_are(tmp_path, capsys):
    crops = [stand_ins.pattern(person) for person in range(40)]
    for person, crop in enumerate(crops):
        save(tmp_path / "crops" / f"{person:02}.png", crop)
    save(tmp_path / "crops" / "wide.png", crops[0][:32])
    found = answer(capsys, "embed", "crops", "--aligned", "--out=out.npz")
    assert found["counts"] == {"photos": 40, "faces": 40, "skipped": 1}
    assert "it has 64x32 pixels, and checks takes crops of 64x64" in found["skipped"][0]["reason"]
    with np.load("out.npz") as file:
        assert sorted(file) == ["embeddings", "names", "recognizer", "sha256"]
        expected = [stand_ins.Recognizer().embed(crop[None])[0] for crop in crops]
        np.testing.assert_array_equal(file["embeddings"], expected)
    assert "give FILE.npz or FILE.safetensors" in complaint(capsys, "embed", "crops", "--out=a.txt")


# What is around them


def test_programs_are_kept_where_that_can_be(tmp_path, capsys, monkeypatch):
    """And where they can't, the command goes on."""
    ann = save(tmp_path / "ann.png", photo(ANN))
    given = []
    monkeypatch.setenv("FACEJAX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compilation, "enable_cache", given.append)
    assert run("verify", ann, ann) == 0
    assert given == [tmp_path / "home" / "xla"]

    def refuse(directory):
        raise UserError(f"can't make the compilation cache {directory}")

    monkeypatch.setattr(compilation, "enable_cache", refuse)
    capsys.readouterr()
    assert run("verify", ann, ann) == 0
    said, warning = capsys.readouterr()
    assert said.startswith("same: similarity 1.000")
    assert warning.startswith("warning: can't make the compilation cache")


def test_a_bar_is_for_terminals_only(capsys, monkeypatch):
    assert list(work.progress(range(3), 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(work.progress(range(3), 3)) == [0, 1, 2]
    assert "photo" in capsys.readouterr().err


def test_interrupted(tmp_path, capsys, monkeypatch):
    def interrupt(picture):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "open_detector", lambda given: interrupt)
    assert run("detect", save(tmp_path / "ann.png", photo(ANN))) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


# With the packaged weights


def test_a_rendered_face_with_the_real_networks(tmp_path, capsys, monkeypatch):
    """By SFace and YuNet; that strangers differ is not for rendered faces to show."""
    installed(packages.SFACE)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compilation, "enable_cache", lambda directory: None)
    one, two = (
        save(tmp_path / f"{yaw}.png", cv2.resize(kept(3, yaw=yaw), (256, 256)))
        for yaw in (0.0, 0.2)
    )
    found = answer(capsys, "verify", one, two, "--threshold=0.4")
    assert found["similarity"] > 0.6
    assert found["recognizer"] == "SFace"
    for face in found["faces"]:
        x, y, width, height = face["box"]
        assert 0 < x < 128 < x + width < 256
        assert 0 < y < 128 < y + height < 256
