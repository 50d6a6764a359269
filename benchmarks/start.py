"""How long `train.py` takes to its first step: with empty caches, and again.

python benchmarks/start.py
"""

import datetime
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from absl import app

ROOT = pathlib.Path(__file__).parents[1]


def seconds_to_first_step(folder: pathlib.Path, workdir: str) -> float:
    """One start of the default run, cut short after its first step."""
    finished = subprocess.run(
        [
            sys.executable,
            str(ROOT / "train.py"),
            "--config.steps=1",
            f"--config.compilation_cache={folder / 'programs'}",
            f"--config.data.cache={folder / 'faces'}",
            f"--workdir={folder / workdir}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"first step done ([\d.]+) s", finished.stderr + finished.stdout)
    assert found, finished.stderr
    return float(found[1])


def main(_) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        first = seconds_to_first_step(pathlib.Path(folder), "first")
        later = [seconds_to_first_step(pathlib.Path(folder), f"later{i}") for i in range(3)]
    print(f"python benchmarks/start.py, {datetime.date.today()}, {os.cpu_count()} cores")
    print(f"first start   {first:6.1f} s to the end of step 1")
    again = sorted(later)[1]
    print(f"later starts  {again:6.1f} s, the median of {len(later)}: {again / first:.2f} of it")


if __name__ == "__main__":
    app.run(main)
