"""Recognition: what each part of it takes, beside the best that does the same.

    python benchmarks/recognition.py [--parts=embed] [--rounds=15]

embed: a batch of 112x112 crops through SFace, ours and onnxruntime (extra `onnx`) on the same file,
its weights dequantized to float32 and its batch symbolic. The two take turns; each row is the
median, with the least and the most.
"""

import datetime
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from facejax import recognition
from facejax.recognition import packages
from facejax.recognition.onnx_file import read_tensors

PARTS = flags.DEFINE_list("parts", ["embed"], "which parts to time")
BATCH = flags.DEFINE_integer("batch", 32, "crops in a batch", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 15, "timed rounds, after one that is not", lower_bound=1)


def in_turns(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, a round after the other, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for counted in [False] + [True] * rounds:
        for name, function in work.items():
            start = time.perf_counter()
            function()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def sface_in_float32() -> tuple[Any, str]:
    """A session of onnxruntime on SFace's file in float32, any batch; and its input's name."""
    import onnx
    import onnxruntime

    path = packages.locate(packages.SFACE)
    model = onnx.load(str(path))
    graph, tensors = model.graph, read_tensors(path.read_bytes(), path)
    kept = [node for node in graph.node if not set(node.output) & tensors.keys()]
    used = {name for node in kept for name in node.input}
    (image,) = (each for each in graph.input if each.name in used and each.name not in tensors)
    floats = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(tensor), name)
        for name, tensor in tensors.items()
        if name in used
    ]
    for value in (image, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    plain = onnx.helper.make_graph(kept, graph.name, [image], graph.output, floats)
    model = onnx.helper.make_model(plain, opset_imports=model.opset_import)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, image.name


def embed() -> None:
    """Times a batch through SFace, and says how far the two are apart."""
    recognizer = recognition.open("sface")
    session, name = sface_in_float32()
    shape = (BATCH.value, *recognizer.card.shape)
    crops = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def ours() -> np.ndarray:
        return recognizer.embed(crops, batch_size=BATCH.value, unit=False)

    def theirs() -> np.ndarray:
        return session.run(None, {name: crops.transpose(0, 3, 1, 2).astype(np.float32)})[0]

    apart = np.abs(ours() - theirs()).max()
    seconds = in_turns({"facejax": ours, "onnxruntime": theirs}, ROUNDS.value)
    print(f"embed: SFace, {ROUNDS.value} batches of {BATCH.value}, at most {apart:.1e} apart\n")
    print("| ms a face    | median |  least |   most |")
    print("|--------------|-------:|-------:|-------:|")
    for who, times in seconds.items():
        each = [1e3 * second / BATCH.value for second in times]
        columns = " | ".join(f"{f(each):6.2f}" for f in (statistics.median, min, max))
        print(f"| {who:12} | {columns} |")
    pairs = zip(*seconds.values(), strict=True)
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    print(f"\nfacejax / onnxruntime, round by round: {ratio:.2f}")


def main(_) -> None:
    """Runs the parts."""
    parts: dict[str, Callable[[], None]] = {"embed": embed}
    print(f"$ {shlex.join(['python', *sys.argv])}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {load}")
    print(f"{jax.devices()[0].device_kind}\n")
    for part in PARTS.value:
        if part not in parts:
            raise app.UsageError(f"there is no part {part}; choose of {', '.join(parts)}")
        parts[part]()


if __name__ == "__main__":
    app.run(main)
