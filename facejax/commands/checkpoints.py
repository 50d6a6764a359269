"""`facejax checkpoints`: what a run has saved."""

import argparse
import json

from facejax.commands import arguments
from facejax.commands.outcome import Outcome
from facejax.table import format_table


def add(commands: arguments.Commands) -> None:
    """Describes the command and its action.

    Args:
      commands: of the parser.
    """
    saved = commands.add_parser("checkpoints", help="what a run has saved")
    actions = saved.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the checkpoints of a run, and which are whole")
    listing.add_argument(
        "directory", metavar="DIR", help="a workdir of train.py, or its checkpoints folder"
    )
    arguments.add_json(listing)
    listing.set_defaults(run=_list)


def _list(given: argparse.Namespace) -> Outcome:
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
        return Outcome(json.dumps(records, indent=2))
    header = ["step", "saved", "size", "classes", "loss", "architecture", "whole"]
    rows = []
    for record in records:
        step, saved, size, *facts, whole = record.values()
        cells = ["-" if fact is None else str(fact) for fact in facts]
        rows.append([str(step), saved, f"{size / 2**20:.1f} MiB", *cells, "yes" if whole else "no"])
    return Outcome(format_table(header, rows))
