"""Error rates by group against loops, the measures of spread, and RFW's folders."""

import itertools

import cv2
import numpy as np
import pytest

from facejax import evaluation
from facejax.errors import UserError
from facejax.evaluation import bootstrap, statistics
from facejax.evaluation.fairness import fairness
from facejax.evaluation.rfw import from_groups
from facejax.evaluation.spread import spread


def grouped(seed, count=3000, people=120):
    """Pairs of people of three groups, one of which is confused more often; some have no group."""
    rng = np.random.default_rng(seed)
    names = np.array(["ash", "birch", "cedar", ""])
    group = rng.integers(0, 3, people)
    group[:6] = 3
    identities = rng.integers(0, people, (count, 2))
    same = rng.random(count) < 0.4
    identities[same, 1] = identities[same, 0]
    same = identities[:, 0] == identities[:, 1]
    alike = 0.8 * (group[identities] == 1).all(axis=1)
    scores = np.round(rng.normal(size=count) + 2.5 * same + alike, 1)
    return scores, same, identities, names[group[identities]]


def test_rates_of_groups_against_a_loop():
    scores, same, identities, groups = grouped(0)
    got = fairness(scores, same, identities, groups, far=0.05, resamples=100)
    assert got.threshold == evaluation.tar_at_far(scores, same, far=0.05).threshold
    assert [group.name for group in got.groups] == ["ash", "birch", "cedar"]
    assert got.across == sum(a != b for a, b in groups)
    rates = []
    for found in got.groups:
        inside = [(a, b) == (found.name, found.name) for a, b in groups]
        rows = list(itertools.compress(zip(scores, same, identities, strict=True), inside))
        wrong = [s >= got.threshold for s, y, _ in rows if not y]
        missed = [s < got.threshold for s, y, _ in rows if y]
        for rate, errors, kind in (
            (found.false_matches, wrong, False),
            (found.false_non_matches, missed, True),
        ):
            assert rate.rate == pytest.approx(np.mean(errors), abs=1e-12)
            assert (rate.errors, rate.pairs) == (sum(errors), len(errors))
            assert rate.people == len({i for _, y, ids in rows if y == kind for i in ids})
            assert rate.low < rate.rate < rate.high
        own = [s for s, y, _ in rows if not y]
        at_most = [t for t in {*scores} if np.mean([s >= t for s in own]) <= 0.05]
        wanted = np.mean([s >= min(at_most) for s in own])
        assert np.mean([s >= found.own_threshold.threshold for s in own]) == wanted
        assert found.own_threshold.low < found.own_threshold.threshold < found.own_threshold.high
        assert any("FMR rests on" in note for note in found.notes) == (sum(wrong) < 100)
        rates.append([np.mean(wrong), np.mean(missed)])
    by_kind = np.array(rates).T
    for found, values in zip(got[2:4], by_kind, strict=True):
        assert found == spread(values)
    assert got.groups[1].false_matches.rate == max(by_kind[0])


def test_a_group_may_lack_pairs_of_a_kind():
    scores, same, identities, groups = grouped(1)
    birch = (groups == "birch").all(axis=1)
    cedar = (groups == "cedar").any(axis=1) & ~same
    kept = (~birch | same) & ~cedar
    parts = (scores[kept], same[kept], identities[kept], groups[kept])
    got = fairness(*parts, far=0.01, threshold=1.5, resamples=20)
    assert got.threshold == 1.5
    ash, birches, cedars = got.groups
    assert birches.false_matches is birches.own_threshold is cedars.false_matches is None
    assert birches.false_non_matches is not None
    assert got.false_match_spread is None  # only ash has one
    assert got.false_non_match_spread is not None
    assert ash.notes
    few = fairness(*parts, far=1e-3, threshold=1.5, resamples=20).groups[0]
    assert few.own_threshold is None
    assert few.notes[0].startswith("ash: too few negatives for FAR 1e-3: need 1000, have")


def test_an_interval_without_an_error_is_no_point():
    scores, same, identities, groups = grouped(2)
    got = fairness(scores, same, identities, groups, far=0.05, threshold=99.0, resamples=20)
    rate = got.groups[0].false_matches
    assert rate is not None
    assert (rate.rate, rate.low) == (0, 0)
    assert 0.01 < rate.high < 0.3  # of 29 people, as of 14 pairs
    assert got.false_match_spread == (None, 0, None)


def test_refuses_what_has_no_groups():
    scores, same, identities, groups = grouped(3)
    with pytest.raises(UserError, match="no pair is of two images of one group"):
        fairness(scores, same, identities, np.full_like(groups, ""), far=0.1)
    with pytest.raises(UserError, match=r"too few negatives for FAR 1e-5.*; or give a threshold"):
        fairness(scores, same, identities, groups, far=1e-5)
    with pytest.raises(ValueError, match=r"groups \[3000, 2\]"):
        fairness(scores, same, identities, groups[:, 0], far=0.1)


def test_the_measures_of_spread():
    values = [0.02, 0.05, 0.05, 0.01]
    got = spread(values)
    assert got.maximum_over_minimum == pytest.approx(5)
    mean = sum(values) / 4
    assert got.standard_deviation == pytest.approx(
        (sum((v - mean) ** 2 for v in values) / 4) ** 0.5
    )
    differences = sum(abs(a - b) for a in values for b in values)
    assert got.gini == pytest.approx(4 / 3 * differences / (2 * 16 * mean), abs=1e-12)
    assert spread([0.3, 0.3]) == (1, 0, 0)
    assert spread([0.0, 0.4]) == (None, pytest.approx(0.2), pytest.approx(1))
    assert spread([0, 0, 0]) == (None, 0, None)
    for wrong in ([0.1], [0.1, -0.1], [0.1, np.nan]):
        with pytest.raises(ValueError, match="two or more rates"):
            spread(wrong)


def test_a_threshold_is_chosen_anew_for_each_row_of_weights():
    scores, same, _, _ = grouped(4, count=200)
    rng = np.random.default_rng(5)
    rows = rng.poisson(1.0, (5, 200))
    got = statistics.limits(scores, same, fars=(0.1, 1.0))(rows.astype(float))
    for values, times in zip(got, rows, strict=True):
        falling = np.sort(np.repeat(scores[~same], times[~same]))[::-1]
        assert values.tolist() == [falling[int(0.1 * len(falling) + 1e-9)], scores[~same].min()]
    none = statistics.limits(scores, same, fars=(0.1,))(same[None].astype(float))
    assert np.isnan(none).all()
    assert bootstrap.resample(
        statistics.limits(scores, same, fars=(0.1,)), np.arange(400).reshape(-1, 2), resamples=50
    ).variances.shape == (1,)


def rfw(tmp_path):
    """Three groups, of which one has no pair file; the same names in both of the others."""
    root = tmp_path / "RFW"
    for number, group in enumerate(("African", "Asian", "Other")):
        for person in ("m.01", "m.02"):
            folder = root / "test" / "data" / group / person
            folder.mkdir(parents=True)
            for image in (1, 2):
                gray = 100 * number + 10 * int(person[-1]) + image
                name = f"{person}_{image:04d}.jpg"
                cv2.imwrite(str(folder / name), np.full((8, 8, 3), gray, np.uint8))
        if group != "Other":
            texts = root / "test" / "txts" / group
            texts.mkdir(parents=True)
            lines = ["m.01\t1\t2", "m.02\t1\t2", "m.01\t1\tm.02\t2", "m.01\t2\tm.02\t1"]
            (texts / f"{group}_pairs.txt").write_text("\n".join(lines) + "\n")
    return root


def test_reads_the_folders_of_rfw(tmp_path):
    root = rfw(tmp_path)
    protocol, groups = from_groups(root, image_size=8)
    colors = np.concatenate([*protocol.images])[:, 0, 0, 0].astype(int)[protocol.indices]
    african = [[11, 12], [21, 22], [11, 22], [12, 21]]
    assert np.abs(colors - [*african, *(np.array(african) + 100)]).max() <= 1  # JPEG
    assert groups[protocol.indices].tolist() == [["African"] * 2] * 4 + [["Asian"] * 2] * 4
    assert protocol.same.tolist() == [True, True, False, False] * 2
    people = protocol.identities[protocol.indices]
    assert people.tolist() == [[0, 0], [1, 1], [0, 1], [0, 1], [2, 2], [3, 3], [2, 3], [2, 3]]
    again, _ = from_groups(root / "test", image_size=8)
    np.testing.assert_array_equal(again.indices, protocol.indices)


def test_groups_may_have_their_pair_files_beside_their_images(tmp_path):
    root = rfw(tmp_path) / "test"
    for group, name in (("African", "pairs.txt"), ("Asian", "Asian_pairs.txt")):
        (root / "txts" / group / f"{group}_pairs.txt").rename(root / "data" / group / name)
    assert len(from_groups(root / "data", image_size=8).groups) == 8
    (root / "data" / "African" / "pairs.txt").unlink()
    with pytest.raises(UserError, match=r"has 1 folders with a pair file, and two groups"):
        from_groups(root, image_size=8)
    with pytest.raises(UserError, match="there is no folder"):
        from_groups(root / "none", image_size=8)


def test_pair_files_of_rfw_name_the_line_that_is_wrong(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("A\t1\t2\nB\t1\t2\nA\t1\tB\t2\nA\t2\tB\n")
    with pytest.raises(UserError, match=r"line 4: .* is not a pair; write `name i j`"):
        evaluation.read_pairs(path, headless=True)


def test_attributes_of_a_csv_file(tmp_path):
    protocol, groups = from_groups(rfw(tmp_path), image_size=8)
    names = [
        f"{file.parent.parent.name}/{file.parent.name}/{file.name}"
        for file in (protocol.images.files)
    ]
    lines = ["path,group", *(f"{name},{group}" for name, group in zip(names, groups, strict=True))]
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    table = evaluation.ImageTable(tmp_path / "groups.csv")
    assert table.texts("group", names).tolist() == groups.tolist()
