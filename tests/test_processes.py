"""train.py over two real processes on loopback, against one process with as many devices."""

import contextlib
import functools
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading

import jax
import numpy as np
import optax
import pytest

from facejax import objectives
from facejax.errors import UserError
from facejax.training import distributed, from_config, state, step
from facejax.training.config import Config
from tests import toy
from tests.environment import surroundings

ROOT = pathlib.Path(__file__).parents[1]
SMALL = (
    "--config.parallel=shard_map",
    "--config.data.identities=14",  # no multiple of the devices: two rows of padding
    "--config.data.images_per_identity=4",
    "--config.data.image_size=32",
    "--config.model.width=0.125",
    "--config.model.embedding_size=16",
    "--config.batch_size=16",
    "--config.optimizer.learning_rate=0.0002",  # a high one makes much of the last bits
    "--config.optimizer.schedule=constant",
    "--config.optimizer.warmup=0",
    "--config.checkpoint.every=10",
    "--config.checkpoint.keep=3",
    "--config.evaluation.identities=8",
    "--config.evaluation.images_per_identity=4",
    "--config.evaluation.synthetic_pairs=60",
    "--config.evaluation.batch_size=16",
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def started(*arguments, home, devices):
    """A train.py that is gone afterwards, whatever happens, and after five minutes anyway."""
    process = subprocess.Popen(
        ["timeout", "-s", "KILL", "300", sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=home,
        env={**surroundings(devices), "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def train(workdir, *arguments, processes=1, devices=4):
    """What each of the processes printed; they have the devices between them."""
    arguments = (*SMALL, *arguments, f"--workdir={workdir}")
    told: list[tuple[str, ...]] = [()]
    if processes > 1:
        shared = (f"--coordinator=127.0.0.1:{free_port()}", f"--processes={processes}")
        told = [(*shared, f"--process={index}") for index in range(processes)]
    with contextlib.ExitStack() as stack:
        options = {"home": workdir.parent, "devices": devices // processes}
        running = [stack.enter_context(started(*arguments, *own, **options)) for own in told]
        # Each is read by a thread of its own, so that none waits on a full pipe.
        texts: list = [None] * processes
        readers = [
            threading.Thread(target=lambda i=i, p=p: texts.__setitem__(i, p.communicate()))
            for i, p in enumerate(running)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        for process, (_, complaint) in zip(running, texts, strict=True):
            assert process.returncode == 0, complaint[-3000:]
    return [said for said, _ in texts]


def arrays(workdir, number):
    """The arrays of a checkpoint by path, without the rows behind the classes."""
    import orbax.checkpoint as ocp

    reader, folder = ocp.PyTreeCheckpointer(), workdir / "checkpoints" / str(number) / "state"
    tree = reader.metadata(folder).item_metadata.tree
    on_host = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
        tree,
        is_leaf=lambda x: hasattr(x, "shape"),
    )
    leaves = jax.tree_util.tree_leaves_with_path(reader.restore(folder, restore_args=on_host))
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return {name: leaf[:14] if "weights" in name else leaf for name, leaf in named.items()}


def assert_close(got, expected, tolerance):
    """To a share of the leaf's largest value, or of 0.01: some leaves are zero but for rounding."""
    assert got.keys() == expected.keys()
    for name, leaf in expected.items():
        bound = tolerance * max(float(np.abs(leaf).max()), 1e-2)
        np.testing.assert_allclose(got[name], leaf, rtol=0, atol=bound, err_msg=name)


def metrics(workdir):
    """Loss and gradient norm by step."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: (line["loss"], line["gradient_norm"]) for line in lines if "loss" in line}


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """20 steps on 2 x 2 devices and 4 more on 1 x 4, or the other way round, or all on 1 x 4."""
    one, two, back = tmp_path / "one", tmp_path / "two", tmp_path / "back"
    train(one, "--config.steps=24")
    first, second = train(two, "--config.steps=20", processes=2)
    assert "on 4 cpu device(s)" in first
    assert "trained, step 20" in first
    assert "step" not in second, "a process other than the first prints"
    assert sorted(path.name for path in (two / "checkpoints").iterdir()) == ["10", "20"]

    shutil.copytree(one, back)
    shutil.rmtree(back / "checkpoints" / "24")
    assert "going on from step 20" in train(two, "--config.steps=24")[0]
    assert "going on from step 20" in train(back, "--config.steps=24", processes=2)[0]

    expected = metrics(one)
    for other in (two, back):
        found = metrics(other)
        assert list(found) == list(expected) == [10, 20, 24], "lines are missing or there twice"
        np.testing.assert_allclose(found[10], expected[10], rtol=1e-5)
        # Later on a PReLU may have seen the other side of zero, for a last bit of its input.
        np.testing.assert_allclose([found[20], found[24]], [expected[20], expected[24]], rtol=1e-2)
    assert_close(arrays(two, 10), arrays(one, 10), 1e-3)
    weights = "['params']['head']['weights']"
    trained, before = arrays(one, 24)[weights], arrays(one, 10)[weights]
    for other in (two, back):
        apart = np.linalg.norm(arrays(other, 24)[weights] - trained)
        assert apart < 0.02 * np.linalg.norm(trained - before)


def test_the_class_weights_are_made_where_they_are_kept():
    """No device ever holds all of them, not even while they are drawn."""
    classes, network, objective = 100_003, toy.network(), objectives.objective("cosface")
    create = functools.partial(
        state.create,
        network=network,
        objective=objective,
        tx=optax.sgd(0.1, momentum=0.9),
        num_classes=classes,
        image_size=toy.SIZE,
        embedding_size=toy.DIM,
        slices=8,
    )
    placed = step.placed_shapes(jax.eval_shape(create, jax.random.key(0)), jax.devices())
    places = jax.tree.map(lambda leaf: leaf.sharding, placed)
    made = jax.jit(create, out_shardings=places).lower(jax.random.key(0)).compile()
    memory, whole = made.memory_analysis(), classes * toy.DIM * 4
    assert memory is not None
    assert memory.output_size_in_bytes < 0.3 * whole  # an eighth of weights and of momentum
    assert memory.temp_size_in_bytes < 0.5 * whole


# A person's mistakes


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (("10.0.0.1:1234", None, None), "processes and process"),
        (("10.0.0.1:1234", 2, None), "processes and process"),
        ((None, 2, 0), "all of coordinator"),
        ((None, None, 1), "all of coordinator"),
        (("10.0.0.1:1234", 2, 2), "process=2 is not one of processes=2"),
        (("10.0.0.1:1234", 2, -1), "process=-1 is not one of processes=2"),
        (("10.0.0.1", 2, 0), "coordinator=10.0.0.1 is not HOST:PORT"),
        ((":1234", 2, 0), "is not HOST:PORT"),
        (("10.0.0.1:ssh", 2, 1), "is not HOST:PORT"),
        (("10.0.0.1:0", 2, 1), "is not HOST:PORT"),
    ],
)
def test_arguments_that_do_not_fit(told, sentence):
    with pytest.raises(UserError, match=sentence):
        distributed.initialize(*told)


def test_nobody_at_the_coordinator():
    with pytest.raises(UserError, match=r"nobody answers at coordinator=127\.0\.0\.1"):
        distributed.initialize(f"127.0.0.1:{free_port()}", 2, 1, timeout=0)


@pytest.mark.parametrize("fault", ["no number", "port taken"])
def test_train_stops_with_a_sentence(tmp_path, fault):
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::", 0))
        listener.listen()
        told = [f"--coordinator=127.0.0.1:{listener.getsockname()[1]}", "--processes=2"]
        if fault == "port taken":
            told.append("--process=0")
        with started(*told, home=tmp_path, devices=2) as process:
            _, complaint = process.communicate()
    assert process.returncode == 2, complaint
    assert "Traceback" not in complaint
    last = complaint.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert ("free port" if fault == "port taken" else "give the others too") in last
    assert "--coordinator=HOST:PORT, --processes and --process" in last
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"parallel": "pmap"}, "config.parallel=shard_map"),
        ({"parallel": "shard_map", "devices": 2}, "leave it at 0"),
        ({"parallel": "shard_map", "batch_size": 12}, "not a multiple of 8 device"),
    ],
)
def test_a_config_for_one_process_is_refused(monkeypatch, fields, sentence):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match=sentence):
        from_config.devices(Config(**fields))


# What the environment says: JAX is asked only where it says that there are several processes.


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({}, 1),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, 4),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "4"}, 1),  # a shell within an allocation
        ({"SLURM_NTASKS": "4"}, 1),  # a batch script, without srun
        ({"OMPI_COMM_WORLD_SIZE": "3"}, 3),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, 1),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, 1),  # there is no TPU
        ({"TPU_ML_PLATFORM": "JAX", "TPU_WORKER_HOSTNAMES": "localhost"}, 1),
        ({"TPU_ML_PLATFORM": "JAX", "TPU_WORKER_HOSTNAMES": "a,b,c,d"}, 4),
        ({"TPU_ML_PLATFORM": "JAX", "TPU_PROCESS_ADDRESSES": "a:1,b:1"}, 2),
        (
            {"TPU_ML_PLATFORM": "JAX", "TPU_WORKER_HOSTNAMES": "a,b", "MEGASCALE_NUM_SLICES": "2"},
            4,
        ),
    ],
)
def test_what_the_launcher_says(monkeypatch, environment, processes):
    called = launched(monkeypatch, environment)
    assert called == ([] if processes == 1 else [processes])


@pytest.mark.parametrize(("workers", "processes"), [("1.1.1.1", 1), ("n:1:1.1.1.1,n:2:1.1.1.2", 2)])
def test_what_a_tpu_vm_is_told(monkeypatch, workers, processes):
    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.endswith("attributes/worker-network-endpoints")
            self.send_response(200 if known and self.headers["Metadata-Flavor"] else 404)
            self.end_headers()
            self.wfile.write(workers.encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        environment = {"TPU_ML_PLATFORM": "JAX", "GCE_METADATA_IP": address}
        called = launched(monkeypatch, environment)
        server.shutdown()
    assert called == ([] if processes == 1 else [processes])
    assert launched(monkeypatch, environment) == []  # nobody answers: another kind of machine


def launched(monkeypatch, environment):
    """The number of processes, in a list, if JAX was asked to find them."""
    called = []
    with monkeypatch.context() as patch:
        for variable in list(os.environ):
            if variable.startswith(("SLURM_", "OMPI_", "TPU_", "MEGASCALE_")):
                patch.delenv(variable)
        patch.setattr(
            jax.distributed, "initialize", lambda **_: called.append(distributed._launched())
        )
        for variable, value in environment.items():
            patch.setenv(variable, value)
        distributed.initialize(None, None, None)
    return called


def test_a_launcher_that_jax_does_not_know_is_said(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")

    def initialize(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match="say who is who with coordinator"):
        distributed.initialize(None, None, None)
