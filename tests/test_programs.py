"""train.py and eval.py as a person runs them: to the end, again, further, and wrongly."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from facejax import checkpoints
from facejax.training.config import Loss
from tests.environment import surroundings
from tests.pictures import write_folder
from tests.programs import ROOT, SMALL, done, fork, parameters, program, tree


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A home of their own for all programs, so that they share compiled programs."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("FACEJAX_HOME", str(folder / "facejax"))
        yield folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run and what it printed."""
    cwd = tmp_path_factory.mktemp("trained")
    return cwd, done(program("train.py", *SMALL, "--workdir=run", cwd=cwd))


def test_a_run_writes_what_it_says(trained):
    cwd, said = trained
    run = cwd / "run"
    assert "untrained" in said
    assert "trained, step 6" in said
    assert "TAR@FAR 1e-2" in said
    assert json.loads((run / "config.json").read_text())["steps"] == 6
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "verification_accuracy" in line] == [0, 3, 6]
    assert {"loss", "accuracy", "images_per_second", "learning_rate"} <= set(lines[-2])
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["3", "6"]
    for picture in ("curves.png", "report/roc.png", "report/scores.png"):
        assert cv2.imread(str(run / picture)) is not None
    assert "8 unseen synthetic identities" in (run / "report" / "index.html").read_text()


def test_both_caches_are_in_facejax_home(home, trained):
    assert sorted(path.name for path in (home / "facejax").iterdir()) == ["datasets", "xla"]
    assert not (home / ".cache" / "facejax").exists()


def test_a_complete_run_says_so_and_changes_nothing(trained):
    cwd, _ = trained
    before = tree(cwd / "run")
    said = done(fork("train.py", *SMALL, "--workdir=run", cwd=cwd))
    assert "is complete: 6 steps" in said
    assert tree(cwd / "run") == before


def test_a_run_cut_short_ends_with_the_same_bits(trained, tmp_path):
    cwd, _ = trained
    shutil.copytree(cwd / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    said = done(fork("train.py", *SMALL, "--workdir=run", cwd=tmp_path))
    assert "going on from step 3" in said
    for a, b in zip(parameters(cwd / "run"), parameters(tmp_path / "run"), strict=True):
        np.testing.assert_array_equal(a, b)
    steps = [json.loads(x)["step"] for x in (tmp_path / "run/metrics.jsonl").open()]
    assert steps == sorted(steps)


@pytest.mark.slow
def test_more_steps_go_on_on_other_devices(trained, tmp_path):
    cwd, _ = trained
    shutil.copytree(cwd / "run", tmp_path / "run")
    more = [*SMALL, "--config.steps=8", "--config.parallel=shard_map", "--workdir=run"]
    said = done(fork("train.py", *more, cwd=tmp_path, devices=4))
    assert "going on from step 6" in said
    assert "4 cpu device(s)" in said
    assert "trained, step 8" in said


def test_eval_reports_the_run(trained, tmp_path):
    cwd, _ = trained
    output = f"--output={tmp_path / 'report'}"
    said = done(program("eval.py", "--checkpoint=run", output, cwd=cwd))
    assert "60 pairs" in said
    assert "too few negatives for FAR 1e-4" in said
    report = json.loads((tmp_path / "report" / "verification.json").read_text())["step 6"]
    lines = [json.loads(line) for line in (cwd / "run" / "metrics.jsonl").read_text().splitlines()]
    assert report["accuracy"]["accuracy"] == lines[-1]["verification_accuracy"]
    assert {"verification_interval", "tar_note_at_far_1e-2"} <= set(lines[-1])
    assert (tmp_path / "report" / "index.html").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three people of four images, and a pair file."""
    root = tmp_path_factory.mktemp("folder")
    random = np.random.default_rng(0)
    for name in ("Ann", "Bob", "Cy"):
        (root / "faces" / name).mkdir(parents=True)
        base = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for i in range(1, 5):
            image = cv2.resize(base, (40, 40)) // 2 + random.integers(0, 99, (40, 40, 3), np.uint8)
            cv2.imwrite(str(root / "faces" / name / f"{name}_{i:04d}.jpg"), image)
    pairs = ["3", "Ann\t1\t2", "Bob\t1\t2", "Cy\t3\t4"]
    pairs += ["Ann\t1\tBob\t1", "Bob\t2\tCy\t2", "Cy\t1\tAnn\t4"]
    (root / "pairs.txt").write_text("\n".join(pairs) + "\n")
    return root


@pytest.mark.slow
def test_a_folder_of_people_trains_and_verifies(trained, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "x")
    arguments = [
        *SMALL,
        "--config.data.kind=folder",
        "--config.data.path=x/faces",
        "--config.data.cache=cache",
        "--config.evaluation.pairs=x/pairs.txt",
        "--config.evaluation.images=x/faces",
        "--config.parallel=shard_map",
        "--workdir=run",
    ]
    said = done(fork("train.py", *arguments, cwd=tmp_path))
    assert "12 images of 3 identities" in said
    assert "trained, step 6" in said
    said = done(
        fork("eval.py", "--checkpoint=run", "--pairs=x/pairs.txt", "--images=x/faces", cwd=tmp_path)
    )
    assert "pairs.txt: 6 pairs" in said


# A person's mistakes: one sentence that names the thing and the remedy, nothing written.


def refused(name, *arguments, cwd, naming, devices=1):
    before = tree(cwd)
    finished = fork(name, *arguments, cwd=cwd, devices=devices)
    message = finished.stderr.strip().splitlines()
    assert finished.returncode == 2, (finished.returncode, finished.stdout, finished.stderr[-2000:])
    assert "Traceback" not in finished.stderr
    assert message[-1].startswith("error: ")
    for word in naming:
        assert word in message[-1]
    after = tree(cwd)
    assert {p: after.get(p) for p in before} == before, "something was overwritten"
    return message[-1]


@pytest.mark.parametrize(
    ("name", "more"),
    [("magface", ()), ("facenet", ("--config.data.per_identity=4",))],
)
def test_a_loss_is_chosen_by_name_alone(tmp_path, name, more):
    """With its own defaults, not those that the config file chose for another one."""
    arguments = (*SMALL, "--config.steps=2", f"--config.loss.name={name}", *more, "--workdir=run")
    done(fork("train.py", *arguments, cwd=tmp_path, devices=2))
    written = json.loads((tmp_path / "run" / "config.json").read_text())["loss"]
    unset = dataclasses.asdict(Loss())
    assert {field: value for field, value in written.items() if value != unset[field]} == {
        "name": name
    }


@pytest.mark.slow
def test_ways_to_train_the_head_give_the_same_run(tmp_path):
    """Streamed and fused is dense, also going on in another way and on other devices."""
    losses = {}
    faces = write_folder(tmp_path / "faces", dict.fromkeys(map(str, range(12)), 4), size=32)
    for name, devices, ways in (
        ("dense", 1, ["block_size=-1"]),
        ("fused", 4, ["block_size=2", "fused=true"]),
        ("unsplit", 2, ["block_size=2", "sharded=false"]),
        ("everything", 2, ["sample_rate=1.0"]),
    ):
        given = [f"--config.head.{way}" for way in ways]
        for step in (3, 6):  # then goes on densely, on two devices
            arguments = [*SMALL, f"--config.data.path={faces}", f"--workdir={name}", *given]
            arguments += [f"--config.steps={step}", "--config.optimizer.schedule=constant"]
            arguments += ["--config.optimizer.warmup=0", "--config.optimizer.learning_rate=0.01"]
            done(fork("train.py", *arguments, cwd=tmp_path, devices=devices))
            given, devices = [], 2
        lines = [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").open()]
        losses[name] = [line["loss"] for line in lines if "loss" in line]
    for name, values in losses.items():
        np.testing.assert_allclose(values, losses["dense"], rtol=1e-3, err_msg=name)


def test_a_sampled_run_trains(tmp_path):
    more = ("--config.data.identities=80", "--config.data.images_per_identity=1")
    arguments = (*SMALL, *more, "--config.steps=2", "--config.head.sample_rate=0.5")
    arguments += ("--config.head.lazy_decay", "--config.head.dtype=bfloat16", "--workdir=run")
    done(fork("train.py", *arguments, cwd=tmp_path, devices=2))


@pytest.mark.parametrize(
    ("arguments", "naming"),
    [
        (["--config.head.block_size=-2"], ["config.head", "block_size", "-2"]),
        (["--config.head.dtype=float"], ["head.dtype", "float32 or bfloat16"]),
        (["--config.head.sample_rate=2"], ["config.head", "rate", "2"]),
        (["--config.head.sample_rate=0.5"], ["config.head", "can't hold", "16"]),
        (["--config.head.sample_rate=0.9", "--config.head.fused"], ["sample_rate", "head.fused"]),
        (["--config.head.fused", "--config.optimizer.name=adamw"], ["head.fused", "sgd"]),
        (["--config.head.fused", "--config.optimizer.clip_norm=1"], ["head.fused", "clip_norm=0"]),
        (["--config.head.fused", "--config.optimizer.accumulate=2"], ["head.fused", "accumulate"]),
        (["--config.head.lazy_decay"], ["lazy_decay", "sample_rate"]),
        (["--config.head.fused", "--config.loss.name=proxy_nca"], ["head.fused", "class weights"]),
        (["--config.data.identities=1"], ["1 identities", "2 devices"]),
        (["--config.optimizer.learning_rat=1"], ["learning_rat", "config.py"]),
        (["--config.batch_size=many"], ["config.batch_size=many"]),
        (["--config.loss.name=arcfase"], ["arcfase", "curricularface, magface"]),
        (["--config.loss.name=normface", "--config.loss.margin=1"], ["normface", "margin"]),
        (["--config.loss.beyond_pi=round"], ["round", "plain, linear"]),
        (["--config.loss.name=facenet"], ["several images", "data.per_identity"]),
        (["--config.loss.name=facenet", "--config.data.per_identity=3"], ["16", "3"]),
        (["--config.data.identities=2", "--config.loss.name=adacos"], ["at least 3 classes"]),
        (["--config.model.name=resnet"], ["resnet", "iresnet50"]),
        (["--config=nowhere.py"], ["nowhere.py"]),
        (["--config.batch_size=7"], ["batch_size 7", "2 device"]),
        (["--config.devices=99"], ["devices is 99"]),
        (["--config.parallel=pjit"], ["pjit", "shard_map"]),
        (["--config.data.kind=mxnet"], ["mxnet", "synthetic, folder, dataset, list, rec"]),
        (["--config.data.kind=folder"], ["data.path"]),
        (["--config.data.kind=folder", "--config.data.path=none"], ["none"]),
        (["train"], ["train", "--config.seed"]),
        (["--config.augment.flip=2"], ["config.augment", "flip"]),
        (["--config.data.image_size=50"], ["config.data", "image_size 50"]),
        (["--config.data.path=none"], ["none", "does not exist"]),  # of a synthetic recipe
        (["--config.epochs=1"], ["steps is 6", "epochs 1"]),
        (["--config.evaluation.images=none"], ["evaluation.images", "evaluation.pairs"]),
        (["--config.optimizer.accumulate=16", "--config.devices=1"], ["one row", "accumulate"]),
    ],
)
def test_train_refuses_bad_fields(tmp_path, arguments, naming):
    everything = [*arguments, *SMALL, "--workdir=run"]  # --config must come before its fields
    if any(
        given.startswith(arguments[0].partition("=")[0] + "=") for given in SMALL
    ):  # the last wins
        everything = [*SMALL, "--workdir=run", *arguments]
    refused("train.py", *everything, cwd=tmp_path, naming=naming, devices=2)


@pytest.mark.parametrize(
    ("body", "naming"),
    [
        ("config.optimizer.lr = 1.0", ["own.py, line 4", "'lr'"]),
        ("config.loss = Loss(nme='softmax')", ["own.py, line 4", "'nme'"]),
        ("config = None", ["own.py", "NoneType", "Config"]),
        ("config = (", ["own.py", "never closed"]),
    ],
)
def test_train_refuses_bad_recipes(tmp_path, body, naming):
    lines = ["from facejax.training.config import Config, Loss", "def get_config():"]
    lines += ["    config = Config()", f"    {body}", "    return config"]
    (tmp_path / "own.py").write_text("\n".join(lines) + "\n")
    refused("train.py", "--config=own.py", "--workdir=run", cwd=tmp_path, naming=naming)
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]


def test_train_tries_its_outputs_before_the_work(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("mine")
    arguments = (*SMALL, "--config.data.path=nothing", "--workdir=run")  # the data comes later
    naming = ["run/checkpoints", "--workdir"]
    said = refused("train.py", *arguments, cwd=tmp_path, naming=naming)
    assert "nothing" not in said


def test_train_refuses_a_workdir_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("mine")
    refused(
        "train.py", *SMALL, "--workdir=run", cwd=tmp_path, naming=["run is a file", "--workdir"]
    )


@pytest.mark.parametrize("fault", ["no images", "one identity", "broken image"])
def test_train_refuses_bad_folders(folder, tmp_path, fault):
    shutil.copytree(folder, tmp_path / "x")
    faces = tmp_path / "x" / "faces"
    if fault == "no images":
        shutil.rmtree(faces)
        faces.mkdir()
    elif fault == "one identity":
        shutil.rmtree(faces / "Bob")
        shutil.rmtree(faces / "Cy")
    else:
        (faces / "Bob" / "Bob_0002.jpg").write_bytes(b"not an image")
    naming = ["Bob_0002.jpg"] if fault == "broken image" else ["x/faces"]
    refused(
        "train.py",
        *SMALL,
        "--config.data.kind=folder",
        "--config.data.path=x/faces",
        "--config.data.cache=cache",
        "--workdir=run",
        cwd=tmp_path,
        naming=naming,
    )


def changed(run, change):
    """Rewrites the facts of a run's newest checkpoint."""
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    file = newest / "facts" / "metadata"
    facts = json.loads(file.read_text())
    change(facts)
    file.write_text(json.dumps(facts))


def test_train_refuses_a_checkpoint_of_another_run(trained, tmp_path):
    cwd, _ = trained
    shutil.copytree(cwd / "run", tmp_path / "run")
    start = (*SMALL, "--workdir=run", "--config.steps=9")
    naming = ["seed 5, was 0", "loss.margin 0.4, was 0.2", "--accept_changes"]
    more = ("--config.seed=5", "--config.loss.margin=0.4")
    refused("train.py", *start, *more, cwd=tmp_path, naming=naming)

    def other_people(facts):
        facts["data"] |= {"identities_sha256": "", "identities": ["Ann", *map(str, range(11))]}

    changed(tmp_path / "run", other_people)
    naming = ["11 is new and Ann is missing", "--workdir"]
    refused("train.py", *start, "--accept_changes", cwd=tmp_path, naming=naming)


def test_a_complete_run_says_with_what_it_was_not_trained(trained, tmp_path):
    cwd, _ = trained
    shutil.copytree(cwd / "run", tmp_path / "run")
    other = "--config.optimizer.learning_rate=9"
    finished = fork("train.py", *SMALL, other, "--workdir=run", cwd=tmp_path)
    assert finished.returncode == 0
    assert "not trained with optimizer.learning_rate 9, was 0.2" in finished.stdout


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(trained, tmp_path):
    """By both programs; the run goes on from the one before, and ends with the same bits."""
    cwd, _ = trained
    shutil.copytree(cwd / "run", tmp_path / "run")
    for file in (tmp_path / "run/checkpoints/6/state/d").iterdir():
        file.write_bytes(b"")
    said = done(fork("eval.py", "--checkpoint=run", "--output=report", cwd=tmp_path))
    assert "checkpoints/6 holds no whole state" in said
    assert "step 3" in said
    said = done(fork("train.py", *SMALL, "--workdir=run", cwd=tmp_path))
    assert "checkpoints/6 holds no whole state" in said
    assert "going on from step 3" in said
    left = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert left == {"3", "6", "6.damaged"}
    shutil.rmtree(tmp_path / "run/checkpoints/6.damaged")
    for a, b in zip(parameters(cwd / "run"), parameters(tmp_path / "run"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("elsewhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_eval_prints_before_it_writes(trained, tmp_path, elsewhere):
    """The report can't be written; `elsewhere` the caches of the run can't either."""
    cwd, _ = trained
    shutil.copytree(cwd / "run", tmp_path / "run")
    (tmp_path / "file").touch()

    def move(facts):
        facts["config"]["compilation_cache"] = facts["config"]["data"]["cache"] = "file/x"

    if elsewhere:
        changed(tmp_path / "run", move)
    finished = fork("eval.py", "--checkpoint=run", "--output=file", cwd=tmp_path)
    assert finished.returncode == 2
    assert "60 pairs" in finished.stdout
    assert "TAR@FAR 1e-2" in finished.stdout
    *warnings, message = finished.stderr.strip().splitlines()
    assert message.startswith("error: can't write file (")
    assert "--output" in message
    assert [line.startswith("warning: ") for line in warnings] == [True] * 2 * elsewhere


def test_help_lists_the_fields_of_the_one_and_the_flags_of_the_other(tmp_path):
    said = fork("train.py", "--help", cwd=tmp_path)
    assert said.returncode == 0
    for words in (
        "--config: ",
        "--config.optimizer.learning_rate=0.1 ",
        "at its peak",
        "--workdir",
    ):
        assert words in said.stdout
    said = fork("eval.py", "--help", cwd=tmp_path)
    assert "--config" not in said.stdout
    assert "--checkpoint: " in said.stdout
    message = refused("eval.py", "--flip", "False", cwd=tmp_path, naming=["'False'"])
    assert "--config" not in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("until", "delay", "more", "left"),
    [
        ("steps of", 1.0, (), "nothing is saved yet"),  # while compiling
        ("first step", 0.5, (), "nothing is saved yet"),
        ("first step", 1.0, ("--config.checkpoint.every=1",), "is saved, and the same command"),
    ],
)
def test_ctrl_c_ends_in_one_true_sentence(tmp_path, until, delay, more, left):
    arguments = [*SMALL, "--config.steps=100000", "--config.checkpoint.every=0", "--workdir=run"]
    arguments += ["--config.evaluation.every=0", f"--config.compilation_cache={tmp_path}/xla"]
    with subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "train.py"), *arguments, *more],
        cwd=tmp_path,
        env=surroundings(1),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell's background jobs, and what starts tests, may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        said = b""
        while until.encode() not in said:
            said += os.read(process.stdout.fileno(), 4096)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        said = (said + process.stdout.read()).decode()
    assert process.returncode == 130
    assert "Traceback" not in said
    *_, message = said.strip().splitlines()
    assert message.startswith("error: interrupted; in run ")
    assert left in message
    steps = checkpoints.saved_steps(tmp_path / "run" / "checkpoints")
    assert message == (
        f"error: interrupted; in run step {steps[-1]} {left} goes on from it"
        if steps
        else f"error: interrupted; in run {left}"
    )


def test_train_refuses_a_checkpoint_of_another_network(trained, tmp_path):
    cwd, _ = trained
    shutil.copytree(cwd / "run", tmp_path / "run")
    wider = [*SMALL, "--config.model.width=0.25", "--config.steps=9", "--workdir=run"]
    refused("train.py", *wider, cwd=tmp_path, naming=["checkpoint", "width", "--workdir"])


def test_eval_refuses(trained, folder, tmp_path):
    cwd, _ = trained
    run = f"--checkpoint={cwd / 'run'}"
    refused("eval.py", "--checkpoint=none", cwd=tmp_path, naming=["none", "train.py"])
    refused("eval.py", run, "--step=4", cwd=tmp_path, naming=["no step 4", "3, 6"])
    shutil.copytree(folder, tmp_path / "x")
    images = "--images=x/faces"
    (tmp_path / "bad.txt").write_text("2\nAnn\t1\t9\nAnn\t1\t2\nAnn\t1\tBob\t1\nBob\t1\tCy\t1\n")
    refused("eval.py", run, "--pairs=bad.txt", images, cwd=tmp_path, naming=["Ann_0009", "bad.txt"])
    refused("eval.py", run, "--pairs=bad.txt", cwd=tmp_path, naming=["--images"])
    refused("eval.py", run, "--fars=0.1,x", cwd=tmp_path, naming=["--fars"])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    message = refused(
        "train.py",
        *SMALL,
        "--config.optimizer.learning_rate=1e38",
        "--config.optimizer.warmup=0",
        "--workdir=run",
        cwd=tmp_path,
        naming=["step", "learning_rate"],
    )
    assert "nan" in message or "inf" in message
