"""Records, tables, JSON, pictures and the page that has them all."""

import base64
import json
import re

import numpy as np
import pytest
from matplotlib.image import imread

from facejax.evaluation import (
    pair_folds,
    results_figures,
    roc,
    score_labels,
    scores,
    scores_in_words,
    scores_table,
    tar_at_far,
    to_json,
    verify,
    write_report,
)
from facejax.table import format_table
from facejax.training import log
from tests.browser import visit


def verified(a, b, same, **options):
    pairs = np.arange(2 * len(same)).reshape(2, -1).T
    return verify(np.concatenate([a, b]), pairs, same, pair_folds(same), **options)


def result(noise, seed=0):
    generator = np.random.default_rng(seed)
    same = np.arange(400) < 200
    a, other, shift = generator.normal(size=(3, 400, 16))
    b = np.where(same[:, None], a + noise * shift, other)
    return verified(a, b, same, fars=(1e-2, 1e-3))


def test_table_is_aligned():
    table = format_table(["", "accuracy", "n"], [["long name", "0.9", "1000"], ["b", "0.95", "7"]])
    assert table.split("\n") == [
        "           accuracy     n",
        "-------------------------",
        "long name       0.9  1000",
        "b              0.95     7",
    ]


def test_scores_are_a_record_that_json_keeps():
    value = result(2.0)
    record = scores(value)
    tar, refused = value.tars
    assert record == {
        "verification_accuracy": value.accuracy.accuracy,
        "verification_interval": [value.accuracy.low, value.accuracy.high],
        "auc": value.auc,
        "auc_interval": list(value.auc_interval),
        "equal_error_rate": value.equal_error_rate.rate,
        "equal_error_rate_interval": list(value.equal_error_rate_interval),
        "interval_basis": "linked images",
        "people": 600,  # of 800 images, two in each of 200 same pairs
        "tar_at_far_1e-2": tar.tar,
        "tar_interval_at_far_1e-2": [tar.low, tar.high],
        "tar_note_at_far_1e-2": tar.note,
        "false_accepts_at_far_1e-2": 2,
        "tar_at_far_1e-3": None,
        "tar_note_at_far_1e-3": refused.note,
    }
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_scores_are_told_from_other_records():
    record = {"step": 7, "loss": 1.0, **scores(result(2.0))}
    assert score_labels(record) == {
        "verification_accuracy": "accuracy",
        "tar_at_far_1e-2": "TAR at FAR 1e-2",
        "tar_at_far_1e-3": "TAR at FAR 1e-3",
    }
    assert score_labels({"step": 7, "accuracy": 0.5}) == {}
    assert scores_in_words(record) == (
        f"verification accuracy {record['verification_accuracy']:.4f}, "
        f"TAR at FAR 1e-2 {record['tar_at_far_1e-2']:.3f} (false accepts: 2), "
        "TAR at FAR 1e-3 unknown (too few negatives)"
    )


def test_the_final_table_has_the_first_and_the_last_evaluation():
    first, middle, last = (scores(result(noise)) for noise in (5.0, 2.0, 0.5))
    lines: list[dict] = [{"step": step, "loss": 1.0} for step in (1, 2)]
    lines[:0] = [{"step": 0, **first}, {"step": 1, **middle}]
    lines.append({"step": 2, **last})
    shown = {"untrained": first, "trained, step 2": last}
    assert log.final_table(lines) == scores_table(shown)
    assert log.final_table(lines[-1:]) == scores_table({"trained, step 2": last})
    assert "nothing was verified" in log.final_table(lines[2:4])


def test_the_table_gives_the_numbers_and_the_refusal():
    results = {"trained": result(0.5), "untrained": result(5.0)}
    lines = scores_table({name: scores(value) for name, value in results.items()}).split("\n")
    assert len(lines) == 6
    for line, (name, value) in zip(lines[2:4], results.items(), strict=True):
        cells = line.split()
        tar = value.tars[0]
        assert cells[:3] == [
            name,
            f"{value.accuracy.accuracy:.4f}",
            f"{value.accuracy.low:.4f}-{value.accuracy.high:.4f}",
        ]
        rate, auc, ends = (
            value.equal_error_rate.rate,
            value.auc_interval,
            value.equal_error_rate_interval,
        )
        assert cells[3:5] == [f"{value.auc:.4f}", f"{auc.low:.4f}-{auc.high:.4f}"]
        assert cells[5:7] == [f"{rate:.4f}", f"{ends[0]:.4f}-{ends[1]:.4f}"]
        assert cells[7:9] == [f"{tar.tar:.4f}", f"~{tar.low:.4f}-{tar.high:.4f}"]
        assert cells[9:] == ["-", "-"]
    assert lines[4].startswith("TAR at FAR 1e-2 rests on 2 false accepts of 200 different pairs")
    assert lines[5] == "too few negatives for FAR 1e-3: need 1000, have 200"


def test_an_interval_on_enough_false_accepts_has_no_mark():
    value = verified(*np.random.default_rng(0).normal(size=(2, 400, 8)), np.arange(400) % 2 < 1)
    record = scores(value._replace(tars=(tar_at_far(value.scores, value.same, far=0.5),)))
    assert record["false_accepts_at_far_5e-1"] == 100
    assert "~" not in scores_table({"x": record})
    assert "false accepts" not in scores_in_words(record)


def test_json_has_no_numpy_and_no_infinity():
    value = {"a": np.float32(0.5), "b": (np.int64(3), np.inf), 3: np.array([[1.0, np.nan]])}
    assert to_json(value) == {"a": 0.5, "b": [3, None], "3": [[1.0, None]]}
    assert to_json(np.bool_(True)) is True


def test_report_holds_all_the_numbers(tmp_path):
    results = {"trained": result(0.5), 'with "quotes"': result(5.0)}
    files = write_report(tmp_path / "new" / "report", results)
    names = ["verification.json", "roc.png", "scores.png", "index.html"]
    assert [file.name for file in files] == names
    assert sorted(file.name for file in files[0].parent.iterdir()) == sorted(names)
    for name, numbers in json.loads(files[0].read_text()).items():
        kept = {
            key: v
            for key, v in to_json(results[name]).items()
            if key not in ("scores", "same", "identities")
        }
        assert numbers == {"pairs": 400, "same_pairs": 200, **kept}
    for file in files[1:3]:
        picture = imread(file)
        assert min(picture.shape[:2]) >= 300
        assert (picture < 0.5).any()  # something is drawn
    before = files[0].read_text()
    write_report(tmp_path / "new" / "report", results)
    assert files[0].read_text() == before


def test_the_page_of_a_report_has_the_table_and_both_pictures(tmp_path):
    results = {"trained": result(0.5), "<b>untrained</b> & bold": result(5.0)}
    *_, picture, other, index = write_report(tmp_path, results, title="Ann & Bob")
    text = index.read_text(encoding="utf-8")
    assert "<h1>Ann &amp; Bob</h1>" in text
    rows = [re.findall("<t[dh].*?>(.*?)</t[dh]>", row) for row in re.findall("<tr>.*?</tr>", text)]
    assert rows[0] == ["", "trained", "&lt;b&gt;untrained&lt;/b&gt; &amp; bold"]
    assert [row[0] for row in rows[1:4]] == ["accuracy", "95 %", "AUC"]
    table = scores_table({"x": scores(results["trained"])}).split("\n")
    assert [row[1] for row in rows[1:]] == table[2].split()[1:]
    assert f"<p>{table[3]}</p>" in text  # the notes
    assert f"<p>{table[4]}</p>" in text
    assert "by resampling 600 people, who are not known: images that same pairs link" in text
    sources = re.findall('src="data:image/png;base64,(.*?)"', text)
    assert [base64.b64decode(source) for source in sources] == [
        picture.read_bytes(),
        other.read_bytes(),
    ]
    assert "400 pairs, 200 of them of the same person" in text


def test_a_browser_shows_the_page_of_a_report_and_fetches_nothing(tmp_path):
    *_, index = write_report(tmp_path / "report", {"trained": result(0.5)})
    seen = visit(index, tmp_path / "profile", width=420)
    assert seen.requests == []
    assert [imread(index.with_name(name)).shape[1::-1] for name in ("roc.png", "scores.png")] == (
        seen.pictures
    )
    assert seen.title == "Verification"
    assert "400 pairs, 200 of them of the same person" in seen.text
    assert seen.overflow == 0


@pytest.mark.parametrize("scores", [np.zeros(400), (np.arange(400) < 200) * 1.0])
def test_report_of_closed_cases(tmp_path, scores):
    """All scores equal, and perfect scores."""
    same = np.arange(400) < 200
    a = np.stack([np.ones(400), np.zeros(400)], axis=1)
    b = np.stack([scores, 1 - scores], axis=1)
    write_report(tmp_path, {"case": verified(a, b, same)})


def test_roc_picture_is_the_roc(tmp_path):
    value = result(2.0)
    (axes,) = results_figures.roc_figure([results_figures.curve_of(value, "trained")]).axes
    curve = roc(value.scores, value.same)
    drawn = axes.lines[0]
    np.testing.assert_array_equal(drawn.get_ydata(), curve.true_accept_rates)
    one_accept = np.maximum(curve.false_accept_rates, 1 / 200)
    np.testing.assert_array_equal(drawn.get_xdata(), one_accept)
    point = axes.lines[1]  # of FAR 1e-2; 1e-3 is refused, and chance comes last
    assert np.asarray(point.get_xydata()).tolist() == [[0.01, value.tars[0].tar]]
    assert len(axes.lines) == 3
    dashes = axes.collections[0].get_linestyles()[0][1]  # on two false accepts
    assert dashes is not None
    sound = value._replace(tars=(value.tars[0]._replace(false_accepts=100),))
    (axes,) = results_figures.roc_figure([results_figures.curve_of(sound, "trained")]).axes
    assert axes.collections[0].get_linestyles()[0][1] is None


def test_training_curves(tmp_path):
    records: list[dict] = [{"step": step, "loss": 20 / step, "accuracy": 0.1} for step in (1, 2, 3)]
    records.append({"step": 3, "verification_accuracy": 0.9, "tar_at_far_1e-2": None})
    records.append({"step": 4, "verification_accuracy": 0.95, "tar_at_far_1e-2": 0.5})
    left, right = log._training_figure(records).axes

    def curves(axes):
        return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}

    assert list(curves(left).values()) == [[[1, 20], [2, 10], [3, 20 / 3]]]
    assert curves(right) == {"accuracy": [[3, 0.9], [4, 0.95]], "TAR at FAR 1e-2": [[4, 0.5]]}


@pytest.mark.parametrize("records", [[], [{"step": 1, "loss": 2.0}]])
def test_training_picture_of_a_run_just_begun(tmp_path, records):
    metrics, picture = tmp_path / "metrics.jsonl", tmp_path / "training.png"
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    log.plot_training(metrics, picture)
    assert min(imread(picture).shape[:2]) >= 300
