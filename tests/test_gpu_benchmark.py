"""What `python benchmarks/gpu` judges by, and that a measurement that fails is one row of it."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.gpu import reference as in_benchmark
from benchmarks.gpu.child import Child
from tests import reference, reference_adaptive

ROOT = pathlib.Path(__file__).parents[1]
STATES = {
    "curricularface": (in_benchmark.CURRICULUM,),
    "adaface": (in_benchmark.STATISTICS,),
    "sphereface2": (in_benchmark.BIAS,),
}
ENVIRONMENT = {"JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize("name", in_benchmark.FORMULAS)
def test_its_float64_losses_and_gradients_are_those_of_the_loops(name):
    rng = np.random.default_rng(3)
    embeddings, weights = rng.normal(size=(4, 5)), rng.normal(size=(6, 5))
    embeddings *= np.array([[2.0], [8.0], [14.0], [30.0]])
    labels = np.array([0, 2, 2, 5])
    module = reference if hasattr(reference, name) else reference_adaptive

    def loops(embeddings, weights, **more):
        result = getattr(module, name)(embeddings, weights, labels, *STATES.get(name, ()), **more)
        return result[0] if isinstance(result, tuple) else result

    found = in_benchmark.evaluate(name, embeddings, weights, labels)
    np.testing.assert_allclose(found[0], loops(embeddings, weights), rtol=1e-12)
    if name in ("circle", "curricularface", "adaface"):
        held = reference.with_detached_parts_held(
            lambda e, w, hold=reference.live: loops(e, w, hold=hold), embeddings, weights
        )
    else:
        held = loops
    wanted = (
        reference.central_differences(lambda e: held(e, weights).sum(), embeddings),
        reference.central_differences(lambda w: held(embeddings, w).sum(), weights),
    )
    for gradient, one in zip(found[1:], wanted, strict=True):
        np.testing.assert_allclose(gradient, one, atol=1e-6 * np.abs(one).max())


def test_a_measurement_that_fails_says_why_in_one_row():
    with Child("about", {"colour": 1}, seconds=100, environment=ENVIRONMENT) as child:
        (row,) = child.rows()
    assert row.passed is False
    assert row.note.startswith("TypeError: rows() got an unexpected keyword argument")


def test_a_measurement_that_takes_too_long_is_ended():
    with Child("about", {}, seconds=0.01, environment=ENVIRONMENT) as child:
        (row,) = child.rows()
    assert (row.passed, row.note) == (False, "stopped at its limit of 0 s")
    assert child.process.poll() is not None


def test_it_runs_as_a_folder_from_anywhere(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu"), "--parts=head,heads"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--parts has heads; it takes losses, head, step, parallel" in done.stderr
