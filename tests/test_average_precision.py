"""Mean average precision against a plain loop over the sorted gallery, and scikit-learn's."""

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from facejax.evaluation import average_precision
from tests.test_identification import CASES


def plain(probe, subject, gallery, gallery_subjects):
    """The sum over thresholds of precision times the gain in recall."""
    similarities = [float(np.dot(probe.astype(float), row.astype(float))) for row in gallery]
    own = gallery_subjects == subject
    if not own.any():
        return np.nan
    total, recall = 0.0, 0.0
    for threshold in sorted(set(similarities), reverse=True):
        accepted = np.array([similarity >= threshold for similarity in similarities])
        now = (accepted & own).sum() / own.sum()
        total += (now - recall) * (accepted & own).sum() / accepted.sum()
        recall = now
    return total


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("devices", [1, 3])
def test_it_is_that_of_a_plain_loop_and_of_scikit_learn(case, devices, monkeypatch):
    monkeypatch.setattr(average_precision, "_QUERIES", 25)  # three parts, the last one padded
    monkeypatch.setattr(average_precision, "_BLOCK", 16)
    probes, subjects, gallery, whose = case
    got = average_precision.average_precisions(*case, devices=jax.local_devices()[:devices])
    wanted = [plain(p, s, gallery, whose) for p, s in zip(probes, subjects, strict=True)]
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    mated = np.isin(subjects, whose)
    assert np.isfinite(got).tolist() == mated.tolist()
    products = probes.astype(float) @ gallery.T.astype(float)
    theirs = [average_precision_score(whose == subjects[i], products[i])
              for i in np.flatnonzero(mated)]  # fmt: skip
    np.testing.assert_allclose(got[mated], theirs, atol=1e-12)
    assert len(np.unique(theirs)) > 3


def test_one_point_for_everybody_finds_nobody():
    """Whatever the rounding of a product is, it is the same for the mates and for the others."""
    same = np.full((300, 7), 7**-0.5, np.float32)
    got = average_precision.average_precisions(
        same[:20], np.arange(20), same, np.arange(300) // 3, devices=jax.local_devices()[:2]
    )
    np.testing.assert_allclose(got, 3 / 300)


def test_nobody_in_the_gallery():
    for rows in (0, 2):
        none = np.zeros((rows, 4), np.float32)
        got = average_precision.average_precisions(
            np.ones((3, 4), np.float32), np.arange(3), none, np.full(rows, -1)
        )
        assert np.isnan(got).all()
    with pytest.raises(ValueError, match="3 probes and 0 rows need a subject each"):
        average_precision.average_precisions(np.ones((3, 4)), np.arange(2), none[:0], np.arange(0))
