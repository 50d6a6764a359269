"""The softmaxes whose margin multiplies the angle, and their annealing.

Notation, labels and what is returned: see `facejax.losses`.
"""

import jax
import jax.numpy as jnp

from facejax.losses import margins
from facejax.losses.engine import Classes, margin_rows
from facejax.losses.remedies import Remedies


def l_softmax(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    margin: int = 4,
    blend: float | jax.Array = 0.0,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    classes: Classes | None = None,
) -> jax.Array:
    """A multiplicative angular margin on raw features and raw class weights.

    CE with z_y = |w_y| |x| psi(theta_y), z_j = w_j . x, where psi(theta) = (-1)^k cos(margin
    theta) - 2k for theta in [k pi / margin, (k + 1) pi / margin], which decreases from 1 to 1 - 2
    margin.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      margin: a whole number >= 1.
      blend: lambda >= 0 of the annealing, see `annealed_blend`: the target is (lambda cos +
        psi) / (1 + lambda).
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      classes: the layout of the classes.

    Returns:
      Losses [B].

    Raises:
      ValueError: if the margin is not a whole number >= 1.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{l_softmax(e, w, y, margin=2)[0]:.3f}")
    0.798

    References:
      Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks, 2016, eq. 4-6:
      https://arxiv.org/abs/1612.02295
    """
    rule = margins.l_softmax(margin=margin, blend=blend)
    remedies = Remedies(class_weights=class_weights, smoothing=smoothing)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def sphereface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    margin: int = 4,
    blend: float | jax.Array = 5.0,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    classes: Classes | None = None,
) -> jax.Array:
    """A multiplicative angular margin on unit class weights (A-Softmax).

    CE with z_y = |x| psi(theta_y), z_j = |x| cos(theta_j), where psi is that of `l_softmax`. The
    features keep their length.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      margin: a whole number >= 1.
      blend: lambda >= 0 of the annealing, see `annealed_blend`: the target is (lambda cos +
        psi) / (1 + lambda).
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      classes: the layout of the classes.

    Returns:
      Losses [B].

    Raises:
      ValueError: if the margin is not a whole number >= 1.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{sphereface(e, w, y)[0]:.3f}")
    0.895

    References:
      Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, 2017, eq. 7:
      https://arxiv.org/abs/1704.08063
    """
    rule = margins.sphereface(margin=margin, blend=blend)
    remedies = Remedies(class_weights=class_weights, smoothing=smoothing)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def sphereface_r(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 30.0,
    margin: float | jax.Array = 1.7,
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """A multiplicative angular margin, real, on unit features and class weights.

    CE with z_y = scale psi(theta_y), z_j = scale cos(theta_j), where psi is that of `l_softmax`
    with k at most ceil(margin) - 1. The gradient is the exact one.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      margin: a real number >= 1.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{sphereface_r(e, w, y)[0]:.3f}")
    4.245

    References:
      Liu et al., SphereFace Revived: Unifying Hyperspherical Face Recognition, 2022, section 3:
      https://arxiv.org/abs/2109.05565
    """
    rule = margins.sphereface_r(scale=scale, margin=margin)
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def annealed_blend(
    step: int | jax.Array,
    *,
    base: float | jax.Array = 1000.0,
    gamma: float | jax.Array = 0.12,
    power: float | jax.Array = 1.0,
    minimum: float | jax.Array = 5.0,
) -> jax.Array:
    """The annealing lambda of `sphereface` and `l_softmax`, which falls from step to step.

    max(minimum, base (1 + gamma step)^-power).

    Args:
      step: counted from 1; any shape.
      base: >= 0.
      gamma: >= 0.
      power: >= 0.
      minimum: >= 0; 5 is SphereFace's, 0 L-Softmax's.

    Returns:
      The blend, of the step's shape, float.

    >>> print(f"{annealed_blend(1):.3f} {annealed_blend(10_000):.3f}")
    892.857 5.000

    References:
      Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, 2017 (its code):
      https://arxiv.org/abs/1704.08063
    """
    counted = jnp.asarray(step, jnp.result_type(float))
    return jnp.maximum(minimum, base * (1 + gamma * counted) ** -power)
