"""`facejax enroll`: people into a gallery, one by name or a folder of them."""

import argparse
import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, of_batch, printable
from facejax.errors import UserError
from facejax.table import format_table

if TYPE_CHECKING:
    from facejax.recognition import Face, Gallery, PhotoFaces
    from facejax.recognition.samples import Check


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "enroll",
        help="people into a gallery",
        usage="%(prog)s [options] GALLERY NAME PHOTOS...\n       %(prog)s [options] GALLERY FOLDER",
        description="Adds a person, or everybody of a folder with a sub-folder per person. The "
        "gallery is made where it is missing.",
    )
    arguments.add_gallery(parser)
    parser.add_argument(
        "who", metavar="NAME PHOTOS", nargs="+", help="a name and photographs; or a FOLDER"
    )
    arguments.add_face(parser)
    parser.add_argument(
        "--unchecked", action="store_true", help="take small, blurred and turned faces, too"
    )
    parser.add_argument(
        "--duplicates",
        choices=("refuse", "allow"),
        default="refuse",
        help="a face that is enrolled under another name (default: refuse)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "int8"),
        help="of the templates of a new gallery (default: float32)",
    )
    arguments.add_recognizer(parser, gallery=True)
    arguments.add_detector(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    from facejax.recognition import Gallery
    from facejax.recognition.database import is_made

    people = list(_people(given.who))
    recognizer = work.open_gallerys_recognizer(given, required=False)
    enrolled: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    with contextlib.ExitStack() as opened:

        def open_gallery() -> Gallery:
            made = Gallery(given.gallery, recognizer=recognizer, dtype=given.dtype)
            return opened.enter_context(made)

        gallery = open_gallery() if is_made(given.gallery) else None
        photos = [photo for _, photo in people]
        found = work.look(given, recognizer, photos)
        seen = zip((name for name, _ in people), found, strict=True)
        for name, theirs in itertools.groupby(seen, key=lambda pair: pair[0]):
            faces = _faces((photo for _, photo in theirs), given, skipped)
            # A gallery is made for the first face that goes into it, and for none that does not.
            if gallery is None and _takes(name, faces, given, skipped):
                gallery = open_gallery()
            if gallery is not None and faces:
                enrolled += _enroll(gallery, name, faces, given, skipped)
        shown = None if gallery is None else str(gallery)
    about = {"gallery": shown, "recognizer": recognizer.card.name}
    rows = [[printable(one["name"]), str(one["templates"])] for one in enrolled]
    return of_batch(
        {**about, "people": enrolled},
        format_table(["name", "faces"], rows) if rows else "",
        {"people": len(enrolled), "faces": sum(one["templates"] for one in enrolled)},
        skipped,
        done=bool(enrolled),
        as_json=given.json,
    )


def _people(who: list[str]) -> Iterator[tuple[str, work.Listed]]:
    """Each photo and whose it is; those of one person follow each other."""
    from facejax.data import is_hidden
    from facejax.recognition.photos import locate
    from facejax.recognition.tables import clean_name

    if len(who) > 1:
        name = clean_name(who[0])
        yield from ((name, photo) for photo in work.list_photos(who[1:]))
        return
    root = locate(who[0])
    if not os.path.isdir(root):
        raise UserError(
            f"{printable(who[0])} is no folder: give a NAME and PHOTOS, or a FOLDER with a "
            "sub-folder per person"
        )
    try:
        entries = sorted(root.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"the folder {root} can't be read ({error.strerror}): mend who may read it"
        ) from error
    folders = [entry for entry in entries if entry.is_dir() and not is_hidden(entry.name)]
    if not folders:
        raise UserError(
            f"{root} has no folder per person: give a NAME and PHOTOS, or move each person's "
            "photographs into a folder of their own there"
        )
    for folder in folders:
        yield from ((folder.name, photo) for photo in work.list_photos([str(folder)]))


def _faces(
    photos: Iterator["PhotoFaces"], given: argparse.Namespace, skipped: list[Skipped]
) -> list["Face"]:
    """The face of each photo that has the one that is asked for; `skipped` grows by the rest."""
    faces = []
    for photo in photos:
        face = work.chosen_face(photo, given.face)
        if isinstance(face, Skipped):
            skipped.append(face)
        else:
            faces.append(face)
    return faces


def _takes(
    name: str, faces: list["Face"], given: argparse.Namespace, skipped: list[Skipped]
) -> bool:
    """Whether a gallery without anybody takes one of the faces; if not, `skipped` says why."""
    from facejax.recognition.enrolling import checked
    from facejax.recognition.samples import collect
    from facejax.recognition.tables import clean_name

    if not faces:
        return False
    try:
        samples, _ = collect(faces, find=list)
        checked(clean_name(name), samples, [], _check(given))
    except UserError as error:
        skipped.append(Skipped(name, str(error)))
        return False
    return True


def _enroll(
    gallery: "Gallery",
    name: str,
    faces: list["Face"],
    given: argparse.Namespace,
    skipped: list[Skipped],
) -> list[dict[str, Any]]:
    """One person's record, none if nothing could be enrolled; `skipped` grows by the rest."""
    try:
        done = gallery.enroll(name, faces, check=_check(given), duplicates=given.duplicates)
    except UserError as error:
        skipped.append(Skipped(name, str(error)))
        return []
    skipped += [Skipped(one.source, "; ".join(one.reasons)) for one in done.refused]
    return [{"name": done.name, "templates": len(done.templates)}]


def _check(given: argparse.Namespace) -> "Check | None":
    from facejax.recognition.samples import default_check

    return None if given.unchecked else default_check
