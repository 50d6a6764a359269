"""The command `facejax`, which is also `python -m facejax`: all but training and evaluating.

Results go to stdout. The exit status is 0, 2 on a user's mistake, 130 on Ctrl-C; `verify` has 1 for
different people.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import facejax
from facejax.commands import (
    align,
    audit,
    calibrate,
    checkpoints,
    cluster,
    detect,
    embed,
    enroll,
    gallery,
    identify,
    pairs,
    prepare,
    report,
    verify,
)
from facejax.commands.outcome import printable
from facejax.errors import UserError

# In the order of the help.
_COMMANDS = (
    *(detect, align, embed),
    *(enroll, identify, verify, cluster, report),
    *(prepare, audit, pairs),
    *(gallery, calibrate, checkpoints),
)


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
        outcome = given.run(given)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except SystemExit as end:  # argparse's, after --help and --version
        return int(end.code or 0)
    if outcome.said:
        try:
            print(outcome.said, flush=True)
        except BrokenPipeError:  # whoever reads it has seen enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if outcome.complaint:
        print(f"error: {outcome.complaint}", file=sys.stderr)
    return outcome.status


def _parser() -> argparse.ArgumentParser:
    """Every command sets `run`, a function from what was parsed to its outcome."""
    parser = _Parser(prog="facejax", description="Face recognition in JAX.")
    parser.add_argument("--version", action="version", version=f"facejax {facejax.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
