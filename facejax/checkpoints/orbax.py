"""Checkpoints: the state by global shapes, and the facts needed to rebuild what it belongs to.

A state is a pytree of arrays: dicts, sequences and dataclasses, nested as one likes. On disk an
array is known by its path of keys, fields and positions alone, so that a state may come back in
other containers of the same names, and without any as dicts and lists. `restore_network` looks for
`params/backbone` and `batch_stats`; nothing else is asked of the names.

A checkpoint says nothing of devices: per-class arrays are [classes, ...], and the rows that pad
them to a multiple of the devices are cut or added as it is restored. Randomness and the position in
the data are functions of the step, so the state is all there is to save.
"""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from facejax.errors import UserError

# JSON: `num_classes`, `architecture` (a dict) and the run's `config` (a dict of dicts); a state is
# restored only where the first two agree.
Facts = dict[str, Any]


def open_directory(directory: str | pathlib.Path, *, keep: int = 2) -> ocp.CheckpointManager:
    """The checkpoints of a run; the directory is made on the first save.

    Args:
      directory: where they are, or will be.
      keep: how many of the newest are kept.
    """
    return ocp.CheckpointManager(
        pathlib.Path(directory).resolve(),
        options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=False),
        item_handlers={
            "state": ocp.PyTreeCheckpointHandler(),
            "facts": ocp.JsonCheckpointHandler(),
        },
    )


def open_existing(directory: str | pathlib.Path) -> ocp.CheckpointManager:
    """The checkpoints that a run has left.

    Args:
      directory: where they are, or the workdir of train.py that has them in `checkpoints/`.

    Raises:
      UserError: if there is none.
    """
    inner = pathlib.Path(directory) / "checkpoints"
    found = inner if inner.is_dir() else pathlib.Path(directory)
    manager = open_directory(found) if found.is_dir() else None
    if manager is None or manager.latest_step() is None:
        raise UserError(
            f"there is no checkpoint in {directory}; train one with train.py, or give another "
            "directory"
        )
    return manager


def choose_step(manager: ocp.CheckpointManager, step: int | None = None) -> int:
    """The step asked for, or the newest.

    Raises:
      UserError: if it is not there.
    """
    steps = sorted(manager.all_steps())
    if step is not None and step not in steps:
        raise UserError(
            f"{manager.directory} has no step {step}; it has {', '.join(map(str, steps))}"
        )
    return steps[-1] if step is None else step


def save(manager: ocp.CheckpointManager, step: int, state: Any, facts: Facts) -> None:
    """Saves a state in the background, unless this step is there already.

    Args:
      manager: from `open_directory`; it closes, or waits, to be sure that all is written.
      step: its number.
      state: a pytree of arrays.
      facts: to be found beside it.
    """
    if step in manager.all_steps():
        return
    pathlib.Path(manager.directory).mkdir(parents=True, exist_ok=True)
    items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), facts=ocp.args.JsonSave(facts))
    manager.save(step, args=items)


def read_facts(manager: ocp.CheckpointManager, step: int) -> Facts:
    """The facts saved with a step.

    Raises:
      UserError: if they are not there.
    """
    try:
        return manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts
    except (KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{manager.directory}/{step} is not a facejax checkpoint ({error}); "
            "give the directory that train.py wrote"
        ) from error


def saved_shapes(
    manager: ocp.CheckpointManager, step: int, *, sharding: jax.sharding.Sharding | None = None
) -> Any:
    """What a step's state is made of, without reading it: a target for `restore`.

    Args:
      manager: from `open_directory` or `open_existing`.
      step: one that is there.
      sharding: where every array is to go; None is this process's first device.

    Returns:
      The state with a `jax.ShapeDtypeStruct` for each array; its containers are dicts and lists.

    Raises:
      UserError: if it is not there or can't be read.
    """
    where = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        tree = manager.item_metadata(step)["state"].tree
    except (KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{manager.directory}/{step} holds no whole state ({error}); give another step"
        ) from error
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        tree,
        is_leaf=lambda leaf: hasattr(leaf, "shape"),
    )


def restore(
    manager: ocp.CheckpointManager, step: int, target: Any, facts: Facts, *, per_class: Any
) -> Any:
    """A state, onto the shapes and shardings of `target`, on however many devices those are.

    Args:
      manager: from `open_directory`.
      step: one that is there.
      target: the state as `jax.ShapeDtypeStruct`s with shardings.
      facts: those of the run that asks; network and classes must be the saved ones.
      per_class: a tree of booleans like `target`: the leaves with one row per class, whose number
        of rows may differ by padding.

    Raises:
      UserError: if the checkpoint is of another architecture, loss or number of classes.
    """
    saved = read_facts(manager, step)
    for fact in ("architecture", "num_classes"):
        if saved.get(fact) != facts[fact]:
            _refuse(manager, step, f"{fact} {saved.get(fact)}, this run's is {facts[fact]}")
    stored_shapes = {name: leaf.shape for name, leaf in _named(saved_shapes(manager, step))}
    split = dict(_named(per_class))
    for name, leaf in _named(target):
        shape, wanted = stored_shapes.pop(name, None), tuple(leaf.shape)
        padded = bool(shape) and split[name] and shape[1:] == wanted[1:]  # type: ignore[index]
        if shape != wanted and not padded:
            _refuse(manager, step, f"{name} of shape {shape}, this run's is {wanted}")
    for name in stored_shapes:
        _refuse(manager, step, f"{name}, which this run has not")
    return _read(manager, step, target)


def restore_network(manager: ocp.CheckpointManager, step: int) -> tuple[Any, Any, Facts]:
    """What embeds a face: (backbone params, batch_stats, facts), on one device.

    Raises:
      UserError: if it is not a facejax checkpoint.
    """
    facts = read_facts(manager, step)
    shapes = saved_shapes(manager, step)
    target = {
        "params": {"backbone": shapes["params"]["backbone"]},
        "batch_stats": shapes["batch_stats"],
    }
    state = _read(manager, step, target, partial=True)
    return state["params"]["backbone"], state["batch_stats"], facts


def _read(manager: ocp.CheckpointManager, step: int, target: Any, *, partial: bool = False) -> Any:
    # Not strict: rows that pad the classes to a multiple of the devices are cut or added (zeros).
    arguments = jax.tree.map(
        lambda leaf: ocp.ArrayRestoreArgs(
            sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype, strict=False
        ),
        target,
    )
    state = ocp.args.PyTreeRestore(item=target, restore_args=arguments, partial_restore=partial)
    return manager.restore(step, args=ocp.args.Composite(state=state)).state


def _refuse(manager: ocp.CheckpointManager, step: int, what: str) -> None:
    raise UserError(
        f"the checkpoint {manager.directory}/{step} has {what}: give the config it was trained with"
    )


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Leaves by path, whatever kinds of container hold them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
