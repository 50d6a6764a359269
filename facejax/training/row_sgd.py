"""Row-sparse SGD: gradient, momentum and decay touch only the class weights that were sampled.

An optax transformation over (rows, values): a step costs what the sampled rows cost, whatever the
number of classes, and whatever belongs to the other rows stays the same to the bit.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

_SORTED = {"indices_are_sorted": True, "unique_indices": True}


class RowUpdates(NamedTuple):
    """Gradients, or what is to be added, of some rows of a tree of arrays.

    Attributes:
      rows: [S] integers, ascending, each once.
      values: a tree as the params', of [S, ...].
    """

    rows: jax.Array
    values: Any


class RowState(NamedTuple):
    """The state of `row_sgd`.

    Attributes:
      step: how many updates were made.
      trace: the momentum, a tree as the params'.
      last: [C] int32, how many updates had been made when a row was last touched; None without
        lazy decay.
    """

    step: jax.Array
    trace: Any
    last: jax.Array | None


def row_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    lazy_decay: bool = False,
) -> optax.GradientTransformation:
    """SGD with momentum and decay in the gradient, over `RowUpdates`.

    With every row sampled it is `optax.sgd` after `optax.add_decayed_weights` on arrays of rank 2
    and more. Momentum does not move while a row is not sampled.

    Args:
      learning_rate: a number, or a schedule of the count of updates.
      momentum: of the trace.
      weight_decay: on arrays of rank 2 and more.
      lazy_decay: False skips the decay of the updates in which a row was not sampled (as Partial
        FC does). True makes up for it when the row is next sampled, by the factor
        (1 - learning_rate weight_decay / (1 - momentum))^(updates missed) with the learning rate
        of that moment: what SGD with momentum tends to, not bit for bit what it does.
    """

    def init(params: Any) -> RowState:
        trace = jax.tree.map(jnp.zeros_like, params)
        count = len(jax.tree.leaves(params)[0])
        last = jnp.zeros(count, jnp.int32) if lazy_decay else None
        return RowState(jnp.zeros((), jnp.int32), trace, last)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, RowState]:
        index = updates.rows
        rate = learning_rate(state.step) if callable(learning_rate) else learning_rate
        shrink = None
        if state.last is not None:
            missed = (state.step - state.last[index]).astype(jnp.float32)
            shrink = (1 - rate * weight_decay / (1 - momentum)) ** missed

        def move(
            gradient: jax.Array, trace: jax.Array, param: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            row = param[index]
            decayed = row
            if row.ndim > 1:
                if shrink is not None:
                    factor = jnp.expand_dims(shrink, range(1, row.ndim))
                    decayed = row * factor.astype(row.dtype)
                gradient = gradient + weight_decay * decayed
            moved = gradient + momentum * trace[index]
            return moved, (decayed - rate * moved - row).astype(row.dtype)

        both = jax.tree.map(move, updates.values, state.trace, params)
        moved, deltas = jax.tree.transpose(
            jax.tree.structure(updates.values), jax.tree.structure((0, 0)), both
        )
        state = RowState(
            state.step + 1,
            jax.tree.map(
                lambda trace, rows: trace.at[index].set(rows.astype(trace.dtype), **_SORTED),
                state.trace,
                moved,
            ),
            None if state.last is None else state.last.at[index].set(state.step + 1),
        )
        return RowUpdates(index, deltas), state

    return optax.GradientTransformation(init, update)


def apply_rows(params: Any, updates: RowUpdates) -> Any:
    """The params with the values added to their rows."""
    return jax.tree.map(
        lambda param, values: param.at[updates.rows].add(values, **_SORTED), params, updates.values
    )
