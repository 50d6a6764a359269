"""Tables, JSON and pictures."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from facejax.evaluation import (
    format_table,
    pair_folds,
    plot_training,
    report,
    roc,
    to_json,
    verification_table,
    verify,
    write_report,
)


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


def test_verification_table_gives_the_numbers_and_the_refusal():
    results = {"trained": result(0.5), "untrained": result(5.0)}
    lines = verification_table(results).split("\n")
    assert len(lines) == 5
    for line, (name, value) in zip(lines[2:4], results.items(), strict=True):
        cells = line.split()
        tar = value.tars[0]
        assert cells[:3] == [
            name,
            f"{value.accuracy.accuracy:.4f}",
            f"{value.accuracy.low:.4f}-{value.accuracy.high:.4f}",
        ]
        assert cells[5:7] == [f"{tar.tar:.4f}", f"{tar.low:.4f}-{tar.high:.4f}"]
        assert cells[7:] == ["-", "-"]
    assert lines[4] == "too few negatives for FAR 1e-3: need 1000, have 200"


def test_json_has_no_numpy_and_no_infinity():
    value = {"a": np.float32(0.5), "b": (np.int64(3), np.inf), 3: np.array([[1.0, np.nan]])}
    assert to_json(value) == {"a": 0.5, "b": [3, None], "3": [[1.0, None]]}
    assert to_json(np.bool_(True)) is True


def test_report_holds_all_the_numbers(tmp_path):
    results = {"trained": result(0.5), 'with "quotes"': result(5.0)}
    files = write_report(tmp_path / "new" / "report", results)
    assert [file.name for file in files] == ["verification.json", "roc.png", "scores.png"]
    assert json.loads(files[0].read_text()) == to_json(results)
    for file in files[1:]:
        picture = imread(file)
        assert min(picture.shape[:2]) >= 300
        assert (picture < 0.5).any()  # something is drawn
    before = files[0].read_text()
    write_report(tmp_path / "new" / "report", results)
    assert files[0].read_text() == before


@pytest.mark.parametrize("scores", [np.zeros(400), (np.arange(400) < 200) * 1.0])
def test_report_of_closed_cases(tmp_path, scores):
    """All scores equal, and perfect scores."""
    same = np.arange(400) < 200
    a = np.stack([np.ones(400), np.zeros(400)], axis=1)
    b = np.stack([scores, 1 - scores], axis=1)
    write_report(tmp_path, {"case": verified(a, b, same)})


def test_roc_picture_is_the_roc(tmp_path):
    value = result(2.0)
    (axes,) = report._roc_figure({"trained": value}).axes
    curve = roc(value.scores, value.same)
    drawn = axes.lines[0]
    np.testing.assert_array_equal(drawn.get_ydata(), curve.true_accept_rates)
    one_accept = np.maximum(curve.false_accept_rates, 1 / 200)
    np.testing.assert_array_equal(drawn.get_xdata(), one_accept)
    point = axes.lines[1]  # of FAR 1e-2; 1e-3 is refused, and chance comes last
    assert np.asarray(point.get_xydata()).tolist() == [[0.01, value.tars[0].tar]]
    assert len(axes.lines) == 3


def test_training_curves(tmp_path):
    records: list[dict] = [{"step": step, "loss": 20 / step, "accuracy": 0.1} for step in (1, 2, 3)]
    records.append({"step": 3, "verification_accuracy": 0.9, "tar_at_far_1e-2": None})
    records.append({"step": 4, "verification_accuracy": 0.95, "tar_at_far_1e-2": 0.5})
    left, right = report._training_figure(records).axes

    def curves(axes):
        return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}

    assert list(curves(left).values()) == [[[1, 20], [2, 10], [3, 20 / 3]]]
    assert curves(right) == {"accuracy": [[3, 0.9], [4, 0.95]], "TAR at FAR 1e-2": [[4, 0.5]]}


@pytest.mark.parametrize("records", [[], [{"step": 1, "loss": 2.0}]])
def test_training_picture_of_a_run_just_begun(tmp_path, records):
    metrics, picture = tmp_path / "metrics.jsonl", tmp_path / "training.png"
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    plot_training(metrics, picture)
    assert min(imread(picture).shape[:2]) >= 300
