"""What growing, merging and dropping identities refuses; and their example in the docs."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import optax
import pytest

from facejax import objectives
from facejax.training import identities as ids
from facejax.training import optimizer
from tests import programs, toy


@pytest.fixture(scope="module")
def before():
    """13 identities and 3 rows of padding, for four devices."""
    tx = optimizer.optimizer("sgd", optax.constant_schedule(0.1))
    return toy.fresh(toy.network(), objectives.objective("softmax"), tx, 13, slices=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s: ids.merge(s, [[1, 13]], num_classes=13),
            "there is no identity 13: give num",
        ),
        (lambda s: ids.merge(s, [[-1, 2]], num_classes=13), "there is no identity -1"),
        (
            lambda s: ids.merge(s, [[1, 2], [2, 3]], num_classes=13),
            "identity 2 is given twice",
        ),
        (lambda s: ids.merge(s, [[5, 5]], num_classes=13), "identity 5 is given twice"),
        (
            lambda s: ids.merge(s, [[1, 2], []], num_classes=13),
            r"\[2 0\] identities: give two",
        ),
        (
            lambda s: ids.merge(s, [[4]], num_classes=13),
            r"\[1\] identities: give two or more",
        ),
        (lambda s: ids.merge(s, [1, 2], num_classes=13), r"int64 \(\) is no list"),
        (
            lambda s: ids.merge(s, [[1, 2]], num_classes=17),
            "num_classes 17 does not fit the 16",
        ),
        (
            lambda s: ids.merge(opposite(s), [[1, 2]], num_classes=13),
            "weights of a group cancel",
        ),
        (lambda s: ids.drop(s, [13], num_classes=13), "there is no identity 13"),
        (lambda s: ids.drop(s, [7, 7], num_classes=13), "identity 7 is given twice"),
        (
            lambda s: ids.drop(s, range(13), num_classes=13),
            "all 13 identities would be dropped",
        ),
        (lambda s: ids.drop(s, [1.0], num_classes=13), "give whole numbers"),
        (lambda s: ids.drop(s, np.arange(13) > 7, num_classes=13), "give whole numbers"),
        (lambda s: ids.drop(s, [1], num_classes=12), "num_classes 12 does not fit the 16"),
        (
            lambda s: ids.grow(s, np.ones((2, 5)), num_classes=13),
            "5 dimensions and .* has 6",
        ),
        (lambda s: ids.grow(s, np.ones(6), num_classes=13), r"\(6,\) are not \[N, D\]"),
        (lambda s: ids.grow(s, np.eye(2, 6) * [[1], [0]], num_classes=13), "length above 0"),
        (lambda s: ids.grow(s, np.full((1, 6), np.nan), num_classes=13), "length above 0"),
        (lambda s: ids.grow(s, np.full((1, 6), np.inf), num_classes=13), "length above 0"),
        (
            lambda s: ids.grow(s, np.ones((2, 6)), num_classes=0),
            "num_classes 0 does not fit",
        ),
        (
            lambda s: ids.grow(s, np.ones((2, 6)), num_classes=10),
            "give the number in the check",
        ),
        (
            lambda s: ids.mean_embeddings(np.ones((2, 6)), [0, 2], count=3),
            "identity 1 has no im",
        ),
        (lambda s: ids.mean_embeddings(np.ones((2, 6)), [0, 3], count=3), "no identity 3"),
        (lambda s: ids.mean_embeddings(np.ones((2, 6)), [-1, 0], count=1), "no identity -1"),
        (lambda s: ids.mean_embeddings(np.ones((2, 6)), [0], count=1), "one label for each"),
        (lambda s: ids.mean_embeddings(np.ones(6), [0] * 6, count=1), "one label for each"),
    ],
)
def test_what_is_wrong_is_said(before, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(before)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def opposite(before):
    weights = before.params["head"]["weights"]
    changed = {**before.params["head"], "weights": weights.at[2].set(-weights[1])}
    return before.replace(params={**before.params, "head": changed})


@pytest.mark.slow
def test_the_example_in_the_docs_runs(tmp_path, monkeypatch):
    """A run, 20 more people, and the run that goes on from there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(programs.ROOT))
    text = (pathlib.Path(programs.ROOT) / "docs" / "identities.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    small = programs.SMALL
    programs.done(programs.fork("train.py", *small, cwd=tmp_path))
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=True, timeout=600)
    more = ("--workdir=runs/grown", "--config.data.identities=32", "--config.steps=9")
    said = programs.done(programs.fork("train.py", *small, *more, cwd=tmp_path))
    assert "of 32 identities" in said
    assert "going on from step 6 of runs/grown" in said
