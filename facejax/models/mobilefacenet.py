"""MobileFaceNet, about 1 M parameters.

Chen et al., MobileFaceNets, 2018, table 1: https://arxiv.org/abs/1804.07573
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from facejax.models.layers import BatchNorm, Conv, dropout

# expansion, channels, repeats, stride of the first
BOTTLENECKS = (
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


class MobileFaceNet(nn.Module):
    """Images [B, H, W, 3] to embeddings [B, embedding_size], float32.

    Attributes:
      width: multiplies the channels.
      embedding_size: of the output.
      dropout: before the last 1x1 convolution.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis over which BatchNorm is synchronised.
    """

    width: float = 1.0
    embedding_size: int = 128
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        conv = functools.partial(Conv, dtype=self.dtype)
        norm = functools.partial(BatchNorm, axis_name=self.axis_name)

        def wide(channels: int) -> int:
            return max(8, round(channels * self.width))

        x = norm(prelu=True)(conv(wide(64), stride=2)(images), train)
        x = norm(prelu=True)(conv(wide(64), depthwise=True)(x), train)
        for expansion, channels, repeats, first_stride in BOTTLENECKS:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                inner = x.shape[-1] * expansion
                y = norm(prelu=True)(conv(inner, size=1)(x), train)
                y = norm(prelu=True)(conv(inner, stride=stride, depthwise=True)(y), train)
                y = norm()(conv(wide(channels), size=1)(y), train)
                x = x + y if stride == 1 and x.shape[-1] == y.shape[-1] else y
        x = norm(prelu=True)(conv(wide(512), size=1)(x), train)
        # The global depthwise convolution: a weighted mean of what is left, weights a channel.
        height, columns, channels = x.shape[1:]
        kernel = self.param(
            "global_kernel", nn.initializers.normal(0.1), (height, columns, channels)
        )
        x = norm()(jnp.einsum("bhwc,hwc->bc", x, kernel.astype(x.dtype)), train)
        if train:
            x = dropout(x, keys, rate=self.dropout)
        x = nn.Dense(self.embedding_size, use_bias=False, dtype=self.dtype)(x)
        return norm(use_scale=False)(x.astype(jnp.float32), train)
