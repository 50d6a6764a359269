"""The JAX programs that `benchmarks/head.py` and `benchmarks/gpu` time."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from facejax import compilation, losses
from facejax.losses import margins
from facejax.losses.engine import AUTO_BLOCK
from facejax.losses.sampling import sample_indices
from facejax.training.row_sgd import RowUpdates, apply_rows, row_sgd

SGD: dict[str, Any] = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
RATE = 0.1  # the share of the classes that `sampled` takes
SEED = 0


class Program(NamedTuple):
    """What is timed: `run` makes one call and waits for its end."""

    run: Callable[[], Any]
    temporaries: int  # bytes


@functools.cache
def build(
    kind: str,
    *,
    classes: int,
    batch: int,
    dim: int,
    dtype: str = "float32",
    block_size: int | str | None = None,
    loss: str = "arcface",
    centers: int = 0,
) -> Program:
    """Compiles a program.

    Args:
      kind: `gradients`, with respect to embeddings and class weights; `products`, the matrix
        products of that and nothing else; or a training step of the head, which donates its state:
        `sgd` (gradients and optax's update), `fused`, `sampled`.
      classes: rows of the class weights.
      batch: embeddings per step.
      dim: length of an embedding.
      dtype: of the products; all else is float32, and so are other losses than ArcFace.
      block_size: of `facejax.losses.Classes`.
      loss: the name in `facejax.losses`.
      centers: sub-centres per class, or 0.
    """
    embeddings, labels = _batch(classes, batch, dim)
    held = class_arrays(classes, centers, dim)
    layout = losses.Classes(block_size=block_size)
    if kind == "products":
        size = AUTO_BLOCK if block_size == "auto" else block_size
        products = functools.partial(_products, block_size=size, dtype=dtype)
        # A second argument, else the compiler sees that the second product is the first.
        return _pure(products, held, embeddings, embeddings)
    arcface = functools.partial(_arcface, layout=layout, dtype=dtype)
    if kind == "gradients" and loss == "arcface":
        differentiate = jax.grad(arcface, argnums=(0, 1))
        return _pure(differentiate, held, embeddings, labels)
    if kind == "gradients":
        return _pure(_gradients(loss, layout, classes, batch), held, embeddings, labels)
    head = {"sgd": _sgd, "fused": _fused, "sampled": _sampled}[kind]
    step = functools.partial(head, differentiate=jax.grad(arcface, argnums=(0, 1)))
    memory = "rows" if kind == "sampled" else "trace"
    if memory not in held:
        weights = held["weights"]
        tx = row_sgd(**SGD)
        held[memory] = tx.init(weights) if kind == "sampled" else jnp.zeros_like(weights)
        del weights
    return _donating(step, held, ("weights", memory), embeddings, labels)


def _pure(function: Callable, held: dict[str, Any], embeddings, other) -> Program:
    program = compilation.compile_for(function, embeddings, held["weights"], other)
    return Program(
        lambda: jax.block_until_ready(program(embeddings, held["weights"], other)),
        _temporaries(program),
    )


def _donating(function: Callable, held: dict[str, Any], names: tuple[str, ...], inputs, labels):
    """A program that takes what `held` has under the names, and puts its successor there."""
    step = jax.jit(function, donate_argnums=0)
    state = {name: held[name] for name in names}
    program = compilation.compile_for(step, state, inputs, labels, jnp.uint32(0))
    del state
    calls = itertools.count()

    def run():
        state = {name: held.pop(name) for name in names}
        state, d_embeddings = program(state, inputs, labels, jnp.uint32(next(calls)))
        held.update(jax.block_until_ready(state))
        return d_embeddings

    return Program(run, _temporaries(program))


def device() -> str:
    """For the report."""
    return jax.devices()[0].device_kind


def peak_memory() -> int | None:
    """The most that arrays and programs took of the accelerator's memory; None on a CPU."""
    statistics = jax.devices()[0].memory_stats()
    return None if statistics is None else statistics.get("peak_bytes_in_use")


def _temporaries(program: jax.stages.Compiled) -> int:
    memory: Any = program.memory_analysis()
    return memory.temp_size_in_bytes


@functools.cache
def _batch(classes: int, batch: int, dim: int) -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(SEED))
    embeddings = jax.random.normal(keys[0], (batch, dim))
    return embeddings, jax.random.randint(keys[1], (batch,), 0, classes)


@functools.cache
def class_arrays(classes: int, centers: int, dim: int) -> dict[str, Any]:
    """The class weights, and what the steps put beside them. Programs of one size share it."""
    block = min(4096, classes)
    shape = (centers, dim) if centers else (dim,)

    def init():
        # Random numbers for all would take longer than a step: each block is one block, rolled.
        part = 0.01 * jax.random.normal(jax.random.key(SEED), (block, *shape))

        def fill(number, weights):
            rolled = jnp.roll(part, number, axis=-1)
            return lax.dynamic_update_slice_in_dim(weights, rolled, number * block, 0)

        return lax.fori_loop(0, -(-classes // block), fill, jnp.zeros((classes, *shape)))

    return {"weights": jax.jit(init)()}


def _gradients(name: str, layout: losses.Classes, classes: int, batch: int) -> Callable:
    """(embeddings, weights, labels) -> the mean loss's gradients; the loss's own inputs inside."""
    inputs: dict[str, Any] = {
        "softmax": lambda: {"bias": jnp.zeros(classes)},
        "curricularface": lambda: {"t": jnp.float32(0.3)},
        "adaface": lambda: {
            "statistics": jax.tree.map(jnp.float32, losses.AdaFaceStatistics(20.0, 10.0))
        },
        "elasticface": lambda: {"margins": losses.elastic_margins(jax.random.key(SEED), batch)},
        "sphereface2": lambda: {"bias": jnp.float32(losses.sphereface2_initial_bias(classes))},
        "uniface": lambda: {"bias": jnp.float32(losses.uniface_initial_bias(classes))},
        "adacos": lambda: {"scale": jnp.float32(losses.adacos_initial_scale(classes))},
    }.get(name, dict)()
    learned = {"bias": inputs.pop("bias")} if "bias" in inputs else {}

    def mean(embeddings, weights, learned, labels):
        result = getattr(losses, name)(
            embeddings, weights, labels, **inputs, **learned, classes=layout
        )
        return jnp.mean(result[0] if isinstance(result, tuple) else result)

    return lambda embeddings, weights, labels: jax.grad(mean, argnums=(0, 1, 2))(
        embeddings, weights, learned, labels
    )


def _arcface(embeddings, weights, labels, *, layout: losses.Classes, dtype: str):
    margin = margins.arcface(scale=64.0, margin=0.5)
    rows = losses.margin_rows(embeddings, weights, labels, margin, classes=layout, dtype=dtype)
    return jnp.mean(rows.losses)


def _sgd(state, embeddings, labels, number, *, differentiate):
    del number
    weights = state["weights"]
    d_embeddings, gradient = differentiate(embeddings, weights, labels)
    tx = optax.chain(
        optax.add_decayed_weights(SGD["weight_decay"]),
        optax.sgd(SGD["learning_rate"], momentum=SGD["momentum"]),
    )
    opt_state = optax.tree_utils.tree_set(tx.init(weights), trace=state["trace"])
    updates, opt_state = tx.update(gradient, opt_state, weights)
    trace = optax.tree_utils.tree_get(opt_state, "trace")
    return {"weights": optax.apply_updates(weights, updates), "trace": trace}, d_embeddings


def _fused(state, embeddings, labels, number, *, differentiate):
    del number
    head = losses.FusedSGD(state["weights"], state["trace"], **SGD)
    d_embeddings, head = differentiate(embeddings, head, labels)
    return {"weights": head.weights, "trace": head.trace}, d_embeddings


def _sampled(state, embeddings, labels, number, *, differentiate):
    weights = state["weights"]
    key = jax.random.fold_in(jax.random.key(SEED), number)
    index, labels = sample_indices(key, labels, len(weights), rate=RATE)
    d_embeddings, gradient = differentiate(embeddings, weights[index], labels)
    updates, rows = row_sgd(**SGD).update(RowUpdates(index, gradient), state["rows"], weights)
    return {"weights": apply_rows(weights, updates), "rows": rows}, d_embeddings


def _products(embeddings, weights, again, *, block_size, dtype):
    """Forward, recomputation and both gradients as bare products, 4 x 2 B C D operations."""

    def dot(left, right):
        left, right = left.astype(dtype), right.astype(dtype)
        return jnp.dot(left, right, preferred_element_type=jnp.float32)

    count, dim = weights.shape
    if block_size is None:
        similarities = dot(again, weights.T)
        d_weights, d_embeddings = dot(similarities.T, again), dot(similarities, weights)
        return dot(embeddings, weights.T), d_weights, d_embeddings

    size = max(part for part in range(1, block_size + 1) if count % part == 0)
    blocks = weights.reshape(-1, size, dim)

    def forward(_, block):  # the last block's product stands for all: none may be left out
        return dot(embeddings, block.T), None

    def backward(d_embeddings, block):
        similarities = dot(again, block.T)
        return d_embeddings + dot(similarities, block), dot(similarities.T, again)

    last, _ = lax.scan(forward, jnp.zeros((len(embeddings), size)), blocks)
    d_embeddings, d_weights = lax.scan(backward, jnp.zeros_like(embeddings), blocks)
    return last, d_weights.reshape(weights.shape), d_embeddings
