"""From a source to batches on the host; batch n depends on nothing but source, seed and size."""

import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np

from facejax import files
from facejax.data.images import decode, read_file
from facejax.data.sources import Source
from facejax.errors import UserError


def batches(
    source: Source,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int | None = None,
    prefetch: int = 4,
    per_identity: int = 0,
    balance: float = 0.0,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches, of records or of identities.

    Every record comes once per epoch, unless `balance` or `per_identity` says otherwise.

    With `balance` each row is drawn by itself: an identity with n images in proportion to
    n^(1 - balance), and then one of its images; at 1 all identities come equally often.

    With K = `per_identity` a batch holds K images of each of batch_size * process_count / K
    different identities, side by side, and every process gets whole identities. They come in
    shuffled passes over all identities, each in a new order; those left at the end of a pass, too
    few for a batch, sit it out. The K images are drawn anew each time, all different where the
    identity has K of them.

    Batch n is a pure function of (source, seed, n, batch_size * process_count, K, balance): the
    number of threads and where the iteration began do not change it, and the processes' n-th
    batches, one behind the other, are the n-th batch of one process alone. So the position in the
    data is the step number, and nothing else need be saved to resume. Each epoch has an order of
    its own; a batch may straddle two epochs.

    Args:
      source: the records; may be smaller than a batch.
      batch_size: rows of one process' batch.
      image_size: side of the images in pixels; others are resized.
      seed: of the order, 0 <= seed < 2**32.
      start: the number of the first batch to give.
      process_index: this process, 0 <= process_index < process_count.
      process_count: processes that share the data.
      threads: threads that read and decode ahead; 0 works in the caller's thread, None is
        one per core, at most 16.
      prefetch: batches that are made ahead of the caller.
      per_identity: K, a divisor of the batch size; 0 draws records, whosever they are.
      balance: 0 <= balance <= 1; only without `per_identity`.

    Returns:
      An iterator of `{"image": uint8 [batch_size, image_size, image_size, 3] RGB, "label": int32
      [batch_size], "record": int64 [batch_size]}`; `source[record]` is what a row was read from.

    Raises:
      ValueError: an argument out of its range, or an empty source.
      UserError: K does not divide the batch size, or there are too few identities for a batch;
        from the iterator, an image that does not decode.
    """
    if batch_size < 1 or start < 0 or not 0 <= process_index < process_count:
        raise ValueError(
            f"out of range: {batch_size=}, {start=}, {process_index=}, {process_count=}"
        )
    if per_identity < 0 or not 0 <= balance <= 1:
        raise ValueError(f"out of range: {per_identity=}, {balance=}")
    if per_identity and balance:
        raise ValueError(f"give one of {per_identity=} and {balance=}")
    if len(source) == 0:
        raise ValueError("the source is empty")
    read = _reader(source, image_size)
    if not per_identity and not balance:
        numbers = grain.MapDataset.source(range(len(source))).seed(seed).shuffle().repeat()
        shares = numbers.map(read).batch(batch_size, drop_remainder=True)
        rows = shares[process_index::process_count]
    else:
        if per_identity:
            groups = _identity_batches(source, batch_size, process_count, per_identity, seed)
        else:
            groups = _balanced_batches(source, batch_size * process_count, balance, seed)

        def read_share(group: np.ndarray) -> dict[str, np.ndarray]:
            mine = np.split(group.ravel(), process_count)[process_index]
            records = [read(number) for number in mine]
            return {name: np.stack([record[name] for record in records]) for name in records[0]}

        rows = groups.map(read_share)
    return iter(rows[start:].to_iter_dataset(_read_options(threads, prefetch)))


def padded_batches(
    source: Source, *, batch_size: int, image_size: int, threads: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Every record once, in order; the last batch is filled up with black rows.

    Args:
      source: the records.
      batch_size: rows of every batch, the last too.
      image_size: side of the images in pixels; others are resized.
      threads: as in `batches`.

    Yields:
      `{"image": uint8 [batch_size, image_size, image_size, 3] RGB, "label": int32 [batch_size],
      "record": int64 [batch_size]}`; label and record number of the rows that fill up are -1.

    Raises:
      UserError: an image does not decode.
    """
    numbers = grain.MapDataset.source(range(len(source)))
    rows = numbers.map(_reader(source, image_size)).batch(batch_size)
    for batch in rows.to_iter_dataset(_read_options(threads, prefetch=4)):
        missing = batch_size - len(batch["label"])
        yield {
            "image": np.pad(batch["image"], ((0, missing), (0, 0), (0, 0), (0, 0))),
            "label": np.pad(batch["label"], (0, missing), constant_values=-1),
            "record": np.pad(batch["record"], (0, missing), constant_values=-1),
        }


def read_images(
    paths: Sequence[str | pathlib.Path], *, image_size: int, threads: int | None = None
) -> Iterator[np.ndarray]:
    """Image files in order, read and decoded ahead of the caller.

    Args:
      paths: of encoded images; `~` is the home.
      image_size: side of the images in pixels; others are resized.
      threads: as in `batches`.

    Returns:
      An iterator of uint8 [image_size, image_size, 3] RGB.

    Raises:
      UserError: from the iterator, an image that cannot be read or is damaged.
    """
    _one_thread_per_image()

    def read(path: str | pathlib.Path) -> np.ndarray:
        return decode(read_file(files.expand(path)), image_size, str(path))

    images = grain.MapDataset.source(paths).map(read)
    return iter(images.to_iter_dataset(_read_options(threads, prefetch=64)))


def _identity_batches(
    source: Source, batch_size: int, process_count: int, per_identity: int, seed: int
) -> grain.MapDataset:
    """Endless batches of all processes: record numbers [identities, per_identity]."""
    if batch_size % per_identity:
        raise UserError(
            f"a batch of {batch_size} is not a whole number of identities with "
            f"{per_identity} images each: make it a multiple of {per_identity}"
        )
    by_identity = np.argsort(source.labels, kind="stable")
    starts = np.flatnonzero(np.diff(source.labels[by_identity])) + 1
    identities = np.split(by_identity, starts)
    wanted = batch_size * process_count // per_identity
    if len(identities) < wanted:
        raise UserError(
            f"a batch of {wanted} identities needs more than the {len(identities)} there are: "
            f"take a smaller batch or more images of each identity"
        )

    def draw(records: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return np.resize(generator.permutation(records), per_identity)

    groups = grain.MapDataset.source(identities).seed(seed).shuffle().random_map(draw)
    return groups.batch(wanted, drop_remainder=True).repeat()


def _balanced_batches(source: Source, rows: int, balance: float, seed: int) -> grain.MapDataset:
    """Endless batches of all processes: record numbers [rows]."""
    labels = np.asarray(source.labels)
    by_identity = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    weights = np.where(counts > 0, counts.astype(np.float64) ** (1 - balance), 0.0)
    shares = np.cumsum(weights) / weights.sum()

    def draw(_: int, generator: np.random.Generator) -> np.ndarray:
        identities = np.searchsorted(shares, generator.random(rows), side="right")
        identities = np.minimum(identities, len(counts) - 1)  # the last share is 1 but for rounding
        within = (generator.random(rows) * counts[identities]).astype(np.int64)
        return by_identity[starts[identities] + within]

    batches_per_epoch = max(1, len(labels) // rows)
    drawn = grain.MapDataset.source(range(batches_per_epoch)).seed(seed).random_map(draw)
    return drawn.repeat()


def _reader(source: Source, image_size: int) -> Callable[[int], dict[str, Any]]:
    """From the number of a record to its row of a batch."""
    _one_thread_per_image()
    # To find that an image is whole holds up the other threads, and once is enough.
    whole = np.full(len(source), getattr(source, "checked", False))

    def read(number: int) -> dict[str, Any]:
        record = source[int(number)]
        name = record.get("id", f"record {number}")
        image = decode(record["image"], image_size, name, whole=bool(whole[number]))
        whole[number] = True
        return {"image": image, "label": np.int32(record["label"]), "record": np.int64(number)}

    return read


def _one_thread_per_image() -> None:
    """Images are decoded side by side: threads within one would only get in the way."""
    cv2.setNumThreads(1)


def _read_options(threads: int | None, prefetch: int) -> grain.ReadOptions:
    threads = min(16, os.cpu_count() or 1) if threads is None else threads
    # a thread makes one batch, so fewer batches than threads would leave some idle
    buffer_size = max(prefetch, threads) if threads else 0
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer_size)
