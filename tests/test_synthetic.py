import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.synthetic.render import SyntheticFaces, draw_identity, draw_nuisance, render

SIZE = 32


@pytest.fixture(scope="module")
def faces():
    return SyntheticFaces(identities=24, images_per_identity=5, image_size=SIZE, seed=3)


@jax.jit
@jax.vmap
def photograph(person_key, shot_key, severity):
    nuisance = draw_nuisance(shot_key, severity)
    return render(draw_identity(person_key), nuisance, image_size=SIZE)


@functools.partial(jax.jit, static_argnames="size")
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def turned(person_key, yaw, size):
    """The passport photograph but for its yaw and a lamp straight ahead."""
    nuisance = draw_nuisance(person_key, jnp.float32(0))
    nuisance = nuisance._replace(yaw=yaw, light_x=jnp.float32(0))
    return render(draw_identity(person_key), nuisance, image_size=size)


def keys(seed, count=16):
    return jax.random.split(jax.random.key(seed), count)


def distance(a, b):
    """Root mean square difference of two lots of images [..., S, S, 3]."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return np.sqrt(np.square(difference).mean((-3, -2, -1)))


def test_it_is_a_source(faces):
    assert len(faces) == 120
    assert faces.num_classes == 24
    assert faces.images.shape == (120, SIZE, SIZE, 3)
    assert faces.images.dtype == np.uint8
    assert faces.labels.dtype == np.int32
    assert faces.severity.dtype == np.float32
    np.testing.assert_array_equal(faces.labels, np.arange(120) // 5)
    record = faces[37]
    np.testing.assert_array_equal(record["image"], faces.images[37])
    assert record["label"] == 7
    assert record["severity"] == faces.severity[37]
    assert faces.severity.min() >= 0
    assert faces.severity.max() <= 1
    assert 0.4 < faces.severity.mean() < 0.6


def test_a_slice_is_bitwise_the_same_people(faces):
    part = SyntheticFaces(
        identities=3, images_per_identity=4, image_size=SIZE, seed=3, first_identity=10
    )
    whole = faces.images.reshape(24, 5, SIZE, SIZE, 3)[10:13, :4]
    np.testing.assert_array_equal(part.images, whole.reshape(12, SIZE, SIZE, 3))
    np.testing.assert_array_equal(part.severity, faces.severity.reshape(24, 5)[10:13, :4].ravel())
    np.testing.assert_array_equal(part.labels, np.arange(12) // 4)


def test_another_seed_is_other_people(faces):
    other = SyntheticFaces(identities=1, images_per_identity=2, image_size=SIZE, seed=4)
    assert distance(other.images, faces.images[:2]).min() > 5


def test_no_image_is_repeated(faces):
    flat = faces.images.reshape(120, -1)
    assert len(np.unique(flat, axis=0)) == 120


def test_severity_zero_is_one_photograph_a_person():
    once = np.asarray(photograph(keys(0), keys(1), jnp.zeros(16)))
    np.testing.assert_array_equal(once, photograph(keys(0), keys(2), jnp.zeros(16)))
    between = distance(once[:, None], once[None])
    assert between[~np.eye(16, dtype=bool)].min() > 5


def test_severity_is_the_distance_from_the_clean_photograph():
    one_person = jnp.stack([jax.random.key(5)] * 16)
    severity = jnp.linspace(0, 1, 16)
    lots = [photograph(one_person, keys(seed), severity) for seed in range(6, 12)]
    far = distance(np.stack(lots), lots[0][0]).mean(0)
    assert far[0] == 0
    ranks = np.argsort(np.argsort(far))
    assert np.corrcoef(ranks, np.arange(16))[0, 1] > 0.9


def test_mild_photographs_of_a_person_are_nearer_than_other_people():
    reference = np.asarray(photograph(keys(7), keys(7), jnp.zeros(16)))
    mild = np.asarray(photograph(keys(7), keys(8), jnp.full(16, 0.05)))
    away = distance(mild[:, None], reference[None])
    np.testing.assert_array_equal(away.argmin(1), np.arange(16))


def test_a_turned_head_is_not_a_shifted_picture():
    people = jnp.stack([jax.random.key(9)] * 16)
    pictures = np.asarray(turned(people, jnp.linspace(-0.5, 0.5, 16), SIZE)).astype(float)
    left, front, right = pictures[0], pictures[7], pictures[-1]
    best = min(np.abs(np.roll(front, x, 1) - left).mean() for x in range(-8, 9))
    assert best > 5
    # The other side is nearly the mirror image: only mole, parting and freckles have a side.
    assert np.abs(right[:, ::-1] - left).mean() < 0.5 * best


def test_image_sizes_show_the_same_picture():
    small = np.asarray(turned(keys(10), jnp.zeros(16), 32))
    large = np.asarray(turned(keys(10), jnp.zeros(16), 64))
    away = distance(large.reshape(16, 32, 2, 32, 2, 3).mean((2, 4))[:, None], small[None])
    same = np.diag(away)
    np.testing.assert_array_equal(away.argmin(1), np.arange(16))
    assert same.mean() < 0.4 * away[~np.eye(16, dtype=bool)].mean()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(identities=0), "identities"),
        (dict(images_per_identity=0), "images_per_identity"),
        (dict(image_size=30), "image_size"),
        (dict(image_size=36), "image_size"),
        (dict(image_size=120), "image_size"),
        (dict(seed=-1), "seed"),
        (dict(first_identity=-1), "first_identity"),
    ],
)
def test_wrong_arguments(wrong, message):
    right = dict(identities=1, images_per_identity=1, image_size=SIZE, seed=0)
    with pytest.raises(ValueError, match=message):
        SyntheticFaces(**{**right, **wrong})


def test_what_was_rendered_is_kept(tmp_path, monkeypatch):
    arguments = dict(identities=2, images_per_identity=2, image_size=32, seed=3)
    fresh = SyntheticFaces(**arguments)
    first = SyntheticFaces(**arguments, cache=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(SyntheticFaces, "_render", None)  # nothing is rendered again
        again = SyntheticFaces(**arguments, cache=tmp_path / "kept")
        with pytest.raises(TypeError):
            SyntheticFaces(**{**arguments, "seed": 4}, cache=tmp_path / "kept")

    def full(path, **arrays):
        path.write_bytes(b"half of it")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match=r"other \(the disk is full\).*give a cache that"):
        unkept = SyntheticFaces(**arguments, cache=tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
    for faces in (first, again, unkept):
        np.testing.assert_array_equal(faces.images, fresh.images)
        np.testing.assert_array_equal(faces.severity, fresh.severity)
        np.testing.assert_array_equal(faces.labels, fresh.labels)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "another's", "a folder"])
def test_what_was_kept_and_damaged_is_rendered_again(tmp_path, damage):
    arguments = dict(identities=2, images_per_identity=2, image_size=32, seed=3)
    fresh = SyntheticFaces(**arguments, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    content = kept.read_bytes()
    half = len(content) // 2
    if damage == "truncated":
        kept.write_bytes(content[:half])
    elif damage == "emptied":
        kept.write_bytes(b"")
    elif damage == "flipped":
        kept.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    elif damage == "another's":
        np.savez(kept, images=fresh.images[:1], severity=fresh.severity[:1])
    else:
        kept.unlink()
        kept.mkdir()
    warned = pytest.warns(UserWarning, match="cannot be kept")
    with warned if damage == "a folder" else contextlib.nullcontext():
        again = SyntheticFaces(**arguments, cache=tmp_path)
    np.testing.assert_array_equal(again.images, fresh.images)
    if damage != "a folder":
        with np.load(kept) as mended:
            np.testing.assert_array_equal(mended["images"], fresh.images)
