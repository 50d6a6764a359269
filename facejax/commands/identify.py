"""`facejax identify`: who the faces of photographs are."""

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, of_batch, printable
from facejax.errors import UserError
from facejax.table import format_table

if TYPE_CHECKING:
    from facejax.recognition import Gallery, PhotoFaces

_AT_A_TIME = 64  # faces in one search


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser("identify", help="who the faces of photographs are")
    arguments.add_gallery(parser)
    arguments.add_photos(parser)
    arguments.add_threshold(parser, fpir=True)
    parser.add_argument(
        "--margin",
        type=arguments.margin,
        default=0.0,
        metavar="COSINE",
        help="how far the best name must be ahead of the second (default: 0)",
    )
    parser.add_argument(
        "--pool",
        choices=("best", "mean"),
        default="best",
        help="of a person's templates (default: best)",
    )
    parser.add_argument(
        "--k",
        type=arguments.whole_number,
        default=2,
        metavar="NAMES",
        help="how many names to give of each face, 2 at least (default: 2)",
    )
    arguments.add_recognizer(parser, gallery=True)
    arguments.add_detector(parser)
    arguments.add_draw(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    from facejax.recognition.thresholds import far_of_fpir

    photos = work.list_photos(given.photos)
    pictures = work.Pictures(given.draw, photos, option="--draw") if given.draw else None
    gallery, recognizer = work.open_gallery(given)
    records, skipped = [], []
    with gallery:
        far = given.far if given.fpir is None else far_of_fpir(given.fpir, people=len(gallery))
        whose = f"the gallery {gallery}"
        limit = work.choose_threshold(given, gallery.thresholds, whose=whose, far=far)
        seen = work.look(given, recognizer, photos)
        options = {"k": given.k, "margin": given.margin, "pool": given.pool, "threshold": limit}
        found = identified(gallery, seen, options)
        for place, (photo, matches) in zip(photos, found, strict=True):
            if photo.skipped:
                skipped.append(Skipped(photo.source, photo.skipped))
                continue
            record: dict[str, Any] = {"photo": photo.source}
            if pictures is not None:
                try:
                    picture = _drawn(photo, matches)
                except UserError as error:  # it has gone since it was read
                    skipped.append(Skipped(photo.source, str(error)))
                    continue
                record["drawn"] = str(pictures.write(place.place, picture, source=photo.source))
            faces = [_record(face, match) for face, match in zip(photo.faces, matches, strict=True)]
            records.append({**record, "faces": faces})
        about = {"gallery": str(gallery), "recognizer": recognizer.card.name, "threshold": limit}
    faces = [face for record in records for face in record["faces"]]
    return of_batch(
        {**about, "photos": records},
        _table(records, limit) if faces else "",
        {
            "photos": len(records),
            "faces": len(faces),
            "known": sum(face["name"] is not None for face in faces),
        },
        skipped,
        done=bool(records),
        as_json=given.json,
    )


def identified(
    gallery: "Gallery", photos: Iterable["PhotoFaces"], options: dict[str, Any]
) -> Iterator[tuple["PhotoFaces", list[Any]]]:
    """Each photo with the matches of its faces; those of several are searched for together.

    Args:
      gallery: who may be in them.
      photos: of `work.look`.
      options: of `Gallery.identify`.
    """
    waiting: list[PhotoFaces] = []
    faces: list[Any] = []

    def answered() -> Iterator[tuple["PhotoFaces", list[Any]]]:
        matches = iter(gallery.identify(faces, **options) if faces else ())
        for photo in waiting:
            yield photo, [next(matches) for _ in photo.faces]
        waiting.clear()
        faces.clear()

    for photo in photos:
        waiting.append(photo)
        faces += photo.faces
        if len(faces) >= _AT_A_TIME:
            yield from answered()
    yield from answered()


def _record(face: Any, match: Any) -> dict[str, Any]:
    return {
        "number": face.number,
        "box": work.rounded(face.box),
        "name": match.name,
        "similarity": match.similarity,
        "candidates": [candidate._asdict() for candidate in match.candidates],
    }


def _drawn(photo: "PhotoFaces", matches: list[Any]) -> Any:
    import numpy as np

    from facejax.recognition import draw_faces, read_photo

    boxes = np.array([face.box for face in photo.faces], np.float32).reshape(-1, 4)
    landmarks = np.array([face.landmarks for face in photo.faces], np.float32).reshape(-1, 5, 2)
    return draw_faces(
        read_photo(photo.source),
        boxes,
        landmarks,
        names=[match.name for match in matches],
        similarities=[match.similarity for match in matches],
    )


def _table(records: list[dict[str, Any]], limit: float) -> str:
    rows = []
    for record in records:
        for face in record["faces"]:
            named = [f"{one['name']} {one['similarity']:.2f}" for one in face["candidates"]]
            near = named[1:] if face["name"] else named
            similarity = "-" if face["similarity"] is None else f"{face['similarity']:.2f}"
            rows.append(
                [
                    printable(record["photo"]),
                    str(face["number"]),
                    face["name"] or "unknown",
                    similarity,
                    ", ".join(near) or "-",
                ]
            )
    return format_table(["photo", "face", "name", f"similarity (from {limit:.2f})", "next"], rows)
