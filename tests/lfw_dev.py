"""Scores of the packaged recognizers on LFW's development pairs, as JSON; run by a test.

    python -m tests.lfw_dev FOLDER

FOLDER has test/ and pairs_test.txt. The crops are as they are there; dlib's network is given its
chip of them.
"""

import json
import pathlib
import sys

import cv2
import numpy as np

from facejax import recognition
from facejax.evaluation import pair_images, pairs
from facejax.recognition import templates


def scores(folder: pathlib.Path) -> dict[str, dict[str, float]]:
    """Accuracy at the published threshold, and TAR and FAR over all pairs of the images."""
    listed = pairs.read_pairs(folder / "pairs_test.txt")
    paths, indices = pair_images.resolve_images(listed, folder / "test")
    crops = np.stack([cv2.imread(str(path))[:, :, ::-1] for path in paths])
    who = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    upper = np.triu_indices(len(who), 1)
    genuine = (who[:, None] == who)[upper]

    def score(distances: np.ndarray, threshold: float | None) -> dict[str, float]:
        every = distances[upper]
        impostors, own = np.sort(every[~genuine]), every[genuine]
        found: dict[str, float] = {}
        if threshold is not None:
            guesses = distances[indices[:, 0], indices[:, 1]] < threshold
            found["accuracy"] = float((guesses == listed.same).mean())
            found["FAR"] = float((impostors < threshold).mean())
        for rate in (1e-2, 1e-3, 1e-4):
            limit = impostors[int(rate * len(impostors))]
            found[f"TAR at {rate:g}"] = float((own < limit).mean())
            found[f"threshold at {rate:g}"] = float(limit)
        return found | {"genuine": len(own), "impostors": len(impostors)}

    cosines = recognition.open("sface").embed(crops)
    chips = np.stack(
        [
            cv2.warpAffine(
                crop, templates.ARCFACE_TO_DLIB, (150, 150), borderMode=cv2.BORDER_REPLICATE
            )
            for crop in crops
        ]
    )
    raw = recognition.open("dlib").embed(chips, unit=False)
    squares = np.sum(raw**2, 1)
    euclid = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * raw @ raw.T, 0))
    unit = raw / np.sqrt(squares)[:, None]
    return {
        "sface": score(1 - cosines @ cosines.T, 1 - 0.363),
        "dlib": score(euclid, 0.6),
        "dlib, cosine": score(1 - unit @ unit.T, None),
    }


if __name__ == "__main__":
    print(json.dumps(scores(pathlib.Path(sys.argv[1])), indent=1))
