"""`facejax prepare`: from any source of faces to the dataset that training reads fastest."""

import argparse
import sys

from facejax.commands import arguments
from facejax.commands.outcome import Outcome, as_text
from facejax.errors import UserError


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "prepare",
        help="a dataset for training from any source",
        description="Writes a dataset for config.data.path of train.py, from a folder of "
        "identities, InsightFace's train.rec, a list file and more (docs/data.md). Started again "
        "after it was interrupted, it goes on; a dataset that is there is not written again.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a path, perhaps with a prefix such as rec:, or several"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="where datasets are kept")
    parser.add_argument(
        "--packed", action="store_true", help="decode every image once: more room, less work"
    )
    parser.add_argument(
        "--size",
        type=arguments.whole_number,
        metavar="PIXELS",
        help="with --packed: side of the images (default: 112)",
    )
    parser.add_argument(
        "--join",
        choices=("disjoint", "names"),
        default="disjoint",
        help="of several sources: other people, or the same by their names (default: %(default)s)",
    )
    parser.add_argument(
        "--sessions",
        action="store_true",
        help="folders inside an identity's have more of its images",
    )
    parser.add_argument(
        "--damaged",
        choices=("refuse", "skip"),
        default="refuse",
        help="what to do about damaged images (default: %(default)s)",
    )
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    # Imported here, so that no other command waits for it.
    from facejax import data

    if given.size and not given.packed:
        raise UserError("--size is for --packed: a dataset keeps the images as they are")
    show = sys.stderr.isatty()
    source = data.open_source(given.source, join=given.join, sessions=given.sessions, progress=show)
    remedy = "give --damaged=skip to leave out what is damaged"
    built: data.Source
    if given.packed:
        built = data.pack_dataset(
            source,
            given.out,
            image_size=given.size or 112,
            damaged=given.damaged,
            remedy=remedy,
            progress=show,
        )
    else:
        built = data.build_dataset(
            source, given.out, damaged=given.damaged, remedy=remedy, progress=show
        )
    left_out = [*getattr(source, "passed_over", ())]
    left_out += [clause for clause in getattr(built, "passed_over", ()) if clause not in left_out]
    directory = str(getattr(built, "directory", given.out))
    if given.json:
        found = {"directory": directory, "images": len(built), "identities": built.num_classes}
        return Outcome(as_text({**found, "passed_over": left_out}))
    lines = [f"{directory}: {len(built)} images of {built.num_classes} identities"]
    return Outcome("\n".join(lines + [f"passed over: {clause}" for clause in left_out]))
