"""A gallery: who is enrolled, refused, found and renamed, in one process and in two."""

import json
import threading

import numpy as np
import pytest

from facejax.recognition.gallery import Gallery
from tests.faces import SIZE, Card, Recognizer, person, photo
from tests.galleries import THRESHOLDS, enroll_three, found, refused


@pytest.fixture
def gallery(tmp_path):
    with Gallery(tmp_path / "people", recognizer=Recognizer(thresholds=THRESHOLDS)) as opened:
        yield opened


@pytest.fixture
def three(gallery):
    return enroll_three(gallery)


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
