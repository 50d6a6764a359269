"""Embeddings: one program, any number of images, the flip test, several devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import data
from facejax.recognition import embed, make_embedder


def toy_apply(variables, images, *, train, keys=None):
    """A network that a mirror image changes: a non-linear map of the flattened pixels."""
    del train, keys
    flat = images.reshape(len(images), -1)
    return jnp.tanh(flat @ variables["params"]) + variables["bias"], {}


def toy_variables(size=8, dimension=5):
    generator = np.random.default_rng(0)
    params = generator.normal(size=(size * size * 3, dimension), scale=0.1).astype(np.float32)
    return {"params": params, "bias": np.full((1, dimension), 0.3, np.float32)}


def toy_images(count, size=8):
    shape = (count, size, size, 3)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def reference(variables, images, flip):
    """float64 and one image at a time."""
    rows = []
    for image in images.astype(np.float64):
        views = [image, image[:, ::-1]] if flip else [image]
        total = sum(
            np.tanh(((view - 127.5) / 127.5).reshape(-1) @ variables["params"].astype(np.float64))
            + variables["bias"][0]
            for view in views
        )
        rows.append(total / np.linalg.norm(total))
    return np.array(rows)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 8, 16, 64])
def test_agrees_with_one_image_at_a_time(flip, batch_size):
    variables, images = toy_variables(), toy_images(21)
    got = embed(make_embedder(toy_apply, flip=flip), variables, images, batch_size=batch_size)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, reference(variables, images, flip), atol=2e-6)


def test_the_network_is_given_what_training_gives_it():
    """All 256 byte values, bitwise."""
    given = []

    def network(variables, images, *, train):
        del variables, train
        jax.debug.callback(given.append, images)
        return images.reshape(len(images), -1), {}

    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    make_embedder(network, flip=False)({}, image).block_until_ready()
    jax.effects_barrier()
    np.testing.assert_array_equal(given[0], jax.jit(data.normalize)(image))


def test_flip_makes_a_mirror_image_equal():
    variables, images = toy_variables(), toy_images(6)
    both, plain = (
        [
            embed(make_embedder(toy_apply, flip=flip), variables, views, batch_size=6)
            for views in (images, images[:, :, ::-1])
        ]
        for flip in (True, False)
    )
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)
    assert np.abs(plain[0] - plain[1]).max() > 0.1


def test_a_reader_of_batches_equals_an_array():
    variables, images = toy_variables(), toy_images(11)
    embedder = make_embedder(toy_apply)
    whole = embed(embedder, variables, images, batch_size=8)
    for size in (1, 3, 8):
        parts = (images[start : start + size] for start in range(0, 11, size))
        np.testing.assert_array_equal(embed(embedder, variables, parts, batch_size=8), whole)


@pytest.mark.parametrize("sizes", [[3] * 7, [1] * 21, [8, 8, 5], [7, 8, 6], [5, 8, 8], [8, 8]])
def test_parts_are_put_together_to_full_batches(sizes):
    given = []

    def embedder(variables, images):
        given.append(len(images))
        return images.reshape(len(images), -1)

    images = toy_images(sum(sizes))
    parts = np.split(images, np.cumsum(sizes)[:-1])
    got = embed(embedder, None, iter(parts), batch_size=8)
    np.testing.assert_array_equal(got, images.reshape(len(images), -1))
    assert given == [8] * -(-len(images) // 8)


def test_one_trace_whatever_the_count_and_where_the_variables_are():
    variables = toy_variables()
    embedder = make_embedder(chex.assert_max_traces(toy_apply, n=1))
    for count in (3, 8, 20):
        embed(embedder, variables, toy_images(count), batch_size=8)
    embed(embedder, jax.device_put(variables), toy_images(5), batch_size=8)


def test_spreads_a_batch_over_the_devices():
    embedder = make_embedder(toy_apply)
    assert len(embedder(toy_variables(), toy_images(16)).sharding.device_set) == 8
    assert len(embedder(toy_variables(), toy_images(9)).sharding.device_set) == 1


def test_takes_variables_replicated_by_pmap():
    variables, images = toy_variables(), toy_images(8)
    replicated = jax.pmap(
        lambda _, tree: tree, in_axes=(0, None), out_axes=None, axis_name="device"
    )(jnp.arange(8), variables)
    got = embed(make_embedder(toy_apply), replicated, images, batch_size=8)
    np.testing.assert_allclose(got, reference(variables, images, True), atol=2e-6)


def test_a_zero_embedding_stays_zero():
    def zero(variables, images, *, train):
        del variables, train
        return jnp.zeros((len(images), 4)), {}

    assert (embed(make_embedder(zero), {}, toy_images(3), batch_size=2) == 0).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "no images"),
        (np.zeros((4, 8, 8, 3), np.float32), "float32"),
        ([np.zeros((9, 8, 8, 3), np.uint8)], "1 to 4"),
    ],
)
def test_refuses_what_is_no_batch_of_images(images, message):
    with pytest.raises(ValueError, match=message):
        embed(make_embedder(toy_apply), toy_variables(), images, batch_size=4)
