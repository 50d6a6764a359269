"""Checkpoints: pytrees of arrays by global shape, and the facts to rebuild what they belong to."""

from facejax.checkpoints.listing import Summary, summaries
from facejax.checkpoints.orbax import (
    Facts,
    choose_step,
    open_directory,
    open_existing,
    read_facts,
    restore,
    restore_network,
    save,
    saved_shapes,
)

__all__ = [
    "Facts",
    "Summary",
    "choose_step",
    "open_directory",
    "open_existing",
    "read_facts",
    "restore",
    "restore_network",
    "save",
    "saved_shapes",
    "summaries",
]
