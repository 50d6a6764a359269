"""The thresholds that facejax ships, from LFW's development split (View 1).

    python docs/thresholds.py --data=FOLDER [--keep=FOLDER] [--out=FILE]

FOLDER has train/<Name>/<image> and test/<Name>/<image>: crops of 112x112 pixels, aligned to the
ArcFace template, no person in both. SFace takes the crops as they are, dlib's network its chip of
them. Calibrated on train/; FAR and TAR at each threshold, over all pairs, on test/. It takes about
ten minutes on two cores; --keep= keeps the embeddings there, and takes those that are.
"""

import itertools
import json
import pathlib
import sys
from collections.abc import Iterator

import cv2
import numpy as np
from absl import app, flags

from facejax import files, recognition
from facejax.data import folder_source
from facejax.data.images import decode
from facejax.errors import UserError
from facejax.evaluation import calibrate, format_far, impostors, verification
from facejax.recognition import templates

DATA = flags.DEFINE_string("data", None, "the folder", required=True)
KEEP = flags.DEFINE_string("keep", None, "a folder for the embeddings")
OUT = flags.DEFINE_string(
    "out",
    str(pathlib.Path(recognition.__file__).with_name("shipped_thresholds.json")),
    "the file of the thresholds",
)
BATCH = 32


def chip(crop: np.ndarray) -> np.ndarray:
    """dlib's 150x150 pixels of a crop."""
    return cv2.warpAffine(
        crop, templates.ARCFACE_TO_DLIB, (150, 150), borderMode=cv2.BORDER_REPLICATE
    )


def embeddings(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Those of a part of the folder, and whose they are."""
    kept = pathlib.Path(KEEP.value) / f"{name}_{part}.npz" if KEEP.value else None
    found = files.load_arrays(kept, "embeddings", "labels") if kept else None
    if found:
        return found[0], found[1]
    source = folder_source(pathlib.Path(DATA.value) / part)

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(source), BATCH):
            records = [source[i] for i in range(start, min(start + BATCH, len(source)))]
            crops = [decode(record["image"], None, record["id"]) for record in records]
            yield np.stack([chip(crop) for crop in crops] if name == "dlib" else crops)

    rows = recognition.open(name).embed(batches(), batch_size=BATCH)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, embeddings=rows, labels=source.labels)
    return rows, source.labels


def rates(rows: np.ndarray, labels: np.ndarray, limits: list[float]) -> np.ndarray:
    """FAR and TAR [limits, 2] over all pairs."""
    accepted = impostors.accepted(rows, labels, limits).sum(axis=1) / 2
    first, second = np.array(
        [
            pair
            for label in np.unique(labels)
            for pair in itertools.combinations(np.flatnonzero(labels == label), 2)
        ]
    ).T
    own = verification.cosines(rows, np.stack([first, second], axis=1))
    tars = [(own >= limit).mean() for limit in limits]
    return np.stack([accepted / impostors.count(labels), tars], axis=1)


def main(_: list[str]) -> None:
    """Writes the file and prints the tables."""
    shipped = {}
    for name in ("sface", "dlib"):
        card = recognition.open(name).card
        train, test = embeddings(name, "train"), embeddings(name, "test")
        people = len(np.unique(train[1]))
        source = f"{len(train[0])} faces of {people} people of LFW's development training split"
        thresholds = calibrate(*train, data=source)
        measured = rates(*test, [one.cosine for one in thresholds])
        entries = []
        print(f"{card.name}: {source}; {len(test[0])} faces of its test split\n")
        print(
            "| FAR | cosine | upper bound | negatives | FAR on test | TAR on test |\n|" + "---|" * 6
        )
        for one, (far, tar) in zip(thresholds, measured, strict=True):
            on_test = f"on its test split FAR {far:.2g}, TAR {100 * tar:.1f} %"
            entries.append({**one.to_json(), "data": f"{source}; {on_test}"})
            print(
                f"| {format_far(one.far)} | {one.cosine:.4f} | {one.upper_bound:.2e} | "
                f"{one.negatives:,} | {far:.2e} | {100 * tar:.1f} % |"
            )
        print()
        shipped[card.sha256] = {"name": card.name, "flip": card.flip, "thresholds": entries}
    files.write(OUT.value, json.dumps(shipped, indent=2) + "\n")


if __name__ == "__main__":
    try:
        app.run(main)
    except UserError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
