"""`facejax cluster`: unknown faces put together by person."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, of_batch, printable
from facejax.errors import UserError
from facejax.table import format_table


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser("cluster", help="unknown faces put together by person")
    arguments.add_photos(parser)
    arguments.add_threshold(parser, far=False)
    parser.add_argument(
        "--out", metavar="DIR", help="a folder for the faces' crops, in a sub-folder per person"
    )
    arguments.add_recognizer(parser)
    arguments.add_detector(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    import numpy as np

    from facejax import files
    from facejax.recognition import cluster

    photos = work.list_photos(given.photos)
    recognizer = work.open_recognizer(given.recognizer)
    thresholds = recognizer.thresholds
    # The strictest: of N faces there are N (N - 1) / 2 pairs that might be taken for one person.
    least = min((one.far for one in thresholds), default=arguments.FAR)
    limit = work.choose_threshold(given, thresholds, whose=recognizer.card.name, far=least)
    out = None if given.out is None else files.expand(given.out)
    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out={given.out} is there already: give another folder, or empty it")
    faces: list[dict[str, Any]] = []
    embeddings: list[np.ndarray] = []
    skipped: list[Skipped] = []
    looked_at = 0
    with tempfile.TemporaryDirectory(prefix="facejax-") as waiting:
        for photo in work.look(given, recognizer, photos, keep_crops=out is not None):
            if photo.skipped:
                skipped.append(Skipped(photo.source, photo.skipped))
                continue
            looked_at += 1
            for face in photo.faces:
                if out is not None:
                    # Crops of many photographs are too much for memory, and have no person yet.
                    assert face.crop is not None
                    np.save(Path(waiting, f"{len(faces)}.npy"), face.crop)
                box = work.rounded(face.box)
                faces.append({"photo": face.source, "number": face.number, "box": box})
                embeddings.append(face.embedding)
        rows = np.stack(embeddings) if embeddings else np.zeros((0, 1), np.float32)
        labels = cluster(rows, threshold=limit).tolist()
        groups: list[list[dict[str, Any]]] = [[] for _ in range(max(labels, default=-1) + 1)]
        if out is not None and faces:
            _write_crops(Path(waiting), out, labels, faces)
    for label, found in zip(labels, faces, strict=True):
        groups[label].append(found)
    records = {
        "recognizer": recognizer.card.name,
        "threshold": limit,
        "people": [{"person": number, "faces": group} for number, group in enumerate(groups)],
    }
    table = [[str(number), str(len(group)), _listed(group)] for number, group in enumerate(groups)]
    return of_batch(
        records,
        format_table(["person", "faces", "where"], table) if table else "",
        {"photos": looked_at, "faces": len(faces), "people": len(groups)},
        skipped,
        done=looked_at > 0,
        as_json=given.json,
    )


def _listed(group: list[dict[str, Any]]) -> str:
    """Where a person's faces are."""
    return ", ".join(f"{printable(face['photo'])} face {face['number']}" for face in group)


def _write_crops(waiting: Path, out: Path, labels: list[int], faces: list[dict[str, Any]]) -> None:
    """OUT/person-0000/NAME-FACE.png, all of them or none."""
    import numpy as np

    from facejax import files

    digits = max(4, len(str(max(labels))))
    places = [work.Listed(face["photo"], Path(face["photo"])) for face in faces]
    with files.refusing(out, "give another --out"), files.replacing(out) as partial:
        pictures = work.Pictures(str(partial), places, option="--out")
        for number, (label, face) in enumerate(zip(labels, faces, strict=True)):
            name = f"{Path(face['photo']).stem}-{face['number']}.png"
            crop = np.load(waiting / f"{number}.npy")
            pictures.write(Path(f"person-{label:0{digits}}", name), crop, source=face["photo"])
