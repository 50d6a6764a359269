"""`facejax detect`: where the faces are."""

import argparse
import functools
from typing import Any, NamedTuple

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, of_batch, printable
from facejax.errors import UserError
from facejax.table import format_table


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser("detect", help="where the faces of photographs are")
    arguments.add_photos(parser)
    arguments.add_detector(parser)
    arguments.add_draw(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


class _Seen(NamedTuple):
    source: str
    size: tuple[int, int]
    detection: Any
    skipped: str = ""


def _run(given: argparse.Namespace) -> Outcome:
    from facejax.recognition.photos import expand, read_ahead

    photos = work.list_photos(given.photos)
    pictures = work.Pictures(given.draw, photos, option="--draw") if given.draw else None
    detector = work.open_detector(given)
    sources = [photo.source for photo in photos]
    seen = read_ahead(
        functools.partial(_look, detector=detector, keep=pictures is not None), expand(sources)
    )
    records: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    skipped: list[Skipped] = []
    for place, (found, picture) in zip(photos, work.progress(seen, len(photos)), strict=True):
        if found.skipped:
            skipped.append(Skipped(found.source, found.skipped))
            continue
        faces: list[dict[str, Any]] = [
            {
                "number": number,
                "box": work.rounded(box),
                "landmarks": [work.rounded(point) for point in points],
                "score": round(float(score), 4),
            }
            for number, (box, points, score) in enumerate(zip(*found.detection, strict=True))
        ]
        record = {"photo": found.source, "width": found.size[1], "height": found.size[0]}
        if pictures is not None:
            record["drawn"] = str(pictures.write(place.place, picture, source=found.source))
        records.append({**record, "faces": faces})
        for face in faces:
            box = [f"{number:.0f}" for number in face["box"]]
            rows.append(
                [printable(found.source), str(face["number"]), *box, f"{face['score']:.2f}"]
            )
    header = ["photo", "face", "x", "y", "width", "height", "score"]
    return of_batch(
        {"photos": records},
        format_table(header, rows) if rows else "",
        {"photos": len(records), "faces": len(rows)},
        skipped,
        done=bool(records),
        as_json=given.json,
    )


def _look(photo: Any, *, detector: Any, keep: bool) -> tuple[_Seen, Any]:
    """In a thread: what is in a photo, and the picture of it if it is wanted."""
    try:
        pixels = photo.read()
        found = detector(pixels)
    except UserError as error:
        return _Seen(photo.source, (0, 0), None, str(error)), None
    picture = None
    if keep:
        from facejax.recognition import draw_faces

        picture = draw_faces(pixels, found.boxes, found.landmarks)
    return _Seen(photo.source, pixels.shape[:2], found), picture
