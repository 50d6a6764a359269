"""Layers equal to Flax's own, with closed-form gradients where XLA's are slow.

A device differentiates its own rows' losses, and the caller sums parameter gradients over devices.
So, with synchronised statistics, a layer's parameter gradients are this device's part, and its
input's gradient that of the sum over all devices: what autodiff gives when psum transposes to psum.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from facejax import compilation

_INITIAL_SLOPE = nn.initializers.constant(0.25)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, statistics in float32.

    Attributes:
      momentum: of the running statistics (PyTorch's 0.1 is 0.9 here).
      epsilon: added to the variance.
      use_scale: whether the scale is learned; otherwise it is 1.
      prelu: whether a PReLU follows, in the same pass over the array: max(y, 0) + slope min(y, 0),
        a slope a channel, from 0.25 (He et al., Delving Deep into Rectifiers, 2015, eq. 1:
        https://arxiv.org/abs/1502.01852).
      axis_name: the device axis over which training statistics are synchronised.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    prelu: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        ones = jnp.ones(channels)
        scale = self.param("scale", nn.initializers.ones, (channels,)) if self.use_scale else ones
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        slope = self.param("slope", _INITIAL_SLOPE, (channels,)) if self.prelu else None
        wide = x.astype(jnp.float32)
        if not train:
            y = _affine(wide, scale, bias, mean.value, lax.rsqrt(variance.value + self.epsilon))
            return _prelu(y, slope).astype(x.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        normalise = _batch_norm if compilation.tuned_gradients() else _batch_norm_plain
        y, batch_mean, batch_variance = normalise(wide, scale, bias, slope, self.epsilon, axis_name)
        if not self.is_initializing():
            for running, new in ((mean, batch_mean), (variance, batch_variance)):
                running.value = self.momentum * running.value + (1 - self.momentum) * new
        return y.astype(x.dtype)


def _spread(vector: jax.Array, x: jax.Array) -> jax.Array:
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def _affine(
    x: jax.Array, scale: jax.Array, bias: jax.Array, mean: jax.Array, inverse: jax.Array
) -> jax.Array:
    factor = scale * inverse
    return x * _spread(factor, x) + _spread(bias - mean * factor, x)


def _prelu(x: jax.Array, slope: jax.Array | None) -> jax.Array:
    return x if slope is None else jnp.where(x >= 0, x, x * _spread(slope, x))


def _mean(values: tuple[jax.Array, ...], axis_name: str | None) -> tuple[jax.Array, ...]:
    return values if axis_name is None else lax.pmean(values, axis_name)


def _batch_norm_plain(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    slope: jax.Array | None,
    epsilon: float,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    # Mean and biased variance by one pass, as Flax computes them.
    axes = tuple(range(x.ndim - 1))
    mean, square = _mean((jnp.mean(x, axes), jnp.mean(lax.square(x), axes)), axis_name)
    variance = jnp.maximum(0, square - lax.square(mean))
    y = _affine(x, scale, bias, mean, lax.rsqrt(variance + epsilon))
    return _prelu(y, slope), mean, variance


_batch_norm = jax.custom_vjp(_batch_norm_plain, nondiff_argnums=(4, 5))
# x, scale, bias, slope, mean, 1 / deviation
_Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array, jax.Array]


def _batch_norm_forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    slope: jax.Array | None,
    epsilon: float,
    axis_name: str | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], _Saved]:
    z, mean, variance = _batch_norm_plain(x, scale, bias, slope, epsilon, axis_name)
    return (z, mean, variance), (x, scale, bias, slope, mean, lax.rsqrt(variance + epsilon))


def _batch_norm_backward(
    epsilon: float, axis_name: str | None, saved: _Saved, gradients: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    # The running statistics take no gradient, so only the output's is used.
    del epsilon
    x, scale, bias, slope, mean, inverse = saved
    dz = gradients[0]

    axes = tuple(range(x.ndim - 1))
    dy, d_slope = dz, None
    if slope is not None:  # y is made again: that is cheaper than to keep it
        y = _affine(x, scale, bias, mean, inverse)
        dy = jnp.where(y >= 0, dz, dz * _spread(slope, x))
        # The barrier writes both out, for XLA:CPU sums a fused `where` three times slower.
        dy, products = lax.optimization_barrier((dy, jnp.where(y >= 0, 0, dz * y)))
        d_slope = jnp.sum(products, axes)
    d_bias = jnp.sum(dy, axes)
    d_scale = jnp.sum(dy * (x - _spread(mean, x)), axes)
    d_scale = d_scale * inverse
    rows = x.size // x.shape[-1]
    mean_bias, mean_scale = _mean((d_bias / rows, d_scale / rows), axis_name)
    # dx = scale / sigma (dy - mean(dy) - x_hat mean(dy x_hat)), gathered into two factors of x.
    factor = scale * inverse
    steepness = -factor * inverse * mean_scale
    offset = -factor * mean_bias - steepness * mean
    dx = dy * _spread(factor, x) + x * _spread(steepness, x) + _spread(offset, x)
    return dx, d_scale, d_bias, d_slope


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def dropout(x: jax.Array, keys: jax.Array | None, *, rate: float) -> jax.Array:
    """Zeros a share of the elements and scales up the others, so that the mean stays.

    A row's mask is a function of its own key, whatever batch it lies in and on whichever device.

    Args:
      x: [B, ...].
      keys: PRNG keys [B], one per row. A network that drops in several places folds the number of
        the place into them. None will do where the rate is 0.
      rate: the probability that an element is dropped, in [0, 1).

    Raises:
      ValueError: another rate, or one above 0 without a key for each row.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"the dropout rate must be in [0, 1), and is {rate}")
    if not rate:
        return x
    if keys is None or keys.shape[:1] != x.shape[:1]:
        given = "none" if keys is None else f"keys of shape {keys.shape}"
        raise ValueError(f"dropout takes keys, one per row, for {len(x)} rows; got {given}")
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1.0 - rate), 0)


class Conv(nn.Module):
    """A convolution without bias, padded as PyTorch pads: (size - 1) / 2 on every side.

    Attributes:
      features: channels out.
      size: of the square kernel.
      stride: in both directions.
      padding: pixels on every side; None is (size - 1) / 2.
      depthwise: one kernel a channel.
      dtype: of the computation.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: int | None = None
    depthwise: bool = False
    dtype: Any = jnp.float32
    kernel_init: Any = nn.initializers.normal(0.1)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = (self.size - 1) // 2 if self.padding is None else self.padding
        inputs = 1 if self.depthwise else x.shape[-1]
        shape = (self.size, self.size, inputs, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        if compilation.tuned_gradients():
            if self.depthwise:
                return _depthwise(x, kernel, self.stride, pad)
            if self.size == 1 and pad == 0:
                return _pointwise(x[:, :: self.stride, :: self.stride], kernel)
        return _convolve(x, kernel, self.stride, pad)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, pad: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


@jax.custom_vjp
def _pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 1x1 convolution whose gradients are matrix products, without XLA:CPU's transposes."""
    return _convolve(x, kernel, 1, 0)


def _pointwise_forward(
    x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, 1, 0), (x, kernel)


def _pointwise_backward(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    rows = dy.reshape(-1, dy.shape[-1])
    dx = (rows @ kernel[0, 0].T).reshape(x.shape)
    return dx, (x.reshape(-1, x.shape[-1]).T @ rows).reshape(kernel.shape)


_pointwise.defvjp(_pointwise_forward, _pointwise_backward)


def _shifted(x: jax.Array, stride: int, size: int, out: tuple[int, int]) -> list[jax.Array]:
    """The slices of a padded x that the kernel's elements meet, row by row."""
    height, width = ((n - 1) * stride + 1 for n in out)
    return [
        x[:, i : i + height : stride, j : j + width : stride]
        for i in range(size)
        for j in range(size)
    ]


def _pad(x: jax.Array, low: int, high: int, inner: int = 0) -> jax.Array:
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, ((0, 0, 0), (low, high, inner), (low, high, inner), (0, 0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x: jax.Array, kernel: jax.Array, stride: int, pad: int) -> jax.Array:
    """A depthwise convolution as a sum of shifted slices, which XLA:CPU fuses into one pass."""
    size = kernel.shape[0]
    height, width = ((n + 2 * pad - size) // stride + 1 for n in x.shape[1:3])
    slices = _shifted(_pad(x, pad, pad), stride, size, (height, width))
    flat = kernel.reshape(size * size, -1)
    return functools.reduce(jnp.add, (s * _spread(w, s) for s, w in zip(slices, flat, strict=True)))


def _depthwise_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pad: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _depthwise(x, kernel, stride, pad), (x, kernel)


def _depthwise_backward(
    stride: int, pad: int, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    size = kernel.shape[0]
    # dx: the strided gradient spread out again, under the kernel turned round.
    spread = _pad(dy, 0, 0, stride - 1)
    low = size - 1 - pad
    rest = x.shape[1] + 2 * pad - size - (dy.shape[1] - 1) * stride  # columns no kernel met
    dx = _depthwise(_pad(spread, low, low + rest), kernel[::-1, ::-1], 1, 0)

    # d kernel, image by image. Every `group` rows of products are added up in one fused pass, so
    # that little is left for the reduction, before which XLA:CPU writes its operand out.
    height = dy.shape[1]
    group = max(n for n in range(1, 9) if height % n == 0)

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        image, gradient = pair
        gradient = gradient.astype(jnp.float32)
        padded = _pad(image[None], pad, pad).astype(jnp.float32)
        slices = [s[0] for s in _shifted(padded, stride, size, (height, dy.shape[2]))]
        products = [sum(s[n::group] * gradient[n::group] for n in range(group)) for s in slices]
        return total + jnp.stack([jnp.sum(p, (0, 1)) for p in products]), None

    zeros = jnp.zeros((size * size, kernel.shape[-1]), jnp.float32)
    total, _ = lax.scan(add, zeros, (x, dy))
    return dx, total.reshape(kernel.shape).astype(kernel.dtype)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
