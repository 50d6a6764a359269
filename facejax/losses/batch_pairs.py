"""What the losses on the pairs of a batch share: who is who, similarities, masked sums."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.numerics import VOID, dot_rows, leveled, norms, working_dtype


class Pairs(NamedTuple):
    """Who is who in a batch."""

    known: jax.Array  # [B], the rows that take part: neither padding nor an unknown label
    positive: jax.Array  # [B, B], two different rows of one identity
    negative: jax.Array  # [B, B], rows of two identities


def all_pairs(labels: jax.Array) -> Pairs:
    """The pairs of a batch in which any label >= 0 is an identity."""
    known = labels >= 0
    both = known[:, None] & known[None, :]
    same = labels[:, None] == labels[None, :]
    return Pairs(known, both & same & ~jnp.eye(len(labels), dtype=bool), both & ~same)


def checked_batch(*batch: jax.Array) -> tuple[jax.Array, ...]:
    """Embeddings [B, D], labels [B] and rows of classes [C, D] as JAX's arrays; refuses others."""
    embeddings, labels, *classes = batch = tuple(jnp.asarray(one) for one in batch)
    chex.assert_rank([embeddings, labels, *classes], [2, 1, *(2 for _ in classes)])
    chex.assert_type([embeddings, labels, *classes], [float, int, *(float for _ in classes)])
    chex.assert_equal_shape_prefix([embeddings, labels], 1)
    chex.assert_equal_shape_suffix([embeddings, *classes], 1)
    return batch


def only(rows: jax.Array, known: jax.Array) -> jax.Array:
    """Rows [B, D] with zeros where not known: nothing in there reaches a sum or a gradient."""
    return jnp.where(known[:, None], rows, jnp.zeros((), rows.dtype))


def settle(losses: jax.Array, labels: jax.Array, known: jax.Array) -> jax.Array:
    """Losses [B] with 0 in the padding rows and NaN in those of unknown labels."""
    return jnp.where(known, losses, jnp.where(labels == -1, 0, jnp.nan))


def unit(vectors: jax.Array) -> jax.Array:
    """Vectors [..., D] at unit length, in `working_dtype`; zero stays zero."""
    return vectors.astype(working_dtype(vectors)) * norms(vectors)[1][..., None]


def cosines(left: jax.Array, right: jax.Array) -> jax.Array:
    """Cosines [B, C] of the rows of two raw matrices; those with a zero row are 0."""
    (left, inverse_left), (right, inverse_right) = leveled(left), leveled(right)
    scaled = dot_rows(left, right) * inverse_left.astype(working_dtype(left, right))[:, None]
    return scaled * inverse_right.astype(scaled.dtype)[None, :]


def squared_distances(rows: jax.Array) -> jax.Array:
    """|x_i - x_j|^2, [B, B], for rows [B, D].

    Summed from the differences: |x|^2 + |y|^2 - 2 x.y would leave 1e-7 between identical rows and
    break their ties. One row at a time, so that no [B, B, D] is kept, not even for the backward.
    """

    @jax.checkpoint
    def to_all(row: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(row[None, :] - rows), axis=1)

    return lax.map(to_all, rows)


def log_sum_exp(values: jax.Array, mask: jax.Array, axis: int = 1) -> jax.Array:
    """log sum exp of the masked values of a matrix; about -1e30 where there is none."""
    return jax.nn.logsumexp(jnp.where(mask, values, VOID), axis=axis)


def mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the masked values of each row; 0 where there is none."""
    count = jnp.maximum(jnp.sum(mask, axis=1), 1)
    return jnp.sum(jnp.where(mask, values, 0), axis=1) / count.astype(values.dtype)
