"""The commands on photographs: what they print, write and end with; stand-ins for the networks."""

import json
import re
import sys

import cv2
import numpy as np
import pytest

from facejax import __main__, compilation, recognition
from facejax.commands import work
from facejax.errors import UserError
from facejax.recognition import packages
from facejax.recognition.thresholds import Threshold
from tests import stand_ins
from tests.packaged import installed
from tests.pictures import encode
from tests.rendered import kept
from tests.stand_ins import SIDE, photo, save

ANN, BOB, CYD, DAN = range(4)
THRESHOLDS = (
    Threshold(far=1e-2, cosine=0.5, upper_bound=1.2e-2, negatives=10_000, data="checks"),
    Threshold(far=1e-3, cosine=0.6, upper_bound=1.5e-3, negatives=10_000, data="checks"),
)


@pytest.fixture(autouse=True)
def _networks(monkeypatch, tmp_path):
    """Stand-ins for both, and no cache of programs outside of the test."""
    stand_in = stand_ins.Recognizer(thresholds=THRESHOLDS)
    monkeypatch.setattr(recognition, "open", lambda name: stand_in)
    monkeypatch.setattr(work, "open_detector", lambda given: stand_ins.detector)
    monkeypatch.setattr(compilation, "enable_cache", lambda directory: None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def people(tmp_path):
    """people/NAME/N.png of Ann, Bob and Cyd, two each."""
    for person, name in enumerate(("Ann", "Bob", "Cyd")):
        for number in (1, 2):
            save(tmp_path / "people" / name / f"{number}.png", photo(person, number=number))
    return tmp_path / "people"


@pytest.fixture
def gallery(people, capsys):
    assert run("enroll", "known", "people") == 0
    capsys.readouterr()
    return "known"


def run(*arguments: object) -> int:
    return __main__.main([str(argument) for argument in arguments])


def answer(capsys, *arguments: object, status: int = 0):
    """What a command prints for machines."""
    assert run(*arguments, "--json") == status
    return json.loads(capsys.readouterr().out)


def complaint(capsys, *arguments: object) -> str:
    """The sentence of a refusal."""
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    assert said.startswith("error: ")
    return said.removeprefix("error: ").rstrip("\n")


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of the colors of two patterns, computed from the full pictures."""
    a, b = (
        each.reshape(4, SIDE // 4, 4, SIDE // 4, 3).mean(axis=(1, 3)).ravel() - 127.3
        for each in (one, other)
    )
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


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


# enroll, identify, verify


def test_enroll_a_folder(people, tmp_path, capsys):
    save(people / "Dan" / "small.png", photo(DAN, side=32))
    (people / "Eve").mkdir()
    save(people / "Bob" / "group.png", photo(BOB, CYD))
    found = answer(capsys, "enroll", "known", "people")
    assert found["people"] == [{"name": name, "templates": 2} for name in ("Ann", "Bob", "Cyd")]
    assert (found["gallery"], found["recognizer"]) == ("known.sqlite", "checks")
    assert found["counts"] == {"people": 3, "faces": 6, "skipped": 3}
    reasons = {one["source"]: one["reason"] for one in found["skipped"]}
    assert "too small (11 pixels between the eyes" in reasons["Dan"]
    assert "has no photographs" in reasons["people/Eve"]
    assert "there are 2 faces in it" in reasons["people/Bob/group.png"]
    assert run("enroll", "known", "Dan", "people/Dan/small.png", "--unchecked") == 0
    assert run("gallery", "list", "known") == 0
    assert capsys.readouterr().out.splitlines()[-4:] == ["Ann", "Bob", "Cyd", "Dan"]


def test_enroll_refuses(gallery, tmp_path, capsys):
    ann = save(tmp_path / "ann.png", photo(ANN, number=7))
    two = save(tmp_path / "two.png", photo(ANN, BOB))
    assert "line break" in complaint(capsys, "enroll", gallery, "A\nnn", ann)
    assert "there are 2 faces in it" in complaint(capsys, "enroll", gallery, "Zoe", two)
    assert "Ann" in complaint(capsys, "enroll", gallery, "Zoe", ann)  # a duplicate
    assert "sub-folder per person" in complaint(capsys, "enroll", gallery, "Zoe")
    (tmp_path / "flat").mkdir()
    assert "flat has no folder per person" in complaint(capsys, "enroll", gallery, "flat")
    assert run("enroll", gallery, "Zoe", ann, "--duplicates=allow") == 0


def test_an_enrollment_of_nobody_makes_no_gallery(tmp_path, capsys):
    save(tmp_path / "people" / "Ann" / "none.png", photo())
    save(tmp_path / "people" / "Bob" / "small.png", photo(BOB, side=32))
    save(tmp_path / "people" / (201 * "C") / "cyd.png", photo(CYD))
    found = answer(capsys, "enroll", "known", "people", status=2)
    assert (found["gallery"], found["people"]) == (None, [])
    ann, bob, cyd = (one["reason"] for one in found["skipped"])
    assert "there is no face in it" in ann
    assert "Bob is not enrolled (people/Bob/small.png, face 0: too small" in bob
    assert "201 characters" in cyd
    assert [path.name for path in tmp_path.iterdir()] == ["people"]
    save(tmp_path / "people" / "Dan" / "dan.png", photo(DAN))
    assert answer(capsys, "enroll", "known", "people")["counts"]["people"] == 1
    assert (tmp_path / "known.sqlite").is_file()


def test_a_photo_that_is_given_twice(people, capsys):
    ann = "people/Ann/1.png"
    found = answer(capsys, "enroll", "known", "Ann", ann, ann, people / "Ann" / "1.png")
    assert found["people"] == [{"name": "Ann", "templates": 1}]
    assert found["skipped"] == []


def test_a_gallery_of_another_recognizer(gallery, tmp_path, capsys, monkeypatch):
    ann = save(tmp_path / "ann.png", photo(ANN, number=7))
    other = stand_ins.Recognizer(card=stand_ins.Card(name="other", sha256="b" * 64))
    monkeypatch.setattr(recognition, "open", lambda name: other)
    for command in (
        ("identify", gallery, ann),
        ("enroll", gallery, "Ann", ann),
        ("verify", f"--gallery={gallery}", "Ann", ann),
    ):
        said = complaint(capsys, *command)
        assert "checks (aaaaaaaaaaaa)" in said
        assert "other (bbbbbbbbbbbb)" in said


def test_the_recognizer_of_a_gallery_is_opened(people, capsys, monkeypatch):
    opened = []

    def open_one(name):
        opened.append(name)
        return stand_ins.Recognizer(card=stand_ins.Card(sha256=packages.DLIB.sha256))

    monkeypatch.setattr(recognition, "open", open_one)
    assert run("enroll", "new", "people") == 0
    assert run("identify", "new", "people", "--threshold=0.5") == 0
    assert run("identify", "new", "people", "--threshold=0.5", "--recognizer=mine") == 0
    assert opened == [None, "dlib", "mine"]


def test_identify(gallery, tmp_path, capsys):
    save(tmp_path / "party.png", photo(BOB, DAN, ANN, number=9))
    save(tmp_path / "none.png", photo())
    (tmp_path / "torn.png").write_bytes(b"no picture")
    found = answer(capsys, "identify", gallery, "party.png", "none.png", "torn.png", "--draw=out")
    assert found["threshold"] == 0.6
    assert found["counts"] == {"photos": 2, "faces": 3, "known": 2, "skipped": 1}
    bob, dan, ann = found["photos"][0]["faces"]
    assert [face["name"] for face in (bob, dan, ann)] == ["Bob", None, "Ann"]
    expected = max(
        cosine(stand_ins.pattern(BOB, 9), stand_ins.pattern(BOB, number)) for number in (1, 2)
    )
    assert bob["similarity"] == pytest.approx(expected, abs=0.01)
    assert dan["similarity"] < 0.5
    assert bob["candidates"][0]["name"] == "Bob"
    assert len(bob["candidates"]) == 2
    assert (tmp_path / "out" / "party.png").is_file()
    assert "torn.png does not decode" in found["skipped"][0]["reason"]

    assert run("identify", gallery, "party.png") == 0
    header, _, first, second, _, ending = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", header)[2:] == ["name", "similarity (from 0.60)", "next"]
    assert first.split()[:3] == ["party.png", "0", "Bob"]
    assert second.split()[:3] == ["party.png", "1", "unknown"]
    assert ending == "photos: 1, faces: 3, known: 2, skipped: 0"


def test_identify_by_rates_and_margins(gallery, tmp_path, capsys):
    save(tmp_path / "bob.png", photo(BOB, number=9))
    asked = {
        ("--far=0.01",): 0.5,
        ("--fpir=0.03",): 0.5,  # of three people
        ("--fpir=0.01",): 0.6,
        ("--threshold=0.2",): 0.2,
    }
    for options, threshold in asked.items():
        assert answer(capsys, "identify", gallery, "bob.png", *options)["threshold"] == threshold
    said = complaint(capsys, "identify", gallery, "bob.png", "--far=1e-5")
    assert "down to FAR 0.001, not to 1e-05" in said
    assert "--threshold=COSINE" in said
    found = answer(capsys, "identify", gallery, "bob.png", "--margin=1.9", "--k=3")
    assert found["photos"][0]["faces"][0]["name"] is None
    assert len(found["photos"][0]["faces"][0]["candidates"]) == 3
    assert "there is no gallery" in complaint(capsys, "identify", "nowhere", "bob.png")
    for one, other in (("--far=0.1", "--threshold=0.2"), ("--fpir=0.1", "--far=0.1")):
        said = complaint(capsys, "identify", gallery, "bob.png", one, other)
        assert f"argument {other[:-4]}: not allowed with argument {one[:-4]}" in said
    assert "not allowed with argument --threshold" in complaint(
        capsys, "verify", "bob.png", "bob.png", "--threshold=0.5", "--far=0.001"
    )
    assert "argument --k" in complaint(capsys, "identify", gallery, "bob.png", "--k=0")
    assert "argument --far" in complaint(capsys, "identify", gallery, "bob.png", "--far=2")


def test_many_photos_are_searched_for_together(gallery, tmp_path, capsys):
    wanted = []
    for number in range(50):
        people = [(number + n) % 4 for n in range(number % 4)]
        wanted += [[None if person == DAN else "ABC"[person] for person in people]]
        save(tmp_path / "many" / f"{number:02}.png", photo(*people, number=number))
    found = answer(capsys, "identify", gallery, "many")
    said = [
        [(face["name"] or " ")[0].strip() or None for face in one["faces"]]
        for one in found["photos"]
    ]
    assert said == wanted
    assert [one["photo"] for one in found["photos"]] == [f"many/{n:02}.png" for n in range(50)]


def test_verify_two_photos(tmp_path, capsys):
    ann, too, bob = (
        save(tmp_path / f"{person}{number}.png", photo(person, number=number))
        for person, number in ((ANN, 1), (ANN, 2), (BOB, 1))
    )
    assert run("verify", ann, too) == 0
    expected = cosine(stand_ins.pattern(ANN, 1), stand_ins.pattern(ANN, 2))
    said = capsys.readouterr().out
    assert re.fullmatch(r"same: similarity 0\.\d{3}, threshold 0\.600\n", said)
    assert float(said.split()[2].rstrip(",")) == pytest.approx(expected, abs=0.01)
    assert run("verify", ann, bob, "--threshold=0.5") == 1
    assert capsys.readouterr().out.startswith("different: similarity ")
    found = answer(capsys, "verify", ann, too, "--far=0.01")
    assert (found["same"], found["threshold"], found["recognizer"]) == (True, 0.5, "checks")
    assert [face["photo"] for face in found["faces"]] == [ann, too]
    assert answer(capsys, "verify", ann, bob, status=1)["same"] is False


def test_verify_has_no_answer(tmp_path, capsys, monkeypatch):
    ann = save(tmp_path / "ann.png", photo(ANN))
    none = save(tmp_path / "none.png", photo())
    two = save(tmp_path / "two.png", photo(ANN, BOB))
    assert "there is no face in it" in complaint(capsys, "verify", ann, none)
    assert "there are 2 faces in it" in complaint(capsys, "verify", two, ann)
    assert "is a folder" in complaint(capsys, "verify", ann, tmp_path)
    assert "gone.png" in complaint(capsys, "verify", ann, "gone.png")
    assert run("verify", ann, two, "--face=largest") == 0
    capsys.readouterr()
    monkeypatch.setattr(recognition, "open", lambda name: stand_ins.Recognizer())
    assert complaint(capsys, "verify", ann, ann) == (
        "checks has no calibrated threshold: give --threshold=COSINE"
    )


def test_verify_somebody_of_a_gallery(gallery, tmp_path, capsys):
    ann = save(tmp_path / "ann.png", photo(ANN, number=9))
    assert run("verify", f"--gallery={gallery}", "Ann", ann) == 0
    assert run("verify", f"--gallery={gallery}", "Bob", ann) == 1
    capsys.readouterr()
    found = answer(capsys, "verify", f"--gallery={gallery}", "Ann", ann)
    assert (found["same"], found["name"], found["threshold"]) == (True, "Ann", 0.6)
    assert "there is nobody named Zoe" in complaint(
        capsys, "verify", f"--gallery={gallery}", "Zoe", ann
    )


# cluster


def test_cluster(tmp_path, capsys):
    for number, who in enumerate([(ANN, BOB), (ANN,), (CYD, ANN), (BOB,), ()]):
        save(tmp_path / "photos" / f"{number}.png", photo(*who, number=number))
    found = answer(capsys, "cluster", "photos", "--out=out")
    assert found["threshold"] == 0.6  # the strictest
    groups = [
        [(face["photo"][-5:-4], face["number"]) for face in person["faces"]]
        for person in found["people"]
    ]
    assert groups == [[("0", 0), ("1", 0), ("2", 1)], [("0", 1), ("3", 0)], [("2", 0)]]
    assert found["counts"] == {"photos": 5, "faces": 6, "people": 3, "skipped": 0}
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/*/*"))
    assert made == [
        *("person-0000/0-0.png", "person-0000/1-0.png", "person-0000/2-1.png"),
        *("person-0001/0-1.png", "person-0001/3-0.png", "person-0002/2-0.png"),
    ]
    assert run("cluster", "photos", "--threshold=-1") == 0
    assert "photos: 5, faces: 6, people: 1, skipped: 0" in capsys.readouterr().out
    assert "is there already" in complaint(capsys, "cluster", "photos", "--out=out")


# gallery


def test_gallery(gallery, capsys):
    found = answer(capsys, "gallery", "list", gallery)
    assert (found["names"], found["dtype"]) == (["Ann", "Bob", "Cyd"], "float32")
    assert found["recognizer"] == {"name": "checks", "sha256": "a" * 64}
    assert [one["cosine"] for one in found["thresholds"]] == [0.5, 0.6]
    faces = answer(capsys, "gallery", "list", gallery, "Ann")["faces"]
    assert faces == [{"photo": f"people/Ann/{number}.png", "number": 0} for number in (1, 2)]
    assert run("gallery", "export", gallery, "people.npz") == 0
    assert run("gallery", "import", "copy", "people.npz") == 0
    capsys.readouterr()
    assert answer(capsys, "gallery", "import", "copy", "people.npz")["added"] == 0
    assert run("gallery", "rename", gallery, "Cyd", "Zoë") == 0
    assert run("gallery", "merge", gallery, "Ann", "Bob", "--into=Ann") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Ann, Bob: now Ann, faces: 4"
    assert answer(capsys, "gallery", "list", gallery)["names"] == ["Ann", "Zoë"]
    assert "nobody named Bob" in complaint(capsys, "gallery", "remove", gallery, "Ann", "Bob")
    assert answer(capsys, "gallery", "list", gallery)["names"] == ["Ann", "Zoë"]
    assert run("gallery", "remove", gallery, "Ann", "Zoë") == 0
    capsys.readouterr()
    assert answer(capsys, "gallery", "list", gallery)["names"] == []
    assert answer(capsys, "gallery", "list", "copy")["names"] == ["Ann", "Bob", "Cyd"]


def test_gallery_refuses(gallery, tmp_path, capsys):
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    assert "bad.npz is damaged" in complaint(capsys, "gallery", "import", "fresh", "bad.npz")
    assert not (tmp_path / "fresh.sqlite").exists()
    assert "there is no gallery" in complaint(capsys, "gallery", "list", "nowhere")
    assert "merge the two" in complaint(capsys, "gallery", "rename", gallery, "Ann", "Bob")


# What is around them


def test_the_home_folder_is_put_in(people, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ann = "~/people/Ann/1.png"
    for command in (
        ("detect", "~/people", "--draw=~/drawn"),
        ("align", "~/people", "--out=~/crops"),
        ("embed", ann, "--out=~/ann.npz"),
        ("enroll", "~/known", "~/people"),
        ("enroll", "~/known", "Ann", "~/people/Ann"),
        ("identify", "~/known", ann, "--draw=~/who.png"),
        ("verify", ann, "~/people/Ann/2.png"),
        ("verify", "--gallery=~/known", "Ann", ann),
        ("cluster", "~/people", "--out=~/strangers"),
        ("gallery", "export", "~/known", "~/known.npz"),
        ("gallery", "import", "~/copy", "~/known.npz"),
    ):
        assert run(*command) == 0, capsys.readouterr()
    assert "in a home folder that is not" in complaint(capsys, "detect", "~no-such-user/a.png")
    assert list(tmp_path.glob("elsewhere/*")) == []
    names = ("drawn/Bob/1.png", "crops/Bob/1.jpg", "ann.npz", "who.png", "known.npz", "copy.sqlite")
    assert all((tmp_path / name).is_file() for name in names)


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
