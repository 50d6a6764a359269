"""The training state: arrays only, the same on disk whatever the number of devices."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from facejax.models import Network
from facejax.objectives import Objective


@flax.struct.dataclass
class TrainState:
    """All that a run carries from one step to the next.

    Attributes:
      step: int32 scalar, how many updates were made.
      params: `backbone` (the network's) and `head` (the objective's).
      batch_stats: the network's running statistics.
      opt_state: the optimizer's.
      objective_state: the objective's.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    objective_state: Any


def create(
    key: jax.Array,
    *,
    network: Network,
    objective: Objective,
    tx: optax.GradientTransformation,
    num_classes: int,
    image_size: int,
    embedding_size: int,
    slices: int = 1,
) -> TrainState:
    """The state before the first step; to be compiled by the caller.

    Per-class arrays are padded with rows of zeros to a multiple of `slices`, the number of devices
    they are split over. The padding takes no part in any loss.
    """

    network_key, objective_key = jax.random.split(key)
    variables = network.init(network_key, jnp.zeros((1, image_size, image_size, 3)))
    head, objective_state = objective.init(objective_key, num_classes, embedding_size)
    pad = -num_classes % slices
    head, objective_state = jax.tree.map(
        lambda leaf: jnp.pad(leaf, [(0, pad)] + [(0, 0)] * (leaf.ndim - 1)) if leaf.ndim else leaf,
        (head, objective_state),
    )
    params = {"backbone": variables["params"], "head": head}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=tx.init(params),
        objective_state=objective_state,
    )


def per_class(state: Any) -> Any:
    """True for the leaves with a row a class: the head's and what the optimizer keeps of them.

    Args:
      state: a `TrainState`, of arrays or of shapes.
    """

    def one(path: Any, leaf: Any) -> bool:
        names = [getattr(entry, "key", getattr(entry, "name", None)) for entry in path]
        return bool(leaf.ndim) and ("head" in names or "objective_state" in names)

    return jax.tree_util.tree_map_with_path(one, state)


def split_leaves(state: Any, *, sharded: bool) -> Any:
    """True for the leaves that are split over the devices: those with a row a class.

    Args:
      state: a `TrainState`, of arrays or of shapes.
      sharded: False leaves the head's, and what the optimizer keeps of them, whole on each device.
    """
    rows = per_class(state)
    if sharded:
        return rows
    return jax.tree.map(lambda _: False, rows).replace(objective_state=rows.objective_state)
