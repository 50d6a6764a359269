"""dlib's face-recognition network (Davis King, 2017), and its weights by the layers of its file.

http://dlib.net/dnn_face_recognition_ex.cpp.html defines it: a residual network (He et al., 2015:
https://arxiv.org/abs/1512.03385) of 29 convolutions, whose pictures are halved without padding.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from facejax.models.layers import Conv

# channels and blocks of each stage; all but the first stage begin by halving
STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))


class DlibResNet(nn.Module):
    """Images [B, H, W, 3] to embeddings [B, embedding_size], float32, not of unit length.

    The published weights take 150x150 pixels, RGB, as (x - (122.782, 117.001, 104.298)) / 256. It
    keeps no statistics: its BatchNorms were made part of the convolutions.

    Attributes:
      embedding_size: of the output.
      dtype: of the computation; parameters are float32.
    """

    embedding_size: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        del train, keys  # it computes the same in training
        x = nn.relu(_Convolution(STAGES[0][0], 7, 2, 0, self.dtype)(images))
        x = nn.max_pool(x, (3, 3), (2, 2))
        for stage, (channels, blocks) in enumerate(STAGES):
            for block in range(blocks):
                halving = stage > 0 and block == 0
                stride, padding = (2, 0) if halving else (1, 1)
                y = nn.relu(_Convolution(channels, 3, stride, padding, self.dtype)(x))
                y = _Convolution(channels, 3, 1, 1, self.dtype)(y)
                x = _halved(x) if halving else x
                x = nn.relu(_padded_sum(x, y))
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dense(self.embedding_size, use_bias=False, dtype=self.dtype)(x)
        return x.astype(jnp.float32)


class _Convolution(nn.Module):
    """A convolution with a bias."""

    features: int
    size: int
    stride: int
    padding: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        conv = Conv(self.features, self.size, self.stride, self.padding, dtype=self.dtype)
        return conv(x) + bias.astype(self.dtype).reshape(1, 1, 1, -1)


def _halved(x: jax.Array) -> jax.Array:
    """Means of 2x2 pixels; an odd row or column at the end is left out."""
    total = nn.pooling.pool(x, jnp.zeros((), x.dtype), jax.lax.add, (2, 2), (2, 2), "VALID")
    return total / 4


def _padded_sum(a: jax.Array, b: jax.Array) -> jax.Array:
    """a + b, the smaller filled up with zeros at the end of rows, columns and channels."""
    shape = tuple(map(max, a.shape, b.shape))
    padded = (
        jnp.pad(x, [(0, full - own) for full, own in zip(shape, x.shape, strict=True)])
        for x in (a, b)
    )
    return sum(padded, start=jnp.zeros((), a.dtype))


def dlib_variables(layers: Sequence[tuple[str, Sequence[int], np.ndarray]]) -> dict[str, Any]:
    """The variables of `DlibResNet` from the layers of the .dat file.

    Args:
      layers: (kind, whole numbers, weights float32 [n]) from the image upwards. The whole numbers
        of `con_4` begin with filters, rows, columns, and its weights are the kernel OIHW, then the
        biases; `affine_` has factors, then offsets; `fc_2` a matrix [inputs, outputs].

    Returns:
      {"params": ...}, float32 on the host.

    Raises:
      ValueError: they are not those of this network.
    """
    kinds = [kind for kind, _, _ in layers]
    if kinds != _kinds():
        raise ValueError("it has other layers")
    params: dict[str, Any] = {}
    pairs = ((layers[i], layers[i + 1]) for i, kind in enumerate(kinds) if kind == "con_4")
    for count, ((_, numbers, weights), (_, _, affine)) in enumerate(pairs):
        filters, rows, columns = numbers[:3]
        weights, (factor, offset) = weights.astype(np.float64), affine.reshape(2, -1)
        kernel = weights[:-filters].reshape(filters, -1, rows, columns).transpose(2, 3, 1, 0)
        # The affine layer behind it is made part of it, in float64.
        bias = weights[-filters:] * factor + offset
        params[f"_Convolution_{count}"] = {
            "bias": bias.astype(np.float32),
            "Conv_0": {"kernel": np.ascontiguousarray(kernel * factor, np.float32)},
        }
    _, numbers, weights = layers[-1]
    params["Dense_0"] = {"kernel": weights.reshape(numbers[1], numbers[0])}
    return {"params": params}


def _kinds() -> list[str]:
    """The kinds of the file's layers, from the image upwards."""
    kinds = ["con_4", "affine_", "relu_", "max_pool_2"]
    for stage, (_, blocks) in enumerate(STAGES):
        for block in range(blocks):
            kinds += ["con_4", "affine_", "relu_", "con_4", "affine_"]
            kinds += ["avg_pool_2"] if stage > 0 and block == 0 else []
            kinds += ["add_prev_", "relu_"]
    return [*kinds, "avg_pool_2", "fc_2"]
