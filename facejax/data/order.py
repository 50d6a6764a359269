"""Which records each batch has: endless orders, each a pure function of the labels and a seed."""

import functools
import threading

import grain
import numpy as np

from facejax.errors import UserError

_ENDLESS = 2**60  # rows


def shuffled_batches(count: int, size: int, *, seed: int) -> grain.MapDataset:
    """Every record once per epoch, each epoch in an order of its own; a batch may straddle two.

    An epoch's order is made when it is first asked for and takes 4 bytes a record; two are kept.

    Args:
      count: of the records.
      size: of a batch of all processes.
      seed: of the orders.

    Returns:
      Batches, int64 [size].
    """
    making = threading.Lock()
    rows = np.arange(size)

    @functools.lru_cache(maxsize=2)
    def made(epoch: int) -> np.ndarray:
        numbers = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
        np.random.default_rng([seed, epoch]).shuffle(numbers)
        return numbers

    def batch(number: int) -> np.ndarray:
        epochs, within = np.divmod(number * size + rows, count)
        result = np.empty(size, np.int64)
        for epoch in range(epochs[0], epochs[-1] + 1):
            mine = epochs == epoch
            with making:  # once, however many threads come to it
                result[mine] = made(epoch)[within[mine]]
        return result

    return grain.MapDataset.range(_ENDLESS // size).map(batch)


def identity_batches(
    labels: np.ndarray, size: int, *, batch_size: int, per_identity: int, seed: int
) -> grain.MapDataset:
    """So many images of each of different identities, side by side; see `data.batches`.

    Args:
      labels: int [N], of the records.
      size: of a batch of all processes.
      batch_size: of that of one process.
      per_identity: images of each, a divisor of `batch_size`.
      seed: of what is drawn.

    Returns:
      Batches, int64 [size].

    Raises:
      UserError: it is no divisor, or there are too few identities.
    """
    if batch_size % per_identity:
        raise UserError(
            f"a batch of {batch_size} is not a whole number of identities with "
            f"{per_identity} images each: make it a multiple of {per_identity}"
        )
    by_identity = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[by_identity])) + 1
    identities = np.split(by_identity, starts)
    wanted = size // per_identity
    if len(identities) < wanted:
        raise UserError(
            f"a batch of {wanted} identities needs more than the {len(identities)} there are: "
            f"take a smaller batch or more images of each identity"
        )

    def draw(records: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return np.resize(generator.permutation(records), per_identity)

    groups = grain.MapDataset.source(identities).seed(seed).shuffle().random_map(draw)
    return groups.batch(wanted, drop_remainder=True).repeat().map(np.ravel)


def balanced_batches(
    labels: np.ndarray, size: int, *, balance: float, seed: int
) -> grain.MapDataset:
    """Each row by itself: an identity, the rare ones more often than they have images, then one.

    Args:
      labels: int [N], of the records.
      size: of a batch of all processes.
      balance: an identity with n images comes in proportion to n^(1 - balance).
      seed: of what is drawn.

    Returns:
      Batches, int64 [size].
    """
    by_identity = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    weights = np.where(counts > 0, counts.astype(np.float64) ** (1 - balance), 0.0)
    shares = np.cumsum(weights) / weights.sum()

    def draw(_: int, generator: np.random.Generator) -> np.ndarray:
        identities = np.searchsorted(shares, generator.random(size), side="right")
        identities = np.minimum(identities, len(counts) - 1)  # the last share is 1 but for rounding
        within = (generator.random(size) * counts[identities]).astype(np.int64)
        return by_identity[starts[identities] + within]

    per_epoch = max(1, len(labels) // size)
    return grain.MapDataset.source(range(per_epoch)).seed(seed).random_map(draw).repeat()
