"""What a run that goes on must share with its checkpoint: the people, the data and the loss."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from facejax import checkpoints, data, objectives
from facejax.errors import UserError
from facejax.training.config import Config, flat, from_dict
from facejax.training.settle import augmentation, settle

_NAMES = 100_000  # so many names are kept with a checkpoint; of more, their hash alone

# What changes the loss or the order of the data makes another run. `data.path` is not among them,
# as data may lie elsewhere: the identities and how many images each has are compared instead.
_OTHER_RUN = (
    *("seed", "batch_size", "data.image_size", "data.per_identity", "data.balance", "data.images"),
    *("data.maximum_images", "data.share_of_images", "data.selection_seed"),
)
_OTHER_FACES = ("data.kind", "data.identities", "data.images_per_identity")  # if one is synthetic


@dataclasses.dataclass(frozen=True)
class Relabelled:
    """A source whose identities are numbered in another order; made by `same_identities`."""

    records: data.Source
    labels: np.ndarray
    identity_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.records[index], "label": int(self.labels[index])}


class GoingOn(NamedTuple):
    """What a run takes over from a checkpoint.

    Attributes:
      source: the run's, its labels those of the checkpoint.
      changed: how the run differs, a few words for each field.
      another_run: those of them that change the loss or the order of the data.
      note: a sentence on the identities, empty if there is nothing to say.
    """

    source: data.Source
    changed: tuple[str, ...]
    another_run: tuple[str, ...]
    note: str


def going_on(saved: checkpoints.Facts, config: Config, source: data.Source) -> GoingOn:
    """Compares a run with the checkpoint that it goes on from.

    Args:
      saved: the checkpoint's facts.
      config: of the run, settled.
      source: what it trains on.

    Raises:
      UserError: if the identities are others.
    """
    source, note = same_identities(source, saved)
    changed = changes(saved, config, data_facts(source))
    synthetic = config.data.kind == "synthetic" or "synthetic" in changed.get("data.kind", "")
    fields = (*_OTHER_RUN, *_OTHER_FACES) if synthetic else _OTHER_RUN
    other = [
        said for field, said in changed.items() if field in fields or field.startswith("loss.")
    ]
    return GoingOn(source, tuple(changed.values()), tuple(other), note)


def data_facts(source: data.Source) -> checkpoints.Facts:
    """What a checkpoint says of its data: whose class weights are whose.

    Args:
      source: what the run trains on.

    Returns:
      `images` (how many), `images_sha256` (of how many each identity has), `identities_sha256` (of
      their names in the order of the labels) and, of up to 100,000, `identities`, the names.
    """
    names = data.identity_names(source)
    counts = np.bincount(np.asarray(source.labels), minlength=len(names)).astype("<i8")
    facts = {
        "images": len(source),
        "images_sha256": hashlib.sha256(counts.tobytes()).hexdigest(),
        "identities_sha256": hashlib.sha256("\0".join(names).encode()).hexdigest(),
    }
    return facts | ({"identities": list(names)} if len(names) <= _NAMES else {})


def same_identities(source: data.Source, saved: checkpoints.Facts) -> tuple[data.Source, str]:
    """The source, its labels those of a checkpoint, so that class weights belong to their names.

    Args:
      source: what the run trains on.
      saved: the checkpoint's facts.

    Returns:
      (source, a sentence on what was done, empty if nothing was).

    Raises:
      UserError: if the identities are others.
    """
    known = saved.get("data", {})
    if "identities_sha256" not in known:
        return source, (
            "the checkpoint does not say whose class weights it has: the identities are taken to "
            "be the same, in the same order"
        )
    if known["identities_sha256"] == data_facts(source)["identities_sha256"]:
        return source, ""
    now, was = data.identity_names(source), known.get("identities")
    remedy = "give the data that it was trained on"
    if was is None or len(now) > _NAMES:
        raise UserError(
            f"the checkpoint is of {saved['num_classes']} other identities, or of these in another "
            f"order: {remedy}"
        )
    new, missing = sorted(set(now) - set(was)), sorted(set(was) - set(now))
    if new or missing or len(set(was)) < len(was) or len(now) != len(was):
        told = [
            f"{_some(names)} {'is' if len(names) == 1 else 'are'} {what}"
            for names, what in ((new, "new"), (missing, "missing"))
            if names
        ]
        raise UserError(
            "the checkpoint is of other identities: "
            f"{' and '.join(told) or 'some have one name'}; {remedy}"
        )
    place = {name: label for label, name in enumerate(was)}
    label_of = np.array([place[name] for name in now], np.int32)
    moved = Relabelled(source, label_of[np.asarray(source.labels)], tuple(was))
    return moved, (
        "the identities are the checkpoint's in another order: they were given its numbers, by name"
    )


def changes(saved: checkpoints.Facts, config: Config, images: checkpoints.Facts) -> dict[str, str]:
    """How a run differs from a checkpoint's, by field, as in {"seed": "seed 5, was 0"}.

    Args:
      saved: the checkpoint's facts.
      config: of the run, settled.
      images: `data_facts` of the run; the identities are the same.
    """
    before = from_dict(saved["config"])
    with contextlib.suppress(UserError):  # an older facejax took what is refused now
        settle(before)
    was, now = _effective(before), _effective(config)
    found = {
        field: f"{field} {_shown(now.get(field))}, was {_shown(was.get(field))}"
        for field in (now | was)
        if now.get(field) != was.get(field)
    }
    known = saved.get("data", images)
    if images["images_sha256"] != known["images_sha256"]:
        found["data.images"] = f"{images['images']} images, was {known['images']}"
    return found


def _effective(config: Config) -> dict[str, Any]:
    """Every field, the loss's hyperparameters and the augmentation with their defaults."""
    fields = flat(config)
    known = config.loss.name in objectives.LOSSES  # or else the checkpoint is of another version
    for part, value in (objectives.hyperparameters(config.loss.name) if known else {}).items():
        if fields.get(f"loss.{part}") is None:
            fields[f"loss.{part}"] = value
    preset = fields.pop("augment.preset")
    if preset in data.PRESETS:  # or else the checkpoint is of another version
        fields |= {f"augment.{part}": value for part, value in augmentation(config).items()}
    return fields


def _shown(value: Any) -> str:
    return f"{value:g}" if type(value) is float else repr(value)


def _some(names: Sequence[str], count: int = 5) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
