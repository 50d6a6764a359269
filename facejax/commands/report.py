"""`facejax report`: a page with who is in which photograph, and everybody's faces."""

import argparse
import pathlib
import tempfile
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from facejax import files, page
from facejax.commands import arguments, work
from facejax.commands.identify import identified
from facejax.commands.outcome import Outcome, Skipped, of_batch, printable
from facejax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from facejax.recognition import Gallery, PhotoFaces, Recognizer, Threshold
    from facejax.recognition.matches import Match
    from facejax.recognition.report import Person, Report, SeenFace
    from facejax.recognition.report_pictures import Waiting

_PICTURES = 300  # photographs of some 80 kB each: what a browser opens at once
_FACES_A_PICTURE = 10  # thumbnails of some 4 kB each


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "report",
        help="a page with who is in which photograph",
        description="Writes one HTML file that needs nothing else: the photographs with their "
        "faces marked, everybody's faces side by side, strangers put together by likeness, and "
        "what was left out.",
    )
    arguments.add_photos(parser)
    parser.add_argument(
        "--out",
        metavar="PAGE.html",
        help="where to write it (default: the name of the first of PHOTOS, in this folder)",
    )
    parser.add_argument("--gallery", metavar="GALLERY", help="of people who may be in them")
    arguments.add_threshold(parser, far=False)
    parser.add_argument(
        "--far",
        type=arguments.share,
        metavar="RATE",
        help="in place of it: how often two different people may be called the same (default: "
        "0.001 for names, the least that was calibrated for groups)",
    )
    parser.add_argument(
        "--margin",
        type=arguments.margin,
        default=0.0,
        metavar="COSINE",
        help="how far the best name must be ahead of the second (default: 0)",
    )
    parser.add_argument(
        "--unchecked", action="store_true", help="put small, blurred and turned faces together, too"
    )
    parser.add_argument(
        "--pictures",
        type=arguments.whole_number,
        default=_PICTURES,
        metavar="PHOTOS",
        help="how many photographs to show, and ten times as many faces; the others are listed "
        "in words (default: %(default)s)",
    )
    arguments.add_recognizer(parser, gallery=True)
    arguments.add_detector(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    out = _out(given)
    photos = work.list_photos(given.photos)
    if given.gallery is None:
        return _report(given, out, photos, work.open_recognizer(given.recognizer), None)
    gallery, recognizer = work.open_gallery(given)
    with gallery:
        return _report(given, out, photos, recognizer, gallery)


def _out(given: argparse.Namespace) -> pathlib.Path:
    """Where the page goes, where it can."""
    if given.out is None:
        first = files.expand(given.photos[0])
        first = first.resolve() if first.is_dir() else first.with_suffix("")
        out = pathlib.Path(f"{first.name or 'photos'}.html")
    else:
        out = files.expand(given.out)
        if out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--out={given.out} is no page: give a name that ends in .html")
        if out.is_dir():
            raise UserError(f"--out={given.out} is a folder: give the name of a file")
    with files.refusing(out, "give another --out"):
        if given.out is None and out.exists() and not (out.is_file() and page.is_page(out)):
            raise UserError(f"{out} is there already, and is no report: give --out=PAGE.html")
        files.try_folder(out.parent)
    return out


def _report(
    given: argparse.Namespace,
    out: pathlib.Path,
    photos: Sequence[work.Listed],
    recognizer: "Recognizer",
    gallery: "Gallery | None",
) -> Outcome:
    from facejax.recognition import report_pictures
    from facejax.recognition.photos import Photo
    from facejax.recognition.report import arrange, contents

    thresholds = recognizer.thresholds if gallery is None else gallery.thresholds
    whose = recognizer.card.name if gallery is None else f"the gallery {gallery}"
    # As strict as `cluster`: many faces have very many pairs.
    least = min((one.far for one in thresholds), default=arguments.FAR)
    grouping = work.choose_threshold(given, thresholds, whose=whose, far=given.far or least)
    limits = {"group": grouping}
    found: Iterable[tuple[PhotoFaces, Sequence[Match | None]]]
    seen = work.look(given, recognizer, photos, keep_crops=True)
    if gallery is None:
        found = ((photo, [None] * len(photo.faces)) for photo in seen)
    else:
        far = given.far or arguments.FAR
        limits["name"] = work.choose_threshold(given, thresholds, whose=whose, far=far)
        options = {"threshold": limits["name"], "margin": given.margin}
        found = identified(gallery, seen, options)
    with (
        files.refusing(out, "make room there, or give another --out"),
        tempfile.TemporaryFile(dir=out.parent) as file,  # /tmp may be in memory
    ):
        crops = report_pictures.Waiting(file)
        gathered = _gather(found, crops, checked=not given.unchecked)
        report = arrange(
            [printable(source) for source in gathered.sources],
            gathered.faces,
            gathered.embeddings(),
            threshold=grouping,
            called="person" if gallery is None else "unknown",
            skipped=[(printable(one.source), printable(one.reason)) for one in gathered.skipped],
        )
        if report.photos:
            shown = gathered.sources[: given.pictures]
            drawn = report_pictures.marked(report, [Photo(one, pathlib.Path(one)) for one in shown])
            parts = contents(
                report,
                explanation=_explanation(given, recognizer, gallery, limits, thresholds),
                pictures=work.progress(drawn, len(shown)),
                thumbnail=crops.__getitem__,
                most_thumbnails=_FACES_A_PICTURE * given.pictures,
            )
            page.write(out, _title(given.photos), parts)
    about = {
        "page": str(out) if report.photos else None,
        "recognizer": recognizer.card.name,
        "gallery": None if gallery is None else str(gallery),
        "thresholds": limits,
    }
    people = [person for person in report.people if person.known]
    return of_batch(
        {**about, **_records(report, gathered.sources)},
        printable(str(out)),
        {
            "photos": len(report.photos),
            "faces": len(report.faces),
            "known": len(people),
            "unknown": len(report.people) - len(people),
            "refused": len(report.refused),
        },
        gathered.skipped,
        done=bool(report.photos),
        as_json=given.json,
    )


class _Gathered:
    """What was found in all photos; the crops wait on the disk."""

    def __init__(self) -> None:
        self.sources: list[str] = []  # of the photos with a face
        self.faces: list[SeenFace] = []
        self.rows: list[np.ndarray] = []
        self.skipped: list[Skipped] = []

    def embeddings(self) -> "np.ndarray":
        """float32 [faces, D]."""
        import numpy as np

        return np.stack(self.rows) if self.rows else np.zeros((0, 1), np.float32)


def _gather(
    found: "Iterable[tuple[PhotoFaces, Sequence[Match | None]]]", crops: "Waiting", *, checked: bool
) -> _Gathered:
    from facejax.recognition.report import SeenFace
    from facejax.recognition.report_pictures import thumbnail
    from facejax.recognition.samples import default_check

    gathered = _Gathered()
    for photo, matches in found:
        if not photo.faces:
            reason = photo.skipped or "there is no face in it"
            gathered.skipped.append(Skipped(photo.source, reason))
            continue
        for face, match in zip(photo.faces, matches, strict=True):
            assert face.crop is not None
            crops.add(thumbnail(face.crop))
            gathered.rows.append(face.embedding)
            gathered.faces.append(
                SeenFace(
                    photo=len(gathered.sources),
                    number=face.number,
                    box=face.box,
                    name=None if match is None else match.name,
                    similarity=None if match is None else match.similarity,
                    reasons=tuple(default_check(face)) if checked else (),
                )
            )
        gathered.sources.append(photo.source)
    return gathered


def _title(given: Sequence[str]) -> str:
    name = files.expand(given[0]).resolve().name or given[0]
    more = f" and {len(given) - 1} more" if len(given) > 1 else ""
    return f"Faces in {printable(name)}{more}"


def _explanation(
    given: argparse.Namespace,
    recognizer: "Recognizer",
    gallery: "Gallery | None",
    limits: dict[str, float],
    thresholds: "Sequence[Threshold]",
) -> list[str]:
    """What decided, in words."""

    def from_on(limit: float) -> str:
        if given.threshold is not None:
            return f"from {limit:.2f} on, as was asked for"
        one = next(one for one in thresholds if one.cosine == limit)
        on = f" on {one.data}" if one.data else ""
        return f"from {limit:.2f} on (false accept rate {one.far:g}, calibrated{on})"

    said = [f"Recognized by {recognizer.card.name}; similarities are cosines."]
    if gallery is None:
        said[0] += " No gallery was given, so nobody has a name."
    else:
        ahead = f" and by {given.margin:g} ahead of the second" if given.margin else ""
        said.append(
            f"A face is that of the most similar person of the gallery {printable(str(gallery))} "
            f"{from_on(limits['name'])}{ahead}."
        )
    who = "Faces" if gallery is None else "Other faces"
    said.append(
        f"{who} are put together by likeness, {from_on(limits['group'])}; the number beside each "
        "is its mean similarity to the others of its group."
    )
    return said


def _records(report: "Report", sources: Sequence[str]) -> dict[str, Any]:
    """What the page shows, for machines."""

    def face(place: int) -> dict[str, Any]:
        one = report.faces[place]
        return {"photo": sources[one.photo], "number": one.number}

    def in_photo(place: int) -> dict[str, Any]:
        one, person = report.faces[place], int(report.whose[place])
        return {
            "number": one.number,
            "box": work.rounded(one.box),
            "person": None if person < 0 else report.people[person].name,
            "similarity": report.similarities.get(place),
        }

    def group(person: "Person") -> dict[str, Any]:
        both = zip(person.faces, person.similarities, strict=True)
        return {"name": person.name, "faces": [{**face(n), "similarity": s} for n, s in both]}

    return {
        "photos": [
            {"photo": source, "faces": [in_photo(place) for place in inside]}
            for source, inside in zip(sources, report.by_photo, strict=True)
        ],
        "people": [group(person) for person in report.people if person.known],
        "unknown": [group(person) for person in report.people if not person.known],
        "refused": [
            {**face(place), "reasons": list(report.faces[place].reasons)}
            for place in report.refused
        ],
    }
