"""The training step: how state and batch lie on the devices, and what each device does.

One body, written for one device with collectives over a named axis, is run by `jax.pmap` or by
`jax.jit(jax.shard_map)` over a mesh. The backbone is replicated; per-class arrays are split over
the devices, and so is the batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from facejax import compilation
from facejax.errors import UserError
from facejax.losses import Classes
from facejax.models import Network
from facejax.objectives import Objective
from facejax.training.head import HeadUpdate
from facejax.training.state import TrainState, per_class_params, split_leaves

AXIS = "devices"

Batch = dict[str, Any]  # image: uint8 [rows, H, W, 3], label: int32 [rows], -1 for padding
Metrics = dict[str, jax.Array]  # sums over the batch, `rows` their count; `gradient_norm`
Keys = tuple[jax.Array, ...]  # [rows] each: of the augmentation, the dropout and the loss
Body = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Step(NamedTuple):
    """A compiled step. `state` is in device form between `enter` and `leave`.

    Attributes:
      enter: state -> device form. The state may be donated.
      run: (device state, fed batch) -> (device state, metrics). Donates the state.
      leave: device form -> a copy of the state, which the next `run` leaves alone; per-class
        arrays are [C, ...], split over the devices.
      feed: a host batch -> what `run` takes; over several processes, this one's rows of it.
    """

    enter: Callable[[TrainState], TrainState]
    run: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    leave: Callable[[TrainState], TrainState]
    feed: Callable[[Batch], Batch]


def make_body(
    network: Network,
    objective: Objective,
    head: HeadUpdate,
    augmentation: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    key: jax.Array,
    sharded: bool = True,
    accumulate: int = 1,
    clip_norm: float = 0.0,
) -> Body:
    """The step of one device, to be run under the axis `AXIS`.

    Args:
      network: with BatchNorm synchronised over `AXIS`.
      objective: the loss and what it trains and carries.
      head: how the class weights are trained, with the optimizer of everything; its classes are
        split over `AXIS`.
      augmentation: (keys [rows], uint8 images [rows, H, W, 3]) -> float32 images in [-1, 1].
      key: the run's base key. What is drawn for a row is a function of the step and of the row's
        number in the whole batch, so no key is carried and the devices do not matter.
      sharded: whether the head's per-class arrays are split over the devices. If they are not,
        each device still computes with its slice of them, and gathers the gradient.
      accumulate: micro-batches a step; the gradient is that of the mean over all their rows.
      clip_norm: the largest norm of the whole gradient, over all devices; 0 leaves it.
    """

    def micro_loss(
        params: Any,
        carried: Any,
        batch: Batch,
        keys: Keys,
        step: jax.Array,
        total_rows: jax.Array,
        classes: Classes,
    ) -> tuple[jax.Array, Any]:
        batch_stats, objective_state = carried
        augmentation_keys, dropout_keys, loss_keys = keys
        embeddings, batch_stats = network.apply(
            {"params": params["backbone"], "batch_stats": batch_stats},
            augmentation(augmentation_keys, batch["image"]),
            train=True,
            keys=dropout_keys,
        )
        losses, objective_state, sums = objective.apply(
            params["head"],
            objective_state,
            embeddings,
            batch["label"],
            keys=loss_keys,
            step=step,
            classes=classes,
        )
        loss = jnp.sum(losses)
        # This device's part of the mean over all rows: the parts' gradients add up over devices.
        return loss / total_rows, ((batch_stats, objective_state), {"loss": loss, **sums})

    differentiate = jax.grad(micro_loss, has_aux=True)

    def body(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        head_key, *uses = jax.random.split(jax.random.fold_in(key, state.step), 4)
        keys = tuple(_row_keys(use, len(batch["label"])) for use in uses)
        rows = lax.psum(jnp.sum(batch["label"] >= 0, dtype=jnp.float32), AXIS)
        total_rows = jnp.maximum(rows, 1)
        seen, labels, classes, index = head.view(head_key, state, batch["label"])
        if classes.axis_name != AXIS:
            raise ValueError(
                f"the head's classes are split over the axis {classes.axis_name!r}: "
                f"give it Classes(axis_name={AXIS!r})"
            )
        batch = {**batch, "label": labels}
        if not sharded:
            seen = jax.tree.map(lambda leaf: _own_slice(leaf) if leaf.ndim else leaf, seen)
        params = {**state.params, "head": seen}
        memory = state.objective_state
        if index is not None:  # what the objective keeps by class, of the sample too
            memory = jax.tree.map(lambda leaf: leaf[index] if leaf.ndim else leaf, memory)
        carried = (state.batch_stats, memory)

        def micro_step(carried: Any, batch: Batch, keys: Keys) -> tuple[Any, Any]:
            return differentiate(params, carried, batch, keys, state.step, total_rows, classes)

        if accumulate == 1:
            gradients, (carried, sums) = micro_step(carried, batch, keys)
        else:

            def accumulated(carry: Any, inputs: tuple[Batch, Keys]) -> tuple[Any, Metrics]:
                carried, so_far = carry
                gradients, (carried, sums) = micro_step(carried, *inputs)
                return (carried, jax.tree.map(jnp.add, so_far, gradients)), sums

            micro = jax.tree.map(lambda a: a.reshape(accumulate, -1, *a.shape[1:]), (batch, keys))
            zeros = jax.tree.map(jnp.zeros_like, params)
            (carried, gradients), sums = lax.scan(accumulated, (carried, zeros), micro)
            sums = jax.tree.map(lambda a: jnp.sum(a, axis=0), sums)

        split = per_class_params(gradients)
        gradients = jax.tree.map(lambda g, own: g if own else lax.psum(g, AXIS), gradients, split)
        true, split = head.gradient(gradients), head.gradient(split)
        norm = _global_norm(true, split)
        if clip_norm:
            shrink = jnp.minimum(1, clip_norm / jnp.maximum(norm, 1e-12))
            gradients = jax.tree.map(lambda g: g * shrink, gradients)
        if not sharded:
            gradients["head"] = jax.tree.map(
                lambda g: lax.all_gather(g, AXIS, tiled=True) if g.ndim else g, gradients["head"]
            )
        params, opt_state = head.update(gradients, index, state)
        memory = carried[1]
        if index is not None:  # no loss that can be sampled changes what it keeps by class
            memory = jax.tree.map(
                lambda old, new: old if old.ndim else new, state.objective_state, memory
            )
        state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=carried[0],
            opt_state=opt_state,
            objective_state=memory,
        )
        return state, {**lax.psum(sums, AXIS), "rows": rows, "gradient_norm": norm}

    return body


def _row_keys(key: jax.Array, rows: int) -> jax.Array:
    """A key for each of this device's rows, from their numbers in the batch of all devices."""
    numbers = lax.axis_index(AXIS) * rows + jnp.arange(rows)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(numbers)


def _own_slice(leaf: jax.Array) -> jax.Array:
    size = leaf.shape[0] // lax.axis_size(AXIS)
    return lax.dynamic_slice_in_dim(leaf, lax.axis_index(AXIS) * size, size)


def _global_norm(gradients: Any, split: Any) -> jax.Array:
    """The norm over all devices of gradients of which some are split and the others equal."""
    squares = jax.tree.map(lambda g: jnp.sum(jnp.square(g.astype(jnp.float32))), gradients)
    own = jax.tree.map(lambda s, is_split: s if is_split else jnp.zeros(()), squares, split)
    shared = jax.tree.map(lambda s, is_split: jnp.zeros(()) if is_split else s, squares, split)
    return jnp.sqrt(sum(jax.tree.leaves(shared)) + lax.psum(sum(jax.tree.leaves(own)), AXIS))


def placed_shapes(state: Any, devices: Sequence[jax.Device], *, sharded: bool = True) -> Any:
    """A state's shapes, and where each leaf lives: per-class arrays split over the devices.

    `sharded` False keeps the head's whole on each device.
    """
    return _shapes(state, _shardings(state, devices, sharded))


def _shardings(state: Any, devices: Sequence[jax.Device], sharded: bool) -> Any:
    mesh = _mesh(devices)
    return jax.tree.map(
        lambda split: NamedSharding(mesh, PartitionSpec(AXIS) if split else PartitionSpec()),
        split_leaves(state, sharded=sharded),
    )


def build_step(
    body: Body,
    state: Any,
    batch: Any,
    *,
    parallel: str,
    devices: Sequence[jax.Device],
    sharded: bool = True,
) -> Step:
    """Compiles the body for the devices, once; `run` can't recompile.

    Args:
      body: from `make_body`.
      state: a `TrainState` of arrays or shapes.
      batch: a host batch, of arrays or shapes; its rows are a multiple of the devices.
      parallel: `pmap`, or `shard_map`.
      devices: the devices, in order.
      sharded: as the body's.

    Raises:
      UserError: on another `parallel`.
    """
    if parallel not in ("pmap", "shard_map"):
        raise UserError(f"config.parallel is {parallel!r}; choose pmap or shard_map")
    chex.assert_is_divisible(jax.tree.leaves(batch)[0].shape[0], len(devices))
    placed = _shardings(state, devices, sharded)
    split = split_leaves(state, sharded=sharded)
    if parallel == "shard_map":
        return _over_mesh(body, state, batch, placed, devices)
    return _mapped(body, state, batch, split, placed, devices)


def _over_mesh(
    body: Body, state: Any, batch: Any, placed: Any, devices: Sequence[jax.Device]
) -> Step:
    rows = NamedSharding(_mesh(devices), PartitionSpec(AXIS))
    specs = jax.tree.map(lambda sharding: sharding.spec, placed)
    step = jax.jit(
        jax.shard_map(
            body,
            mesh=rows.mesh,
            in_specs=(specs, PartitionSpec(AXIS)),
            out_specs=(specs, PartitionSpec()),
            check_vma=False,  # with it, gradients of replicated parameters would be summed twice
        ),
        donate_argnums=0,
    )
    run: Any = compilation.compile_for(step, _shapes(state, placed), _shapes(batch, rows))
    if jax.process_count() > 1 and devices[0].platform == "cpu":
        # Several processes on CPUs hang where steps are sent off before the last one is done.
        run = functools.partial(_and_wait, run)

    return Step(
        enter=lambda state: jax.tree.map(_put, state, placed),
        run=run,
        leave=compilation.jit(_copy, out_shardings=placed),
        feed=lambda batch: jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(rows, leaf), batch
        ),
    )


def _and_wait(run: Any, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    return jax.block_until_ready(run(state, batch))


def _put(leaf: jax.Array | np.ndarray, where: NamedSharding) -> jax.Array:
    """`jax.device_put` of what is not there yet, each process having the whole of it."""
    if isinstance(leaf, jax.Array) and leaf.sharding == where:
        return leaf
    return jax.make_array_from_callback(leaf.shape, where, lambda index: np.asarray(leaf)[index])


def _mapped(
    body: Body, state: Any, batch: Any, split: Any, placed: Any, devices: Sequence[jax.Device]
) -> Step:
    count = len(devices)
    axes = jax.tree.map(lambda own: 0 if own else None, split)

    def fold(leaf: Any) -> Any:  # [C, ...] -> [devices, C / devices, ...]: data stays where it is
        return leaf.reshape(count, leaf.shape[0] // count, *leaf.shape[1:])

    def unfold(leaf: Any) -> Any:
        return leaf.reshape(-1, *leaf.shape[2:])

    def on_split(change: Callable[[Any], Any]) -> Callable[[TrainState], TrainState]:
        return lambda state: jax.tree.map(
            lambda leaf, own: change(leaf) if own else leaf, state, split
        )

    step = jax.pmap(
        body, AXIS, in_axes=(axes, 0), out_axes=(axes, None), devices=devices, donate_argnums=0
    )
    folded = jax.eval_shape(on_split(fold), _shapes(state))
    run = compilation.compile_for(
        step, _shapes(folded, placed), jax.eval_shape(lambda b: jax.tree.map(fold, b), batch)
    )
    enter = compilation.jit(on_split(fold), out_shardings=placed)
    return Step(
        enter=lambda state: enter(jax.device_put(state, placed)),
        run=run,
        leave=compilation.jit(lambda s: _copy(on_split(unfold)(s)), out_shardings=placed),
        feed=lambda batch: jax.tree.map(fold, batch),
    )


def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def _shapes(tree: Any, placed: Any = None) -> Any:
    """Shapes of a tree; `placed` is a tree of shardings, or one for all."""
    if placed is None or isinstance(placed, NamedSharding):
        placed = jax.tree.map(lambda _: placed, tree)
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        tree,
        placed,
    )
