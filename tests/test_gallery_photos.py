"""A gallery that is given photos: stand-ins for what finds and embeds their faces."""

import pathlib
import sys
import types

import pytest

from facejax.recognition.gallery import Gallery
from tests.faces import Face, Faces, PhotoFaces, Quality, Recognizer, photo
from tests.galleries import THRESHOLDS, refused


@pytest.fixture
def gallery(tmp_path):
    with Gallery(tmp_path / "people", recognizer=Recognizer(thresholds=THRESHOLDS)) as opened:
        yield opened


@pytest.fixture
def photos(monkeypatch):
    """What is found in photos, by their names; `faces.py` and `quality.py` are stood in for."""
    content = {
        "ann.jpg": [(0, 20.0)],
        "ann2.jpg": [(0, 21.0)],
        "two.jpg": [(0, 22.0), (1, 23.0)],
        "nobody.jpg": [],
        "small.jpg": [(2, 3.0)],
    }
    asked = []

    def find_faces(paths, recognizer):
        asked.append(recognizer)
        found = []
        for path in map(str, paths):
            if path not in content:
                found.append(PhotoFaces(path, skipped="it is damaged"))
                continue
            faces = [
                Face(path, number, photo(seed, int(size)), Quality(size, blurred=size < 4))
                for number, (seed, size) in enumerate(content[path])
            ]
            found.append(PhotoFaces(path, tuple(faces)))
        return Faces(found)

    def reasons(quality):
        said = [f"too small: {quality.size:.0f} px"] if quality.size < 10 else []
        return said + (["blurred"] if quality.blurred else [])

    stand_ins = {"faces": {"find_faces": find_faces}, "quality": {"reasons": reasons}}
    stand_ins["open"] = {"open": lambda: Recognizer(thresholds=THRESHOLDS)}
    for name, content_of in stand_ins.items():
        module = types.SimpleNamespace(**content_of)
        monkeypatch.setitem(sys.modules, f"facejax.recognition.{name}", module)
    return asked


def test_photos_are_enrolled_and_identified(gallery, photos):
    result = gallery.enroll("Ann", ["ann.jpg", "two.jpg", "nobody.jpg", "torn.jpg", "ann2.jpg"])
    assert len(result.templates) == 2
    assert str(result) == (
        "Ann: 2 enrolled; left out: torn.jpg: it is damaged; left out: nobody.jpg: there is no "
        "face in it; left out: two.jpg: there are 2 faces in it: say which, face=0, 1 from the left"
    )
    assert gallery.sources("Ann") == [("ann.jpg", 0), ("ann2.jpg", 0)]
    gallery.enroll("Bob", pathlib.Path("two.jpg"), face=1)
    matches = gallery.identify(["two.jpg", "nobody.jpg", "torn.jpg"])
    assert [(match.name, match.source, match.number) for match in matches] == [
        ("Ann", "two.jpg", 0),
        ("Bob", "two.jpg", 1),
    ]
    assert [source for source, _ in matches.skipped] == ["torn.jpg", "nobody.jpg"]
    assert gallery.verify("Ann", "ann.jpg")
    assert not gallery.verify("Ann", "two.jpg", face=1)
    assert "there are 2 faces in it" in refused(gallery.verify, "Ann", "two.jpg")
    assert "there is no face 7 in it, only 0, 1" in refused(
        gallery.enroll, "Dan", "two.jpg", face=7
    )


def test_a_photo_that_is_given_twice_is_enrolled_once(gallery, photos):
    result = gallery.enroll("Ann", ["ann.jpg", "ann2.jpg", "ann.jpg"])
    assert (len(result.templates), result.refused) == (2, ())
    assert gallery.sources("Ann") == [("ann.jpg", 0), ("ann2.jpg", 0)]
    assert "there are 2 faces in it: say which, face=0, 1" in refused(
        gallery.enroll, "Bob", ["two.jpg", "two.jpg"]
    )
    assert len(gallery.enroll("Bob", ["two.jpg", "two.jpg"], face=1).templates) == 1


def test_why_a_face_is_refused(gallery, photos):
    said = refused(gallery.enroll, "Cyd", "small.jpg")
    assert said == "Cyd is not enrolled (small.jpg, face 0: too small: 3 px; blurred)"
    assert "there is no face in it" in refused(gallery.enroll, "Cyd", "nobody.jpg")
    own = lambda face: ["a picture of a picture"] if "ann" in face.source else []  # noqa: E731
    assert "a picture of a picture" in refused(gallery.enroll, "Ann", "ann.jpg", check=own)
    assert gallery.names() == []
    gallery.enroll("Cyd", "small.jpg", check=own)
    gallery.enroll("Ann", "ann.jpg", check=None)
    assert gallery.names() == ["Ann", "Cyd"]


def test_the_recognizer_is_opened_when_a_photo_comes(tmp_path, photos):
    with Gallery(tmp_path / "people") as gallery:
        assert (gallery.card, gallery.thresholds) == (None, ())
        gallery.enroll("Ann", "ann.jpg")
        gallery.enroll("Ann", "ann2.jpg")
        assert gallery.card["name"] == "toy"
        assert gallery.thresholds == THRESHOLDS
        assert photos[0] is photos[1]
    with Gallery(tmp_path / "plain") as plain:
        plain.enroll("Ann", photo(0, 0))
        assert "nobody said where they are from" in refused(plain.enroll, "Bob", "ann.jpg")


# Files.
