"""How class weights come into a step and are updated: all of them, a sample, or block by block.

Each way is a pair: what of the head the loss sees (`view`), and what its gradient does (`update`).
All keep the same state, so that a run may go on in another way.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import tree_utils

from facejax.losses import Classes, FusedSGD
from facejax.losses.sampling import sample_indices
from facejax.training.row_sgd import RowState, RowUpdates, apply_rows, row_sgd
from facejax.training.state import TrainState


class HeadUpdate(NamedTuple):
    """A way to train the head.

    Attributes:
      view: (key, state, labels) -> (head, labels, classes, index): what the objective gets for
        `params["head"]`, the labels in it, how the classes are laid out in it, and which of this
        device's rows are in it, int [S]; None for all.
      update: (gradients, index, state) -> (params, opt_state). The gradients are those of
        {"backbone", "head"}, with the head as viewed.
      gradient: the gradients -> those that are true gradients, whose norm may be taken.
    """

    view: Callable[[jax.Array, TrainState, jax.Array], tuple[Any, jax.Array, Classes, Any]]
    update: Callable[[Any, Any, TrainState], tuple[Any, optax.OptState]]
    gradient: Callable[[Any], Any] = lambda gradients: gradients


def whole(tx: optax.GradientTransformation, *, classes: Classes) -> HeadUpdate:
    """All class weights, updated by the optimizer as every other parameter.

    Args:
      tx: the optimizer of everything.
      classes: the layout, split over the step's device axis.
    """

    def view(
        key: jax.Array, state: TrainState, labels: jax.Array
    ) -> tuple[Any, jax.Array, Classes, Any]:
        return state.params["head"], labels, classes, None

    def update(gradients: Any, index: Any, state: TrainState) -> tuple[Any, optax.OptState]:
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        return optax.apply_updates(state.params, updates), opt_state

    return HeadUpdate(view, update)


class SGD(NamedTuple):
    """The numbers of SGD, as the optimizer has them."""

    learning_rate: optax.Schedule
    momentum: float
    weight_decay: float


def sampled(
    tx: optax.GradientTransformation,
    sgd: SGD,
    *,
    rate: float,
    classes: Classes,
    lazy_decay: bool = False,
) -> HeadUpdate:
    """Partial FC: a sample of the class weights with the batch's own, updated alone.

    Each slice of the classes draws its own sample, so another number of devices draws another one:
    the runs then share the order of the data only.

    Args:
      tx: `optimizer.optimizer` of SGD, for all that is not per class.
      sgd: its numbers.
      rate: the share of the classes that is sampled.
      classes: the layout, split over the step's device axis.
      lazy_decay: as `row_sgd`'s; `tx` is then to be `remembering(tx)`.
    """
    rows = row_sgd(
        sgd.learning_rate,
        momentum=sgd.momentum,
        weight_decay=sgd.weight_decay,
        lazy_decay=lazy_decay,
    )

    def view(
        key: jax.Array, state: TrainState, labels: jax.Array
    ) -> tuple[Any, jax.Array, Classes, Any]:
        split, rest = _split(state.params["head"])
        count = len(jax.tree.leaves(split)[0])
        index, labels = sample_indices(
            key,
            labels,
            count,
            rate=rate,
            axis_name=classes.axis_name,
            num_classes=classes.num_classes,
        )
        head = {name: leaf[index] for name, leaf in split.items()} | rest
        # Padding is in a sample of everything only.
        padded = classes.num_classes if len(index) == count else None
        return head, labels, dataclasses.replace(classes, num_classes=padded), index

    def update(gradients: Any, index: Any, state: TrainState) -> tuple[Any, optax.OptState]:
        split, values = _split(state.params["head"])[0], _split(gradients["head"])[0]
        trace = tree_utils.tree_get(state.opt_state, "trace")["head"]
        trace = {name: trace[name] for name in split}
        last = tree_utils.tree_get(state.opt_state, _LAST)["head"] if lazy_decay else None
        updates, row_state = rows.update(
            RowUpdates(index, values), RowState(state.step, trace, last), split
        )
        params, opt_state = _others(
            tx, gradients, state, apply_rows(split, updates), row_state.trace
        )
        if lazy_decay:
            opt_state = tree_utils.tree_set(opt_state, **{_LAST: {"head": row_state.last}})
        return params, opt_state

    return HeadUpdate(view, update)


def fused(tx: optax.GradientTransformation, sgd: SGD, *, classes: Classes) -> HeadUpdate:
    """All class weights, updated in the backward: a gradient of all of them never exists.

    Args:
      tx: `optimizer.optimizer` of SGD, for everything else.
      sgd: its numbers.
      classes: the layout, split over the step's device axis, and streamed where memory counts.
    """

    def view(
        key: jax.Array, state: TrainState, labels: jax.Array
    ) -> tuple[Any, jax.Array, Classes, Any]:
        head = state.params["head"]
        trace = tree_utils.tree_get(state.opt_state, "trace")["head"]["weights"]
        numbers = sgd.learning_rate(state.step), sgd.momentum, sgd.weight_decay
        weights = FusedSGD(head["weights"], trace, *map(jnp.float32, numbers))
        return {**head, "weights": weights}, labels, classes, None

    def update(gradients: Any, index: Any, state: TrainState) -> tuple[Any, optax.OptState]:
        done = gradients["head"]["weights"]
        return _others(tx, gradients, state, {"weights": done.weights}, {"weights": done.trace})

    return HeadUpdate(view, update, lambda gradients: _without(gradients, ("weights",)))


def remembering(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer, with what lazy decay must know: when each class was last updated."""

    def init(params: Any) -> _Memory:
        classes, _ = _split(params["head"])
        return _Memory({"head": jnp.zeros(len(jax.tree.leaves(classes)[0]), jnp.int32)})

    memory = optax.GradientTransformation(
        init, lambda updates, state, params=None: (updates, state)
    )
    return optax.chain(tx, memory)


class _Memory(NamedTuple):
    last_sampled: Any  # {"head": [C] int32}: how many updates had been made


_LAST = "last_sampled"


def _split(head: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Leaves with one row per class, and the others."""
    classes = {name: leaf for name, leaf in head.items() if leaf.ndim}
    return classes, {name: leaf for name, leaf in head.items() if not leaf.ndim}


def _without(tree: Any, names: Any) -> Any:
    head = {name: leaf for name, leaf in tree["head"].items() if name not in names}
    return {**tree, "head": head}


def _others(
    tx: optax.GradientTransformation, gradients: Any, state: TrainState, leaves: Any, trace: Any
) -> tuple[Any, optax.OptState]:
    """(params, opt_state), given leaves of the head and their momentum; `tx` does the rest."""

    def join(tree: Any, done: Any) -> Any:
        return {**tree, "head": {**tree["head"], **done}}

    whole_trace = tree_utils.tree_get(state.opt_state, "trace")
    opt_state = tree_utils.tree_set(state.opt_state, trace=_without(whole_trace, leaves))
    params = _without(state.params, leaves)
    updates, opt_state = tx.update(_without(gradients, leaves), opt_state, params)
    params = join(optax.apply_updates(params, updates), leaves)
    rest = tree_utils.tree_get(opt_state, "trace")
    return params, tree_utils.tree_set(opt_state, trace=join(rest, trace))
