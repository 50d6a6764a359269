"""The audit of folders with planted faults, and the command; a stand-in for the network."""

import json
import pathlib
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from facejax import __main__, compilation, recognition
from facejax.data import folder_source, open_source
from facejax.errors import UserError
from facejax.evaluation import audit_page, audit_report
from facejax.evaluation.audit import audit, clean
from facejax.evaluation.inspection import inspect
from facejax.recognition.templates import DLIB
from facejax.recognition.thresholds import Threshold
from tests import stand_ins
from tests.packaged import installed
from tests.pictures import encode
from tests.stand_ins import SIDE, save

THRESHOLDS = (Threshold(1e-2, 0.4), Threshold(1e-3, 0.5, data="checks"))
PEOPLE = 12


def pattern(person: int, number: int = 0) -> np.ndarray:
    """A person's checks, uint8 [64, 64, 3]; two photos are no near-duplicates."""
    checks = np.random.default_rng([5, person]).integers(20, 236, (4, 4, 3))
    other = np.random.default_rng([6, person, number]).integers(-90, 91, (4, 4, 3))
    checks = np.clip(checks + other, 0, 255).astype(np.uint8)
    return cv2.resize(checks, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


def write(root: pathlib.Path) -> pathlib.Path:
    """Twelve people with five images each, two under two names, and one image of each fault."""
    for person in range(PEOPLE):
        for number in range(5):
            save(root / f"p{person:02}" / f"{person}-{number}.png", pattern(person, number))
    for number in (3, 4):  # one person under two names
        (root / "p00b").mkdir(exist_ok=True)
        (root / "p00" / f"0-{number}.png").rename(root / "p00b" / f"0-{number}.png")
    (root / "p01" / "1-0.png").rename(root / "p02" / "1-0.png")  # a wrong label
    shutil.copy(root / "p03" / "3-0.png", root / "p03" / "again.png")
    shutil.copy(root / "p04" / "4-0.png", root / "p05" / "4-0.png")  # and a wrong label too
    jpeg = encode(pattern(6, 1), ".jpg")
    (root / "p06" / "near.jpg").write_bytes(jpeg)
    (root / "p07" / "7-0.png").write_bytes(b"no image")
    save(root / "p08" / "8-0.png", pattern(8)[:20, :20])
    save(root / "p09" / "9-0.png", pattern(9)[:, 4:])
    save(root / "p10" / "10-0.png", np.full((64, 64, 3), 60, np.uint8))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("faulty") / "faces")


@pytest.fixture(scope="module")
def found(folder):
    return audit(folder_source(folder), recognizer=stand_ins.Recognizer(thresholds=THRESHOLDS))


def named(found, numbers) -> list[str]:
    return [found.inspection.ids[number] for number in numbers]


def test_images_that_are_not_as_they_should_be(found):
    assert named(found, found.inspection.reasons) == ["p07/7-0.png"]
    assert "p07/7-0.png" in next(iter(found.inspection.reasons.values()))
    assert named(found, found.tiny) == ["p08/8-0.png"]
    assert named(found, found.not_square) == ["p09/9-0.png"]
    assert named(found, np.flatnonzero(found.inspection.flat)) == ["p10/10-0.png"]
    assert found.counts.sum() == len(found.inspection.ids) == 63


def test_duplicates_within_and_across_identities(found):
    exact = [named(found, group) for group in found.duplicates.exact]
    assert exact == [["p03/3-0.png", "p03/again.png"], ["p04/4-0.png", "p05/4-0.png"]]
    near = found.duplicates.near
    pairs = {tuple(named(found, pair)) for pair in zip(near.first, near.second, strict=True)}
    assert ("p06/6-1.png", "p06/near.jpg") in pairs


def test_wrong_labels_and_people_under_two_names(found):
    judged = found.judgement
    assert named(found, np.flatnonzero(judged.suspects.suspect)) == ["p02/1-0.png", "p05/4-0.png"]
    nearest = judged.suspects.nearest[judged.suspects.suspect]
    assert [found.inspection.names[number] for number in nearest] == ["p01", "p04"]
    names = found.inspection.names
    same = [
        (names[a], names[b]) for a, b in zip(judged.same.first, judged.same.second, strict=True)
    ]
    assert same == [("p00", "p00b")]
    assert judged.own_threshold == pytest.approx(0.5)
    # 13 identities, 78 pairs, on the line through (log 1e-2, 0.4) and (log 1e-3, 0.5)
    assert judged.other_threshold == pytest.approx(0.2 + 0.1 * np.log10(13))
    assert judged.same_threshold == pytest.approx(0.2 + 0.1 * np.log10(78))


def test_a_copy_under_the_same_name_does_not_vouch_for_a_wrong_label(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "faces")
    for number in range(4):
        shutil.copy(tmp_path / "faces/p02/1-0.png", tmp_path / f"faces/p02/copy{number}.png")
    found = audit(
        folder_source(tmp_path / "faces"),
        recognizer=stand_ins.Recognizer(thresholds=THRESHOLDS),
    )
    suspects = named(found, np.flatnonzero(found.judgement.suspects.suspect))
    assert {f"p02/copy{number}.png" for number in range(4)} < set(suspects)
    assert "p02/2-0.png" not in suspects


def test_the_clean_list(found, folder, tmp_path):
    left = clean(found)
    dropped = {reason: named(found, images) for reason, images in left.dropped.items()}
    duplicates = dropped.pop("duplicate")
    assert dropped == {
        "unreadable": ["p07/7-0.png"],
        "flat": ["p10/10-0.png"],
        "wrong label": ["p02/1-0.png", "p05/4-0.png"],
    }
    assert len({"p03/3-0.png", "p03/again.png"} & set(duplicates)) == 1
    assert len({"p06/6-1.png", "p06/near.jpg"} & set(duplicates)) == 1
    assert "p04/4-0.png" not in duplicates  # its copy went for its label
    audit_report.write_list(tmp_path / "list.txt", found, left)
    lines = [line.split("\t") for line in (tmp_path / "list.txt").read_text().splitlines()]
    assert [image for image, _ in lines] == named(found, left.kept)
    assert all((folder / image).is_file() and image.split("/")[0] == who for image, who in lines)
    gone = sum(len(images) for images in left.dropped.values())
    assert len(lines) + gone == len(found.inspection.ids)


def test_a_list_names_images_from_its_own_folder(found, folder, tmp_path):
    left = clean(found)
    for path, root, first in (
        (folder.parent / "list.txt", folder, "faces/p00/0-0.png\tp00"),
        (folder / "list.txt", folder, "p00/0-0.png\tp00"),
        (tmp_path / "list.txt", folder, "p00/0-0.png\tp00"),
    ):
        audit_report.write_list(path, found, left, root=root)
        assert path.read_text().splitlines()[0] == first
        path.unlink()


def test_of_two_copies_that_which_is_most_like_its_identity_stays(folder):
    found = audit(
        folder_source(folder),
        recognizer=stand_ins.Recognizer(thresholds=THRESHOLDS),
        own_threshold=-1.0,  # nothing is suspect
    )
    duplicates = named(found, clean(found).dropped["duplicate"])
    assert "p05/4-0.png" in duplicates  # although p05 has more images
    assert "p04/4-0.png" not in duplicates


def test_a_recognizer_that_suspects_most_labels_drops_none(folder):
    found = audit(
        folder_source(folder),
        recognizer=stand_ins.Recognizer(thresholds=THRESHOLDS),
        own_threshold=0.99,
    )
    assert found.judgement.suspects.suspect.sum() > 40
    assert not found.judgement.trusted
    left = clean(found)
    assert len(left.dropped["wrong label"]) == 0
    assert audit_report.records(found, left)["labels"]["trusted"] is False


def test_without_a_recognizer_the_copy_in_the_larger_identity_stays(folder):
    found = audit(folder_source(folder))
    assert found.judgement is None
    duplicates = named(found, clean(found).dropped["duplicate"])
    assert "p04/4-0.png" in duplicates  # p05 has six images
    assert "p05/4-0.png" not in duplicates


def test_what_is_shared_with_a_test_set(folder, tmp_path):
    test = tmp_path / "test"
    save(test / "P03" / "a.png", pattern(3, 77))
    shutil.copy(folder / "p04" / "4-1.png", test / "P03" / "b.png")
    (test / "other").mkdir()
    (test / "other" / "c.jpg").write_bytes(encode(pattern(6, 2), ".jpg"))
    for number in range(4):
        save(test / "twelve" / f"{number}.png", pattern(12, number))
        save(test / "seven" / f"{number}.png", pattern(7, 10 + number))
    found = audit(
        folder_source(folder),
        against=folder_source(test),
        recognizer=stand_ins.Recognizer(thresholds=THRESHOLDS),
    )
    left = clean(found)
    shared = audit_report.records(found, left)["shared"]
    assert shared["names"] == [["p03", "P03"]]
    assert shared["exact_duplicates"] == [["p04/4-1.png", "P03/b.png"]]
    assert ["p06/6-2.png", "other/c.jpg"] in [pair["images"] for pair in shared["near_duplicates"]]
    pairs = [tuple(person["identities"]) for person in shared["people"]]
    assert ("p07", "seven") in pairs
    assert not any(name == "twelve" for _, name in pairs)


def test_gaps_between_labels(tmp_path, folder):
    source = folder_source(folder)

    class Gap:
        num_classes = source.num_classes + 1
        labels = np.where(source.labels == 4, source.num_classes, source.labels)
        identity_names = (*source.identity_names, "last")

        def __len__(self):
            return len(source)

        def __getitem__(self, index):
            return source[index]

    found = audit(Gap(), recognizer=stand_ins.Recognizer(thresholds=THRESHOLDS))
    assert audit_report.records(found, clean(found))["label_gaps"] == [source.identity_names[4]]


def test_thresholds_of_the_set_itself(folder):
    found = audit(folder_source(folder), recognizer=stand_ins.Recognizer())
    assert "of the set itself" in found.judgement.basis
    assert "p02/1-0.png" in named(found, np.flatnonzero(found.judgement.suspects.suspect))
    given = audit(
        folder_source(folder),
        recognizer=stand_ins.Recognizer(),
        own_threshold=-1.0,
        other_threshold=0.9,
        same_threshold=0.99,
    ).judgement
    assert (given.own_threshold, given.other_threshold, given.same_threshold) == (-1, 0.9, 0.99)
    assert not given.suspects.suspect.any()


def test_a_network_of_another_alignment_is_refused(folder):
    class Card(stand_ins.Card):
        template = DLIB * (64 / 150)

    with pytest.raises(UserError, match="aligned otherwise"):
        inspect(folder_source(folder), recognizer=stand_ins.Recognizer(card=Card()))


@pytest.fixture
def _networks(monkeypatch):
    stand_in = stand_ins.Recognizer(thresholds=THRESHOLDS)
    monkeypatch.setattr(recognition, "open", lambda name: stand_in)
    monkeypatch.setattr(compilation, "enable_cache", lambda directory: None)


@pytest.mark.usefixtures("_networks")
def test_the_command(folder, tmp_path, capsys):
    out, listed = tmp_path / "out", folder.parent / "list.txt"
    assert __main__.main(["audit", str(folder), f"--write-clean={tmp_path / 'list.txt'}"]) == 2
    assert "or in a folder above it" in capsys.readouterr().err
    arguments = ["audit", str(folder), "--recognizer=sface", f"--out={out}"]
    arguments += ["--against", str(folder), f"--write-clean={listed}"]
    assert __main__.main(arguments) == 0
    said = capsys.readouterr().out
    assert "likely wrong labels" in said
    assert f"written: {listed}" in said
    saved = json.loads((out / "audit.json").read_text())
    assert __main__.main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("written") == [str(out / "index.html"), str(listed)]
    assert printed == saved
    suspects = [(one["image"], one["suggested"]) for one in saved["labels"]["suspects"]]
    assert sorted(suspects) == [("p02/1-0.png", "p01"), ("p05/4-0.png", "p04")]
    assert saved["images_per_identity"]["identities_by_images"]["5"] == 6
    lines = [line.split("\t") for line in listed.read_text().splitlines()]
    assert len(lines) == saved["clean"]["kept"]
    left = open_source(f"list:{listed}")
    pairs = [(left[i]["id"], left.identity_names[left[i]["label"]]) for i in range(len(left))]
    assert sorted(map(tuple, lines)) == sorted(pairs)
    page = (out / "index.html").read_text()
    assert "p02/1-0.png" in page
    assert page.count("data:image/") > 20
    assert "http" not in page.replace("http-equiv", "")


def test_mistakes(tmp_path, capsys):
    save(tmp_path / "one" / "person" / "a.png", pattern(0))
    for arguments, words in (
        (["audit", str(tmp_path / "none")], "does not exist"),
        (["audit", str(tmp_path / "one")], "only one identity"),
        (["audit", ".", "--checkpoint=a", "--recognizer=b"], "not allowed with"),
        (["audit", ".", "--own-threshold=7"], "not a cosine"),
    ):
        assert __main__.main(arguments) == 2
        complaint = capsys.readouterr().err
        assert words in complaint
        assert len(complaint.splitlines()) == 1


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
@pytest.mark.slow
def test_the_page_in_a_browser(found, folder, tmp_path):
    audit_page.write_audit(tmp_path, found, clean(found), folder_source(folder))
    command = ["chromium", "--headless", "--no-sandbox", "--dump-dom"]
    done = subprocess.run([*command, str(tmp_path / "index.html")], capture_output=True, check=True)
    assert done.stdout.decode().count("<li") > 5
    assert b"p02/1-0.png" in done.stdout


@pytest.mark.slow
def test_real_faces(real_faces, tmp_path):
    """Of a part of LFW, with SFace: nine in ten duplicates and eight in ten swapped labels."""
    from benchmarks.audit import pictures
    from benchmarks.planted import plant
    from facejax.recognition import packages

    installed(packages.SFACE)
    part = tmp_path / "part"
    people = sorted((real_faces / "lfw_dev" / "train").iterdir())
    some = [person for person in people if 3 <= len(list(person.iterdir())) <= 12][:100]
    for person in some:
        shutil.copytree(person, part / person.name, copy_function=shutil.copyfile)
    planted = plant(part, tmp_path / "faulty", seed=0, copies=6, others=2)
    found = audit(folder_source(tmp_path / "faulty"), recognizer=recognition.open("sface"))
    exact, near = pictures(found)
    truth = {frozenset(pair) for pairs in planted.copies.values() for pair in pairs}
    assert len(truth & (exact | near)) >= 0.9 * len(truth)
    assert len(truth & (exact | near)) >= 0.9 * len(exact | near)
    wrong = {image for image in planted.person
             if image.split("/")[0].split("~")[0] != planted.person[image]}  # fmt: skip
    suspects = set(named(found, np.flatnonzero(found.judgement.suspects.suspect)))
    assert len(suspects & wrong) >= 0.8 * len(wrong)
    assert len(suspects & wrong) >= 0.8 * len(suspects)
    names = found.inspection.names
    same = {(names[a], names[b]) for a, b in
            zip(found.judgement.same.first, found.judgement.same.second, strict=True)}  # fmt: skip
    assert set(planted.splits) <= same
    assert cv2.imread(str(tmp_path / "faulty" / planted.flat[0])).std() < 1
