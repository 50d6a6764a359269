"""Sampled classes (Partial FC): the batch's own classes and a random share of the others."""

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.layout import axis_size
from facejax.losses.meshes import rows_may_be_split


@rows_may_be_split
def sample_classes(
    key: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    *,
    rate: float,
    axis_name: str | None = None,
    num_classes: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The class weights that a step looks at, and the labels among them, for any loss.

    The class of every row of the (global) batch is kept, so targets are exact; the rest is drawn
    without replacement, anew with each key. S = round(rate C) rows are taken of every device's
    slice, in their order. The gradient reaches the weights through the rows.

    Args:
      key: a PRNG key, the same on every device.
      labels: [B] integers, global class numbers; -1 for padding.
      weights: [C, ...], this device's slice, one row per class.
      rate: the share taken, in (0, 1].
      axis_name: the device axis over which classes and batch are split, or None.
      num_classes: how many of the rows of all slices are classes. The rest is padding, which is
        taken only when everything is (S = C).

    Returns:
      (rows [S, ...], labels [B]). Labels are numbers among the rows of all devices: device x S +
      position. -1 stays, and a label that names no class is again one that names none.

    Raises:
      ValueError: if there is no such axis, if the rate is not in (0, 1], if S rows can't hold the
        batch's own classes, or if the last slice has fewer classes than S.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> weights = jnp.arange(10.0)[:, None]
    >>> rows, labels = sample_classes(jax.random.key(0), jnp.array([7, 2, -1]), weights, rate=0.4)
    >>> rows.shape, float(rows[labels[0], 0]), int(labels[2])
    ((4, 1), 7.0, -1)

    References:
      An et al., Partial FC: Training 10 Million Identities on a Single Machine, 2021:
      https://arxiv.org/abs/2010.05222
    """
    weights = jnp.asarray(weights)
    index, labels = sample_indices(
        key, labels, len(weights), rate=rate, axis_name=axis_name, num_classes=num_classes
    )
    return weights[index], labels


@rows_may_be_split
def sample_indices(
    key: jax.Array,
    labels: jax.Array,
    count: int,
    *,
    rate: float,
    axis_name: str | None = None,
    num_classes: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """As `sample_classes`, but which of this device's `count` rows are taken: [S], ascending.

    With it whatever else has one row per class can be sampled alike, such as a bias.

    Args:
      key: a PRNG key, the same on every device.
      labels: [B] integers, global class numbers; -1 for padding.
      count: rows of this device's slice of the classes.
      rate: the share taken, in (0, 1].
      axis_name: the device axis over which classes and batch are split, or None.
      num_classes: how many of the rows of all slices are classes; the rest is padding.

    Returns:
      (indices [S] into this device's slice, labels [B] among the rows that they take).

    Raises:
      ValueError: as `sample_classes`.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> bias = jnp.linspace(-1, 1, 10)
    >>> index, labels = sample_indices(jax.random.key(0), jnp.array([7, 2]), 10, rate=0.4)
    >>> bias[index].shape, bool(bias[index][labels[0]] == bias[7])
    ((4,), True)

    References:
      An et al., Partial FC: Training 10 Million Identities on a Single Machine, 2021:
      https://arxiv.org/abs/2010.05222
    """
    labels = jnp.asarray(labels)
    own_rows = len(labels)
    device, slices = jnp.zeros((), labels.dtype), 1
    if axis_name is not None:
        slices = axis_size(axis_name)
        device = lax.axis_index(axis_name).astype(labels.dtype)
        labels = lax.all_gather(labels, axis_name, tiled=True)
        key = jax.random.fold_in(key, device)
    if num_classes is None:
        num_classes = count * slices
    taken = sample_size(rate, count, len(labels), slices, num_classes)

    place = labels - device * count
    here = (place >= 0) & (place < count) & (labels < num_classes)
    column = device * count + jnp.arange(count, dtype=labels.dtype)
    order = jnp.where(column < num_classes, jax.random.uniform(key, (count,)), -1)
    order = order.at[jnp.where(here, place, count)].set(2, mode="drop")  # the batch's own: first
    index = jnp.sort(lax.top_k(order, taken)[1])

    position = jnp.searchsorted(index, place.astype(index.dtype)).astype(labels.dtype)
    found = jnp.where(here, position + device * taken + 1, 0)  # 0: on another device
    if axis_name is not None:
        found = lax.psum(found, axis_name)
    unknown = jnp.where(labels < 0, labels, slices * taken)
    labels = jnp.where(found > 0, found - 1, unknown)
    if axis_name is not None:
        labels = lax.dynamic_slice_in_dim(labels, device * own_rows, own_rows)
    return index, labels


def sample_size(rate: float, count: int, rows: int, slices: int, num_classes: int) -> int:
    """How many of a device's `count` class weights are taken.

    Raises:
      ValueError: as `sample_classes`.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be above 0 and at most 1, got {rate}")
    taken = round(rate * count)
    if taken < min(rows, count):
        raise ValueError(
            f"{taken} of {count} classes can't hold the classes of {rows} rows: raise the "
            f"rate of {rate} to {min(rows, count) / count:.3g}, or lower the batch"
        )
    fewest = max(num_classes - (slices - 1) * count, 0)  # classes in the last slice
    if fewest < taken < count:
        raise ValueError(
            f"the last of {slices} slices has {fewest} classes and can't give {taken}: lower the "
            f"rate of {rate} to {fewest / count:.3g}, or use fewer devices"
        )
    return taken
