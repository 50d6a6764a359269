"""A recognizer of a run of train.py."""

import functools
import hashlib
import pathlib
from typing import Any

import jax
import numpy as np

from facejax import checkpoints, files, models
from facejax.errors import UserError
from facejax.recognition.card import Card, card_path, read_card
from facejax.recognition.recognizer import Recognizer, of_network
from facejax.recognition.templates import arcface


def load(workdir: str | pathlib.Path, *, step: int | None = None, flip: bool = True) -> Recognizer:
    """The recognizer that a training run has made.

    Its card is what the run was trained with, at the ArcFace template scaled to its image size. A
    run that was trained on faces aligned otherwise says so by a `card.json` in its workdir.

    Args:
      workdir: of the run, or its folder `checkpoints` or `best`.
      step: which of its checkpoints; None is the newest that is whole.
      flip: whether to add the mirror image's embedding (the flip test).

    Returns:
      Recognizer, with the weights on this process's first device; nothing is compiled yet.

    Raises:
      UserError: there is no checkpoint, not that step, or it is damaged or not one of facejax; or
        the card is not this run's.
    """
    directory = files.expand(workdir)
    if (directory / "checkpoints").is_dir():
        directory = directory / "checkpoints"
    saved = checkpoints.open_existing(directory)
    passed_over: tuple[str, ...] = ()
    if step is None:
        step, restored, passed_over = checkpoints.newest_whole(
            saved, functools.partial(checkpoints.restore_network, saved)
        )
    else:
        restored = checkpoints.restore_network(saved, checkpoints.choose_step(saved, step))
    params, batch_stats, facts = restored
    saved.close()
    variables = {"params": params, "batch_stats": batch_stats}
    inside = directory.name in ("checkpoints", "best")
    home = directory.parent if inside else directory
    return of_network(
        _card(home, facts, flip=flip, sha256=_sha256(variables)),
        models.network(**facts["architecture"]).apply,
        variables,
        directory=directory,
        step=step,
        facts=facts,
        passed_over=passed_over,
    )


def _card(home: pathlib.Path, facts: checkpoints.Facts, *, flip: bool, sha256: str) -> Card:
    image_size = facts["config"]["data"]["image_size"]
    name, template = home.resolve().name or "run", arcface(image_size)
    path = card_path(home)
    if path.is_file():
        found = read_card(path)
        name, template = found.name, found.template
    card = Card(
        name=name,
        image_size=image_size,
        template=template,
        color="rgb",
        mean=127.5,
        scale=1 / 127.5,
        flip=flip,
        unit=True,
        embedding_size=facts["architecture"]["embedding_size"],
        sha256=sha256,
    )
    if path.is_file():
        for field in ("image_size", "color", "mean", "scale", "embedding_size"):
            said, own = getattr(found, field), getattr(card, field)
            if said != own:
                raise UserError(
                    f"{path} says {field} {said}, but the run beside it was trained with {own}: "
                    "take away the card, or give the run that it belongs to"
                )
    return card


def _sha256(variables: Any) -> str:
    """Of names, types, shapes and numbers, whatever files they lie in."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
