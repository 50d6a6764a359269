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
      batch_stats: the network's running statistics; {} where it keeps none.
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
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        objective_state=objective_state,
    )


def per_class(state: TrainState) -> Any:
    """True for the leaves with one row per class: the head's and what the optimizer keeps of them.

    Args:
      state: of arrays or of shapes.
    """
    return TrainState(
        step=False,  # type: ignore[arg-type]
        params=per_class_params(state.params),
        batch_stats=jax.tree.map(lambda _: False, state.batch_stats),
        opt_state=jax.tree.map(
            lambda part: _is_like_params(part) and per_class_params(part),
            state.opt_state,
            is_leaf=_is_like_params,
        ),
        objective_state=jax.tree.map(_has_rows, state.objective_state),
    )


def per_class_params(params: dict[str, Any]) -> dict[str, Any]:
    """True for the leaves with one row per class, in a tree of the params' form or of a part of it.

    They are all under the top-level `head`; what a backbone calls its own layers does not matter.
    """
    return {
        name: jax.tree.map(_has_rows if name == "head" else lambda _: False, part)
        for name, part in params.items()
    }


def _has_rows(leaf: Any) -> bool:
    return bool(leaf.ndim)


def _is_like_params(part: Any) -> bool:
    """Whether a part of the optimizer's state has the params' form, or that of the head alone."""
    return isinstance(part, dict) and not part.keys().isdisjoint(("backbone", "head"))


def split_leaves(state: TrainState, *, sharded: bool) -> Any:
    """True for the leaves that are split over the devices: those with one row per class.

    Args:
      state: of arrays or of shapes.
      sharded: False leaves the head's, and what the optimizer keeps of them, whole on each device.
    """
    rows = per_class(state)
    if sharded:
        return rows
    return jax.tree.map(lambda _: False, rows).replace(objective_state=rows.objective_state)
