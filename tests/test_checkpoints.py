"""Save and restore: bitwise on the same devices, by global shape on any number of them."""

import functools
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facejax import checkpoints, objectives
from facejax.data.augment import augment
from facejax.errors import UserError
from facejax.training import head, optimizer, state, step
from tests import toy
from tests.devices import layout

CLASSES, ROWS = 13, 8
FACTS = {"architecture": {"name": "toy"}, "num_classes": CLASSES, "config": {}}


def batch(number):
    random = np.random.default_rng(number)
    return {
        "image": random.integers(0, 256, (ROWS, toy.SIZE, toy.SIZE, 3), dtype=np.uint8),
        "label": random.integers(0, CLASSES, ROWS).astype(np.int32),
    }


@functools.cache
def pieces(devices, loss="softmax", *, random=False):
    """(a fresh state on the host, a compiled step); `random` turns on dropout and augmentation."""
    network = toy.network(step.AXIS, dropout=0.2 if random else 0.0)
    objective = objectives.objective(loss)
    tx = optimizer.optimizer("sgd", optax.constant_schedule(0.1), weight_decay=1e-3)
    fresh = toy.fresh(network, objective, tx, CLASSES, slices=devices)
    body = step.make_body(
        network,
        objective,
        head.whole(tx, classes=layout(CLASSES)),
        lambda keys, images: augment(keys, images, flip=0.5 if random else 0.0),
        key=jax.random.key(1),
    )
    chosen = jax.devices()[:devices]
    stepper = step.build_step(body, fresh, batch(0), parallel="pmap", devices=chosen)
    return jax.tree.map(np.array, fresh), stepper


def advance(stepper, current, numbers):
    current = stepper.enter(current)
    losses = []
    for number in numbers:
        current, metrics = stepper.run(current, stepper.feed(batch(number)))
        losses.append(float(metrics["loss"]))
    return stepper.leave(current), losses


def target(fresh, devices):
    return step.placed_shapes(fresh, jax.devices()[:devices])


def saved(directory, current):
    current = jax.tree.map(jnp.asarray, current)
    manager = checkpoints.open_directory(directory)
    checkpoints.save(manager, int(current.step), current, FACTS)
    manager.wait_until_finished()
    return manager


def restore(manager, step, shapes, facts):
    return checkpoints.restore(manager, step, shapes, facts, per_class=state.per_class(shapes))


@pytest.mark.parametrize("devices", [1, 4])
def test_resumed_is_uninterrupted_to_the_bit(tmp_path, devices):
    fresh, stepper = pieces(devices, random=True)
    shapes = target(fresh, devices)
    whole, losses = advance(stepper, fresh, range(4))
    half, _ = advance(stepper, fresh, range(2))
    manager = saved(tmp_path / "c", half)
    restored = restore(manager, 2, shapes, FACTS)
    resumed, later = advance(stepper, restored, range(2, 4))
    chex.assert_trees_all_equal(resumed, whole)
    assert later == losses[2:]


def test_four_devices_restore_on_any_number(tmp_path):
    fresh, stepper = pieces(4)
    half, _ = advance(stepper, fresh, range(2))
    manager = saved(tmp_path / "c", half)
    whole, expected = advance(stepper, half, range(2, 4))
    for devices in (1, 2, 4, 8):
        other, other_stepper = pieces(devices)
        restored = restore(manager, 2, target(other, devices), FACTS)
        momentum = [
            leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(restored.opt_state)
            if any(getattr(entry, "key", "") == "weights" for entry in path)
        ]
        assert len(momentum) == 1
        assert np.asarray(momentum[0]).any(), "the momentum of the class weights is lost"
        for leaf, own in zip(
            jax.tree.leaves(restored), jax.tree.leaves(state.per_class(restored)), strict=True
        ):
            assert len(leaf.sharding.device_set) == devices
            assert not own or leaf.sharding.shard_shape(leaf.shape)[0] == leaf.shape[0] // devices
        trained, losses = advance(other_stepper, restored, range(2, 4))
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        np.testing.assert_allclose(
            np.asarray(trained.params["head"]["weights"])[:CLASSES],
            np.asarray(whole.params["head"]["weights"])[:CLASSES],
            rtol=1e-4,
            atol=1e-6,
        )


def test_the_network_alone(tmp_path):
    fresh, stepper = pieces(4)
    current, _ = advance(stepper, fresh, range(1))
    manager = saved(tmp_path / "c", current)
    params, batch_stats, facts = checkpoints.restore_network(manager, 1)
    chex.assert_trees_all_equal(params, jax.tree.map(np.asarray, current.params["backbone"]))
    chex.assert_trees_all_equal(batch_stats, jax.tree.map(np.asarray, current.batch_stats))
    assert facts == FACTS


def test_a_network_without_batch_statistics(tmp_path):
    parts = toy.layer_norm_network(), objectives.objective("softmax"), optax.adam(0.1), CLASSES
    fresh = toy.fresh(*parts, slices=4)
    manager = saved(tmp_path / "c", fresh)
    params, batch_stats, _ = checkpoints.restore_network(manager, 0)
    chex.assert_trees_all_equal(params, fresh.params["backbone"])
    assert batch_stats == {}
    for devices in (1, 4):
        shapes = target(toy.fresh(*parts, slices=devices), devices)
        restored = restore(manager, 0, shapes, FACTS)
        chex.assert_trees_all_equal(restored.params["backbone"], params)
        assert restored.batch_stats == {}


def test_another_network_loss_or_number_of_classes_is_refused(tmp_path):
    fresh, _ = pieces(1)
    manager = saved(tmp_path / "c", fresh)
    shapes = target(fresh, 1)
    for change in ({"architecture": {"name": "other"}}, {"num_classes": CLASSES + 1}):
        with pytest.raises(UserError, match="give the config it was trained with"):
            restore(manager, 0, shapes, {**FACTS, **change})
    arcface, _ = pieces(1, "arcface")
    with pytest.raises(UserError, match=r"head/bias.*which this run has not"):
        restore(manager, 0, target(arcface, 1), FACTS)
    manager = saved(tmp_path / "d", arcface)
    with pytest.raises(UserError, match="head/bias of shape None"):
        restore(manager, 0, shapes, FACTS)


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint in"):
        checkpoints.open_existing(tmp_path / "nothing")
    with pytest.raises(UserError, match="there is no checkpoint in"):
        checkpoints.open_existing(tmp_path)
    fresh, _ = pieces(1)
    manager = saved(tmp_path / "c", fresh)
    assert checkpoints.choose_step(manager) == 0
    with pytest.raises(UserError, match="has no step 7; it has 0"):
        checkpoints.choose_step(manager, 7)


def test_a_saved_state_tells_its_shapes(tmp_path):
    """Without a state to go by; a dataclass made of them is a target."""
    fresh, _ = pieces(1, "arcface")
    manager = saved(tmp_path / "c", fresh)
    where = jax.sharding.SingleDeviceSharding(jax.devices()[3])
    target = state.TrainState(**checkpoints.saved_shapes(manager, 0, sharding=where))
    restored = restore(manager, 0, target, FACTS)
    for leaf, old in zip(jax.tree.leaves(restored), jax.tree.leaves(fresh), strict=True):
        assert leaf.sharding == where
        np.testing.assert_array_equal(leaf, old)
    assert jax.tree.leaves(checkpoints.saved_shapes(manager, 0))[0].sharding.device_set == {
        jax.devices()[0]
    }
    with pytest.raises(UserError, match=r"/5 holds no whole state .*; give another step"):
        checkpoints.saved_shapes(manager, 5)


def test_the_list_says_which_are_whole(tmp_path):
    manager = checkpoints.open_directory(tmp_path / "checkpoints", keep=9)
    for number in (1, 2, 3, 4):
        checkpoints.save(manager, number, {"weights": jnp.ones((500, 8))}, FACTS)
    manager.close()
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "state" / "d")
    (tmp_path / "checkpoints" / "3" / "facts" / "metadata").write_text("{")
    shutil.rmtree(tmp_path / "checkpoints" / "4" / "facts")
    (tmp_path / "checkpoints" / "5").mkdir()
    found = checkpoints.summaries(tmp_path)  # the workdir
    assert [one.step for one in found] == [1, 2, 3, 4, 5]
    assert [one.whole for one in found] == [True, False, False, False, False]
    assert [one.facts for one in found] == [FACTS, FACTS, {}, {}, {}]
    assert 500 < found[0].size < 2**16
    assert found[4].size == 0
    assert found == checkpoints.summaries(tmp_path / "checkpoints")


def test_only_the_newest_are_kept(tmp_path):
    fresh, _ = pieces(1)
    manager = checkpoints.open_directory(tmp_path / "c", keep=2)
    for number in range(4):
        checkpoints.save(manager, number, jax.tree.map(jnp.asarray, fresh), FACTS)
    manager.wait_until_finished()
    assert sorted(manager.all_steps()) == [2, 3]
