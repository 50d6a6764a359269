"""`facejax align`: from photographs to a folder of aligned crops, as training reads it."""

import argparse
import pathlib
from typing import TYPE_CHECKING, Any

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, of_batch, printable
from facejax.table import format_table

if TYPE_CHECKING:
    import numpy as np


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "align",
        help="aligned crops of faces",
        description="Cuts out faces as a recognizer wants them. A folder with a sub-folder per "
        "person becomes one that data.source of train.py reads.",
    )
    arguments.add_photos(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder of the crops")
    parser.add_argument(
        "--format", choices=("jpg", "png"), default="jpg", help="of the crops (default: jpg)"
    )
    parser.add_argument(
        "--recognizer",
        metavar="NAME",
        help="for whom: sface, dlib, the workdir of a run, or FILE.onnx (default: 112x112 pixels "
        "at the ArcFace template, which are sface's and those to train with)",
    )
    arguments.add_face(parser)
    arguments.add_detector(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


class _ArcFace:
    """The card of those who are trained here."""

    image_size = 112

    def __init__(self) -> None:
        from facejax.recognition.templates import ARCFACE

        self.template = ARCFACE


class _Aligner:
    """A recognizer that embeds nothing: the crops are wanted."""

    def __init__(self, card: Any):
        self.card = card

    def embed(self, crops: "np.ndarray") -> "np.ndarray":
        import numpy as np

        return np.zeros((len(crops), 1), np.float32)


def _run(given: argparse.Namespace) -> Outcome:
    photos = work.list_photos(given.photos)
    pictures = work.Pictures(given.out, photos, option="--out")
    if given.recognizer is None:
        work.keep_programs()
        card: Any = _ArcFace()
    else:
        card = work.open_recognizer(given.recognizer).card
    found = work.look(given, _Aligner(card), photos, keep_crops=True)
    records, skipped = [], []
    people: dict[str, int] = {}
    for place, photo in zip(photos, found, strict=True):
        face = work.chosen_face(photo, given.face)
        if isinstance(face, Skipped):
            skipped.append(face)
            continue
        assert face.crop is not None
        target = _below_person(place.place).with_suffix(f".{given.format}")
        crop = pictures.write(target, face.crop, source=photo.source)
        person = target.parent.name
        people[person] = people.get(person, 0) + 1
        record = {"photo": photo.source, "number": face.number, "person": person or None}
        records.append({**record, "crop": str(crop)})
    rows = [[printable(person) or "-", str(count)] for person, count in people.items()]
    return of_batch(
        {"crops": records},
        format_table(["person", "crops"], rows) if rows else "",
        {"crops": len(records)},
        skipped,
        done=bool(records),
        as_json=given.json,
    )


def _below_person(place: pathlib.Path) -> pathlib.Path:
    """PERSON/2019/may/a.jpg -> PERSON/2019_may_a.jpg: training takes no folders in a person's."""
    person, *rest = place.parts
    return pathlib.Path(person, "_".join(rest)) if rest else place
