"""A gallery's file: where it is, what it forgets, damage, others' writes, exports."""

import json
import pathlib
import sqlite3
import threading
import time

import numpy as np
import pytest

from facejax.recognition.gallery import Gallery
from tests.faces import Card, Face, Quality, Recognizer, photo
from tests.galleries import THRESHOLDS, enroll_three, found, refused


@pytest.fixture
def gallery(tmp_path):
    with Gallery(tmp_path / "people", recognizer=Recognizer(thresholds=THRESHOLDS)) as opened:
        yield opened


@pytest.fixture
def three(gallery):
    return enroll_three(gallery)


def bytes_beside(folder: pathlib.Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


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
    assert "there is no gallery" in refused(Gallery, 300 * "a", create=False)
    assert "can't open or write the gallery" in refused(Gallery, 300 * "a")
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
