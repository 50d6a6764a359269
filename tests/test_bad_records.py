"""A record that can't be read: another stands in for it, always the same; too many end the run."""

import json

import numpy as np
import pytest

from facejax import data
from facejax.data.unreadable import stand_ins
from facejax.errors import UserError
from facejax.training.bad_records import BadRecords
from tests.pictures import encode


class Images:
    """Ten PNGs of 8x8 pixels, the shade of each its number; some are torn."""

    labels = np.array([0, 1, 0, 1, 2, 2, 2, 0, 3, 1], np.int32)
    num_classes = 4

    def __init__(self, *torn):
        self.torn = torn

    def __len__(self):
        return 10

    def __getitem__(self, index):
        image = encode(np.full((8, 8, 3), 10 * index, np.uint8), ".png")
        image = image[:40] if index in self.torn else image
        return {"image": image, "label": int(self.labels[index]), "id": f"{index}.png"}


def taken(source, count=12, **more):
    rows = data.batches(
        source, batch_size=4, image_size=8, seed=3, replace_bad=True, **{"threads": 0, **more}
    )
    return [next(rows) for _ in range(count)]


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("most", [1, 3, 100])
def test_stand_ins_are_of_the_same_identity_first(number, most):
    labels = Images.labels.tolist()
    behind = [(number + i) % 10 for i in range(1, 10)]
    own = [i for i in behind if labels[i] == labels[number]]
    wanted = (own + [i for i in behind if i not in own])[:most]
    assert stand_ins(Images.labels, number, most=most).tolist() == wanted


@pytest.mark.parametrize("per_identity", [0, 2])
def test_the_others_rows_are_those_of_a_whole_source(per_identity):
    torn = {2: 7, 7: 0, 8: 9}  # and what stands in: 8 is the only one of its identity
    whole = taken(Images(), per_identity=per_identity)
    found = taken(Images(*torn), per_identity=per_identity)
    seen = set()
    for a, b in zip(whole, found, strict=True):
        for was, now, replaced, image in zip(
            a["record"], b["record"], b["replaced"], b["image"], strict=True
        ):
            stand_in = {2: 0, 7: 0, 8: 9}.get(int(was), int(was))
            assert (int(now), int(replaced)) == (stand_in, was if was in torn else -1)
            assert (image == 10 * now).all()
            seen.add(int(replaced))
        np.testing.assert_array_equal(b["label"], Images.labels[b["record"]])
        assert (a["replaced"] == -1).all()
    assert seen >= {-1, 2, 7}
    again = taken(Images(*torn), count=5, start=7, threads=2, per_identity=per_identity)
    for a, b in zip(found[7:], again, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_without_it_the_first_one_ends_the_iteration():
    rows = data.batches(Images(4), batch_size=10, image_size=8, seed=0, threads=0)
    with pytest.raises(UserError, match=r"^4\.png .*: replace the file or remove it\."):
        next(rows)


def test_where_none_can_be_read_it_ends():
    with pytest.raises(UserError, match=r"\.png "):
        taken(Images(*range(10)))


def test_each_is_named_once_and_too_many_end_the_run(tmp_path):
    path, source = tmp_path / "bad_records.jsonl", Images(2, 8)
    bad = BadRecords(path, source, most=0.1, start=0)
    bad.update(3, np.array([1, 0]), np.array([-1, 2]))
    bad.update(5, np.array([0, 0]), np.array([2, 2]))
    (line,) = map(json.loads, path.read_text().splitlines())
    reason = line.pop("reason")
    assert reason.startswith("2.png is damaged") or reason.startswith("2.png does not")
    assert line == {"step": 3, "record": 2, "instead": 0}
    # The run goes on from a checkpoint after it, and from one before it.
    assert BadRecords(path, source, most=0.1, start=4).known == {2}
    with pytest.raises(UserError, match=r"^8\.png .*; 2 of 10 records .*=0\.1 allows no more"):
        BadRecords(path, source, most=0.1, start=4).update(6, np.array([9]), np.array([8]))
    assert BadRecords(path, source, most=0.1, start=2).known == set()
    assert path.read_text() == ""
