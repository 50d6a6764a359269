"""Batch n depends on the source, the seed, n and the size, and on nothing else."""

import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest

import facejax.data.pipeline
from facejax.data import (
    batches,
    build_dataset,
    decode,
    folder_source,
    padded_batches,
    read_images,
)
from facejax.errors import UserError
from tests.pictures import JPEGS, encode, smooth, write_folder, zero_tail

SIZE = 8


class Numbered:
    """A source whose record i is an image full of i, with the label i."""

    def __init__(self, count: int):
        self.labels = np.arange(count, dtype=np.int32)
        self.num_classes = count

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {"image": np.full((SIZE, SIZE, 3), index, np.uint8), "label": int(index)}


class People(Numbered):
    """A source in which person p has `images[p]` records, shuffled; record i is still full of i."""

    def __init__(self, images: list[int]):
        labels = np.repeat(np.arange(len(images), dtype=np.int32), images)
        self.labels = np.random.default_rng(0).permutation(labels)
        self.num_classes = len(images)

    def __getitem__(self, index: int) -> dict:
        return super().__getitem__(index) | {"label": int(self.labels[index])}


def take(count: int, source=None, **options) -> list[dict[str, np.ndarray]]:
    options = {"batch_size": 4, "image_size": SIZE, "seed": 3, "threads": 0} | options
    iterator = batches(source or Numbered(10), **options)
    return list(islice(iterator, count))


def labels_of(taken: list[dict[str, np.ndarray]]) -> np.ndarray:
    return np.concatenate([batch["label"] for batch in taken])


def assert_equal(left: list[dict[str, np.ndarray]], right: list[dict[str, np.ndarray]]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys() == {"image", "label", "record"}
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_shapes_types_and_rows():
    for batch in take(5):
        assert batch["image"].shape == (4, SIZE, SIZE, 3)
        assert batch["image"].dtype == np.uint8
        assert batch["label"].shape == (4,)
        assert batch["label"].dtype == np.int32
        rows = np.broadcast_to(batch["label"][:, None, None, None], batch["image"].shape)
        np.testing.assert_array_equal(batch["image"], rows)  # an image keeps its label
        assert (batch["record"].shape, batch["record"].dtype) == ((4,), np.int64)
        np.testing.assert_array_equal(batch["record"], batch["label"])


def test_every_record_once_an_epoch_in_a_new_order_each():
    epochs = labels_of(take(15)).reshape(6, 10)  # 4 does not divide 10: batches straddle epochs
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    orders = {tuple(epoch) for epoch in epochs.tolist()} | {tuple(range(10))}
    assert len(orders) == 7


def test_the_seed_decides_the_order():
    assert_equal(take(6, seed=5), take(6, seed=5))
    assert not np.array_equal(labels_of(take(6, seed=5)), labels_of(take(6, seed=6)))


@pytest.mark.parametrize("start", [1, 2, 3, 7, 25])
def test_starting_at_k_is_dropping_k_batches(start):
    assert_equal(take(5, start=start), take(start + 5)[start:])


def test_starting_far_out_costs_nothing():
    began = time.perf_counter()
    take(1, start=10**9)
    assert time.perf_counter() - began < 5  # counting there would take hours


@pytest.mark.parametrize("threads", [1, 2, 5, None])
@pytest.mark.parametrize("prefetch", [1, 8])
def test_threads_change_nothing(threads, prefetch):
    options = {"threads": threads, "prefetch": prefetch, "start": 2}
    assert_equal(take(20, **options), take(20, start=2))


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("process_count", [2, 3, 4])
def test_processes_share_the_batch_of_one_process(process_count, start):
    whole = take(8, batch_size=12, start=start, source=Numbered(30))
    parts = [
        take(
            8,
            batch_size=12 // process_count,
            start=start,
            process_index=index,
            process_count=process_count,
            source=Numbered(30),
        )
        for index in range(process_count)
    ]
    for number, batch in enumerate(whole):
        together = {name: np.concatenate([part[number][name] for part in parts]) for name in batch}
        assert_equal([together], [batch])
    epoch = np.concatenate([labels_of(part[:2]) for part in parts])  # 24 of the first 30 records
    if start == 0:
        assert len(set(epoch.tolist())) == 24, "two processes had the same record"


def test_a_source_smaller_than_a_batch():
    labels = labels_of(take(2, source=Numbered(3), batch_size=6))
    for epoch in labels.reshape(4, 3):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(3))


def balanced(count: int, *, images=(7, 3, 4, 9, 5, 3, 6, 3, 8, 4, 3), **options):
    """The labels and record numbers [batches, identities, 3] of batches with 3 images of each."""
    source = People(list(images))
    taken = take(count, source, **{"batch_size": 12, "per_identity": 3} | options)
    labels = labels_of(taken).reshape(count, -1, 3)
    records = np.stack([batch["record"] for batch in taken]).reshape(labels.shape)
    images = np.stack([batch["image"][:, 0, 0, 0] for batch in taken]).reshape(labels.shape)
    np.testing.assert_array_equal(images, records)
    np.testing.assert_array_equal(source.labels[records], labels)  # an image keeps its label
    return labels, records


def test_balanced_batches_are_whole_identities():
    labels, records = balanced(12)
    np.testing.assert_array_equal(labels, np.broadcast_to(labels[..., :1], labels.shape))
    for people, images in zip(labels[..., 0], records, strict=True):
        assert len(set(people)) == 4
        assert len(set(images.ravel())) == 12  # no image twice in a batch


def test_no_identity_comes_again_before_the_others_had_their_turn():
    people = balanced(40)[0][..., 0].reshape(20, 8)  # two batches of four make a turn of eleven
    assert all(len(set(turn)) == 8 for turn in people.tolist())
    assert len({tuple(turn) for turn in people.tolist()}) == 20  # an order of its own each
    assert set(people.ravel()) == set(range(11))
    assert np.ptp(np.bincount(people.ravel())) <= 8  # 14.5 each; the three left out differ


def test_every_image_of_an_identity_is_drawn():
    labels, records = balanced(60)
    assert set(records.ravel()) == set(range(55))
    for_person_3 = {tuple(sorted(images)) for images in records[labels[..., 0] == 3].tolist()}
    assert len(for_person_3) > 10  # of 84 triples


def test_an_identity_with_few_images_repeats_them_evenly():
    options = {"batch_size": 15, "per_identity": 5}
    for batch in take(6, People([1, 2, 6]), **options):
        images = batch["image"][:, 0, 0, 0]
        counts = [
            sorted(np.unique(images[batch["label"] == p], return_counts=True)[1]) for p in range(3)
        ]
        assert counts == [[5], [2, 3], [1, 1, 1, 1, 1]]


def test_balanced_batches_resume_and_are_shared_like_the_others():
    options = {"source": People([4] * 13), "batch_size": 12, "per_identity": 2}
    whole = take(9, **options)
    assert_equal(take(4, start=5, threads=2, **options), whole[5:])
    assert_equal(take(1, start=8, **options), whole[8:])
    assert not np.array_equal(labels_of(take(9, seed=4, **options)), labels_of(whole))
    options["batch_size"] = 4
    parts = [take(9, process_index=index, process_count=3, **options) for index in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        together = {name: np.concatenate([share[name] for share in shares]) for name in batch}
        assert_equal([together], [batch])


def test_the_same_batches_from_a_folder_and_from_its_dataset(tmp_path):
    folder = folder_source(write_folder(tmp_path / "faces", {"Ann": 3, "Bob": 2, "Cyd": 4}))
    dataset = build_dataset(folder, tmp_path / "out", progress=False)
    from_folder = take(6, source=folder, image_size=12)
    assert from_folder[0]["image"].shape == (4, 12, 12, 3)
    assert_equal(take(6, source=dataset, image_size=12, threads=2), from_folder)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("read", [batches, padded_batches])
def test_a_damaged_image_is_named_in_one_sentence(tmp_path, read, threads):
    write_folder(tmp_path, {"Ann": 3, "Bob": 2})
    (tmp_path / "Bob" / "Bob_0002.jpg").write_bytes(encode(smooth(16, 16), ".jpg")[:90])
    options = {"seed": 0} if read is batches else {}
    iterator = read(
        folder_source(tmp_path), batch_size=5, image_size=SIZE, threads=threads, **options
    )
    with pytest.raises(UserError) as caught:
        next(iterator)
    message = "Bob/Bob_0002.jpg does not decode as an image: replace the file or remove it."
    assert str(caught.value) == message


@pytest.mark.parametrize("threads", [0, 4])
@pytest.mark.parametrize("read", [batches, padded_batches, read_images])
def test_an_image_that_libjpeg_would_repair_is_named_and_nothing_else_said(
    tmp_path, capfd, read, threads
):
    write_folder(tmp_path, {"Ann": 6, "Bob": 2})
    damaged = tmp_path / "Bob" / "Bob_0002.jpg"
    damaged.write_bytes(zero_tail(JPEGS["baseline"], b"\xff\xd9"))
    options = {"image_size": SIZE, "threads": threads}
    if read is read_images:
        iterator = read(sorted(tmp_path.glob("*/*.jpg")), **options)
    else:
        order = {"seed": 0} if read is batches else {}
        iterator = read(folder_source(tmp_path), batch_size=8, **order, **options)
    with pytest.raises(UserError, match=r"Bob/Bob_0002\.jpg is damaged \(Corrupt JPEG data: "):
        list(islice(iterator, 8))
    assert capfd.readouterr().err == ""


def test_whole_images_are_listened_to_once(tmp_path, monkeypatch):
    source = folder_source(write_folder(tmp_path / "faces", {"Ann": 6, "Bob": 2}))
    told = []

    def counting(image, image_size, name, *, whole):
        told.append(whole)
        return decode(image, image_size, name, whole=whole)

    monkeypatch.setattr(facejax.data.pipeline, "decode", counting)
    take(4, source=source)
    assert told == [False] * 8 + [True] * 8
    told.clear()
    take(2, source=build_dataset(source, tmp_path / "out", progress=False))
    assert told == [True] * 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"start": -1},
        {"process_index": 1},
        {"process_index": -1},
        {"process_index": 2, "process_count": 2},
        {"source": Numbered(1), "seed": -1},
        {"per_identity": -1},
    ],
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=r"."):
        take(1, **wrong)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"per_identity": 3}, "a batch of 4 is not a whole number of identities"),
        ({"per_identity": 8}, "a batch of 4 is not a whole number of identities"),
        ({"per_identity": 1}, "a batch of 4 identities needs more than the 3 there are"),
        (
            {"per_identity": 2, "process_count": 2},
            "a batch of 4 identities needs more than the 3 there are",
        ),
    ],
)
def test_batches_that_identities_cannot_fill(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        take(1, People([3, 3, 3]), **wrong)


def test_an_empty_source():
    with pytest.raises(ValueError, match="empty"):
        batches(Numbered(0), batch_size=4, image_size=SIZE, seed=0)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("count", [1, 4, 8, 10])
def test_padded_batches(count, threads):
    source = Numbered(count)
    taken = list(padded_batches(source, batch_size=4, image_size=SIZE, threads=threads))
    assert len(taken) == -(-count // 4)
    for batch in taken:
        assert batch["image"].shape == (4, SIZE, SIZE, 3)
        assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
    labels = labels_of(taken)
    np.testing.assert_array_equal(labels[:count], np.arange(count))
    np.testing.assert_array_equal(labels[count:], -1)
    records = np.concatenate([batch["record"] for batch in taken])
    assert records.dtype == np.int64
    np.testing.assert_array_equal(records, labels)
    images = np.concatenate([batch["image"] for batch in taken])
    np.testing.assert_array_equal(images[:count, 0, 0, 0], np.arange(count))
    assert not images[count:].any()


@pytest.mark.parametrize("ending", ["pass", "del iterator", "raise SystemExit(0)"])
def test_stopping_early_hangs_nothing(ending):
    code = f"""
import numpy as np
from facejax.data import batches, padded_batches
from tests.test_pipeline import Numbered
iterator = batches(Numbered(100), batch_size=4, image_size=8, seed=0, threads=4, prefetch=16)
next(iterator)
padded = padded_batches(Numbered(100), batch_size=4, image_size=8, threads=4)
next(padded)
padded.close()
{ending}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
