"""Checkpoints: the state by global shapes, and the facts needed to rebuild what it belongs to.

A state is a pytree of arrays: dicts, sequences and dataclasses, nested as one likes. On disk an
array is known by its path of keys, fields and positions alone, so that a state may come back in
other containers of the same names, and without any as dicts and lists. `restore_network` looks for
`params/backbone` and `batch_stats`; nothing else is asked of the names.

A checkpoint says nothing of devices: per-class arrays are [classes, ...], and the rows that pad
them to a multiple of the devices are cut or added as it is restored. Randomness and the position in
the data are functions of the step, so the state is all there is to save.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import jax
import orbax.checkpoint as ocp

from facejax import files
from facejax.errors import UserError

# JSON: `num_classes`, `architecture` (a dict) and the run's `config` (a dict of dicts); a state is
# restored only where the first two agree.
Facts = dict[str, Any]
Manager: TypeAlias = ocp.CheckpointManager
T = TypeVar("T")


class DamagedCheckpointError(UserError):
    """A checkpoint, or what is left of it, that can't be read; an older one may be whole."""


def open_directory(directory: str | pathlib.Path, *, keep: int = 2) -> Manager:
    """The checkpoints of a run; the directory is made on the first save.

    Args:
      directory: where they are, or will be.
      keep: how many of the newest are kept; 0 is all.

    Raises:
      UserError: if something else is in its place, or it can't be read.
    """
    directory = pathlib.Path(directory)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; move it away, or give another directory")
    with _readable(directory):
        return ocp.CheckpointManager(
            directory.resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep or None, create=False),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(),
                "facts": ocp.JsonCheckpointHandler(),
            },
        )


def open_existing(directory: str | pathlib.Path) -> Manager:
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


def choose_step(manager: Manager, step: int | None = None) -> int:
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


def newest_whole(manager: Manager, read: Callable[[int], T]) -> tuple[int, T, tuple[str, ...]]:
    """The newest checkpoint that can be read.

    Args:
      manager: from `open_directory` or `open_existing`; it has one or more.
      read: what is wanted of a step; it raises `DamagedCheckpointError`, as the functions here do.

    Returns:
      (its step, what `read` made of it, a sentence on each newer one that is damaged).

    Raises:
      DamagedCheckpointError: if none can be read.
    """
    damaged: list[str] = []
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            return step, read(step), tuple(damaged)
        except DamagedCheckpointError as error:
            damaged.append(str(error))
    raise DamagedCheckpointError(
        f"{damaged[0]}; no older one in {manager.directory} is whole either"
    )


def set_aside(manager: Manager, step: int) -> None:
    """Takes the checkpoints behind a step away: each is renamed, as in `6.damaged`.

    Else they would count as the newest, and stand in the way of those that the run writes.

    Args:
      manager: from `open_directory`; it forgets them.
      step: the newest that stays.

    Raises:
      UserError: if they can't be renamed.
    """
    folder = pathlib.Path(manager.directory)
    if jax.process_index() == 0:
        for later in manager.all_steps():
            aside = folder / f"{later}.damaged"
            if later > step:
                with files.refusing(aside, "make the folder writable, or give another"):
                    files.remove(aside)
                    (folder / str(later)).rename(aside)
    ocp.multihost.sync_global_processes("checkpoints set aside")
    manager.reload()


def saved_steps(directory: str | pathlib.Path) -> list[int]:
    """The steps that are on the disk now, in ascending order.

    Args:
      directory: where a run's checkpoints are, if there are any.
    """
    folder = pathlib.Path(directory)
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def save(manager: Manager, step: int, state: Any, facts: Facts, *, wait: bool = False) -> None:
    """Saves a state in the background, unless this step is there already.

    Args:
      manager: from `open_directory`; `close` it to be sure that all is written.
      step: its number.
      state: a pytree of arrays.
      facts: to be found beside it.
      wait: until it is on the disk; it is saved then even if a later step is there.

    Raises:
      UserError: if it, or the one before it, can't be written.
    """
    if step in manager.all_steps():
        return
    items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), facts=ocp.args.JsonSave(facts))
    with _writable(manager):
        pathlib.Path(manager.directory).mkdir(parents=True, exist_ok=True)
        manager.save(step, args=items, force=wait)
        if wait:
            manager.wait_until_finished()


def close(manager: Manager) -> None:
    """Waits until all that was saved is on the disk, and ends the manager.

    Raises:
      UserError: if the last one can't be written.
    """
    with _writable(manager):
        manager.wait_until_finished()
    manager.close()


def read_facts(manager: Manager, step: int) -> Facts:
    """The facts saved with a step.

    Raises:
      DamagedCheckpointError: if they are not there.
    """
    what = "is not a facejax checkpoint, or what is left of one"
    with _readable(pathlib.Path(manager.directory) / str(step), what):
        return manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts


def saved_shapes(
    manager: Manager, step: int, *, sharding: jax.sharding.Sharding | None = None
) -> Any:
    """What a step's state is made of, without reading it: a target for `restore`.

    Args:
      manager: from `open_directory` or `open_existing`.
      step: one that is there.
      sharding: where every array is to go; None is this process's first device.

    Returns:
      The state with a `jax.ShapeDtypeStruct` for each array; its containers are dicts and lists.

    Raises:
      DamagedCheckpointError: if it is not there or can't be read.
    """
    where = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _readable(pathlib.Path(manager.directory) / str(step), "holds no whole state"):
        tree = manager.item_metadata(step)["state"].tree
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        tree,
        is_leaf=lambda leaf: hasattr(leaf, "shape"),
    )


def restore(manager: Manager, step: int, target: Any, facts: Facts, *, per_class: Any) -> Any:
    """A state, onto the shapes and shardings of `target`, on however many devices those are.

    Args:
      manager: from `open_directory`.
      step: one that is there.
      target: the state as `jax.ShapeDtypeStruct`s with shardings.
      facts: those of the run that asks; network and classes must be the saved ones.
      per_class: a tree of booleans like `target`: the leaves with one row per class, whose number
        of rows may differ by padding.

    Raises:
      UserError: if the checkpoint is of another architecture or number of classes, or its state is
        of other shapes.
      DamagedCheckpointError: if it can't be read.
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


def restore_network(manager: Manager, step: int) -> tuple[Any, Any, Facts]:
    """What embeds a face: (backbone params, batch_stats, facts), on one device.

    Raises:
      DamagedCheckpointError: if it is not a facejax checkpoint, or can't be read.
    """
    facts = read_facts(manager, step)
    shapes = saved_shapes(manager, step)
    target = {
        "params": {"backbone": shapes["params"]["backbone"]},
        "batch_stats": shapes["batch_stats"],
    }
    state = _read(manager, step, target, partial=True)
    return state["params"]["backbone"], state["batch_stats"], facts


def _read(manager: Manager, step: int, target: Any, *, partial: bool = False) -> Any:
    # Not strict: rows that pad the classes to a multiple of the devices are cut or added (zeros).
    arguments = jax.tree.map(
        lambda leaf: ocp.ArrayRestoreArgs(
            sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype, strict=False
        ),
        target,
    )
    state = ocp.args.PyTreeRestore(item=target, restore_args=arguments, partial_restore=partial)
    with _readable(pathlib.Path(manager.directory) / str(step), "holds no whole state"):
        return manager.restore(step, args=ocp.args.Composite(state=state)).state


@contextlib.contextmanager
def _readable(path: pathlib.Path, what: str = "can't be read") -> Iterator[None]:
    """Orbax, TensorStore and JSON have many errors for what is damaged; here they are one."""
    try:
        yield
    except (UserError, jax.errors.JaxRuntimeError, MemoryError):
        raise  # the second is a device out of memory
    except Exception as error:
        if isinstance(error, PermissionError) or "PERMISSION_DENIED" in str(error):
            raise UserError(f"{path} may not be read; ask its owner for it") from error
        raise DamagedCheckpointError(
            f"{path} {what} ({_in_short(error)}); give another step, or delete that folder"
        ) from error


@contextlib.contextmanager
def _writable(manager: Manager) -> Iterator[None]:
    """What stands in the way of a write is OSError, or ValueError where TensorStore meets it."""
    try:
        yield
    except (UserError, jax.errors.JaxRuntimeError, MemoryError):
        raise
    except Exception as error:
        raise UserError(
            f"no checkpoint can be written to {manager.directory} ({_in_short(error)}); make room "
            "there, or give another directory"
        ) from error


def _in_short(error: Exception) -> str:
    """The first words of an error, which may be a page."""
    words = " ".join(str(error).split()) or type(error).__name__
    if "RESOURCE_EXHAUSTED" in words or "No space left" in words:
        return "No space left on device"
    return words if len(words) <= 120 else words[:117] + "..."


def _refuse(manager: Manager, step: int, what: str) -> None:
    raise UserError(
        f"the checkpoint {manager.directory}/{step} has {what}: give the config it was trained with"
    )


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Leaves by path, whatever kinds of container hold them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
