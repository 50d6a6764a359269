"""`facejax enroll`: people into a gallery, one by name or a folder of them."""

import argparse
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, of_batch, printable
from facejax.errors import UserError
from facejax.table import format_table

if TYPE_CHECKING:
    from facejax.recognition import Gallery, PhotoFaces


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
    people = list(_people(given.who))
    gallery, recognizer = work.open_gallery(given, create=True, dtype=given.dtype)
    enrolled: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    with gallery:
        photos = [photo for _, photo in people]
        found = work.look(given, recognizer, photos)
        seen = zip((name for name, _ in people), found, strict=True)
        for name, theirs in itertools.groupby(seen, key=lambda pair: pair[0]):
            record = _enroll(gallery, name, (photo for _, photo in theirs), given, skipped)
            if record is not None:
                enrolled.append(record)
        about = {"gallery": str(gallery), "recognizer": recognizer.card.name}
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


def _enroll(
    gallery: "Gallery",
    name: str,
    photos: Iterator["PhotoFaces"],
    given: argparse.Namespace,
    skipped: list[Skipped],
) -> dict[str, Any] | None:
    """One person's record, None if nothing could be enrolled; `skipped` grows by the rest."""
    from facejax.recognition.samples import default_check

    faces = []
    for photo in photos:
        face = work.chosen_face(photo, given.face)
        if isinstance(face, Skipped):
            skipped.append(face)
        else:
            faces.append(face)
    if not faces:
        return None
    try:
        done = gallery.enroll(
            name,
            faces,
            check=None if given.unchecked else default_check,
            duplicates=given.duplicates,
        )
    except UserError as error:
        skipped.append(Skipped(name, str(error)))
        return None
    skipped += [Skipped(one.source, "; ".join(one.reasons)) for one in done.refused]
    return {"name": done.name, "templates": len(done.templates)}
