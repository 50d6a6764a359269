"""`facejax verify`: whether two photographs show one person, or a photograph somebody enrolled."""

import argparse
import os
from typing import Any

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, as_text, printable
from facejax.errors import UserError


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "verify",
        help="whether two photographs show one person",
        description="The exit status is 0 for the same person, 1 for different ones, 2 where "
        "there is no answer.",
    )
    parser.add_argument(
        "one", metavar="PHOTO|NAME", help="a photograph; with --gallery, a name in it"
    )
    parser.add_argument("other", metavar="PHOTO", help="the photograph to compare with")
    parser.add_argument("--gallery", metavar="GALLERY", help="of people who are enrolled")
    arguments.add_threshold(parser)
    arguments.add_face(parser)
    arguments.add_recognizer(parser, gallery=True)
    arguments.add_detector(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    return _with_photo(given) if given.gallery is None else _with_person(given)


def _with_photo(given: argparse.Namespace) -> Outcome:
    import numpy as np

    recognizer = work.open_recognizer(given.recognizer)
    name = recognizer.card.name
    limit = work.choose_threshold(given, recognizer.thresholds, whose=name, far=given.far)
    faces = _one_face_each(given, recognizer, [given.one, given.other])
    one, other = (np.asarray(face.embedding, np.float64) for face in faces)
    lengths = max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12)
    about = {"recognizer": name, "faces": [_about(face) for face in faces]}
    return _said(given, float(one @ other) / lengths, limit, about)


def _with_person(given: argparse.Namespace) -> Outcome:
    gallery, recognizer = work.open_gallery(given)
    with gallery:
        whose = f"the gallery {gallery}"
        limit = work.choose_threshold(given, gallery.thresholds, whose=whose, far=given.far)
        gallery.sources(given.one)  # whoever is not in it is told so before the photo is looked at
        (face,) = _one_face_each(given, recognizer, [given.other])
        found = gallery.verify(given.one, face, threshold=limit)
    about = {"recognizer": recognizer.card.name, "name": found.name, "faces": [_about(face)]}
    return _said(given, found.similarity, limit, about)


def _one_face_each(given: argparse.Namespace, recognizer: Any, sources: list[str]) -> list[Any]:
    from facejax.recognition.photos import locate

    for source in sources:
        if os.path.isdir(locate(source)):
            raise UserError(f"{printable(source)} is a folder: give a photograph")
    photos, faces = work.list_photos(sources), []
    for photo in work.look(given, recognizer, photos):
        face = work.chosen_face(photo, given.face)
        if isinstance(face, Skipped):
            raise UserError(str(face))
        faces.append(face)
    return faces


def _about(face: Any) -> dict[str, Any]:
    return {"photo": face.source, "number": face.number, "box": work.rounded(face.box)}


def _said(
    given: argparse.Namespace, similarity: float, limit: float, about: dict[str, Any]
) -> Outcome:
    same = similarity >= limit
    if given.json:
        answer = {"same": same, "similarity": similarity, "threshold": limit, **about}
        return Outcome(as_text(answer), 0 if same else 1)
    word = "same" if same else "different"
    return Outcome(f"{word}: similarity {similarity:.3f}, threshold {limit:.3f}", 0 if same else 1)
