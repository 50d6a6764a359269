"""The softmaxes with a fixed margin that is added in the angle or the cosine.

Notation, labels and what is returned: see `facejax.losses`.
"""

import chex
import jax

from facejax.losses import margins
from facejax.losses.engine import Classes, margin_rows
from facejax.losses.remedies import Remedies


def cosface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.35,
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """An additive cosine margin.

    CE with z_y = scale (cos(theta_y) - margin), z_j = scale cos(theta_j). Also known as
    AM-Softmax, whose paper takes scale 30.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      margin: in cosine, >= 0.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{cosface(e, w, y)[0]:.3f}")
    9.600

    References:
      Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018, eq. 4:
      https://arxiv.org/abs/1801.09414
      Wang et al., Additive Margin Softmax for Face Verification, 2018:
      https://arxiv.org/abs/1801.05599
    """
    rule = margins.cosface(scale=scale, margin=margin)
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def arcface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.5,
    beyond_pi: str = "linear",
    gradient: str = "exact",
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """An additive angular margin.

    CE with z_y = scale cos(theta_y + margin), z_j = scale cos(theta_j).

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      margin: radians, in [0, pi].
      beyond_pi: the target's cosine where theta_y + margin > pi: `plain` (the paper's formula,
        which rises again), `linear` (cos(theta_y) - margin sin(margin), the rule the published
        models were trained with), `easy` (no margin where theta_y > pi / 2), `saturate` (-1).
      gradient: `exact`, or `straight_through`: d z_y / d cos(theta_y) = scale, values unchanged
        (what InsightFace computes today).
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    Raises:
      ValueError: on another `beyond_pi` or `gradient`.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{arcface(e, w, y)[0]:.3f}")
    11.878

    References:
      Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019, eq. 3:
      https://arxiv.org/abs/1801.07698
    """
    rule = margins.arcface(scale=scale, margin=margin, beyond_pi=beyond_pi, gradient=gradient)
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def combined_margin(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    m1: float | jax.Array = 1.0,
    m2: float | jax.Array = 0.3,
    m3: float | jax.Array = 0.2,
    beyond_pi: str = "plain",
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """A factor, an angle and a cosine at once.

    CE with z_y = scale (cos(m1 theta_y + m2) - m3), z_j = scale cos(theta_j).

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      m1: multiplies the angle, > 0.
      m2: is added to it, radians.
      m3: is taken from the cosine, always.
      beyond_pi: the cosine where m1 theta_y + m2 > pi: `plain` (the formula), `linear`
        (cos(theta_y) - m2 sin(m2)), `easy` (no m1, m2 where theta_y > pi / 2), `saturate` (-1).
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    Raises:
      ValueError: on another `beyond_pi`.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{combined_margin(e, w, y)[0]:.3f}")
    13.635

    References:
      Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019, eq. 4:
      https://arxiv.org/abs/1801.07698
    """
    rule = margins.combined_margin(scale=scale, m1=m1, m2=m2, m3=m3, beyond_pi=beyond_pi)
    remedies = Remedies(class_weights=class_weights, smoothing=smoothing, negative_cap=negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def li_arcface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.45,
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """A margin on logits that are linear in the angle.

    CE with z_y = scale (pi - 2 (theta_y + margin)) / pi, z_j = scale (pi - 2 theta_j) / pi, which
    falls with the angle everywhere.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      margin: radians, >= 0.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{li_arcface(e, w, y)[0]:.3f}")
    6.773

    References:
      Li et al., AirFace: Lightweight and Efficient Model for Face Recognition, 2019, section 3:
      https://arxiv.org/abs/1907.12256
    """
    rule = margins.li_arcface(scale=scale, margin=margin)
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def subcenter_arcface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.5,
    beyond_pi: str = "linear",
    gradient: str = "exact",
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """ArcFace with several centres per class, of which the nearest counts.

    cos(theta_j) = max_k cos(x, w_jk), then `arcface`. Only the nearest sub-centre gets a
    gradient, so that noisy images of a class can gather at another one.

    Args:
      embeddings: [B, D], raw.
      weights: [C, K, D], raw, K sub-centres per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      margin: radians, in [0, pi].
      beyond_pi: the target's cosine where theta_y + margin > pi: `plain` (the paper's formula,
        which rises again), `linear` (cos(theta_y) - margin sin(margin), the rule the published
        models were trained with), `easy` (no margin where theta_y > pi / 2), `saturate` (-1).
      gradient: `exact`, or `straight_through`: d z_y / d cos(theta_y) = scale, values unchanged
        (what InsightFace computes today).
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    Raises:
      ValueError: on another `beyond_pi` or `gradient`.

    >>> import jax.numpy as jnp
    >>> e, y = jnp.array([[3.0, 4.0]]), jnp.array([1])
    >>> w = jnp.array([[[1.0, 0.0], [1.0, -1.0]], [[-1.0, 0.0], [0.0, 2.0]]])
    >>> print(f"{subcenter_arcface(e, w, y)[0]:.3f}")
    11.878

    References:
      Deng et al., Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces,
      2020, section 3.2: https://doi.org/10.1007/978-3-030-58621-8_43
    """
    chex.assert_rank(jax.tree.leaves(weights)[0], 3)  # of a FusedSGD too
    rule = margins.arcface(scale=scale, margin=margin, beyond_pi=beyond_pi, gradient=gradient)
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses
