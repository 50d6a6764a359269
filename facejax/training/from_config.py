"""From a `Config`, which the library never sees, to the parts of a run.

Where the config can't be used, the functions here raise a `UserError` that names the field.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from facejax import checkpoints, data, evaluation, files, models, objectives
from facejax.errors import UserError
from facejax.evaluation.benchmarks import Benchmark, open_benchmark, split_name
from facejax.losses import (
    Classes,
    Remedies,
    margins_from_counts,
    sampling,
    weights_from_counts,
)
from facejax.synthetic import SyntheticFaces
from facejax.training import (
    evaluating,
    head,
    optimizer,
    ranges,
    resume,
    settle,
    state,
    step,
    subset,
)
from facejax.training.config import Config


def settled(config: Config, given: Collection[str] = ()) -> tuple[str, ...]:
    """Checks a config, and makes up its mind where fields exclude each other, in place.

    No device is touched: several processes find each other later.

    Args:
      config: as the recipe and the command line have it.
      given: the fields that the command line sets, as in "optimizer.learning_rate".

    Returns:
      One sentence for each field that is given and has no effect.

    Raises:
      UserError: on what can't be trained, whatever the data and the devices are.
    """
    ranges.check_types(config)
    notes = settle.settle(config, given)
    ranges.check(config)
    return notes


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
    ranges.check_batch(config, devices=len(found))
    return found


def training_source(config: Config) -> data.Source:
    """The images to train on.

    Raises:
      UserError: on whatever is wrong with the folder or dataset.
    """
    chosen = config.data
    with named("data"):
        return data.select(
            _all_images(config),
            minimum_images=chosen.minimum_images,
            maximum_images=chosen.maximum_images,
            share_of_images=chosen.share_of_images,
            share_of_identities=chosen.share_of_identities,
            seed=chosen.selection_seed,
        )


def _all_images(config: Config) -> data.Source:
    """What there is to choose from."""
    chosen = config.data
    if chosen.kind == "synthetic":
        return SyntheticFaces(
            identities=chosen.identities,
            images_per_identity=chosen.images_per_identity,
            image_size=chosen.image_size,
            seed=config.seed,
            cache=_faces_cache(config),
        )
    if chosen.kind == "joined" or chosen.path.startswith(f"{chosen.kind}:"):
        places = data.source_places(chosen.path)
    else:
        places = (data.Place(chosen.kind, chosen.path),)
    sources = [_opened(config, place) for place in places]
    return sources[0] if len(sources) == 1 else data.join_sources(sources, join=chosen.join)


def _opened(config: Config, place: data.Place) -> data.Source:
    """One source; of a folder, the dataset that is built of it."""
    chosen, show = config.data, jax.process_index() == 0
    if place.kind != "folder":
        return data.open_place(place, progress=show)
    folder = data.folder_source(place.path, sessions=chosen.sessions)
    return data.build_dataset(
        folder,
        files.expand(chosen.cache),
        damaged=chosen.damaged,
        remedy="set config.data.damaged=skip to leave out what is damaged",
    )


def try_cache(config: Config) -> None:
    """Tries whether rendered faces can be kept.

    Raises:
      UserError: if they can't, and are rendered anew in every run.
    """
    chosen = config.data
    if chosen.kind == "synthetic" and chosen.cache and _faces_cache(config) is None:
        raise UserError(
            f"rendered faces can't be kept in config.data.cache={chosen.cache}: give another "
            "folder, or an empty name for none"
        )


def _faces_cache(config: Config) -> pathlib.Path | None:
    """Where rendered faces are kept; None where they can't be."""
    if not config.data.cache:
        return None
    try:
        path = files.expand(config.data.cache)
        files.try_folder(path)
    except (UserError, OSError):
        return None
    return path


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
        replace_bad=config.data.bad_records > 0,
        balance=config.data.balance,
    )


def steps(config: Config, source: data.Source) -> int:
    """How many steps the run has, by its own number or by that of its epochs.

    Raises:
      UserError: if they are too many to be counted.
    """
    found = config.steps or math.ceil(config.epochs * len(source) / config.batch_size)
    if found >= 2**31:
        raise UserError(f"config.epochs {config.epochs:g} are {found} steps; give fewer")
    return found


def protocol(config: Config) -> evaluation.Protocol | None:
    """The verification protocol of the run, or None where the config names none.

    Raises:
      UserError: if the pair file or its images can't be read.
    """
    chosen = config.evaluation
    size = config.data.image_size
    if chosen.pairs:
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
            cache=_faces_cache(config),
        )


def evaluations(config: Config) -> tuple[evaluating.Planned, ...]:
    """What the run is measured on: its own pairs without a name, then the benchmarks by theirs.

    Raises:
      UserError: if one can't be read, two have one name, or the best checkpoint is to be known by
        a number that none of them gives.
    """
    chosen, own = config.evaluation, protocol(config)
    found = {} if own is None else {"": Benchmark("", own)}
    for given in filter(None, chosen.benchmarks.split(",")):
        name, path = split_name(given)
        if name in found or "/" in name:
            raise UserError(
                f"config.evaluation.benchmarks calls one {name}, which "
                f"{'has a slash' if '/' in name else 'another is called'}; give NAME=PATH with a "
                "NAME of its own"
            )
        found[name] = open_benchmark(
            path, name=name, image_size=config.data.image_size, seed=config.seed
        )
    planned = evaluating.plan(list(found.values()), subset=chosen.subset, seed=config.seed)
    if config.checkpoint.best:
        with named("checkpoint.best"):
            checkpoints.check_best(config.checkpoint.best, evaluating.names(planned))
    return planned


def best_checkpoint(
    config: Config,
    directory: pathlib.Path,
    planned: Sequence[evaluating.Planned],
    *,
    start: int,
) -> checkpoints.BestCheckpoint | None:
    """Where the best step is kept, or None where the config names no number.

    Args:
      config: of the run.
      directory: for it.
      planned: of `evaluations`.
      start: the step that the run goes on from; at 0 it starts anew, and none before it counts.
    """
    number = config.checkpoint.best
    if not number:
        return None
    name, slash, _ = number.removeprefix("-").partition("/")
    asked = next(one for one in planned if one.whole.name == (name if slash else ""))
    return checkpoints.BestCheckpoint(
        directory,
        number,
        measured_on=subset.fingerprint(asked.part.benchmark),
        earlier=start > 0,
    )


def network(config: Config, *, axis_name: str | None = None) -> models.Network:
    """The network; `axis_name` is the device axis over which BatchNorm is synchronised."""
    return models.network(**dataclasses.asdict(config.model), axis_name=axis_name)


def facts(config: Config, source: data.Source) -> checkpoints.Facts:
    """What a checkpoint says of the run beside its arrays.

    Args:
      config: of the run.
      source: what it trains on, with the labels of its class weights.
    """
    return {
        "architecture": dataclasses.asdict(config.model),  # the arguments of `models.network`
        "num_classes": source.num_classes,
        "data": resume.data_facts(source),
        "config": dataclasses.asdict(config),
    }


def objective(config: Config, source: data.Source | None = None) -> objectives.Objective:
    """The objective, with the hyperparameters that the config sets.

    Args:
      config: of the run.
      source: what it trains on, whose images are counted where the loss is to know; None to check
        all else before there is one.

    Raises:
      UserError: on what the loss does not take.
    """
    given, loss = dataclasses.asdict(config.loss), config.loss
    name = given.pop("name")
    for part in (*Remedies._fields, "margins_power", "weights_beta"):
        del given[part]
    chosen = {part: value for part, value in given.items() if value is not None}
    remedies = Remedies(smoothing=loss.smoothing, negative_cap=loss.negative_cap)
    if source is None:
        counts = jnp.ones(4)
    else:
        counts = jnp.asarray(np.bincount(source.labels, minlength=source.num_classes))
    if loss.class_margins:
        none = objectives.neutral_margin(name)
        largest = (objectives.hyperparameters(name) | chosen)["margin"] - none
        margins = margins_from_counts(counts, largest=largest, power=loss.margins_power)
        remedies = remedies._replace(class_margins=none + margins)
    if loss.class_weights:
        weights = weights_from_counts(counts, beta=loss.weights_beta)
        remedies = remedies._replace(class_weights=weights)
    return objectives.objective(
        name,
        chosen,
        remedies=remedies,
        dtype=config.head.dtype or config.model.dtype,
    )


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
      UserError: if there are too few identities for the devices or for a sample.
    """
    chosen, sgd = config.head, config.optimizer
    if num_classes < devices:
        raise UserError(
            f"{num_classes} identities can't be split over {devices} devices; set "
            f"config.devices={num_classes} or fewer"
        )
    if num_classes < 2:
        raise UserError("one identity can't be told from others; give the images of two or more")
    laid_out = classes(config, num_classes)
    sampled = chosen.sample_rate != 1
    if not (sampled or chosen.fused):
        return head.whole(tx, classes=laid_out)
    numbers = head.SGD(rate, sgd.momentum, sgd.weight_decay)
    if chosen.fused:
        return head.fused(tx, numbers, classes=laid_out)
    with named("head"):
        count = -(-num_classes // devices)
        sampling.sample_size(chosen.sample_rate, count, config.batch_size, devices, num_classes)
    return head.sampled(
        tx,
        numbers,
        rate=chosen.sample_rate,
        classes=laid_out,
        lazy_decay=chosen.lazy_decay,
    )


def augmentation(config: Config) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(keys, one per image; uint8 images) -> float32 images in [-1, 1]."""
    augment = functools.partial(data.augment, **settle.augmentation(config))
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


@contextlib.contextmanager
def named(section: str) -> Iterator[None]:
    """What the library refuses as an argument is here the user's field."""
    try:
        yield
    except UserError:  # says already what is meant
        raise
    except (ValueError, OSError) as error:
        raise UserError(f"config.{section}: {error}") from error
