"""Pictures that are one picture are found, and the search finds what a loop over all pairs does."""

import itertools

import cv2
import numpy as np
import pytest

from facejax.data import near_duplicates
from tests.pictures import encode


def faces(count: int, side: int = 64) -> list[np.ndarray]:
    """Pictures that are alike, as aligned faces are: one in common, and one of their own."""
    random = np.random.default_rng(0)

    def blurred() -> np.ndarray:
        small = random.uniform(20, 236, (12, 12, 3)).astype(np.float32)
        return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)

    common = blurred()
    return [np.clip(0.6 * common + 0.4 * blurred(), 0, 255).astype(np.uint8) for _ in range(count)]


def near_bits(count: int, seed: int = 0) -> np.ndarray:
    """uint64 hashes, half of them a few bits from another one."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, count, np.uint64)
    for number in range(count // 2, count):
        flips = random.choice(64, random.integers(0, 14), replace=False)
        hashes[number] = hashes[number - count // 2] ^ np.uint64(sum(1 << int(b) for b in flips))
    return hashes


def expected_pairs(one: int, other: int, bands: int, apart: int) -> bool:
    """Whether two hashes differ in at most one bit of some band, by their digits."""
    a, b = f"{one:064b}", f"{other:064b}"
    differing = [x != y for x, y in zip(a, b, strict=True)]
    edges = [64 * band // bands for band in range(bands + 1)]
    if sum(differing) > apart:
        return False
    return any(sum(differing[low:high]) <= 1 for low, high in itertools.pairwise(edges))


@pytest.mark.parametrize("bands", [3, 4, 5])
def test_pairs_are_those_of_a_loop(bands):
    hashes = near_bits(120)
    parts = list(near_duplicates.close_pairs(hashes, bands=bands, apart=12))
    found = {pair for first, second, _ in parts
             for pair in zip(first.tolist(), second.tolist(), strict=True)}  # fmt: skip
    numbers = itertools.combinations(range(len(hashes)), 2)
    wanted = {(i, j) for i, j in numbers
              if expected_pairs(int(hashes[i]), int(hashes[j]), bands, 12)}  # fmt: skip
    assert found == wanted
    assert 30 < len(wanted) < 120
    assert all(cut == 0 for _, _, cut in parts)


def test_pairs_between_two_sets_are_those_of_a_loop():
    hashes = near_bits(120)
    mine, others = hashes[:70], hashes[50:]
    found = {pair for first, second, _ in near_duplicates.close_pairs(mine, others, apart=10)
             for pair in zip(first.tolist(), second.tolist(), strict=True)}  # fmt: skip
    wanted = {(i, j) for i, j in itertools.product(range(70), range(70))
              if expected_pairs(int(mine[i]), int(others[j]), 4, 10)}  # fmt: skip
    assert found == wanted
    assert any(i != j + 50 for i, j in wanted)


def test_very_many_alike_do_not_make_all_pairs(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_CHUNK", 1000)
    hashes = np.full(2000, 7, np.uint64)
    parts = list(near_duplicates.close_pairs(hashes, window=8))
    pairs = np.concatenate([np.stack([first, second]) for first, second, _ in parts], axis=1)
    assert pairs.shape[1] <= 4 * 2000 * 8
    assert sum(cut for _, _, cut in parts) == 4 * (2000 - 9)
    # They still hang together.
    assert np.isin(np.stack([np.arange(1999), np.arange(1, 2000)]).T @ [2000, 1],
                   pairs.T @ [2000, 1]).all()  # fmt: skip


def changed(image: np.ndarray) -> dict[str, np.ndarray]:
    side = len(image)
    shrunk = cv2.resize(image, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imdecode(np.frombuffer(encode(image, ".jpg"), np.uint8), cv2.IMREAD_COLOR_RGB)
    return {
        "jpeg": jpeg,
        "smaller": shrunk,
        "brighter": np.clip(1.1 * image.astype(np.float32) + 10, 0, 255).astype(np.uint8),
        "cropped": image[1:, 1:],
        "mirrored": np.ascontiguousarray(image[:, ::-1]),
    }


def test_changed_copies_are_found_and_nothing_else():
    originals = faces(60)
    copies = changed(originals[5])
    pictures = np.stack([near_duplicates.describe(each) for each in [*originals, *copies.values()]])
    found = near_duplicates.find(pictures)
    group = {5, *range(60, 65)}
    assert {*found.first.tolist(), *found.second.tolist()} == group
    mine = found.first == 5
    assert found.second[mine].tolist() == [60, 61, 62, 63, 64]
    assert found.mirrored[mine].tolist() == [False, False, False, False, True]
    assert (found.first < found.second).all()


@pytest.mark.parametrize("mirror", [False, True])
def test_correlations_are_those_of_a_loop(mirror):
    pictures = np.stack([near_duplicates.describe(each) for each in faces(40)])
    pictures[30:] = pictures[:10] + 0.02 * pictures[10:20]
    if mirror:
        pictures[30:] *= near_duplicates.MIRROR
    found = near_duplicates.find(pictures, correlation=0.9)
    exact = pictures.astype(np.float64)
    mean, deviation = exact.mean(axis=0), exact.std(axis=0)
    sign = near_duplicates.MIRROR.astype(np.float64)
    wanted = {}
    for i, j in itertools.combinations(range(40), 2):
        for one, mirrored in ((exact[i], False), (exact[i] * sign, True)):
            a, b = (one - mean) / deviation, (exact[j] - mean) / deviation
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            if cosine >= 0.9 and cosine > wanted.get((i, j), (0, False))[0]:
                wanted[i, j] = cosine, mirrored
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert sorted(wanted) == pairs
    assert len(pairs) >= 10
    np.testing.assert_allclose(found.correlation, [wanted[p][0] for p in pairs], atol=1e-5)
    assert found.mirrored.tolist() == [wanted[p][1] for p in pairs]


def test_a_mirror_image_changes_signs_alone():
    image = faces(1)[0]
    mirrored = near_duplicates.describe(np.ascontiguousarray(image[:, ::-1]))
    expected = near_duplicates.describe(image) * near_duplicates.MIRROR
    np.testing.assert_allclose(mirrored, expected, atol=1e-5)


def test_flat_pictures_have_no_duplicates():
    flat = np.full((40, 40, 3), 90, np.uint8)
    assert not near_duplicates.describe(flat).any()
    pictures = np.stack([near_duplicates.describe(each) for each in [flat, flat, *faces(5)]])
    assert len(near_duplicates.find(pictures).first) == 0
    assert len(near_duplicates.find(np.zeros((3, 64), np.float32)).first) == 0


def test_another_set():
    pictures = np.stack([near_duplicates.describe(each) for each in faces(50)])
    found = near_duplicates.find(pictures[:30], pictures[20:])
    assert found.first.tolist() == list(range(20, 30))
    assert found.second.tolist() == list(range(10))
    with pytest.raises(ValueError, match="bands"):
        near_duplicates.find(pictures, bands=2)
