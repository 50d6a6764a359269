"""PyTorch's training step on the same layers and the same batch, compiled, in bfloat16 autocast.

Channels last, as its convolutions are fastest on a GPU; images are flipped and normalised on the
device. Needs the extra `bench`.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any

import torch  # noqa: TID251
from torch import nn  # noqa: TID251
from torch.nn import functional  # noqa: TID251

from benchmarks import torch_twin
from benchmarks.gpu import training
from benchmarks.gpu.row import Row

MIB = 2**20


def rows(*, sizes: dict[str, Any], chunk: int, on_cpu: bool) -> Iterator[Row]:
    """As `step.rows`.

    Args:
      sizes: the fields of a `training.Sizes`.
      chunk: steps.
      on_cpu: whether a CPU will do where CUDA is missing; nothing is compiled there.
    """
    chosen = training.Sizes(**sizes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not on_cpu:
        yield Row("PyTorch", {}, note="not timed: it has no CUDA here")
        return
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    module = torch_twin.network(
        chosen.network, image_size=chosen.image_size, embedding_size=chosen.dim
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = nn.Parameter(0.01 * torch.randn(chosen.classes, chosen.dim, device=device))
    trained = [p for p in (*module.parameters(), weights) if p.requires_grad]
    tx = torch.optim.SGD(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": training.DECAY},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=training.RATE,
        momentum=training.MOMENTUM,
        fused=device.type == "cuda",
    )
    kind = torch.bfloat16 if chosen.dtype == "bfloat16" else torch.float32

    def mean_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = (images.permute(0, 3, 1, 2).float() - 127.5) / 127.5  # channels last as it is
        flips = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        x = torch.where(flips, x.flip(3), x)
        with torch.autocast(device.type, kind, enabled=kind != torch.float32):
            embeddings = module(x)
            cosines = functional.linear(
                functional.normalize(embeddings), functional.normalize(weights)
            )
        margin = torch.zeros_like(cosines, dtype=torch.float32)
        margin = margin.scatter(1, labels[:, None], training.MARGIN)
        return functional.cross_entropy(training.SCALE * (cosines.float() - margin), labels)

    compiled = torch.compile(mean_loss) if device.type == "cuda" else mean_loss
    given = {name: torch.from_numpy(array) for name, array in training.batch(chosen).items()}
    if device.type == "cuda":
        given = {name: tensor.pin_memory() for name, tensor in given.items()}

    def steps(count: int) -> None:
        for _ in range(count):
            images = given["image"].to(device, non_blocking=True)
            labels = given["label"].to(device, non_blocking=True).long()
            tx.zero_grad(set_to_none=True)
            compiled(images, labels).backward()
            tx.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    module.train()
    start = time.perf_counter()
    steps(3)
    ready = {"until ready s": time.perf_counter() - start}
    if device.type == "cuda":
        ready["peak MiB"] = torch.cuda.max_memory_allocated() / MIB
    yield Row("PyTorch", ready)
    for _ in sys.stdin:
        start = time.perf_counter()
        steps(chunk)
        yield Row("PyTorch", {"seconds": (time.perf_counter() - start) / chunk})
