"""What embeddings say of the labels of a set: which are likely wrong, and who has two names."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facejax.evaluation import label_noise
from facejax.evaluation.inspection import Inspection
from facejax.evaluation.label_noise import SameIdentity, Suspects
from facejax.evaluation.thresholds import calibrate
from facejax.recognition.recognizer import Recognizer
from facejax.recognition.thresholds import Threshold

_OWN_FAR = 1e-3
_FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_CALIBRATED_ON = 10_000  # images at most, where the data calibrate themselves
_MOST = 0.5  # of the labels judged, that can be wrong before it is the recognizer that is


class Judgement(NamedTuple):
    """What embeddings say of the labels.

    Attributes:
      recognizer: its name.
      own_threshold: images less like the rest of their identity are suspect.
      other_threshold: from which an image is like another identity.
      same_threshold: from which two identities are one person, if most images of both say so.
      basis: what the thresholds rest on, in words.
      suspects: of each image.
      same: identities that are likely one person, those of several images each first.
      centers: float32 [C, D], of the identities.
    """

    recognizer: str
    own_threshold: float
    other_threshold: float
    same_threshold: float
    basis: str
    suspects: Suspects
    same: SameIdentity
    centers: np.ndarray

    @property
    def trusted(self) -> bool:
        """Whether at most half of the labels that were judged are suspect.

        If more are, the recognizer can't tell people apart, as far as anybody can know from here.
        """
        return bool(self.suspects.suspect.sum() <= _MOST * self.suspects.judged.sum())


def judge(
    inspection: Inspection,
    recognizer: Recognizer,
    group: np.ndarray,
    given: tuple[float | None, float | None, float | None],
) -> Judgement:
    """Judges the labels of a set by its embeddings.

    Args:
      inspection: with embeddings, of one image at least.
      recognizer: that made them.
      group: int32 [N], equal for images that are one picture.
      given: the own, other and same threshold; None for those of the calibration, see `audit`.

    Raises:
      UserError: the set can't calibrate a recognizer that has no thresholds.
    """
    assert inspection.embeddings is not None
    embedded = inspection.embedded
    # A picture that is twice under one label would vouch for itself: one copy stands for all.
    keys = np.stack([group[embedded], inspection.labels[embedded]])
    _, first, whose = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    rows = inspection.embeddings[embedded[first]]
    labels = inspection.labels[embedded[first]]
    count = len(np.unique(labels))
    thresholds, basis = _thresholds(recognizer, rows, labels)
    fars = (_OWN_FAR, 1 / max(count, 2), 2 / max(count * (count - 1), 2))
    own_threshold, other_threshold, same_threshold = (
        label_noise.cosine_at(thresholds, far)[0] if threshold is None else threshold
        for threshold, far in zip(given, fars, strict=True)
    )
    centers = np.zeros((len(inspection.names), rows.shape[1]), np.float32)
    made = label_noise.own_cosines(rows, labels, like=own_threshold)[1]
    centers[: len(made)] = made
    same = label_noise.same_identities(centers, threshold=same_threshold)
    same = label_noise.agreed(same, rows, labels, centers, like=own_threshold)
    together = list(zip(same.first.tolist(), same.second.tolist(), strict=True))
    found = label_noise.suspects(
        rows, labels, like=own_threshold, found=other_threshold, together=together
    )
    of_all = Suspects(
        *(
            np.full(len(inspection.ids), nothing, field.dtype)
            for nothing, field in zip((np.nan, np.nan, -1, False, False), found, strict=True)
        )
    )
    for field, value in zip(of_all, found, strict=True):
        field[embedded] = value[whose.reshape(-1)]
    return Judgement(
        recognizer.card.name,
        own_threshold,
        other_threshold,
        same_threshold,
        basis,
        of_all,
        same,
        centers,
    )


def _thresholds(
    recognizer: Recognizer, rows: np.ndarray, labels: np.ndarray
) -> tuple[Sequence[Threshold], str]:
    """Calibrated thresholds, and what they rest on."""
    known = recognizer.thresholds
    if known:
        least = min(known, key=lambda one: one.far)
        return (
            known,
            f"thresholds of {recognizer.card.name}, down to FAR {least.far:g}: {least.data}",
        )
    drawn = np.random.default_rng(0).permutation(len(rows))[:_CALIBRATED_ON]
    made = calibrate(rows[drawn], labels[drawn], fars=_FARS)
    if made:
        return made, (
            f"{recognizer.card.name} has no calibrated thresholds: those of {made[0].negatives} "
            "pairs of different labels of the set itself"
        )
    return (Threshold(_OWN_FAR, 0.5),), "too few images to calibrate on: a cosine of 0.5"
