"""A plain PyTorch head, to be timed beside facejax's.

Needs the extra `bench`. Nothing but `benchmarks/head.py` imports this.
"""

from collections.abc import Callable

import torch  # noqa: TID251
from torch.nn import functional  # noqa: TID251


def build(*, classes: int, batch: int, dim: int, threads: int) -> Callable[[], None]:
    """A function that runs forward and backward of an eager ArcFace head once, in float32.

    Args:
      classes: rows of the class weights.
      batch: embeddings per step.
      dim: length of an embedding.
      threads: that PyTorch may use.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    embeddings = torch.randn(batch, dim, requires_grad=True)
    weights = torch.empty(classes, dim).normal_(std=0.01).requires_grad_()
    labels = torch.randint(0, classes, (batch,))

    def run() -> None:
        embeddings.grad = weights.grad = None
        cosines = functional.linear(functional.normalize(embeddings), functional.normalize(weights))
        own = cosines.gather(1, labels[:, None])
        margined = torch.cos(torch.acos(own.clamp(-1 + 1e-7, 1 - 1e-7)) + 0.5)
        logits = 64 * cosines.scatter(1, labels[:, None], margined)
        functional.cross_entropy(logits, labels).backward()

    return run


def version() -> str:
    """For the report."""
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
