"""A gallery: who is enrolled, refused, found and forgotten, in one process and in two."""

import json
import pathlib
import sqlite3
import sys
import threading
import time
import types

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition.gallery import Gallery
from facejax.recognition.thresholds import Threshold
from tests.faces import SIZE, Card, Face, Faces, PhotoFaces, Quality, Recognizer, person, photo

THRESHOLDS = (
    Threshold(far=1e-2, cosine=0.3, upper_bound=1.2e-2, negatives=10_000, data="toys"),
    Threshold(far=1e-3, cosine=0.4, upper_bound=1.5e-3, negatives=10_000, data="toys"),
)


@pytest.fixture
def gallery(tmp_path):
    with Gallery(tmp_path / "people", recognizer=Recognizer(thresholds=THRESHOLDS)) as opened:
        yield opened


@pytest.fixture
def three(gallery):
    """Ann and Bob with two photos each, and Cyd with one."""
    for seed, (name, count) in enumerate([("Ann", 2), ("Bob", 2), ("Cyd", 1)]):
        gallery.enroll(name, np.array([photo(seed, number) for number in range(count)]))
    return gallery


def found(matches) -> list[str | None]:
    return [match.name for match in matches]


def refused(action, *arguments, **options) -> str:
    """The sentence of the refusal."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def bytes_beside(folder: pathlib.Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_who_it_is_and_who_is_unknown(three):
    queries = np.array([photo(seed, 9) for seed in (0, 1, 2, 3)])
    matches = three.identify(queries)
    assert found(matches) == ["Ann", "Bob", "Cyd", None]
    expected = max(photo(0, 9) @ photo(0, number) for number in (0, 1))
    assert matches[0].similarity == pytest.approx(float(expected), abs=1e-6)
    assert (matches[0].threshold, matches[2].number, len(matches)) == (0.4, 2, 4)
    assert str(matches).startswith(f"Ann {expected:.2f} (threshold 0.40), Bob ")
    assert str(matches[3]) == f"unknown {matches[3].similarity:.2f} (threshold 0.40)"
    assert three.identify(queries[0], k=1)[0].candidates[0].name == "Ann"
    assert len(three.identify(queries[0], k=9)[0].candidates) == 3


def test_two_names_within_the_margin_are_nobody(three):
    between = person(0) + 0.98 * person(1)
    (match,) = three.identify(between, margin=0.0)
    first, second = match.candidates
    assert {match.name, second.name} == {"Ann", "Bob"}
    gap = first.similarity - second.similarity
    (close,) = three.identify(between, margin=gap + 1e-3)
    assert close.name is None
    assert str(close) == (
        f"unknown {first.similarity:.2f} (threshold 0.40, {first.name} and {second.name} within "
        f"{gap + 1e-3:.2f})"
    )
    assert three.identify(between, margin=gap - 1e-3)[0].name == match.name


def test_the_second_name_is_another_person_however_many_templates_the_first_has(gallery):
    gallery.enroll("Ann", np.array([photo(0, number, 0.3) for number in range(60)]))
    gallery.enroll("Bob", photo(1, 0))
    (match,) = gallery.identify(photo(0, 99), k=2)
    assert [one.name for one in match.candidates] == ["Ann", "Bob"]
    assert match.second.similarity == pytest.approx(float(photo(0, 99) @ photo(1, 0)), abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_best_and_mean_are_what_they_are_called(tmp_path, dtype):
    random = np.random.default_rng(2)
    held = {
        f"P{seed}": np.array([photo(seed, number, 1.0) for number in range(random.integers(1, 5))])
        for seed in range(30)
    }
    tolerance = 1e-6 if dtype == "float32" else 5e-3
    queries = np.array([photo(seed, 50) for seed in range(0, 60, 3)])
    with Gallery(tmp_path / "people", dtype=dtype) as gallery:
        for name, rows in held.items():
            gallery.enroll(name, rows)
        del held["P3"]
        gallery.identify(queries, threshold=0.5, pool="mean")  # so that the means must follow
        gallery.remove("P3")
        gallery.enroll("P4", photo(4, 77))
        held["P4"] = np.concatenate([held["P4"], photo(4, 77)[None]])
        gallery.merge(["P5", "P6"], "P5")
        held["P5"] = np.concatenate([held["P5"], held.pop("P6")])
        for pool in ("best", "mean"):
            matches = gallery.identify(queries, threshold=0.5, pool=pool, k=3)
            for query, match in zip(queries, matches, strict=True):
                means = {name: rows.astype(np.float64).mean(axis=0) for name, rows in held.items()}
                expected = {
                    name: float(
                        max(rows.astype(np.float64) @ query)
                        if pool == "best"
                        else means[name] @ query / np.linalg.norm(means[name])
                    )
                    for name, rows in held.items()
                }
                order = sorted(expected, key=expected.__getitem__, reverse=True)[:3]
                values = [one.similarity for one in match.candidates]
                np.testing.assert_allclose(values, [expected[n] for n in order], atol=tolerance)
                if dtype == "float32":
                    assert [one.name for one in match.candidates] == order
                one = gallery.verify(order[0], query, threshold=0.5, pool=pool)
                assert one.similarity == pytest.approx(expected[order[0]], abs=tolerance)


def test_verify(three):
    yes, no = three.verify("Ann", photo(0, 9)), three.verify("Ann", photo(1, 9))
    assert (bool(yes), bool(no)) == (True, False)
    assert str(yes) == f"Ann {yes.similarity:.2f} (threshold 0.40)"
    assert str(no) == f"not Ann {no.similarity:.2f} (threshold 0.40)"
    assert three.verify("Ann", photo(0, 9), threshold=0.999).same is False
    assert "there is nobody named Zoe" in refused(three.verify, "Zoe", photo(0, 9))
    assert "one face is wanted" in refused(three.verify, "Ann", np.array([photo(0, 9)] * 2))


def test_thresholds_are_chosen_by_far_and_refused_beyond_the_negatives(three, tmp_path):
    assert three.identify(photo(0, 9), far=1e-2)[0].threshold == 0.3
    assert three.identify(photo(0, 9), fpir=0.003)[0].threshold == 0.4  # of three people
    said = refused(three.identify, photo(0, 9), fpir=1e-3)
    assert "down to FAR 0.001, not to 0.000333" in said
    assert three.thresholds == THRESHOLDS
    three.set_thresholds(THRESHOLDS[:1])
    with Gallery(tmp_path / "people", create=False) as again:
        assert again.thresholds == THRESHOLDS[:1]
        assert json.loads(Card().to_json()) == again.card
    with Gallery(tmp_path / "plain") as plain:
        plain.enroll("Ann", photo(0, 0))
        assert "has no calibrated threshold: give threshold=" in refused(
            plain.identify, photo(0, 1)
        )


def test_an_empty_gallery_knows_nobody(gallery):
    matches = gallery.identify(np.array([photo(0, 0)]))
    assert str(matches) == "unknown (threshold 0.40)"
    assert (matches[0].similarity, matches[0].second, gallery.names(), len(gallery)) == (
        None, None, [], 0,
    )  # fmt: skip
    assert len(gallery.identify([])) == 0
    assert "no face was given" in refused(gallery.enroll, "Ann", [])


def test_an_embedding_is_enrolled_once_and_a_face_under_one_name(three):
    again = three.enroll("Ann", photo(0, 0))
    assert again.templates == (1,)
    assert len(three.sources("Ann")) == 2
    both = np.array([photo(1, 1), photo(0, 5)])
    result = three.enroll("Ann", both)
    assert len(result.templates) == 1
    assert "this face is enrolled as Bob (1.00, from 0.40 on)" in str(result)
    assert "this face is enrolled as Bob" in refused(three.enroll, "Dan", photo(1, 7))
    assert three.names() == ["Ann", "Bob", "Cyd"]
    three.enroll("Dan", photo(1, 7), duplicates="allow")
    three.enroll("Eve", photo(2, 7), duplicate_threshold=0.99)
    assert three.names() == ["Ann", "Bob", "Cyd", "Dan", "Eve"]


def test_names(gallery):
    gallery.enroll("  Zoe\u0308 / Ann  ", photo(0, 0))
    assert gallery.names() == ["Zoë / Ann"]
    gallery.enroll("Zoë / Ann", photo(0, 1))
    assert len(gallery.sources("Zoe\u0308 / Ann")) == 2
    gallery.enroll("x" * 200, photo(1, 1))
    gallery.enroll("李雷", photo(2, 1))
    for wrong, why in [
        ("", "empty"),
        (" \n ", "empty"),
        ("Ann\nBob", "a line break"),
        ("Ann\x00", "a line break or another control"),
        ("\ud800", "control character"),
        ("x" * 300, "300 characters"),
        (7, "a name is a text"),
    ]:
        assert why in refused(gallery.enroll, wrong, photo(3, 0))
    assert len(gallery) == 3


def test_rename_and_merge(three):
    three.rename("Ann", "Ann Lee")
    three.rename("Ann Lee", "Ann Lee")
    assert found(three.identify(photo(0, 9))) == ["Ann Lee"]
    assert "there is a Bob in" in refused(three.rename, "Cyd", "Bob")
    assert "there is nobody named Ann in" in refused(three.rename, "Ann", "Zoe")
    three.merge(["Ann Lee", "Cyd"], "Both")
    assert three.names() == ["Bob", "Both"]
    assert len(three.sources("Both")) == 3
    assert found(three.identify(np.array([photo(0, 9), photo(2, 9)]))) == ["Both", "Both"]
    three.merge(["Bob", "Both"], "Both")
    assert three.names() == ["Both"]
    assert "nobody named Ann" in refused(three.merge, ["Ann", "Both"], "Both")
    assert "nobody is to become Zoe" in refused(three.merge, [], "Zoe")
    assert "no pool 'median'" in refused(three.identify, photo(0, 0), pool="median")


def test_what_another_process_changes_is_seen_by_the_next_search(tmp_path):
    queries = np.array([photo(seed, 9) for seed in range(3)])
    with Gallery(tmp_path / "people") as mine, Gallery(tmp_path / "people") as other:
        see = lambda: found(mine.identify(queries, threshold=0.5))  # noqa: E731
        assert see() == [None, None, None]
        other.enroll("Ann", photo(0, 0))
        assert see() == ["Ann", None, None]
        other.enroll("Bob", photo(1, 0))
        assert see() == ["Ann", "Bob", None]
        other.rename("Ann", "Eve")
        assert see() == ["Eve", "Bob", None]
        other.merge(["Bob"], "Eve")
        assert see() == ["Eve", "Eve", None]
        mine.enroll("Cyd", photo(2, 0))
        other.remove("Eve")
        assert see() == [None, None, "Cyd"]
        # A refused enrollment takes no number from the next one.
        refused(mine.enroll, "Dan", photo(2, 0))
        other.enroll("Fay", photo(1, 0))
        assert see() == [None, "Fay", "Cyd"]
        assert mine.names() == other.names() == ["Cyd", "Fay"]


def test_only_what_changed_is_read(three, monkeypatch):
    three.identify(photo(0, 9))
    read = []
    real = type(three._opened.loaded)._unpack
    monkeypatch.setattr(
        type(three._opened.loaded),
        "_unpack",
        lambda self, rows: read.append(len(rows)) or real(self, rows),
    )
    three.identify(photo(0, 9))
    assert read == []
    three.enroll("Dan", photo(5, 0))
    three.remove("Bob")
    assert found(three.identify(np.array([photo(5, 9), photo(1, 9)]))) == ["Dan", None]
    assert read == [1]


def test_threads_share_one(three):
    seen: list[list[str | None]] = []

    def search():
        for _ in range(5):
            seen.append(found(three.identify(np.array([photo(0, 9), photo(1, 9)]))))

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(10):
        three.enroll(f"New {number}", photo(20 + number, 0))
    for thread in threads:
        thread.join()
    assert seen == [["Ann", "Bob"]] * 20
    assert len(three) == 13


def plant(path: pathlib.Path, content: bytes) -> int:
    """Puts bytes where a split page may leave a copy of its rows: between its index and its cells.

    `secure_delete` does not know of those; how many pages got them is returned.
    """
    held, planted = bytearray(path.read_bytes()), 0
    size = int.from_bytes(held[16:18])
    for page in range(size, len(held), size):
        cells, start = (int.from_bytes(held[page + at : page + at + 2]) for at in (3, 5))
        if held[page] in (10, 13) and start - 8 - 2 * cells > len(content) + 20:  # leaves
            at = page + start - len(content) - 5
            held[at : at + len(content)] = content
            planted += 1
    path.write_bytes(held)
    return planted


@pytest.mark.parametrize("how", ["remove", "rename", "merge"])
def test_nothing_stays_of_who_is_removed(three, tmp_path, how):
    three.close()
    assert plant(tmp_path / "people.sqlite", b"the name Bob") > 3
    with Gallery(tmp_path / "people") as gallery:
        gallery.enroll("Dan", photo(4, 0))
        assert b"Bob" in bytes_beside(tmp_path)
        assert photo(1, 1).tobytes() in bytes_beside(tmp_path)
        if how == "remove":
            gallery.remove("Bob")
        elif how == "rename":
            gallery.rename("Bob", "Eve")
        else:
            gallery.merge(["Bob"], "Ann")
        held = bytes_beside(tmp_path)  # of the file and, as it is open still, of its log
        assert len(list(tmp_path.iterdir())) == 3
        assert b"Bob" not in held
        for part in (slice(8), slice(-8, None)):
            assert (photo(1, 1)[part].tobytes() in held) == (how != "remove")
            assert photo(4, 0)[part].tobytes() in held
        assert b"Dan" in held


def test_a_removal_that_was_cut_off_is_finished_by_the_next_opening(three, tmp_path, monkeypatch):
    three.close()
    plant(tmp_path / "people.sqlite", b"the name Bob")
    with Gallery(tmp_path / "people") as gallery:
        monkeypatch.setattr(gallery._opened.database, "erase", lambda done: None)  # killed here
        gallery.remove("Bob")
    assert b"Bob" in bytes_beside(tmp_path)
    Gallery(tmp_path / "people").close()
    assert b"Bob" not in bytes_beside(tmp_path)
    assert b"Ann" in bytes_beside(tmp_path)


def test_a_removal_says_when_another_process_keeps_the_traces(three, tmp_path):
    reader = sqlite3.connect(tmp_path / "people.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM facejax_people").fetchall()
    with Gallery(tmp_path / "people", timeout=0.1) as hasty:
        said = refused(hasty.remove, "Cyd")
        assert "Cyd is removed, but traces stay" in said
        reader.close()
        hasty.remove("Bob")
    assert three.names() == ["Ann"]
    assert photo(2, 0).tobytes() not in bytes_beside(tmp_path)


def test_where_a_gallery_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no gallery" in refused(Gallery, "people", create=False)
    Gallery("people").close()
    assert [path.name for path in tmp_path.iterdir()] == ["people.sqlite"]
    Gallery("deep/er/people.db").close()
    assert (tmp_path / "deep/er/people.db").is_file()
    Gallery("people", create=False).close()
    (tmp_path / "folder.d").mkdir()
    assert "is a folder" in refused(Gallery, "folder.d")
    (tmp_path / "file").write_text("")
    assert "there is no gallery in" in refused(Gallery, "file", create=False)
    Gallery("file").close()
    assert not (tmp_path / "file.sqlite").exists()
    assert "is neither" in refused(Gallery, "mysql://somewhere/else")
    assert "is neither" in refused(Gallery, "://")


def test_a_file_that_is_no_gallery_is_left_as_it_is(tmp_path):
    (tmp_path / "text.txt").write_text("no database at all, but a text of some length\n" * 20)
    assert "is no gallery, or a damaged one" in refused(Gallery, tmp_path / "text.txt")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE theirs (number INTEGER)")
    other.close()
    before = (tmp_path / "other.sqlite").read_bytes()
    assert "another program's tables" in refused(Gallery, tmp_path / "other")
    assert (tmp_path / "other.sqlite").read_bytes() == before


def test_a_newer_schema_is_refused(three, tmp_path):
    three.close()
    with sqlite3.connect(tmp_path / "people.sqlite") as raw:
        raw.execute("UPDATE facejax_gallery SET schema = 2")
    raw.close()
    said = refused(Gallery, tmp_path / "people")
    assert "has schema 2, and this facejax knows schema 1: install a newer facejax" in said


def test_another_recognizer_is_refused_by_name(three, tmp_path):
    other = Recognizer(Card(name="sface", sha256="b" * 64))
    said = refused(Gallery, tmp_path / "people", recognizer=other)
    assert "written by the recognizer toy (aaaaaaaaaaaa)" in said
    assert "sface (bbbbbbbbbbbb)" in said
    assert "embeddings of length 64, and an embedding has 8" in refused(
        three.identify, person(0, 8)
    )
    said = refused(Gallery, tmp_path / "people", dtype="int8")
    assert "has float32 templates, not int8" in said
    with Gallery(tmp_path / "plain") as plain:
        plain.enroll("Ann", photo(0, 0))
    with Gallery(tmp_path / "plain", recognizer=other) as said_so:
        assert said_so.card["name"] == "sface"


def test_wrong_embeddings(three):
    for wrong, why in [
        (np.zeros(SIZE), "zero or not finite"),
        (np.full(SIZE, np.nan), "zero or not finite"),
        (np.ones((2, 3, SIZE)), "this one is [2, 3, 64]"),
        ([photo(0, 1), person(0, 8)], "lengths [8, 64]"),
        (np.ones(()), "this one is []"),
    ]:
        assert why in refused(three.identify, wrong)


def test_one_busy_with_anothers_write_is_waited_for(three, tmp_path):
    writer = sqlite3.connect(
        tmp_path / "people.sqlite", isolation_level=None, check_same_thread=False
    )
    writer.execute("BEGIN IMMEDIATE")
    with Gallery(tmp_path / "people", timeout=0.2) as hasty:
        assert found(hasty.identify(photo(0, 9))) == ["Ann"]  # reading does not wait
        said = refused(hasty.enroll, "Dan", photo(7, 0))
        assert "has been busy with another process's write for 0.2 s" in said
    threading.Timer(0.3, lambda: writer.execute("COMMIT")).start()
    start = time.monotonic()
    three.enroll("Dan", photo(7, 0))
    assert time.monotonic() - start > 0.25
    assert three._opened.database.timeout == 30
    writer.close()


def test_damage_is_one_sentence(three, tmp_path):
    three.close()
    path = tmp_path / "people.sqlite"
    whole = path.read_bytes()
    place = whole.index(photo(1, 1).tobytes())
    path.write_bytes(whole[:place] + b"\x00" + whole[place + 1 :])
    with Gallery(path) as flipped:
        assert "a template of Bob in" in refused(flipped.identify, photo(0, 9))
        flipped.remove("Bob")
        assert found(flipped.identify(photo(0, 9))) == ["Ann"]
    path.write_bytes(whole[: len(whole) // 2])
    said = refused(lambda: Gallery(path).identify(photo(0, 9)))
    assert "is damaged: restore a copy" in said
    path.write_bytes(whole[:100] + bytes(4000) + whole[4100:])
    assert "damaged" in refused(Gallery, path)
    path.write_bytes(whole.replace(b"name TEXT NOT NULL", b"n\xb8me T\xd0XT N\xb8T NULL"))
    assert "damaged" in refused(lambda: Gallery(path).names())  # what SQLite says is no UTF-8


# Photos.


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


def test_an_export_is_plain_and_comes_back(three, tmp_path):
    face = Face("fay.jpg", 3, photo(9, 0), Quality(40.0))
    three.enroll("Fay", face, check=None)
    three.export(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz", allow_pickle=False) as archive:
        assert archive["embeddings"].dtype == np.float32
        np.testing.assert_allclose(archive["embeddings"][-1], photo(9, 0), atol=1e-6)
        assert archive["names"].tolist() == ["Ann", "Ann", "Bob", "Bob", "Cyd", "Fay"]
        about = json.loads(archive["gallery.json"])
    assert about["recognizer"] == {"name": "toy", "sha256": "a" * 64}
    assert about["templates"][-1] == {
        "source": "fay.jpg", "number": 3, "score": 0.9, "box": [0.0, 1.0, 2.0, 3.0],
        "landmarks": [[1.0, 1.0]] * 5, "quality": {"size": 40.0, "blurred": False},
    }  # fmt: skip
    queries = np.array([photo(seed, 9) for seed in range(10)])
    expected = three.identify(queries, k=4)
    for dtype in ("float32", "int8"):
        with Gallery(tmp_path / dtype, dtype=dtype) as again:
            assert again.import_(tmp_path / "all.npz") == 6
            assert again.import_(tmp_path / "all.npz") == 0
            assert (again.thresholds, again.card) == (three.thresholds, three.card)
            assert again.sources("Fay") == [("fay.jpg", 3)]
            got = again.identify(queries, k=4)
            assert found(got) == found(expected)
            if dtype == "float32":
                assert [one.candidates for one in got] == [one.candidates for one in expected]
            again.export(tmp_path / f"{dtype}.npz")
    with Gallery(tmp_path / "third") as third:
        third.enroll("Zoe", photo(30, 0))
        assert third.import_(tmp_path / "int8.npz") == 6
        assert third.names() == ["Ann", "Bob", "Cyd", "Fay", "Zoe"]


def test_a_file_that_is_no_export_is_refused(three, tmp_path):
    path = tmp_path / "all.npz"
    three.export(path)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[:500], whole[:-300]):
        path.write_bytes(content)
        assert "is damaged, or no exported gallery" in refused(three.import_, path)
    assert "there is no file" in refused(three.import_, tmp_path / "none.npz")
    path.write_bytes(whole)
    with Gallery(
        tmp_path / "other", recognizer=Recognizer(Card("sface", sha256="c" * 64))
    ) as other:
        assert "of toy (aaaaaaaaaaaa)" in refused(other.import_, path)
    np.savez(tmp_path / "pickled.npz", embeddings=np.array([{}], object), names=np.array(["x"]))
    assert "no exported gallery" in refused(three.import_, tmp_path / "pickled.npz")
