"""Pairs that are made: their kinds and numbers, folds without a common identity, the file."""

import json

import cv2
import numpy as np
import pytest

from facejax import __main__
from facejax.errors import UserError
from facejax.evaluation.pair_making import (
    all_pairs,
    balanced_pairs,
    hard_pairs,
    identity_folds,
    write_pairs,
)
from facejax.evaluation.pairs import LabelPairs, read_pairs

RNG = np.random.default_rng(4)
LABELS = RNG.permutation(np.repeat(np.arange(30), RNG.integers(1, 9, 30)))


def check(made: LabelPairs, folds: int, labels=LABELS) -> None:
    """Kinds are right, no pair comes twice, and no identity is in two folds."""
    first, second = labels[made.indices].T
    np.testing.assert_array_equal(first == second, made.same)
    assert (made.indices[:, 0] != made.indices[:, 1]).all()
    assert len({frozenset(pair) for pair in made.indices.tolist()}) == len(made.indices)
    where = [set(labels[made.indices[made.folds == fold]].ravel()) for fold in range(folds)]
    assert sum(map(len, where)) == len(set().union(*where))


@pytest.mark.parametrize("folds", [2, 3, 10])
def test_folds_have_whole_identities_and_nearly_as_many_images(folds):
    fold = identity_folds(LABELS, folds=folds, seed=1)
    for identity in range(30):
        assert len(set(fold[identity == LABELS])) == 1
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 8, "by no more than the largest identity"
    assert (fold != identity_folds(LABELS, folds=folds, seed=2)).any()


def test_balanced_pairs():
    made = balanced_pairs(LABELS, pairs=60, folds=3, seed=5)
    check(made, 3)
    for fold in range(3):
        assert made.same[made.folds == fold].tolist() == [True] * 10 + [False] * 10
    again = balanced_pairs(LABELS, pairs=60, folds=3, seed=5)
    np.testing.assert_array_equal(made.indices, again.indices)


def test_all_pairs_are_those_of_a_loop():
    made = all_pairs(LABELS, folds=4, seed=0)
    check(made, 4)
    fold = identity_folds(LABELS, folds=4, seed=0)
    count = len(LABELS)
    wanted = {(i, j) for i in range(count) for j in range(i + 1, count) if fold[i] == fold[j]}
    assert set(map(tuple, made.indices.tolist())) == wanted


def test_hard_pairs_are_the_first_of_all_when_sorted(monkeypatch):
    monkeypatch.setattr("facejax.evaluation.pair_making._BLOCK", 7)
    embeddings = np.random.default_rng(1).normal(size=(len(LABELS), 6))
    made = hard_pairs(LABELS, embeddings, pairs=40, folds=2, seed=3)
    check(made, 2)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    every = all_pairs(LABELS, folds=2, seed=3)
    cosine = np.sum(unit[every.indices[:, 0]] * unit[every.indices[:, 1]], axis=1)
    for fold in range(2):
        for same in (True, False):
            mine = (every.folds == fold) & (every.same == same)
            wanted = np.sort(cosine[mine] * (1 if same else -1))[:10]
            found = made.indices[(made.folds == fold) & (made.same == same)]
            got = np.sum(unit[found[:, 0]] * unit[found[:, 1]], axis=1) * (1 if same else -1)
            np.testing.assert_allclose(got, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": 50, "folds": 3}, "multiple of 6"),
        ({"pairs": 80, "folds": 20}, "20 folds of 30 identities"),
        ({"pairs": 60, "folds": 1}, "two folds"),
        ({"pairs": 6000, "folds": 10}, "fold 0: 300 same pairs"),
    ],
)
def test_what_cannot_be_made_is_said(options, words):
    embeddings = np.ones((len(LABELS), 2))
    for make in (balanced_pairs, lambda labels, **more: hard_pairs(labels, embeddings, **more)):
        with pytest.raises(UserError, match=words):
            make(LABELS, **options)


def test_the_file_has_the_folds(tmp_path):
    names = [f"{label}, {i}.jpg" for i, label in enumerate(LABELS)]  # commas are quoted
    made = all_pairs(LABELS, folds=3)
    write_pairs(tmp_path / "pairs.csv", names, made)
    read = read_pairs(tmp_path / "pairs.csv")
    for field in ("same", "folds"):
        np.testing.assert_array_equal(getattr(read, field), getattr(made, field))
    assert read.first == [names[i] for i in made.indices[:, 0]]
    with pytest.raises(UserError, match="line break"):
        write_pairs(
            tmp_path / "x", ["a\nb", "c"], LabelPairs(np.array([[0, 1]]), *(np.ones(1),) * 2)
        )
    lines = (tmp_path / "pairs.csv").read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"a fold for {len(lines) - 1} of {len(lines)} pairs"):
        read_pairs(tmp_path / "pairs.csv")


def test_the_command(tmp_path, capsys):
    for label in range(4):
        for number in range(3):
            path = tmp_path / "people" / f"p{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((8, 8, 3), 40 * label + number, np.uint8))
    out = tmp_path / "pairs.csv"
    command = ["pairs", str(tmp_path / "people"), f"--out={out}", "--folds=2"]
    assert __main__.main([*command, "--pairs=8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] == 4
    assert len(read_pairs(out).same) == 8
    assert __main__.main([*command, "--kind=all"]) == 0
    assert len(read_pairs(out).same) == 2 * 15
    for more in (["--kind=all", "--pairs=8"], ["--recognizer=sface"], ["--pairs=7"], ["--seed=-1"]):
        assert __main__.main([*command, *more]) == 2
        assert capsys.readouterr().err.startswith("error: ")
