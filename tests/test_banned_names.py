"""Ruff reports the names that pyproject.toml bans (`banned-api`), and the sources have none."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

BANNED = (
    "jax.core.Tracer",
    "isinstance(jnp, jax.core.ShapedArray)",
    "import jax.core",
    "from jax.core import Tracer",
    "from jax import core",
    "jax.device_put_replicated(1, jax.devices())",
    "from jax import device_put_sharded",
    "jax.lax.pvary(1, 'd')",
    "lax.pvary(1, 'd')",
    "from jax.lax import pvary",
    "jnp.empty((3,))",
    "jax.numpy.empty_like(1)",
    "from jax.numpy import empty",
    "from jax.experimental.shard_map import shard_map",
    "from jax.experimental import shard_map",
    "import pickle",
    "from torch.nn import functional",
    "import tensorflow as tf",
    "import mxnet",
)
FINE = (
    "np.empty((3,))",
    "jax.tree.map(jnp.sum, [1])",
    "jax.extend.core.jaxpr_as_fun",
    "from jax import shard_map",
    "import tensorflow_datasets",
    "'jax.core in a text is no code'",
)


def ruff(*arguments: str, text: str = "") -> str:
    """What `ruff check` prints, by the project's settings."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", *arguments]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def flagged() -> set[str]:
    """Which of BANNED and FINE ruff reports, where all of them stand in one module of facejax."""
    lines = ["import jax", "import jax.numpy as jnp", "import numpy as np", "from jax import lax"]
    for snippet in BANNED + FINE:
        lines += ["def planted():", f"    {snippet}"]
    given = ("--output-format=json", "--stdin-filename=facejax/planted.py", "-")
    found = json.loads(ruff(*given, text="\n".join(lines)))
    rows = {one["location"]["row"] for one in found if one["code"] == "TID251"}
    return {lines[row - 1].strip() for row in rows}


@pytest.mark.parametrize("snippet", BANNED + FINE)
def test_ruff_reports_the_banned_and_no_others(flagged, snippet):
    assert (snippet in flagged) == (snippet in BANNED)


def test_ruff_finds_none_in_the_sources():
    assert ruff("--select=TID251", ".") == "All checks passed!\n"
