"""From a `Config` to the arguments of the library, which never sees one."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import optax

from facejax import data, evaluation, objectives
from facejax.errors import UserError
from facejax.losses import Classes, sampling
from facejax.synthetic import SyntheticFaces
from facejax.training import head as ways
from facejax.training import step
from facejax.training.config import Config


def devices(config: Config) -> Sequence[jax.Device]:
    """The devices of the run, those of all processes, process by process.

    Raises:
      UserError: if there are fewer, the batch can't be divided among them, or the config asks for
        what several processes can't do.
    """
    found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if jax.process_count() > 1:
        if config.devices:
            raise UserError(
                f"config.devices is {config.devices}, but several processes train on all devices: "
                "leave it at 0"
            )
        if config.parallel == "pmap":
            raise UserError("pmap runs in one process; set --config.parallel=shard_map for several")
        if len(set(Counter(device.process_index for device in found).values())) > 1:
            raise UserError("the processes have unequal numbers of devices; give each as many")
    if config.devices > len(found):
        raise UserError(
            f"config.devices is {config.devices}, but there are {len(found)}: lower it, or leave "
            "it at 0 for all"
        )
    found = found[: config.devices or None]
    parts = len(found) * config.optimizer.accumulate
    if config.batch_size < 1 or config.batch_size % parts:
        raise UserError(
            f"config.batch_size {config.batch_size} is not a multiple of {len(found)} device(s) "
            f"times {config.optimizer.accumulate} micro-batch(es); change one of them"
        )
    return found


def training_source(config: Config) -> data.Source:
    """The images to train on.

    Raises:
      UserError: on an unknown kind, or whatever is wrong with the folder or dataset.
    """
    chosen = config.data
    if chosen.kind == "synthetic":
        with named("data"):
            return SyntheticFaces(
                identities=chosen.identities,
                images_per_identity=chosen.images_per_identity,
                image_size=chosen.image_size,
                seed=config.seed,
                cache=Path(chosen.cache).expanduser(),
            )
    if chosen.kind not in ("folder", "dataset"):
        raise UserError(f"config.data.kind is {chosen.kind!r}; choose synthetic, folder or dataset")
    if not chosen.path:
        raise UserError(
            f"config.data.kind is {chosen.kind} but config.data.path is empty; "
            "give the folder with --config.data.path="
        )
    path = Path(chosen.path).expanduser()
    if chosen.kind == "dataset":
        return data.dataset_source(path)
    return data.build_dataset(data.folder_source(path), Path(chosen.cache).expanduser())


def protocol(config: Config) -> evaluation.Protocol | None:
    """The verification protocol of the run, or None where the config names none.

    Raises:
      UserError: if the pair file or its images can't be read.
    """
    chosen = config.evaluation
    size = config.data.image_size
    if chosen.pairs:
        if not chosen.images:
            raise UserError(
                "config.evaluation.pairs is given but config.evaluation.images is empty; "
                "give the folder of the pairs' images"
            )
        return evaluation.from_pairs(
            Path(chosen.pairs).expanduser(), Path(chosen.images).expanduser(), image_size=size
        )
    if config.data.kind != "synthetic":
        return None
    with named("evaluation"):
        return evaluation.synthetic(
            identities=chosen.identities,
            images_per_identity=chosen.images_per_identity,
            image_size=size,
            seed=config.seed,
            first_identity=config.data.identities,  # those behind the ones in training
            pairs=chosen.synthetic_pairs,
            cache=Path(config.data.cache).expanduser(),
        )


def network(config: Config) -> dict[str, Any]:
    """The network's arguments; what a checkpoint calls its architecture."""
    chosen = config.model
    return {
        "name": chosen.name,
        "width": chosen.width,
        "embedding_size": chosen.embedding_size,
        "dropout": chosen.dropout,
        "dtype": chosen.dtype,
    }


def objective(config: Config) -> objectives.Objective:
    """The objective, with the hyperparameters that the config sets.

    Raises:
      UserError: on what the loss does not take, or a loss on pairs without batches that have any.
    """
    chosen = {name: value for name, value in vars(config.loss).items() if value is not None}
    dtype = config.head.dtype or config.model.dtype
    if dtype not in ("float32", "bfloat16", "float16"):
        raise UserError(f"config.head.dtype is {dtype!r}; choose float32 or bfloat16")
    classes(config)  # a bad block size shows here, before the data are read
    made = objectives.objective(chosen.pop("name"), chosen, dtype=dtype)
    if objectives.needs_pairs(config.loss.name) and config.data.per_identity < 2:
        raise UserError(
            f"the loss {config.loss.name} learns from several images of an identity in a batch; "
            "set --config.data.per_identity=4, say"
        )
    return made


def classes(config: Config, num_classes: int | None = None) -> Classes:
    """How the class weights are laid out over the devices of a step."""
    size = config.head.block_size
    with named("head"):
        return Classes({0: "auto", -1: None}.get(size, size), step.AXIS, num_classes)


def head(
    config: Config,
    tx: optax.GradientTransformation,
    rate: optax.Schedule,
    *,
    num_classes: int,
    devices: int,
) -> tuple[ways.HeadUpdate, optax.GradientTransformation]:
    """How the class weights are trained, and the optimizer with what that has to remember.

    Raises:
      UserError: on what does not go together.
    """
    chosen, name = config.head, config.loss.name
    if num_classes < devices:
        raise UserError(
            f"{num_classes} identities can't be split over {devices} devices; set "
            f"--config.devices={num_classes} or fewer"
        )
    sampled = chosen.sample_rate != 1
    special = "sample_rate" if sampled else "fused" if chosen.fused else "lazy_decay"
    if not (sampled or chosen.fused or chosen.lazy_decay):
        return ways.whole(tx, classes=classes(config, num_classes)), tx
    optimizer = config.optimizer
    refusals = {
        "is for losses with class weights, and not center_loss": sampled
        and not objectives.can_sample(name),
        "is for losses with class weights": not objectives.has_class_weights(name),
        "takes the optimizer sgd": optimizer.name != "sgd",
        "takes class weights split over the devices, --config.head.sharded": sampled
        and not chosen.sharded,
        "can't be used together with --config.ways.fused": sampled and chosen.fused,
        "is for sampled classes, --config.head.sample_rate": chosen.lazy_decay and not sampled,
        "updates before the norm is known: set --config.optimizer.clip_norm=0": chosen.fused
        and optimizer.clip_norm > 0,
        "updates once a batch: set --config.optimizer.accumulate=1": chosen.fused
        and optimizer.accumulate > 1,
    }
    for refusal, applies in refusals.items():
        if applies:
            raise UserError(f"config.head.{special} {refusal}")
    sgd = ways.SGD(rate, optimizer.momentum, optimizer.weight_decay)
    if chosen.fused:
        return ways.fused(tx, sgd, classes=classes(config, num_classes)), tx
    if chosen.lazy_decay:
        tx = ways.remembering(tx)
    with named("head"):
        count = -(-num_classes // devices)
        sampling.sample_size(chosen.sample_rate, count, config.batch_size, devices, num_classes)
    update = ways.sampled(
        tx,
        sgd,
        rate=chosen.sample_rate,
        classes=classes(config, num_classes),
        lazy_decay=chosen.lazy_decay,
    )
    return update, tx


def schedule(config: Config) -> dict[str, Any]:
    """The arguments of the learning-rate schedule, but for the number of steps."""
    chosen = config.optimizer
    return {
        "peak": chosen.learning_rate,
        "warmup": chosen.warmup,
        "schedule": chosen.schedule,
        "power": chosen.power,
    }


def augmentation(config: Config) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(keys [B], uint8 images [B, H, W, 3]) -> float32 images in [-1, 1]."""
    chosen = config.augment
    augment = functools.partial(
        data.augment,
        flip=chosen.flip,
        shift=chosen.shift,
        crop=chosen.crop,
        crop_scale=(chosen.crop_scale[0], chosen.crop_scale[-1]),
        photometric=chosen.photometric,
        low_resolution=chosen.low_resolution,
        erasing=chosen.erasing,
    )
    example = jax.ShapeDtypeStruct((1, config.data.image_size, config.data.image_size, 3), "uint8")
    with named("augment"):
        jax.eval_shape(augment, jax.random.split(jax.random.key(0), 1), example)
    return augment


@contextlib.contextmanager
def named(section: str) -> Iterator[None]:
    """What the library refuses as an argument is here the user's field."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(f"config.{section} is set up wrongly: {error}") from error
