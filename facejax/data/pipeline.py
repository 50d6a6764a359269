"""From a source to batches on the host; batch n depends on nothing but source, seed and size."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import cv2
import grain
import numpy as np

from facejax import files
from facejax.data import order
from facejax.data.images import decode, read_file
from facejax.data.sources import Source
from facejax.data.unreadable import stand_ins
from facejax.errors import UserError

_STAND_INS = 100  # records tried in place of one that can't be read


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
    replace_bad: bool = False,
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

    A record that can't be read stops it all, or with `replace_bad` the same other one always stands
    in: the next of its identity that can be read, else the next.

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
      replace_bad: whether another record stands in for one that can't be read.

    Returns:
      An iterator of `{"image": uint8 [batch_size, image_size, image_size, 3] RGB, "label": int32
      [batch_size], "record": int64 [batch_size]}`; `source[record]` is what a row was read from.
      With `replace_bad` there is `"replaced"`, int64 [batch_size], too: the number of the record
      that could not be read, -1 in all other rows.

    Raises:
      ValueError: an argument out of its range, or an empty source.
      UserError: K does not divide the batch size, or there are too few identities for a batch;
        from the iterator, an image that does not decode, or whose 100 next ones don't either.
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
    size = batch_size * process_count
    if per_identity:
        groups = order.identity_batches(
            source.labels, size, batch_size=batch_size, per_identity=per_identity, seed=seed
        )
    elif balance:
        groups = order.balanced_batches(source.labels, size, balance=balance, seed=seed)
    else:
        groups = order.shuffled_batches(len(source), size, seed=seed)
    read = _reader(source, image_size, replace_bad=replace_bad)
    mine = slice(process_index * batch_size, (process_index + 1) * batch_size)
    rows = groups.map(lambda numbers: read(numbers[mine]))
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
    read = _reader(source, image_size, replace_bad=False)
    numbers = np.arange(len(source))
    starts = grain.MapDataset.range(0, len(source), batch_size)
    rows = starts.map(lambda first: read(numbers[first : first + batch_size]))
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


def _reader(
    source: Source, image_size: int, *, replace_bad: bool
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """From record numbers, int64 [B], to a batch of them."""
    _one_thread_per_image()
    labels = np.asarray(source.labels, np.int32)
    # To find that an image is whole takes longer, and once is enough.
    whole = np.full(len(source), getattr(source, "checked", False))

    def pixels(number: int) -> np.ndarray:
        record = source[number]
        name = record.get("id", f"record {number}")
        image = decode(record["image"], image_size, name, whole=bool(whole[number]))
        whole[number] = True
        return image

    def stand_in(number: int, error: UserError) -> tuple[int, np.ndarray]:
        """Another record and its pixels."""
        for other in stand_ins(labels, number, most=_STAND_INS).tolist():
            with contextlib.suppress(UserError):
                return other, pixels(other)
        raise error

    read_into = getattr(source, "read_into", None)

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        images = np.empty((len(numbers), image_size, image_size, 3), np.uint8)
        taken = numbers.astype(np.int64)
        at_once = read_into is not None and read_into(taken, images)
        for row, number in enumerate(() if at_once else numbers.tolist()):
            try:
                images[row] = pixels(number)
            except UserError as error:
                if not replace_bad:
                    raise
                taken[row], images[row] = stand_in(number, error)
        batch: dict[str, np.ndarray] = {"image": images, "label": labels[taken], "record": taken}
        if replace_bad:
            batch["replaced"] = np.where(taken == numbers, -1, numbers)
        return batch

    return read


def _one_thread_per_image() -> None:
    """Images are decoded side by side: threads within one would only get in the way."""
    cv2.setNumThreads(1)


def _read_options(threads: int | None, prefetch: int) -> grain.ReadOptions:
    threads = min(16, os.cpu_count() or 1) if threads is None else threads
    # a thread makes one batch, so fewer batches than threads would leave some idle
    buffer_size = max(prefetch, threads) if threads else 0
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer_size)
