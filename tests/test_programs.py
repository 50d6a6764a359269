"""train.py and eval.py as a person runs them: to the end, again, further, and wrongly."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
SMALL = (
    "--config.data.identities=12",
    "--config.data.images_per_identity=4",
    "--config.data.image_size=32",
    "--config.model.width=0.125",
    "--config.model.embedding_size=16",
    "--config.batch_size=16",
    "--config.steps=6",
    "--config.checkpoint.every=3",
    "--config.evaluation.every=3",
    "--config.evaluation.identities=8",
    "--config.evaluation.images_per_identity=4",
    "--config.evaluation.synthetic_pairs=60",
    "--config.evaluation.batch_size=16",
)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A home of their own for all programs, so that they share compiled programs."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("FACEJAX_HOME", str(folder / "facejax"))
        yield folder


def surroundings(devices):
    environment = dict(os.environ, JAX_PLATFORMS="cpu")
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return environment


def program(name, *arguments, cwd, devices=1):
    return subprocess.run(
        [sys.executable, str(ROOT / name), *arguments],
        cwd=cwd,
        env=surroundings(devices),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


# Imports once what takes long in every start, then starts programs as copies of itself.
FORKS = """
import json, os, runpy, sys, warnings
import facejax.data, facejax.evaluation, facejax.models, facejax.objectives
import facejax.checkpoints.orbax, facejax.training.log, facejax.training.from_config
warnings.simplefilter("ignore")  # JAX warns of forks, because of threads that do not run yet
for line in sys.stdin:
    cwd, errors, sys.argv = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(cwd)
        os.dup2(os.open(errors, os.O_CREAT | os.O_WRONLY), 2)
        os.dup2(2, 1)
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def fork(home, tmp_path_factory):
    """As `program` on two devices, but for what it prints."""
    errors = tmp_path_factory.mktemp("fork") / "stderr"
    command, pipes = [sys.executable, "-c", FORKS], {"stdin": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=surroundings(2), **pipes) as server:

        def run(name, *arguments, cwd, devices=2):
            errors.unlink(missing_ok=True)
            line = [str(cwd), str(errors), [str(ROOT / name), *arguments]]
            server.stdin.write(json.dumps(line) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            return subprocess.CompletedProcess(arguments, status, "", errors.read_text())

        yield run


def done(finished):
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def parameters(workdir):
    """All arrays of the newest checkpoint."""
    import orbax.checkpoint as ocp

    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    restored = ocp.PyTreeCheckpointer().restore(newest / "state")
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(restored)]


def tree(folder):
    """Every file below a folder and what is in it."""
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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
    said = done(program("train.py", *SMALL, "--workdir=run", cwd=cwd))
    assert "is complete: 6 steps" in said
    assert tree(cwd / "run") == before


def test_a_run_cut_short_ends_with_the_same_bits(trained, tmp_path):
    cwd, _ = trained
    shutil.copytree(cwd / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    said = done(program("train.py", *SMALL, "--workdir=run", cwd=tmp_path))
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
    said = done(program("train.py", *more, cwd=tmp_path, devices=4))
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
    said = done(program("train.py", *arguments, cwd=tmp_path))
    assert "12 images of 3 identities" in said
    assert "trained, step 6" in said
    said = done(
        program(
            "eval.py", "--checkpoint=run", "--pairs=x/pairs.txt", "--images=x/faces", cwd=tmp_path
        )
    )
    assert "pairs.txt: 6 pairs" in said


# A person's mistakes: one sentence that names the thing and the remedy, nothing written.


def refused(name, *arguments, cwd, naming, devices=1, start=program):
    before = tree(cwd)
    finished = start(name, *arguments, cwd=cwd, devices=devices)
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
    done(program("train.py", *arguments, cwd=tmp_path, devices=2))
    written = json.loads((tmp_path / "run" / "config.json").read_text())["loss"]
    assert {field: value for field, value in written.items() if value is not None} == {"name": name}


@pytest.mark.slow
def test_ways_to_train_the_head_give_the_same_run(tmp_path):
    """Streamed and fused is dense, also going on in another way and on other devices."""
    losses = {}
    for name, devices, ways in (
        ("dense", 1, ["block_size=-1"]),
        ("fused", 4, ["block_size=2", "fused=true"]),
        ("unsplit", 2, ["block_size=2", "sharded=false"]),
        ("everything", 2, ["sample_rate=1.0"]),
    ):
        given = [f"--config.head.{way}" for way in ways]
        for step in (3, 6):  # then goes on densely, on two devices
            arguments = [*SMALL, "--config.checkpoint.every=3", f"--workdir={name}", *given]
            arguments += [f"--config.steps={step}", "--config.optimizer.schedule=constant"]
            arguments += ["--config.optimizer.warmup=0", "--config.optimizer.learning_rate=0.01"]
            done(program("train.py", *arguments, cwd=tmp_path, devices=devices))
            given, devices = [], 2
        lines = [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").open()]
        losses[name] = [line["loss"] for line in lines if "loss" in line]
    for name, values in losses.items():
        np.testing.assert_allclose(values, losses["dense"], rtol=1e-3, err_msg=name)


def test_a_sampled_run_trains(tmp_path):
    more = ("--config.data.identities=80", "--config.data.images_per_identity=1")
    arguments = (*SMALL, *more, "--config.steps=2", "--config.head.sample_rate=0.5")
    arguments += ("--config.head.lazy_decay", "--config.head.dtype=bfloat16", "--workdir=run")
    done(program("train.py", *arguments, cwd=tmp_path, devices=2))


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
        (["--config.data.kind=mxnet"], ["mxnet", "synthetic, folder or dataset"]),
        (["--config.data.kind=folder"], ["data.path"]),
        (["--config.data.kind=folder", "--config.data.path=none"], ["none"]),
        (["train"], ["train", "--config.seed"]),
        (["--config.augment.flip=2"], ["config.augment", "flip"]),
        (["--config.data.image_size=50"], ["config.data", "image_size 50"]),
    ],
)
def test_train_refuses_bad_fields(fork, tmp_path, arguments, naming):
    everything = [*arguments, *SMALL, "--workdir=run"]  # --config must come before its fields
    if any(
        given.startswith(arguments[0].partition("=")[0] + "=") for given in SMALL
    ):  # the last wins
        everything = [*SMALL, "--workdir=run", *arguments]
    refused("train.py", *everything, cwd=tmp_path, naming=naming, start=fork)


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
