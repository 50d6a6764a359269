"""What a run writes of itself, and what it says of a step that went wrong."""

import errno
import json

import numpy as np
import pytest

from facejax import files
from facejax.errors import UserError
from facejax.training import log


class Named:
    """Records of which the even ones have an id."""

    def __getitem__(self, index):
        record = {"image": b"", "label": 0}
        return {**record, "id": f"Ann/{index}.jpg"} if index % 2 == 0 else record


def progress(path, **keywords):
    rates = np.linspace(0, 1, 4)
    return log.Progress(path, steps=4, start=0, learning_rates=rates, source=Named(), **keywords)


def metrics(loss=2.0, norm=1.0):
    return {"loss": loss, "correct": 1.0, "rows": 2.0, "gradient_norm": norm}


@pytest.mark.parametrize("bad", [{"loss": np.nan}, {"loss": np.inf}, {"norm": np.nan}])
def test_a_bad_batch_is_named(tmp_path, bad):
    bar = progress(tmp_path / "metrics.jsonl")
    bar.update(1, metrics(), np.arange(2))
    with pytest.raises(UserError) as caught:
        bar.update(2, metrics(**bad), np.array([8, 3, 6, 9, 1, 7, 5]))
    said = str(caught.value)
    assert "at step 2 the loss is" in said
    assert "on the records 8 (Ann/8.jpg), 3, 6 (Ann/6.jpg), 9, 1 and 2 more: training" in said
    assert "lower config.optimizer.learning_rate or set config.optimizer.clip_norm" in said
    assert "--" not in said


def test_a_short_batch_is_named_whole():
    assert log.record_names(Named(), np.array([4, 1])) == "the records 4 (Ann/4.jpg), 1"


def test_lines_are_means_since_the_last(tmp_path):
    path = tmp_path / "metrics.jsonl"
    bar = progress(path, every=2)
    for step, loss in enumerate((2.0, 4.0, 6.0, 10.0), start=1):
        bar.update(step, metrics(loss), np.arange(2))
    bar.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["loss"], line["accuracy"]) for line in lines] == [
        (2, 1.5, 0.5),
        (4, 4.0, 0.5),
    ]
    assert [line["learning_rate"] for line in lines] == pytest.approx([1 / 3, 1])


def test_one_process_of_several_is_silent(tmp_path):
    bar = progress(tmp_path / "metrics.jsonl", every=1, silent=True)
    bar.update(1, metrics(), np.arange(2))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_resumed_run_forgets_what_came_later(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"st')
    log.forget_after(path, 20)
    assert log.read_lines(path) == [{"step": 10}, {"step": 20}]
    log.forget_after(path, 0)
    assert path.read_text() == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"can't make the folder .*file/run .*: give another$"):
        log.make_directory(tmp_path / "file" / "run")


@pytest.mark.parametrize("name", ["checkpoints", "report", "metrics.jsonl"])
def test_a_workdir_is_tried_before_the_work(tmp_path, name):
    """Something else stands where the run will write, after hours."""
    log.make_directory(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoints"]
    if name == "metrics.jsonl":
        (tmp_path / name).mkdir()
    else:
        files.remove(tmp_path / name)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"can't write .*{name} \(.*: give another$"):
        log.make_directory(tmp_path)


def test_metrics_on_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "append_line", full)
    bar = progress(tmp_path / "metrics.jsonl", every=1)
    with pytest.raises(UserError, match=r"metrics\.jsonl \(No space left on device\): make room"):
        bar.update(1, metrics(), np.arange(2))


def test_what_was_written_is_looked_for(tmp_path):
    (tmp_path / "config.json").touch()
    (tmp_path / "checkpoints").mkdir()
    names = ["checkpoints", "config.json", "curves.png"]
    assert log.those_there(tmp_path, names) == ["config.json"]
    (tmp_path / "checkpoints" / "4").mkdir()
    assert log.those_there(tmp_path, names) == ["checkpoints/", "config.json"]
