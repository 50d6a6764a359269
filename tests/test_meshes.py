"""Rows split over meshes as users make them: Explicit axes, and shard_map that checks its types."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from facejax import losses
from facejax.losses import Classes
from tests.cases import ONE_A_LOSS, batch, ours

ROWS = PartitionSpec("data")
STREAMED = Classes(4)


def mesh(kind):
    return jax.make_mesh((2,), ("data",), axis_types=(kind,))


def compare(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1e-3, float(np.abs(b).max())))


def on_explicit_mesh(function, inputs):
    """What the function returns of arrays with 8 rows, split, and of others."""
    with jax.set_mesh(mesh(AxisType.Explicit)):

        def place(x):
            per_row = np.ndim(x) and len(x) == 8
            return jax.device_put(x, ROWS if per_row else PartitionSpec())

        return jax.device_get(jax.jit(function)(*jax.tree.map(place, inputs)))


def test_every_loss_with_rows_split_over_an_explicit_mesh():
    inputs = {name: batch(name, 7, rows=8) for name in ONE_A_LOSS.values()}

    def everything(inputs):
        return {name: ours(name)(*given) for name, given in inputs.items()}

    compare(on_explicit_mesh(everything, (inputs,)), jax.jit(everything)(inputs))


@pytest.mark.parametrize("name", ["softmax", "curricularface", "adaface", "elasticface_arc"])
def test_gradients_of_streamed_losses_on_an_explicit_mesh(name):
    inputs = batch(name, 7, rows=8)

    def gradients(e, w, y, *extra, classes=STREAMED):
        return jax.grad(lambda e, w: ours(name)(e, w, y, *extra, classes=classes)[0].sum(), (0, 1))(
            e, w
        )

    want = jax.jit(functools.partial(gradients, classes=None))(*inputs)
    compare(on_explicit_mesh(gradients, inputs), want)


def test_other_losses_on_an_explicit_mesh():
    r = np.random.default_rng(0)
    e, w = r.normal(size=(8, 6)).astype(np.float32), r.normal(size=(9, 6)).astype(np.float32)
    y = np.array([0, 1, 2, 0, 1, 5, 8, -1], np.int32)

    def everything(e, w, y):
        return {
            "pairs": [
                getattr(losses, name)(e, y)
                for name in (
                    "circle_pairs",
                    "multi_similarity",
                    "supcon",
                    "n_pairs",
                    "lifted_structure",
                )
            ],
            "triplets": losses.batch_triplet(e, y),
            "centers": (losses.center(e, y, w), losses.update_centers(e, y, w)),
            "proxies": (losses.proxy_nca(e, w, y), losses.proxy_anchor(e, w, y)),
            "two": losses.contrastive(e, e * 2, y > 0),
            "sampled": losses.sample_classes(jax.random.key(0), y, w, rate=0.9),
        }

    want = jax.tree.map(np.asarray, jax.jit(everything)(e, w, y))
    with jax.set_mesh(mesh(AxisType.Explicit)):
        got = jax.jit(everything)(jax.device_put(e, ROWS), jnp.asarray(w), jax.device_put(y, ROWS))
        assert got["pairs"][0].sharding.spec == ROWS
        compare(jax.device_get(got), want)


@pytest.mark.parametrize("name", ["curricularface", "sphereface2", "softmax"])
def test_shard_map_that_checks_its_types(name):
    """Plain data parallelism: all class weights on every device, whose gradients it sums itself."""
    e, w, y, *extra = jax.tree.map(jnp.asarray, batch(name, 7, rows=8))

    def gradients(classes):
        spread = jax.shard_map(  # the default of its check, which the sources else forbid
            lambda e, w, y, *extra: ours(name)(e, w, y, *extra, classes=classes)[0],
            mesh=mesh(AxisType.Auto),
            in_specs=(ROWS, PartitionSpec(), ROWS, *(PartitionSpec() for _ in extra)),
            out_specs=ROWS,
            check_vma=bool(1),
        )
        return jax.jit(jax.grad(lambda *given: spread(*given, y, *extra).sum(), (0, 1)))(e, w)

    compare(gradients(Classes(4)), gradients(None))


def test_a_hyperparameter_that_differs_from_device_to_device():
    e, w, y = jax.tree.map(jnp.asarray, batch("cosface", 7, rows=8))

    def total(scales, classes):
        def one(e, y, scale):
            return losses.cosface(e, w, y, scale=scale[0], classes=classes)

        spread = jax.shard_map(
            one, mesh=mesh(AxisType.Auto), in_specs=ROWS, out_specs=ROWS, check_vma=bool(1)
        )
        return spread(e, y, scales).sum()

    scales = jnp.array([4.0, 9.0])
    got, want = (
        jax.jit(jax.value_and_grad(functools.partial(total, classes=classes)))(scales)
        for classes in (Classes(4), None)
    )
    compare(got, want)


def test_a_split_that_is_not_by_rows_is_left_alone():
    with jax.set_mesh(mesh(AxisType.Explicit)) as chosen:
        del chosen
        e = jax.device_put(jnp.ones((8, 4)), PartitionSpec())
        assert isinstance(e.sharding, NamedSharding)
        assert losses.supcon(e, jnp.zeros(8, jnp.int32)).shape == (8,)
