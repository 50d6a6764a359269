"""Checkpoints: pytrees of arrays by global shape, and the facts to rebuild what they belong to."""

from facejax.checkpoints.best import BestCheckpoint, check_best, is_number
from facejax.checkpoints.listing import Summary, summaries
from facejax.checkpoints.orbax import (
    DamagedCheckpointError,
    Facts,
    Manager,
    choose_step,
    close,
    newest_whole,
    open_directory,
    open_existing,
    read_facts,
    restore,
    restore_network,
    save,
    saved_shapes,
    saved_steps,
    set_aside,
)

__all__ = [
    "BestCheckpoint",
    "DamagedCheckpointError",
    "Facts",
    "Manager",
    "Summary",
    "check_best",
    "choose_step",
    "close",
    "is_number",
    "newest_whole",
    "open_directory",
    "open_existing",
    "read_facts",
    "restore",
    "restore_network",
    "save",
    "saved_shapes",
    "saved_steps",
    "set_aside",
    "summaries",
]
