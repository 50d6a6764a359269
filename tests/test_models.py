"""The networks: published parameter counts, shapes, types, statistics, dropout."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import models
from facejax.errors import UserError

PUBLISHED = {  # millions of parameters at 112x112 and 512 dimensions
    "iresnet18": 24.0,
    "iresnet34": 34.1,
    "iresnet50": 43.6,
    "iresnet100": 65.2,
}


@functools.cache
def count(name, **keywords):
    network = models.network(name, **keywords)
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) / 1e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    millions = count(name)
    print(f"{name}: {millions:.2f} M parameters, published {PUBLISHED[name]} M")
    assert millions == pytest.approx(PUBLISHED[name], abs=0.06)


def test_mobilefacenet_is_about_a_million():
    millions = count("mobilefacenet", embedding_size=128)
    print(f"mobilefacenet: {millions:.3f} M parameters, published 0.99 M")
    assert millions == pytest.approx(0.99, abs=0.02)


def test_iresnet200_is_deeper():
    assert count("iresnet200") > count("iresnet100")


@functools.cache
def initial(name):
    """Variables and images to share between tests; neither dtype nor dropout changes them."""
    network = models.network(name, width=0.125, embedding_size=12)
    images = jax.random.uniform(jax.random.key(1), (3, 32, 32, 3), minval=-1, maxval=1)
    return jax.jit(network.init)(jax.random.key(0), images), images


def small(name, **keywords):
    return models.network(name, width=0.125, embedding_size=12, **keywords), *initial(name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["iresnet10", "mobilefacenet"])
def test_embeddings(name, dtype):
    network, variables, images = small(name, dtype=dtype)
    fresh = jax.eval_shape(network.init, jax.random.key(0), images)
    chex.assert_trees_all_equal_shapes_and_dtypes(fresh, variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    embeddings, stats = jax.jit(lambda v, x: network.apply(v, x, train=True))(variables, images)
    chex.assert_shape(embeddings, (3, 12))
    chex.assert_type(embeddings, jnp.float32)
    chex.assert_trees_all_equal_structs(stats, variables["batch_stats"])
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), stats, variables["batch_stats"])
    assert all(jax.tree.leaves(changed))
    _, same = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, images)
    chex.assert_trees_all_equal(same, variables["batch_stats"])


@pytest.mark.parametrize("name", ["iresnet10", "mobilefacenet"])
def test_evaluation_takes_each_image_by_itself(name):
    network, variables, images = small(name)
    embed = jax.jit(lambda images: network.apply(variables, images, train=False)[0])
    together = embed(images)
    alone = [embed(image[None])[0] for image in images]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-4)


# The deeper ones are more of the same blocks: each at one of the sides.
SIDES = (48, 64, 112)
SIZES = {(name, SIDES[k % 3]) for k, name in enumerate(models.NETWORKS)}
SIZES |= {(name, side) for name in ("iresnet10", "mobilefacenet") for side in SIDES}


@pytest.mark.parametrize(("name", "side"), sorted(SIZES))
def test_any_multiple_of_16(name, side):
    network = models.network(name, width=0.25, embedding_size=7)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    out, _ = jax.eval_shape(lambda v, x: network.apply(v, x, train=False), variables, images)
    assert out.shape == (2, 7)


def test_dropout_follows_its_key():
    network, variables, images = small("iresnet10", dropout=0.5)
    run = jax.jit(lambda keys: network.apply(variables, images, train=True, keys=keys)[0])
    first, again, other = (run(jax.random.split(jax.random.key(i), 3)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()
    with pytest.raises(ValueError, match="keys, one per row, for 3 rows; got none"):
        jax.eval_shape(lambda: network.apply(variables, images, train=True))
    with pytest.raises(UserError, match=r"dropout is 1\.0"):
        models.network("iresnet10", dropout=1.0)


def test_an_unknown_network_is_refused():
    with pytest.raises(UserError, match="no network 'resnet'; choose one of iresnet10"):
        models.network("resnet")
