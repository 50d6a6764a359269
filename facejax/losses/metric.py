"""Losses on Euclidean distances: contrastive, triplet and centre.

All return per-example losses in float32 (float64 for float64 inputs); the caller takes the mean.
Those that take labels [B] leave out rows labelled -1 (padding: loss 0, no gradient) and give NaN
in rows with any other label that names no identity.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.batch_pairs import (
    all_pairs,
    checked_batch,
    only,
    settle,
    squared_distances,
    unit,
)
from facejax.losses.curves import one_of
from facejax.losses.meshes import rows_may_be_split
from facejax.losses.numerics import norms, working_dtype

DISTANCES = ("l2", "l1")
MININGS = ("semihard", "hard", "all")


def contrastive(
    a: jax.Array,
    b: jax.Array,
    same: jax.Array,
    *,
    margin: float | jax.Array = 1.0,
    distance: str = "l2",
) -> jax.Array:
    """Pulls pairs of one identity together, pushes others to a distance (DeepID2 verification).

    d^2 / 2 for the same identity, max(0, margin - d)^2 / 2 else, with d the un-squared distance of
    the raw embeddings. At d = 0 the distance has no gradient.

    Args:
      a: [N, D], raw.
      b: [N, D], raw.
      same: [N] of any type; > 0 means the same identity.
      margin: the distance beyond which different identities are let go, >= 0.
      distance: `l2` or `l1`.

    Returns:
      Losses [N].

    Raises:
      ValueError: on another `distance`.

    >>> import jax.numpy as jnp
    >>> a, b = jnp.array([[3.0, 4.0], [0.3, 0.4]]), jnp.zeros((2, 2))
    >>> print(contrastive(a, b, jnp.array([1, 0])))
    [12.5    0.125]

    References:
      Sun et al., Deep Learning Face Representation by Joint Identification-Verification, 2014,
      eq. 2: https://arxiv.org/abs/1406.4773
    """
    one_of("distance", distance, DISTANCES)
    (a, b), dtype = _pairs(a, b)
    difference = a.astype(dtype) - b.astype(dtype)
    if distance == "l2":
        length = norms(difference)[0]
    else:  # jnp.abs has slope 1 at 0
        length = jnp.sum(difference * jnp.sign(difference), axis=-1)
    gap = jax.nn.relu(_per_row(margin, a, dtype) - length)
    return 0.5 * jnp.square(jnp.where(_per_row(same, a, dtype) > 0, length, gap))


def contrastive_cosine(
    a: jax.Array,
    b: jax.Array,
    same: jax.Array,
    weight: float | jax.Array,
    bias: float | jax.Array,
) -> jax.Array:
    """A logistic regression on the cosine, fitted by least squares (DeepID2 verification).

    (t - sigmoid(weight cos(a, b) + bias))^2 / 2, with t = 1 for the same identity and 0 else.

    Args:
      a: [N, D], raw.
      b: [N, D], raw.
      same: [N] of any type; > 0 means the same identity.
      weight: scalar, trained.
      bias: scalar, trained.

    Returns:
      Losses [N].

    >>> import jax.numpy as jnp
    >>> a, b = jnp.array([[3.0, 4.0], [3.0, 4.0]]), jnp.array([[6.0, 8.0], [-4.0, 3.0]])
    >>> print(contrastive_cosine(a, b, jnp.array([1, 0]), weight=0.0, bias=0.0))
    [0.125 0.125]

    References:
      Sun et al., Deep Learning Face Representation by Joint Identification-Verification, 2014,
      eq. 3: https://arxiv.org/abs/1406.4773
    """
    (a, b), dtype = _pairs(a, b)
    cosine = jnp.sum(unit(a).astype(dtype) * unit(b).astype(dtype), axis=-1)
    score = jax.nn.sigmoid(_per_row(weight, a, dtype) * cosine + _per_row(bias, a, dtype))
    return 0.5 * jnp.square((_per_row(same, a, dtype) > 0).astype(dtype) - score)


def triplet(
    anchors: jax.Array,
    positives: jax.Array,
    negatives: jax.Array,
    *,
    margin: float | jax.Array = 0.2,
) -> jax.Array:
    """The anchor nearer to its positive than to its negative, by a margin (FaceNet).

    max(0, |a - p|^2 - |a - n|^2 + margin), with a, p, n the embeddings at unit length.

    Args:
      anchors: [N, D], raw.
      positives: [N, D], raw, of the anchors' identities.
      negatives: [N, D], raw, of other identities.
      margin: in squared distance, which is at most 4.

    Returns:
      Losses [N].

    >>> import jax.numpy as jnp
    >>> a, p, n = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 1.0]]), jnp.array([[-2.0, 0.0]])
    >>> print(triplet(a, p, n), triplet(a, p, n, margin=3.0))
    [0.] [1.]

    References:
      Schroff et al., FaceNet: A Unified Embedding for Face Recognition and Clustering, 2015,
      eq. 3: https://arxiv.org/abs/1503.03832
    """
    rows, dtype = _pairs(anchors, positives, negatives)
    a, p, n = (unit(one).astype(dtype) for one in rows)
    near, far = jnp.sum(jnp.square(a - p), axis=-1), jnp.sum(jnp.square(a - n), axis=-1)
    return jax.nn.relu(near - far + _per_row(margin, a, dtype))


@rows_may_be_split
def batch_triplet(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    margin: float | jax.Array = 0.2,
    mining: str = "semihard",
) -> tuple[jax.Array, jax.Array]:
    """The `triplet` losses of the triplets mined in a batch, per anchor.

    With d_ap and d_an the squared distances, at unit length, of an anchor to each of its positives
    and to each of its negatives, the mined triplets are those with
      semihard: d_ap < d_an < d_ap + margin;
      hard: d_an <= d_ap, every such triplet (not the hardest one);
      all: any.
    The choice has no gradient. FaceNet's loss is the sum of the sums; the mean over mined triplets
    is sums.sum() / counts.sum(), where that is not 0. Anchors are taken one at a time, so memory
    grows with B^2 and work with B^3.

    Args:
      embeddings: [B, D], raw.
      labels: [B] integers, any >= 0 is an identity; -1 for padding.
      margin: in squared distance.
      mining: `semihard`, `hard` or `all`.

    Returns:
      (sums [B], counts [B] int32): per anchor the sum over its mined triplets and their number,
      those of zero loss among them. Anchors without one have 0 and no gradient.

    Raises:
      ValueError: on another `mining`.

    >>> import jax.numpy as jnp
    >>> e = jnp.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    >>> sums, counts = batch_triplet(e, jnp.array([5, 5, 7]), margin=2.5, mining="all")
    >>> print(sums, counts)
    [0.5 2.5 0. ] [1 1 0]

    References:
      Schroff et al., FaceNet: A Unified Embedding for Face Recognition and Clustering, 2015,
      eq. 3 and 4: https://arxiv.org/abs/1503.03832
    """
    one_of("mining", mining, MININGS)
    embeddings, labels = checked_batch(embeddings, labels)
    pairs = all_pairs(labels)
    distances = squared_distances(unit(only(embeddings, pairs.known)))
    margin = jnp.asarray(margin, distances.dtype)

    @jax.checkpoint  # keeps no [B, B, B] for the backward
    def of_anchor(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        distance, positive, negative = inputs
        near, far = distance[:, None], distance[None, :]
        mined = positive[:, None] & negative[None, :]
        if mining == "semihard":
            mined &= (near < far) & (far < near + margin)
        elif mining == "hard":
            mined &= far <= near
        hinge = jax.nn.relu(near - far + margin)
        return jnp.sum(jnp.where(mined, hinge, 0)), jnp.sum(mined, dtype=jnp.int32)

    sums, counts = lax.map(of_anchor, (distances, pairs.positive, pairs.negative))
    return settle(sums, labels, pairs.known), counts


@rows_may_be_split
def center(embeddings: jax.Array, labels: jax.Array, centers: jax.Array) -> jax.Array:
    """Half the squared distance of an embedding to the centre of its identity (center loss).

    |x - c_y|^2 / 2. No gradient reaches the centres: `update_centers` moves them, after the step.
    The paper sums this over the batch and adds lambda (0.003) times it to the softmax loss.

    Args:
      embeddings: [B, D], raw.
      labels: [B] integers in [0, C); -1 for padding.
      centers: [C, D], the state.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, centers = jnp.array([[3.0, 4.0], [1.0, 1.0]]), jnp.zeros((2, 2))
    >>> print(center(e, jnp.array([0, 1]), centers))
    [12.5  1. ]

    References:
      Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, 2016,
      eq. 2 and 3: https://ydwen.github.io/papers/WenECCV16.pdf
    """
    embeddings, labels, centers = checked_batch(embeddings, labels, centers)
    dtype = working_dtype(embeddings, centers)
    known = (labels >= 0) & (labels < len(centers))
    own = lax.stop_gradient(centers)[jnp.where(known, labels, 0)].astype(dtype)
    difference = only(embeddings.astype(dtype) - own, known)
    return settle(0.5 * jnp.sum(jnp.square(difference), axis=1), labels, known)


@rows_may_be_split
def update_centers(
    embeddings: jax.Array,
    labels: jax.Array,
    centers: jax.Array,
    *,
    rate: float | jax.Array = 0.5,
) -> jax.Array:
    """The centres after a batch.

    c_j - rate sum_{i: y_i = j} (c_j - x_i) / (1 + n_j), n_j the number of rows of identity j. The
    1 + n_j means that a single row moves its centre by rate / 2 of the way. Identities that are not
    in the batch stay as they are, to the bit. Has no gradient.

    Args:
      embeddings: [B, D], raw; over several devices, those of the global batch.
      labels: [B] integers; rows labelled -1 or outside [0, C) move nothing.
      centers: [C, D].
      rate: the paper's alpha, in [0, 1].

    Returns:
      Centres [C, D], in the type of `centers`; they are for the next step's loss.

    >>> import jax.numpy as jnp
    >>> print(update_centers(jnp.array([[4.0, 8.0]]), jnp.array([1]), jnp.zeros((2, 2))))
    [[0. 0.]
     [1. 2.]]

    References:
      Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, 2016,
      eq. 4: https://ydwen.github.io/papers/WenECCV16.pdf
    """
    embeddings, labels, centers = checked_batch(embeddings, labels, centers)
    dtype = working_dtype(embeddings, centers)
    known = (labels >= 0) & (labels < len(centers))
    index = jnp.where(known, labels, len(centers))  # past the end: dropped
    counts = jnp.zeros(len(centers), dtype).at[index].add(1, mode="drop")
    fixed = lax.stop_gradient(centers).astype(dtype)
    own = jnp.where(known, labels, 0)
    way = lax.stop_gradient(embeddings).astype(dtype) - fixed[own]
    steps = lax.stop_gradient(jnp.asarray(rate, dtype)) * way / (1 + counts[own])[:, None]
    return fixed.at[index].add(steps, mode="drop").astype(centers.dtype)


def _pairs(*rows: jax.Array) -> tuple[tuple[jax.Array, ...], jnp.dtype]:
    """Rows [N, D] of equal shape, and the type to compute in."""
    rows = tuple(jnp.asarray(one) for one in rows)
    chex.assert_rank(rows, 2)
    chex.assert_type(rows, float)
    chex.assert_equal_shape(rows)
    return rows, working_dtype(*rows)


def _per_row(value: float | jax.Array, rows: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """One number per row, or for all, in the type; anything else would be broadcast to [N, N]."""
    value = jnp.asarray(value).astype(dtype)
    if value.shape not in ((), rows.shape[:1]):
        raise ValueError(f"shape {value.shape} given for {len(rows)} rows: give [N] or a scalar")
    return value
