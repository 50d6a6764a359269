"""Eight fake devices, strict promotion, and the real faces where they are to be found."""

import gc
import os
import pathlib
import threading

from tests.environment import surroundings

os.environ.update(surroundings(devices=8))

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile(
    "same every time",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("same every time")


@pytest.fixture(autouse=True)
def _no_readers_left():
    """Threads that read ahead end with their test: what libjpeg prints goes to all the process."""
    yield
    readers = [each for each in threading.enumerate() if each.name.startswith("grain-prefetch")]
    if readers:
        gc.collect()  # the iterators whose threads they are
    for reader in readers:
        reader.join(timeout=20)


@pytest.fixture
def real_faces() -> pathlib.Path:
    """The folder of real photographs, which is not part of the project."""
    default = pathlib.Path(__file__).parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("FACEJAX_DATA", default))
    if not (folder / "lfw_dev").is_dir():
        pytest.skip(f"no real faces at {folder}; set FACEJAX_DATA to a folder that has lfw_dev/")
    return folder
