"""IResNet, the residual network of InsightFace's published models.

Duta et al., Improved Residual Networks for Image and Video Recognition, 2020
(https://arxiv.org/abs/2004.04989) names it; the block is ArcFace's (https://arxiv.org/abs/1801.07698,
section 3.1): BN - conv - BN - PReLU - conv - BN, and BN - dropout - dense - BN at the end.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from facejax.models.layers import BatchNorm, Conv, dropout

STAGES = {
    "iresnet10": (1, 1, 1, 1),  # ours, for small images and small machines
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}


class IResNet(nn.Module):
    """Images [B, H, W, 3] to embeddings [B, embedding_size], float32.

    Attributes:
      stages: blocks a stage; each stage halves the image, each but the first doubles the channels.
      width: multiplies the channels 64, 128, 256, 512.
      embedding_size: of the output.
      dropout: before the dense layer.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis over which BatchNorm is synchronised.
      kernel_init: of the convolutions; InsightFace's is normal with a deviation of 0.1.
    """

    stages: tuple[int, ...]
    width: float = 1.0
    embedding_size: int = 512
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    kernel_init: Any = nn.initializers.normal(0.1)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        conv = functools.partial(Conv, dtype=self.dtype, kernel_init=self.kernel_init)
        norm = functools.partial(BatchNorm, axis_name=self.axis_name)
        channels = [max(8, round(c * self.width)) for c in (64, 128, 256, 512)]
        x = conv(channels[0])(images)
        x = norm(prelu=True)(x, train)
        for features, blocks in zip(channels, self.stages, strict=True):
            for block in range(blocks):
                stride = 2 if block == 0 else 1
                y = conv(features)(norm()(x, train))
                y = norm(prelu=True)(y, train)
                y = norm()(conv(features, stride=stride)(y), train)
                if block == 0:
                    x = norm()(conv(features, size=1, stride=stride)(x), train)
                x = x + y
        x = norm()(x, train)
        if train:
            x = dropout(x, keys, rate=self.dropout)
        x = nn.Dense(self.embedding_size, dtype=self.dtype)(x.reshape(x.shape[0], -1))
        # The scale is fixed at 1: the head normalises the embedding anyway.
        return norm(use_scale=False)(x.astype(jnp.float32), train)
