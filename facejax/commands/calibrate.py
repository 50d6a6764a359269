"""`facejax calibrate`: which similarity is enough, from photographs of people who are known."""

import argparse
import dataclasses
import sys

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, of_batch
from facejax.table import format_table

_FARS = (1e-2, 1e-3, 1e-4)


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "calibrate",
        help="thresholds for wanted false accept rates",
        description="Compares the faces of a folder with a sub-folder per person, all with all, "
        "and keeps the thresholds beside the recognizer.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="photographs, a sub-folder per person")
    parser.add_argument(
        "--far",
        type=arguments.share,
        action="append",
        metavar="RATE",
        help="a wanted false accept rate; may be repeated (default: 0.01, 0.001 and 0.0001)",
    )
    parser.add_argument(
        "--aligned", action="store_true", help="the photographs are crops that are aligned already"
    )
    arguments.add_recognizer(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    recognizer = work.open_recognizer(given.recognizer)
    # After the recognizer: evaluations bring matplotlib and more, and a wrong name is told first.
    from facejax.evaluation.thresholds import calibrate_folder

    found = calibrate_folder(
        given.folder,
        recognizer,
        fars=tuple(given.far or _FARS),
        aligned=given.aligned or None,
        progress=sys.stderr.isatty(),
    )
    records = {
        "recognizer": recognizer.card.name,
        "thresholds": [dataclasses.asdict(one) for one in found],
        "unsupported": list(found.refused),
        "kept": None if found.path is None else str(found.path),
    }
    rows = [
        [
            f"{one.far:.3g}",
            f"{one.cosine:.4f}",
            "-" if one.upper_bound is None else f"{one.upper_bound:.3g}",
            "-" if one.negatives is None else str(one.negatives),
        ]
        for one in found
    ]
    lines = [format_table(["FAR", "cosine", "at most", "negative pairs"], rows), *found.refused]
    return of_batch(
        records,
        "\n".join([*lines, f"kept in {found.path}"]),
        {"faces": found.faces, "people": found.people},
        [Skipped(*skipped) for skipped in found.skipped],
        done=True,
        as_json=given.json,
    )
