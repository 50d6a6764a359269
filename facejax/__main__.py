"""The command `facejax`, which is also `python -m facejax`: all but training and evaluating.

Results go to stdout. The exit status is 0, 2 on a user's mistake, 130 on Ctrl-C.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import NoReturn

import facejax
from facejax.errors import UserError
from facejax.table import format_table


class _Parser(argparse.ArgumentParser):
    """One sentence on a mistake, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help says what there is")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      arguments: those of the command line, without the program's name; None takes `sys.argv`'s.

    Returns:
      The exit status.
    """
    try:
        given = _parser().parse_args(arguments)
        print(given.run(given))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except SystemExit as end:  # argparse's, after --help and --version
        return int(end.code or 0)
    return 0


def _parser() -> argparse.ArgumentParser:
    """Every command sets `run`, a function from what was parsed to what is printed."""
    parser = _Parser(prog="facejax", description="Face recognition in JAX.")
    parser.add_argument("--version", action="version", version=f"facejax {facejax.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    saved = commands.add_parser("checkpoints", help="what a run has saved")
    actions = saved.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the checkpoints of a run, and which are whole")
    listing.add_argument(
        "directory", metavar="DIR", help="a workdir of train.py, or its checkpoints folder"
    )
    listing.add_argument("--json", action="store_true", help="for machines")
    listing.set_defaults(run=_list_checkpoints)
    return parser


def _list_checkpoints(given: argparse.Namespace) -> str:
    # Imported here, so that no other command waits for it.
    import jax
    from absl import logging

    from facejax import checkpoints, files

    jax.config.update("jax_platforms", "cpu")  # a run that goes on may hold the accelerator
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what is not whole: the result says it
    records = [
        {
            "step": found.step,
            "saved": found.saved.isoformat(sep=" ", timespec="seconds"),
            "bytes": found.size,
            "num_classes": found.facts.get("num_classes"),
            "loss": found.facts.get("config", {}).get("loss", {}).get("name"),
            "architecture": found.facts.get("architecture", {}).get("name"),
            "whole": found.whole,
        }
        for found in checkpoints.summaries(files.expand(given.directory))
    ]
    if given.json:
        return json.dumps(records, indent=2)
    header = ["step", "saved", "size", "classes", "loss", "architecture", "whole"]
    rows = []
    for record in records:
        step, saved, size, *facts, whole = record.values()
        cells = ["-" if fact is None else str(fact) for fact in facts]
        rows.append([str(step), saved, f"{size / 2**20:.1f} MiB", *cells, "yes" if whole else "no"])
    return format_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
