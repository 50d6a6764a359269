"""The networks of `facejax.models` layer for layer in PyTorch, to be timed beside them.

Needs the extra `bench`. Only `benchmarks/step.py --torch` and `benchmarks/gpu` import this.
"""

from collections.abc import Callable

import numpy as np
import torch  # noqa: TID251
from torch import nn  # noqa: TID251
from torch.nn import functional  # noqa: TID251

from facejax.models.iresnet import STAGES
from facejax.models.mobilefacenet import BOTTLENECKS


class _Block(nn.Module):
    """IResNet's BN - conv - BN - PReLU - conv - BN, added to the input or its projection."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            *_conv_norm(inputs, features, 3),
            nn.PReLU(features),
            *_conv_norm(features, features, 3, stride),
        )
        self.skip = nn.Sequential(*_conv_norm(inputs, features, 1, stride))
        self.project = stride > 1
        if not self.project:
            self.skip = nn.Sequential()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + (self.skip(x) if self.project else x)


class _Bottleneck(nn.Module):
    """MobileFaceNet's expansion, depthwise convolution and projection."""

    def __init__(self, inputs: int, inner: int, features: int, stride: int):
        super().__init__()
        self.residual = stride == 1 and inputs == features
        self.body = nn.Sequential(
            *_conv_norm(inputs, inner, 1),
            nn.PReLU(inner),
            *_conv_norm(inner, inner, 3, stride, groups=inner),
            nn.PReLU(inner),
            *_conv_norm(inner, features, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return x + y if self.residual else y


def _conv_norm(inputs: int, features: int, size: int, stride: int = 1, groups: int = 1):
    conv = nn.Conv2d(inputs, features, size, stride, size // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(features)


def _embedding_norm(size: int) -> nn.Module:
    norm = nn.BatchNorm1d(size)
    norm.weight.requires_grad = False
    return norm


def network(name: str, *, image_size: int, embedding_size: int) -> nn.Module:
    """The twin of `facejax.models.network(name)`; images are [B, 3, H, W]."""
    side = image_size // 16
    if name == "mobilefacenet":
        layers: list[nn.Module] = [*_conv_norm(3, 64, 3, 2), nn.PReLU(64)]
        layers += [*_conv_norm(64, 64, 3, groups=64), nn.PReLU(64)]
        inputs = 64
        for expansion, features, repeats, first_stride in BOTTLENECKS:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                layers.append(_Bottleneck(inputs, expansion * inputs, features, stride))
                inputs = features
        layers += [*_conv_norm(inputs, 512, 1), nn.PReLU(512)]
        layers += [nn.Conv2d(512, 512, side, groups=512, bias=False), nn.BatchNorm2d(512)]
        layers += [nn.Flatten(), nn.Linear(512, embedding_size, bias=False)]
    else:
        layers = [*_conv_norm(3, 64, 3), nn.PReLU(64)]
        inputs = 64
        for features, blocks in zip((64, 128, 256, 512), STAGES[name], strict=True):
            for block in range(blocks):
                layers.append(_Block(inputs, features, 2 if block == 0 else 1))
                inputs = features
        layers += [nn.BatchNorm2d(512), nn.Flatten(), nn.Linear(512 * side**2, embedding_size)]
    return nn.Sequential(*layers, _embedding_norm(embedding_size))


def parameter_count(name: str, *, image_size: int, embedding_size: int) -> int:
    """How many parameters the twin trains."""
    module = network(name, image_size=image_size, embedding_size=embedding_size)
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def runners(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    embedding_size: int,
    num_classes: int,
    channels_last: bool,
    threads: int,
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two functions: one eager training step (CosFace head, SGD with momentum); one inference.

    Args:
      name: of the network.
      images: float32 [B, H, W, 3].
      labels: int [B].
      embedding_size: of the network's output.
      num_classes: rows of the head.
      channels_last: PyTorch's memory format, else its usual one.
      threads: that PyTorch may use.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module = network(name, image_size=images.shape[1], embedding_size=embedding_size)
    module = module.to(memory_format=layout)
    head = nn.Parameter(torch.randn(num_classes, embedding_size) * 0.01)
    x = torch.tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    y = torch.tensor(labels, dtype=torch.long)
    trained = [p for p in (*module.parameters(), head) if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9)

    def train() -> None:
        module.train()
        cosines = functional.normalize(module(x)) @ functional.normalize(head).T
        logits = 64 * (cosines - 0.35 * functional.one_hot(y, num_classes))
        optimizer.zero_grad()
        functional.cross_entropy(logits, y).backward()
        optimizer.step()

    def infer() -> None:
        module.eval()
        with torch.inference_mode():
            module(x)

    return train, infer


def versions() -> str:
    """For the report."""
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
