"""The machine and the versions."""

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator

from benchmarks.gpu.row import Row

MIB = 2**20


def rows() -> Iterator[Row]:
    """One row, whose note is the device's name; no memory is known of a CPU."""
    import jax  # not by the process that only wants the versions

    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    yield Row(device.device_kind, {} if limit is None else {"memory MiB": limit / MIB})


def versions() -> dict[str, str]:
    """Of what matters for the figures, without importing it."""
    found = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "optax", "torch"):
        there = importlib.util.find_spec(name) is not None
        found[name] = importlib.metadata.version(name) if there else "none"
    return found
