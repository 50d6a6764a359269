"""The package as it is imported: its version, its losses, and nothing done on the way."""

import os
import pathlib
import subprocess
import sys

import facejax

ROOT = pathlib.Path(__file__).parents[1]


def test_an_import_brings_the_losses_and_starts_no_device():
    """The number of CPU devices can't be set any more once JAX has started its devices."""
    script = (
        "import facejax, jax; jax.config.update('jax_num_cpu_devices', 3); "
        "print(facejax.losses.arcface.__name__, facejax.__version__, len(jax.devices()))"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["arcface", facejax.__version__, "3"], result.stderr


def test_the_version_is_said_once():
    project = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project
    assert facejax.__version__ not in project
    assert f"## [{facejax.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_type_checkers_are_told_that_it_is_typed():
    assert (ROOT / "facejax" / "py.typed").is_file()
