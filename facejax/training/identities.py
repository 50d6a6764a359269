"""Identities that come, merge or go between two runs, in every array with one row per class.

Class weights, biases and centres change together with what the optimizer keeps of them. `state` is
that of the run before, `num_classes` its identities without padding. Rows that pad the classes to a
multiple of the devices are cut first, and results have exactly the new number of classes:
`checkpoints.restore` pads them again, for the next run's devices. Scalars stay, those made for a
number of classes too (AdaCos's scale, the biases of SphereFace2 and UniFace). Arrays of JAX stay
where they are, but those split over devices come out replicated on them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from facejax.losses.numerics import norms, working_dtype
from facejax.training.state import TrainState, per_class

Array = jax.Array | np.ndarray


def mean_embeddings(embeddings: Array, labels: Array, *, count: int) -> jax.Array:
    """The mean of the unit-length embeddings of each new identity.

    Args:
      embeddings: [N, D], of any length.
      labels: [N] integers in [0, count): new identities, counted from 0.
      count: how many there are.

    Returns:
      float32 [count, D]; shorter than 1 where an identity's images differ.

    Raises:
      ValueError: if the shapes do not fit, a label is out of range or an identity has no image.
    """
    if np.ndim(embeddings) != 2 or np.shape(labels) != np.shape(embeddings)[:1]:
        raise ValueError(
            f"embeddings {np.shape(embeddings)} and labels {np.shape(labels)} do not fit: give "
            "[N, D] embeddings and one label for each"
        )
    owner = _identities(labels, count, once=False)
    images = np.bincount(owner, minlength=count)
    if not images.all():
        missing = np.argmin(images)
        raise ValueError(f"new identity {missing} has no image: give one of it, or leave it out")
    return _means(_unit(jnp.asarray(embeddings))[0], owner, images)


def grow(state: TrainState, means: Array, *, num_classes: int) -> TrainState:
    """Adds identities behind those that are there, whose rows stay the same to the bit.

    A new identity's class weight (proxy, centre) points along its mean embedding and has the mean
    norm of those that are there. Of K sub-centres the first does; the others are turned from it by
    0.01 rad, always in the same way, as equal ones would tie and share every gradient for ever. Its
    bias is the mean of the biases. Its momentum is 0; Adam's second moment is the mean over the
    identities, as the correction of a start at 0 is over. It owes no decay: as if it had been
    sampled when the newest row was.

    Args:
      means: [N, D], from `mean_embeddings`, by this state's network.

    Raises:
      ValueError: if a mean has no direction or another dimension, or `num_classes` is wrong.
    """
    means = jnp.asarray(np.asarray(means))  # not committed: it goes to where the state is
    directions, lengths = _unit(means)
    if means.ndim != 2 or not np.all((lengths > 0) & (lengths < np.inf)):
        raise ValueError(
            f"the mean embeddings {means.shape} are not [N, D] with a length above 0 each: give "
            "what mean_embeddings returns, and other images of an identity whose mean is 0 or NaN"
        )

    def grown(name: str, leaf: jax.Array) -> jax.Array:
        shape = (len(means), *leaf.shape[1:])
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            rows = jnp.broadcast_to(jnp.max(leaf), shape)
        elif name.startswith("opt_state") and "/nu/" not in name:
            rows = jnp.zeros(shape)
        elif name.startswith("opt_state") or leaf.ndim == 1:
            rows = jnp.broadcast_to(jnp.mean(leaf, axis=0, keepdims=True), shape)
        elif leaf.shape[-1] != means.shape[1]:
            raise ValueError(
                f"the mean embeddings have {means.shape[1]} dimensions and {name} has "
                f"{leaf.shape[-1]}: embed the images with this state's network"
            )
        else:
            rows = directions
            if leaf.ndim == 3:
                noise = jax.random.normal(jax.random.key(0), shape, rows.dtype).at[:, 0].set(0)
                rows = _unit(rows[:, None] + 0.01 * _unit(noise)[0])[0]
            rows *= _mean_norm(leaf).astype(rows.dtype)
        return jnp.concatenate([leaf, rows.astype(leaf.dtype)])

    return _change(state, num_classes, grown)


def merge(
    state: TrainState, groups: Sequence[Sequence[int]], *, num_classes: int
) -> tuple[TrainState, np.ndarray]:
    """Makes one identity of each group, in the place of its lowest number; the others close up.

    Its class weight (proxy) points along the mean of the group's directions and has their mean
    norm. Momentum, bias, centre and all else are plain means (rounded down, of lazy decay's
    counts): the weights do not tell how many images each had. Sub-centres have no order: each
    identity's are matched with those of its group's lowest number for the largest sum of cosines,
    and their momentum goes with them.

    Args:
      groups: two or more identities each.

    Returns:
      (state, new_labels): `new_labels[labels]`, int32 [num_classes], relabels the data. Rows of
      identities in no group are the same to the bit.

    Raises:
      ValueError: if an identity is out of range or given twice, a group has fewer than two, its
        weights cancel out, or `num_classes` is wrong.
    """
    ordered = [np.sort(_identities(group, num_classes)) for group in groups]
    sizes = np.array([len(group) for group in ordered], int)
    if np.any(sizes < 2):
        raise ValueError(f"the groups have {sizes} identities: give two or more in each")
    members = _identities(np.concatenate([*ordered, np.zeros(0, int)]), num_classes)
    owner, start = np.repeat(np.arange(len(sizes)), sizes), np.cumsum(sizes) - sizes
    kept = np.ones(num_classes, bool)
    kept[members], kept[members[start]] = False, True
    new_labels = np.cumsum(kept, dtype=np.int32) - 1
    places = new_labels[members[start]]
    new_labels[members] = places[owner]
    weights = state.params["head"].get("weights")
    if np.ndim(weights) == 3 and len(members):
        centers = np.asarray(_unit(jnp.asarray(weights)[members])[0])
        cosines = centers[start[owner]] @ centers.swapaxes(1, 2)
        order = np.stack([linear_sum_assignment(pairs, maximize=True)[1] for pairs in cosines])

    def merged(name: str, leaf: jax.Array) -> jax.Array:
        rows = leaf[members].astype(working_dtype(leaf))
        if rows.ndim == 3 and len(members):
            rows = jnp.take_along_axis(rows, order[:, :, None], axis=1)
        if name.startswith("params") and rows.ndim > 1:
            directions, lengths = _unit(rows)
            directions, agreement = _unit(_means(directions, owner, sizes))
            if np.any(agreement < 1e-6):
                raise ValueError(f"{name} of a group cancel out: don't merge opposite identities")
            rows = directions * _means(lengths, owner, sizes)
        else:
            rows = _means(rows, owner, sizes)
        return leaf[np.flatnonzero(kept)].at[places].set(rows.astype(leaf.dtype))

    return _change(state, num_classes, merged), new_labels


def drop(
    state: TrainState, identities: Sequence[int] | np.ndarray, *, num_classes: int
) -> tuple[TrainState, np.ndarray]:
    """Takes identities away; the numbers behind them close up.

    Args:
      identities: their numbers.

    Returns:
      (state, new_labels): `new_labels[labels]`, int32 [num_classes], relabels the data, with -1 for
      what was dropped. The rows of the others are the same to the bit.

    Raises:
      ValueError: if an identity is out of range or given twice, none would be left, or
        `num_classes` is wrong.
    """
    kept = np.ones(num_classes, bool)
    kept[_identities(identities, num_classes)] = False
    if not kept.any():
        raise ValueError(f"all {num_classes} identities would be dropped: keep at least one")
    new_labels = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    return _change(state, num_classes, lambda _, leaf: leaf[np.flatnonzero(kept)]), new_labels


def _change(
    state: TrainState, num_classes: int, change: Callable[[str, jax.Array], jax.Array]
) -> TrainState:
    """The state with every per-class leaf, cut to the classes, changed by (path, leaf) -> leaf."""

    def one(path: Any, leaf: Any, own: bool) -> Any:
        if not own:
            return leaf
        name, leaf = jax.tree_util.keystr(path, simple=True, separator="/"), jnp.asarray(leaf)
        # Were identities taken for padding, they would be lost without a word.
        padding = leaf[num_classes:] if name.startswith("params") else False
        if not 0 < num_classes <= len(leaf) or np.any(padding):
            raise ValueError(
                f"num_classes {num_classes} does not fit the {len(leaf)} rows of {name}, of which "
                "only the padding is zero: give the number in the checkpoint's facts"
            )
        return change(name, leaf[:num_classes])

    return jax.tree_util.tree_map_with_path(one, state, per_class(state))


def _identities(numbers: Any, num_classes: int, *, once: bool = True) -> np.ndarray:
    """Numbers of identities as an array, in range and each given once."""
    found = np.asarray(numbers)
    if found.ndim != 1 or (found.size and not np.issubdtype(found.dtype, np.integer)):
        raise ValueError(
            f"{found.dtype} {found.shape} is no list of identities: give whole numbers [n]"
        )
    outside = found[(found < 0) | (found >= num_classes)]
    if outside.size:
        raise ValueError(f"there is no identity {outside[0]}: give numbers below {num_classes}")
    if once and len(set(found.tolist())) < len(found):
        twice = np.argmax(np.bincount(found))
        raise ValueError(f"identity {twice} is given twice: name each once")
    return found.astype(int)


def _unit(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Vectors at length 1 (a zero vector stays), and their lengths [..., 1]."""
    lengths, inverse = norms(vectors)
    return vectors.astype(lengths.dtype) * inverse[..., None], lengths[..., None]


@jax.jit  # without a second [C, D] array
def _mean_norm(vectors: jax.Array) -> jax.Array:
    return jnp.mean(norms(vectors)[0])


def _means(rows: jax.Array, owner: np.ndarray, sizes: np.ndarray) -> jax.Array:
    """Means of the rows of each owner, who has so many of them."""
    sums = jax.ops.segment_sum(rows, owner, num_segments=len(sizes))
    return sums / sizes.reshape(-1, *[1] * (rows.ndim - 1)).astype(rows.dtype)
