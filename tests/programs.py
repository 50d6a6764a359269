"""Runs of train.py and eval.py as a person starts them, small enough for a test."""

import atexit
import functools
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from tests.environment import surroundings

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
_FORKS = """
import json, os, runpy, sys, warnings
import facejax.data, facejax.evaluation, facejax.models, facejax.objectives
import facejax.checkpoints.orbax, facejax.training.log, facejax.training.from_config
warnings.filterwarnings("ignore", "os.fork")  # of threads that do not run yet
for line in sys.stdin:
    cwd, environment, files, sys.argv = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        for stream, file in enumerate(files, start=1):
            os.dup2(os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@functools.cache
def _server():
    """One for this process; it ends when its input does."""
    command, pipe = [sys.executable, "-c", _FORKS], subprocess.PIPE
    server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=surroundings(1))
    atexit.register(server.communicate)
    return server


def fork(name, *arguments, cwd, devices=1):
    """As `program`, from a copy of a process that has imported everything: half the time."""
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / stream for stream in ("stdout", "stderr")]
        line = [str(cwd), surroundings(devices), list(map(str, files))]
        server = _server()
        server.stdin.write(json.dumps([*line, [str(ROOT / name), *arguments]]) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, *(f.read_text() for f in files))


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
