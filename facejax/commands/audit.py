"""`facejax audit`: what is wrong with a set of faces that is to be trained on."""

import argparse
import sys

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, as_text, printable
from facejax.errors import UserError
from facejax.table import format_table


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "audit",
        help="what is wrong with a training set: duplicates, wrong labels, people of the test set",
        description="Looks for unreadable, tiny and flat images and for duplicates among aligned "
        "faces; with a recognizer also for wrong labels and for people under two names.",
    )
    parser.add_argument(
        "data",
        metavar="DIR",
        help="a training set, in any form",
    )
    parser.add_argument("--against", metavar="DIR2", help="the test set: what is shared with it")
    parser.add_argument("--out", metavar="FOLDER", help="for audit.json and a page, index.html")
    parser.add_argument(
        "--write-clean",
        metavar="LIST",
        help="a file for what is left, a line `image identity` each",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--recognizer", metavar="NAME", help="sface, a run, or FILE.onnx")
    who.add_argument(
        "--checkpoint", dest="recognizer", metavar="RUN", help="the workdir of a run: the same"
    )
    parser.add_argument(
        "--smallest",
        type=arguments.whole_number,
        metavar="PIXELS",
        default=32,
        help="images with a shorter side are tiny (default: 32)",
    )
    for name, meaning in (
        ("own", "an image less like the rest of its identity is suspect"),
        ("other", "from which an image is like another identity"),
        ("same", "from which two identities are one person"),
    ):
        parser.add_argument(
            f"--{name}-threshold",
            type=arguments.cosine,
            metavar="COSINE",
            help=f"{meaning} (default: by the recognizer's calibration)",
        )
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    from facejax import files
    from facejax.data import open_source

    source = open_source(given.data)
    against = None if given.against is None else open_source(given.against)
    root = getattr(source, "path", None)
    if given.write_clean is not None and root is not None:
        home = files.expand(given.write_clean).resolve().parent
        if not root.resolve().is_relative_to(home):
            raise UserError(
                f"--write-clean={given.write_clean} would name images that are not below it, which "
                f"no list may: give a file in {printable(str(root))} or in a folder above it"
            )
    recognizer = None if given.recognizer is None else work.open_recognizer(given.recognizer)
    # After what a mistake is likely in: evaluations bring matplotlib and more.
    from facejax.evaluation.audit import audit, clean
    from facejax.evaluation.audit_page import write_audit
    from facejax.evaluation.audit_report import DISTRUST, counted, records, write_list

    found = audit(
        source,
        against=against,
        recognizer=recognizer,
        smallest=given.smallest,
        own_threshold=given.own_threshold,
        other_threshold=given.other_threshold,
        same_threshold=given.same_threshold,
        progress=sys.stderr.isatty(),
    )
    left = clean(found)
    written = []
    if given.out is not None:
        with files.refusing(given.out, "give another --out"):
            title = f"Audit of {printable(given.data)}"
            paths = write_audit(given.out, found, left, source, against=against, title=title)
        written.append(str(paths[-1]))
    if given.write_clean is not None:
        path = files.expand(given.write_clean)
        with files.refusing(path, "give another --write-clean"):
            write_list(path, found, left, root=root)
        written.append(str(path))
    if given.json:
        return Outcome(as_text({**records(found, left), "written": written}))
    lines = [format_table(["found", "count"], [[what, str(n)] for what, n in counted(found, left)])]
    dropped = [f"{reason} {len(images)}" for reason, images in left.dropped.items() if len(images)]
    lines.append(f"not in a clean list: {', '.join(dropped) or 'nothing'}")
    if found.judgement is not None:
        judged = found.judgement
        lines.append(
            f"thresholds: own {judged.own_threshold:.3f}, other {judged.other_threshold:.3f}, same "
            f"{judged.same_threshold:.3f} ({judged.basis})"
        )
        if not judged.trusted:
            lines.append(DISTRUST)
    return Outcome("\n".join(lines + [f"written: {printable(each)}" for each in written]))
