"""Adding, merging and dropping identities, against plain loops over really trained states."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facejax import checkpoints, objectives
from facejax.data.augment import normalize
from facejax.losses import Classes
from facejax.training import identities as ids
from facejax.training import optimizer, state, step
from facejax.training.head import remembering, whole
from tests import toy
from tests.devices import layout

CLASSES, ROWS, DEVICES = 13, 16, 4
FACTS = {"architecture": {"name": "toy"}, "config": {}}
RUNS = (
    ("softmax", "sgd"),
    ("center_loss", "adamw"),
    ("subcenter_arcface", "sgd"),
    ("curricularface", "sgd"),
)
every_run = pytest.mark.parametrize(("loss", "name"), RUNS)


def batch(number, classes=CLASSES):
    random = np.random.default_rng(number)
    return {
        "image": random.integers(0, 256, (ROWS, toy.SIZE, toy.SIZE, 3), dtype=np.uint8),
        "label": random.integers(0, classes, ROWS).astype(np.int32),
    }


@functools.cache
def pieces(loss, name, classes=CLASSES, devices=DEVICES):
    """(the shapes of a state, a fresh one, a compiled step)."""
    network, objective = toy.network(step.AXIS), objectives.objective(loss)
    tx = optimizer.optimizer(name, optax.constant_schedule(0.1), weight_decay=1e-3)
    fresh = toy.fresh(network, objective, tx, classes, slices=devices)
    body = step.make_body(
        network,
        objective,
        whole(tx, classes=layout(classes)),
        lambda keys, images: normalize(images),
        key=jax.random.key(1),
    )
    chosen = jax.devices()[:devices]
    with jax.numpy_dtype_promotion("standard"):  # optax's AdamW asks for it
        stepper = step.build_step(body, fresh, batch(0), parallel="pmap", devices=chosen)
    return step.placed_shapes(fresh, chosen), fresh, stepper


@functools.cache
def trained(loss, name):
    """After three steps on four devices, as it lies there: 13 identities and 3 rows of padding."""
    _, fresh, stepper = pieces(loss, name)
    current = stepper.enter(jax.tree.map(jnp.copy, fresh))
    for number in range(3):
        current, _ = stepper.run(current, stepper.feed(batch(number)))
    return stepper.leave(current)


def leaves(tree):
    """{path: (array on the host, whether it has one row per class)}."""
    own = jax.tree.leaves(state.per_class(tree))
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): (np.asarray(leaf), rows)
        for (path, leaf), rows in zip(named, own, strict=True)
    }


def compare(before, after, classes, rows_of):
    """Every leaf of `after` is `rows_of(path, cut leaf)`: ({row: same to the bit}, {row: near})."""
    chex.assert_trees_all_equal_structs(before, after)
    found = leaves(after)
    seen = set()
    for path, (old, own) in leaves(before).items():
        new = found[path][0]
        assert new.dtype == old.dtype, path
        if not own:
            np.testing.assert_array_equal(new, old, err_msg=path)
            continue
        same, near = rows_of(path, old[:CLASSES].astype(np.float64))
        assert new.shape == (classes, *old.shape[1:]), path
        assert sorted([*same, *near]) == list(range(classes)), "the test names every row"
        for row, source in same.items():
            np.testing.assert_array_equal(new[row], old[source], err_msg=f"{path} {row}")
        for row, expected in near.items():
            np.testing.assert_allclose(
                new[row], expected, rtol=1e-5, atol=1e-6, err_msg=f"{path} {row}"
            )
        seen.add(path)
    momentum = [leaves(before)[path][0] for path in seen if "weights" in path and "opt_" in path]
    assert momentum, "the momentum of the class weights is among them"
    assert all(leaf[:CLASSES].any(axis=-1).all() for leaf in momentum), "else nothing is tested"
    return seen


def unit(vector):
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def new_means(count=3):
    return 0.7 * unit(np.random.default_rng(5).standard_normal((count, toy.DIM))).astype(np.float32)


@every_run
def test_new_identities_point_along_their_means(loss, name):
    before, means = trained(loss, name), new_means()
    after = ids.grow(before, means, num_classes=CLASSES)

    weights = np.asarray(after.params["head"]["weights"], np.float64)[CLASSES:]

    def rows_of(path, old):
        if ".nu" in path or (old.ndim == 1 and ".opt_state" not in path):
            rows = [sum(old) / CLASSES] * 3
        elif ".opt_state" in path:
            rows = [np.zeros_like(old[0])] * 3
        else:
            vectors = old.reshape(-1, toy.DIM)
            length = sum(np.linalg.norm(vector) for vector in vectors) / len(vectors)
            rows = [length * unit(mean) for mean in means.astype(np.float64)]
            if old.ndim == 3:
                compare_centers(length)
                rows = [[row, *new[1:]] for row, new in zip(rows, weights, strict=True)]
        near = {CLASSES + place: row for place, row in enumerate(rows)}
        return {row: row for row in range(CLASSES)}, near

    def compare_centers(length):
        np.testing.assert_allclose(np.linalg.norm(weights, axis=-1), length, rtol=1e-5)
        cosines = np.sum(unit(weights) * unit(means)[:, None], axis=-1)
        assert (cosines > np.cos(0.011)).all()
        for new in weights:
            for one, other in itertools.combinations(new, 2):
                assert np.abs(one - other).max() > 1e-3 * length

    seen = compare(before, after, CLASSES + 3, rows_of)
    chex.assert_trees_all_equal(after, ids.grow(before, means, num_classes=CLASSES))
    if loss == "center_loss":
        assert {path.split("'")[-2] for path in seen} == {"weights", "bias", "centers"}
        assert sum(".nu" in path for path in seen) == 2
    first = weights.reshape(3, -1, toy.DIM)[:, 0]
    np.testing.assert_allclose(np.sum(unit(first) * unit(means), axis=1), 1, rtol=1e-6)


def test_a_new_identitys_sub_centres_do_not_tie():
    """With equal ones each would get the same third of every gradient, at every step."""
    after = ids.grow(trained("subcenter_arcface", "sgd"), new_means(), num_classes=CLASSES)
    embeddings = jax.random.normal(jax.random.key(2), (64, toy.DIM))
    labels = jnp.full(64, CLASSES + 1)

    def loss(params):
        return jnp.sum(
            objective.apply(params, {}, embeddings, labels, keys=None, step=0, classes=Classes())[0]
        )

    objective = objectives.objective("subcenter_arcface")
    gradients = np.asarray(jax.jit(jax.grad(loss))(after.params["head"])["weights"][CLASSES + 1])
    for one, other in itertools.combinations(gradients, 2):
        assert np.abs(one - other).max() > 0.1 * np.abs(gradients).max()


GROUPS = [[9, 2], [4, 12, 0]]
# 0 and 4 and 12 are the first, 2 and 9 another: 0 1 2 3 5 6 7 8 10 11 stay.
MERGED = [0, 1, 2, 3, 0, 4, 5, 6, 7, 2, 8, 9, 0]


@every_run
def test_a_merged_identity_is_the_mean_of_its_group(loss, name):
    before = trained(loss, name)
    after, new_labels = ids.merge(before, GROUPS, num_classes=CLASSES)
    assert new_labels.dtype == np.int32
    assert new_labels.tolist() == MERGED
    weights = np.asarray(before.params["head"]["weights"], np.float64)[:CLASSES]

    def matched(one, low):
        """The order in which one's sub-centres are most like low's, by trying all."""
        if weights.ndim == 2:
            return slice(None)
        a, b = unit(weights[low]), unit(weights[one])
        orders = itertools.permutations(range(len(a)))
        return list(max(orders, key=lambda order: np.sum(a * b[list(order)])))

    def rows_of(path, old):
        near = {}
        for group in GROUPS:
            low = min(group)
            rows = [old[one][matched(one, low)] if old.ndim == 3 else old[one] for one in group]
            mean = sum(rows) / len(rows)
            if path.startswith(".params") and old.ndim > 1:
                direction = unit(sum(unit(row) for row in rows))
                mean = direction * sum(np.linalg.norm(row, axis=-1, keepdims=True) for row in rows)
                mean /= len(rows)
            near[MERGED[low]] = mean
        return {MERGED[one]: one for one in (1, 3, 5, 6, 7, 8, 10, 11)}, near

    compare(before, after, 10, rows_of)
    if weights.ndim == 3:
        orders = [matched(one, min(group)) for group in GROUPS for one in group]
        assert any(order != [0, 1, 2] for order in orders), "else the matching is not tested"


def test_merging_an_identity_with_its_copy_changes_nothing_else():
    """The copy has its sub-centres in another order, by a turn that is not its own inverse."""
    before = trained("subcenter_arcface", "sgd")

    def copy(leaf, own):
        return leaf.at[11].set(jnp.roll(leaf[5], 1, axis=0)) if own else leaf

    doubled = jax.tree.map(copy, before, state.per_class(before))
    after, _ = ids.merge(doubled, [[5, 11]], num_classes=CLASSES)
    expected, _ = ids.drop(before, [11], num_classes=CLASSES)
    chex.assert_trees_all_close(after, expected, rtol=1e-5, atol=1e-7)


@every_run
def test_dropped_identities_leave_the_others_alone(loss, name):
    before = trained(loss, name)
    after, new_labels = ids.drop(before, [12, 0, 6], num_classes=CLASSES)
    assert new_labels.dtype == np.int32
    assert new_labels.tolist() == [-1, 0, 1, 2, 3, 4, -1, 5, 6, 7, 8, 9, -1]
    kept = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    compare(before, after, 10, lambda path, old: (dict(enumerate(kept)), {}))


def test_counts_of_lazy_decay_go_along():
    """A new identity owes nothing, a merged one the mean, one that stays what it did."""
    before, counts = trained("softmax", "sgd"), np.arange(40, 40 + ROWS, dtype=np.int32)
    memory = remembering(optax.identity()).init(before.params)
    memory = jax.tree.map(lambda _: jnp.asarray(counts), memory)
    before = before.replace(opt_state=(before.opt_state, memory))

    def kept(after):
        (found,) = jax.tree.leaves(after.opt_state[1])
        assert found.dtype == np.int32
        return found.tolist()

    old = counts[:CLASSES].tolist()
    assert kept(ids.grow(before, new_means(2), num_classes=CLASSES)) == [*old, 52, 52]
    merged, _ = ids.merge(before, [[2, 5]], num_classes=CLASSES)
    assert kept(merged) == [40, 41, 43, 43, 44, *old[6:]]
    assert kept(ids.drop(before, [0], num_classes=CLASSES)[0]) == old[1:]


def test_a_relabelled_batch_has_the_losses_of_the_classes_that_are_left():
    """CosFace by a float64 loop over the old weights that stay, by their old numbers."""
    before, gone = trained("curricularface", "sgd"), [3, 8]
    after, new_labels = ids.drop(before, gone, num_classes=CLASSES)
    assert len(after.params["head"]["weights"]) == CLASSES - 2
    random = np.random.default_rng(3)
    embeddings = random.standard_normal((20, toy.DIM)).astype(np.float32)
    labels = np.concatenate([np.arange(CLASSES), random.integers(0, CLASSES, 7)])
    objective = objectives.objective("cosface", {"scale": 16.0, "margin": 0.3})
    losses, _, _ = objective.apply(
        after.params["head"],
        {},
        embeddings,
        jnp.asarray(new_labels[labels]),
        keys=None,
        step=0,
        classes=Classes(),
    )
    weights = np.asarray(before.params["head"]["weights"], np.float64)
    for loss, embedding, label in zip(losses, embeddings, labels, strict=True):
        if label in gone:
            assert loss == 0
            continue
        logits = {
            one: 16 * (unit(weights[one]) @ unit(embedding.astype(np.float64)))
            for one in range(CLASSES)
            if one not in gone
        }
        logits[label] -= 16 * 0.3
        expected = np.log(sum(np.exp(each) for each in logits.values())) - logits[label]
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def saved(directory, changed, classes):
    facts = {**FACTS, "num_classes": classes}
    manager = checkpoints.open_directory(directory)
    checkpoints.save(manager, int(changed.step), changed, facts)
    manager.wait_until_finished()
    return manager, facts


def assert_carried(restored, before, classes, devices, places, kept):
    """Rows `places` of every restored leaf are rows `kept` of the old; padding is zero again."""
    old = leaves(before)
    for path, (leaf, own) in leaves(restored).items():
        if own:
            assert len(leaf) == classes + -classes % devices
            np.testing.assert_array_equal(leaf[places], old[path][0][kept], err_msg=path)
            assert not leaf[classes:].any()
        else:
            np.testing.assert_array_equal(leaf, old[path][0], err_msg=path)


def test_a_grown_run_goes_on_from_its_checkpoint(tmp_path):
    """Restored onto four devices, one step with the new identities: as that step on one device."""
    before, classes = trained("softmax", "sgd"), CLASSES + 5
    grown = ids.grow(before, new_means(5), num_classes=CLASSES)
    manager, facts = saved(tmp_path / "c", grown, classes)
    results = []
    for devices in (4, 1):
        shapes, _, stepper = pieces("softmax", "sgd", classes, devices)
        restored = checkpoints.restore(manager, 3, shapes, facts, per_class=state.per_class(shapes))
        kept = np.arange(CLASSES)
        assert_carried(restored, before, classes, devices, kept, kept)
        fed = stepper.feed(batch(7, classes))
        assert (batch(7, classes)["label"] >= CLASSES).any()
        current, metrics = stepper.run(stepper.enter(restored), fed)
        results.append((leaves(stepper.leave(current)), float(metrics["loss"])))
    (four, loss_of_four), (one, loss_of_one) = results
    assert loss_of_four == pytest.approx(loss_of_one, rel=1e-5)
    assert four[".step"][0] == 4
    for path, (leaf, own) in four.items():
        cut = leaf[:classes] if own else leaf
        np.testing.assert_allclose(cut, one[path][0], rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.mark.parametrize(
    ("change", "classes", "places", "kept"),
    [
        ("merge", 10, [1, 3, 4, 5, 6, 7, 8, 9], [1, 3, 5, 6, 7, 8, 10, 11]),
        ("drop", 11, list(range(11)), [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]),
    ],
)
def test_a_merged_or_dropped_one_is_padded_again(tmp_path, change, classes, places, kept):
    before = trained("softmax", "sgd")
    what = GROUPS if change == "merge" else [0, 6]
    changed, _ = getattr(ids, change)(before, what, num_classes=CLASSES)
    manager, facts = saved(tmp_path / "c", changed, classes)
    shapes = jax.tree.map(
        lambda leaf, own: jax.ShapeDtypeStruct((12, *leaf.shape[1:]), leaf.dtype) if own else leaf,
        jax.eval_shape(lambda: changed),
        state.per_class(changed),
    )
    target = step.placed_shapes(shapes, jax.devices()[:4])
    restored = checkpoints.restore(manager, 3, target, facts, per_class=state.per_class(target))
    assert_carried(restored, before, classes, 4, places, kept)


def test_wherever_the_arrays_are_and_whatever_their_type():
    before = trained("subcenter_arcface", "sgd")
    assert len(before.params["head"]["weights"].sharding.device_set) == DEVICES
    host = jax.tree.map(np.asarray, before)

    def low(leaf):
        return leaf.astype(jnp.bfloat16) if leaf.ndim == 3 else leaf

    means = jax.device_put(new_means(), jax.devices()[2])
    for function in (
        lambda state: ids.grow(state, means, num_classes=CLASSES),
        lambda state: ids.merge(state, GROUPS, num_classes=CLASSES)[0],
        lambda state: ids.drop(state, [5], num_classes=CLASSES)[0],
    ):
        expected = jax.tree.map(np.asarray, function(before))
        chex.assert_trees_all_equal(jax.tree.map(np.asarray, function(host)), expected)
        got = function(jax.tree.map(low, before))
        chex.assert_trees_all_equal_shapes_and_dtypes(got, jax.tree.map(low, expected))
        weights, exact = got.params["head"]["weights"], expected.params["head"]["weights"]
        np.testing.assert_allclose(np.float32(weights), exact, atol=0.02 * np.abs(exact).max())


def test_nothing_to_do_cuts_the_padding():
    for loss in ("subcenter_arcface", "softmax"):
        before = trained(loss, "sgd")
        grown = ids.grow(before, np.zeros((0, toy.DIM), np.float32), num_classes=CLASSES)
        merged, merged_labels = ids.merge(before, [], num_classes=CLASSES)
        dropped, dropped_labels = ids.drop(before, [], num_classes=CLASSES)
        assert len(grown.params["head"]["weights"]) == CLASSES
        chex.assert_trees_all_equal(grown, merged, dropped)
        assert merged_labels.tolist() == dropped_labels.tolist() == list(range(CLASSES))


def test_a_loss_without_class_weights_is_left_alone():
    tx = optimizer.optimizer("sgd", optax.constant_schedule(0.1))
    before = toy.fresh(toy.network(), objectives.objective("facenet"), tx, CLASSES)
    for after in (
        ids.grow(before, new_means(), num_classes=CLASSES),
        ids.merge(before, GROUPS, num_classes=CLASSES)[0],
        ids.drop(before, [1], num_classes=CLASSES)[0],
    ):
        chex.assert_trees_all_equal(after, before)


def test_mean_embeddings():
    random = np.random.default_rng(1)
    embeddings = 9 * random.standard_normal((12, toy.DIM)).astype(np.float32)
    labels = np.array([2, 0, 1, 1, 2, 2, 0, 1, 1, 3, 0, 2])
    got = ids.mean_embeddings(embeddings, labels, count=4)
    assert got.dtype == jnp.float32
    for identity in range(4):
        rows = [unit(embeddings[i].astype(np.float64)) for i in range(12) if labels[i] == identity]
        np.testing.assert_allclose(got[identity], sum(rows) / len(rows), rtol=1e-5, atol=1e-6)
    on_device = ids.mean_embeddings(jnp.asarray(embeddings), jnp.asarray(labels), count=4)
    np.testing.assert_array_equal(on_device, got)
