"""The baselines of face verification on LFW View 1: raw pixels and Eigenfaces.

    python docs/lfw_baselines.py --data=FOLDER [--image_size=64]

FOLDER has train/<Name>/<image>, test/<Name>/<image> and pairs_test.txt (LFW's pairsDevTest.txt).
PCA is fitted on the training images only. It takes about a minute on two cores at 64 pixels, and
seconds at 32.
"""

import datetime
import pathlib
import shlex
import sys
import time

import numpy as np
from absl import app, flags

from facejax.data import decode, folder_source
from facejax.errors import UserError
from facejax.evaluation import (
    fit_pca,
    from_pairs,
    pca_features,
    pixel_features,
    scores,
    scores_table,
    truncate,
    verify,
)

DATA = flags.DEFINE_string("data", None, "the folder", required=True)
SIZE = flags.DEFINE_integer("image_size", 64, "side of the grey images in pixels", lower_bound=8)
COMPONENTS = (50, 100, 150, 200, 250, 300, 400)


def main(_: list[str]) -> None:
    """Prints the table."""
    start = time.perf_counter()
    data = pathlib.Path(DATA.value)
    test = from_pairs(data / "pairs_test.txt", data / "test", image_size=SIZE.value)
    source = folder_source(data / "train")
    records = (source[i] for i in range(len(source)))
    train = np.stack([decode(record["image"], SIZE.value, record["id"]) for record in records])
    pca = fit_pca(train, components=max(COMPONENTS))
    images = np.concatenate([*test.images])
    features = {"raw grey pixels": pixel_features(images)}
    for count in COMPONENTS:
        features[f"PCA, {count} components"] = pca_features(truncate(pca, count), images)
    results = {
        name: verify(x, test.indices, test.same, test.folds, fars=(1e-2, 1e-3))
        for name, x in features.items()
    }
    print(f"$ {shlex.join(['python', *sys.argv])}\n{datetime.date.today()}, ", end="")
    print(
        f"{len(train)} training images, {len(test.same)} pairs of {len(images)} images, ",
        end="",
    )
    print(f"{time.perf_counter() - start:.0f} s\n")
    print(scores_table({name: scores(result) for name, result in results.items()}))


if __name__ == "__main__":
    try:
        app.run(main)
    except UserError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
