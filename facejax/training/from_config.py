"""From a `Config`, which the library never sees, to the parts of a run.

Where the config can't be used, the functions here raise a `UserError` that names the field.
"""

import contextlib
import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from facejax import checkpoints, data, evaluation, files, models, objectives
from facejax.errors import UserError
from facejax.losses import Classes, sampling
from facejax.synthetic import SyntheticFaces
from facejax.training import head, optimizer, state, step
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
            raise UserError("pmap runs in one process; set config.parallel=shard_map for several")
        if len(set(Counter(device.process_index for device in found).values())) > 1:
            raise UserError("the processes have unequal numbers of devices; give each as many")
    if not 0 <= config.devices <= len(found):
        raise UserError(
            f"config.devices is {config.devices}, but there are {len(found)}: give as many or "
            "fewer, or leave it at 0 for all"
        )
    found = found[: config.devices or None]
    parts = len(found) * config.optimizer.accumulate
    if min(config.batch_size, parts) < 1 or config.batch_size % parts:
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
                cache=files.expand(chosen.cache),
            )
    if chosen.kind not in ("folder", "dataset"):
        raise UserError(f"config.data.kind is {chosen.kind!r}; choose synthetic, folder or dataset")
    if not chosen.path:
        raise UserError(
            f"config.data.kind is {chosen.kind} but config.data.path is empty; give the folder"
        )
    path = files.expand(chosen.path)
    if chosen.kind == "dataset":
        return data.dataset_source(path)
    return data.build_dataset(data.folder_source(path), files.expand(chosen.cache))


def batches(config: Config, source: data.Source, *, start: int) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of the batches behind step `start`, as `data.batches` has them."""
    return data.batches(
        source,
        batch_size=config.batch_size // jax.process_count(),
        image_size=config.data.image_size,
        seed=config.seed,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=config.data.threads,
        per_identity=config.data.per_identity,
    )


def steps(config: Config, source: data.Source) -> int:
    """How many steps the run has, by its own number or by that of its epochs."""
    return config.steps or math.ceil(config.epochs * len(source) / config.batch_size)


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
            files.expand(chosen.pairs), files.expand(chosen.images), image_size=size
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
            cache=files.expand(config.data.cache),
        )


def network(config: Config, *, axis_name: str | None = None) -> models.Network:
    """The network; `axis_name` is the device axis over which BatchNorm is synchronised."""
    _check_dtype("model", config.model.dtype)
    return models.network(**dataclasses.asdict(config.model), axis_name=axis_name)


def facts(config: Config, *, num_classes: int) -> checkpoints.Facts:
    """What a checkpoint says of the run beside its arrays."""
    return {
        "architecture": dataclasses.asdict(config.model),  # the arguments of `models.network`
        "num_classes": num_classes,
        "config": dataclasses.asdict(config),
    }


def objective(config: Config) -> objectives.Objective:
    """The objective, with the hyperparameters that the config sets.

    Raises:
      UserError: on what the loss does not take, or a loss on pairs without batches that have any.
    """
    name = config.loss.name
    given = {part: value for part, value in vars(config.loss).items() if value is not None}
    chosen = {part: value for part, value in given.items() if part != "name"}
    dtype = config.head.dtype or config.model.dtype
    _check_dtype("head", dtype)
    classes(config)  # a bad block size shows here, before the data are read
    made = objectives.objective(name, chosen, dtype=dtype)
    if objectives.needs_pairs(name) and config.data.per_identity < 2:
        raise UserError(
            f"the loss {name} learns from several images of an identity in a batch; set "
            "config.data.per_identity=4, say"
        )
    return made


def classes(config: Config, num_classes: int | None = None) -> Classes:
    """How the class weights are laid out over the devices of a step."""
    size = config.head.block_size
    with named("head"):
        return Classes({0: "auto", -1: None}.get(size, size), step.AXIS, num_classes)


def schedule(config: Config, *, steps: int) -> optax.Schedule:
    """The learning rate of each step."""
    chosen = config.optimizer
    return optimizer.learning_rate(
        peak=chosen.learning_rate,
        steps=steps,
        warmup=chosen.warmup,
        schedule=chosen.schedule,
        power=chosen.power,
    )


def update_rule(config: Config, rate: optax.Schedule) -> optax.GradientTransformation:
    """The optimizer, with what it must remember for the class weights."""
    chosen = config.optimizer
    tx = optimizer.optimizer(
        chosen.name, rate, momentum=chosen.momentum, weight_decay=chosen.weight_decay
    )
    return head.remembering(tx) if config.head.lazy_decay else tx


def head_update(
    config: Config,
    tx: optax.GradientTransformation,
    rate: optax.Schedule,
    *,
    num_classes: int,
    devices: int,
) -> head.HeadUpdate:
    """How the class weights, split over so many devices, are trained.

    Raises:
      UserError: on what does not go together.
    """
    chosen, sgd, loss = config.head, config.optimizer, config.loss.name
    if num_classes < devices:
        raise UserError(
            f"{num_classes} identities can't be split over {devices} devices; set "
            f"config.devices={num_classes} or fewer"
        )
    sampled, fused, lazy = chosen.sample_rate != 1, chosen.fused, chosen.lazy_decay
    laid_out = classes(config, num_classes)
    if not (sampled or fused or lazy):
        return head.whole(tx, classes=laid_out)
    field = "sample_rate" if sampled else "fused" if fused else "lazy_decay"
    for applies, refusal in (
        (
            sampled and not objectives.can_sample(loss),
            "is for losses with class weights, and not center_loss",
        ),
        (not objectives.has_class_weights(loss), "is for losses with class weights"),
        (sgd.name != "sgd", "takes config.optimizer.name=sgd"),
        (sampled and not chosen.sharded, "takes config.head.sharded=true"),
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
        if applies:
            raise UserError(f"config.head.{field} {refusal}")
    numbers = head.SGD(rate, sgd.momentum, sgd.weight_decay)
    if fused:
        return head.fused(tx, numbers, classes=laid_out)
    with named("head"):
        count = -(-num_classes // devices)
        sampling.sample_size(chosen.sample_rate, count, config.batch_size, devices, num_classes)
    return head.sampled(
        tx,
        numbers,
        rate=chosen.sample_rate,
        classes=laid_out,
        lazy_decay=lazy,
    )


def augmentation(config: Config) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(keys, one per image; uint8 images) -> float32 images in [-1, 1]."""
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
    with named("augment"):
        jax.eval_shape(augment, jax.random.split(jax.random.key(0), 1), _images(config, 1))
    return augment


def initial_state(
    config: Config,
    network: models.Network,
    objective: objectives.Objective,
    tx: optax.GradientTransformation,
    *,
    num_classes: int,
    devices: int,
) -> tuple[Callable[[jax.Array], state.TrainState], state.TrainState]:
    """(key -> the state before the first step, its shapes), nothing of which is computed here."""
    create = functools.partial(
        state.create,
        network=network,
        objective=objective,
        tx=tx,
        num_classes=num_classes,
        image_size=config.data.image_size,
        embedding_size=config.model.embedding_size,
        slices=devices,
    )
    with named("loss"):
        return create, jax.eval_shape(create, jax.random.key(0))


def compiled_step(
    config: Config,
    network: models.Network,
    objective: objectives.Objective,
    update: head.HeadUpdate,
    augmentation: Callable[[jax.Array, jax.Array], jax.Array],
    shapes: state.TrainState,
    *,
    devices: Sequence[jax.Device],
) -> step.Step:
    """The training step, compiled for the devices; `shapes` are the state's."""
    body = step.make_body(
        network,
        objective,
        update,
        augmentation,
        key=jax.random.key(config.seed + 1),
        sharded=config.head.sharded,
        accumulate=config.optimizer.accumulate,
        clip_norm=config.optimizer.clip_norm,
    )
    labels = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32)
    return step.build_step(
        body,
        shapes,
        {"image": _images(config, config.batch_size), "label": labels},
        parallel=config.parallel,
        devices=devices,
        sharded=config.head.sharded,
    )


def _images(config: Config, count: int) -> jax.ShapeDtypeStruct:
    size = config.data.image_size
    return jax.ShapeDtypeStruct((count, size, size, 3), jnp.uint8)


def _check_dtype(section: str, name: str) -> None:
    if name not in ("float32", "bfloat16", "float16"):
        raise UserError(f"config.{section}.dtype is {name!r}; choose float32 or bfloat16")


@contextlib.contextmanager
def named(section: str) -> Iterator[None]:
    """What the library refuses as an argument is here the user's field."""
    try:
        yield
    except UserError:  # says already what is meant
        raise
    except (ValueError, OSError) as error:
        raise UserError(f"config.{section}: {error}") from error
