"""Exact search beside a sort in float64, and rows that come, change and go."""

import jax
import numpy as np
import pytest

from facejax.recognition import search

RANDOM = np.random.default_rng(0)


def units(count: int, size: int) -> np.ndarray:
    rows = RANDOM.standard_normal((count, size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def reference(queries: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All products, sorted; padded where there are fewer."""
    products = queries.astype(np.float64) @ rows.astype(np.float64).T
    order = np.argsort(-products, axis=1, kind="stable")[:, :k]
    padding = [(0, 0), (0, k - order.shape[1])]
    found = np.take_along_axis(products, order, 1)
    return (
        np.pad(found, padding, constant_values=-np.inf),
        np.pad(order, padding, constant_values=-1),
    )


@pytest.mark.parametrize(
    ("count", "k", "block"),
    [(100, 5, 100), (100, 5, 32), (101, 7, 10), (64, 1, 7), (5, 9, 2), (3, 3, 64), (0, 2, 8)],
)
@pytest.mark.parametrize("on_device", [False, True])
def test_equal_to_a_sort(count, k, block, on_device):
    queries, rows = units(6, 16), units(count, 16) if count else np.zeros((0, 16), np.float32)
    given = jax.device_put(rows) if on_device else rows
    similarities, indices = search.top_k(queries, given, k=k, block=block)
    expected, order = reference(queries, rows, k)
    assert (similarities.dtype, indices.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)


def test_a_matrix_over_several_devices():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("rows",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    queries, rows = units(3, 8), units(44, 8)
    placed = jax.device_put(rows, split)
    similarities, indices = search.top_k(queries, placed, k=6, block=16)
    expected, order = reference(queries, rows, 6)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)


@pytest.mark.parametrize("block", [4, 7, 40])
def test_of_equal_rows_the_lower_comes_first(block):
    rows = np.zeros((40, 4), np.float32)
    rows[[3, 11, 12, 30, 39], 0] = 1
    rows[:, 1] = 0.5
    queries = np.eye(4, dtype=np.float32)[:2]
    _, indices = search.top_k(queries, rows, k=7, block=block)
    np.testing.assert_array_equal(indices, [[3, 11, 12, 30, 39, 0, 1], list(range(7))])


def test_refuses_what_makes_no_sense():
    rows = units(3, 4)
    for wrong in ({"k": 0}, {"k": 1, "block": 0}):
        with pytest.raises(ValueError, match="must be 1 at least"):
            search.top_k(rows, rows, **wrong)
    with pytest.raises(AssertionError):
        search.top_k(rows, units(3, 5), k=1)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("devices", [1, 4])
def test_an_index_through_additions_replacements_and_removals(dtype, devices, monkeypatch):
    monkeypatch.setattr(search, "_SMALLEST", 4)
    index = search.Index(8, dtype=dtype, block=8, devices=jax.devices()[:devices])
    held: dict[int, np.ndarray] = {}
    random = np.random.default_rng(1)
    for step in range(12):
        keys = random.choice(200, size=random.integers(1, 14), replace=False)
        if step % 3 == 2:
            keys = np.concatenate([random.choice(list(held), 6, replace=False), [999]])
            index.drop(keys)
            held = {key: row for key, row in held.items() if key not in keys}
        else:
            rows = units(len(keys), 8)
            index.put(keys, rows)
            held.update(zip(keys.tolist(), rows, strict=True))
        assert len(index) == len(held)
        kept = np.array(list(held))
        rows = np.array(list(held.values()))
        if dtype == "int8":
            values, scales = search.quantize(rows)
            rows = values * scales[:, None]
        queries = units(9, 8)
        similarities, found = index.search(queries, k=5)
        expected, order = reference(queries, rows, 5)
        np.testing.assert_allclose(similarities, expected, atol=1e-6)
        np.testing.assert_array_equal(found, kept[order])
    assert len(index._blocks) > 2


def test_an_index_of_fewer_rows_than_asked_for():
    index = search.Index(4)
    queries = units(70, 4)  # more than one padded batch of queries
    similarities, keys = index.search(queries, k=2)
    assert (keys == -1).all()
    assert np.isneginf(similarities).all()
    index.put(np.array([7]), queries[:1])
    similarities, keys = index.search(queries, k=2)
    assert (keys == [7, -1]).all()
    np.testing.assert_allclose(similarities[:, 0], queries @ queries[0], atol=1e-6)


def test_a_removed_row_is_not_in_memory_any_more():
    index = search.Index(4)
    index.put(np.array([1, 2]), np.full((2, 4), 0.5, np.float32))
    index.drop(np.array([1]))
    assert np.count_nonzero(np.asarray(index._blocks[0].rows).any(axis=1)) == 1


def test_nothing_compiles_anew_for_a_row_more():
    index = search.Index(8)
    index.put(np.arange(3), units(3, 8))
    index.search(units(5, 8), k=2)
    with jax.log_compiles(False), jax.checking_leaks():
        before = search._written._cache_size(), search._program(2)._cache_size()
        for key in range(3, 60):
            index.put(np.array([key]), units(1, 8))
            index.search(units(1 + key % 7 + 1, 8), k=2)
        assert (search._written._cache_size(), search._program(2)._cache_size()) == before


def test_what_int8_templates_lose():
    """People of 4 photos each, cosine 0.6 on average: who is found, and how far off."""
    people = units(500, 128)
    noise = units(2500, 128).reshape(5, 500, 128)
    photos = people + 0.8 * noise
    photos /= np.linalg.norm(photos, axis=-1, keepdims=True)
    enrolled, queries = photos[:4].reshape(-1, 128), photos[4]
    exact, small = search.Index(128), search.Index(128, dtype="int8")
    for index in (exact, small):
        index.put(np.arange(2000), enrolled)
    similarities, found = exact.search(queries, k=1)
    nearly, also = small.search(queries, k=1)
    error = np.abs(similarities - nearly).max()
    agree = np.mean(found % 500 == also % 500)
    print(f"int8: {100 * agree:.1f} % the same person, similarity off by {error:.1e} at most")
    assert agree == 1
    assert 1e-5 < error < 5e-3
    products = enrolled.astype(np.float64) @ queries[:50].T.astype(np.float64)
    values, scales = search.quantize(enrolled)
    off = np.abs(products - (values * scales[:, None].astype(np.float64)) @ queries[:50].T).max()
    assert off < 5e-3
