"""Calibration against brute force, its bound against the truth, and where thresholds are kept."""

import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest
from scipy import stats

from facejax import recognition
from facejax.errors import UserError
from facejax.evaluation import Calibration, calibrate, calibrate_folder, calibrate_scores, impostors
from facejax.evaluation.bounds import upper_bound
from facejax.recognition import known, recognizer, stored_thresholds
from facejax.recognition.detection import Detection
from facejax.recognition.gallery import Gallery
from facejax.recognition.thresholds import Threshold
from tests.faces import photo

CARD = recognition.Card(
    name="toy",
    image_size=8,
    template=np.array([[2, 3], [5, 3], [3.5, 4], [2, 6], [5, 6]]),
    color="rgb",
    mean=127.5,
    scale=1 / 128,
    flip=False,
    unit=True,
    embedding_size=8,
    sha256="7" * 64,
)
WEIGHTS = np.random.default_rng(3).normal(size=(8 * 8 * 3, 8)).astype(np.float32)
THRESHOLDS = (
    Threshold(1e-2, 0.25, 1.2e-2, 1000, "toys"),
    Threshold(1e-3, 0.5, 2e-3, 1000, "toys"),
)


def linear(variables, images, *, train):
    return images.reshape(len(images), -1) @ variables["weights"], {}


def toy(directory="toy", facts=None, **changes) -> recognition.Recognizer:
    card = dataclasses.replace(CARD, **changes)
    return recognizer.of_network(
        card, linear, {"weights": WEIGHTS}, directory=pathlib.Path(directory), facts=facts
    )


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("FACEJAX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def people(random, count, *, size=16, most=4, clusters=None):
    """Embeddings and labels in random order; people of a cluster look alike."""
    sizes = random.integers(1, most + 1, count)
    labels = np.repeat(np.arange(count), sizes)
    centers = random.normal(size=(count, size))
    if clusters is not None:
        centers += 1.2 * clusters[random.integers(0, len(clusters), count)]
    rows = centers[labels] + 0.4 * random.normal(size=(len(labels), size))
    order = random.permutation(len(labels))
    return rows[order].astype(np.float32), labels[order]


def negatives(rows, labels):
    """Cosines [P] of all pairs of different people, in float64, and whose they are [P, 2]."""
    units = rows.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    first, second = np.triu_indices(len(rows), 1)
    other = labels[first] != labels[second]
    first, second = first[other], second[other]
    return np.sum(units[first] * units[second], axis=1), np.stack(
        [labels[first], labels[second]], 1
    )


# --- The thresholds -------------------------------------------------------------------------------


def test_they_are_the_order_statistics_of_all_pairs():
    rows, labels = people(np.random.default_rng(0), 480)
    assert len(rows) > impostors.BLOCK
    names = np.array([f"name {label % 77} {label}" for label in labels])
    found = calibrate(4 * rows, names, fars=(1e-5, 1e-1, 1e-2, 1e-3, 1e-2), data="toys")
    cosines = np.sort(negatives(rows, labels)[0])[::-1]
    assert 10**5 < len(cosines) < 10**6
    assert [one.far for one in found] == [1e-1, 1e-2, 1e-3]  # 1e-5 would rest on seven pairs
    for one in found:
        allowed = int(one.far * len(cosines))
        assert (one.negatives, one.data) == (len(cosines), "toys")
        assert one.cosine == np.nextafter(np.float32(cosines[allowed]), np.float32(1))
        assert (cosines >= one.cosine).sum() == allowed
        assert one.far < one.upper_bound < 2.5 * one.far


@pytest.mark.parametrize("block_size", [7, 64, 1000])
def test_whatever_the_blocks(block_size):
    rows, labels = people(np.random.default_rng(1), 40)
    rows[3] = 0
    rows[5] = rows[6] = rows[7]  # ties
    assert impostors.count(labels) == np.triu(labels[:, None] != labels).sum()
    tiles = list(impostors.blocks(rows, labels, block_size=block_size))
    assert max(tile.size for tile, _, _ in tiles) <= block_size**2
    every = np.sort(np.concatenate([tile[tile > -2] for tile, _, _ in tiles]))[::-1]
    assert len(every) == impostors.count(labels)
    ranks = [1, 2, 3, 10, len(every) // 2, len(every)]
    got = impostors.largest(rows, labels, ranks, block_size=block_size)
    assert got == [every[rank - 1] for rank in ranks]
    limits = [0.5, -0.1]
    counts = impostors.accepted(rows, labels, limits, block_size=block_size)
    units = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    for limit, row in zip(limits, counts, strict=True):
        for person in np.unique(labels):
            mine, others = units[labels == person], units[labels != person]
            assert row[person] == (mine @ others.T >= limit).sum()


def test_scores_of_pairs_give_the_same_as_the_embeddings():
    rows, labels = people(np.random.default_rng(2), 60)
    cosines, ends = negatives(rows, labels)
    scores = np.concatenate([cosines, np.ones(9)])
    same = np.arange(len(scores)) >= len(cosines)
    whose = np.concatenate([ends, np.zeros((9, 2), int)])
    of_embeddings = calibrate(rows, labels, fars=(0.1, 0.01))
    of_scores = calibrate_scores(scores, same, fars=(0.1, 0.01), identities=whose)
    for one, other in zip(of_embeddings, of_scores, strict=True):
        assert one.cosine == pytest.approx(other.cosine, abs=2e-7)
        assert one.upper_bound == pytest.approx(other.upper_bound, rel=1e-6)
        assert (one.far, one.negatives) == (other.far, other.negatives)
    # As if independent: Clopper and Pearson's, of SciPy.
    for one in calibrate_scores(scores, same, fars=(0.1, 0.01)):
        test = stats.binomtest(int(one.far * len(cosines)), len(cosines), alternative="less")
        exact = test.proportion_ci(0.95, method="exact").high
        assert one.upper_bound == pytest.approx(exact, rel=1e-9)


def test_a_far_that_the_pairs_do_not_support_has_no_threshold():
    scores = np.random.default_rng(0).normal(size=1000)
    different = np.zeros(1000, bool)
    assert [one.far for one in calibrate_scores(scores, different)] == [1e-2]
    assert calibrate_scores(scores[:999], different[:999]) == ()
    assert calibrate(np.eye(3), np.arange(3)) == ()
    (alike,) = calibrate(np.ones((50, 4)), np.arange(50), fars=(1e-2,))
    assert alike.cosine > 1  # nobody can be told from anybody: nobody is accepted
    assert 0.1 < alike.upper_bound < 0.12  # none of the 25 pairs that share nobody


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.full((3, 2), np.nan), np.arange(3)), "3 of 3 embeddings are not finite"),
        ((np.eye(3), np.zeros(3)), "all faces are of one"),
        ((np.eye(3), np.zeros(2)), "are wanted"),
        ((np.eye(3)[0], np.zeros(3)), "are wanted"),
    ],
)
def test_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        calibrate(*arguments)


def test_refuses_scores_and_rates():
    scores, different = np.arange(30.0), np.zeros(30, bool)
    with pytest.raises(UserError, match="1 of 30 scores are not finite"):
        calibrate_scores(np.where(scores == 3, np.inf, scores), different)
    with pytest.raises(UserError, match="there are none"):
        calibrate_scores(scores, ~different)
    with pytest.raises(ValueError, match=r"scores \[N\] floats"):
        calibrate_scores(scores, different[:3])
    with pytest.raises(ValueError, match="two of each pair"):
        calibrate_scores(scores, different, identities=np.zeros((3, 2)))
    for far in (0, 1, -1e-3):
        with pytest.raises(ValueError, match="must be in"):
            calibrate_scores(scores, different, fars=(far,))


# --- The bound ------------------------------------------------------------------------------------


def test_the_bound_holds_where_people_resemble_each_other():
    """The truth is the FAR among many other people; of 80 people, 92 bounds of 100 lie above it.

    Those that take the pairs as independent: 55.
    """
    random = np.random.default_rng(0)
    clusters = random.normal(size=(8, 16))
    truth = np.sort(negatives(*people(random, 1200, most=2, clusters=clusters))[0])
    covered, independent, widths = [], [], []
    for _ in range(100):
        rows, labels = people(random, 80, clusters=clusters)
        (one,) = calibrate(rows, labels, fars=(1e-2,))
        true = 1 - np.searchsorted(truth, one.cosine) / len(truth)
        count = int(1e-2 * one.negatives)
        covered.append(one.upper_bound >= true)
        independent.append(stats.beta.ppf(0.95, count + 1, one.negatives - count) >= true)
        widths.append(one.upper_bound)
    print(np.mean(covered), np.mean(independent), np.median(widths))
    assert np.mean(covered) >= 0.9
    assert np.mean(independent) < 0.8
    assert np.median(widths) < 0.025


def test_the_bound_of_people_who_are_in_one_pair_each_is_clopper_and_pearsons():
    accepted = np.repeat([1, 0], [2 * 12, 2 * 988])
    got = upper_bound(accepted, np.ones(2000))
    assert got == pytest.approx(stats.beta.ppf(0.95, 13, 988), rel=1e-9)
    assert upper_bound(np.ones(4), np.ones(4)) == 1


def test_the_bound_is_that_of_resampling_people():
    """Where accepts are many, the spread is the one that a bootstrap over people finds."""
    random = np.random.default_rng(1)
    rows, labels = people(random, 150, most=1, clusters=random.normal(size=(8, 16)))
    cosines, ends = negatives(rows, labels)
    (one,) = calibrate(rows, labels, fars=(0.05,))
    above = cosines >= one.cosine
    drawn = []
    for _ in range(1000):
        times = np.bincount(random.integers(0, len(rows), len(rows)), minlength=len(rows))
        weight = times[ends[:, 0]] * times[ends[:, 1]]
        drawn.append((weight * above).sum() / weight.sum())
    assert one.upper_bound - 0.05 == pytest.approx(1.645 * np.std(drawn), rel=0.25)


# --- Files ----------------------------------------------------------------------------------------


def test_a_calibration_of_ones_own_is_found_again_and_wins(home, tmp_path):
    one = toy()
    assert one.thresholds == ()
    assert one.thresholds_path == home / "thresholds" / f"{'7' * 64}.json"
    stored_thresholds.write_thresholds(one.thresholds_path, THRESHOLDS, card=one.card)
    assert one.thresholds == THRESHOLDS
    assert toy(name="other", unit=False).thresholds == THRESHOLDS
    assert toy(flip=True).thresholds == ()  # its cosines are others
    assert toy(color="bgr").thresholds == ()
    run = toy(tmp_path / "run" / "checkpoints", {"architecture": {}}, sha256="8" * 64)
    assert run.thresholds_path == tmp_path / "run" / "thresholds.json"
    stored_thresholds.write_thresholds(run.thresholds_path, THRESHOLDS[:1], card=run.card)
    assert run.thresholds == THRESHOLDS[:1]


def test_shipped_thresholds_give_way_to_ones_own():
    for card in (known.SFACE_CARD, known.DLIB_CARD):
        shipped = stored_thresholds.stored_thresholds(card)
        assert [one.far for one in shipped] == [1e-2, 1e-3, 1e-4, 1e-5]
        assert sorted(one.cosine for one in shipped) == [one.cosine for one in shipped]
        for one in shipped:
            assert one.far < one.upper_bound < 5 * one.far
            assert one.far * one.negatives >= 100
            assert "LFW" in one.data
            assert "test split" in one.data
        assert stored_thresholds.stored_thresholds(dataclasses.replace(card, flip=True)) == ()
        path = stored_thresholds.thresholds_path(card)
        stored_thresholds.write_thresholds(path, THRESHOLDS, card=card)
        assert stored_thresholds.stored_thresholds(card) == THRESHOLDS


def test_a_damaged_file_and_one_of_other_weights_are_refused():
    one = toy()
    stored_thresholds.write_thresholds(one.thresholds_path, THRESHOLDS, card=one.card)
    whole = one.thresholds_path.read_text()
    fields = json.loads(whole)
    wrong = json.dumps(fields | {"thresholds": [{"far": 2, "cosine": 0.3}]})
    none = json.dumps(fields | {"thresholds": [{"far": 1e-3, "cosine": None}]})
    for text in (
        "",
        whole[:-20],
        "[]",
        '{"card": {}}',
        wrong,
        none,
        "\0",
        whole.replace("far", ""),
    ):
        one.thresholds_path.write_text(text)
        with pytest.raises(UserError, match="is damaged or no file of thresholds") as caught:
            _ = one.thresholds
        assert "\n" not in str(caught.value)
    one.thresholds_path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is damaged"):
        _ = one.thresholds
    one.thresholds_path.write_text(whole.replace("7" * 64, "6" * 64))
    with pytest.raises(UserError, match=r"of other weights \(sha256 666666666666\.\.\.\) than"):
        _ = one.thresholds


def test_thresholds_that_can_not_be_kept(home):
    home.write_text("a file")
    with pytest.raises(UserError, match=r"can't write .*make room there"):
        stored_thresholds.write_thresholds(toy().thresholds_path, THRESHOLDS, card=CARD)


# --- Folders --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """40 people with two crops each, and what can't be used."""
    random = np.random.default_rng(4)
    for person in range(40):
        place = tmp_path / "faces" / f"person {person:02d}"
        place.mkdir(parents=True)
        face = random.integers(0, 256, (8, 8, 3))
        for number in range(2):
            noisy = np.clip(face + random.integers(-20, 21, face.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(place / f"{number}.png"), noisy[..., ::-1])
    where = tmp_path / "faces"
    (where / "person 03" / "empty.png").write_bytes(b"")
    cv2.imwrite(str(where / "person 04" / "large.png"), np.zeros((20, 30, 3), np.uint8))
    (where / "notes.txt").write_text("no person")
    return where


def crops_of(folder):
    paths = sorted(folder.glob("*/[01].png"))
    crops = np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])
    return crops, [path.parent.name for path in paths]


def test_a_folder_of_crops_calibrates_and_is_kept(folder):
    one = toy()
    found = calibrate_folder(folder, one, fars=(1e-2, 1e-3), batch_size=16)
    crops, names = crops_of(folder)
    data = "80 faces of 40 people in faces"
    expected = calibrate(one.embed(crops, batch_size=16), names, fars=(1e-2, 1e-3), data=data)
    assert isinstance(found, Calibration)
    assert (tuple(found), len(found), found[0]) == (expected, 1, expected[0])
    assert found.refused == (
        "3120 pairs of different people are too few for FAR 1e-3, which takes 10000",
    )
    assert (found.faces, found.people, found.path) == (80, 40, one.thresholds_path)
    reasons = dict(found.skipped)
    assert "1 file beside the identity folders (notes.txt)" in reasons[str(folder)]
    assert "is empty" in reasons[str(folder / "person 03" / "empty.png")]
    large = str(folder / "person 04" / "large.png")
    assert reasons[large] == "it has 30x20 pixels, not 8x8"
    assert toy().thresholds == expected
    before = one.thresholds_path.read_bytes()
    assert calibrate_folder(folder, one, fars=(1e-1,), aligned=True, keep=False).path is None
    assert one.thresholds_path.read_bytes() == before


def test_a_folder_of_photos_is_searched_for_faces(folder):
    one = toy()

    def detector(pixels):
        """One face where the photo is a crop, two in a larger one."""
        count = 1 if pixels.shape == CARD.shape else 2
        landmarks = np.repeat(CARD.template[None], count, axis=0)
        boxes = np.tile(np.array([0, 0, 8, 8], np.float32), (count, 1))
        return Detection(boxes, landmarks, np.ones(count, np.float32))

    found = calibrate_folder(folder, one, fars=(1e-1,), aligned=False, detector=detector)
    expected = calibrate(one.embed(crops_of(folder)[0]), crops_of(folder)[1], fars=(1e-1,))
    assert found[0].cosine == pytest.approx(expected[0].cosine, abs=1e-3)
    assert found.faces == 80
    reasons = dict(found.skipped)
    assert reasons[str(folder / "person 04" / "large.png")] == "there are 2 faces in it, not one"


def test_folders_that_can_not_calibrate(folder, tmp_path):
    with pytest.raises(UserError, match="3120 pairs of different people are too few for FAR 1e-3"):
        calibrate_folder(folder, toy(), fars=(1e-3, 1e-4))
    assert not toy().thresholds_path.exists()
    with pytest.raises(UserError, match=r"no image in .* can be used .*empty"):
        calibrate_folder(_two_people(tmp_path / "bad", b""), toy())
    with pytest.raises(UserError, match="does not exist"):
        calibrate_folder(tmp_path / "missing", toy())


def _two_people(folder, content):
    for name in ("Ann", "Bob"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(content)
    return folder


# --- The gallery ----------------------------------------------------------------------------------


def test_a_gallery_takes_the_thresholds_over(tmp_path):
    one = toy(embedding_size=64)
    stored_thresholds.write_thresholds(one.thresholds_path, THRESHOLDS, card=one.card)
    with Gallery(tmp_path / "people", recognizer=one) as gallery:
        assert gallery.thresholds == THRESHOLDS
        gallery.enroll("Ann", photo(0, 0))
        gallery.enroll("Bob", photo(1, 0))
        matches = gallery.identify(np.stack([photo(0, 1), photo(5, 0)]))  # no threshold is given
        assert [match.name for match in matches] == ["Ann", None]
        assert matches[0].threshold == 0.5
        assert gallery.identify(photo(0, 1), fpir=0.02)[0].threshold == 0.25  # of two people
        with pytest.raises(UserError, match=r"down to FAR 0\.001, not to 0\.0005"):
            gallery.identify(photo(0, 1), fpir=0.001)
    one.thresholds_path.unlink()
    with Gallery(tmp_path / "people", recognizer=one) as gallery:
        assert gallery.thresholds == THRESHOLDS  # its own copy


def test_a_gallery_with_sface_needs_no_threshold(tmp_path):
    class SFace:
        card = known.SFACE_CARD
        thresholds = stored_thresholds.stored_thresholds(known.SFACE_CARD)

    with Gallery(tmp_path / "people", recognizer=SFace()) as gallery:
        gallery.enroll("Ann", photo(0, 0, size=128))
        (match,) = gallery.identify(photo(0, 1, size=128))
        assert (match.name, match.threshold) == ("Ann", SFace.thresholds[1].cosine)
        assert 0.3 < match.threshold < 0.45
        with pytest.raises(UserError, match="not to 1e-06"):
            gallery.identify(photo(0, 1, size=128), far=1e-6)
