"""Parts of sources and joined sources against plain loops; balanced batches against their share."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from facejax.data import (
    batches,
    fingerprint,
    identity_names,
    join_sources,
    select,
    select_records,
)
from facejax.errors import UserError
from tests.pictures import Faces


def labels_of_a_long_tail(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    counts = [1, 9, 0, 3, 3, 20, 2, 1, 5, 12]
    return generator.permutation(np.repeat(np.arange(10, dtype=np.int32), counts))


def slowly(labels, minimum, maximum, images, identities, seed) -> list[int]:
    """`select_records` record by record, with the same numbers drawn."""
    drawn = np.random.Philox(key=seed, counter=[0, 0, 0, 0]).random_raw(len(labels)).tolist()
    of_label = np.random.Philox(key=seed, counter=[0, 0, 0, 1]).random_raw(20).tolist()
    records = sorted(range(len(labels)), key=lambda i: (drawn[i], i))
    records = sorted(records[: round(images * len(labels))])
    people: dict[int, list[int]] = {}
    for record in records:
        people.setdefault(int(labels[record]), []).append(record)
    people = {label: own for label, own in people.items() if len(own) >= minimum}
    chosen = sorted(people, key=lambda label: of_label[label])[: round(identities * len(people))]
    kept = []
    for label in chosen:
        own = sorted(people[label], key=lambda record: drawn[record])
        kept += own[: maximum or len(own)]
    return sorted(kept)


@pytest.mark.parametrize("minimum", [0, 2, 4])
@pytest.mark.parametrize("maximum", [0, 5])
@pytest.mark.parametrize("images", [1.0, 0.6])
@pytest.mark.parametrize("identities", [1.0, 0.5])
def test_records_are_those_of_a_plain_loop(minimum, maximum, images, identities):
    for seed in range(3):
        labels = labels_of_a_long_tail(seed)
        found = select_records(
            labels,
            minimum_images=minimum,
            maximum_images=maximum,
            share_of_images=images,
            share_of_identities=identities,
            seed=seed,
        )
        assert found.tolist() == slowly(labels, minimum, maximum, images, identities, seed)


def test_another_seed_draws_others_and_a_smaller_share_is_a_part():
    labels = labels_of_a_long_tail()
    for name in ("share_of_images", "share_of_identities"):
        few, more, other = (
            set(select_records(labels, **{name: share}, seed=seed).tolist())
            for share, seed in ((0.3, 1), (0.7, 1), (0.7, 2))
        )
        assert few < more
        assert more != other


def test_a_selection_is_a_source():
    names = [f"person {i}" for i in range(10)]
    source = Faces(names, labels_of_a_long_tail())
    assert select(source) is source
    some = select(source, minimum_images=5, maximum_images=9)
    assert some.identity_names == ("person 1", "person 5", "person 8", "person 9")
    assert some.num_classes == 4
    assert Counter(some.labels.tolist()) == {0: 9, 1: 9, 2: 5, 3: 9}
    assert some.labels.dtype == np.int32
    for index in range(len(some)):
        record = some[index]
        assert record["label"] == some.labels[index]
        assert names[int(record["image"])] == some.identity_names[record["label"]]


def test_what_cannot_be_selected():
    source = Faces("ab", [0, 0, 1])
    for options in ({"minimum_images": 3}, {"share_of_images": 0.1}, {"share_of_identities": 0.2}):
        with pytest.raises(UserError, match="no images are left with"):
            select(source, **options)
    with pytest.raises(UserError, match="maximum_images 2 is below minimum_images 3"):
        select(source, minimum_images=3, maximum_images=2)
    for options in ({"minimum_images": -1}, {"share_of_images": 0.0}, {"seed": -1}):
        with pytest.raises(ValueError, match="out of range"):
            select(source, **options)


A = Faces(["Ann", "Bob"], [0, 1, 1])
B = Faces(["Cyd", "Ann"], [1, 0])
C = Faces(["Ann", "Ann (2)"], [0, 1, 0, 1])


def test_joined_by_names():
    joined = join_sources([A, B, C], join="names")
    assert joined.identity_names == ("Ann", "Bob", "Cyd", "Ann (2)")
    expected = [(source, i) for source in (A, B, C) for i in range(len(source))]
    for index, (source, i) in enumerate(expected):
        name = source.identity_names[source.labels[i]]
        assert joined.identity_names[joined.labels[index]] == name
        assert joined[index] == {"label": joined.labels[index], "image": source[i]["image"]}
    assert len(joined) == 9
    assert joined.labels.dtype == np.int32


def test_joined_as_other_people():
    joined = join_sources([A, B, C])
    assert joined.identity_names == ("Ann", "Bob", "Cyd", "Ann (2)", "Ann (3)", "Ann (2) (3)")
    assert joined.labels.tolist() == [0, 1, 1, 3, 2, 4, 5, 4, 5]
    assert len(set(identity_names(joined))) == joined.num_classes == 6
    with pytest.raises(ValueError, match="join must be"):
        join_sources([A], join="both")
    with pytest.raises(ValueError, match="no sources"):
        join_sources([])


class Printed(Faces):
    def fingerprint(self) -> str:
        return f"{self.identity_names} {self.labels.tolist()}"


def test_fingerprints_of_views_follow_what_is_in_them():
    a, b = Printed(["Ann", "Bob"], [0, 1, 1]), Printed(["Bob", "Cyd"], [0, 1])
    views = [
        join_sources([a, b]),
        join_sources([b, a]),
        join_sources([a, b], join="names"),
        join_sources([a, a]),
        select(a, minimum_images=2),
        select(a, maximum_images=1),
        select(b, share_of_images=0.5),
    ]
    assert len({fingerprint(view) for view in views}) == len(views)
    assert fingerprint(join_sources([a, b])) == fingerprint(views[0])


class Painted(Faces):
    """Record i is an image full of i."""

    def __getitem__(self, index):
        return super().__getitem__(index) | {"image": np.full((8, 8, 3), index, np.uint8)}


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_balanced_batches_draw_identities_by_their_share(balance):
    counts = np.array([1, 4, 0, 16, 64])
    source = Painted("abcde", np.repeat(np.arange(5), counts))
    options = {"batch_size": 50, "image_size": 8, "seed": 3, "threads": 0, "balance": balance}
    rows = np.concatenate([b["record"] for b in islice(batches(source, **options), 200)])
    shares = np.bincount(source.labels[rows], minlength=5) / len(rows)
    wanted = np.where(counts > 0, counts ** (1 - balance), 0)
    wanted = wanted / wanted.sum()
    # 10,000 draws: five standard errors
    np.testing.assert_array_less(
        np.abs(shares - wanted), 5 * np.sqrt(wanted * (1 - wanted) / 1e4) + 1e-9
    )
    within = np.bincount(rows[source.labels[rows] == 4] - 21, minlength=64)
    assert within.min() > 0.4 * within.mean()


def test_balanced_rows_are_a_function_of_seed_and_place():
    source = Painted("abc", [0] * 30 + [1] * 3 + [2])
    options = {"image_size": 8, "seed": 3, "balance": 1.0}
    whole = list(islice(batches(source, batch_size=8, threads=0, **options), 12))
    later = list(islice(batches(source, batch_size=8, threads=2, start=5, **options), 7))
    for one, other in zip(whole[5:], later, strict=True):
        np.testing.assert_array_equal(one["record"], other["record"])
    parts = [
        list(islice(batches(source, batch_size=4, process_index=i, process_count=2, **options), 12))
        for i in (0, 1)
    ]
    for one, left, right in zip(whole, *parts, strict=True):
        both = np.concatenate([left["record"], right["record"]])
        np.testing.assert_array_equal(one["record"], both)
    assert len({batch["record"].tobytes() for batch in whole}) == 12, "an epoch is not repeated"
    with pytest.raises(ValueError, match="out of range"):
        batches(source, batch_size=4, **options | {"balance": 1.5})
    with pytest.raises(ValueError, match="give one of"):
        batches(source, batch_size=4, per_identity=2, **options)
