"""A loss with its classes and its batch over several devices, by either wrapper."""

import jax
import jax.numpy as jnp
import numpy as np

from facejax import losses

AXIS = "devices"
WAYS = ("pmap", "shard_map")


def spread(function, devices: int, how: str, *, split: tuple, split_out):
    """function run on every device; `split` tells, argument by argument, whether axis 0 is cut.

    `split_out` tells the same of the results, as a prefix tree; one that isn't must be equal on
    all devices and comes back with a leading axis [devices], so that the test can look.
    """

    def body(*arguments):
        return jax.tree.map(
            lambda cut, part: jax.tree.map(lambda a: a if cut else a[None], part),
            split_out,
            function(*arguments),
        )

    chosen = jax.devices()[:devices]
    if how == "shard_map":
        spec = jax.sharding.PartitionSpec
        return jax.jit(
            jax.shard_map(
                body,
                mesh=jax.sharding.Mesh(np.array(chosen), (AXIS,)),
                in_specs=tuple(spec(AXIS) if cut else spec() for cut in split),
                out_specs=spec(AXIS),
                check_vma=False,
            )
        )
    mapped = jax.pmap(
        body, AXIS, in_axes=tuple(0 if cut else None for cut in split), devices=chosen
    )

    def fold(a):
        a = jnp.asarray(a)
        return a.reshape(devices, len(a) // devices, *a.shape[1:])

    def run(*arguments):
        folded = [
            jax.tree.map(fold, a) if cut else a for a, cut in zip(arguments, split, strict=True)
        ]
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), mapped(*folded))

    return run


def padded(weights, devices: int):
    """Rows of ones behind the last class, so that the classes divide evenly."""
    rows = -len(weights) % devices
    return np.concatenate([weights, np.ones((rows, *weights.shape[1:]), weights.dtype)])


def layout(num_classes: int | None = None) -> losses.Classes:
    return losses.Classes(axis_name=AXIS, num_classes=num_classes)
