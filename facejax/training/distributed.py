"""One run over several processes, started by hand or by what launches jobs on a cluster."""

import os
import socket
import time
import urllib.error
import urllib.request

import jax
import orbax.checkpoint as ocp

from facejax.errors import UserError

# Entries are the workers of a TPU slice, as JAX reads them too.
_WORKERS = "http://{}/computeMetadata/v1/instance/attributes/worker-network-endpoints"


def initialize(
    coordinator: str | None, processes: int | None, process: int | None, *, timeout: int = 300
) -> None:
    """Makes this process one of several; to be called before anything touches a device.

    Without arguments it is JAX that finds the others, and only where the environment shows more
    than one process: SLURM and Open MPI with several tasks, a TPU slice with several workers.
    Elsewhere nothing happens.

    Args:
      coordinator: `host:port` of process 0, the port free there.
      processes: how many there are.
      process: which one this is, 0 <= process < processes.
      timeout: seconds to wait for the others.

    Raises:
      UserError: arguments that don't fit, or no connection.
    """
    told = (coordinator, processes, process)
    if told == (None, None, None):
        if _launched() > 1:
            try:
                jax.distributed.initialize(initialization_timeout=timeout)
            except (ValueError, RuntimeError, KeyError) as error:
                raise UserError(
                    f"the launcher started {_launched()} processes, but JAX does not find them "
                    f"({error}); say who is who with coordinator, processes and process"
                ) from error
        return
    if coordinator is None or processes is None or process is None:
        raise UserError(
            "several processes take all of coordinator=HOST:PORT, processes and process; give the "
            "others too"
        )
    if not 0 <= process < processes:
        raise UserError(f"process={process} is not one of processes={processes}; count them from 0")
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(
            f"coordinator={coordinator} is not HOST:PORT, as in coordinator=10.0.0.1:1234"
        )
    # Both are looked at first, as JAX would bring the process down without an exception.
    if process > 0:
        _wait_for(host.strip("[]"), int(port), timeout)
    else:
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise UserError(
                f"process 0 can't listen at coordinator={coordinator} ({error}); give a free port"
            ) from error
    jax.distributed.initialize(
        coordinator,
        processes,
        process,
        cluster_detection_method="deactivate",  # else a SLURM task would hide its other GPUs
        initialization_timeout=timeout,
    )


def barrier(where: str, *, timeout: int = 3600) -> None:
    """Waits until all processes are at a place, which each passes once.

    To be called where one may be long behind another, as after compiling: on CPUs the first
    collective between them gives up after half a minute.
    """
    ocp.multihost.get_barrier_sync_fn()(key=where, timeout_ms=1000 * timeout)


def say(text: str) -> None:
    """Prints in one process of all."""
    if jax.process_index() == 0:
        print(text)


def _wait_for(host: str, port: int, timeout: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"nobody answers at coordinator={host}:{port} ({error}); start process 0 "
                    "there, or correct the address"
                ) from error
        time.sleep(0.2)


def _launched() -> int:
    """How many processes the environment says there are; 1 where it says nothing."""
    # Set by srun alone: SLURM_NTASKS stands in the environment of a batch script too, which is one
    # process whatever was asked for.
    for variable in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if os.environ.get(variable, "").isdecimal():
            return int(os.environ[variable])
    if "TPU_ML_PLATFORM" not in os.environ:  # which JAX sets on a TPU VM
        return 1
    workers = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
    if not workers:
        address = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
        request = urllib.request.Request(
            _WORKERS.format(address), headers={"Metadata-Flavor": "Google"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                workers = answer.read().decode()
        except (urllib.error.URLError, OSError):  # no such machine
            return 1
    slices = os.environ.get("MEGASCALE_NUM_SLICES", "1")
    return len(workers.split(",")) * int(slices)
