"""Losses on the similarities of a batch: of all its pairs, or of its rows with proxies.

All return per-anchor losses [B] in float32 (float64 for float64 inputs); the caller takes the mean
over the real rows. A label of -1 marks a padding row: it is no anchor, positive or negative, its
loss is 0 and it has no gradient. Any other label < 0, or one that has no proxy, makes its row's
loss NaN and takes no part for the others.

Notation: i is an anchor, P_i the other rows of its identity, N_i the rows of other identities, s_ij
the cosine of rows i and j, LSE the log of the sum of exponentials.
"""

import jax
import jax.numpy as jnp
from jax import lax

from facejax.losses.batch_pairs import (
    Pairs,
    all_pairs,
    checked_batch,
    cosines,
    log_sum_exp,
    mean,
    only,
    settle,
    squared_distances,
    unit,
)
from facejax.losses.meshes import rows_may_be_split
from facejax.losses.numerics import VOID, dot_rows, norms


@rows_may_be_split
def circle_pairs(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 80.0,
    margin: float | jax.Array = 0.4,
) -> jax.Array:
    """Circle loss on pairs: each similarity weighted by its distance to where it should be.

    softplus(LSE_{j in N_i} scale a_n (s_ij - m) + LSE_{j in P_i} -scale a_p (s_ij - (1 - m))),
    where a_n = max(0, s_ij + m) and a_p = max(0, 1 + m - s_ij) are constants in the gradient.

    Args:
      embeddings: [B, D], raw.
      labels: [B] integers, any >= 0 is an identity; -1 for padding.
      scale: the paper's gamma, > 0.
      margin: m, in cosine.

    Returns:
      Losses [B], 0 for an anchor without a positive or without a negative.

    >>> import jax.numpy as jnp
    >>> e = jnp.array([[3.0, 4.0], [4.0, 3.0], [0.0, 1.0]])
    >>> print([f"{loss:.2f}" for loss in circle_pairs(e, jnp.array([0, 1, 0]))])
    ['51.33', '0.00', '6.40']

    References:
      Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, 2020, eq. 6,
      10: https://arxiv.org/abs/2002.10857
    """
    similarity, pairs = _similarities(embeddings, labels)
    scale, margin = (jnp.asarray(value, similarity.dtype) for value in (scale, margin))
    toward = lax.stop_gradient(jax.nn.relu(1 + margin - similarity))
    apart = lax.stop_gradient(jax.nn.relu(similarity + margin))
    positives = log_sum_exp(-scale * toward * (similarity - (1 - margin)), pairs.positive)
    negatives = log_sum_exp(scale * apart * (similarity - margin), pairs.negative)
    both = jnp.any(pairs.positive, axis=1) & jnp.any(pairs.negative, axis=1)
    losses = jnp.where(both, jax.nn.softplus(positives + negatives), 0)
    return settle(losses, labels, pairs.known)


@rows_may_be_split
def multi_similarity(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    alpha: float | jax.Array = 2.0,
    beta: float | jax.Array = 50.0,
    threshold: float | jax.Array = 0.5,
    epsilon: float | jax.Array = 0.1,
) -> jax.Array:
    """Pairs mined and weighted by their own and their relative similarity.

    log(1 + sum_P exp(-alpha (s_ij - threshold))) / alpha + log(1 + sum_N exp(beta (s_ij -
    threshold))) / beta, over the positives with s_ij < max_{N_i} s + epsilon and the negatives with
    s_ij > min_{P_i} s - epsilon. The choice has no gradient.

    Args:
      embeddings: [B, D], raw.
      labels: [B] integers, any >= 0 is an identity; -1 for padding.
      alpha: sharpness over the positives, > 0.
      beta: sharpness over the negatives, > 0.
      threshold: the paper's lambda, in cosine.
      epsilon: how far beyond the other kind a pair is still mined, in cosine.

    Returns:
      Losses [B], 0 for an anchor without a positive or without a negative.

    >>> import jax.numpy as jnp
    >>> e = jnp.array([[3.0, 4.0], [4.0, 3.0], [0.0, 1.0]])
    >>> print([f"{loss:.3f}" for loss in multi_similarity(e, jnp.array([0, 1, 0]))])
    ['0.679', '0.000', '0.000']

    References:
      Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning,
      2019, section 4: https://arxiv.org/abs/1904.06627
    """
    similarity, pairs = _similarities(embeddings, labels)
    alpha, beta, threshold, epsilon = (
        jnp.asarray(value, similarity.dtype) for value in (alpha, beta, threshold, epsilon)
    )
    farthest = jnp.min(jnp.where(pairs.positive, similarity, -VOID), axis=1, keepdims=True)
    nearest = jnp.max(jnp.where(pairs.negative, similarity, VOID), axis=1, keepdims=True)
    positive = pairs.positive & (similarity < nearest + epsilon)
    negative = pairs.negative & (similarity > farthest - epsilon)
    apart = similarity - threshold
    losses = jax.nn.softplus(log_sum_exp(-alpha * apart, positive)) / alpha
    losses += jax.nn.softplus(log_sum_exp(beta * apart, negative)) / beta
    return settle(losses, labels, pairs.known)


@rows_may_be_split
def supcon(
    embeddings: jax.Array, labels: jax.Array, *, temperature: float | jax.Array = 0.1
) -> jax.Array:
    """Supervised contrastive loss: a softmax over all other rows, each positive a target in turn.

    LSE_{j != i} (s_ij / temperature) - mean_{j in P_i} s_ij / temperature: the mean over positives
    stands outside the log, and there is no factor temperature / base temperature.

    Args:
      embeddings: [B, D], raw.
      labels: [B] integers, any >= 0 is an identity; -1 for padding.
      temperature: > 0.

    Returns:
      Losses [B], 0 for an anchor without a positive.

    >>> import jax.numpy as jnp
    >>> e = jnp.array([[3.0, 4.0], [4.0, 3.0], [0.0, 1.0]])
    >>> print([f"{loss:.3f}" for loss in supcon(e, jnp.array([0, 0, 1]))])
    ['0.184', '0.027', '0.000']

    References:
      Khosla et al., Supervised Contrastive Learning, 2020, eq. 2: https://arxiv.org/abs/2004.11362
    """
    similarity, pairs = _similarities(embeddings, labels)
    logits = similarity / jnp.asarray(temperature, similarity.dtype)
    everyone = log_sum_exp(logits, pairs.positive | pairs.negative)
    losses = mean(everyone[:, None] - logits, pairs.positive)
    return settle(losses, labels, pairs.known)


@rows_may_be_split
def n_pairs(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """Multi-class N-pair loss: one anchor and one positive per identity, on raw products.

    log(1 + sum_k exp(x . p_k - x . p)), where the anchor x is the first row of its identity, p its
    second, and p_k the second rows of the other identities. The paper adds 0.002 times the squared
    lengths, and divides the sum by the number of pairs: both are the caller's.

    Args:
      embeddings: [B, D], raw, and used so.
      labels: [B] integers, any >= 0 is an identity; -1 for padding.

    Returns:
      Losses [B], in the anchors' rows; 0 in every other.

    >>> import jax.numpy as jnp
    >>> e = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    >>> print([f"{loss:.3f}" for loss in n_pairs(e, jnp.array([0, 0, 1, 1]))])
    ['0.693', '0.000', '0.313', '0.000']

    References:
      Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, 2016, section 3.2:
      https://papers.nips.cc/paper/6200-improved-deep-metric-learning-with-multi-class-n-pair-loss-objective
    """
    embeddings, labels = checked_batch(embeddings, labels)
    pairs = all_pairs(labels)
    embeddings = only(embeddings, pairs.known)
    products = dot_rows(embeddings, embeddings)
    before = jnp.sum(jnp.tril(pairs.positive), axis=1)  # earlier rows of the same identity
    second = (before == 1)[None, :]
    own = pairs.positive & second
    negatives = log_sum_exp(products, pairs.negative & second)
    losses = jax.nn.softplus(negatives - jnp.sum(jnp.where(own, products, 0), axis=1))
    is_anchor = (before == 0) & jnp.any(own, axis=1)
    return settle(jnp.where(is_anchor, losses, 0), labels, pairs.known)


@rows_may_be_split
def lifted_structure(
    embeddings: jax.Array, labels: jax.Array, *, margin: float | jax.Array = 1.0
) -> jax.Array:
    """Each positive pair against all negatives of both its ends (lifted structure, smooth form).

    mean_{j in P_i} max(0, J_ij)^2 / 2, where J_ij = D_ij + log(sum_{k in N_i} exp(margin - D_ik) +
    sum_{k in N_j} exp(margin - D_jk)) and D is the un-squared distance at unit length. At D = 0 it
    has no gradient. The paper's loss is the mean over positive pairs, which this is where every
    identity has as many rows.

    Args:
      embeddings: [B, D], raw.
      labels: [B] integers, any >= 0 is an identity; -1 for padding.
      margin: the paper's alpha, in distance.

    Returns:
      Losses [B], 0 for an anchor without a positive or without a negative.

    >>> import jax.numpy as jnp
    >>> e = jnp.array([[1.0, 0.0], [2.0, 0.0], [-3.0, 0.0], [-4.0, 0.0]])
    >>> print([f"{loss:.3f}" for loss in lifted_structure(e, jnp.array([0, 0, 1, 1]))])
    ['0.075', '0.075', '0.075', '0.075']

    References:
      Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, 2016, eq. 4:
      https://arxiv.org/abs/1511.06452
    """
    embeddings, labels = checked_batch(embeddings, labels)
    pairs = all_pairs(labels)
    squares = squared_distances(unit(only(embeddings, pairs.known)))
    # Nearer than unit vectors are rounded is together: a direction there would be noise.
    apart = squares > (4 * jnp.finfo(squares.dtype).eps) ** 2
    distances = jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0)
    negatives = log_sum_exp(jnp.asarray(margin, squares.dtype) - distances, pairs.negative)
    hinge = jax.nn.relu(jnp.logaddexp(negatives[:, None], negatives[None, :]) + distances)
    return settle(0.5 * mean(jnp.square(hinge), pairs.positive), labels, pairs.known)


@rows_may_be_split
def proxy_nca(embeddings: jax.Array, proxies: jax.Array, labels: jax.Array) -> jax.Array:
    """Neighbourhood components analysis with one trained proxy per identity.

    d(x, p_y) + LSE_{j != y} -d(x, p_j), with d the squared distance at unit length. The own proxy
    is not in the sum, so the loss can be negative; without another proxy it is 0.

    Args:
      embeddings: [B, D], raw.
      proxies: [C, D], raw, one row per identity.
      labels: [B] integers in [0, C); -1 for padding.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, proxies = jnp.array([[3.0, 0.0]]), jnp.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> print(f"{proxy_nca(e, proxies, jnp.array([0]))[0]:.3f}")
    -1.873

    References:
      Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies, 2017, section 3:
      https://arxiv.org/abs/1703.07464
    """
    similarity, known, own = _with_proxies(embeddings, proxies, labels)
    # A zero row is at distance 1 from a unit vector, not at 2.
    lengths = [(norms(rows)[1] > 0).astype(similarity.dtype) for rows in (embeddings, proxies)]
    distances = lengths[0][:, None] + lengths[1][None, :] - 2 * similarity
    target = jnp.sum(jnp.where(own, distances, 0), axis=1)
    losses = target + log_sum_exp(-distances, ~own)
    return settle(losses if len(proxies) > 1 else jnp.zeros_like(losses), labels, known)


@rows_may_be_split
def proxy_anchor(
    embeddings: jax.Array,
    proxies: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 32.0,
    margin: float | jax.Array = 0.1,
) -> jax.Array:
    """One trained proxy per identity, as the anchor to which the rows of the batch are compared.

    mean over the proxies that have a positive of log(1 + sum_{i: y_i = p} exp(-scale (s_ip - m)))
    + mean over all proxies of log(1 + sum_{i: y_i != p} exp(scale (s_ip + m))). It is a loss of the
    batch as a whole, and stands in every real row, so that their mean is it.

    Args:
      embeddings: [B, D], raw.
      proxies: [C, D], raw, one row per identity.
      labels: [B] integers in [0, C); -1 for padding.
      scale: the paper's alpha, > 0.
      margin: m, the paper's delta, in cosine.

    Returns:
      Losses [B], all the same in the real rows.

    >>> import jax.numpy as jnp
    >>> e, proxies = jnp.array([[3.0, 0.0], [0.0, 1.0]]), jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> print([f"{loss:.3f}" for loss in proxy_anchor(e, proxies, jnp.array([0, 1]))])
    ['3.240', '3.240']

    References:
      Kim et al., Proxy Anchor Loss for Deep Metric Learning, 2020, eq. 4:
      https://arxiv.org/abs/2003.13911
    """
    similarity, known, own = _with_proxies(embeddings, proxies, labels)
    scale, margin = (jnp.asarray(value, similarity.dtype) for value in (scale, margin))
    pull = jax.nn.softplus(log_sum_exp(-scale * (similarity - margin), own, axis=0))
    others = ~own & known[:, None]
    push = jax.nn.softplus(log_sum_exp(scale * (similarity + margin), others, axis=0))
    loss = mean(pull[None, :], jnp.any(own, axis=0)[None, :])[0] + jnp.mean(push)
    return settle(jnp.full_like(similarity[:, 0], loss), labels, known)


def _similarities(embeddings: jax.Array, labels: jax.Array) -> tuple[jax.Array, Pairs]:
    """(cosines of all pairs [B, B], who is who)."""
    embeddings, labels = checked_batch(embeddings, labels)
    pairs = all_pairs(labels)
    embeddings = only(embeddings, pairs.known)
    return cosines(embeddings, embeddings), pairs


def _with_proxies(
    embeddings: jax.Array, proxies: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(cosines [B, C], rows that take part [B], whether a proxy is the row's own [B, C])."""
    embeddings, labels, proxies = checked_batch(embeddings, labels, proxies)
    known = (labels >= 0) & (labels < len(proxies))
    own = labels[:, None] == jnp.arange(len(proxies), dtype=labels.dtype)[None, :]
    return cosines(only(embeddings, known), proxies), known, own
