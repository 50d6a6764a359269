"""The environment of the tests and of the programs that they start; set before JAX is imported."""

import importlib.metadata
import os


def surroundings(devices: int) -> dict[str, str]:
    """That of this process, with so many fake CPU devices and compilations that are quick."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    # Compiling takes most of the time. With 0 the tests see the optimised code, as a run does.
    environment.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    flags = [environment.get("XLA_FLAGS", ""), f"--xla_force_host_platform_device_count={devices}"]
    if environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] != "0":
        # One module per program: dividing it for more threads costs more than it saves here.
        flags.append("--xla_cpu_parallel_codegen_split_count=1")
        if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones don't know it
            # The older emitters: the newer build an MLIR pipeline per fusion, half of the time.
            flags.append("--xla_cpu_use_fusion_emitters=false")
    environment["XLA_FLAGS"] = " ".join(flags)  # of two that disagree the later counts
    return environment
