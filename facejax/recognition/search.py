"""Exact search: the most similar rows of a matrix, block by block, on the devices that hold it."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from facejax.compilation import jit

BLOCK = 65_536  # rows of a block in `top_k`
INDEX_BLOCK = 32_768  # and in an `Index`, whose last one is not full
_SMALLEST = 1024  # rows of a block that has just been begun
_QUERIES = (1, 8, 64)  # sizes that queries are padded to, so that few programs are compiled
_ROWS = (64, 2048)  # and rows that are written


def top_k(
    queries: jax.Array | np.ndarray,
    matrix: jax.Array | np.ndarray,
    *,
    k: int,
    block: int = BLOCK,
) -> tuple[jax.Array, jax.Array]:
    """The k rows of a matrix with the largest inner products, exactly; of unit rows, cosines.

    One compiled program takes the blocks in turn and carries the best rows along, so that only
    [Q, block] products exist at a time. It is called from outside `jit`: a `lax.scan` would copy
    every block before its product, which takes half of the time again on a CPU.

    Args:
      queries: float32 [Q, D].
      matrix: float32 [N, D], on the host or on a device.
      k: how many rows of each query, at least 1.
      block: rows of a block.

    Returns:
      similarities: float32 [Q, k], falling.
      indices: int32 [Q, k] of the rows, of equal ones the lower first. Where N < k the rest has
        similarity -inf and index -1.

    Raises:
      ValueError: `k` or `block` is less than 1.
    """
    chex.assert_rank([queries, matrix], 2)
    chex.assert_equal_shape([queries, matrix], dims=1)
    if k < 1 or block < 1:
        raise ValueError(f"k and block must be 1 at least, not {k} and {block}")
    queries = jnp.asarray(queries, jnp.float32)
    best = _nothing(len(queries), k, None)
    start = 0
    for rows in _blocks(matrix, block):
        before, best = best, _program(k)(best, queries, rows, None, None, np.int32(start))
        start += len(rows)
        jax.block_until_ready(before)  # what waits in line has its memory already
    return best


def quantize(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as int8 with a scale each, so that `values * scales[:, None]` is nearly what they were.

    Args:
      rows: float32 [N, D].

    Returns:
      values: int8 [N, D] in -127..127.
      scales: float32 [N], a 127th of a row's largest magnitude; 0 of a row of zeros.
    """
    scales = (np.abs(rows).max(axis=1, initial=0) / 127).astype(np.float32)
    divisors = np.where(scales > 0, scales, 1)[:, None]
    return np.rint(rows / divisors).astype(np.int8), scales


class _Block(NamedTuple):
    """Rows on a device; those beyond what is used, or removed, are zeros and not `valid`."""

    rows: jax.Array  # float32 or int8 [capacity, D]
    scales: jax.Array | None  # float32 [capacity], of int8 rows
    valid: jax.Array  # bool [capacity]


class Index:
    """Rows under keys, held on this process's devices, in which the best are searched exactly.

    Blocks of `block` rows lie on the devices in turn. The last one grows by doubling, so nothing is
    compiled anew for a row more, and a removed row makes place for the next.

    Args:
      size: length D of a row.
      dtype: float32, or int8 for a quarter of the memory (`quantize`).
      block: rows of a block.
      devices: of this process; None takes all of them.
    """

    def __init__(
        self,
        size: int,
        *,
        dtype: str = "float32",
        block: int = INDEX_BLOCK,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.size = size
        self._dtype = np.dtype(dtype)
        self._block = block
        self._devices = list(devices or jax.local_devices())
        self._blocks: list[_Block] = []
        self._keys = np.zeros(0, np.int64)  # of all the slots of all the blocks; -1 is a free one
        self._highest = -1

    def __len__(self) -> int:
        return int(np.count_nonzero(self._keys >= 0))

    def reserve(self, count: int) -> None:
        """Makes place for so many rows in all, so that the blocks need not grow on the way."""
        while len(self._keys) < count:
            last = len(self._blocks[-1].valid) if self._blocks else self._block
            missing = count - len(self._keys)
            if last < self._block:
                capacity = _capacity(last + missing, self._block)
                grown = _grow(self._blocks.pop(), capacity)
                self._append(grown, capacity - last)
            else:
                capacity = _capacity(missing, self._block)
                device = self._devices[len(self._blocks) % len(self._devices)]
                self._append(_empty(capacity, self.size, self._dtype, device), capacity)

    def put(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Adds rows, or replaces those of keys that are there.

        Args:
          keys: int64 [n], none negative, each once.
          rows: float32 [n, D], finite.
        """
        if not len(keys):
            return
        slots = self._slots(keys)
        added = np.flatnonzero(slots < 0)
        free = np.flatnonzero(self._keys < 0)
        if len(free) < len(added):
            self.reserve(len(self._keys) + len(added) - len(free))
            free = np.flatnonzero(self._keys < 0)
        slots[added] = free[: len(added)]
        self._write(slots, np.ascontiguousarray(rows, np.float32), valid=True)
        self._keys[slots] = keys
        self._highest = max(self._highest, int(np.max(keys)))

    def drop(self, keys: np.ndarray) -> None:
        """Removes rows, whose places are zeroed; keys that aren't there are passed over.

        Args:
          keys: int64 [n].
        """
        slots = self._slots(keys)
        slots = slots[slots >= 0]
        self._write(slots, np.zeros((len(slots), self.size), np.float32), valid=False)
        self._keys[slots] = -1

    def search(self, queries: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows with the largest inner products.

        Args:
          queries: float32 [Q, D].
          k: how many of each query.

        Returns:
          similarities: float32 [Q, k], falling; -inf where there are fewer rows.
          keys: int64 [Q, k], -1 there.
        """
        similarities = np.full((len(queries), k), -np.inf, np.float32)
        keys = np.full((len(queries), k), -1, np.int64)
        if not self._blocks:
            return similarities, keys
        for start in range(0, len(queries), _QUERIES[-1]):
            part = queries[start : start + _QUERIES[-1]]
            padding = _padded(len(part), _QUERIES) - len(part)
            found, slots = self._best(np.pad(part, [(0, padding), (0, 0)]), k)
            similarities[start : start + len(part)] = found[: len(part)]
            slots = slots[: len(part)]
            keys[start : start + len(part)] = np.where(slots < 0, -1, self._keys[slots])
        return similarities, keys

    def _best(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities [Q, k] and slots [Q, k]; each device goes through its own blocks."""
        used = self._devices[: len(self._blocks)]
        carried = [_nothing(len(queries), k, device) for device in used]
        before = list(carried)
        placed = [jax.device_put(queries, device) for device in used]
        start = 0
        for number, block in enumerate(self._blocks):
            on = number % len(used)
            jax.block_until_ready(before[on])  # what waits in line has its memory already
            before[on] = carried[on]
            carried[on] = _program(k)(carried[on], placed[on], *block, np.int32(start))
            start += len(block.valid)
        values, slots = (np.concatenate([np.asarray(a) for a in each], axis=1)
                         for each in zip(*carried, strict=True))  # fmt: skip
        order = np.lexsort((slots, -values), axis=1)[:, :k]
        return np.take_along_axis(values, order, 1), np.take_along_axis(slots, order, 1)

    def _append(self, block: _Block, count: int) -> None:
        self._blocks.append(block)
        self._keys = np.concatenate([self._keys, np.full(count, -1, np.int64)])

    def _slots(self, keys: np.ndarray) -> np.ndarray:
        """Where the keys are, -1 of those that are nowhere."""
        keys = np.asarray(keys, np.int64)
        slots = np.full(len(keys), -1, np.int64)
        if not len(keys) or keys.min() > self._highest:  # as when a gallery is loaded
            return slots
        order = np.argsort(keys)
        places = order[np.searchsorted(keys, self._keys, sorter=order) % len(keys)]
        held = np.flatnonzero(keys[places] == self._keys)
        slots[places[held]] = held
        return slots

    def _write(self, slots: np.ndarray, rows: np.ndarray, *, valid: bool) -> None:
        values, scales = quantize(rows) if self._dtype == np.int8 else (rows, None)
        for number in np.unique(slots // self._block):
            (chosen,) = np.nonzero(slots // self._block == number)
            for start in range(0, len(chosen), _ROWS[-1]):
                part = chosen[start : start + _ROWS[-1]]
                padding = _padded(len(part), _ROWS) - len(part)
                block = self._blocks[number]
                # Padding is written beyond the end, which is to say nowhere.
                places = np.pad(
                    slots[part] % self._block, (0, padding), constant_values=len(block.valid)
                )
                self._blocks[number] = _written(
                    block,
                    places.astype(np.int32),
                    np.pad(values[part], [(0, padding), (0, 0)]),
                    None if scales is None else np.pad(scales[part], (0, padding)),
                    np.full(len(places), valid),
                )


@functools.cache
def _program(k: int) -> Any:
    """Takes one block more into the best k."""

    @jit
    def program(
        best: tuple[jax.Array, jax.Array],
        queries: jax.Array,
        rows: jax.Array,
        scales: jax.Array | None,
        valid: jax.Array | None,
        start: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        products = lax.dot_general(
            queries,
            rows.astype(jnp.float32),
            (((1,), (1,)), ((), ())),
            precision=lax.Precision.HIGHEST,
        )
        if scales is not None:
            products = products * scales[None]
        if valid is not None:
            products = jnp.where(valid[None], products, -jnp.inf)
        values, places = lax.top_k(products, min(k, rows.shape[0]))
        places = jnp.where(values > -jnp.inf, places + start, -1)
        values = jnp.concatenate([best[0], values], axis=1)  # of equal ones, the earlier block's
        places = jnp.concatenate([best[1], places], axis=1)
        values, chosen = lax.top_k(values, k)
        return values, jnp.take_along_axis(places, chosen, axis=1)

    return program


def _blocks(matrix: jax.Array | np.ndarray, block: int) -> Iterator[jax.Array]:
    """Cut from the matrix; on the CPU they are views of it, where its alignment allows."""
    device = None
    if isinstance(matrix, jax.Array):
        devices = matrix.devices()
        if len(devices) == 1 and next(iter(devices)).platform == "cpu":
            (device,) = devices
            matrix = np.asarray(matrix)  # copies nothing
    for start in range(0, len(matrix), block):
        part = matrix[start : start + block]
        if isinstance(part, np.ndarray):
            part = jax.device_put(np.asarray(part, np.float32), device)
        yield part


def _nothing(queries: int, k: int, device: Any) -> tuple[jax.Array, jax.Array]:
    values = np.full((queries, k), -np.inf, np.float32)
    return jax.device_put((values, np.full((queries, k), -1, np.int32)), device)


def _padded(count: int, sizes: Sequence[int]) -> int:
    return next(size for size in sizes if size >= count)


def _capacity(count: int, block: int) -> int:
    """A power of two from the smallest on, and the block's size at most."""
    return min(block, max(_SMALLEST, 1 << (count - 1).bit_length()))


def _empty(capacity: int, size: int, dtype: np.dtype, device: jax.Device) -> _Block:
    rows = jnp.zeros((capacity, size), dtype, device=device)
    scales = jnp.zeros(capacity, jnp.float32, device=device) if dtype == np.int8 else None
    return _Block(rows, scales, jnp.zeros(capacity, bool, device=device))


def _grow(block: _Block, capacity: int) -> _Block:
    added = capacity - len(block.valid)
    return jax.tree.map(lambda a: jnp.pad(a, [(0, added)] + [(0, 0)] * (a.ndim - 1)), block)


@functools.partial(jax.jit, donate_argnums=0)
def _written(
    block: _Block, places: jax.Array, values: jax.Array, scales: jax.Array | None, valid: jax.Array
) -> _Block:
    """The block with rows replaced, in its own memory."""
    new = _Block(values, scales, valid)
    return jax.tree.map(lambda a, b: a.at[places].set(b, mode="drop"), block, new)
