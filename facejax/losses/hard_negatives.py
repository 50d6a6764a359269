"""The softmaxes that weigh hard negatives.

Notation, labels and what is returned: see `facejax.losses`.
"""

import jax

from facejax.losses import margins
from facejax.losses.engine import Classes, margin_rows
from facejax.losses.remedies import Remedies


def mv_softmax(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 32.0,
    margin: float | jax.Array = 0.5,
    base: str = "arc",
    hardness: float | jax.Array = 0.2,
    adaptive: bool = True,
    beyond_pi: str = "plain",
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """Negatives that score above the margined target are raised (MV-Softmax, support vectors).

    CE with z_y = scale f(theta_y), z_j = scale cos(theta_j) where f(theta_y) >= cos(theta_j), and
    else, for the hard ones, scale (cos(theta_j) + t), or if adaptive scale ((1 + t) cos(theta_j)
    + t). Which are hard is not differentiated.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      margin: radians for `arc`, cosine for `am`, whose paper takes 0.35.
      base: f is cos(theta_y + margin) for `arc`, cos(theta_y) - margin for `am`.
      hardness: t >= 0; with 0 the loss is its base.
      adaptive: how a hard negative is raised, see above.
      beyond_pi: the target's rule where theta_y + margin > pi, as in `arcface`. Which negatives
        are hard never follows it.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    Raises:
      ValueError: on another `base` or `beyond_pi`.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{mv_softmax(e, w, y)[0]:.3f}")
    16.179

    References:
      Wang et al., Mis-classified Vector Guided Softmax Loss for Face Recognition, 2020, eq.
      6-8: https://arxiv.org/abs/1912.00833
    """
    rule = margins.mv_softmax(
        scale=scale,
        margin=margin,
        base=base,
        hardness=hardness,
        adaptive=adaptive,
        beyond_pi=beyond_pi,
    )
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def circle(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 256.0,
    margin: float | jax.Array = 0.25,
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """Circle loss at class level: every cosine at its own pace.

    CE with z_y = scale a_p (cos(theta_y) - (1 - m)), z_j = scale a_n (cos(theta_j) - m), where
    a_p = max(0, 1 + m - cos(theta_y)) and a_n = max(0, cos(theta_j) + m) are constants in the
    gradient. The pairwise form is `circle_pairs`.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      margin: m, in cosine.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{circle(e, w, y)[0]:.3f}")
    70.400

    References:
      Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, 2020, eq.
      6-10: https://arxiv.org/abs/2002.10857
    """
    rule = margins.circle(scale=scale, margin=margin)
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def curricularface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    t: float | jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.5,
    rate: float | jax.Array = 0.01,
    update: bool = True,
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Hard negatives count less early in training and more later.

    CE with z_y = scale T, T = cos(theta_y + margin), z_j = scale cos(theta_j) where T >=
    cos(theta_j), and else scale cos(theta_j) (t + cos(theta_j)). Before it is used, t moves by
    `rate` of the way to the mean of cos(theta_y) over the real rows of the global batch. The
    target past pi is `arcface`'s linear rule; which negatives are hard never follows it. No
    gradient through t.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      t: scalar, the state; 0 before the first batch.
      scale: > 0.
      margin: radians, in [0, pi].
      rate: weight of the new batch, in [0, 1].
      update: whether t moves; not in evaluation.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      (losses [B], t), t a scalar, equal on every device.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> losses, t = curricularface(e, w, y, 0.0)
    >>> print(f"{losses[0]:.3f} {t:.3f}")
    0.041 0.008

    References:
      Huang et al., CurricularFace: Adaptive Curriculum Learning Loss for Deep Face Recognition,
      2020, eq. 5-9: https://arxiv.org/abs/2004.00288
    """
    rule = margins.curricularface(scale=scale, margin=margin, rate=rate, update=update)
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(
        embeddings, weights, labels, rule, context=t, remedies=remedies, classes=classes
    )
    return rows.losses, rows.state
