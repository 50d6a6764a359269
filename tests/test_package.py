"""The package as it is imported: its version, its losses, and nothing done on the way."""

import os
import pathlib
import subprocess
import sys

import pytest

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


def test_the_wheel_has_every_file_of_the_package():
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    packed = {
        file.distribution_path for file in wheel.WheelBuilder(str(ROOT)).recurse_included_files()
    }
    assert {"facejax/py.typed", "facejax/recognition/shipped_thresholds.json"} < packed
    files = (path for path in (ROOT / "facejax").rglob("*") if path.is_file())
    made = ("__pycache__", ".")
    assert packed == {
        str(path.relative_to(ROOT))
        for path in files
        if not any(part.startswith(made) for part in path.relative_to(ROOT).parts)
    }
