"""The network of OpenCV Zoo's SFace, and its weights by the names of its ONNX file.

Zhong et al., SFace, 2021 (https://arxiv.org/abs/2205.12010) is the loss that it was trained with;
the network is MobileNet's first (Howard et al., 2017, table 1: https://arxiv.org/abs/1704.04861)
with PReLU, a first stride of 1 and a dense layer at the end.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from facejax.models.layers import BatchNorm, Conv

# channels and stride of each pair of a depthwise and a 1x1 convolution
PAIRS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


class SFace(nn.Module):
    """Images [B, H, W, 3] to embeddings [B, embedding_size], float32.

    The published weights take 112x112 pixels, RGB, as (x - 127.5) / 128.

    Attributes:
      embedding_size: of the output.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis over which BatchNorm is synchronised.
    """

    embedding_size: int = 128
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
        del keys  # there is no dropout here
        conv = functools.partial(Conv, dtype=self.dtype)
        norm = functools.partial(BatchNorm, axis_name=self.axis_name)
        inner = functools.partial(norm, epsilon=1e-3, prelu=True)
        x = inner()(conv(32)(images), train)
        for channels, stride in PAIRS:
            x = inner()(conv(x.shape[-1], stride=stride, depthwise=True)(x), train)
            x = inner()(conv(channels, size=1)(x), train)
        x = norm(epsilon=2e-5)(x, train)
        dense = nn.Dense(self.embedding_size, dtype=self.dtype, dot_general=_dot)
        x = dense(x.reshape(x.shape[0], -1))
        return norm(epsilon=2e-5)(x.astype(jnp.float32), train)


def _dot(
    x: jax.Array,
    kernel: jax.Array,
    dimensions: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """The product with a matrix, as the dense layer asks for it."""
    if len(x) > 1:
        return jax.lax.dot_general(x, kernel, dimensions, precision, preferred_element_type)
    # Of a single row XLA:CPU adds up 50,000 products one after another, and loses a digit.
    channels = PAIRS[-1][0]
    parts = kernel.reshape(-1, channels, kernel.shape[-1])
    sums = jnp.einsum("pc,pco->po", x.reshape(-1, channels), parts, precision=precision)
    return jnp.sum(sums, axis=0, keepdims=True)


def sface_variables(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The variables of `SFace` from the tensors of the ONNX file.

    Args:
      tensors: float32 by name; kernels OIHW.

    Returns:
      {"params": ..., "batch_stats": ...}, float32 on the host.

    Raises:
      KeyError: one is missing.
      ValueError: the shape of one is another.
    """
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}

    def norm(name: str, slope: str | None = None) -> None:
        mine = f"BatchNorm_{len(stats)}"
        params[mine] = {"scale": tensors[f"{name}_gamma"], "bias": tensors[f"{name}_beta"]}
        if slope:
            params[mine]["slope"] = tensors[slope].reshape(-1)
        mean, variance = tensors[f"{name}_moving_mean"], tensors[f"{name}_moving_var"]
        stats[mine] = {"mean": mean, "var": variance}

    layers = ["conv_1"]
    for number in range(2, len(PAIRS) + 2):
        layers += [f"conv_{number}_dw", f"conv_{number}"]
    for count, name in enumerate(layers):
        kernel = tensors[f"{name}_conv2d_weight_reshaped"].transpose(2, 3, 1, 0)
        params[f"Conv_{count}"] = {"kernel": np.ascontiguousarray(kernel)}
        norm(f"{name}_batchnorm", f"{name}_relu_gamma")
    norm("bn1")
    # Their rows are in the order channels, height, width; ours height, width, channels.
    dense = tensors["pre_fc1_weight_dequantized"]
    channels = PAIRS[-1][0]
    side = round((dense.shape[1] / channels) ** 0.5)
    dense = dense.reshape(-1, channels, side, side).transpose(2, 3, 1, 0)
    params["Dense_0"] = {
        "kernel": dense.reshape(-1, dense.shape[-1]),
        "bias": tensors["pre_fc1_bias_dequantized"],
    }
    norm("fc1")
    return {"params": params, "batch_stats": stats}
