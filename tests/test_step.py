"""The step on 1, 4 and 8 devices, by pmap and by shard_map: the same numbers, one trace."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facejax import compilation, objectives, recognition
from facejax.data.augment import augment, normalize
from facejax.errors import UserError
from facejax.losses import Classes
from facejax.training import head, optimizer, state, step
from tests import toy
from tests.devices import WAYS, layout

CLASSES, ROWS = 13, 16


def batches(count=3):
    return toy.batches(count, ROWS, CLASSES)


def plain(keys, images):
    del keys
    return normalize(images)


def run(
    parallel,
    devices,
    *,
    loss="arcface",
    tx=None,
    network=None,
    augmentation=plain,
    accumulate=1,
    clip_norm=0.0,
    classes=None,
    count=3,
    traces=None,
):
    """Three steps; (state with [C, ...] arrays, metrics of each step, state in device form)."""
    network = network or toy.network(step.AXIS)
    objective = objectives.objective(loss)
    tx = tx or optimizer.optimizer("sgd", optax.constant_schedule(0.1), weight_decay=1e-2)
    first = toy.fresh(network, objective, tx, CLASSES, slices=devices)
    body = step.make_body(
        network,
        objective,
        head.whole(tx, classes=classes or layout(CLASSES)),
        augmentation,
        key=jax.random.key(1),
        accumulate=accumulate,
        clip_norm=clip_norm,
    )
    if traces is not None:
        body = chex.assert_max_traces(body, n=traces)
    inputs = list(batches(count))
    stepper = step.build_step(
        body, first, inputs[0], parallel=parallel, devices=jax.devices()[:devices]
    )
    current, metrics = stepper.enter(first), []
    for batch in inputs:
        current, values = stepper.run(current, stepper.feed(batch))
        metrics.append({name: float(value) for name, value in values.items()})
    return stepper.leave(current), metrics, current


def trimmed(finished):
    """Without the rows that pad the classes."""
    return jax.tree.map(
        lambda leaf, own: np.asarray(leaf)[: CLASSES if own else None] if leaf.ndim else leaf,
        finished,
        state.per_class(finished),
    )


@functools.cache
def one_device(loss):
    return run("pmap", 1, loss=loss)


@pytest.mark.parametrize(("devices", "loss"), [(4, "arcface"), (8, "arcface"), (8, "softmax")])
@pytest.mark.parametrize("parallel", WAYS)
def test_many_devices_are_one(parallel, devices, loss):
    one, metrics_of_one, _ = one_device(loss)
    many, metrics_of_many, _ = run(parallel, devices, loss=loss)
    toy.assert_close(trimmed(many), trimmed(one))
    for a, b in zip(metrics_of_many, metrics_of_one, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize("parallel", WAYS)
def test_replicated_leaves_are_equal_on_every_device(parallel):
    _, _, current = run(parallel, 8, network=toy.network(step.AXIS, dropout=0.3))
    for path, leaf in jax.tree_util.tree_leaves_with_path(current):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        if leaf.sharding.is_fully_replicated:
            for shard in shards[1:]:
                np.testing.assert_array_equal(shard, shards[0], err_msg=str(path))
        else:
            assert any(getattr(entry, "key", "") == "head" for entry in path)
    weights = current.params["head"]["weights"]
    assert not weights.sharding.is_fully_replicated


@pytest.mark.parametrize("parallel", WAYS)
def test_the_step_is_the_gradient_of_the_mean_loss(parallel):
    """One device's update by hand: dense loss, plain jax.grad, optax on the whole."""
    network, objective = toy.network(), objectives.objective("cosface")
    tx = optax.sgd(0.1)
    first = toy.fresh(toy.network(step.AXIS), objective, tx, CLASSES)
    batch = next(batches())

    def mean_loss(params):
        variables = {"params": params["backbone"], "batch_stats": first.batch_stats}
        embeddings, _ = network.apply(variables, normalize(batch["image"]), train=True)
        losses, _, _ = objective.apply(
            params["head"],
            {},
            embeddings,
            jnp.asarray(batch["label"]),
            keys=None,
            step=0,
            classes=Classes(),
        )
        return losses.sum() / float((batch["label"] >= 0).sum())

    gradient = jax.jit(jax.grad(mean_loss))(first.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, first.params, gradient)
    got, metrics, _ = run(parallel, 8, loss="cosface", tx=tx, count=1)
    toy.assert_close(trimmed(got).params, expected)
    squares = sum(
        np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(gradient)
    )
    assert metrics[0]["gradient_norm"] == pytest.approx(np.sqrt(squares), rel=1e-4)
    assert metrics[0]["rows"] == ROWS - 1


@pytest.mark.parametrize("parallel", WAYS)
def test_accumulation_divides_by_all_rows(parallel):
    """Micro-batches of unequal numbers of real rows give the gradient of the whole batch."""

    def network(variables, images, *, train, keys=None):
        embeddings, _ = toy.network().apply(variables, images, train=False)  # no batch statistics
        return embeddings, variables["batch_stats"]

    still = toy.network()._replace(apply=network)
    whole, _, _ = run(parallel, 2, network=still)
    parts, _, _ = run(parallel, 2, network=still, accumulate=4)
    toy.assert_close(parts, whole)


def test_clipping_bounds_the_norm_over_all_devices():
    tx = optax.sgd(1.0)
    network = toy.network(step.AXIS)
    before, metrics, _ = run("pmap", 8, tx=tx, count=1)
    norm = metrics[0]["gradient_norm"]
    clipped, _, _ = run("pmap", 8, tx=tx, count=1, clip_norm=norm / 4)
    start = toy.fresh(network, objectives.objective("arcface"), tx, CLASSES, slices=8)
    full = jax.tree.map(jnp.subtract, before.params, start.params)
    quarter = jax.tree.map(jnp.subtract, clipped.params, start.params)
    toy.assert_close(quarter, jax.tree.map(lambda x: x / 4, full), 1e-4)


def test_decay_leaves_batchnorm_prelu_and_biases_alone():
    network = toy.network()
    params = {
        "backbone": network.init(jax.random.key(0), jnp.zeros((1, toy.SIZE, toy.SIZE, 3)))[
            "params"
        ],
        "head": objectives.objective("softmax").init(jax.random.key(1), CLASSES, toy.DIM)[0],
    }
    tx = optimizer.optimizer("sgd", optax.constant_schedule(1.0), momentum=0.0, weight_decay=0.5)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        name = path[-1].key
        parameter = params
        for entry in path:
            parameter = parameter[entry.key]
        expected = -0.5 * parameter if name in ("kernel", "weights") else 0 * parameter
        np.testing.assert_array_equal(update, expected, err_msg=str(path))


@pytest.mark.parametrize("parallel", WAYS)
def test_the_step_is_traced_once(parallel):
    chex.clear_trace_counter()  # it goes by the function's name
    run(parallel, 8, traces=1)


@pytest.mark.parametrize("parallel", WAYS)
def test_the_step_is_compiled_with_the_options(parallel, monkeypatch):
    """An option that nobody knows is refused by the compiler, so it has been handed on."""
    monkeypatch.setattr(compilation, "compiler_options", lambda: {"xla_no_such_option": "1"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        run(parallel, 2)
    images = jnp.zeros((8, toy.SIZE, toy.SIZE, 3), jnp.uint8)
    variables = toy.network().init(jax.random.key(0), normalize(images))
    embedder = recognition.make_embedder(toy.network().apply)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        embedder(variables, images)


def test_augmentation_differs_by_step_and_row():
    """The key an image's augmentation sees is never the same twice."""
    seen = []

    def spy(keys, images):
        draws = jax.vmap(jax.random.uniform)(keys)
        jax.debug.callback(lambda values: seen.extend(values.tolist()), draws)
        return normalize(images)

    run("pmap", 4, augmentation=spy)
    jax.effects_barrier()
    assert len(seen) == len(set(seen)) == ROWS * 3


@functools.cache
def random_run(parallel, devices, accumulate=1):
    """A run with all that can be drawn; (state, metrics, the views of all images, by image)."""
    seen = {}

    def record(images, views):
        seen.update(
            {np.asarray(i).tobytes(): np.array(v) for i, v in zip(images, views, strict=True)}
        )

    def spy(keys, images):
        views = augment(keys, images, **toy.EVERYTHING)
        jax.debug.callback(record, images, views)
        return views

    network = toy.network(step.AXIS, dropout=0.3)
    finished, metrics, _ = run(
        parallel,
        devices,
        loss="elasticface",
        network=network,
        augmentation=spy,
        accumulate=accumulate,
    )
    jax.effects_barrier()
    return trimmed(finished), metrics, np.stack([seen[image] for image in sorted(seen)])


@pytest.mark.parametrize(
    ("parallel", "devices"),
    [
        ("pmap", 4),
        ("shard_map", 8),
        pytest.param("pmap", 8, marks=pytest.mark.slow),
        pytest.param("shard_map", 1, marks=pytest.mark.slow),
        pytest.param("shard_map", 4, marks=pytest.mark.slow),
    ],
)
def test_what_is_drawn_is_the_same_on_any_devices(parallel, devices):
    """Augmented pixels, dropout and elastic margins go by the row in the whole batch."""
    one, metrics_of_one, views_of_one = random_run("pmap", 1)
    many, metrics, views = random_run(parallel, devices)
    assert len(views) == 3 * ROWS
    np.testing.assert_allclose(views, views_of_one, atol=1e-6)
    for a, b in zip(metrics, metrics_of_one, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    toy.assert_close(many, one)


def test_what_is_drawn_is_the_same_in_micro_batches():
    _, _, views_of_one = random_run("pmap", 1)
    _, _, views = random_run("shard_map", 2, accumulate=4)
    np.testing.assert_allclose(views, views_of_one, atol=1e-6)


def test_a_network_without_batch_statistics():
    """Trained on four devices as on one, where its layer `head` is whole on each; and embedding."""
    network = toy.layer_norm_network()
    one, _, _ = run("pmap", 1, network=network)
    many, _, current = run("shard_map", 4, network=network)
    toy.assert_close(trimmed(many), trimmed(one))
    assert many.batch_stats == {}
    for path, leaf in jax.tree_util.tree_leaves_with_path((current.params, current.opt_state)):
        split = "['head']['weights']" in jax.tree_util.keystr(path)
        assert leaf.sharding.is_fully_replicated != split, path
    embedder, images = recognition.make_embedder(network.apply), next(batches())["image"]
    variables = {"params": many.params["backbone"], "batch_stats": many.batch_stats}
    assert embedder(jax.device_get(variables), images).shape == (ROWS, toy.DIM)


def test_schedules():
    for schedule, middle in (("polynomial", 0.25), ("cosine", 0.5), ("constant", 1.0)):
        rate = optimizer.learning_rate(peak=1.0, steps=110, warmup=10 / 110, schedule=schedule)
        assert float(rate(0)) == 0.0
        assert float(rate(5)) == pytest.approx(0.5)
        assert float(rate(10)) == pytest.approx(1.0)
        assert float(rate(60)) == pytest.approx(middle)
    with pytest.raises(UserError, match="polynomial, cosine or constant"):
        optimizer.learning_rate(peak=1.0, steps=1, warmup=0.0, schedule="exponential")
    with pytest.raises(UserError, match="sgd or adamw"):
        optimizer.optimizer("lion", optax.constant_schedule(1.0))


def test_an_unknown_way_is_refused():
    with pytest.raises(UserError, match="pmap or shard_map"):
        run("pjit", 1)


def test_class_weights_on_another_axis_are_refused():
    with pytest.raises(ValueError, match=r"split over the axis None.*axis_name='devices'"):
        run("pmap", 2, classes=Classes(num_classes=CLASSES))
