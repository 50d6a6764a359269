"""What must hold between the losses, and where their bounds are attained."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from tests import reference
from tests.cases import batch, losses_of, on_device


def faces(seed=0, norm=(0.5, 3.0), **shape):
    return on_device(batch("normface", seed, norm=norm, **shape))


def same(left, right, inputs=None, *, gradient=True, atol=2e-5):
    """Equal losses, and equal gradients for embeddings and weights."""
    e, w, y = faces() if inputs is None else inputs
    a, b = left(e, w, y), right(e, w, y)
    np.testing.assert_allclose(a, b, atol=atol * max(1.0, float(jnp.abs(b).max())), rtol=0)
    assert float(jnp.abs(b).max()) > 0.1
    if gradient:
        slopes = [jax.grad(lambda e, w, f=f: f(e, w, y).sum(), (0, 1))(e, w) for f in (left, right)]
        for a, b in zip(*slopes, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(b).max()), rtol=0)


def partial(name, **keywords):
    return functools.partial(getattr(losses, name), **keywords)


NORMFACE = partial("normface", scale=16.0)
ZERO = jnp.zeros(11)
NO_MARGIN = {
    "cosface": partial("cosface", scale=16.0, margin=0.0),
    "arcface": partial("arcface", scale=16.0, margin=0.0),
    "combined_margin": partial("combined_margin", scale=16.0, m1=1.0, m2=0.0, m3=0.0),
    "mv_softmax am": partial("mv_softmax", scale=16.0, margin=0.0, base="am", hardness=0.0),
    "mv_softmax arc": partial("mv_softmax", scale=16.0, margin=0.0, hardness=0.0),
    "magface": partial("magface", scale=16.0, l_m=0.0, u_m=0.0, lambda_g=0.0),
    "elasticface arc": losses_of(losses.elasticface, ZERO, scale=16.0),
    "elasticface cos": losses_of(losses.elasticface, ZERO, scale=16.0, base="cos"),
    "sphereface_r": partial("sphereface_r", scale=16.0, margin=1.0),
    "adacos": losses_of(losses.adacos, jnp.float32(16.0), update=False),
}


@pytest.mark.parametrize("name", NO_MARGIN)
def test_without_a_margin_it_is_normface(name):
    same(NO_MARGIN[name], NORMFACE)


def test_adaface_without_a_margin_is_normface_away_from_the_poles():
    """Its clips of the cosine belong to it."""
    e, w, y = faces(1, pull=False)
    start = losses.AdaFaceStatistics()
    same(losses_of(losses.adaface, start, scale=16.0, margin=0.0), NORMFACE, (e, w, y))


def test_adaface_of_an_average_norm_is_cosface():
    e, w, y = faces(2, norm=(2.0, 2.0), pull=False)
    start = losses.AdaFaceStatistics(jnp.float32(2.0), jnp.float32(1.0))
    adaface = losses_of(losses.adaface, start, margin=0.4, update=False)
    same(adaface, partial("cosface", margin=0.4), (e, w, y))


@pytest.mark.parametrize(("norm", "angular", "additive"), [(90.0, -0.4, 0.8), (1e-2, 0.4, 0.0)])
def test_adaface_high_norms_get_the_additive_margin_low_ones_the_angular(norm, angular, additive):
    e, w, y = faces(2, norm=(norm, norm), pull=False)
    start = losses.AdaFaceStatistics(jnp.float32(20.0), jnp.float32(0.1))
    adaface = losses_of(losses.adaface, start, margin=0.4, update=False)
    combined = partial("combined_margin", m2=angular, m3=additive)
    kept = (jnp.arccos(_own_cosine(e, w, y)) + angular > 0.05) & (y >= 0)
    np.testing.assert_allclose(adaface(e, w, y)[kept], combined(e, w, y)[kept], atol=1e-4)
    assert kept.sum() > 6


def _own_cosine(e, w, y):
    unit = [v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (e, w)]
    return jnp.sum(unit[0] * unit[1][y], axis=1)


def test_adaface_clips_every_cosine():
    """On the class weight and opposite it: the angle stops at arccos(1 - 1e-3), with no slope."""
    w = jnp.eye(3)
    e = jnp.stack([w[0], -w[0]])
    y = jnp.array([0, 0])
    start = losses.AdaFaceStatistics()
    adaface = losses_of(losses.adaface, start, scale=1.0, margin=0.0, update=False)
    expected = [reference.log_sum_exp([0.999 * s, 0, 0]) - 0.999 * s for s in (1, -1)]
    np.testing.assert_allclose(adaface(e, w, y), expected, rtol=1e-6)
    closer = adaface(e + 0.01, w, y)  # still inside the clip for the target
    others = [reference.cosine(np.asarray(row) + 0.01, np.asarray(w[1])) for row in e]
    expected = [
        reference.log_sum_exp([0.999 * s, c, c]) - 0.999 * s
        for s, c in zip((1, -1), others, strict=True)
    ]
    np.testing.assert_allclose(closer, expected, rtol=1e-5)


def test_combined_is_arcface_and_cosface():
    for margin in (0.0, 0.5):
        arc = partial("combined_margin", m1=1.0, m2=margin, m3=0.0)
        same(arc, partial("arcface", margin=margin, beyond_pi="plain"))
    same(partial("combined_margin", m1=1.0, m2=0.0, m3=0.35), losses.cosface)
    for rule in ("linear", "easy", "saturate"):
        keywords = {"m2": 0.5, "m3": 0.0, "beyond_pi": rule}
        same(partial("combined_margin", **keywords), partial("arcface", beyond_pi=rule))


@pytest.mark.parametrize("adaptive", [True, False])
def test_mv_softmax_without_hardness_is_its_base(adaptive):
    mv = partial("mv_softmax", hardness=0.0, adaptive=adaptive)
    same(mv, partial("arcface", scale=32.0, beyond_pi="plain"))
    mv = partial("mv_softmax", hardness=0.0, adaptive=adaptive, base="am", margin=0.35)
    same(mv, partial("cosface", scale=32.0))


@pytest.mark.parametrize("rule", ["plain", "linear", "easy", "saturate"])
def test_one_subcenter_is_arcface(rule):
    arcface = partial("arcface", beyond_pi=rule)
    subcenter = partial("subcenter_arcface", beyond_pi=rule)
    same(lambda e, w, y: subcenter(e, w[:, None], y), arcface)


def test_only_the_nearest_subcenter_learns():
    e, w, y = on_device(batch("subcenter", 1))
    kept = y >= 0
    slope = jax.grad(lambda w: losses.subcenter_arcface(e, w, y)[:1].sum())(w)
    unit = [v / jnp.linalg.norm(v, axis=-1, keepdims=True) for v in (e, w)]
    nearest = jnp.argmax(jnp.einsum("d,ckd->ck", unit[0][0], unit[1]), axis=1)
    moved = jnp.abs(slope).max(axis=-1) > 0
    assert kept[0]
    assert (moved.sum(axis=1) <= 1).all()
    assert moved[y[0], nearest[y[0]]]


def test_a_huge_blend_is_the_softmax_without_margin():
    def modified_softmax(e, w, y):
        return losses.softmax(e, w / jnp.linalg.norm(w, axis=1, keepdims=True), y)

    same(partial("sphereface", blend=1e8), modified_softmax)
    same(partial("sphereface", margin=1, blend=0.0), modified_softmax)
    same(partial("l_softmax", blend=1e8), losses.softmax)
    same(partial("l_softmax", margin=1), losses.softmax)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_curricularface_without_a_hard_negative_is_arcface(rate):
    """Rows within 15 degrees of their class, classes at right angles: T = cos(45) > every cos_j."""
    w = 2 * jnp.eye(6)
    noise = 0.05 * jax.random.normal(jax.random.key(0), (6, 6))
    curricular = losses_of(losses.curricularface, jnp.float32(0.7), rate=rate, scale=4.0)
    same(curricular, partial("arcface", scale=4.0), (w + noise, w, jnp.arange(6)))


def test_elasticface_without_spread_is_its_base():
    margins = losses.elastic_margins(jax.random.key(0), 11, mean=0.5, sigma=0.0)
    np.testing.assert_array_equal(margins, np.full(11, 0.5, np.float32))
    for sort in (False, True):
        elastic = losses_of(losses.elasticface, margins, sort=sort)
        same(elastic, partial("arcface", beyond_pi="plain"))
        elastic = losses_of(losses.elasticface, margins, sort=sort, base="cos")
        same(elastic, partial("cosface", margin=0.5))


def test_elastic_margins_are_normal():
    margins = losses.elastic_margins(jax.random.key(1), 20_000, mean=0.35, sigma=0.02)
    np.testing.assert_allclose(margins.mean(), 0.35, atol=1e-3)
    np.testing.assert_allclose(margins.std(), 0.02, rtol=0.03)
    np.testing.assert_allclose(jnp.mean(jnp.abs(margins - 0.35) < 0.02), 0.683, atol=0.02)


@pytest.mark.parametrize("norm", [5.0, 120.0])
def test_magface_outside_its_norms_is_arcface_with_a_fixed_margin(norm):
    inputs = faces(3, norm=(norm, norm))
    margin, clipped = (0.45, 10.0) if norm < 10 else (0.8, 110.0)
    arcface = partial("arcface", margin=margin)

    def expected(e, w, y):
        penalty = 35.0 * (1 / clipped + clipped / 110.0**2)
        return arcface(e, w, y) + jnp.where(y >= 0, penalty, 0)

    same(losses.magface, expected, inputs)
    radial = _radial(losses.magface, *inputs)
    np.testing.assert_allclose(radial, 0, atol=1e-4)


def test_magface_within_its_norms_pulls_on_them():
    """d/d|x| of the margin and of the penalty, both."""
    e, w, y = faces(4, norm=(20.0, 90.0))
    only_penalty = partial("magface", l_m=0.5, u_m=0.5)
    real = y >= 0
    length = jnp.linalg.norm(e, axis=1)
    expected = 35.0 * (-1 / length**2 + 1 / 110.0**2) * length
    np.testing.assert_allclose(_radial(only_penalty, e, w, y)[real], expected[real], rtol=1e-3)
    through_margin = _radial(partial("magface", lambda_g=0.0), e, w, y)[real]
    assert (through_margin >= -1e-4).all()
    assert (through_margin > 0.1).any(), "a longer embedding has the larger margin"


def _radial(function, e, w, y):
    slope = jax.grad(lambda e: function(e, w, y).sum())(e)
    return jnp.sum(slope * e, axis=1)


def test_losses_on_unit_vectors_have_no_radial_gradient():
    for name in ("normface", "cosface", "arcface", "li_arcface", "sphereface_r", "circle", "sface"):
        radial = _radial(getattr(losses, name), *faces(5))
        np.testing.assert_allclose(radial, 0, atol=1e-3, err_msg=name)


def test_p2sgrad_has_its_rule_as_gradient():
    e, w, y = faces(6)
    w = w / jnp.linalg.norm(w, axis=1, keepdims=True)
    unit = e / jnp.linalg.norm(e, axis=1, keepdims=True)
    cosines = unit @ w.T
    rule = jnp.where((y >= 0)[:, None], cosines - jax.nn.one_hot(y, len(w)), 0)
    tangent = rule.T @ unit
    tangent -= jnp.sum(tangent * w, axis=1, keepdims=True) * w
    slope = jax.grad(lambda w: losses.p2sgrad(e, w, y).sum())(w)
    np.testing.assert_allclose(slope, tangent, atol=1e-5)


def simplex(classes):
    """classes unit vectors, each two with cosine -1 / (classes - 1)."""
    centered = np.eye(classes) - 1 / classes
    return centered / np.linalg.norm(centered, axis=1, keepdims=True)


@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0), (3, 4.0), (10, 1.0), (10, 7.0)])
def test_the_softmax_bound_is_attained_by_a_simplex_and_by_nothing_better(classes, scale):
    vertices = jnp.asarray(simplex(classes), jnp.float32)
    y = jnp.arange(classes)
    bound = losses.softmax_lower_bound(classes, scale)
    np.testing.assert_allclose(bound, reference.softmax_lower_bound(classes, scale), rtol=1e-6)
    at = losses.normface(vertices, vertices, y, scale=scale)
    np.testing.assert_allclose(at, jnp.full(classes, bound), rtol=1e-5)
    raw = math.sqrt(scale) * vertices
    np.testing.assert_allclose(losses.softmax(raw, raw, y), at, rtol=1e-5)
    e, w = (jax.random.normal(jax.random.key(k), (classes, classes)) for k in (0, 1))
    for mix in (0.0, 0.01, 0.3):
        near = (1 - mix) * vertices + mix * e, (1 - mix) * vertices + mix * w
        assert losses.normface(*near, y, scale=scale).mean() >= bound - 1e-6
    if (classes, scale) == (10, 1.0):
        np.testing.assert_allclose(bound, 1.377, atol=5e-4)


@pytest.mark.parametrize(("classes", "probability"), [(2, 0.9), (10, 0.5), (1000, 0.99)])
def test_the_minimal_scale_reaches_its_probability_at_a_simplex(classes, probability):
    scale = losses.minimal_scale(classes, probability)
    expected = reference.minimal_scale(classes, probability)
    np.testing.assert_allclose(scale, expected, rtol=1e-5)
    reached = jnp.exp(-losses.softmax_lower_bound(classes, scale))
    np.testing.assert_allclose(reached, probability, rtol=1e-5)


def test_annealed_blend():
    np.testing.assert_allclose(losses.annealed_blend(1), 892.857, rtol=1e-6)
    blends = jax.jit(jax.vmap(losses.annealed_blend))(jnp.arange(1, 2000))
    expected = [reference.annealed_blend(step) for step in range(1, 2000)]
    np.testing.assert_allclose(blends, expected, rtol=1e-5)
    assert blends[1657] > 5.0, "step 1658"
    assert blends[1658] == 5.0, "step 1659"
    mnist = {"base": 1000.0, "gamma": 2.5e-5, "power": 35.0, "minimum": 0.0}
    for step in (1, 400, 20_000):
        np.testing.assert_allclose(
            losses.annealed_blend(step, **mnist),
            reference.annealed_blend(step, **mnist),
            rtol=1e-4,
        )
