"""Face-recognition losses: pure functions of arrays, per example, for any JAX code.

Those with class weights take raw embeddings [B, D], raw weights [C, D] (one row per class) and
integer labels [B], and return per-example losses [B] in float32 (float64 for float64 inputs),
whatever the inputs' type; the caller takes the mean over the real rows. A label of -1 marks a
padding row (loss 0, no gradient); any other label outside [0, C) makes its row's loss NaN.
`classes` says how the classes are laid out over devices. A loss with a memory takes it as its last
array and returns it with the losses. Against wrong labels and unequal classes they take, where it
makes sense, `class_margins`, `class_weights`, `smoothing` and `negative_cap`: `margin_softmax` has
the formulas.

Notation of the docstrings: theta_j is the angle between the embedding x and class row w_j, y the
label, and CE(z) = log(sum_j exp z_j) - z_y.

>>> import jax, jax.numpy as jnp
>>> from facejax.losses import arcface
>>> key_e, key_w = jax.random.split(jax.random.key(0))
>>> embeddings = jax.random.normal(key_e, (4, 8))
>>> weights = jax.random.normal(key_w, (10, 8))
>>> arcface(embeddings, weights, jnp.array([0, 3, 9, -1])).shape
(4,)
"""

from facejax.losses.additive import (
    arcface,
    combined_margin,
    cosface,
    li_arcface,
    subcenter_arcface,
)
from facejax.losses.binary import (
    p2sgrad,
    sface,
    sphereface2,
    sphereface2_initial_bias,
    uniface,
    uniface_initial_bias,
)
from facejax.losses.engine import (
    Classes,
    Context,
    Margin,
    Rows,
    Seen,
    margin_rows,
    margin_softmax,
)
from facejax.losses.fused import FusedSGD
from facejax.losses.hard_negatives import circle, curricularface, mv_softmax
from facejax.losses.margins import AdaFaceStatistics
from facejax.losses.metric import (
    batch_triplet,
    center,
    contrastive,
    contrastive_cosine,
    triplet,
    update_centers,
)
from facejax.losses.multiplicative import annealed_blend, l_softmax, sphereface, sphereface_r
from facejax.losses.pairs import (
    circle_pairs,
    lifted_structure,
    multi_similarity,
    n_pairs,
    proxy_anchor,
    proxy_nca,
    supcon,
)
from facejax.losses.quality import adaface, elastic_margins, elasticface, magface
from facejax.losses.remedies import Remedies, margins_from_counts, weights_from_counts
from facejax.losses.sampling import sample_classes, sample_indices
from facejax.losses.softmax import (
    adacos,
    adacos_initial_scale,
    minimal_scale,
    normface,
    softmax,
    softmax_lower_bound,
)

__all__ = [
    "AdaFaceStatistics",
    "Classes",
    "Context",
    "FusedSGD",
    "Margin",
    "Remedies",
    "Rows",
    "Seen",
    "adacos",
    "adacos_initial_scale",
    "adaface",
    "annealed_blend",
    "arcface",
    "batch_triplet",
    "center",
    "circle",
    "circle_pairs",
    "combined_margin",
    "contrastive",
    "contrastive_cosine",
    "cosface",
    "curricularface",
    "elastic_margins",
    "elasticface",
    "l_softmax",
    "li_arcface",
    "lifted_structure",
    "magface",
    "margin_rows",
    "margin_softmax",
    "margins_from_counts",
    "minimal_scale",
    "multi_similarity",
    "mv_softmax",
    "n_pairs",
    "normface",
    "p2sgrad",
    "proxy_anchor",
    "proxy_nca",
    "sample_classes",
    "sample_indices",
    "sface",
    "softmax",
    "softmax_lower_bound",
    "sphereface",
    "sphereface2",
    "sphereface2_initial_bias",
    "sphereface_r",
    "subcenter_arcface",
    "supcon",
    "triplet",
    "uniface",
    "uniface_initial_bias",
    "update_centers",
    "weights_from_counts",
]
