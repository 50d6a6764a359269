"""Benchmarks by their paths, and what is measured on them: against loops and files by hand."""

import csv
import dataclasses
import importlib
import itertools
import pathlib
import sys

import cv2
import numpy as np
import pytest

from facejax import evaluation
from facejax.errors import UserError
from facejax.evaluation import (
    benchmarks,
    crops,
    embedding,
    embeddings_file,
    ijb,
    measured,
    printed_tables,
    scores_file,
    target_far,
)
from facejax.evaluation.benchmarks import Benchmark, open_benchmark
from facejax.evaluation.bin_file import write_bin
from facejax.evaluation.embedding import Embedded
from facejax.evaluation.template_files import Members
from facejax.recognition import Card, templates
from tests.pictures import encode, smooth
from tests.test_tinyface import folder as tinyface_folder  # noqa: F401  # a fixture

PEOPLE = 8


@pytest.fixture
def faces(tmp_path):
    """Eight people of three images, much alike, and a pair file."""
    random = np.random.default_rng(0)
    for person in range(PEOPLE):
        folder = tmp_path / "faces" / f"P{person}"
        folder.mkdir(parents=True)
        base = random.integers(60, 190, (4, 4, 3))
        for number in range(1, 4):
            image = np.clip(base + random.integers(-110, 110, base.shape), 0, 255).astype(np.uint8)
            image = cv2.resize(image, (20, 20), interpolation=cv2.INTER_NEAREST)
            (folder / f"P{person}_{number:04d}.png").write_bytes(encode(image, ".png"))
    lines = [f"P{p} {a} {b}" for p in range(PEOPLE) for a, b in ((1, 2), (1, 3), (2, 3))]
    lines += [f"P{p} {n} P{(p + 3) % PEOPLE} {n}" for p in range(PEOPLE) for n in (1, 2, 3)]
    (tmp_path / "pairs.txt").write_text("\n".join(["24", *lines]) + "\n")
    return tmp_path


def embeddings_of(benchmark, side=4):
    """Colors of the cells, about grey."""
    rows = []
    for part in benchmark.protocol.images:
        for image in part if part.ndim == 4 else [part]:
            small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            rows.append(small.astype(np.float32).ravel() - 125)
    return np.stack(rows)


def opened(faces, given, **more):
    return open_benchmark(given, name="set", image_size=20, **more)


def test_a_bin_file_of_a_pair_files_images_has_its_numbers(faces):
    pairs = opened(faces, f"{faces / 'pairs.txt'}@{faces / 'faces'}")
    assert pairs.kind == "pairs"
    listed = pairs.protocol.images.files
    images = [listed[i].read_bytes() for i in pairs.protocol.indices.ravel()]
    write_bin(faces / "set.bin", images, pairs.protocol.same.tolist())
    of_bin = opened(faces, faces / "set.bin")
    assert of_bin.kind == "bin"
    assert of_bin.names == tuple(map(str, range(96)))
    first, second = (
        benchmarks.measure(embeddings_of(one), one, fars=(0.5, 0.1), resamples=20)
        for one in (pairs, of_bin)
    )
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.accuracy.accuracy == second.accuracy.accuracy < 1
    np.testing.assert_array_equal(first.accuracy.thresholds, second.accuracy.thresholds)
    assert (first.auc, first.equal_error_rate) == (second.auc, second.equal_error_rate)
    assert [tar.tar for tar in first.tars] == [tar.tar for tar in second.tars]


def test_a_bin_file_of_one_kind_is_refused(faces):
    write_bin(faces / "set.bin", [encode(smooth(8, 8), ".png")] * 6, [True] * 3)
    with pytest.raises(UserError, match="3 same and 0 different pairs"):
        opened(faces, faces / "set.bin")


def test_images_are_called_by_their_paths(faces, tinyface_folder):  # noqa: F811
    named = opened(faces, faces / "pairs.txt", images=faces / "faces")
    assert named.names[:2] == ("P0/P0_0001.png", "P0/P0_0002.png")
    folder = opened(faces, faces / "faces")
    assert (folder.kind, set(folder.names)) == ("folder", set(named.names))
    searched = opened(faces, tinyface_folder)
    assert searched.names[0] == "Probe/12_1.jpg"
    assert searched.names[-1] == "Gallery_Distractor/x_1.jpg"


def test_a_small_folder_gives_as_many_pairs_as_it_has(faces):
    """Of eight people in four folds, two each: six same pairs in a fold, and nine different."""
    protocol = opened(faces, faces / "faces", pairs=6000).protocol
    assert np.bincount(protocol.folds).tolist() == [12] * 4
    assert protocol.same.sum() == 24
    people = protocol.identities[protocol.indices]
    np.testing.assert_array_equal(people[:, 0] == people[:, 1], protocol.same)
    assert len(opened(faces, faces / "faces", pairs=16).protocol.same) == 16


@pytest.mark.parametrize(
    ("given", "name", "path"),
    [
        ("lfw=x/y.bin", "lfw", "x/y.bin"),
        ("x/y.bin", "y", "x/y.bin"),
        ("folder:x/faces", "faces", "folder:x/faces"),
        ("pairs.txt@x/images", "pairs", "pairs.txt@x/images"),
    ],
)
def test_a_benchmark_has_a_name(given, name, path):
    assert benchmarks.split_name(given) == (name, path)


@pytest.mark.parametrize("given", ["=x", "lfw="])
def test_a_benchmark_without_one_is_refused(given):
    with pytest.raises(UserError, match="is not NAME=PATH"):
        benchmarks.split_name(given)


# Crops for a recognizer.


def card(size, template, **more):
    return Card("x", size, template, "rgb", 0.0, 1.0, False, True, 4, "a" * 64, **more)


def test_dlib_gets_its_chip():
    images = np.stack([smooth(112, 112, seed) for seed in (1, 2)])
    found = np.concatenate(list(crops.fitted(images, card(150, templates.DLIB))))
    expected = [
        cv2.warpAffine(
            image, templates.ARCFACE_TO_DLIB, (150, 150), borderMode=cv2.BORDER_REPLICATE
        )
        for image in images
    ]
    assert found.shape == (2, 150, 150, 3)
    assert np.abs(found.astype(int) - expected).max() <= 2  # the matrix has four decimals there


def test_crops_that_fit_are_left_alone_and_narrow_ones_are_cut():
    images = np.stack([smooth(112, 112, seed) for seed in (1, 2)])
    assert crops.fitted(images, card(112, templates.ARCFACE)) is images
    narrow = np.concatenate(
        list(crops.fitted(images, card((112, 96), templates.arcface((112, 96)))))
    )
    np.testing.assert_array_equal(narrow, images[:, :, 8:104])
    half = crops.fitted(images, card(56, templates.arcface(56)))
    expected = [cv2.resize(image, (56, 56), interpolation=cv2.INTER_AREA) for image in images]
    np.testing.assert_array_equal(np.concatenate(list(half)), expected)
    as_they_are = crops.fitted(images, card(112, templates.ARCFACE + 9), as_they_are=True)
    assert as_they_are is images


# Embeddings.


@dataclasses.dataclass(frozen=True)
class Linear:
    """A network that can be followed by hand: two numbers, the columns' means weighted."""

    flip: bool = False

    def embed(self, images, *, batch_size, flip, unit):
        assert not unit
        sizes, rows = [], []
        for part in images:
            sizes.append(len(part))
            rows += [self.one(image, flip) for image in part]
        assert max(sizes) <= batch_size
        return np.array(rows, np.float32)

    def one(self, image, flip=False):
        columns = image.astype(np.float64).mean(axis=(0, 2))
        row = np.array([columns @ np.arange(len(columns)), columns.sum()])
        return (row + self.one(image[:, ::-1])) / 2 if flip else row


@pytest.mark.parametrize("flip", embedding.FLIPS)
@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_flip_tests_are_those_of_a_loop(flip, sums, batch_size):
    images = np.stack([smooth(6, 6, seed) for seed in range(5)])
    model = Linear()
    found = embedding.embed_images(
        model, images, count=5, flip=flip, sums=sums, batch_size=batch_size
    )
    expected = []
    for image in images:
        own, mirrored = model.one(image), model.one(image[:, ::-1])
        expected.append(
            {"sum": (own + mirrored) / 2, "off": own, "concat": [*own, *mirrored]}[flip]
        )
    np.testing.assert_allclose(found.embeddings, expected, rtol=1e-6)
    assert found.embeddings.dtype == np.float32
    np.testing.assert_allclose(found.quality, np.linalg.norm(expected, axis=1), rtol=1e-6)
    if sums:
        both = [model.one(image) + model.one(image[:, ::-1]) for image in images]
        np.testing.assert_allclose(found.sums, both, rtol=1e-6)
        assert found.sums.dtype == np.float64
    else:
        assert found.sums is None
    with pytest.raises(ValueError, match="flip is 'both'"):
        embedding.embed_images(model, images, count=5, flip="both")


NAMES = ("Ann/Ann_0001.jpg", "Bob/Zo\u00e9.png", "1")
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.mark.parametrize("suffix", embeddings_file.SUFFIXES)
def test_embeddings_come_back_by_their_names(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    sums = np.array([[1 / 3, 1], [2, 3], [4, 5]])
    embeddings_file.write_embeddings(path, ROWS, names=NAMES, quality=sums[:, 0], sums=sums)
    asked = Benchmark("set", None, names=("Bob/Zoe\u0301.png", "1.bmp", "Ann/Ann_0001"))
    found = embedding.of_file(path, asked)
    np.testing.assert_array_equal(found.embeddings, ROWS[[1, 2, 0]])
    np.testing.assert_array_equal(found.quality, sums[[1, 2, 0], 0])
    np.testing.assert_array_equal(found.sums, sums[[1, 2, 0]])
    with pytest.raises(UserError, match="no embedding of 1 of the 2 images of set, such as 'Cy'"):
        embedding.of_file(path, asked._replace(names=("1", "Cy")))
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(UserError, match="it is damaged or no"):
        embedding.of_file(path, asked)


def test_names_that_differ_by_their_suffix_are_two():
    stored = embeddings_file.Stored(pathlib.Path("a"), ROWS, ("a.jpg", "a.png", "b.jpg"), None)
    rows = embeddings_file.rows_of(stored, ["a.png", "b", "a.jpg"], benchmark="set")
    assert rows.tolist() == [1, 2, 0]
    with pytest.raises(UserError, match="no embedding of 1"):
        embeddings_file.rows_of(stored, ["a"], benchmark="set")


def test_embeddings_without_names_go_by_their_order(tmp_path):
    np.savez(tmp_path / "set.npz", embeddings=ROWS, quality=np.zeros((3, 4)))
    asked = Benchmark("set", None, names=("x", "y", "z"))
    found = embedding.of_file(tmp_path, asked)  # the folder that has the benchmark's file
    np.testing.assert_array_equal(found.embeddings, ROWS)
    np.testing.assert_allclose(found.quality, np.linalg.norm(ROWS, axis=1))
    units = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    np.savez(tmp_path / "units.npz", embeddings=units)
    assert embedding.of_file(tmp_path / "units.npz", asked).quality is None
    with pytest.raises(UserError, match="3 embeddings and no names, and set has 2 images"):
        embedding.of_file(tmp_path / "set.npz", asked._replace(names=("x", "y")))
    with pytest.raises(UserError, match=r"embeddings of other are not in .*: add other.npz"):
        embedding.of_file(tmp_path, asked._replace(name="other"))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"rows": ROWS}, "must have `embeddings`, floats"),
        ({"embeddings": ROWS[0]}, r"has float32 \[2\]"),
        ({"embeddings": ROWS, "names": np.array(["a"])}, "3 embeddings and 1 names"),
        ({"embeddings": ROWS, "names": np.array(["a", "b", "a"])}, "has 'a' twice"),
        ({"embeddings": ROWS, "names": np.zeros(3)}, "no texts"),
        ({"embeddings": ROWS, "names": np.array([{}] * 3, object)}, "damaged"),
        ({"embeddings": ROWS, "sums": ROWS[0]}, "no floats"),
    ],
)
def test_other_files_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=said):
        embedding.of_file(tmp_path / "a.npz", Benchmark("set", None, names=("a", "b", "c")))


def test_a_file_of_another_name_or_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="another suffix"):
        embeddings_file.read_embeddings(tmp_path / "a.txt")
    for suffix in embeddings_file.SUFFIXES:
        with pytest.raises(UserError, match="can't be read"):
            embeddings_file.read_embeddings(tmp_path / f"a{suffix}")


# Scores.


@pytest.fixture
def scored(faces):
    benchmark = opened(faces, f"{faces / 'pairs.txt'}@{faces / 'faces'}")
    rows = embeddings_of(benchmark)
    return benchmark, rows, benchmarks.measure(rows, benchmark, fars=(0.5,), resamples=20)


def test_every_score_stands_in_the_file(scored, tmp_path, monkeypatch):
    benchmark, rows, result = scored
    monkeypatch.setattr(scores_file, "_ROWS", 7)  # several blocks
    blocks = list(scores_file.pair_blocks(benchmark, "m", result))
    assert len(blocks) == 7
    for name in ("s.csv", "s.parquet"):
        assert scores_file.write_scores(tmp_path / name, blocks) == 48
    with (tmp_path / "s.csv").open() as file:
        lines = list(csv.DictReader(file))
    parquet = importlib.import_module("pyarrow.parquet").read_table(tmp_path / "s.parquet")
    place = {name: number for number, name in enumerate(benchmark.names)}
    for line, row, same, fold in zip(
        lines,
        parquet.to_pylist(),
        benchmark.protocol.same.tolist(),
        benchmark.protocol.folds.tolist(),
        strict=True,
    ):
        a, b = (rows[place[line[side]]].astype(np.float64) for side in ("first", "second"))
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert abs(float(line["score"]) - cosine) < 1e-12
        assert (line["same"], line["fold"]) == (str(int(same)), str(fold))
        numbers = {"same": same, "fold": fold, "score": float(line["score"])}
        assert row == {**line, **numbers, "benchmark": "set", "model": "m"}


def test_templates_are_called_by_their_ids():
    ids, pairs = np.array([7, 9, 30]), np.array([[0, 1], [2, 0]], np.int32)
    members = Members(np.arange(3), np.arange(3), np.arange(3), ids)
    same = np.array([True, False])
    protocol = ijb.TemplateProtocol("x", None, None, members, pairs, same, (), None)
    result = ijb.TemplateResults(np.array([0.5, 0.25], np.float32), same, None, (), None)
    (block,) = scores_file.pair_blocks(Benchmark("x", protocol), "m", result)
    assert (block["first"], block["second"]) == (["7", "30"], ["9", "7"])
    assert (block["same"], block["fold"]) == ([True, False], [None, None])
    assert block["score"] == [0.5, 0.25]


def test_a_scores_file_is_refused_beforehand(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"give FILE.csv or FILE.parquet"):
        scores_file.refuse_scores_file(tmp_path / "a.txt")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r'pip install "facejax\[parquet\]"'):
        scores_file.refuse_scores_file(tmp_path / "a.parquet")
    scores_file.refuse_scores_file(tmp_path / "a.csv")


def test_an_interrupted_scores_file_is_not_there(scored, tmp_path):
    def blocks():
        yield from scores_file.pair_blocks(scored[0], "m", scored[2])
        raise KeyboardInterrupt

    for name in ("s.csv", "s.parquet"):
        with pytest.raises(KeyboardInterrupt):
            scores_file.write_scores(tmp_path / "out" / name, blocks())
    assert list((tmp_path / "out").iterdir()) == []


# What is measured.


def test_thresholds_are_those_of_all_pairs_of_two_people(faces):
    benchmark = opened(faces, faces / "faces")
    rows, people = embeddings_of(benchmark), benchmark.protocol.identities
    found = measured.find(Embedded(rows, None), benchmark, fars=(0.1,), target_fars=(0.05, 0.2))
    units = rows.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    cosines = [
        units[a] @ units[b]
        for a, b in itertools.combinations(range(24), 2)
        if people[a] != people[b]
    ]
    assert [one.far for one in found.thresholds] == [0.2, 0.05]
    for one in found.thresholds:
        accepts = sum(np.float32(cosine) >= np.float32(one.cosine) for cosine in cosines)
        assert accepts == int(one.far * len(cosines))
        assert (one.negatives, one.data) == (252, "set")
        assert one.upper_bound > one.far
    printed = printed_tables.thresholds_table({"m": found.thresholds})
    first = found.thresholds[0].cosine
    a, b = np.array([1, 0]), np.array([first, np.sqrt(1 - first**2)])  # two vectors with it
    assert abs(target_far.squared_distance(first) - ((a - b) ** 2).sum()) < 1e-12
    assert abs(target_far.angle(first) - np.degrees(np.arctan2(b[1], b[0]))) < 1e-9
    assert f"{target_far.angle(first):.2f}" in printed
    with pytest.raises(UserError, match="252 pairs of different people are too few for FAR 1e-2"):
        target_far.refuse_too_few(benchmark, [0.2, 0.01])


def test_thresholds_of_a_list_are_those_of_its_pairs(scored):
    benchmark, rows, result = scored
    (one,) = target_far.calibrated(rows, benchmark, result, fars=[0.5])
    assert (result.scores[~result.same] >= one.cosine).sum() == 12
    assert one.negatives == 24
    with pytest.raises(UserError, match="24 pairs of different people are too few for FAR 1e-1"):
        target_far.refuse_too_few(benchmark, [0.1])
    with pytest.raises(UserError, match="no pairs of images to calibrate on"):
        target_far.refuse_too_few(Benchmark("x", None), [0.5])


def test_qualities_and_groups_come_from_tables(scored, tmp_path):
    benchmark, _, _ = scored
    stems = [name.removesuffix(".png") for name in benchmark.names]
    skin = ["dark" if "P1" in name or "P4" in name else "light" for name in stems]
    lines = ["path,skin,quality", *(f"{a},{b},{i}" for i, (a, b) in enumerate(zip(stems, skin)))]  # noqa: B905
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    table = evaluation.ImageTable(tmp_path / "t.csv")
    assert measured.qualities_of(benchmark, table).tolist() == list(range(24))
    groups = measured.groups_of(benchmark, table)
    assert groups["skin"].tolist() == skin
    assert measured.groups_of(benchmark, None) == {}
    alone = "\n".join(["path,x", *(f"{a},{i}" for i, a in enumerate(stems))])
    (tmp_path / "t.csv").write_text(alone)
    with pytest.raises(UserError, match="no pair of set is of two images of one x"):
        measured.groups_of(benchmark, evaluation.ImageTable(tmp_path / "t.csv"))


def test_models_stand_side_by_side(scored):
    benchmark, rows, result = scored
    noise = np.random.default_rng(0).normal(scale=90, size=rows.shape).astype(np.float32)
    found = {
        name: measured.find(
            Embedded(each, np.arange(24.0)), benchmark, fars=(0.5, 0.01), insightface=True
        )
        for name, each in (("a", rows), ("b", rows + noise), ("c", rows[:, :9]))
    }
    shown = measured.side_by_side(benchmark, found, fars=(0.5,))
    assert list(shown.comparisons) == ["a - b", "a - c"]
    difference = shown.comparisons["a - b"].accuracy.difference
    of_each = [found[name].result.accuracy.accuracy for name in "ab"]
    assert abs(difference - (of_each[0] - of_each[1])) < 1e-12
    assert found["a"].result.accuracy.accuracy == result.accuracy.accuracy
    assert found["a"].reject.threshold == result.tars[0].threshold  # of the largest FAR
    own = evaluation.insightface_verification(
        rows, benchmark.protocol.indices, benchmark.protocol.same
    )
    assert shown.compat["a"].accuracy == own.accuracy
    again = measured.side_by_side(benchmark._replace(name="two"), found, fars=(0.5,))
    text = "\n".join(printed_tables.tables([shown, again]))
    for row in ("set, a ", "two, c ", "set, a - b ", "Accuracy-Flip", "too few negatives"):
        assert row in text


def test_what_has_too_few_pairs_is_refused(scored):
    benchmark, _, _ = scored
    protocol = benchmark.protocol
    few = benchmark._replace(protocol=protocol._replace(same=protocol.same[:9]))
    with pytest.raises(UserError, match="ten folds, and set has 9"):
        measured.refuse(few, (0.5,), insightface=True, grouped=False)
    with pytest.raises(UserError, match="24 different pairs, too few for groups"):
        measured.refuse(benchmark, (1e-2, 1e-3), insightface=True, grouped=True)
    measured.refuse(benchmark, (0.5,), insightface=True, grouped=True)


def test_searches_are_printed_upright(faces, tinyface_folder):  # noqa: F811
    """A column for each model, a row for each rank, and the mean average precision."""
    benchmark = opened(faces, tinyface_folder)
    rows = np.eye(10, dtype=np.float32)
    rows[:4] = rows[[4, 5, 6, 7]]  # each probe as one of its subject's images
    found = {
        name: measured.find(Embedded(each, None), benchmark, fars=(0.1,))
        for name, each in (("good", rows), ("bad", np.roll(rows, 1, axis=0)))
    }
    assert found["good"].quality is None
    shown = measured.side_by_side(benchmark, found, fars=(0.1,))
    assert shown.comparisons == {}
    (text,) = printed_tables.tables([shown])
    header, _, first, *_ = text.splitlines()
    assert header.split() == ["good", "bad"]
    assert first.split()[:3] == ["rank", "1", "1.0000"]
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["rank"] * 5 + ["mAP"]
    assert text.splitlines()[-1].split()[1] == f"{found['good'].result.average_precision[0]:.4f}"
