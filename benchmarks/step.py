"""The time of a training step and of inference, on its own or beside PyTorch.

    python benchmarks/step.py --network=mobilefacenet --batch=32 --image_size=112 [--torch]
    python benchmarks/step.py --network=iresnet50 --batch=128 --dtype=bfloat16    # on a GPU

A step is forward, backward and SGD with momentum, under a CosFace head of 1,000 classes, on random
images. With --torch (extra `bench`) an eager PyTorch twin of the same layers takes turns with it,
step by step, in both memory formats; the ratio is to the better one.
"""

import datetime
import functools
import os
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from facejax import compilation, losses, models

NETWORK = flags.DEFINE_enum("network", "mobilefacenet", models.NETWORKS, "which network")
BATCH = flags.DEFINE_integer("batch", 32, "images per step", lower_bound=1)
IMAGE_SIZE = flags.DEFINE_integer("image_size", 112, "side in pixels, a multiple of 16")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "of the computation")
REPEATS = flags.DEFINE_integer("repeats", 10, "timed rounds, after one that is not", lower_bound=1)
TORCH = flags.DEFINE_bool("torch", False, "time the PyTorch twin too (float32, on the CPU)")
PLAIN = flags.DEFINE_bool("plain", False, "leave out facejax's gradients and compile options")

EMBEDDING_SIZE, CLASSES = 512, 1000


def peak_rss() -> float:
    """The largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[jax.stages.Compiled, str]:
    """The program, and a line on its compile time and memory."""
    start = time.perf_counter()
    program = compilation.compile_for(function, *arguments)
    seconds = time.perf_counter() - start
    memory: Any = program.memory_analysis()
    parts = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)
    peak = (sum(parts) - memory.alias_size_in_bytes) / 2**20
    return program, f"compiled in {seconds:.1f} s, {peak:.0f} MiB of arrays at most"


def jax_runners(images: jax.Array, labels: jax.Array) -> dict[str, Callable[[], Any]]:
    """A training step and an inference; compiled, and reported on, here."""
    network = models.network(NETWORK.value, embedding_size=EMBEDDING_SIZE, dtype=DTYPE.value)
    tx = optax.sgd(0.01, momentum=0.9)

    def init(key):
        variables = network.init(key, images[:1])
        head = 0.01 * jax.random.normal(key, (CLASSES, EMBEDDING_SIZE))
        params = {"backbone": variables["params"], "head": head}
        return params, variables["batch_stats"], tx.init(params)

    def step(state, images, labels):
        params, batch_stats, opt_state = state

        def loss(params):
            variables = {"params": params["backbone"], "batch_stats": batch_stats}
            embeddings, new_stats = network.apply(variables, images, train=True)
            return jnp.mean(losses.cosface(embeddings, params["head"], labels)), new_stats

        gradients, new_stats = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), new_stats, opt_state

    def infer(variables, images):
        return network.apply(variables, images, train=False)[0]

    # Inference has a copy of the variables, for the step takes the state's memory.
    state = compilation.jit(init)(jax.random.key(0))
    variables = jax.tree.map(jnp.copy, {"params": state[0]["backbone"], "batch_stats": state[1]})
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{NETWORK.value}: {count / 1e6:.3f} M parameters")
    run_step, about_step = compiled(jax.jit(step, donate_argnums=0), state, images, labels)
    run_infer, about_infer = compiled(infer, variables, images)
    print(f"training step: {about_step}\ninference: {about_infer}")
    holder = [state]

    def train():
        holder[0] = run_step(holder[0], images, labels)
        jax.block_until_ready(holder[0])

    return {"train": train, "infer": lambda: jax.block_until_ready(run_infer(variables, images))}


def measure(runners: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds per call, by name; the runners take turns, the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats + 1):
        for name, run in runners.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in times.items()}


def describe(times: dict[str, list[float]]) -> None:
    """Prints one row per runner, and the ratio of facejax to the better PyTorch."""
    for name, values in times.items():
        median = statistics.median(values)
        print(
            f"  {name:<24} {1000 * median:9.1f} ms {BATCH.value / median:9.0f} images/s"
            f"   (fastest {1000 * min(values):.1f} ms)"
        )
    twins = {name: values for name, values in times.items() if name != "facejax"}
    if twins:
        best = min(twins, key=lambda name: statistics.median(twins[name]))
        ratios = [a / b for a, b in zip(times["facejax"], twins[best], strict=True)]
        medians = statistics.median(times["facejax"]) / statistics.median(twins[best])
        print(
            f"  facejax / {best}: {medians:.2f} of medians, "
            f"{statistics.median(ratios):.2f} median of rounds"
        )


def main(_) -> None:
    """Prints the report."""
    if PLAIN.value:
        compilation.tuned_gradients = lambda: False
        compilation.compiler_options = dict
    rng = np.random.default_rng(0)
    shape = (BATCH.value, IMAGE_SIZE.value, IMAGE_SIZE.value, 3)
    images = rng.uniform(-1, 1, shape).astype(np.float32)
    labels = rng.integers(0, CLASSES, BATCH.value).astype(np.int32)
    print(f"$ {shlex.join(['python', *sys.argv])}")
    print(
        f"{datetime.date.today()}, jax {jax.__version__} on {jax.devices()[0].device_kind}, "
        f"{len(os.sched_getaffinity(0))} CPU cores, {DTYPE.value}"
    )
    ours = jax_runners(jnp.asarray(images), jnp.asarray(labels))
    for run in ours.values():
        run()
    print(f"resident memory of the process at its peak: {peak_rss():.0f} MiB")
    twins: dict[str, dict[str, Callable[[], Any]]] = {}
    if TORCH.value:
        import torch_twin

        build = functools.partial(
            torch_twin.runners,
            NETWORK.value,
            images,
            labels,
            embedding_size=EMBEDDING_SIZE,
            num_classes=CLASSES,
            threads=len(os.sched_getaffinity(0)),
        )
        for name, channels_last in (("PyTorch NHWC", True), ("PyTorch NCHW", False)):
            train, infer = build(channels_last=channels_last)
            twins[name] = {"train": train, "infer": infer}
        count = torch_twin.parameter_count(
            NETWORK.value, image_size=IMAGE_SIZE.value, embedding_size=EMBEDDING_SIZE
        )
        print(f"{torch_twin.versions()}: {count / 1e6:.3f} M parameters")
    for kind, title in (("train", "training step"), ("infer", "inference")):
        runners = {"facejax": ours[kind]} | {name: twin[kind] for name, twin in twins.items()}
        print(f"{title}, batch {BATCH.value}, median of {REPEATS.value}")
        describe(measure(runners, REPEATS.value))


if __name__ == "__main__":
    app.run(main)
