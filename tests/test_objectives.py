"""Objectives: the losses by name, with what a trainer keeps for them."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from facejax import losses, objectives
from facejax.errors import UserError
from facejax.losses import margins
from facejax.objectives import table
from tests import reference

CLASSES, DIM = 12, 5
CLASSIFIERS = [name for name in objectives.LOSSES if hasattr(margins, name)]
WITHOUT = ("facenet", "circle_pairs", "multi_similarity", "supcon", "n_pairs", "lifted_structure")


def batch(seed=0):
    """Eight rows, three pairs of one identity, one row of padding; the last is misplaced."""
    random = np.random.default_rng(seed)
    labels = np.array([0, 3, 3, -1, 8, 2, 0, 2], np.int32)
    weights = random.normal(size=(CLASSES, DIM)).astype(np.float32)
    embeddings = random.normal(size=(len(labels), DIM)) + weights[labels]
    embeddings[7] -= 3 * weights[2]
    return embeddings.astype(np.float32), weights, labels


def row_keys(seed=1):
    return jax.random.split(jax.random.key(seed), 8)


def run(name, chosen=None, *, step=0, seed=0, draw=1, params=None, state=None):
    """(losses, state, metrics, params) of an objective on the batch, with the batch's weights."""
    embeddings, weights, labels = batch(seed)
    made = objectives.objective(name, chosen)
    fresh, carried = made.init(jax.random.key(0), CLASSES, DIM)
    if params is None:
        params = fresh
        if name not in (*WITHOUT, "subcenter_arcface"):
            params["weights"] = jnp.asarray(weights)
    values, state, metrics = made.apply(
        params, carried if state is None else state, jnp.asarray(embeddings), jnp.asarray(labels),
        keys=row_keys(draw), step=step, classes=losses.Classes(),
    )  # fmt: skip
    return values, state, metrics, params


def loss_keywords(name, chosen=None):
    """What of an objective's hyperparameters is its loss's own."""
    takes = inspect.signature(getattr(losses, name)).parameters
    values = {**objectives.hyperparameters(name), **(chosen or {})}
    return {part: value for part, value in values.items() if part in takes}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_is_its_loss_and_counts_hits(name):
    embeddings, weights, labels = map(jnp.asarray, batch())
    values, state, metrics, _ = run(name)
    call = functools.partial(getattr(losses, name), **loss_keywords(name))
    if name in ("l_softmax", "sphereface"):
        anneal = objectives.hyperparameters(name)
        blend = losses.annealed_blend(
            1, **{part.removeprefix("anneal_"): anneal[part] for part in anneal if part[0] == "a"}
        )
        call = functools.partial(call, blend=blend)
    first = {
        "curricularface": 0.0,
        "adaface": losses.AdaFaceStatistics(),
        "adacos": losses.adacos_initial_scale(CLASSES),
        "sphereface2": losses.sphereface2_initial_bias(CLASSES),
        "uniface": losses.uniface_initial_bias(CLASSES),
        "elasticface": jnp.stack([losses.elastic_margins(key, 1)[0] for key in row_keys()]),
    }
    extra = (first[name],) if name in first else ()
    expected = call(embeddings, weights, labels, *extra)
    if state:
        expected, moved = expected
        for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    embeddings, weights, labels = batch()
    raw = name in ("softmax", "l_softmax")
    lengths = 1 if raw else np.linalg.norm(weights, axis=1)
    best = np.argmax(embeddings @ weights.T / lengths, axis=1)
    assert float(metrics["correct"]) == ((best == labels) & (labels >= 0)).sum()
    assert best[7] != labels[7]


def test_subcenters_are_kept_by_the_objective():
    embeddings, _, labels = map(jnp.asarray, batch())
    values, _, _, params = run("subcenter_arcface", {"centers": 2})
    assert params["weights"].shape == (CLASSES, 2, DIM)
    expected = losses.subcenter_arcface(embeddings, params["weights"], labels)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_deepid2_is_identification_and_verification():
    embeddings, weights, labels = batch()
    identification = reference.softmax(embeddings, weights, labels)
    for distance, order in (("l2", 2), ("l1", 1)):
        chosen = {"weight": 0.5, "margin": 4.0, "distance": distance}
        values, _, _, _ = run("deepid2", chosen)
        for i, label in enumerate(labels):
            pairs = []
            for j, other in enumerate(labels):
                if i == j or -1 in (label, other):
                    continue
                apart = np.linalg.norm((embeddings[i] - embeddings[j]).astype(np.float64), order)
                same = label == other
                pairs.append(0.5 * (apart if same else max(0.0, 4.0 - apart)) ** 2)
            expected = identification[i] + 0.5 * (np.mean(pairs) if pairs else 0)
            np.testing.assert_allclose(values[i], expected, rtol=1e-5)
    values, _, _, params = run("deepid2", {"distance": "cosine"})
    assert {"pair_weight", "pair_bias"} <= set(params)
    assert np.isfinite(values).all()


def test_center_loss_pulls_to_the_old_centres_and_moves_them():
    embeddings, weights, labels = batch()
    centers = np.random.default_rng(1).normal(size=(CLASSES, DIM)).astype(np.float32)
    state = {"centers": jnp.asarray(centers)}
    values, moved, _, _ = run("center_loss", {"weight": 0.3, "rate": 0.4}, state=state)
    away = np.sum((embeddings - centers[labels]) ** 2, axis=1) / 2
    expected = reference.softmax(embeddings, weights, labels) + 0.3 * np.where(labels >= 0, away, 0)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    for j in range(CLASSES):
        rows = embeddings[labels == j]
        step = np.sum(centers[j] - rows, axis=0) / (1 + len(rows))
        np.testing.assert_allclose(moved["centers"][j], centers[j] - 0.4 * step, atol=1e-6)


def test_facenet_is_the_mean_over_the_mined_triplets():
    embeddings, _, labels = map(jnp.asarray, batch())
    values, _, metrics, params = run("facenet", {"mining": "all"})
    sums, counts = losses.batch_triplet(embeddings, labels, mining="all")
    np.testing.assert_allclose(values.sum() / 7, float(sums.sum()) / float(counts.sum()), rtol=1e-6)
    assert int(metrics["triplets"]) == int(counts.sum())
    assert params == {}


def test_n_pairs_is_the_mean_over_the_pairs_and_holds_lengths_down():
    embeddings, _, labels = map(jnp.asarray, batch())
    values, _, _, _ = run("n_pairs", {"regularizer": 0.1})
    squares = np.sum(np.square(embeddings), axis=1)[labels >= 0].mean()
    expected = losses.n_pairs(embeddings, labels).sum() / 3 + 0.1 * squares
    np.testing.assert_allclose(values.sum() / 7, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["circle_pairs", "multi_similarity", "supcon", "lifted_structure"])
def test_a_pair_loss_is_itself(name):
    embeddings, _, labels = map(jnp.asarray, batch())
    values, _, metrics, params = run(name)
    expected = getattr(losses, name)(embeddings, labels, **loss_keywords(name))
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    embeddings, _, labels = batch()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    similarity[:, 3] = -np.inf
    hits = (labels[np.argmax(similarity, axis=1)] == labels) & (labels >= 0)
    assert float(metrics["correct"]) == hits.sum()
    assert params == {}


@pytest.mark.parametrize("name", ["proxy_nca", "proxy_anchor"])
def test_a_proxy_loss_is_itself(name):
    embeddings, weights, labels = map(jnp.asarray, batch())
    values, _, _, params = run(name)
    assert set(params) == {"weights"}
    expected = getattr(losses, name)(embeddings, weights, labels, **loss_keywords(name))
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("name", objectives.LOSSES)
def test_on_four_devices_it_is_the_same(name):
    """Losses, state, metrics and every gradient, with class arrays padded to the devices."""
    embeddings, _, labels = batch()
    made = objectives.objective(name)
    params, state = made.init(jax.random.key(0), 11, DIM)  # one row of padding over 4 devices
    random = np.random.default_rng(2)
    params, state = jax.tree.map(
        lambda a: jnp.asarray(random.normal(size=a.shape), jnp.float32) if a.ndim else a,
        (params, state),
    )

    def loss(params, embeddings, state, labels, keys, axis_name=None):
        values, state, metrics = made.apply(
            params, state, embeddings, labels, keys=keys, step=jnp.int32(7),
            classes=losses.Classes(axis_name=axis_name, num_classes=11),
        )  # fmt: skip
        return values.sum(), (values, state, metrics)

    def both(params, embeddings, state, labels, keys, axis_name=None):
        gradients, out = jax.grad(loss, (0, 1), has_aux=True)(
            params, embeddings, state, labels, keys, axis_name
        )
        if axis_name:
            shared, metrics = jax.lax.psum((gradients[0], out[2]), axis_name)
            own = jax.tree.map(lambda g, s: g if g.ndim else s, gradients[0], shared)
            gradients, out = (own, gradients[1]), (*out[:2], metrics)
        return gradients, out

    arrays = params, jnp.asarray(embeddings), state, jnp.asarray(labels), row_keys()
    dense = jax.jit(both)(*arrays)
    split = PartitionSpec("d")
    pad = jax.tree.map(lambda a: jnp.concatenate([a, a[:1]]) if a.ndim else a, (params, state))
    specs = jax.tree.map(lambda a: split if a.ndim else PartitionSpec(), (params, state))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("d",))
    sharded = jax.jit(
        jax.shard_map(
            functools.partial(both, axis_name="d"),
            mesh=mesh,
            in_specs=(specs[0], split, specs[1], split, split),
            out_specs=((specs[0], split), (split, specs[1], PartitionSpec())),
            check_vma=False,
        )
    )(pad[0], arrays[1], pad[1], *arrays[3:])
    for got, want in zip(jax.tree.leaves(sharded), jax.tree.leaves(dense), strict=True):
        got = got[: len(want)] if want.ndim else got
        bound = 2e-5 * max(1.0, float(jnp.max(jnp.abs(want))))
        np.testing.assert_allclose(got, want, atol=bound)


def test_hyperparameters_are_read_from_the_losses():
    assert objectives.hyperparameters("cosface") == {
        "scale": 64.0, "margin": 0.35, "margin_warmup": 0, "scale_warmup": 0,
    }  # fmt: skip
    assert objectives.hyperparameters("p2sgrad") == {}
    for name in objectives.LOSSES:
        for parameter, value in objectives.hyperparameters(name).items():
            takes = inspect.signature(getattr(losses, name, dict.get)).parameters
            if parameter in takes:
                assert takes[parameter].default == value
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    values, _, _, _ = run("cosface", {"margin": 0.1})
    expected = losses.cosface(embeddings, weights, labels, margin=0.1)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_a_loss_is_added_by_one_row(monkeypatch):
    def own_loss(embeddings, weights, labels, *, scale=16.0, depth=0.5, classes=None):
        rule = margins.cosface(scale=scale, margin=depth)
        return losses.margin_softmax(embeddings, weights, labels, rule, classes=classes)

    def own_rule(*, scale, depth):
        return margins.cosface(scale=scale, margin=depth)

    row = table.Loss(table.classification, own_loss, own_rule)
    monkeypatch.setitem(table.TABLE, "own", row)
    assert set(objectives.hyperparameters("own")) == {"scale", "depth", "scale_warmup"}
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    values, _, _, _ = run("own", {"depth": 0.1})
    expected = losses.cosface(embeddings, weights, labels, scale=16.0, margin=0.1)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


REMEDIES = losses.Remedies(
    class_margins=np.linspace(0.1, 0.4, CLASSES),
    class_weights=np.linspace(0.5, 2.0, CLASSES),
    smoothing=0.1,
    negative_cap=0.3,
)


def test_remedies_reach_the_loss_and_their_class_arrays_are_state():
    embeddings, weights, labels = map(jnp.asarray, batch())
    for ramp, step, share in (({}, 0, 1.0), ({"margin_warmup": 10}, 4, 0.4)):
        made = objectives.objective("curricularface", ramp, remedies=REMEDIES)
        params, state = made.init(jax.random.key(0), CLASSES, DIM)
        params["weights"] = weights
        values, new, _ = made.apply(
            params, state, embeddings, labels, keys=None, step=step, classes=losses.Classes()
        )
        by_class = {name: state[name] for name in ("class_margins", "class_weights")}
        assert {name: new[name] for name in by_class} == by_class
        scaled = {**by_class, "class_margins": share * by_class["class_margins"]}
        expected, t = losses.curricularface(
            embeddings, weights, labels, 0.0, **scaled, smoothing=0.1, negative_cap=0.3
        )
        np.testing.assert_allclose(values, expected, rtol=1e-5)
        assert new["t"] == t


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("softmax", {"negative_cap": 0.5}, "softmax does not take negative_cap; it takes class_w"),
        ("uniface", {"smoothing": 0.1}, "uniface does not take smoothing"),
        ("deepid2", {"class_weights": np.ones(4)}, "class_weights; it takes none of its kind"),
        ("supcon", {"smoothing": 0.1}, "it takes none of its kind"),
        ("arcface", {"smoothing": 1.0}, "^the loss arcface: smoothing is 1.0"),
    ],
)
def test_remedies_that_a_loss_does_not_take_are_refused(name, given, message):
    with pytest.raises(UserError, match=message):
        objectives.objective(name, remedies=losses.Remedies(**given))


def test_what_a_loss_is_fit_for():
    pairs = ("facenet", "circle_pairs", "multi_similarity", "supcon", "n_pairs", "lifted_structure")
    weightless = (*pairs, "proxy_nca", "proxy_anchor")
    for name in objectives.LOSSES:
        assert objectives.needs_pairs(name) == (name in pairs)
        assert objectives.has_class_weights(name) == (name not in weightless)
        assert objectives.can_sample(name) == (name not in (*weightless, "center_loss"))


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (30, 0.3), (100, 1.0), (500, 1.0)])
def test_margin_and_scale_rise_over_the_first_steps(step, share):
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    chosen = {"scale": 33.0, "margin": 0.4, "margin_warmup": 100}
    values, _, _, _ = run("arcface", chosen, step=step)
    expected = losses.arcface(embeddings, weights, labels, scale=33.0, margin=0.4 * share)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    chosen = {"scale": 33.0, "margin": 0.4, "scale_warmup": 100}
    values, _, _, _ = run("cosface", chosen, step=jnp.int32(step))
    expected = losses.cosface(embeddings, weights, labels, scale=1 + 32 * share, margin=0.4)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    chosen = {"margin": 1.6, "margin_warmup": 100}  # a factor: 1 is no margin
    values, _, _, _ = run("sphereface_r", chosen, step=step)
    expected = losses.sphereface_r(embeddings, weights, labels, margin=1 + 0.6 * share)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_the_annealing_counts_from_one():
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    values, _, _, _ = run("sphereface", step=jnp.int32(9))
    blend = max(5.0, 1000.0 / (1 + 0.12 * 10))
    expected = losses.sphereface(embeddings, weights, labels, blend=blend)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_learned_scale_is_a_parameter_with_a_gradient():
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    made = objectives.objective("normface", {"learn_scale": True, "scale": 10.0})
    params, _ = made.init(jax.random.key(0), CLASSES, DIM)
    assert float(params["scale"]) == 10.0

    def mean(scale):
        return made.apply(
            {"weights": weights, "scale": scale},
            {},
            embeddings,
            labels,
            keys=None,
            step=0,
            classes=losses.Classes(),
        )[0].sum()

    up, down = (reference.normface(*batch(), scale=s).sum() for s in (10.001, 9.999))
    np.testing.assert_allclose(jax.grad(mean)(jnp.float32(10)), (up - down) / 0.002, rtol=1e-3)
    np.testing.assert_allclose(mean(jnp.float32(-5)), mean(jnp.float32(0.01)))


def test_elastic_margins_differ_from_step_to_step():
    one, _, _, _ = run("elasticface", draw=1)
    again, _, _, _ = run("elasticface", draw=1)
    other, _, _, _ = run("elasticface", draw=2)
    np.testing.assert_array_equal(one, again)
    assert (np.asarray(one) != np.asarray(other)).any()


def test_elastic_margins_want_keys():
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    made = objectives.objective("elasticface")
    with pytest.raises(ValueError, match="give keys, one per row"):
        made.apply(
            {"weights": weights}, {}, embeddings, labels,
            keys=None, step=0, classes=losses.Classes(),
        )  # fmt: skip


def test_bfloat16_products_give_float32_losses():
    embeddings, weights, labels = (jnp.asarray(a) for a in batch())
    low = objectives.objective("arcface", dtype=jnp.bfloat16)
    got, _, _ = low.apply(
        {"weights": weights}, {}, embeddings, labels, keys=None, step=0, classes=losses.Classes()
    )
    assert got.dtype == jnp.float32
    rounded = [a.astype(jnp.bfloat16) for a in (embeddings, weights)]
    np.testing.assert_array_equal(got, losses.arcface(*rounded, labels))
    assert (np.asarray(got) != np.asarray(losses.arcface(embeddings, weights, labels))).any()


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("arcfase", {}, "no loss 'arcfase'; choose one of softmax"),
        ("normface", {"margin": 0.5}, "normface has no margin: its hyperparameters are scale"),
        ("softmax", {"scale": 2.0}, "softmax has no scale: its hyperparameters are none"),
        ("arcface", {"beyond_pi": "round"}, "^the loss arcface: beyond_pi must be one of plain"),
        ("arcface", {"gradient": "none"}, "must be one of exact"),
        ("mv_softmax", {"base": "cos"}, "base must be one of arc, am"),
        ("l_softmax", {"margin": 2.5}, "margin must be a whole number"),
        ("deepid2", {"distance": "l3"}, "distance must be one of l2, l1, cosine"),
        ("facenet", {"mining": "soft"}, "mining must be one of"),
    ],
)
def test_what_does_not_exist_is_refused(name, chosen, message):
    with pytest.raises(UserError, match=message):
        objectives.objective(name, chosen)
