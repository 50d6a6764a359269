"""Photographs: from paths, bytes and folders to pixels, in threads ahead of who uses them."""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from facejax.data.images import decode, is_hidden, is_image, read_file
from facejax.errors import UserError

PhotoLike = str | os.PathLike[str] | bytes | np.ndarray
Photos = PhotoLike | Iterable[PhotoLike]

Item = TypeVar("Item")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photograph that has not been read yet.

    Attributes:
      source: its name: the path, or "photo 3" for the fourth one given, where it has no path.
      content: the path, the encoded bytes, or uint8 RGB [H, W, 3]; or what is wrong with a folder
        that stands for its photos, which `read` raises.
    """

    source: str
    content: pathlib.Path | bytes | np.ndarray | UserError = dataclasses.field(repr=False)

    def read(self) -> np.ndarray:
        """uint8 RGB [H, W, 3]; see `read_photo`."""
        if isinstance(self.content, UserError):
            raise self.content
        return read_photo(self.content, name=self.source)


def read_photo(photo: PhotoLike, *, name: str | None = None) -> np.ndarray:
    """A photograph, upright.

    It is turned as its EXIF data say; CMYK becomes RGB, grey three equal colors, 16 bits are scaled
    to 8, of several frames the first is taken, and what is transparent shows grey.

    Args:
      photo: a path, the encoded bytes, or an array: uint8 [H, W, 3] RGB, [H, W] or [H, W, 1] grey,
        or [H, W, 4] of which the opacity is left out.
      name: what to call it in the message; the path, if it is None.

    Returns:
      uint8 [H, W, 3] RGB.

    Raises:
      UserError: it can't be read, is empty or damaged, or is no image that OpenCV can decode; an
        array of another shape or dtype.
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo, name or "the photo")
    if isinstance(photo, bytes | bytearray | memoryview):
        data, called = bytes(photo), name or "the photo"
    else:
        path = pathlib.Path(photo)
        called = name or str(path)
        if path.is_dir():
            raise UserError(f"{called} is a folder: give a photograph.")
        data = read_file(path, called)
    if not data:
        raise UserError(f"{called} is empty: replace the file or remove it.")
    return decode(data, None, called)


def _from_array(pixels: np.ndarray, name: str) -> np.ndarray:
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if pixels.dtype != np.uint8 or not fits or not pixels.size:
        raise UserError(
            f"{name} is an array of {pixels.dtype} {pixels.shape}: give uint8 RGB [H, W, 3]."
        )
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def expand(photos: Photos) -> Iterator[Photo]:
    """Names photos one by one, those of a folder in sorted order, its sub-folders' included.

    Args:
      photos: a photo or an iterable of them: paths of files and folders, bytes, arrays. It is
        read as it goes, so it may be a generator without an end.

    Yields:
      Photos, not read yet, so nothing is raised for those that are missing or damaged. In folders
      those files count that are images by their names and not hidden; a file that is named itself
      always counts. A folder that can't be read or has no photographs is one photo that says so.
    """
    single = isinstance(photos, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
    given: Iterable[PhotoLike] = [photos] if single else photos  # type: ignore[list-item,assignment]
    for number, photo in enumerate(given):
        if isinstance(photo, np.ndarray):
            yield Photo(f"photo {number}", photo)
        elif isinstance(photo, bytes | bytearray | memoryview):
            yield Photo(f"photo {number}", bytes(photo))
        else:
            path = pathlib.Path(photo)
            if path.is_dir():
                yield from _of_folder(path)
            else:
                yield Photo(str(path), path)


def _of_folder(folder: pathlib.Path) -> Iterator[Photo]:
    count = 0
    for photo in _walk(folder):
        yield photo
        count += 1
    if not count:
        reason = f"{folder} has no photographs: give a folder with images in it."
        yield Photo(str(folder), UserError(reason))


def _walk(folder: pathlib.Path) -> Iterator[Photo]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        reason = (
            f"{folder} cannot be read ({error.strerror}): mend who may read it, or leave it out."
        )
        yield Photo(str(folder), UserError(reason))
        return
    for entry in entries:
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            if not entry.is_symlink():  # it might lead back
                yield from _walk(entry)
        elif is_image(entry.name):
            yield Photo(str(entry), entry)


def threads() -> int:
    """How many threads read photos: one for each core that this process may use, at most eight."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(usable or 1, 8))


def read_ahead(
    work: Callable[[Item], T], photos: Iterable[Item], *, workers: int | None = None
) -> Iterator[T]:
    """Does some work on each photo in threads, ahead of the consumer; the results are in order.

    At most two photos for each thread are held at a time, whatever their number.

    Args:
      work: what is done with a photo, such as reading it.
      photos: of `expand`, or what else stands for a photo.
      workers: number of threads; None is one a core.

    Yields:
      The result of each photo. An exception of `work` is raised in its place.
    """
    workers = threads() if workers is None else workers
    waiting: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="facejax-photos")
    try:
        for photo in photos:
            waiting.append(pool.submit(work, photo))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Whoever stops early, or meets an error, does not wait for what nobody will read.
        pool.shutdown(wait=True, cancel_futures=True)
