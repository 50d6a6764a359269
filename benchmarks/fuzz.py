"""Hostile RecordIO files, indexes, lists and tar shards: only sentences, no hang, bounded memory.

    python benchmarks/fuzz.py [--inputs=100000] [--seed=0]

Each input is a whole file in which bytes are changed, cut out, doubled or put in, or random bytes;
it is opened and read to the end. Whatever is raised but a `UserError` is shown and counted.
"""

import collections
import io
import pathlib
import random
import resource
import shlex
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable

from absl import app, flags

from facejax.data import list_source, recordio_source, tar_source
from facejax.data.recordio_writer import framed, packed
from facejax.data.sources import Source
from facejax.errors import UserError

INPUTS = flags.DEFINE_integer("inputs", 100_000, "how many", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "of the damage")

MAGIC = bytes.fromhex("0a23d7ce")
PIECES = (
    MAGIC,
    b"\0" * 4,
    b"\xff" * 4,
    b"\t",
    b"\n",
    b"../",
    b"1",
    b"99999999999999999999",
    b".jpg",
)


def whole_files() -> dict[str, bytes]:
    """The files before they are damaged."""
    records = [
        framed(packed(float(i % 3), i, b"image %d" % i + MAGIC * (i % 2))) for i in range(1, 6)
    ]
    records.append(framed(packed([6.0, 9.0], 0)))
    starts = [sum(map(len, records[:i])) for i in range(6)]
    index = "".join(f"{(i + 1) % 6}\t{start}\n" for i, start in enumerate(starts))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        for name, content in (
            ("a.cls", b"1"),
            ("a.jpg", b"x" * 700),
            ("b.json", b'{"label": "n"}'),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            members.addfile(info, io.BytesIO(content))
    lines = "images/a.jpg 1\n# no\n1\t0\timages/b.jpg\nimages/a.jpg\tAnn\t3\n"
    return {
        "train.rec": b"".join(records),
        "train.idx": index.encode(),
        "list.txt": lines.encode(),
        "0.tar": archive.getvalue(),
    }


def damaged(content: bytes, random_: random.Random) -> bytes:
    """A file after a few accidents."""
    if random_.random() < 0.05:
        return random_.randbytes(random_.randrange(200))
    data = bytearray(content)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) + 1)
        kind = random_.randrange(5)
        if kind == 0 and at < len(data):
            data[at] = random_.randrange(256)
        elif kind == 1:
            del data[at : at + random_.randint(1, 40)]
        elif kind == 2:
            data[at:at] = random_.choice(PIECES)
        elif kind == 3:
            data[at:at] = data[at : at + random_.randint(1, 60)]
        elif at % 4 == 0:
            data[at : at + 4] = random_.choice(PIECES)
    return bytes(data)


def main(_: list[str]) -> None:
    """Prints the table."""
    random_, wholes = random.Random(SEED.value), whole_files()
    sentences: collections.Counter[str] = collections.Counter()
    taken: collections.Counter[str] = collections.Counter()
    inputs: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    longest: dict[str, float] = collections.defaultdict(float)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "images").mkdir()
        for name in "ab":
            (folder / "images" / f"{name}.jpg").write_bytes(b"image")
        openers: dict[str, Callable[[], Source]] = {
            "train.rec": lambda: recordio_source(folder / "train.rec"),
            "train.idx": lambda: recordio_source(folder / "train.rec"),
            "list.txt": lambda: list_source(folder / "list.txt"),
            "0.tar": lambda: tar_source(folder / "0.tar"),
        }
        began = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(INPUTS.value):
            name = list(wholes)[number % len(wholes)]
            for each, content in wholes.items():
                if each == name:
                    (folder / each).write_bytes(damaged(content, random_))
                elif each in ("train.rec", "train.idx") and name.startswith("train"):
                    (folder / each).write_bytes(content)
            if name == "train.rec" and number % 8 == 0:
                (folder / "train.idx").unlink(missing_ok=True)
            inputs[name] += 1
            start = time.perf_counter()
            try:
                source = openers[name]()
                for index in range(len(source)):
                    assert 0 <= source[index]["label"] < source.num_classes
                taken[name] += 1
            except UserError as error:
                sentences[name] += 1
                if "\n" in str(error):
                    faults[f"{name}: more than one line: {error!r}"[:150]] += 1
            except Exception as error:
                faults[f"{name}: {error!r}"[:150]] += 1
            longest[name] = max(longest[name], time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"$ {shlex.join(['python', *sys.argv])}")
    print(f"{INPUTS.value} inputs in {time.perf_counter() - began:.0f} s")
    print(f"largest resident memory {before / 1024:.0f} -> {after / 1024:.0f} MiB\n")
    print("| file      | inputs |   read | refused | faults | longest, ms |")
    print("|-----------|-------:|-------:|--------:|-------:|------------:|")
    for name in wholes:
        wrong = sum(count for fault, count in faults.items() if fault.startswith(name))
        columns = f"{inputs[name]:6} | {taken[name]:6} | {sentences[name]:7} | {wrong:6}"
        print(f"| {name:9} | {columns} | {longest[name] * 1e3:11.1f} |")
    for fault, count in faults.most_common(20):
        print(f"{count} x {fault}")


if __name__ == "__main__":
    app.run(main)
