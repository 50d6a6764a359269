"""The range of every field of a `Config`, and the combinations of fields that can't be trained.

This is the one table of them; `check` answers before any data is read.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from facejax import models, objectives
from facejax.data import PRESETS, RESAMPLING
from facejax.data.open import KINDS
from facejax.errors import UserError
from facejax.losses import Remedies
from facejax.training import settle
from facejax.training.config import Config, flat


class _Range(NamedTuple):
    """What a field may be: in words, and as a test of a finite number."""

    words: str
    holds: Callable[[Any], bool]


def _at_least(low: float) -> _Range:
    return _Range(f"{low} or more", lambda value: value >= low)


def _multiple(of: int) -> _Range:
    return _Range(f"a multiple of {of}", lambda value: value > 0 and value % of == 0)


def _one_of(*names: str) -> _Range:
    shown = [name or "nothing" for name in names]
    return _Range(", ".join(shown[:-1]) + f" or {shown[-1]}", lambda value: value in names)


_ANY = _Range("a finite number", lambda _: True)
_COUNT, _COUNT_OR_0 = _at_least(1), _at_least(0)
_POSITIVE = _Range("more than 0", lambda value: value > 0)
_SHARE = _Range("0 to 1", lambda value: 0 <= value <= 1)
_PART = _Range("more than 0, up to 1", lambda value: 0 < value <= 1)
_BELOW_1 = _Range("0 or more and less than 1", lambda value: 0 <= value < 1)
_DTYPES = ("float16", "float32", "bfloat16")

# Text that is not here, such as a path, may be anything; None is well where a field may be that.
RANGES: dict[str, _Range] = {
    "seed": _Range("0 to 4294967294", lambda value: 0 <= value < 2**32 - 1),
    "batch_size": _COUNT,
    "epochs": _COUNT_OR_0,
    "steps": _Range("0 to 2147483647", lambda value: 0 <= value < 2**31),
    "parallel": _one_of("pmap", "shard_map"),
    "devices": _COUNT_OR_0,
    "data.kind": _one_of("synthetic", *KINDS, "joined"),
    "data.join": _one_of("disjoint", "names"),
    "data.minimum_images": _COUNT_OR_0,
    "data.maximum_images": _COUNT_OR_0,
    "data.share_of_images": _PART,
    "data.share_of_identities": _PART,
    "data.selection_seed": _COUNT_OR_0,
    "data.balance": _SHARE,
    "data.damaged": _one_of("refuse", "skip"),
    "data.bad_records": _SHARE,
    "data.image_size": _multiple(16),
    "data.threads": _COUNT_OR_0,
    "data.per_identity": _COUNT_OR_0,
    "data.identities": _COUNT,
    "data.images_per_identity": _COUNT,
    "augment.preset": _one_of(*PRESETS),
    "augment.flip": _SHARE,
    "augment.shift": _COUNT_OR_0,
    "augment.crop": _SHARE,
    "augment.crop_in_place": _SHARE,
    "augment.photometric": _SHARE,
    "augment.color_jitter": _SHARE,
    "augment.hue": _SHARE,
    "augment.gray": _SHARE,
    "augment.low_resolution": _SHARE,
    "augment.resampling": _one_of(*RESAMPLING),
    "augment.blur": _SHARE,
    "augment.erasing": _SHARE,
    "augment.face_mask": _SHARE,
    "model.name": _one_of(*models.NETWORKS),
    "model.width": _POSITIVE,
    "model.embedding_size": _COUNT,
    "model.dropout": _BELOW_1,
    "model.dtype": _one_of(*_DTYPES),
    "loss.name": _one_of(*objectives.LOSSES),
    "loss.scale": _POSITIVE,
    "loss.margin": _COUNT_OR_0,
    "loss.scale_warmup": _COUNT_OR_0,
    "loss.margin_warmup": _COUNT_OR_0,
    "loss.m1": _POSITIVE,
    "loss.m2": _ANY,
    "loss.m3": _ANY,
    "loss.anneal_base": _COUNT_OR_0,
    "loss.anneal_gamma": _COUNT_OR_0,
    "loss.anneal_power": _COUNT_OR_0,
    "loss.anneal_minimum": _COUNT_OR_0,
    "loss.hardness": _COUNT_OR_0,
    "loss.rate": _SHARE,
    "loss.l_a": _POSITIVE,
    "loss.u_a": _POSITIVE,
    "loss.l_m": _COUNT_OR_0,
    "loss.u_m": _COUNT_OR_0,
    "loss.lambda_g": _COUNT_OR_0,
    "loss.h": _POSITIVE,
    "loss.centers": _COUNT,
    "loss.mean": _ANY,
    "loss.sigma": _COUNT_OR_0,
    "loss.balance": _COUNT_OR_0,
    "loss.t": _POSITIVE,
    "loss.weight": _COUNT_OR_0,
    "loss.slope": _POSITIVE,
    "loss.a": _ANY,
    "loss.b": _ANY,
    "loss.alpha": _POSITIVE,
    "loss.beta": _POSITIVE,
    "loss.threshold": _ANY,
    "loss.epsilon": _COUNT_OR_0,
    "loss.temperature": _POSITIVE,
    "loss.regularizer": _COUNT_OR_0,
    "loss.smoothing": _BELOW_1,
    "loss.negative_cap": _Range("-1 to 1", lambda value: -1 <= value <= 1),
    "loss.class_margins": _one_of("", "counts"),
    "loss.margins_power": _COUNT_OR_0,
    "loss.class_weights": _one_of("", "counts"),
    "loss.weights_beta": _BELOW_1,
    "head.block_size": _at_least(-1),
    "head.sample_rate": _Range("more than 0, up to 1", lambda value: 0 < value <= 1),
    "head.dtype": _one_of("", *_DTYPES),
    "optimizer.name": _one_of("sgd", "adamw"),
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.momentum": _BELOW_1,
    "optimizer.weight_decay": _COUNT_OR_0,
    "optimizer.schedule": _one_of("polynomial", "cosine", "constant"),
    "optimizer.power": _POSITIVE,
    "optimizer.warmup": _SHARE,
    "optimizer.clip_norm": _COUNT_OR_0,
    "optimizer.accumulate": _COUNT,
    "evaluation.every": _COUNT_OR_0,
    "evaluation.subset": _Range("0, or 20 or more", lambda value: value == 0 or value >= 20),
    "evaluation.batch_size": _COUNT,
    "evaluation.identities": _at_least(2),
    "evaluation.images_per_identity": _at_least(2),
    "evaluation.synthetic_pairs": _at_least(2),
    "checkpoint.every": _COUNT_OR_0,
    "checkpoint.keep": _COUNT_OR_0,
}


def check_types(config: Config) -> None:
    """Refuses what a recipe has put into a field that is of another type.

    Raises:
      UserError: on the first such field.
    """
    types: dict[str, Any] = {}
    for field in dataclasses.fields(Config):
        section, value = field.type, getattr(config, field.name)
        if not (isinstance(section, type) and dataclasses.is_dataclass(section)):
            types[field.name] = section
            continue
        parts = dataclasses.fields(section)
        if type(value) is not section:
            raise UserError(
                f"config.{field.name} is {value!r}; give a {section.__name__}, or set its fields, "
                f"as in config.{field.name}.{parts[0].name}"
            )
        types |= {f"{field.name}.{part.name}": part.type for part in parts}
    for name, value in flat(config).items():
        _check_type(name, value, types[name])


def check(config: Config) -> None:
    """Refuses what can't be trained, whatever the data and the devices are.

    Args:
      config: of `settle`, its types checked.

    Raises:
      UserError: on a field out of its range, or that does not go with another.
    """
    for name, value in flat(config).items():
        allowed = RANGES.get(name)
        if allowed is None or value is None:
            continue
        if isinstance(value, str):
            if not allowed.holds(value):
                raise UserError(f"config.{name} is {value!r}; choose {allowed.words}")
        elif not (-math.inf < value < math.inf and allowed.holds(value)):
            raise UserError(f"config.{name} {value} is out of its range; give {allowed.words}")
    for sentence in _conflicts(config):
        raise UserError(sentence)


def check_batch(config: Config, *, devices: int) -> None:
    """Refuses batches from which a network or a loss learns nothing.

    Each device has `batch_size / devices` neighbouring rows, and takes them in `accumulate` runs of
    neighbours. Micro-batch m is the m-th run of all devices.

    Args:
      config: checked already.
      devices: how many there are, whose product with the micro-batches divides the batch.

    Raises:
      UserError: if a micro-batch has one row, as BatchNorm makes zeros of it; or if the loss learns
        from pairs and a micro-batch has no two identities with two images each.
    """
    runs, size = config.optimizer.accumulate, config.batch_size
    shown = f"config.batch_size {size} in {runs} micro-batch(es) on {devices} device(s)"
    if size // runs < 2:
        raise UserError(
            f"{shown} leaves one row in each, of which BatchNorm makes zeros; give 2 rows or more "
            "for each of config.optimizer.accumulate"
        )
    if not objectives.needs_pairs(config.loss.name):
        return
    identity = np.arange(size) // config.data.per_identity
    for rows in identity.reshape(devices, runs, -1).swapaxes(0, 1).reshape(runs, -1):
        if np.sum(np.unique(rows, return_counts=True)[1] >= 2) < 2:
            raise UserError(
                f"{shown}, with config.data.per_identity={config.data.per_identity}, has a "
                "micro-batch without two identities of two images each, from which alone the loss "
                f"{config.loss.name} learns; raise config.batch_size, or lower "
                "config.optimizer.accumulate or config.data.per_identity"
            )


def _check_type(name: str, value: Any, wanted: Any) -> None:
    if wanted == (tuple[float, ...] | None):
        if value is None:
            return
        bounds = value if isinstance(value, tuple | list) else ()
        numbers = [bound for bound in bounds if type(bound) in (int, float) and 0 < bound <= 1]
        if len(bounds) not in (1, 2) or len(numbers) < len(bounds) or bounds[0] > bounds[-1]:
            raise UserError(
                f"config.{name} is {value!r}; give two numbers above 0 and up to 1, the smaller "
                "one first"
            )
        return
    if type(value) is int and wanted in (float, float | None):  # a whole number is a number too
        return
    if isinstance(value, wanted) and (type(value) is not bool or wanted in (bool, bool | None)):
        return
    words = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
    said = next(said for kind, said in words.items() if wanted in (kind, kind | None))
    raise UserError(f"config.{name} is {value!r}, a {type(value).__name__}; give {said}")


def _conflicts(config: Config) -> Iterator[str]:
    """The sentence of each combination of fields that can't be, the table's second half."""
    data, loss, head, sgd = config.data, config.loss, config.head, config.optimizer
    pairs = objectives.needs_pairs(loss.name)
    if not config.steps and not config.epochs:
        yield "config.steps and config.epochs are both 0; set one of them"
    if data.kind != "synthetic" and not data.path:
        yield f"config.data.kind is {data.kind} but config.data.path is empty; give the folder"
    if 0 < data.maximum_images < data.minimum_images:
        yield (
            f"config.data.maximum_images {data.maximum_images} is below config.data.minimum_images "
            f"{data.minimum_images}; change one of them"
        )
    if data.per_identity and data.balance:
        yield (
            f"config.data.balance is for batches without config.data.per_identity "
            f"{data.per_identity}, in which identities come equally often anyway; leave one at 0"
        )
    if data.kind == "synthetic" and not 32 <= data.image_size <= 112:
        yield (
            f"config.data.image_size {data.image_size} is out of the range of synthetic faces; "
            "give a multiple of 16 from 32 to 112"
        )
    if pairs and data.per_identity < 2:
        yield (
            f"the loss {loss.name} learns from several images of an identity in a batch; set "
            "config.data.per_identity=4, say"
        )
    if data.per_identity and config.batch_size % data.per_identity:
        yield (
            f"config.batch_size {config.batch_size} is not a multiple of config.data.per_identity "
            f"{data.per_identity}; change one of them"
        )
    if (config.augment.shift or 0) >= data.image_size:
        yield (
            f"config.augment.shift {config.augment.shift} moves an image of "
            f"config.data.image_size {data.image_size} out of sight; give fewer pixels"
        )
    norms = objectives.hyperparameters(loss.name) | {
        part: value for part in ("l_a", "u_a") if (value := getattr(loss, part)) is not None
    }
    if norms.get("l_a", 0) >= norms.get("u_a", math.inf):
        yield (
            f"config.loss.l_a {norms['l_a']} is not below config.loss.u_a {norms['u_a']}; change "
            "one of them"
        )
    if config.checkpoint.best and not settle.evaluates(config):
        yield (
            f"config.checkpoint.best is {config.checkpoint.best}, but nothing is measured; give "
            "config.evaluation.benchmarks, or config.evaluation.pairs and config.evaluation.images"
        )
    for part in Remedies._fields:
        if getattr(loss, part) == getattr(type(loss)(), part):
            continue
        if part not in objectives.remedies_taken(loss.name):
            yield f"config.loss.{part} is not for the loss {loss.name}; leave it out"
    sampled, fused, lazy = head.sample_rate != 1, head.fused, head.lazy_decay
    field = "sample_rate" if sampled else "fused" if fused else "lazy_decay"
    for applies, refusal in (
        (
            sampled and not objectives.can_sample(loss.name),
            "is for losses with class weights, and not center_loss",
        ),
        (not objectives.has_class_weights(loss.name), "is for losses with class weights"),
        (sgd.name != "sgd", "takes config.optimizer.name=sgd"),
        (sampled and not head.sharded, "takes config.head.sharded=true"),
        (sampled and fused, "can't be used together with config.head.fused"),
        (lazy and not sampled, "is for sampled classes: set config.head.sample_rate too"),
        (
            fused and sgd.clip_norm > 0,
            "updates before the norm is known: set config.optimizer.clip_norm=0",
        ),
        (
            fused and sgd.accumulate > 1,
            "updates once in a batch: set config.optimizer.accumulate=1",
        ),
    ):
        if (sampled or fused or lazy) and applies:
            yield f"config.head.{field} {refusal}"
