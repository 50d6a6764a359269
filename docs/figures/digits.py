"""Draws docs/figures/digits_features.png: features in the plane, learned by every loss.

    python docs/figures/digits.py [--output FOLDER] [--only arcface,facenet]

The picture of these papers on real images: the 1797 digits of scikit-learn (the extra `figures`), a
third of them kept for testing and drawn, a perceptron with two outputs, batches of 10 digits x 8
images. Ten classes on a circle stand 36 degrees apart, so scales, margins and thresholds are set
smaller than for faces (`CHOSEN`). Three losses ask each other class's cosine to be below a fixed
threshold, for which ten classes find no room in the plane: they collapse onto two directions there,
so the same run in 16 dimensions is reported beside it. Two minutes on two cores.

Losses on raw features show those as they are, rays being the class weights' directions. Losses on
directions show these, x / |x|, at a distance from the middle that is drawn at random to keep points
apart. The percentage is the share of test images whose nearest class mean (of the training
features; of their directions, where the loss looks at nothing else) is their own.
"""

import argparse
import pathlib
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from figures import HERE, save
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import datasets, model_selection

from facejax.losses import Classes
from facejax.objectives import LOSSES, objective

STEPS, PER_DIGIT, RATE = 1500, 8, 0.003
NEED_ROOM = ("sphereface2", "p2sgrad", "proxy_anchor")
# These ask each cosine to pass a threshold, whatever the other classes' are. Short class weights
# all turn away from the features at the first steps, together, and stay so: theirs start long.
THRESHOLDS = (*NEED_ROOM, "circle", "uniface", "sface")
DISTANCES = ("softmax", "deepid2", "center_loss", "l_softmax", "n_pairs")
RAW = (*DISTANCES, "sphereface", "magface")

CHOSEN: dict[str, dict[str, Any]] = {
    "deepid2": {"weight": 0.5, "margin": 4.0},
    "center_loss": {"weight": 0.1},
    "l_softmax": {"margin": 2, "anneal_base": 100.0, "anneal_gamma": 0.01, "anneal_power": 2.0},
    "sphereface": {"margin": 2, "anneal_minimum": 1.0},
    "normface": {"scale": 16.0},
    "cosface": {"scale": 16.0, "margin": 0.1},
    "arcface": {"scale": 16.0, "margin": 0.2},
    "combined_margin": {"scale": 16.0, "m2": 0.1, "m3": 0.05},
    "mv_softmax": {"scale": 16.0, "margin": 0.1, "hardness": 0.1},
    "circle": {"scale": 4.0, "margin": 0.6},
    "circle_pairs": {"scale": 16.0, "margin": 0.7},
    "curricularface": {"scale": 16.0, "margin": 0.2},
    "magface": {"scale": 16.0, "l_a": 1.0, "u_a": 20.0, "l_m": 0.1, "u_m": 0.3, "lambda_g": 5.0},
    "subcenter_arcface": {"scale": 16.0, "margin": 0.2},
    "adaface": {"scale": 16.0, "margin": 0.1},
    "elasticface": {"scale": 16.0, "mean": 0.2, "sigma": 0.03},
    "sphereface2": {"scale": 16.0, "margin": 0.2},
    "sphereface_r": {"scale": 16.0, "margin": 1.2},
    "uniface": {"scale": 6.0, "margin": 0.0, "balance": 0.3},
    "sface": {"scale": 16.0, "a": 0.1, "b": 0.5},
    "li_arcface": {"scale": 16.0, "margin": 0.1},
    "multi_similarity": {"threshold": 0.9},
}


class Network(nn.Module):
    """A perceptron with two hidden layers."""

    embedding_size: int

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        """Pixels [B, 64] to embeddings [B, embedding_size]."""
        for _ in range(2):
            pixels = nn.PReLU()(nn.Dense(128)(pixels))
        return nn.Dense(self.embedding_size)(pixels)


def train(name: str, dim: int, pixels: np.ndarray, labels: np.ndarray) -> tuple[Any, np.ndarray]:
    """Params {"network", "loss"} and the mean losses [STEPS]."""
    network, loss = Network(dim), objective(name, CHOSEN.get(name))
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))
    fewest = np.bincount(labels).min()
    by_digit = jnp.asarray([np.flatnonzero(labels == digit)[:fewest] for digit in range(10)])
    every_image, every_label = jnp.asarray(pixels), jnp.asarray(labels, jnp.int32)

    @jax.jit
    def run(key):
        key_n, key_l, key = jax.random.split(key, 3)
        loss_params, state = loss.init(key_l, 10, dim)
        if name in THRESHOLDS:
            loss_params["weights"] *= 100
        params = {"network": network.init(key_n, every_image[:1]), "loss": loss_params}

        def step(carry, number):
            params, state, moments = carry
            key_b, key_a = jax.random.split(jax.random.fold_in(key, number))
            draw = jax.vmap(lambda k, images: jax.random.choice(k, images, (PER_DIGIT,), False))
            batch = draw(jax.random.split(key_b, 10), by_digit).ravel()
            keys = jax.random.split(key_a, len(batch))

            def mean_loss(params):
                embeddings = network.apply(params["network"], every_image[batch])
                values, new_state, _ = loss.apply(
                    params["loss"], state, embeddings, every_label[batch],
                    keys=keys, step=number, classes=Classes(),
                )  # fmt: skip
                return values.mean(), new_state

            (value, state), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params)
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(params, updates), state, moments), value

        carry = params, state, optimizer.init(params)
        (params, state, _), values = jax.lax.scan(step, carry, jnp.arange(STEPS))
        return params, values

    return run(jax.random.key(0))


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def accuracy(
    seen: np.ndarray, seen_labels: np.ndarray, new: np.ndarray, labels: np.ndarray
) -> float:
    """Share of the new rows that are nearest to the mean of their own class's seen rows."""
    means = np.stack([seen[seen_labels == digit].mean(0) for digit in range(10)])
    distances = np.linalg.norm(new[:, None] - means[None], axis=2)
    return float(np.mean(np.argmin(distances, axis=1) == labels))


def draw_panel(
    axis: Axes, name: str, features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> None:
    """Points coloured by digit, and the class weights' directions."""
    colors = np.asarray([f"C{digit}" for digit in range(10)])
    if name in RAW:
        reach = np.percentile(np.linalg.norm(features, axis=1), 99)
        points = features
    else:
        reach = 1.0
        radius = np.random.default_rng(0).uniform(0.7, 1, (len(features), 1))
        points = radius * unit(features)
        around = np.linspace(0, 2 * np.pi, 100)
        axis.plot(np.cos(around), np.sin(around), color="0.6", lw=0.6)
    axis.scatter(points[:, 0], points[:, 1], s=3, c=colors[labels], lw=0)
    if weights is not None:
        for digit, rays in enumerate(weights.reshape(10, -1, 2)):
            for x, y in unit(rays) * reach * (0.68 if name not in RAW else 1):
                axis.plot([0, x], [0, y], color=colors[digit], lw=0.9)
    axis.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(-1.1 * reach, 1.1 * reach), aspect="equal")
    axis.set(xticks=[], yticks=[])


def main() -> None:
    """Trains and draws all losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=HERE)
    parser.add_argument("--only", help="names of losses, with commas between them")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else LOSSES

    digits = datasets.load_digits()
    pixels, new_pixels, labels, new_labels = model_selection.train_test_split(
        (digits.data / 16).astype(np.float32), digits.target, test_size=1 / 3, random_state=0,
        stratify=digits.target,
    )  # fmt: skip
    rows = -(-(len(names) + 1) // 4)
    figure = Figure(figsize=(10.5, 2.75 * rows), layout="constrained")
    axes = figure.subplots(rows, 4).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, name in zip(axes, names, strict=False):
        began = time.perf_counter()
        title = name
        for dim in (16, 2) if name in NEED_ROOM else (2,):
            params, losses = train(name, dim, pixels, labels)
            seen, new = (
                np.asarray(Network(dim).apply(params["network"], images))
                for images in (pixels, new_pixels)
            )
            compared = (seen, new) if name in DISTANCES else (unit(seen), unit(new))
            share = f"{accuracy(compared[0], labels, compared[1], new_labels):.1%}"
            title += f" {share}" if dim == 2 else f" 16-d: {share}, 2-d:"
        axis.axis("on")
        weights = params["loss"].get("weights")
        draw_panel(axis, name, new, new_labels, None if weights is None else np.asarray(weights))
        axis.set_title(title, fontsize=10 if len(title) < 30 else 8)
        print(f"{title}, loss {losses[0]:.3f} to {losses[-50:].mean():.4f}, "
              f"{time.perf_counter() - began:.1f} s", flush=True)  # fmt: skip
    for digit in range(10):
        axes[-1].plot([], [], "o", color=f"C{digit}", label=str(digit))
    axes[-1].legend(loc="center", ncols=2, title="digit")
    save(figure, arguments.output / "digits_features.png", colors=64, dpi=95)


if __name__ == "__main__":
    main()
