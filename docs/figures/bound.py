"""Draws docs/figures/softmax_lower_bound.png: the least loss of a softmax on scaled cosines.

    python docs/figures/bound.py [--output FOLDER]

The lines are `softmax_lower_bound`. Above them: simplices, which attain it; embeddings and class
weights trained freely by `normface`; and a network trained on scikit-learn's digits (the extra
`figures`), which stops short of it at large scales, as its gradient vanishes. About a
minute on two cores.
"""

import argparse
import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from figures import HERE, save
from matplotlib.figure import Figure
from sklearn import datasets

from facejax.losses import normface, softmax_lower_bound

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
FREE = (  # classes, dimensions, marker, color
    (10, 16, "o", "C0"),
    (10, 2, "v", "C0"),
    (100, 128, "o", "C1"),
    (1000, 64, "v", "C2"),
)


def simplex(corners: int) -> jax.Array:
    """The corners of a regular simplex around 0, [corners, corners], unit length."""
    centred = jnp.eye(corners) - 1 / corners
    return centred / jnp.linalg.norm(centred, axis=1, keepdims=True)


@functools.partial(jax.jit, static_argnames=("loss", "steps", "rate"))
def train(loss, params, *, steps: int, rate: float):
    """Params after `steps` of Adam on `loss(params)`, the step size falling to 0, and the loss."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return params, loss(params)


def free_loss(classes: int, dimensions: int, scale: float) -> float:
    """The loss reached when one embedding per class and all class weights are free to move.

    What is minimised is its logarithm, which has the same minimum and a gradient that does not
    vanish long before it.
    """
    labels = jnp.arange(classes)

    def log_loss(params):
        losses = normface(params["embeddings"], params["weights"], labels, scale=scale)
        return jnp.log(losses.mean())

    key_e, key_w = jax.random.split(jax.random.key(0))
    shape = (classes, dimensions)
    params = {
        "embeddings": jax.random.normal(key_e, shape),
        "weights": jax.random.normal(key_w, shape),
    }
    steps = 2000 if classes <= 100 else 500
    return float(jnp.exp(train(log_loss, params, steps=steps, rate=0.05)[1]))


class Network(nn.Module):
    """A perceptron with one hidden layer."""

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Pixels [B, 64] to embeddings [B, 16]."""
        return nn.Dense(16)(nn.relu(nn.Dense(128)(pixels)))


def digits_loss(scale: float) -> float:
    """The training loss that a network reaches on the 1797 digits."""
    digits = datasets.load_digits()
    pixels = jnp.asarray(digits.data / 16, jnp.float32)
    labels = jnp.asarray(digits.target, jnp.int32)
    network = Network()

    def loss(params):
        embeddings = network.apply(params["network"], pixels)
        return normface(jnp.asarray(embeddings), params["weights"], labels, scale=scale).mean()

    key_n, key_w = jax.random.split(jax.random.key(0))
    params = {
        "network": network.init(key_n, pixels[:1]),
        "weights": jax.random.normal(key_w, (10, 16)),
    }
    return float(train(loss, params, steps=1000, rate=0.01)[1])


def main() -> None:
    """Trains, draws, and prints every loss beside its bound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=HERE)
    output = parser.parse_args().output

    figure = Figure(figsize=(9, 8), layout="constrained")
    axis = figure.subplots()
    every_scale = np.linspace(1, 64, 400)
    colors = ("C0", "C1", "C2", "C3", "C4")
    for classes, color in zip((10, 100, 1000, 10_000, 100_000), colors, strict=True):
        bound = softmax_lower_bound(classes, jnp.asarray(every_scale, jnp.float32))
        axis.plot(every_scale, bound, color=color, label=f"bound, {classes:,} classes")

    for classes in (10, 100, 1000):
        corners, labels = simplex(classes), jnp.arange(classes)
        least = [float(normface(corners, corners, labels, scale=s).mean()) for s in SCALES]
        axis.plot(SCALES, least, "k+", ms=9, label="a simplex" if classes == 10 else None)

    def report(what: str, reached: list[float], classes: int) -> None:
        for scale, value in zip(SCALES, reached, strict=True):
            print(f"{what}, scale {scale:g}: {value:.4g}, "
                  f"bound {softmax_lower_bound(classes, scale):.4g}")  # fmt: skip

    for classes, dimensions, marker, color in FREE:
        what = f"trained freely, {classes} classes in {dimensions} dimensions"
        reached = [free_loss(classes, dimensions, scale) for scale in SCALES]
        axis.plot(SCALES, reached, marker, color=color, mfc="none", ms=8, label=what)
        report(what, reached, classes)
    what = "network on digits, 10 classes in 16 dimensions"
    reached = [digits_loss(scale) for scale in SCALES]
    axis.plot(SCALES, reached, "*", color="C0", ms=10, label=what)
    report(what, reached, 10)

    axis.set(xscale="log", yscale="log", xlabel="scale s", ylabel="loss, nats")
    axis.set_xticks(SCALES, [f"{scale:g}" for scale in SCALES])
    axis.minorticks_off()
    axis.set_title("log(1 + (n - 1) exp(-s n / (n - 1))), and what training reaches")
    axis.grid(alpha=0.3)
    figure.legend(fontsize=9, loc="outside lower center", ncols=2)
    save(figure, output / "softmax_lower_bound.png")


if __name__ == "__main__":
    main()
