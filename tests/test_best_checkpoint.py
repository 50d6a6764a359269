"""The best step by a number: kept whole, replaced by a better one alone, known again afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from facejax import checkpoints, recognition
from tests.environment import surroundings
from tests.programs import ROOT, SMALL, done, fork

FACTS = {"num_classes": 3, "config": {}}


def opened(folder, number="auc", *, measured_on="these", earlier=True):
    return checkpoints.BestCheckpoint(folder, number, measured_on=measured_on, earlier=earlier)


def update(best, step, value, name="auc"):
    return best.update(step, {name: value}, lambda: {"step": jnp.full(4, step)}, FACTS)


def kept(folder):
    """The steps there, and what the newest holds."""
    manager = checkpoints.open_existing(folder)
    step = max(manager.all_steps())
    facts, shapes = checkpoints.read_facts(manager, step), checkpoints.saved_shapes(manager, step)
    state = checkpoints.restore(
        manager, step, shapes, {"architecture": None, **FACTS}, per_class={"step": False}
    )
    return sorted(manager.all_steps()), np.asarray(state["step"]).tolist(), facts["best"]["value"]


@pytest.mark.parametrize("sign", [1, -1])
def test_only_a_better_one_takes_the_place(tmp_path, sign):
    best = opened(tmp_path, "auc" if sign > 0 else "-auc")
    values = [0.5, None, float("nan"), 0.4, 0.5, 0.7, 0.6]
    changed = [update(best, step, value and sign * value) for step, value in enumerate(values, 1)]
    assert changed == [True, False, False, False, False, True, False]
    best.close()
    assert kept(tmp_path) == ([6], [6] * 4, sign * 0.7)


def test_an_earlier_one_counts_by_its_facts(tmp_path):
    best = opened(tmp_path)
    assert update(best, 9, 0.7)
    best.close()
    best = opened(tmp_path)
    assert (best.step, best.value) == (9, 0.7)
    assert not update(best, 7, 0.6)
    assert not update(best, 9, 0.8)  # a run that went back
    assert update(best, 8, 0.9)  # earlier than what is there
    best.close()
    assert kept(tmp_path) == ([8], [8] * 4, 0.9)


@pytest.mark.parametrize(
    "other", [{"number": "-auc"}, {"measured_on": "others"}, {"earlier": False}]
)
def test_one_of_another_number_stays_until_there_is_a_step(tmp_path, other):
    best = opened(tmp_path)
    update(best, 9, 0.7)
    best.close()
    best = opened(tmp_path, **other)
    assert best.value is None
    assert kept(tmp_path)[0] == [9]
    assert update(best, 9, 0.1)
    best.close()
    assert kept(tmp_path) == ([9], [9] * 4, 0.1)


def test_of_two_that_a_dead_process_left_the_better_stays(tmp_path):
    for name, step, value in (("a", 9, 0.7), ("b", 4, 0.8)):
        best = opened(tmp_path / name)
        update(best, step, value)
        best.close()
    shutil.copytree(tmp_path / "b" / "4", tmp_path / "a" / "4")
    opened(tmp_path / "a").close()
    assert kept(tmp_path / "a") == ([4], [4] * 4, 0.8)


def test_a_damaged_one_does_not_count(tmp_path):
    best = opened(tmp_path)
    update(best, 9, 0.7)
    best.close()
    (tmp_path / "9" / "facts" / "metadata").write_text("{")
    best = opened(tmp_path)
    assert best.value is None
    assert update(best, 11, 0.2)
    best.close()
    assert kept(tmp_path) == ([11], [11] * 4, 0.2)


_KILLED = """
import os, pathlib, signal, sys
import jax.numpy as jnp
import orbax.checkpoint as ocp
from facejax import checkpoints

where, at = sys.argv[1:]
best = checkpoints.BestCheckpoint(pathlib.Path(where), "auc", measured_on="x", earlier=True)
facts = {"num_classes": 3, "config": {}}
best.update(1, {"auc": 0.5}, lambda: {"step": jnp.full(4, 1)}, facts)
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if at == "renaming":
    pathlib.Path.rename = os.rename = die
else:
    ocp.CheckpointManager.delete = die
best.update(2, {"auc": 0.6}, lambda: {"step": jnp.full(4, 2)}, facts)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("at", "left"), [("renaming", [1]), ("deleting", [1, 2])])
def test_killed_in_between_one_is_whole(tmp_path, at, left):
    environment = surroundings(1) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "best"), at]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == -signal.SIGKILL, finished.stderr[-2000:]
    steps, state, value = kept(tmp_path / "best")
    assert steps == left
    assert (state, value) == ([left[-1]] * 4, {1: 0.5, 2: 0.6}[left[-1]])


@pytest.mark.slow
def test_a_run_keeps_its_best(tmp_path, monkeypatch):
    """Over a restart; what is there embeds faces, and its number is that of its step's line."""
    monkeypatch.setenv("FACEJAX_HOME", str(tmp_path / "home"))
    run = tmp_path / "run"
    given = (*SMALL, "--config.evaluation.every=1", "--config.checkpoint.best=auc")
    arguments = (*given, "--config.evaluation.subset=20", "--workdir=run")
    said = done(fork("train.py", *arguments, cwd=tmp_path))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    values = {line["step"]: line["auc"] for line in lines if "auc" in line and 0 < line["step"] < 6}
    recognizer = recognition.open(run / "best")
    value = recognizer.facts["best"]["value"]
    assert f"best: step {recognizer.step}, auc {value:.4f}" in said
    if recognizer.step < 6:  # the last line is of all pairs
        assert value == values[recognizer.step]
    assert value >= max(values.values())
    assert os.listdir(run / "best") == [str(recognizer.step)]
    shutil.rmtree(run / "checkpoints" / "6")
    before = (run / "best" / str(recognizer.step) / "facts" / "metadata").stat().st_mtime_ns
    said = done(fork("train.py", *arguments, cwd=tmp_path))
    assert f"best: step {recognizer.step}, auc {value:.4f}" in said
    after = (run / "best" / str(recognizer.step) / "facts" / "metadata").stat().st_mtime_ns
    assert before == after
