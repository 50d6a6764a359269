"""Batches that a packed dataset gives at once are those that it gives image by image."""

from itertools import islice

import numpy as np
import pytest

from facejax.data import batches, decode, pack_dataset, select
from facejax.errors import UserError
from tests.pictures import JPEGS, Arrays


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    source = Arrays(images, [number % 4 for number in range(20)], 4)
    return pack_dataset(source, tmp_path_factory.mktemp("packed"), image_size=8, progress=False)


@pytest.mark.parametrize("size", [8, 12])  # as it is packed, and not
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_at_once_is_one_by_one(packed, size, part):
    source = select(packed, share_of_images=part)
    for batch in islice(batches(source, batch_size=7, image_size=size, seed=1, threads=2), 6):
        for image, label, record in zip(*map(batch.get, ("image", "label", "record")), strict=True):
            alone = source[record]
            assert label == alone["label"]
            np.testing.assert_array_equal(image, decode(alone["image"], size))


def test_it_is_asked_for_all_at_once(packed, monkeypatch):
    monkeypatch.setattr(type(packed), "__getitem__", None)
    batch = next(batches(packed, batch_size=20, image_size=8, seed=1, threads=0))
    assert sorted(batch["record"]) == list(range(20))


@pytest.mark.parametrize("kind", JPEGS)
def test_what_is_known_to_be_whole_comes_out_alike(kind):
    np.testing.assert_array_equal(decode(JPEGS[kind], 96, whole=True), decode(JPEGS[kind], 96))
    with pytest.raises(UserError, match="it does not decode as an image"):
        decode(JPEGS[kind][:4], 96, "it", whole=True)  # known or not
