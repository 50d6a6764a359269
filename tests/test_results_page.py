"""The report page: its numbers, its bands, its pictures of pairs, and a browser's view of it."""

import base64
import html
import json
import re
import statistics

import cv2
import numpy as np
import pytest
from sklearn import metrics

from facejax import evaluation
from facejax.errors import UserError
from facejax.evaluation import (
    ImageFiles,
    Protocol,
    Shown,
    bands,
    figures,
    hard_pairs,
    identification,
    ijb,
    pair_folds,
    results_figures,
    results_tables,
    templates,
    verify,
    write_page,
)
from facejax.evaluation.bootstrap import resample
from tests.browser import visit
from tests.pictures import encode, smooth

HOSTILE = "<script>alert(1)</script> $_{$脸 &" + "long " * 40
FARS = (0.5, 1e-1, 1e-3)


@pytest.fixture(scope="module")
def protocol():
    """Sixty people of five images each, of two colors, so that a picture tells its images."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(60), 5)
    first = rng.integers(0, 300, 500)
    same = np.arange(500) % 2 == 0
    second = np.where(same, first - first % 5 + (first + 1) % 5, (first + 5) % 300)
    images = np.zeros((300, 16, 16, 3), np.uint8)
    images[...] = rng.integers(0, 256, (300, 1, 1, 3))
    indices = np.stack([first, second], axis=1)
    return Protocol("sixty", images, indices, same, pair_folds(same), people)


def scored(protocol, noise, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(60, 16))[protocol.identities]
    return centers + noise * rng.normal(size=(300, 16))


@pytest.fixture(scope="module")
def verified(protocol):
    """A sorry model and a better one, and all that may be shown of them."""
    embeddings = {"sorry": scored(protocol, 1.6), HOSTILE: scored(protocol, 0.8, 1)}
    results = {
        name: verify(rows, protocol.indices, protocol.same, protocol.folds, fars=FARS,
                     identities=protocol.identities, resamples=60)
        for name, rows in embeddings.items()
    }  # fmt: skip
    one, two = results.values()
    people = one.identities
    groups = np.array(["left", "right"])[people // 30]
    qualities = {name: np.linalg.norm(rows, axis=1) for name, rows in embeddings.items()}
    compared = evaluation.compare(
        one.scores, two.scores, one.same, protocol.folds, people, fars=(0.5, 1e-1), resamples=40
    )
    return Shown(
        "sixty people",
        results,
        protocol,
        {
            name: evaluation.error_versus_reject(
                result.scores, result.same, protocol.indices, qualities[name], far=0.1,
                identities=people, resamples=20,
            )
            for name, result in results.items()
        },
        {
            name: evaluation.fairness(
                result.scores, result.same, people, groups, far=0.1, resamples=20
            )
            for name, result in results.items()
        },
        {"sorry - better": compared},
        {
            name: evaluation.insightface_verification(rows, protocol.indices, protocol.same)
            for name, rows in embeddings.items()
        },
        qualities,
    )  # fmt: skip


def searched(seed, fpirs=identification.FPIRS):
    rng = np.random.default_rng(seed)
    mated = np.arange(400) % 4 > 0
    ranks = np.where(mated, rng.choice([1, 1, 1, 2, 7, 21], 400), 21).astype(np.int32)
    mates = np.where(mated & (ranks < 21), rng.uniform(0.3, 1, 400), -np.inf).astype(np.float32)
    found = identification.Found(ranks, mates, rng.uniform(0, 0.6, 400), mated, 20)
    (result,), _ = identification.identify([found], np.arange(400) // 2, fpirs=fpirs, bootstrap=20)
    return result


@pytest.fixture(scope="module")
def everything(verified):
    """A set of each kind; the hostile name once more."""
    rng = np.random.default_rng(3)
    same = np.arange(2000) % 4 == 0
    scores = (rng.normal(size=2000) + 2.5 * same).astype(np.float32) / 8
    pooled = templates.judge_pairs(scores, same, fars=(1e-1, 1e-2, 1e-5))
    search = searched(0)
    galleries = ijb.TemplateResults(scores, same, pooled, (search, search), search)
    return [
        verified,
        Shown(HOSTILE, {"sorry": galleries, HOSTILE: galleries}, qualities={HOSTILE: scores}),
        Shown("tiny", {"sorry": searched(1, ()), HOSTILE: searched(2, ())}),
    ]


@pytest.fixture(scope="module")
def written(everything, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return write_page(folder, everything, title=f"Report {HOSTILE}")


def tables(text):
    """The cells of each table's rows."""
    return [
        [
            re.findall("(?s)<t[dh].*?>(.*?)</t[dh]>", row)
            for row in re.findall("(?s)<tr>.*?</tr>", table)
        ]
        for table in re.findall("<table.*?</table>", text, re.DOTALL)
    ]


def test_a_browser_shows_all_at_both_widths_and_nothing_is_fetched(written, tmp_path):
    *_, index = written
    for width in (1200, 420):
        seen = visit(index, tmp_path / str(width), width=width)
        assert seen.requests == []
        assert seen.overflow == 0
        assert len(seen.pictures) == len(written) - 2 + 4 * 12
        assert all(min(size) > 0 for size in seen.pictures)
        assert HOSTILE.strip() in seen.text
    for heading in (
        *("All sets", "Quality by set", "ROC and DET", "Scores", "Folds", "Hardest pairs"),
        *("Models against each other", "As InsightFace computes it", "Identification"),
        *("Errors when the worst images are rejected", "Quality", "Groups of people", "tiny"),
    ):
        assert f"\n{heading}\n" in seen.text


def test_every_picture_is_on_the_page_and_alone_and_has_words(written):
    numbers, *pictures, index = written
    assert [numbers.name, index.name] == ["evaluation.json", "index.html"]
    by_set = {"sixty-people": "roc det scores folds rejects qualities", "tiny": "cmc"}
    long = "script-alert-1-script-long-long-long-lon"
    wanted = {f"{name}-{one}.png" for name, all_ in by_set.items() for one in all_.split()}
    wanted |= {f"{long}-{one}.png" for one in ("roc", "det", "scores", "cmc", "qualities")}
    assert {path.name for path in pictures} == wanted | {"qualities.png"}
    assert {path.name for path in index.parent.iterdir()} == {path.name for path in written}
    text = index.read_text()
    inside = re.findall('src="data:image/png;base64,(.*?)"', text)
    assert [base64.b64decode(each) for each in inside] == [path.read_bytes() for path in pictures]
    assert all(re.findall('alt="(.*?)"', text))
    assert "<script" not in text


def test_the_tables_have_the_numbers(written, verified):
    overview, searches, galleries, folds, paired, compat, rejects, groups, spreads, *_ = tables(
        written[-1].read_text()
    )
    assert overview[0][:3] == ["set", "model", "accuracy"]
    for row, (name, result) in zip(overview[1:], verified.results.items(), strict=True):
        kinds = [result.scores[result.same == kind] for kind in (True, False)]
        area = (np.sign(kinds[0][:, None] - kinds[1]).mean() + 1) / 2
        assert row[0] == "sixty people"
        assert row[1] == html.escape(name)
        assert row[3].split("\n")[0] == f"{area:.4f}"
        assert row[2] == "{:.4f}\n{:.4f}-{:.4f}".format(*(
            getattr(result.accuracy, field) for field in ("accuracy", "low", "high")
        ))  # fmt: skip
        for column, far, doubt in ((5, 0.5, ""), (6, 0.1, "~")):  # on 125 and on 25 false accepts
            limit = np.sort(kinds[1])[::-1][int(far * 250)]
            tar = next(tar for tar in result.tars if tar.far == far)
            above = (kinds[0] > limit).mean()
            assert row[column] == f"{above:.4f}\n{doubt}{tar.low:.4f}-{tar.high:.4f}"
        assert row[7:] == ["-"]
    assert [row[1] for row in searches[1:]] == [overview[1][1], overview[2][1]]
    assert [row[:2] for row in galleries[1:]] == [["tiny", row[1]] for row in searches[1:]]
    cells = dict(zip(searches[0], searches[1], strict=True))
    found = np.sum(np.random.default_rng(0).choice([1, 1, 1, 2, 7, 21], 400)[
        np.arange(400) % 4 > 0
    ] == 1) / 300  # fmt: skip
    assert cells["rank 1"].startswith(f"{found:.4f}\n")
    assert len(folds) == 12
    for number, threshold in enumerate(verified.results["sorry"].accuracy.thresholds):
        inside = verified.protocol.folds == number
        result = verified.results["sorry"]
        right = (result.scores[inside] >= threshold) == result.same[inside]
        assert folds[1 + number][:3] == [str(number + 1), f"{right.mean():.4f}", f"{threshold:.4f}"]
    assert float(paired[1][2]) == pytest.approx(
        np.subtract(*(one.accuracy.accuracy for one in verified.results.values())), abs=6e-5
    )
    assert compat[1][1].startswith(f"{verified.compat['sorry'].accuracy:.5f} ±")
    curve = verified.rejects["sorry"]
    fine = np.linspace(0, 0.2, 200001)[:-1]
    rates = curve.false_non_match_rates[np.searchsorted(curve.rejected, fine, side="right") - 1]
    assert float(rejects[1][2]) == pytest.approx(rates.mean() * 0.2, abs=2e-5)
    assert [row[1] for row in groups[1:]] == ["left", "right"] * 2
    one = verified.fairness["sorry"].groups[0].false_matches
    assert groups[1][3:6] == [
        f"{one.rate:.4f}",
        f"~{one.low:.4f}-{one.high:.4f}",
        f"{one.errors} of {one.pairs}",
    ]
    assert [row[1] for row in spreads[1:]] == ["FMR", "FNMR"] * 2


def test_the_json_has_the_numbers_and_no_scores(written, everything):
    record = json.loads(written[0].read_text())
    assert list(record) == [one.name for one in everything]
    first = record["sixty people"]
    assert first["scores"] == {
        name: evaluation.scores(result) for name, result in everything[0].results.items()
    }
    assert first["details"]["sorry"]["pairs"] == 500
    assert first["comparisons"]["sorry - better"]["accuracy"]["p_value"] >= 0
    assert {"scores", "same", "identities"}.isdisjoint(first["details"]["sorry"])
    assert len(first["details"]["sorry"]["accuracy"]["fold_accuracies"]) == 10
    assert record[HOSTILE]["details"]["sorry"]["pairs"]["same"] == 500
    assert record["tiny"]["scores"]["sorry"]["mated_probes"] == 300


def test_a_band_holds_the_curve_and_is_that_of_resampling(verified):
    result = verified.results["sorry"]
    band = bands.tar_band(result.scores, result.same, result.identities, resamples=80)
    positives, negatives = (result.scores[result.same == kind] for kind in (True, False))
    assert band.false_accept_rates[-1] == 1
    for far, tar, low, high, sound in zip(*band, strict=True):
        accepts = round(far * 250)
        assert far == accepts / 250
        assert sound == (accepts >= 100)
        limit = np.sort(negatives)[::-1][accepts] if accepts < 250 else -np.inf
        assert tar == pytest.approx((positives > limit).mean())
        assert low <= tar <= high
    place = 20
    far = band.false_accept_rates[place]
    alone = evaluation.statistics.tars(result.scores, result.same, fars=(far,))
    point = resample(alone, result.identities, resamples=80).interval()
    assert (band.low[place], band.high[place]) == pytest.approx(point)


def test_what_is_in_doubt_is_not_filled(verified):
    result = verified.results["sorry"]
    band = bands.tar_band(result.scores, result.same, result.identities, resamples=20)
    (axes,) = results_figures.roc_figure(
        [results_figures.curve_of(result._replace(tars=()), "x", band=band)]
    ).axes
    (filled,) = axes.collections
    assert filled.get_paths()[0].vertices[:, 0].min() >= 100 / 250
    assert all(one.get_linestyle() == ":" for one in axes.lines[:2])
    assert max(axes.lines[0].get_xdata()) < 120 / 250


def test_the_det_is_scikit_learn_s(verified):
    result = verified.results["sorry"]
    (axes,) = results_figures.det_figure([results_figures.curve_of(result, "x")]).axes
    far, missed, _ = metrics.det_curve(result.same, result.scores, drop_intermediate=False)
    drawn = np.asarray(axes.lines[0].get_xydata())
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    normal = np.vectorize(statistics.NormalDist().inv_cdf)
    wanted = {
        (round(float(normal(x)), 9), round(float(normal(y)), 9))
        for x, y in zip(far, missed, strict=True)
        if 0 < x < 1 and 0 < y < 1
    }
    got = {tuple(point) for point in drawn.round(9).tolist()}
    assert wanted <= got
    assert all(x == round(float(normal(1 / 250)), 9) for x, _ in got - wanted)  # before one accept


def test_the_hardest_pairs_are_those_of_a_plain_loop(written, verified):
    text = written[-1].read_text()
    items = re.findall("<li>(.*?)</li>", text)
    pictures = verified.protocol.images[:, 0, 0]
    for number, result in enumerate(verified.results.values()):
        left = [(score, kind, i) for i, (score, kind) in enumerate(zip(result.scores, result.same))]  # noqa: B905
        different = sorted((-score, i) for score, kind, i in left if not kind)[:12]
        alike = sorted((score, i) for score, kind, i in left if kind)[:12]
        for place, (_, pair) in enumerate(different + alike):
            item = items[24 * number + place]
            lines = re.findall("<div>(?:<span.*?>)?([^<]*)", item)
            ends = verified.protocol.indices[pair]
            assert lines[1:] == [f"{result.scores[pair]:.3f}", *(f"image {i}" for i in ends)]
            jpeg = base64.b64decode(re.findall('base64,(.*?)"', item)[0])
            seen = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)
            assert seen.shape == (16, 36, 3)
            assert np.abs(seen[8, 4] - pictures[ends[0]]).max() < 12
            assert np.abs(seen[8, 31] - pictures[ends[1]]).max() < 12


def test_only_the_images_that_are_shown_are_read(tmp_path):
    for number in (1, 3):
        (tmp_path / f"{number}.png").write_bytes(encode(smooth(300, 300, number), ".png"))
    images = ImageFiles([tmp_path / f"{number}.png" for number in range(5)], 300)
    found = hard_pairs.thumbnails(images, [3, 1, 3])
    assert sorted(found) == [1, 3]
    assert found[1].shape == (112, 112, 3)
    wanted = cv2.resize(smooth(300, 300, 3), (112, 112), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(found[3], wanted)
    assert hard_pairs.image_names(images, [3]) == [f"{tmp_path.name}/3.png"]
    with pytest.raises(UserError, match=r"0\.png"):
        hard_pairs.thumbnails(images, [0])

    decoded = []

    def blocks():
        for start in range(0, 100, 10):
            decoded.append(start)
            yield (
                np.full((10, 4, 4, 3), start, np.uint8)
                + np.arange(10, dtype=np.uint8)[:, None, None, None]
            )

    found = hard_pairs.thumbnails(blocks(), [42, 7])
    assert {number: int(image[0, 0, 0]) for number, image in found.items()} == {7: 7, 42: 42}
    assert decoded[-1] == 40  # and no further
    assert all(image.base is None for image in found.values())


def test_a_page_whose_images_have_gone_says_so(tmp_path, protocol):
    gone = protocol._replace(images=ImageFiles([tmp_path / f"{i}.png" for i in range(300)], 8))
    result = verify(
        scored(protocol, 1.0), protocol.indices, protocol.same, protocol.folds, resamples=4
    )
    *_, index = write_page(tmp_path / "page", [Shown("x", {"m": result}, gone)], title="x")
    text = index.read_text()
    assert "There are no pictures: " in text
    assert text.count("<li>") == 24


def test_what_can_not_be_one_page_is_refused(tmp_path, everything):
    for shown in ([], [everything[2]] * 2):
        with pytest.raises(ValueError, match="each of another name"):
            write_page(tmp_path, shown, title="x")
    mixed = {**everything[0].results, "other": everything[2].results["sorry"]}
    with pytest.raises(ValueError, match="results of 2 kinds"):
        write_page(tmp_path, [Shown("x", mixed)], title="x")
    assert list(tmp_path.iterdir()) == []


def test_perfect_scores_and_equal_ones_are_drawn(tmp_path):
    same = np.arange(40) < 20
    for scores in (same * 1.0, np.zeros(40)):
        ends = np.stack([scores, 1 - scores], axis=1)
        rows = np.concatenate([np.tile([1.0, 0.0], (40, 1)), ends])
        pairs = np.arange(80).reshape(2, -1).T
        result = verify(rows, pairs, same, pair_folds(same), resamples=4)
        write_page(tmp_path, [Shown("closed", {"_m": result})], title="x")


def test_names_are_what_a_picture_can_have():
    assert figures.name("plain", 3) == "plain"
    assert figures.name("_脸$", 1) == r" _?\$ [2]"
    assert figures.name("a\n\udc80\u202eb", 0) == "a???b [1]"
    assert len(figures.name("x" * 99, 0)) == 32 + len(" [1]")


def test_a_missing_number_is_a_dash():
    record = {"auc": 0.5, "tar_at_far_1e-2": None, "tar_note_at_far_1e-2": "too few"}
    cells = results_tables.searches([("s", "a"), ("s", "b")], [record, {"rank_1": 0.25}])
    assert cells.header == ["set", "model", "AUC", "TAR@FAR 1e-2", "95 %", "rank 1", "95 %"]
    assert cells.rows == [
        ["s", "a", "0.5000", "-", "-", "-", "-"],
        ["s", "b", "-", "-", "-", "0.2500", "-"],
    ]
    assert cells.notes == ["too few"]
