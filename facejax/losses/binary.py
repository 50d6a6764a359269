"""The losses that sum over the classes instead of a softmax.

Notation, labels and what is returned: see `facejax.losses`.
"""

import math

import jax

from facejax.losses import margins
from facejax.losses.engine import Classes, margin_rows
from facejax.losses.remedies import Remedies


def sphereface2(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    bias: float | jax.Array,
    *,
    scale: float | jax.Array = 40.0,
    margin: float | jax.Array = 0.4,
    balance: float | jax.Array = 0.7,
    t: float | jax.Array = 3.0,
    weight: float | jax.Array = 50.0,
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """One logistic regression per class, on a bent cosine (SphereFace2, type C).

    weight / scale (balance softplus(-(scale (g_y - m) + b)) + (1 - balance) sum_{j != y}
    softplus(scale (g_j + m) + b)), where g_j = 2 ((cos(theta_j) + 1) / 2)^t - 1. Not a softmax:
    classes do not compete. The gradient is the exact one (the authors' code detaches the bend and
    the margin).

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      bias: scalar b, trained; starts at `sphereface2_initial_bias`.
      scale: > 0.
      margin: m, in the bent cosine.
      balance: share of the positive term, in [0, 1].
      t: bends the cosine, > 0.
      weight: multiplies the loss.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{sphereface2(e, w, y, 0.0)[0]:.3f}")
    6.442

    References:
      Wen et al., SphereFace2: Binary Classification is All You Need for Deep Face Recognition,
      2022, eq. 5-7: https://arxiv.org/abs/2108.01513
    """
    rule = margins.sphereface2(scale=scale, margin=margin, balance=balance, t=t, weight=weight)
    remedies = Remedies(
        class_margins=class_margins, class_weights=class_weights, negative_cap=negative_cap
    )
    rows = margin_rows(
        embeddings, weights, labels, rule, context=bias, remedies=remedies, classes=classes
    )
    return rows.losses


def uniface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    bias: float | jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.4,
    balance: float | jax.Array = 1.0,
    class_margins: jax.Array | None = None,
    class_weights: jax.Array | None = None,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """Cross-entropy with one threshold for all pairs of sample and class (UniFace, UCE).

    softplus(b - scale (cos(theta_y) - m)) + l sum_{j != y} softplus(scale cos(theta_j) - b).
    Exponents are not clamped.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      bias: scalar b, trained; starts at `uniface_initial_bias`.
      scale: > 0.
      margin: m, in cosine.
      balance: l, weight of the negatives.
      class_margins: [C], in place of `margin`: of a row, that of its class.
      class_weights: [C], multiplies a row's loss: that of its class.
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{uniface(e, w, y, 0.0)[0]:.3f}")
    38.400

    References:
      Zhou et al., UniFace: Unified Cross-Entropy Loss for Deep Face Recognition, 2023, eq. 13:
      https://openaccess.thecvf.com/content/ICCV2023/html/Zhou_UniFace_Unified_Cross-Entropy_Loss_for_Deep_Face_Recognition_ICCV_2023_paper.html
    """
    rule = margins.uniface(scale=scale, margin=margin, balance=balance)
    remedies = Remedies(
        class_margins=class_margins, class_weights=class_weights, negative_cap=negative_cap
    )
    rows = margin_rows(
        embeddings, weights, labels, rule, context=bias, remedies=remedies, classes=classes
    )
    return rows.losses


def sface(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    slope: float | jax.Array = 80.0,
    a: float | jax.Array = 0.8,
    b: float | jax.Array = 1.23,
    class_weights: jax.Array | None = None,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """Cosines weighted by two gates on the angle (SFace).

    -scale sigmoid(k (theta_y - a)) cos(theta_y) + sum_{j != y} scale sigmoid(k (b - theta_j))
    cos(theta_j). The sigmoids are constants in the gradient. Not a cross-entropy: it can be
    negative.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      scale: > 0.
      slope: k, how sharp the two gates are.
      a: radians: a target nearer than this is let go.
      b: radians: a negative farther than this is let go.
      class_weights: [C], multiplies a row's loss: that of its class.
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{sface(e, w, y)[0]:.3f}")
    38.400

    References:
      Zhong et al., SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition,
      2021, eq. 7-10: https://arxiv.org/abs/2205.12010
    """
    rule = margins.sface(scale=scale, slope=slope, a=a, b=b)
    remedies = Remedies(class_weights=class_weights, negative_cap=negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def p2sgrad(
    embeddings: jax.Array,
    weights: jax.Array,
    labels: jax.Array,
    *,
    class_weights: jax.Array | None = None,
    negative_cap: float | jax.Array | None = None,
    classes: Classes | None = None,
) -> jax.Array:
    """Half the squared distance of the cosines from a one-hot vector (P2SGrad).

    sum_j (cos(theta_j) - 1[j = y])^2 / 2, whose gradient is the paper's rule d / d cos(theta_j) =
    cos(theta_j) - 1[j = y]. It has no hyperparameter.

    Args:
      embeddings: [B, D], raw.
      weights: [C, D], raw, one row per class.
      labels: [B] integers; -1 for padding.
      class_weights: [C], multiplies a row's loss: that of its class.
      negative_cap: a cosine; negatives above it are left out.
      classes: the layout of the classes.

    Returns:
      Losses [B].

    >>> import jax.numpy as jnp
    >>> e, w, y = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1])
    >>> print(f"{p2sgrad(e, w, y)[0]:.3f}")
    0.200

    References:
      Zhang et al., P2SGrad: Refined Gradients for Optimizing Deep Face Models, 2019:
      https://arxiv.org/abs/1905.02479
    """
    rule = margins.p2sgrad()
    remedies = Remedies(class_weights=class_weights, negative_cap=negative_cap)
    rows = margin_rows(embeddings, weights, labels, rule, remedies=remedies, classes=classes)
    return rows.losses


def sphereface2_initial_bias(
    num_classes: int,
    *,
    scale: float = 40.0,
    margin: float = 0.4,
    balance: float = 0.7,
    t: float = 3.0,
) -> float:
    """The bias of `sphereface2` at which, with all cosines 0, the two sides pull equally.

    balance sigmoid(-(scale (g - m) + b)) = (1 - balance) (C - 1) sigmoid(scale (g + m) + b), where
    g = 2 (1/2)^t - 1, solved for b.

    Args:
      num_classes: C >= 2.
      scale: as in `sphereface2`; so are the others.
      margin: see there.
      balance: in (0, 1).
      t: see there.

    >>> round(sphereface2_initial_bias(1000), 3)
    7.943

    References:
      Wen et al., SphereFace2: Binary Classification is All You Need for Deep Face Recognition,
      2022, appendix: https://arxiv.org/abs/2108.01513
    """
    bent = 2 * 0.5**t - 1
    ratio = balance / ((1 - balance) * max(num_classes - 1, 1))
    root = math.sqrt((1 - ratio) ** 2 + 4 * ratio * math.exp(-2 * scale * margin))
    if ratio > 1:  # few classes, where 1 - ratio + root cancels
        return scale * (margin - bent) + math.log((ratio - 1 + root) / 2)
    return math.log(2 * ratio) - scale * (bent + margin) - math.log(1 - ratio + root)


def uniface_initial_bias(num_classes: int) -> float:
    """The bias of `uniface` before the first step: log(10 C), as in the authors' code.

    >>> round(uniface_initial_bias(1000), 3)
    9.21

    References:
      Zhou et al., UniFace: Unified Cross-Entropy Loss for Deep Face Recognition, 2023:
      https://openaccess.thecvf.com/content/ICCV2023/html/Zhou_UniFace_Unified_Cross-Entropy_Loss_for_Deep_Face_Recognition_ICCV_2023_paper.html
    """
    return math.log(10 * num_classes)
