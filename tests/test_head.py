"""Ways to train the head: all classes, block by block, a sample, kept whole or split."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import tree_utils

from facejax import objectives
from facejax.data.augment import normalize
from facejax.losses import Classes, Remedies
from facejax.training import head, optimizer, state, step
from tests import reference_remedies, toy
from tests.devices import WAYS

CLASSES, ROWS = 61, 8
DECAY, MOMENTUM = 1e-2, 0.9
RATE = optax.linear_schedule(0.05, 0.2, 4)  # a schedule shows where its count goes wrong
# At a scale of 64 the rounding of a cosine alone is 1e-5 of CurricularFace's gradient.
CHOSEN = {"normface": {"learn_scale": True}, "curricularface": {"scale": 16.0}}
LOSSES = ("arcface", "softmax", "normface", "subcenter_arcface", "curricularface")
each_loss = pytest.mark.parametrize(
    ("loss", "parallel"), list(zip(LOSSES, itertools.cycle(WAYS), strict=False))
)


def batches(count):
    return toy.batches(count, ROWS, CLASSES)


def parts(loss, remedies=Remedies()):  # noqa: B008, immutable
    objective = objectives.objective(loss, CHOSEN.get(loss, {}), remedies=remedies)
    tx = optimizer.optimizer("sgd", RATE, momentum=MOMENTUM, weight_decay=DECAY)
    return toy.network(step.AXIS), objective, tx, head.SGD(RATE, MOMENTUM, DECAY)


def split(num_classes=CLASSES, block_size=None):
    return Classes(block_size, step.AXIS, num_classes)


def run(
    way,
    parallel="shard_map",
    devices=4,
    *,
    loss="arcface",
    start=None,
    skip=0,
    block_size=None,
    sharded=True,
    remedies=Remedies(),  # noqa: B008, immutable
    **sample,
):
    """The state after 3 batches (or those after `skip`), and the metrics of each step."""
    network, objective, tx, sgd = parts(loss, remedies)
    classes = split(block_size=block_size)
    if way == "whole":
        way_of = head.whole(tx, classes=classes)
    elif way == "fused":
        way_of = head.fused(tx, sgd, classes=classes)
    else:
        if sample.get("lazy_decay"):
            tx = head.remembering(tx)
        way_of = head.sampled(tx, sgd, classes=classes, **sample)
    first = toy.fresh(network, objective, tx, CLASSES, slices=devices)
    first = first if start is None else start
    body = step.make_body(
        network,
        objective,
        way_of,
        lambda keys, images: normalize(images),
        key=jax.random.key(1),
        sharded=sharded,
    )
    chosen = jax.devices()[:devices]
    inputs = list(batches(3))[skip:]
    stepper = step.build_step(
        body, first, inputs[0], parallel=parallel, devices=chosen, sharded=sharded
    )
    current, metrics = stepper.enter(jax.tree.map(jnp.copy, first)), []
    for batch in inputs:
        current, values = stepper.run(current, stepper.feed(batch))
        metrics.append({name: float(value) for name, value in values.items()})
    return stepper.leave(current), metrics


@functools.cache
def whole(loss):
    return run("whole", loss=loss)


def assert_same(got, want, *, but=()):
    toy.assert_close(got[0], want[0])
    for a, b in zip(got[1], want[1], strict=True):
        for name in set(a) - set(but):
            assert a[name] == pytest.approx(b[name], rel=1e-4), name


@each_loss
def test_fused_is_whole(loss, parallel):
    fused = run("fused", parallel, loss=loss, block_size=5)
    assert_same(fused, whole(loss), but=["gradient_norm"])
    assert fused[1][0]["gradient_norm"] < whole(loss)[1][0]["gradient_norm"], "not the head's"


@pytest.mark.parametrize("loss", LOSSES)
def test_streamed_is_dense(loss):
    assert_same(run("whole", loss=loss, block_size=5), whole(loss))


@pytest.mark.parametrize("parallel", WAYS)
@pytest.mark.parametrize("way", ["whole", "fused"])
def test_unsplit_is_split(parallel, way):
    """Class weights whole on each device, which computes with its slice of them."""
    for loss in ("softmax", "curricularface"):
        finished = run(way, parallel, loss=loss, block_size=5, sharded=False)
        assert finished[0].params["head"]["weights"].sharding.is_fully_replicated
        assert_same(finished, whole(loss), but=["gradient_norm"] if way == "fused" else [])


@each_loss
def test_a_sample_of_everything_is_whole(loss, parallel):
    assert_same(run("sampled", parallel, loss=loss, rate=1.0), whole(loss))


@pytest.mark.parametrize("parallel", WAYS)
@pytest.mark.parametrize("loss", ["arcface", "softmax"])
def test_a_sample_alone_is_touched(loss, parallel):
    """The rest is the same to the bit; the sample moves as if there were no other classes."""
    before, _ = whole(loss)  # has momentum
    before = jax.tree.map(np.asarray, before)
    after, metrics = run("sampled", parallel, loss=loss, rate=0.5, start=before, skip=2)
    after = jax.tree.map(np.asarray, after)
    traces = [tree_utils.tree_get(s.opt_state, "trace")["head"] for s in (before, after)]
    touched = np.any(traces[0]["weights"] != traces[1]["weights"], axis=1)
    batch = list(batches(3))[2]
    np.testing.assert_array_equal(touched.reshape(4, 16).sum(axis=1), [8] * 4)
    assert touched[batch["label"][batch["label"] >= 0]].all()
    assert not touched[CLASSES:].any(), "padding was drawn"
    for name in before.params["head"]:
        for old, new in (
            (before.params["head"][name], after.params["head"][name]),
            (traces[0][name], traces[1][name]),
        ):
            np.testing.assert_array_equal(old[~touched], new[~touched])

    _, objective, tx, _ = parts(loss)
    index = np.flatnonzero(touched)
    labels = np.where(batch["label"] < 0, -1, np.searchsorted(index, batch["label"]))
    params = {**before.params, "head": {k: v[index] for k, v in before.params["head"].items()}}
    trace = tree_utils.tree_get(before.opt_state, "trace")
    trace = {**trace, "head": {name: leaf[index] for name, leaf in trace["head"].items()}}
    opt_state = tree_utils.tree_set(before.opt_state, trace=trace)

    def mean_loss(params):
        variables = {"params": params["backbone"], "batch_stats": before.batch_stats}
        embeddings, _ = toy.network().apply(variables, normalize(batch["image"]), train=True)
        losses, _, _ = objective.apply(
            params["head"],
            {},
            embeddings,
            jnp.asarray(labels),
            keys=None,
            step=0,
            classes=Classes(),
        )
        return losses.sum() / (ROWS - 1)

    loss_value, gradients = jax.value_and_grad(mean_loss)(params)
    updates, _ = tx.update(gradients, opt_state, params)
    want = optax.apply_updates(params, updates)
    assert metrics[0]["loss"] / (ROWS - 1) == pytest.approx(float(loss_value), rel=1e-5)
    got = {k: v[index] for k, v in after.params["head"].items()}
    toy.assert_close({**after.params, "head": got}, want)


@pytest.mark.parametrize("devices", [1, 4])
def test_sampled_classes_bring_their_margins_and_weights(devices):
    """The loss of a step is the formula's on the sampled rows; what is kept by class stays."""
    remedies = Remedies(np.linspace(0.1, 0.6, CLASSES), np.linspace(2.0, 0.2, CLASSES))
    start = toy.fresh(*parts("arcface", remedies)[:3], CLASSES, slices=devices)
    start = jax.tree.map(np.asarray, start)
    after, metrics = run(
        "sampled", devices=devices, remedies=remedies, rate=0.5, start=start, skip=2
    )
    for name, values in start.objective_state.items():
        np.testing.assert_array_equal(after.objective_state[name], values)
    trace = tree_utils.tree_get(after.opt_state, "trace")["head"]["weights"]
    index = np.flatnonzero(np.any(trace, axis=1))
    assert len(index) < 0.6 * CLASSES
    batch = list(batches(3))[2]
    variables = {"params": start.params["backbone"], "batch_stats": start.batch_stats}
    embeddings, _ = toy.network().apply(variables, normalize(batch["image"]), train=True)
    want = reference_remedies.remedied(
        reference_remedies.arcface,
        embeddings,
        start.params["head"]["weights"][index],
        np.where(batch["label"] < 0, -1, np.searchsorted(index, batch["label"])),
        scale=64.0,
        margin=None,
        class_margins=remedies.class_margins[index],
        class_weights=remedies.class_weights[index],
    )
    assert metrics[0]["loss"] == pytest.approx(want.sum(), rel=1e-5)


def test_samples_differ_from_step_to_step():
    one, _ = run("sampled", rate=0.5)
    trace = np.asarray(tree_utils.tree_get(one.opt_state, "trace")["head"]["weights"])
    seen = np.any(trace != 0, axis=1)
    assert seen.sum() > 1.5 * 32  # three samples of 32


def test_lazy_decay_makes_up_for_what_was_missed():
    """test_row_sgd.py compares rows with a plain loop; here, that the step keeps the count."""
    lazy, _ = run("sampled", rate=0.5, lazy_decay=True)
    eager, _ = run("sampled", rate=0.5)
    last = tree_utils.tree_get(lazy.opt_state, "last_sampled")["head"]
    assert not last.sharding.is_fully_replicated
    assert set(np.unique(last)) == {0, 1, 2, 3}
    lazy, eager = (np.asarray(s.params["head"]["weights"]) for s in (lazy, eager))
    always = np.asarray(last) == 0
    np.testing.assert_array_equal(lazy[always], eager[always])
    assert np.any(lazy != eager)


@pytest.mark.parametrize("parallel", WAYS)
def test_thirty_steps_on_eight_devices_are_those_on_one(parallel):
    """The loss curve, to 1e-4 of it, whatever the head is split and cut into."""
    curves = []
    for devices, way in ((1, "whole"), (8, "whole"), (8, "fused")):
        network, objective, tx, sgd = parts("cosface")
        classes = split(block_size=3 if devices > 1 else None)
        way_of = (
            head.fused(tx, sgd, classes=classes)
            if way == "fused"
            else head.whole(tx, classes=classes)
        )
        first = toy.fresh(network, objective, tx, CLASSES, slices=devices)
        body = step.make_body(
            network,
            objective,
            way_of,
            lambda keys, images: normalize(images),
            key=jax.random.key(1),
        )
        inputs = list(batches(30))
        stepper = step.build_step(
            body, first, inputs[0], parallel=parallel, devices=jax.devices()[:devices]
        )
        current, losses = stepper.enter(first), []
        for batch in inputs:
            current, metrics = stepper.run(current, stepper.feed(batch))
            losses.append(float(metrics["loss"]))
        curves.append(losses)
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
    np.testing.assert_allclose(curves[2], curves[0], rtol=1e-4)


def test_fused_needs_no_second_array_of_the_classes():
    """On the device, the step's temporaries are smaller than one array of its class weights."""
    many, devices = 40_000, jax.devices()[:4]
    network, objective, tx, sgd = parts("arcface")
    classes = split(many, block_size=500)
    shapes = jax.eval_shape(lambda: toy.fresh(network, objective, tx, many, slices=4))
    batch = next(batches(1))
    temporaries = {}
    for name, way_of in {
        "fused": head.fused(tx, sgd, classes=classes),
        "whole": head.whole(tx, classes=classes),
    }.items():
        body = step.make_body(
            network,
            objective,
            way_of,
            lambda keys, images: normalize(images),
            key=jax.random.key(1),
        )
        stepper = step.build_step(body, shapes, batch, parallel="shard_map", devices=devices)
        temporaries[name] = stepper.run.memory_analysis().temp_size_in_bytes
    one = many // 4 * toy.DIM * 4
    assert temporaries["fused"] < one
    assert temporaries["whole"] > one


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_layer_of_the_backbone_may_be_called_head(name):
    """Only the objective's arrays are split, in the params and in all that mirrors them."""
    tx = head.remembering(optimizer.optimizer(name, RATE))
    objective = objectives.objective("center_loss")
    make = functools.partial(toy.fresh, toy.layer_norm_network(), objective, tx, CLASSES)
    first = jax.eval_shape(make)
    rows = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, own in jax.tree_util.tree_leaves_with_path(state.per_class(first))
        if own
    ]
    weights = [path for path in rows if path.endswith("head/weights")]
    assert "params/head/weights" in weights
    assert len(weights) == {"sgd": 2, "adamw": 3}[name]
    assert len(rows) == 2 * len(weights) + 2  # as many biases; centres, when last sampled
    assert not any("backbone" in path for path in rows)
    kept = jax.tree_util.tree_leaves_with_path(first)
    assert sum("['backbone']['head']" in jax.tree_util.keystr(path) for path, _ in kept) == (
        2 * len(weights)
    ), "kernel and bias"


def test_statistics_of_a_layer_called_head_are_not_split():
    first = toy.fresh(*parts("softmax")[:3], CLASSES).replace(
        batch_stats={"head": {"mean": jnp.zeros(3)}}
    )
    assert not any(jax.tree.leaves(state.per_class(first).batch_stats))


def test_a_state_is_split_by_name():
    network, objective, tx, _ = parts("softmax")
    first = toy.fresh(network, objective, head.remembering(tx), CLASSES)
    rows = [leaf for leaf in jax.tree.leaves(state.per_class(first)) if leaf]
    assert len(rows) == 5  # weights and bias, the momentum of both, when they were last sampled
    assert not any(jax.tree.leaves(state.split_leaves(first, sharded=False)))
