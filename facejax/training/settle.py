"""Fields that exclude each other: which of them counts, and what a person is told of the others.

This is the one table of what is set without effect.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from facejax import data, objectives
from facejax.data.open import source_places
from facejax.errors import UserError
from facejax.training.config import Config


class _Idle(NamedTuple):
    """Fields that nothing reads in some configs.

    Attributes:
      fields: their names.
      idle: whether nothing reads them, in a settled config.
      because: why, in words that may name fields of the config, as in `str.format`.
    """

    fields: tuple[str, ...]
    idle: Callable[[Config], bool]
    because: str


_NOTHING = (
    "nothing is measured without config.evaluation.benchmarks, or config.evaluation.pairs and "
    "config.evaluation.images"
)
_IDLE = (
    _Idle(
        ("data.identities", "data.images_per_identity"),
        lambda config: config.data.kind != "synthetic",
        "it is for synthetic faces, and the run trains on {config.data.path}",
    ),
    _Idle(
        ("data.damaged", "data.sessions"),
        lambda config: config.data.kind not in ("folder", "joined"),
        "it is for a folder, and config.data.kind is {config.data.kind}",
    ),
    _Idle(
        ("data.bad_records",),
        lambda config: config.data.kind == "synthetic",
        "it is for files, and the run trains on rendered faces",
    ),
    _Idle(
        ("data.cache",),
        lambda config: config.data.kind not in ("synthetic", "folder", "joined"),
        "{config.data.path} is read where it is",
    ),
    _Idle(
        ("data.join",),
        lambda config: config.data.kind != "joined",
        "it is for several sources, and config.data.kind is {config.data.kind}",
    ),
    _Idle(
        ("data.selection_seed",),
        lambda config: (
            not config.data.maximum_images
            and config.data.share_of_images == config.data.share_of_identities == 1
        ),
        "nothing is drawn: no config.data.maximum_images, and no share below 1",
    ),
    _Idle(
        ("evaluation.identities", "evaluation.images_per_identity", "evaluation.synthetic_pairs"),
        lambda config: bool(config.evaluation.pairs) or config.data.kind != "synthetic",
        "it is for synthetic faces, and the run does not verify any",
    ),
    _Idle(
        ("evaluation.every", "evaluation.batch_size"),
        lambda config: not evaluates(config) and config.evaluation.every > 0,  # 0 is so then
        _NOTHING,
    ),
    _Idle(
        ("evaluation.subset",),
        lambda config: not evaluates(config) and config.evaluation.subset > 0,
        _NOTHING,
    ),
    _Idle(
        ("augment.crop_scale",),
        lambda config: _none_is_on(config, "crop", "crop_in_place"),
        "config.augment.crop and config.augment.crop_in_place are 0",
    ),
    _Idle(
        ("augment.low_resolution_scale", "augment.resampling"),
        lambda config: _none_is_on(config, "low_resolution"),
        "config.augment.low_resolution is 0",
    ),
    _Idle(
        ("augment.erasing_scale",),
        lambda config: _none_is_on(config, "erasing"),
        "config.augment.erasing is 0",
    ),
    _Idle(
        ("optimizer.momentum",),
        lambda config: config.optimizer.name != "sgd",
        "config.optimizer.name is {config.optimizer.name}",
    ),
    _Idle(
        ("optimizer.power",),
        lambda config: config.optimizer.schedule != "polynomial",
        "config.optimizer.schedule is {config.optimizer.schedule}",
    ),
    _Idle(
        ("head.block_size",),
        lambda config: not objectives.has_class_weights(config.loss.name),
        "the loss {config.loss.name} has no class weights",
    ),
    _Idle(
        ("head.sharded",),
        lambda config: objectives.needs_pairs(config.loss.name),
        "the loss {config.loss.name} has nothing that could be split",
    ),
    _Idle(
        ("loss.margin", "loss.margin_warmup"),
        lambda config: config.loss.name == "deepid2" and config.loss.distance == "cosine",
        "config.loss.distance is cosine",
    ),
    _Idle(
        ("loss.margins_power",),
        lambda config: not config.loss.class_margins,
        "config.loss.class_margins is empty",
    ),
    _Idle(
        ("loss.weights_beta",),
        lambda config: not config.loss.class_weights,
        "config.loss.class_weights is empty",
    ),
    _Idle(
        ("loss.rate",),
        lambda config: config.loss.update is False,
        "config.loss.update is False",
    ),
)


def settle(config: Config, given: Collection[str] = ()) -> tuple[str, ...]:
    """Makes up the mind of a config, in place: its `data.kind`, and by what its length is counted.

    What the command line sets wins over what the recipe has.

    Args:
      config: as the recipe and the command line have it.
      given: the fields that the command line sets, as in "optimizer.learning_rate".

    Returns:
      One sentence for each field that is given and has no effect.

    Raises:
      UserError: on fields that contradict each other.
    """
    _settle_length(config, given)
    _settle_data(config, given)
    chosen = config.evaluation
    if bool(chosen.pairs) != bool(chosen.images):
        there, missing = ("pairs", "images") if chosen.pairs else ("images", "pairs")
        what = "the folder of the pairs' images" if chosen.pairs else "the pair file"
        raise UserError(
            f"config.evaluation.{there} is given but config.evaluation.{missing} is empty; give "
            f"{what}"
        )
    return tuple(
        f"config.{field} has no effect: {row.because.format(config=config)}"
        for row in _IDLE
        for field in row.fields
        if field in given and row.idle(config)
    )


def evaluates(config: Config) -> bool:
    """Whether a run has anything to be measured on.

    Args:
      config: settled.
    """
    chosen = config.evaluation
    return bool(chosen.benchmarks or chosen.pairs) or config.data.kind == "synthetic"


def augmentation(config: Config) -> dict[str, Any]:
    """Every keyword of `data.augment`: by its field, or else by the preset, or its own default.

    Raises:
      ValueError: if there is no such preset.
    """
    fields = dataclasses.asdict(config.augment)
    defaults = data.augment.__kwdefaults__ or {}  # it has nothing but keywords behind the arrays
    keywords = defaults | data.preset(fields.pop("preset"))
    keywords |= {name: value for name, value in fields.items() if value is not None}
    return {
        name: (value[0], value[-1]) if isinstance(value, tuple | list) else value
        for name, value in keywords.items()
    }


def _none_is_on(config: Config, *changes: str) -> bool:
    if config.augment.preset not in data.PRESETS:
        return False  # it is refused later, and nothing else is said
    keywords = augmentation(config)
    return not any(keywords[change] for change in changes)


def _settle_length(config: Config, given: Collection[str]) -> None:
    if not (config.steps and config.epochs):
        return
    steps, epochs = "steps" in given, "epochs" in given
    if epochs and not steps:
        config.steps = 0
    elif not epochs and (steps or config.epochs == Config().epochs):
        config.epochs = 0.0  # a recipe that counts in steps leaves the epochs at their default
    else:
        raise UserError(
            f"config.steps is {config.steps} and config.epochs {config.epochs:g}, and only one of "
            "them can be; set the other to 0"
        )


def _settle_data(config: Config, given: Collection[str]) -> None:
    data = config.data
    if not data.kind:
        data.kind = _kind_of(data.path)
    elif data.kind == "synthetic" and data.path:
        if "data.kind" in given and "data.path" not in given:
            data.path = ""
        elif "data.path" in given and "data.kind" not in given:
            data.kind = _kind_of(data.path)
        else:
            raise UserError(
                f"config.data.path is {data.path} but config.data.kind is synthetic; leave one of "
                "them out"
            )


def _kind_of(path: str) -> str:
    """What a path leads to."""
    if not path:
        return "synthetic"
    places = source_places(path)
    return places[0].kind if len(places) == 1 else "joined"
