"""A measurement in a process of its own: ended at its limit, and with its own peak of memory.

    python -m benchmarks.gpu.child MODULE ARGUMENTS

calls `rows(**arguments)` of the module and prints each `Row` as it comes.
"""

import contextlib
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.gpu.row import Row, in_one_line, of_line

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Child:
    """The process. Use it as a context: at its end the process and all it started are gone."""

    def __init__(
        self,
        module: str,
        arguments: Mapping[str, Any],
        *,
        seconds: float,
        environment: Mapping[str, str],
    ) -> None:
        self.what = (
            f"{module}, {arguments['classes']} classes" if "classes" in arguments else module
        )
        self.seconds, self.late = max(seconds, 0.0), False
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - until __exit__
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.child", module, json.dumps(arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,  # so that what it starts can be ended with it
        )
        self.timer = threading.Timer(self.seconds, self._end_late)
        self.timer.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        self._end()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def rows(self) -> Iterator[Row]:
        """Its rows to the end; the last one says why it ended early, if it did."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if row := of_line(line):
                yield row
        code = self.process.wait()
        if code:
            yield Row(self.what, {}, False, self._reason(code))

    def turn(self) -> None:
        """Lets a module that waits for its turn do one thing more."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `rows` says why
            self.process.stdin.write("\n")
            self.process.stdin.flush()

    def _reason(self, code: int) -> str:
        if self.late:
            return f"stopped at its limit of {self.seconds:.0f} s"
        self.errors.seek(0)
        said = self.errors.read().strip()
        print(said[-4000:], file=sys.stderr)
        last = said.splitlines()[-1][:200] if said else "it said nothing"
        return last if code > 0 else f"ended by signal {-code}: {last}"

    def _end_late(self) -> None:
        self.late = True
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def run(
    module: str, arguments: Mapping[str, Any], *, until: float, environment: Mapping[str, str]
) -> Iterator[Row]:
    """The rows of a module, in a process that ends at that time of `time.monotonic`."""
    left = until - time.monotonic()
    with Child(module, arguments, seconds=left, environment=environment) as child:
        yield from child.rows()


def main() -> None:
    """In the child."""
    module, arguments = sys.argv[1:]
    try:
        for row in importlib.import_module(f"benchmarks.gpu.{module}").rows(
            **json.loads(arguments)
        ):
            print(row.line(), flush=True)
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(in_one_line(error)) from None


if __name__ == "__main__":
    main()
