"""The class-weight losses, by their papers' names.

All take raw embeddings [B, D], raw class weights [C, D] (one row a class) and integer labels [B],
and return per-example losses [B] in float32 (float64 for float64 inputs); the caller takes the
mean over the real rows. A label of -1 marks a padding row (loss 0, no gradient); any other label
outside [0, C) makes its row's loss NaN. `classes` says how the classes are laid out over devices.

Notation: theta_j is the angle between the embedding and class row j, y the label, and
CE(z) = log(sum_j exp z_j) - z_y.
"""

import jax

from facejax.losses import margins
from facejax.losses.engine import Classes, margin_softmax


def softmax(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    bias: jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """Softmax cross-entropy on raw inner products: CE of z_j = w_j . x + b_j.

    Args:
      embeddings: [B, D].
      weights: [C, D].
      labels: [B].
      bias: [C], or None.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    References:
      Sun et al., Deep Learning Face Representation by Joint Identification-Verification (DeepID2),
      2014, eq. 1: https://arxiv.org/abs/1406.4773
    """
    return margin_softmax(
        embeddings, weights, labels, margins.softmax(), bias=bias, classes=classes
    )


def normface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 30.0,
    classes: Classes | None = None,
) -> jax.Array:
    """Softmax on scaled cosines: CE of z_j = scale cos(theta_j).

    Args:
      embeddings: [B, D].
      weights: [C, D].
      labels: [B].
      scale: > 0; may be traced, so it can be learned as in the paper.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    References:
      Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, 2017, section 3:
      https://arxiv.org/abs/1704.06369
    """
    return margin_softmax(embeddings, weights, labels, margins.normface(scale=scale),
                          classes=classes)  # fmt: skip


def cosface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.35,
    classes: Classes | None = None,
) -> jax.Array:
    """An additive cosine margin: CE with z_y = scale (cos(theta_y) - margin), others scale cos.

    Also known as AM-Softmax (whose paper takes scale 30).

    Args:
      embeddings: [B, D].
      weights: [C, D].
      labels: [B].
      scale: > 0.
      margin: in cosine, >= 0.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    References:
      Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018, eq. 4:
      https://arxiv.org/abs/1801.09414
      Wang et al., Additive Margin Softmax for Face Verification, 2018:
      https://arxiv.org/abs/1801.05599
    """
    return margin_softmax(
        embeddings, weights, labels, margins.cosface(scale=scale, margin=margin), classes=classes
    )


def arcface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.5,
    beyond_pi: str = "linear",
    gradient: str = "exact",
    classes: Classes | None = None,
) -> jax.Array:
    """An additive angular margin: CE with z_y = scale cos(theta_y + margin), others scale cos.

    Args:
      embeddings: [B, D].
      weights: [C, D].
      labels: [B].
      scale: > 0.
      margin: radians, in [0, pi].
      beyond_pi: the target's cosine where theta_y + margin > pi: `plain` (the paper's formula,
        which rises again), `linear` (cos(theta_y) - margin sin(margin), the rule the published
        models were trained with), `easy` (no margin where theta_y > pi / 2), `saturate` (-1).
      gradient: `exact`, or `straight_through`: d z_y / d cos(theta_y) = scale, values unchanged
        (what InsightFace computes today).
      classes: the layout of the classes.

    Returns:
      Losses [B].

    Raises:
      ValueError: on another `beyond_pi` or `gradient`.

    References:
      Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019, eq. 3:
      https://arxiv.org/abs/1801.07698
    """
    rule = margins.arcface(scale=scale, margin=margin, beyond_pi=beyond_pi, gradient=gradient)
    return margin_softmax(embeddings, weights, labels, rule, classes=classes)
