"""Faults planted in real faces, and how many of them an audit finds.

    FACEJAX_DATA=FOLDER python benchmarks/audit.py                          # SFace
    FACEJAX_DATA=FOLDER python benchmarks/audit.py --plant=faulty           # only makes the copy
    FACEJAX_DATA=FOLDER python benchmarks/audit.py --faulty=faulty --recognizer=RUN

FOLDER has lfw_dev/train. Of its images 5 % have their labels swapped, in pairs; 60 copies of each
of eight kinds lie in the same identity or in another one; two identities are split in two; and
there are unreadable, tiny, not square and flat images. LFW has faults of its own: what is found in
the untouched folder too is counted apart.
"""

import argparse
import collections
import itertools
import os
import pathlib
import tempfile
import time

import numpy as np
from tqdm import tqdm

from benchmarks.planted import Planted, plant, read
from facejax import compilation, files, recognition
from facejax.data import folder_source
from facejax.evaluation.audit import Audit, audit
from facejax.table import format_table

LEAST = 3  # images of an identity whose labels are judged


def rates(found: set, true: set) -> list[str]:
    """Found, right, planted, precision, recall."""
    right = len(found & true)
    share = [right / max(len(found), 1), right / max(len(true), 1)]
    return [str(len(found)), str(right), str(len(true)), *(f"{each:.3f}" for each in share)]


def pictures(found: Audit) -> tuple[set[frozenset[str]], set[frozenset[str]]]:
    """Pairs of images that are said to be one picture: with the same pixels, and nearly."""
    ids = found.inspection.ids
    exact = {frozenset((ids[group[0]], ids[other]))
             for group in found.duplicates.exact for other in group[1:]}  # fmt: skip
    near = found.duplicates.near
    pairs = zip(near.first.tolist(), near.second.tolist(), strict=True)
    return exact, {frozenset((ids[one], ids[other])) for one, other in pairs}


def table(found: Audit, untouched: Audit, planted: Planted) -> list[list[str]]:
    """A row of each kind of fault."""
    inspection, judged = found.inspection, found.judgement
    ids = np.array(inspection.ids)
    exact, near = pictures(found)
    own = pictures(untouched)
    truth = {kind: {frozenset(pair) for pair in planted.copies[kind]} for kind in planted.copies}
    sames = truth["same file"] | truth["same pixels"]
    nears = set().union(*truth.values()) - sames
    rows = [
        ["exact duplicates", *rates(exact, sames)],
        ["near-duplicates", *rates(near, nears)],
        ["near-duplicates that LFW has not itself", *rates(near - own[1], nears)],
        ["all duplicates", *rates(exact | near, sames | nears)],
    ]
    for kind, pairs in truth.items():
        either = (exact | near) & pairs
        rows.append([f"  {kind}", "", str(len(either)), str(len(pairs)), "",
                     f"{len(either) / len(pairs):.3f}"])  # fmt: skip
    for kind, images in (
        ("unreadable", {inspection.ids[number] for number in inspection.reasons}),
        ("tiny", set(ids[found.tiny])),
        ("not square", set(ids[found.not_square])),
        ("flat", set(ids[inspection.flat])),
    ):
        rows.append([kind, *rates(images, set(getattr(planted, kind.replace(" ", "_"))))])
    if judged is None:
        return rows
    suspects = set(ids[judged.suspects.suspect])
    split = dict((second, first) for first, second in planted.splits)
    wrong = {image for image, person in planted.person.items()
             if split.get(image.partition("/")[0], image.partition("/")[0]) != person}  # fmt: skip
    whole = untouched.inspection
    large = {whole.names[number] for number in np.flatnonzero(untouched.counts >= LEAST)}
    folders = {image: image.partition("/")[0] for image in inspection.ids}
    judgeable = {image for image, name in folders.items() if split.get(name, name) in large}
    people = len(large)
    swapped = set(planted.swapped)
    copied = wrong - swapped
    rows += [
        [f"swapped labels, of the {people} identities of three images or more",
         *rates((suspects & judgeable) - copied, swapped & judgeable)],
        ["  and copies under another name", *rates(suspects & judgeable, wrong & judgeable)],
        ["  all identities", *rates(suspects, wrong)],
    ]  # fmt: skip
    names = inspection.names
    same = {
        frozenset((names[one], names[other]))
        for one, other in zip(judged.same.first, judged.same.second, strict=True)
    }
    before = untouched.judgement
    assert before is not None
    known = {
        frozenset((untouched.inspection.names[one], untouched.inspection.names[other]))
        for one, other in zip(before.same.first, before.same.second, strict=True)
    }
    # An identity whose only image was swapped holds somebody who is elsewhere too.
    holds = {name: collections.Counter[str]() for name in names}
    for image in inspection.ids:
        name = image.partition("/")[0]
        holds[name][planted.person.get(image, split.get(name, name))] += 1
    alike: dict[str, list[str]] = {}
    for name, people_in in holds.items():
        alike.setdefault(people_in.most_common(1)[0][0], []).append(name)
    true = {
        frozenset(pair) for group in alike.values() for pair in itertools.combinations(group, 2)
    }
    splits = {frozenset(pair) for pair in planted.splits}
    return [
        *rows,
        ["identities that hold one person", *rates(same, true)],
        ["  that LFW has not itself", *rates(same - known, true)],
        ["  identities split in two", *rates(same & splits, splits)],
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recognizer", default="sface")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plant", metavar="FOLDER", help="make the copy there, and stop")
    parser.add_argument("--faulty", metavar="FOLDER", help="a copy that was made")
    options = parser.parse_args()
    source = pathlib.Path(os.environ["FACEJAX_DATA"], "lfw_dev", "train")
    if options.plant:
        plant(source, pathlib.Path(options.plant), seed=options.seed)
        return
    compilation.enable_cache(files.home() / "xla")
    recognizer = recognition.open(options.recognizer)
    with tempfile.TemporaryDirectory() as made:
        target = pathlib.Path(options.faulty or f"{made}/faulty")
        planted = read(target) if options.faulty else plant(source, target, seed=options.seed)
        audits = []
        for folder in tqdm((source, target), "auditing", unit=" folders"):
            started = time.perf_counter()
            audits.append(audit(folder_source(folder), recognizer=recognizer))
            seconds = time.perf_counter() - started
    untouched, found = audits
    header = ["planted", "found", "right", "planted", "precision", "recall"]
    print(format_table(header, table(found, untouched, planted)))
    judged = found.judgement
    assert judged is not None
    print(
        f"{len(found.inspection.ids)} images in {seconds:.0f} s, with {judged.recognizer}; "
        f"thresholds: own {judged.own_threshold:.3f}, other {judged.other_threshold:.3f}, same "
        f"{judged.same_threshold:.3f}\n{judged.basis}"
    )


if __name__ == "__main__":
    main()
