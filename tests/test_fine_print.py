"""Each line of the contract's fine print, with rows and classes in the plane.

There every angle is known, and the expected number can be worked out by hand.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import losses
from tests import reference
from tests.cases import batch, losses_of, on_device
from tests.devices import layout, spread


def at(degrees):
    angles = np.radians(np.asarray(degrees, np.float64))
    return jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1), jnp.float32)


def target_logit(function, degrees, *after, **keywords):
    """The target's logit at an angle to its class, beside one negative at a right angle."""
    w = jnp.concatenate([at([0]), jnp.zeros((1, 2))])  # a zero class: cosine 0, logit 0
    loss = losses_of(function, *after, scale=1.0, **keywords)(at([degrees]), w, jnp.array([0]))
    return -math.log(math.expm1(float(loss[0])))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("plain", math.cos(math.radians(1.5 * 110) + 0.4)),
        ("linear", math.cos(math.radians(110)) - 0.4 * math.sin(0.4)),
        ("easy", math.cos(math.radians(110))),
        ("saturate", -1.0),
    ],
)
def test_rules_act_on_the_whole_angle_and_m3_is_always_subtracted(rule, expected):
    """110 degrees times 1.5 are 165, and 23 more are past 180; 110 + 23 are not."""
    keywords = {"m1": 1.5, "m2": 0.4, "m3": 0.15, "beyond_pi": rule}
    got = target_logit(losses.combined_margin, 110, **keywords)
    np.testing.assert_allclose(got, expected - 0.15, atol=1e-5)
    if rule != "easy":
        before = target_logit(losses.combined_margin, 100, **keywords)
        expected = math.cos(math.radians(150) + 0.4) - 0.15
        np.testing.assert_allclose(before, expected, atol=1e-5)


@pytest.mark.parametrize("rule", ["plain", "linear", "easy", "saturate"])
def test_every_arc_margin_takes_the_same_rules(rule):
    for degrees in (30, 80, 100, 148, 155, 175):
        margined = reference.margined_cosine(math.cos(math.radians(degrees)), 1.0, 0.5, rule)
        for got in (
            target_logit(losses.arcface, degrees, beyond_pi=rule),
            target_logit(losses.mv_softmax, degrees, beyond_pi=rule, hardness=0.0),
            target_logit(losses.magface, degrees, beyond_pi=rule, l_m=0.5, u_m=0.5, lambda_g=0.0),
        ):
            np.testing.assert_allclose(got, margined, atol=1e-5)


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 1.3, 1.7, 2.5])
def test_psi_falls_without_a_jump_over_the_half_circle(margin):
    degrees = np.linspace(0.5, 179.5, 180)
    psi = [reference.psi(math.radians(d), margin) for d in degrees]
    assert (np.diff(psi) < 0).all()
    assert np.abs(np.diff(psi)).max() < 1.01 * margin * math.radians(1)
    e, w, y = at(degrees), jnp.concatenate([at([0]), jnp.zeros((1, 2))]), jnp.zeros(180, int)
    found = [losses.sphereface_r(e, w, y, margin=margin, scale=1.0)]
    if margin == int(margin):
        found += [
            f(e, w, y, margin=margin, blend=0.0) for f in (losses.sphereface, losses.l_softmax)
        ]
    for loss in found:
        np.testing.assert_allclose(-np.log(np.expm1(loss)), psi, atol=1e-5)


def test_curricularface_extends_and_elasticface_does_not():
    t = jnp.float32(1.0)
    cosine = math.cos(math.radians(170))
    got = target_logit(losses.curricularface, 170, t)
    np.testing.assert_allclose(got, cosine - 0.5 * math.sin(0.5), atol=1e-5)
    got = target_logit(losses.elasticface, 170, jnp.array([0.5]))
    np.testing.assert_allclose(got, math.cos(math.radians(170) + 0.5), atol=1e-5)


def test_masks_compare_with_the_margined_cosine_without_extension():
    """At 170 degrees + 0.5 the cosine has turned back to -0.94: a negative at -0.98 is easy.

    The linear rule gives -1.22 and the easy rule -0.985: with either it would be hard.
    """
    e, w, y = at([0]), at([170, 168.5, 90]), jnp.array([0])
    c = [math.cos(math.radians(d)) for d in (170, 168.5, 90)]
    plain = math.cos(math.radians(170) + 0.5)
    assert c[1] < plain < c[2]
    for rule in ("plain", "linear", "easy", "saturate"):
        target = reference.margined_cosine(c[0], 1.0, 0.5, rule)
        logits = [target, c[1], 1.2 * c[2] + 0.2]  # easy, hard
        expected = reference.log_sum_exp(logits) - logits[0]
        got = losses.mv_softmax(e, w, y, scale=1.0, beyond_pi=rule)
        np.testing.assert_allclose(got, [expected], atol=1e-5, err_msg=rule)
    logits = [c[0] - 0.5 * math.sin(0.5), c[1], c[2] * (0.5 + c[2])]
    expected = reference.log_sum_exp(logits) - logits[0]
    got, _ = losses.curricularface(e, w, y, jnp.float32(0.5), scale=1.0, update=False)
    np.testing.assert_allclose(got, [expected], atol=1e-5)


def test_curricularface_multiplies_hard_negatives():
    """t is updated before it is used, from the cosine without margin."""
    e, w, y = at([0]), at([60, 20, 100]), jnp.array([0])
    got, t = losses.curricularface(e, w, y, jnp.float32(0.2), scale=1.0, rate=0.5)
    np.testing.assert_allclose(t, 0.5 * 0.5 + 0.5 * 0.2, rtol=1e-6)
    c = [math.cos(math.radians(d)) for d in (60, 20, 100)]
    logits = [math.cos(math.radians(60) + 0.5), c[1] * (0.35 + c[1]), c[2]]
    np.testing.assert_allclose(got, [reference.log_sum_exp(logits) - logits[0]], atol=1e-5)


def test_elasticface_sorts_the_margins_of_real_rows_only():
    """The largest cosine gets the smallest margin; what padding and unknown rows hold, stays."""
    degrees = [40.0, 10.0, 70.0, 20.0, 55.0]
    e, w = at(degrees), jnp.concatenate([at([0]), jnp.zeros((1, 2))])
    y = jnp.array([0, -1, 0, 7, 0])
    margins = jnp.array([0.5, 0.01, 0.1, 0.99, 0.3])
    got = losses.elasticface(e, w, y, margins, scale=1.0, base="cos", sort=True)
    for i, margin in ((0, 0.1), (4, 0.3), (2, 0.5)):
        target = math.cos(math.radians(degrees[i])) - margin
        np.testing.assert_allclose(got[i], math.log1p(math.exp(-target)), rtol=1e-5)
    assert got[1] == 0
    assert np.isnan(got[3])


def test_elasticface_sorts_over_all_devices():
    """One row per device: nothing to sort at home."""
    e, w, y = on_device(batch("normface", 8, rows=8, classes=8))
    margins = losses.elastic_margins(jax.random.key(0), 8)
    run = spread(
        lambda *a: losses.elasticface(*a, sort=True, classes=layout()),
        8,
        "shard_map",
        split=(True,) * 4,
        split_out=True,
    )
    dense = losses.elasticface(e, w, y, margins, sort=True)
    np.testing.assert_allclose(run(e, w, y, margins), dense, rtol=1e-5, atol=1e-5)
    assert np.abs(dense - losses.elasticface(e, w, y, margins)).max() > 0.1


def test_uniface_is_not_clamped():
    """-s (cos - m) + b is 64 x 1.4 + 30 = 119.6 here; a clamp to [-s, s] would stop at 64."""
    e, w, y = at([180]), at([0]), jnp.array([0])
    got = losses.uniface(e, w, y, jnp.float32(30.0))
    np.testing.assert_allclose(got, [119.6], rtol=1e-6)
    slope = jax.grad(lambda b: losses.uniface(e, w, y, b).sum())(jnp.float32(30.0))
    np.testing.assert_allclose(slope, 1.0, rtol=1e-6)


def test_uniface_starts_at_the_bias_of_its_authors():
    np.testing.assert_allclose(losses.uniface_initial_bias(1000), math.log(10_000), rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 10, 100_000])
@pytest.mark.parametrize("scale", [1.0, 40.0, 64.0])
def test_at_sphereface2s_initial_bias_both_sides_pull_equally(scale, classes):
    """With every cosine 0 the loss has no slope in the bias."""
    bias = losses.sphereface2_initial_bias(classes, scale=scale)
    bent = 2 * 0.5**3 - 1
    positive = 0.7 * reference.sigmoid(-scale * (bent - 0.4) - bias)
    negative = 0.3 * (classes - 1) * reference.sigmoid(scale * (bent + 0.4) + bias)
    np.testing.assert_allclose(positive, negative, rtol=1e-9)


def test_circle_weighs_by_how_far_a_similarity_is_from_its_optimum():
    """eq. 10: d loss / d s_n = gamma (s_n + m) times its share, not 2 gamma s_n."""
    e, y = at([0]), jnp.array([0])

    def loss(degrees):
        return losses.circle(e, at_traced(degrees), y, scale=8.0)[0]

    def at_traced(degrees):
        angles = jnp.radians(degrees)
        return jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)

    degrees = jnp.array([40.0, 75.0])
    slope = jax.grad(loss)(degrees) / -jnp.sin(jnp.radians(degrees)) * 180 / math.pi
    s_p, s_n = (math.cos(math.radians(d)) for d in (40, 75))
    difference = 8 * (s_n + 0.25) * (s_n - 0.25) - 8 * (1.25 - s_p) * (s_p - 0.75)
    share = reference.sigmoid(difference)
    expected = [-8 * (1.25 - s_p) * share, 8 * (s_n + 0.25) * share]
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_sface_weights_are_not_differentiated():
    e, w, y = at([50, 20]), at([0]), jnp.array([0, 0])
    slope = jax.grad(lambda e: losses.sface(e, w, y).sum())(e)
    for row, x, degrees in zip(slope, e, (50, 20), strict=True):
        weight = 64 * reference.sigmoid(80 * (math.radians(degrees) - 0.8))
        tangent = w[0] - math.cos(math.radians(degrees)) * x
        np.testing.assert_allclose(row, -weight * tangent, rtol=1e-3, atol=1e-5)
