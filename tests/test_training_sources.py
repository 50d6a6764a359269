"""What a run trains on makes no difference but by its images: all forms, one run, to the bit."""

import functools
import json
import shutil
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow
import pyarrow.parquet
import pytest

from facejax import objectives
from facejax.data import build_lfw, folder_source, normalize, tfds_by_name, write_recordio
from facejax.losses import Classes
from facejax.training import from_config, head, step
from facejax.training.config import Config
from tests import toy
from tests.pictures import write_folder
from tests.programs import SMALL, done, fork, parameters, program

NAMES = ("Ann", "Bob", "Cyd")


def write_forms(root):
    """What `config.data.path` takes, for each form of the same nine images."""
    faces = write_folder(root / "faces", dict(zip(NAMES, (3, 2, 4), strict=True)))
    records = list(map(folder_source(faces).__getitem__, range(9)))
    write_list(faces, records)
    write_recordio(folder_source(faces), root / "rec", progress=False)
    (root / "hub").mkdir()
    columns = {
        "image": [record["image"] for record in records],
        "label": [NAMES[record["label"]] for record in records],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "hub" / "0.parquet")
    build_lfw(faces, root / "tfds")
    places = ("faces", "faces/list.txt", "rec", "hub")
    return [*(str(root / place) for place in places), "tfds:lfw:train"]


def write_list(faces, records):
    lines = [f"{record['id']}\t{record['id'].split('/')[0]}\n" for record in records]
    (faces / "list.txt").write_text("".join(lines))


def test_five_forms_train_the_same_parameters(tmp_path, monkeypatch):
    """Four steps of the trainer's own parts on a network of a moment, compiled once."""
    there = functools.partial(tfds_by_name.tfds_source, directory=tmp_path / "tfds")
    monkeypatch.setattr(tfds_by_name, "tfds_source", there)
    network, objective = toy.network(step.AXIS), objectives.objective("arcface", {})
    tx = optax.sgd(0.1, momentum=0.9)
    body = step.make_body(
        network,
        objective,
        head.whole(tx, classes=Classes(None, step.AXIS, len(NAMES))),
        lambda keys, images: normalize(images),
        key=jax.random.key(0),
    )
    first, (like,) = toy.fresh(network, objective, tx, len(NAMES)), toy.batches(1, 4, 3)
    stepper = step.build_step(body, first, like, parallel="pmap", devices=jax.devices()[:1])

    def trained(path):
        config = Config(batch_size=4)
        config.data.path, config.data.cache = path, str(tmp_path / "cache")
        from_config.settled(config)
        config.data.image_size = toy.SIZE  # less than a real network takes
        batches = from_config.batches(config, from_config.training_source(config), start=0)
        current = stepper.enter(jax.tree.map(jnp.copy, first))
        for batch in islice(batches, 4):
            fed = {name: batch[name] for name in like}
            current, _ = stepper.run(current, stepper.feed(fed))
        return jax.tree.leaves(jax.tree.map(np.asarray, stepper.leave(current)))

    one, *others = map(trained, write_forms(tmp_path))
    start = map(np.asarray, jax.tree.leaves(first))
    moved = [np.any(a != b) for a, b in zip(one, start, strict=True)]
    assert sum(moved) > len(moved) / 2
    for other in others:
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_folder_and_its_recordio_train_the_same_parameters(tmp_path):
    faces = write_folder(tmp_path / "faces", {f"person {i}": 3 + i % 3 for i in range(8)}, size=32)
    write_recordio(folder_source(faces), tmp_path / "rec", progress=False)
    ends = []
    for number, path in enumerate((faces, f"rec:{tmp_path / 'rec'}")):
        done(
            program(
                "train.py",
                f"--config.data.path={path}",
                f"--config.data.cache={tmp_path / 'cache'}",
                f"--workdir={tmp_path / str(number)}",
                "--config.data.image_size=32",
                "--config.data.minimum_images=4",
                "--config.data.maximum_images=4",
                "--config.model.name=iresnet10",
                "--config.model.width=0.125",
                "--config.model.embedding_size=16",
                "--config.batch_size=8",
                "--config.steps=4",
                "--config.augment.crop=0.5",
                cwd=tmp_path,
            )
        )
        ends.append(parameters(tmp_path / str(number)))
    assert len(ends[0]) == len(ends[1]) > 20
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_torn_image_in_the_middle_of_a_run(tmp_path):
    """It is named, and replaced by the same one in a run that goes on; too many stop the run."""
    faces = write_folder(tmp_path / "faces", dict.fromkeys(NAMES, 12), size=32)
    records = list(map(folder_source(faces).__getitem__, range(36)))
    write_list(faces, records)
    torn = faces / records[17]["id"]
    torn.write_bytes(torn.read_bytes()[:-200])
    arguments = (*SMALL, f"--config.data.path={faces / 'list.txt'}", "--workdir=run")
    run = tmp_path / "run"
    told = done(fork("train.py", *arguments, "--config.data.bad_records=0.1", cwd=tmp_path))
    assert "1 records could not be read; others stood in for them" in told
    named = (run / "bad_records.jsonl").read_text()
    (line,) = map(json.loads, named.splitlines())
    reason = line.pop("reason")
    assert records[17]["id"] in reason
    assert line == {"step": line["step"], "record": 17, "instead": 18}
    ended = parameters(run)

    shutil.rmtree(run / "checkpoints" / "6")  # as after a kill behind step 3
    done(fork("train.py", *arguments, "--config.data.bad_records=0.1", cwd=tmp_path))
    assert (run / "bad_records.jsonl").read_text() == named
    for one, other in zip(ended, parameters(run), strict=True):
        np.testing.assert_array_equal(one, other)

    arguments = (*arguments[:-1], "--workdir=strict", "--config.data.bad_records=0.001")
    stopped = fork("train.py", *arguments, cwd=tmp_path)
    assert stopped.returncode == 2
    message = stopped.stderr.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert "1 of 36 records can't be read" in message
    assert "config.data.bad_records=0.001 allows no more" in message
    assert "Traceback" not in stopped.stderr
