"""The commands on people: enrolled, identified, verified, put together; stand-ins for networks."""

import re

import pytest

from facejax import recognition
from facejax.recognition import packages
from tests import stand_ins
from tests.commanding import (
    ANN,
    BOB,
    CYD,
    DAN,
    answer,
    complaint,
    cosine,
    run,
    save_people,
    without_networks,
)
from tests.stand_ins import photo, save


@pytest.fixture(autouse=True)
def _networks(monkeypatch, tmp_path):
    without_networks(monkeypatch, tmp_path)


@pytest.fixture
def people(tmp_path):
    return save_people(tmp_path)


@pytest.fixture
def gallery(people, capsys):
    assert run("enroll", "known", "people") == 0
    capsys.readouterr()
    return "known"


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


# everything


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
