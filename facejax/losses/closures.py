"""Functions and trees made fit for a `jax.custom_vjp` and its scans, whatever transforms them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


def hoisted(
    function: Callable[..., jax.Array], *examples: Any
) -> tuple[Callable[..., jax.Array], list[jax.Array]]:
    """A function with what it closes over as one more, last argument; and what that is.

    A custom rule's backward may run when the transformations around its forward are over, so it
    must not close over anything that is traced, whether or not that has a derivative
    (`jax.closure_convert` hoists only what may have one).

    Args:
      function: pytrees of arrays -> an array.
      *examples: its arguments, or others of their shapes and types.
    """
    closed = jax.make_jaxpr(function)(*examples)

    def call(*arguments: Any) -> jax.Array:
        *given, constants = arguments
        (values,) = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, constants))(*jax.tree.leaves(given))
        return values

    return call, [jnp.asarray(constant) for constant in closed.consts]


def partition(tree: Any) -> tuple[list[Any], list[Any], Callable[[Any, Any], Any]]:
    """(leaves that have a gradient, the others, (both) -> the tree)."""
    leaves, structure = jax.tree.flatten(tree)
    has = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    floats = [leaf for leaf, one in zip(leaves, has, strict=True) if one]
    others = [leaf for leaf, one in zip(leaves, has, strict=True) if not one]

    def join(floats: Any, others: Any) -> Any:
        mine, rest = iter(floats), iter(others)
        return jax.tree.unflatten(structure, [next(mine if one else rest) for one in has])

    return floats, others, join


# Where `jax.shard_map` checks it (check_vma=True), a type says over which mesh axes an array is
# another on each device. A scan's first carry must differ over as many as its last, and a gradient
# over as many as what it is the gradient of.


def axes_of(tree: Any) -> frozenset[str]:
    """The mesh axes over which any of the arrays differs; none where nothing checks it."""
    return frozenset().union(*(_axes(leaf) for leaf in jax.tree.leaves(tree)))


def differing(tree: Any, axes: frozenset[str]) -> Any:
    """Arrays whose type says that they differ over these axes too."""

    def cast(leaf: jax.Array) -> jax.Array:
        more = tuple(axes - _axes(leaf))
        return lax.pcast(leaf, more, to="varying") if more else leaf

    return jax.tree.map(cast, tree)


def gradient_of(gradient: jax.Array, given: jax.Array) -> jax.Array:
    """The gradient of what is the same on all devices is the sum of theirs."""
    same = tuple(_axes(gradient) - _axes(given))
    return differing(lax.psum(gradient, same) if same else gradient, _axes(given))


def _axes(leaf: Any) -> frozenset[str]:
    kind = jax.typeof(leaf)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return getattr(kind, "vma", frozenset())
