"""Time and memory of IJB-C's protocol, from embeddings to rates, on a synthetic set of its size.

    python benchmarks/templates.py           # 470,000 images, 15.7 million pairs: 1.3 GB of disk
    python benchmarks/templates.py --quick   # a hundredth of it: whether it runs

The set is written into a temporary folder in the official layout, its pairs in no order, with
embeddings of 512 floats that are read a block at a time. What is timed runs in a process of its
own, whose peak memory is its resident memory at most, Python and JAX included.
"""

import argparse
import datetime
import json
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from facejax.evaluation import ijb
from facejax.evaluation.identification import find, identify
from facejax.evaluation.templates import judge_pairs, pair_scores, pool
from facejax.table import format_table

SIZE, BLOCK = 512, 8192
SUBJECTS, PROBES, IMAGES, PAIRS = 3531, 19_593, 469_375, 15_658_489  # IJB-C's
SAME = 19_557


def write(folder: pathlib.Path, share: float) -> None:
    """The lists and the embeddings, by a fixed seed."""
    rng = np.random.default_rng(0)
    people, probes, images, count, same = (
        max(int(number * share), 20) for number in (SUBJECTS, PROBES, IMAGES, PAIRS, SAME)
    )
    subjects = np.concatenate([np.arange(people), rng.integers(0, people, probes)])
    templates = np.concatenate([np.arange(len(subjects)), rng.integers(0, len(subjects), images)])
    templates = np.sort(templates[:images])
    meta = folder / "meta"
    meta.mkdir(parents=True)
    quality = np.round(rng.beta(5, 1, images), 3)
    with (meta / "ijbc_name_5pts_score.txt").open("w") as file:
        for number, score in enumerate(quality, 1):
            file.write(f"{number}.jpg 38.2 51.6 73.5 51.5 56.0 71.7 41.5 92.3 70.7 92.2 {score}\n")
    with (meta / "ijbc_face_tid_mid.txt").open("w") as file:
        for number, template in enumerate(templates, 1):
            file.write(f"{number}.jpg {template + 1} {number // 3}\n")
    for name, listed in (
        ("gallery_G1", range(0, people, 2)),
        ("gallery_G2", range(1, people, 2)),
        ("probe_mixed", range(people, len(subjects))),
    ):
        lines = "".join(f"{row + 1},{subjects[row]},a.jpg\n" for row in listed)
        (meta / f"ijbc_1N_{name}.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + lines)
    second = rng.integers(people, len(subjects), count)
    first = rng.integers(0, people, count)
    first[:same] = subjects[second[:same]]
    first[same:] += first[same:] == subjects[second[same:]]
    first %= people
    order = rng.permutation(count)
    with (meta / "ijbc_template_pair_label.txt").open("w") as file:
        for rows in np.array_split(order, max(count // 100_000, 1)):
            label = subjects[first[rows]] == subjects[second[rows]]
            columns = (first[rows] + 1, second[rows] + 1, label.astype(int))
            lines_of = zip(*(column.tolist() for column in columns), strict=True)
            file.write("".join(f"{a} {b} {c}\n" for a, b, c in lines_of))
    centers = rng.standard_normal((people, SIZE), np.float32)
    with (folder / "embeddings").open("wb") as file:
        for start in range(0, images, BLOCK):
            whose = subjects[templates[start : start + BLOCK]]
            noise = rng.standard_normal((len(whose), SIZE), np.float32) * np.float32(10)
            sure = quality[start : start + BLOCK, None].astype(np.float32)
            file.write(((centers[whose] + noise) * sure).tobytes())


def blocks(path: pathlib.Path) -> Iterator[np.ndarray]:
    """Embeddings as they would come from a network."""
    with path.open("rb") as file:
        while (block := np.fromfile(file, np.float32, BLOCK * SIZE)).size:
            yield block.reshape(-1, SIZE)


def measure(folder: pathlib.Path, bootstrap: int) -> dict[str, Any]:
    """Seconds of each part, the peak memory after it in MiB, and the results."""
    parts: dict[str, tuple[float, float]] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = function()
        seconds = time.perf_counter() - begin
        parts[name] = (seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return result

    protocol = timed("read the lists", lambda: ijb.from_ijb(folder, image_size=112))
    members, probes = protocol.members, protocol.probes
    templates = timed(
        "pool the images, read from the disk",
        lambda: pool(
            blocks(folder / "embeddings"),
            members.images,
            members.templates,
            members.media,
            image_weights=protocol.detection_scores,
        ),
    )
    scores = timed("score the pairs", lambda: pair_scores(templates, protocol.pairs))
    judged = timed("AUC and six TARs", lambda: judge_pairs(scores, protocol.same))

    def searched() -> Any:
        return [
            find(templates[probes.templates], probes.subjects, templates[one.templates],
                 one.subjects)
            for one in protocol.galleries
        ]  # fmt: skip

    searches = timed("search both galleries", searched)
    timed("ranks and TPIRs", lambda: identify(searches, probes.subjects, bootstrap=0))
    counted = f"{bootstrap} resamples"
    judged = timed(
        f"intervals of the TARs, {counted}",
        lambda: ijb.with_intervals(judged, scores, protocol, bootstrap=bootstrap),
    )
    each, mean = timed(
        f"intervals of ranks and TPIRs, {counted}",
        lambda: identify(searches, probes.subjects, bootstrap=bootstrap),
    )
    results = ijb.TemplateResults(scores, protocol.same, judged, each, mean)
    return {"parts": parts, "record": ijb.template_scores(results)}


def main() -> None:
    """Writes the set, measures in another process, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size")
    parser.add_argument("--bootstrap", type=int, default=400, help="resamples for the intervals")
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)  # of the child
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder, options.bootstrap)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "synthetic"
        write(folder, 0.01 if options.quick else 1.0)
        command = [
            sys.executable,
            __file__,
            f"--folder={folder}",
            f"--bootstrap={options.bootstrap}",
        ]
        child = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(child.stdout.splitlines()[-1])
    print(f"{platform.machine()}, jax {jax.__version__}, {datetime.date.today()}")
    rows = [[name, f"{s:.1f}", f"{mib:.0f}"] for name, (s, mib) in found["parts"].items()]
    parts = list(found["parts"].items())
    until = sum(seconds for name, (seconds, _) in parts[1:6])
    rows.append(
        ["embeddings to all rates, without reading lists and intervals", f"{until:.1f}", ""]
    )
    print(format_table(["", "s", "peak MiB"], rows))
    print(json.dumps(found["record"]))


if __name__ == "__main__":
    main()
