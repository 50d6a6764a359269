"""The softmaxes whose margin differs from sample to sample.

Notation, labels and what is returned: see `facejax.losses`.
"""

import jax

from facejax.losses import margins as rules
from facejax.losses.engine import Classes, margin_rows
from facejax.losses.margins import AdaFaceStatistics
from facejax.losses.remedies import Remedies


def magface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    l_a: float | jax.Array = 10.0,
    u_a: float | jax.Array = 110.0,
    l_m: float | jax.Array = 0.45,
    u_m: float | jax.Array = 0.8,
    lambda_g: float | jax.Array = 35.0,
    beyond_pi: str = "linear",
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """An angular margin that grows with the embedding's norm, which comes to tell its quality.

    CE with z_y = scale cos(theta_y + m(a)), z_j = scale cos(theta_j), plus lambda_g g(a), where a
    = min(max(|x|, l_a), u_a), m(a) = l_m + (u_m - l_m) (a - l_a) / (u_a - l_a) and g(a) = 1 / a +
    a / u_a^2. The gradient reaches |x| through both m and g; nothing is detached.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      l_a: smallest norm a that counts, > 0.
      u_a: largest norm that counts.
      l_m: margin at `l_a`, radians.
      u_m: margin at `u_a`, radians.
      lambda_g: weight of the regulariser; the paper wants at least scale 0.0035 u_a^2 l_a^2 /
        (u_a^2 - l_a^2).
      beyond_pi: the target's rule where theta_y + m(a) > pi, as in `arcface`.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B], the regulariser among them.

    Raises:
      ValueError: on another `beyond_pi`.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{magface(e, w, y)[0]:.3f}")
    12.529

    References:
      Meng et al., MagFace: A Universal Representation for Face Recognition and Quality
      Assessment, 2021, eq. 4-5: https://arxiv.org/abs/2103.06627
    """
    rule = rules.magface(
        scale=scale, l_a=l_a, u_a=u_a, l_m=l_m, u_m=u_m, lambda_g=lambda_g, beyond_pi=beyond_pi
    )
    remedies = Remedies(class_weights=class_weights, smoothing=smoothing, negative_cap=negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def adaface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    statistics: AdaFaceStatistics,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.4,
    h: float | jax.Array = 0.333,
    rate: float | jax.Array = 0.01,
    update: bool = True,
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> tuple[jax.Array, AdaFaceStatistics]:
    """Angular and additive margins that follow the norm's place among the norms seen.

    CE with z_y = scale (cos(theta_y - m q) - (m + m q)), z_j = scale cos(theta_j), where q =
    min(max(h (|x| - mean) / (std + 1e-3), -1), 1): a high norm gets a smaller angle and a larger
    additive margin. Cosines are clipped to +-(1 - 1e-3), the target's angle to [1e-3, pi - 1e-3],
    norms to [1e-3, 100]. Before they are used, the statistics move by `rate` of the way to those
    of the real rows of the global batch (std with n - 1; not moved by fewer than two rows). No
    gradient through q.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      statistics: the state: running mean and standard deviation of the norms, scalars.
      scale: > 0.
      margin: m.
      h: concentration: how fast the margins saturate.
      rate: weight of the new batch, in [0, 1].
      update: whether the statistics move; not in evaluation.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      (losses [B], AdaFaceStatistics), equal on every device.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> losses, statistics = adaface(e, w, y, AdaFaceStatistics())
    >>> print(f"{losses[0]:.3f} {statistics.mean:.3f}")
    12.304 19.850

    References:
      Kim et al., AdaFace: Quality Adaptive Margin for Face Recognition, 2022, eq. 11-13:
      https://arxiv.org/abs/2204.00964
    """
    rule = rules.adaface(scale=scale, margin=margin, h=h, rate=rate, update=update)
    remedies = Remedies(class_margins, class_weights, smoothing, negative_cap)
    rows = margin_rows(
        embeddings, weights, labels, rule, context=statistics, remedies=remedies, classes=classes
    )
    return rows.losses, rows.state


def elasticface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    margins: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    base: str = "arc",
    sort: bool = False,
    class_weights: jax.Array | None = None,
    smoothing: float | jax.Array = 0.0,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """ArcFace or CosFace with a margin drawn for each row (ElasticFace).

    CE with z_y = scale cos(theta_y + margin_i) or scale (cos(theta_y) - margin_i), z_j = scale
    cos(theta_j). Past pi the formula stands as it is.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      margins: [B], see `elastic_margins`.
      scale: > 0.
      base: `arc`: the margins are added to the angle; `cos`: taken from the cosine.
      sort: whether the real rows' margins are dealt out anew, the smallest to the largest
        target cosine of the global batch (ElasticFace+).
      class_weights: [C], multiplies a row's loss: that of its class.
      smoothing: of the labels, in [0, 1).
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    Raises:
      ValueError: on another `base`.

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{elasticface(e, w, y, jnp.array([0.5]))[0]:.3f}")
    11.878

    References:
      Boutros et al., ElasticFace: Elastic Margin Loss for Deep Face Recognition, 2022, eq. 4-6:
      https://arxiv.org/abs/2109.09416
    """
    rule = rules.elasticface(scale=scale, base=base, sort=sort)
    remedies = Remedies(class_weights=class_weights, smoothing=smoothing, negative_cap=negative_cap)
    rows = margin_rows(
        embeddings, weights, labels, rule, context=margins, remedies=remedies, classes=classes
    )
    return rows.losses


def elastic_margins(
    key: jax.Array,
    batch_size: int,
    *,
    mean: float | jax.Array = 0.5,
    sigma: float | jax.Array = 0.05,
) -> jax.Array:
    """Margins for `elasticface`, from a normal distribution.

    The paper's: Arc 0.5 and 0.05, Arc+ 0.5 and 0.0175, Cos 0.35 and 0.05, Cos+ 0.35 and 0.02.

    Args:
      key: a PRNG key; another one each step.
      batch_size: B, a whole number.
      mean: of the distribution.
      sigma: its standard deviation, >= 0.

    Returns:
      Margins [B].

    >>> import jax
    >>> elastic_margins(jax.random.key(0), 4).shape
    (4,)

    References:
      Boutros et al., ElasticFace: Elastic Margin Loss for Deep Face Recognition, 2022, section 3.2:
      https://arxiv.org/abs/2109.09416
    """
    return mean + sigma * jax.random.normal(key, (batch_size,))
