"""What the commands on photographs share: opening, looking, choosing a face, writing pictures."""

import argparse
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from facejax.commands import arguments
from facejax.commands.outcome import Skipped
from facejax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from facejax.recognition import Detector, Face, Gallery, PhotoFaces, Recognizer, Threshold

T = TypeVar("T")


class Listed(NamedTuple):
    """A photograph of the command line.

    Attributes:
      source: its path.
      place: the path below the folder that was given, or the file's name.
    """

    source: str
    place: pathlib.Path


def list_photos(given: Iterable[str]) -> list[Listed]:
    """The photographs of files and folders, in order; nothing is read yet.

    Args:
      given: paths. A folder that has none, or can't be read, stands for itself.
    """
    from facejax.recognition.photos import expand, locate

    listed = []
    for path in given:
        for photo in expand([path]):
            found = pathlib.Path(photo.source)
            place = pathlib.Path(found.name)
            if isinstance(photo.content, pathlib.Path) and (root := locate(path)) != found:
                place = found.relative_to(root)
            listed.append(Listed(photo.source, place))
    return listed


def keep_programs() -> None:
    """From now on programs are compiled once and kept on disk, where that can be written."""
    from facejax import compilation, files

    try:
        compilation.enable_cache(files.home() / "xla")
    except UserError as error:
        print(f"warning: {error}; going on without it", file=sys.stderr)


def open_recognizer(name: str | None) -> "Recognizer":
    """`facejax.recognition.open`, whose programs are kept.

    Args:
      name: of the command line; None is the best that is installed.
    """
    from facejax import recognition

    keep_programs()
    return recognition.open(name)


def open_detector(given: argparse.Namespace) -> "Detector":
    """The detector of `arguments.add_detector`.

    Args:
      given: the arguments.
    """
    from facejax.recognition import YuNet

    tiles: dict[str, Any] = {"always": True, "never": False, "auto": "auto"}
    return YuNet(
        given.detector,
        threshold=given.score,
        tiles=tiles[given.tiles],
        smallest=given.smallest,
    )


def open_gallery(given: argparse.Namespace) -> tuple["Gallery", "Recognizer"]:
    """A gallery that is there, and the recognizer that wrote it.

    Args:
      given: as in `open_gallerys_recognizer`.
    """
    from facejax.recognition import Gallery

    recognizer = open_gallerys_recognizer(given, required=True)
    return Gallery(given.gallery, recognizer=recognizer, create=False), recognizer


def open_gallerys_recognizer(given: argparse.Namespace, *, required: bool) -> "Recognizer":
    """The recognizer that wrote a gallery, or is to write it.

    Args:
      given: with `gallery`, and `recognizer`, which may be None: then it is the gallery's, if it is
        one of those that have a name.
      required: whether the gallery must be there.
    """
    from facejax.recognition import packages

    name = given.recognizer
    if name is None:
        weights = _weights_of(given.gallery, required=required)
        known = {packages.SFACE.sha256: "sface", packages.DLIB.sha256: "dlib"}
        name = known.get(weights or "")
    return open_recognizer(name)


def _weights_of(where: str, *, required: bool) -> str | None:
    """The SHA-256 of the weights that wrote a gallery; None where there is none yet."""
    from facejax.recognition import Gallery

    try:
        with Gallery(where, create=False) as gallery:
            return gallery.card["sha256"] if gallery.card else None
    except UserError:
        if required:
            raise
        return None  # whoever makes it says what is wrong with its place


def choose_threshold(
    given: argparse.Namespace,
    thresholds: Sequence["Threshold"],
    *,
    whose: str,
    far: float | None,
) -> float:
    """The cosine that was asked for, or the calibrated one of a false accept rate.

    Args:
      given: with `threshold`.
      thresholds: calibrated ones.
      whose: they are, for the sentence.
      far: the false accept rate; None is the usual one.
    """
    if given.threshold is not None:
        return given.threshold
    from facejax.recognition.thresholds import choose

    far = arguments.FAR if far is None else far
    return choose(thresholds, far=far, whose=whose, remedy="give --threshold=COSINE").cosine


def look(
    given: argparse.Namespace,
    recognizer: Any,
    photos: Sequence[Listed],
    *,
    keep_crops: bool = False,
) -> Iterator["PhotoFaces"]:
    """The faces of photographs, photo by photo, with a progress bar.

    Args:
      given: the arguments of `arguments.add_detector`.
      recognizer: what embeds.
      photos: of `list_photos`.
      keep_crops: whether the aligned crops are kept.
    """
    from facejax.recognition import iter_faces

    sources = [photo.source for photo in photos]
    found = iter_faces(sources, recognizer, detector=open_detector(given), keep_crops=keep_crops)
    return progress(found, len(photos))


def progress(items: Iterable[T], total: int) -> Iterator[T]:
    """The same items, with a bar on stderr where that is a terminal.

    Args:
      items: to be gone through.
      total: how many there are.
    """
    if total < 2 or not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, unit="photo", leave=False, file=sys.stderr)


def chosen_face(photo: "PhotoFaces", which: str) -> "Face | Skipped":
    """The one face of a photo that is asked for, or why there is none.

    Args:
      photo: what was found in it.
      which: only, largest or center.
    """
    if photo.skipped:
        return Skipped(photo.source, photo.skipped)
    if not photo.faces:
        return Skipped(photo.source, "there is no face in it")
    if len(photo.faces) == 1:
        return photo.faces[0]
    if which == "only":
        reason = (
            f"there are {len(photo.faces)} faces in it: take one with --face=largest or "
            "--face=center, or another photo"
        )
        return Skipped(photo.source, reason)
    if which == "largest":
        return max(photo.faces, key=lambda face: face.box[2] * face.box[3])
    height, width = photo.size

    def off_center(face: "Face") -> float:
        x, y, wide, high = (float(number) for number in face.box)
        return (x + wide / 2 - width / 2) ** 2 + (y + high / 2 - height / 2) ** 2

    return min(photo.faces, key=off_center)


def rounded(numbers: Iterable[Any]) -> list[float]:
    """Positions in pixels as JSON takes them, to a hundredth.

    Args:
      numbers: of any float type.
    """
    return [round(float(number), 2) for number in numbers]


class Pictures:
    """Where pictures made of photographs are written: one file, or a folder with one of each."""

    def __init__(self, out: str, photos: Sequence[Listed], *, option: str):
        """Refuses what can't be meant.

        Args:
          out: a folder, made where it is missing; or a file, where there is one photo.
          photos: of which pictures are made.
          option: of the command line, for the sentences.
        """
        from facejax import files
        from facejax.data import is_image

        self.out, self.option = files.expand(out), option
        self.single = is_image(self.out.name) and not self.out.is_dir()
        if self.single and len(photos) != 1:
            raise UserError(
                f"{option}={out} is one file, and there are {len(photos)} photographs: give a "
                "folder"
            )
        if not self.single and self.out.exists() and not self.out.is_dir():
            raise UserError(f"{option}={out} is a file: give a folder, or the name of an image")
        self._used: set[pathlib.Path] = set()

    def write(self, place: pathlib.Path, pixels: "np.ndarray", *, source: str) -> pathlib.Path:
        """Writes one.

        Args:
          place: its path in the folder; a number is put in where it is taken.
          pixels: uint8 RGB [H, W, 3].
          source: the photograph, which is never written over.

        Returns:
          The path that it was written to.
        """
        import cv2

        from facejax import files

        path = self.out if self.single else self.out / place
        if not cv2.haveImageWriter(path.name):
            path = path.with_name(f"{path.name}.png")
        first, number = path, 1
        while path in self._used:
            number += 1
            path = first.with_name(f"{first.stem}-{number}{first.suffix}")
        self._used.add(path)
        if path.exists() and path.samefile(source):
            raise UserError(f"{path} would be written over by its own picture: give another folder")
        with files.refusing(path, f"give another {self.option}"):
            jpeg = path.suffix.lower() in (".jpg", ".jpeg")
            quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if jpeg else []
            encoded = cv2.imencode(path.suffix, pixels[..., ::-1], quality)[1]
            files.write(path, encoded.tobytes())
        return path
