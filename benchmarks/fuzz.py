"""Hostile files of every kind that is read: only sentences, no hang, bounded memory, nothing run.

    python benchmarks/fuzz.py [--inputs=100000] [--seed=0] [--files=set.bin,0.parquet]

Each input is a whole file in which bytes are changed, cut out, doubled or put in, or random bytes;
it is opened and read to the end. Whatever is raised but a `UserError` is shown and counted, and so
is a reading of more than a minute, an IJB list that is refused without a line, and whatever is run,
imported or started while a pickle is read.
"""

import collections
import io
import os
import pathlib
import pickle  # noqa: TID251  # to write with, not to read
import random
import re
import resource
import shlex
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import app, flags

from facejax.data import list_source, recordio_source, tar_source
from facejax.data.parquet import parquet_source
from facejax.data.recordio_writer import framed, packed
from facejax.data.sources import Source
from facejax.errors import UserError
from facejax.evaluation import template_files
from facejax.evaluation.bin_file import read_bin

INPUTS = flags.DEFINE_integer("inputs", 100_000, "how many in all", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "of the damage")
FILES = flags.DEFINE_list("files", [], "which are damaged; all if none are named")

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
    b"cos\nsystem\n(X\x04\0\0\0truetR",  # a call, as pickles write it
    b"cbuiltins\neval\n",
    b"\x8c\x02os\x8c\x06system\x93",
    b"\x8e\0\0\0\x80\x02\0\0\0",  # ten GB of bytes
    b"h\x01",
    b"(",
    b"R",
)
STARTED = {
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "import"),
    *("exec", "compile", "pickle.find_class", "ctypes.dlopen", "socket.connect"),
}
LISTS = ("images.txt", "members.txt", "pairs.txt", "gallery.csv")
# What an IJB list may be refused for that stands in no line.
OF_WHOLE = r"line \d|is empty|has no line for the image|has \d+ same and \d+ different pairs"


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
        "0.parquet": parquet(),
        **pickles(),
        "images.txt": b"".join(b"%d.jpg 1 2.5 3 4 5 6 7 8 9 10 0.9\n" % i for i in range(4)),
        "members.txt": b"".join(b"%d.jpg %d %d\n" % (i, i // 2 + 5, i) for i in range(4)),
        "pairs.txt": b"5 6 0\n5 9 1\n6 9 0\n9 7 1\n",
        "gallery.csv": b'TEMPLATE_ID,SUBJECT_ID,FILENAME\n5,1,a\n5,1,b\n6,2,"c,d"\n',
    }


def parquet() -> bytes:
    """Two row groups of images as hubs write them."""
    rows = [{"bytes": b"image %d" % i, "path": f"{i}.jpg"} for i in range(6)]
    table = pa.table({"image": rows, "label": [0, 1, 2, 0, 1, 2]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=3)
    return buffer.getvalue()


class Call:
    """What a pickle is not to do."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, ("touch called",)


def pickles() -> dict[str, bytes]:
    """Verification sets as Python 2 and 3 and NumPy write them, and one that asks for a call."""
    images = [b"image %d" % i for i in range(4)]
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    return {
        "set.bin": pickle.dumps((images, [True, False]), protocol=4),
        "old.bin": pickle.dumps((images, [True, False]), protocol=2),
        "text.bin": b"((S'\\xff1'\nS'b'\nl(I01\nlt.",
        "arrays.bin": pickle.dumps((arrays, np.array([True, False])), protocol=3),
        "calls.bin": pickle.dumps((images, [Call(), False]), protocol=4),
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


def readers(folder: pathlib.Path) -> dict[str, Callable[[], object]]:
    """How each file is read to the end."""
    ids, names = np.array([5, 6, 7, 9]), [f"{i}.jpg" for i in range(4)]

    def all_of(source: Source) -> None:
        for index in range(len(source)):
            assert 0 <= source[index]["label"] < source.num_classes

    return {
        "train.rec": lambda: all_of(recordio_source(folder / "train.rec")),
        "train.idx": lambda: all_of(recordio_source(folder / "train.rec")),
        "list.txt": lambda: all_of(list_source(folder / "list.txt")),
        "0.tar": lambda: all_of(tar_source(folder / "0.tar")),
        "0.parquet": lambda: all_of(parquet_source(folder / "0.parquet")),
        **{name: lambda name=name: read_bin(folder / name) for name in pickles()},  # type: ignore[misc]
        "images.txt": lambda: template_files.read_images(folder / "images.txt"),
        "members.txt": lambda: template_files.read_members(folder / "members.txt", names),
        "pairs.txt": lambda: template_files.read_template_pairs(folder / "pairs.txt", ids),
        "gallery.csv": lambda: template_files.read_template_list(folder / "gallery.csv", ids),
    }


class Watch:
    """Names what Python starts while it is on, which an audit hook is told of."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: object) -> None:
        if self.on and event in STARTED:
            self.seen.append(event)


def too_long(*_: object) -> None:
    """When the alarm rings."""
    raise TimeoutError("it takes more than a minute")


def main(_: list[str]) -> None:
    """Prints the table."""
    random_, wholes = random.Random(SEED.value), whole_files()
    names = FILES.value or list(wholes)
    if unknown := set(names) - set(wholes):
        raise app.UsageError(f"--files: there is no {unknown.pop()}, but {', '.join(wholes)}")
    sentences: collections.Counter[str] = collections.Counter()
    taken: collections.Counter[str] = collections.Counter()
    inputs: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    longest: dict[str, float] = collections.defaultdict(float)
    signal.signal(signal.SIGALRM, too_long)
    watch = Watch()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "images").mkdir()
        for name in "ab":
            (folder / "images" / f"{name}.jpg").write_bytes(b"image")
        read = readers(folder)
        for name in names:  # so that what is imported on the first call is
            for each, content in wholes.items():
                (folder / each).write_bytes(content)
            try:
                read[name]()
            except UserError:
                assert name == "calls.bin"
        began = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(INPUTS.value):
            name = names[number % len(names)]
            if name.startswith("train"):
                for each in ("train.rec", "train.idx"):
                    (folder / each).write_bytes(wholes[each])
            (folder / name).write_bytes(damaged(wholes[name], random_))
            if name == "train.rec" and random_.random() < 0.5:
                (folder / "train.idx").unlink()
            inputs[name] += 1
            start = time.perf_counter()
            signal.alarm(60)
            watch.on = name.endswith(".bin")
            try:
                read[name]()
                taken[name] += 1
            except UserError as error:
                sentences[name] += 1
                if "\n" in str(error):
                    faults[f"{name}: more than one line: {error!r}"[:150]] += 1
                if name in LISTS and not re.search(OF_WHOLE, str(error)):
                    faults[f"{name}: no line is named: {error!r}"[:250]] += 1
            except Exception as error:
                faults[f"{name}: {error!r}"[:150]] += 1
            watch.on = False
            signal.alarm(0)
            for event in watch.seen:
                faults[f"{name}: {event} while it was read"] += 1
            watch.seen.clear()
            longest[name] = max(longest[name], time.perf_counter() - start)
        assert not (folder / "called").exists()
        assert not pathlib.Path("called").exists()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"$ {shlex.join(['python', *sys.argv])}")
    print(f"{INPUTS.value} inputs in {time.perf_counter() - began:.0f} s")
    print(f"largest resident memory {before / 1024:.0f} -> {after / 1024:.0f} MiB\n")
    print("| file        | inputs |   read | refused | faults | longest, ms |")
    print("|-------------|-------:|-------:|--------:|-------:|------------:|")
    for name in names:
        wrong = sum(count for fault, count in faults.items() if fault.startswith(f"{name}:"))
        columns = f"{inputs[name]:6} | {taken[name]:6} | {sentences[name]:7} | {wrong:6}"
        print(f"| {name:11} | {columns} | {longest[name] * 1e3:11.1f} |")
    for fault, count in faults.most_common(20):
        print(f"{count} x {fault}")


if __name__ == "__main__":
    app.run(main)
