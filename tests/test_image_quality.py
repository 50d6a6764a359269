"""Reject curves and correlations against plain loops and SciPy; tables of images, hostile ones."""

import numpy as np
import pytest
from scipy import stats

from facejax.errors import UserError
from facejax.evaluation import bootstrap, quality, tar_at_far
from facejax.evaluation.tables import ImageTable


def listed(seed, levels=None, images=60, pairs=300):
    """Pairs whose score falls with the worse image's quality."""
    rng = np.random.default_rng(seed)
    qualities = rng.uniform(0, 10, images)
    if levels:
        qualities = np.round(qualities / 10 * levels)
    indices = np.stack([rng.permutation(images)[:2] for _ in range(pairs)])
    same = rng.random(pairs) < 0.5
    scores = rng.normal(size=pairs) + same * qualities[indices].min(axis=1) / (levels or 10) * 4
    return np.round(scores, 1), same, indices, qualities


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("share_of", ["images", "pairs"])
def test_reject_curve_against_a_loop(levels, share_of):
    scores, same, indices, qualities = listed(0, levels)
    got = quality.error_versus_reject(scores, same, indices, qualities, far=0.1, share_of=share_of)
    assert got.threshold == tar_at_far(scores, same, far=0.1).threshold
    worst = [min(qualities[i], qualities[j]) for i, j in indices]
    pairs = [(w, s < got.threshold) for w, s, y in zip(worst, scores, same, strict=True) if y]
    used = {i for (i, j), y in zip(indices, same, strict=True) for i in (i, j) if y}
    points = []
    for level in sorted({w for w, _ in pairs}):
        kept = [missed for w, missed in pairs if w >= level]
        everything = [qualities[i] for i in used] if share_of == "images" else [w for w, _ in pairs]
        out = sum(q < level for q in everything) / len(everything)
        points.append((out, np.mean(kept), len(kept), level))
    for values, expected in zip(got, zip(*points, strict=True), strict=False):
        np.testing.assert_allclose(values, expected, atol=1e-12)
    assert got.rejected[0] == 0
    for upto in (0.2, 1.0):
        area = 0.0
        for (start, rate, *_), end in zip(points, [*got.rejected[1:], 1.0], strict=True):
            area += rate * max(min(end, upto) - start, 0)
        assert got.area(upto=upto) == pytest.approx(area, abs=1e-12)
    assert got.area() < got.area_by_chance() == got.false_non_match_rates[0]


def test_intervals_of_a_reject_curve_are_those_of_what_is_left():
    scores, same, indices, qualities = listed(5, levels=6)
    people = np.arange(60) // 4
    identities = people[indices]
    identities[same, 1] = identities[same, 0]
    got = quality.error_versus_reject(
        scores, same, indices, qualities, far=0.1, identities=identities, resamples=2000
    )
    assert got.low is not None
    assert got.high is not None
    worst = qualities[indices].min(axis=1)
    for number, level in enumerate(got.qualities):
        kept = same & (worst >= level)
        wrong = kept & (scores < got.threshold)
        rate, count = wrong.sum() / kept.sum(), len(np.unique(identities[kept, 0]))
        assert got.low[number] <= rate == got.false_non_match_rates[number] <= got.high[number]
        theirs = identities[kept, 0]
        errors = np.bincount(theirs, wrong[kept] - rate)
        variance = np.sum(errors**2) / kept.sum() ** 2  # of a ratio, by people
        if variance and kept.sum() > 60:  # else it is no linear matter
            expected = bootstrap.share_interval(rate, variance, count)
            np.testing.assert_allclose([got.low[number], got.high[number]], expected, atol=0.02)


def test_a_quality_that_says_nothing_has_the_area_of_chance():
    scores, same, indices, qualities = listed(1)
    got = quality.error_versus_reject(scores, same, indices, np.full(60, 3.0), far=0.1)
    assert got.rejected.tolist() == [0]
    assert got.area(upto=0.3) == pytest.approx(got.area_by_chance(upto=0.3))
    backwards = quality.error_versus_reject(scores, same, indices, -qualities, far=0.1)
    assert backwards.area() > got.area()


def test_refuses_a_curve_that_cannot_be():
    scores, same, indices, qualities = listed(2)
    with pytest.raises(UserError, match="too few negatives for FAR 1e-4"):
        quality.error_versus_reject(scores, same, indices, qualities, far=1e-4)
    with pytest.raises(ValueError, match="share_of"):
        quality.error_versus_reject(scores, same, indices, qualities, far=0.1, share_of="faces")
    qualities[3] = np.nan
    with pytest.raises(ValueError, match="finite qualities"):
        quality.error_versus_reject(scores, same, indices, qualities, far=0.1)
    curve = quality.error_versus_reject(scores, same, indices, np.arange(60), far=0.1)
    with pytest.raises(ValueError, match="upto"):
        curve.area(upto=0)


@pytest.mark.parametrize("levels", [3, 1000])
def test_rank_correlation_is_scipys(levels):
    rng = np.random.default_rng(3)
    for _ in range(5):
        first = rng.integers(0, levels, 200) * 1.0
        second = np.round(-first / levels * 5 + rng.normal(size=200))
        expected = stats.spearmanr(first, second).statistic
        assert quality.spearman(first, second) == pytest.approx(expected, abs=1e-12)
    assert quality.spearman(first, np.exp(-first / levels)) == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize("second", [[1.0, 2.0], [1.0, np.nan, 2.0], [4.0, 4.0, 4.0]])
def test_refuses_a_correlation_that_is_none(second):
    with pytest.raises(ValueError, match=r"\[N\] finite|all of one are equal"):
        quality.spearman(np.arange(3.0), np.array(second))


def test_norms_by_set_and_by_person():
    rng = np.random.default_rng(4)
    embeddings = rng.normal(size=(40, 6)) * rng.uniform(1, 9, (40, 1))
    values = quality.norms(embeddings)
    np.testing.assert_allclose(values, [np.sqrt(sum(x * x for x in row)) for row in embeddings])
    sets = np.where(np.arange(40) < 15, "mine", "theirs")
    got = quality.histograms(values, sets, bins=7)
    assert list(got.counts) == ["mine", "theirs"]
    for name, counts in got.counts.items():
        inside = values[sets == name]
        for number in range(7):
            low, high = got.edges[number : number + 2]
            last = number == 6
            assert counts[number] == sum(low <= v and (v < high or last) for v in inside)
    people = rng.integers(0, 5, 40) * 10
    by = quality.by_identity(values, people)
    for number, person in enumerate(np.unique(people)):
        theirs = values[people == person]
        assert by.identities[number] == person
        assert (by.counts[number], by.means[number]) == (len(theirs), pytest.approx(theirs.mean()))
        assert by.deviations[number] == pytest.approx(theirs.std())
    weights = by.counts / 40
    total = weights @ (by.means - values.mean()) ** 2 + by.within**2
    assert total == pytest.approx(values.var())
    assert by.between == pytest.approx(np.std(by.means))
    with pytest.raises(UserError, match="of length 1"):
        quality.norms(embeddings / values[:, None])


def table(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_table_of_images(tmp_path):
    text = '\ufeffpath,quality,skin\r\nAnn/1.jpg,0.5,"dark, warm"\r\n\r\n./Bob/é.PNG , 2 ,light\r\n'
    found = ImageTable(table(tmp_path, text))
    assert found.columns == ("quality", "skin")
    names = ["Bob/e\u0301", "Ann/1.png", "Ann/./1"]  # accents as macOS writes them
    assert found.numbers("quality", names).tolist() == [2, 0.5, 0.5]
    assert found.texts("skin", names).tolist() == ["light", "dark, warm", "dark, warm"]
    with pytest.raises(UserError, match=r"line 2: 'dark, warm' is no number; give skin as one"):
        found.numbers("skin", ["Ann/1"])
    with pytest.raises(UserError, match="no column 'age': give one of quality, skin"):
        found.texts("age", names)
    with pytest.raises(UserError, match=r"no row for 'Eve/1\.jpg': add one"):
        found.texts("skin", ["Ann/1", "Eve/1.jpg"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no row"),
        ("\n\n", "has no row"),
        ("path,quality\n", "has no row"),
        ("a.jpg,1\nb.jpg,2\n", r"line 1: 'a\.jpg,1' is no header"),
        ("path\na.jpg\n", "line 1: 'path' is no header"),
        ("path,a,a\nx,1,2\n", "line 1: 'path,a,a' is no header"),
        (
            "path,quality\na.jpg,1\nb.jpg\n",
            r"line 3: 'b\.jpg' has 1 fields, where the header has 2",
        ),
        ("path,quality\na.jpg,1,2\n", "line 2: .* has 3 fields"),
        ("path,quality\n ,1\n", "line 2"),
        ("path,quality\na.jpg,1\n\n./a.png,2\n", r"line 4: '\./a\.png' was in line 2 already"),
        ('path,quality\na.jpg,"1\nb.jpg,2\n', "line 4 is not CSV"),
        ('path,quality\na.jpg,"1"2\n', "line 2 is not CSV"),
        ("path,quality\na.jpg," + "1" * 200_000, "line 2 is not CSV"),
        (b"path,quality\na\0,1\n", "no text in UTF-8"),
        (b"path,quality\n\xff\xfe,1\n", "no text in UTF-8"),
    ],
)
def test_a_hostile_table_is_one_sentence(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        ImageTable(table(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", ["", "nan", "inf", "1e999", "0x1", "1 2"])
def test_a_quality_that_is_no_number_is_named(tmp_path, value):
    found = ImageTable(table(tmp_path, f"path,quality\na.jpg,1\nb.jpg,{value}\n"))
    with pytest.raises(UserError, match=r"line 3: .* is no number; give quality as one"):
        found.numbers("quality", ["a", "b"])


def test_a_table_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        ImageTable(tmp_path / "none.csv")
    with pytest.raises(UserError, match="cannot be read"):
        ImageTable(tmp_path)
