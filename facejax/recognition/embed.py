"""Images to embeddings, by one compiled program of one batch shape."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from facejax.compilation import jit
from facejax.data import normalize

Embedder = Callable[[Any, np.ndarray], Any]  # (variables, images) -> embeddings

# A last batch is padded to one of these or to a whole batch, so that no other shape is compiled.
SMALLER_BATCHES = (1, 8)


def placement(batch_size: int) -> tuple[NamedSharding, NamedSharding]:
    """Of the variables, and of a batch: over this process's devices, or on the first."""
    devices = jax.local_devices()
    used = devices if batch_size % len(devices) == 0 else devices[:1]
    mesh = Mesh(np.array(used), ("batch",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))


def make_embedder(
    apply: Callable[..., Any],
    *,
    flip: bool = True,
    prepare: Callable[[jax.Array], jax.Array] = normalize,
    unit: bool = True,
) -> Embedder:
    """The program that embeds one batch; make it once per run, so that it is compiled once.

    The batch is spread over this process's devices where their number divides it. With `flip` the
    embedding is the mean of those of the image and of its mirror image, before normalisation.

    Args:
      apply: a network's `apply`: (variables, images float [B, H, W, 3], *, train) ->
        (embeddings [B, D], batch_stats).
      flip: whether to add the mirror image's embedding.
      prepare: from images uint8 [B, H, W, 3] to what the network takes, in XLA; by default to
        [-1, 1].
      unit: whether embeddings are made unit vectors.

    Returns:
      embedder: (variables, images uint8 [B, H, W, 3]) -> float32 [B, D], of unit length unless
      `unit` is false (a zero vector stays zero). `variables` may be on the host or on devices of
      this process.
    """

    @jit
    def program(variables: Any, images: jax.Array) -> jax.Array:
        batch = prepare(images)
        if flip:  # beside its image, so that a sharded batch stays where it is
            batch = jnp.stack([batch, batch[:, :, ::-1]], axis=1).reshape(-1, *batch.shape[1:])
        embeddings = apply(variables, batch, train=False)[0].astype(jnp.float32)
        if flip:
            embeddings = embeddings.reshape(-1, 2, embeddings.shape[-1]).mean(axis=1)
        if not unit:
            return embeddings
        squares = jnp.sum(embeddings**2, axis=-1, keepdims=True)
        return embeddings * jax.lax.rsqrt(jnp.maximum(squares, jnp.finfo(jnp.float32).tiny))

    def embedder(variables: Any, images: np.ndarray) -> jax.Array:
        replicated, split = placement(len(images))
        return program(jax.device_put(variables, replicated), jax.device_put(images, split))

    return embedder


def embed(
    embedder: Embedder,
    variables: Any,
    images: np.ndarray | Iterable[np.ndarray],
    *,
    batch_size: int,
    smaller: Sequence[int] = (),
) -> np.ndarray:
    """Embeds any number of images in batches of one size, the last padded with black images.

    Args:
      embedder: of `make_embedder`.
      variables: the network's, {"params": ..., "batch_stats": ...}.
      images: uint8 [N, H, W, 3], or an iterable of uint8 arrays [b, H, W, 3] with
        b <= batch_size, for more images than memory holds; they are put together to full batches.
      batch_size: the number of images of a batch.
      smaller: other sizes that the last batch may be padded to; each is compiled where it is first
        needed.

    Returns:
      The embedder's float32 [N, D] on the host, in order.

    Raises:
      ValueError: there are no images, they are no uint8 images, or a batch is too large.
    """
    variables = jax.device_put(variables, placement(batch_size)[0])  # once, not for every batch
    # The next batch is read while the last one is being computed.
    results: list[np.ndarray] = []
    pending: tuple[Any, int] | None = None
    for batch in _full_batches(images, batch_size):
        size = min(n for n in (*smaller, batch_size) if n >= len(batch))
        padding = [(0, size - len(batch)), (0, 0), (0, 0), (0, 0)]
        computing = embedder(variables, np.pad(batch, padding)), len(batch)
        if pending is not None:
            results.append(np.asarray(pending[0])[: pending[1]])
        pending = computing
    if pending is None:
        raise ValueError("there are no images to embed")
    results.append(np.asarray(pending[0])[: pending[1]])
    return np.concatenate(results)


def _full_batches(
    images: np.ndarray | Iterable[np.ndarray], batch_size: int
) -> Iterator[np.ndarray]:
    """Batches of `batch_size` images, the last of what is left."""
    if isinstance(images, np.ndarray):
        starts = range(0, len(images), batch_size)
        images = [images[start : start + batch_size] for start in starts]
    held: list[np.ndarray] = []
    count = 0  # of the images held
    for part in images:
        if part.dtype != np.uint8 or part.ndim != 4 or not 0 < len(part) <= batch_size:
            raise ValueError(
                f"a batch of 1 to {batch_size} uint8 images [b, H, W, 3] is wanted, not "
                f"{part.dtype} {part.shape}"
            )
        held.append(part)
        count += len(part)
        if count >= batch_size:
            joined = np.concatenate(held)
            yield joined[:batch_size]
            held, count = [joined[batch_size:]], count - batch_size
    if count:
        yield np.concatenate(held)
