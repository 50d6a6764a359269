"""Runs of train.py and eval.py as a person starts them, small enough for a test."""

import pathlib
import subprocess
import sys

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
