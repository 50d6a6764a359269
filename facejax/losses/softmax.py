"""Softmaxes without a margin, and what their scale must be.

Notation, labels and what is returned: see `facejax.losses`.
"""

import math

import jax
import jax.numpy as jnp

from facejax.losses import margins
from facejax.losses.engine import Classes, margin_rows
from facejax.losses.remedies import Remedies


def softmax(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    bias: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    classes: Classes | None = None,
) -> jax.Array:
    """Softmax cross-entropy on raw inner products, DeepID2's identification.

    CE of z_j = w_j . x + b_j.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      bias: [C], or None.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{softmax(e, w, y)[0]:.3f}")
    0.007

    References:
      Sun et al., Deep Learning Face Representation by Joint Identification-Verification, 2014,
      eq. 1: https://arxiv.org/abs/1406.4773
    """
    rule = margins.softmax()
    remedies = Remedies(class_weights=class_weights, smoothing=smoothing)
    rows = margin_rows(
        embeddings, weights, labels, rule, bias=bias, remedies=remedies, classes=classes
    )
    return rows.losses


def normface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 30.0,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """Softmax on scaled cosines.

    CE of z_j = scale cos(theta_j). Its least value is `softmax_lower_bound`.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0; may be traced, so it can be learned as in the paper.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{normface(e, w, y)[0]:.3f}")
    0.002

    References:
      Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, 2017, section 3:
      https://arxiv.org/abs/1704.06369
    """
    rule = margins.normface(scale=scale)
    remedies = Remedies(class_weights=class_weights, smoothing=smoothing, negative_cap=negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def adacos(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    scale: float | jax.Array,
    *,
    update: bool = True,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Softmax on cosines with a scale that follows the batch.

    CE of z_j = s cos(theta_j). Before it is used, s becomes log(B) / cos(min(pi / 4, median
    theta_y)), where B is the mean over the real rows of the global batch of sum_{j != y} exp(s
    cos(theta_j)) at the old s, and the median is the lower one. With one class s stays. No
    gradient through s.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: scalar, the state; starts at `adacos_initial_scale`.
      update: whether the scale follows the batch; the fixed variant and evaluation keep it.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      (losses [B], scale), the scale equal on every device.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> losses, scale = adacos(e, w, y, 10.0)
    >>> print(f"{losses[0]:.3f} {scale:.3f}")
    0.201 7.500

    References:
      Zhang et al., AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning Deep Face
      Representations, 2019, eq. 12-15: https://arxiv.org/abs/1905.00292
    """
    rule = margins.adacos(update=update)
    remedies = Remedies(class_weights=class_weights, smoothing=smoothing, negative_cap=negative_cap)
    rows = margin_rows(
        embeddings, weights, labels, rule, context=scale, remedies=remedies, classes=classes
    )
    return rows.losses, rows.state


def adacos_initial_scale(num_classes: int) -> float:
    """The scale of `adacos` before the first step: sqrt(2) log(C - 1). The fixed variant keeps it.

    Args:
      num_classes: C >= 3.

    Raises:
      ValueError: with fewer than 3 classes the scale would be 0 or less.

    >>> round(adacos_initial_scale(1000), 3)
    9.768

    References:
      Zhang et al., AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning Deep Face
      Representations, 2019, eq. 9: https://arxiv.org/abs/1905.00292
    """
    if num_classes < 3:
        raise ValueError(
            f"adacos needs at least 3 classes (its scale is log(C - 1)), got {num_classes}"
        )
    return math.sqrt(2) * math.log(num_classes - 1)


def softmax_lower_bound(num_classes: int | jax.Array, scale: float | jax.Array) -> jax.Array:
    """The least softmax loss on scaled cosines: log(1 + (C - 1) exp(-scale C / (C - 1))).

    No batch with all classes equally often gets below it; C vertices of a simplex attain it, which
    takes D >= C - 1. (In the paper features and weights have norm l, and scale = l^2.)

    Args:
      num_classes: C >= 1; any shape.
      scale: >= 0; any shape that goes with it.

    Returns:
      The bound in nats; 0 for one class.

    >>> print(f"{softmax_lower_bound(10, 1.0):.3f}")
    1.377

    References:
      Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, 2017, proposition 2:
      https://arxiv.org/abs/1704.06369
    """
    others = jnp.asarray(num_classes, jnp.result_type(float)) - 1
    ratio = (others + 1) / jnp.maximum(others, 1)
    return jnp.log1p(others * jnp.exp(-ratio * scale))


def minimal_scale(num_classes: int | jax.Array, probability: float | jax.Array) -> jax.Array:
    """The least scale at which a class can get a probability: (C - 1) / C log((C - 1) P / (1 - P)).

    Args:
      num_classes: C >= 2; any shape.
      probability: P of a class centre's own class, in (0, 1); any shape that goes with it.

    Returns:
      The scale.

    >>> print(f"{minimal_scale(1000, 0.9):.3f}")
    9.095

    References:
      Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018, eq. 6:
      https://arxiv.org/abs/1801.09414
    """
    others = jnp.asarray(num_classes, jnp.result_type(float)) - 1
    return others / (others + 1) * jnp.log(others * probability / (1 - probability))
