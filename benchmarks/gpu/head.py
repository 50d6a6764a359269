"""The head alone, streamed beside dense: time and memory, bfloat16 products, float32 weights."""

import statistics
import time
from collections.abc import Iterator, Sequence

import jax

from benchmarks import head_programs
from benchmarks.gpu.row import Row, in_one_line, is_out_of_memory

MIB = 2**20


class _Timed:
    """A program, with what was measured of it."""

    def __init__(self, name: str, program: head_programs.Program) -> None:
        self.name, self.program = name, program
        self.times: list[float] = []
        self.peak: int | None = None

    def once(self) -> None:
        start = time.perf_counter()
        self.program.run()
        self.times.append(time.perf_counter() - start)


def rows(
    *, classes: int, batch: int, dim: int, blocks: Sequence[int], repeats: int, most_time: float
) -> Iterator[Row]:
    """One row each for dense and the block sizes, and one for the fastest of these beside dense.

    Args:
      classes: rows of the class weights.
      batch: embeddings per step.
      dim: length of an embedding.
      blocks: classes per block, to be tried.
      repeats: timed rounds, in which all take turns.
      most_time: what the fastest streamed one may take of dense's; of its memory it may take all.
    """
    layouts = {"dense": None, **{f"blocks of {block}": block for block in blocks}}
    timed = []
    for name, block in layouts.items():
        try:
            program = head_programs.build(
                "gradients",
                classes=classes,
                batch=batch,
                dim=dim,
                dtype="bfloat16",
                block_size=block,
            )
        except jax.errors.JaxRuntimeError as error:
            yield _failed(classes, name, error)
            continue
        timed.append(_Timed(name, program))
    fitting = []
    # A process tells the most it ever held: the smallest comes first, and each peak is its own.
    for one in sorted(timed, key=lambda one: one.program.temporaries):
        try:
            one.once()
        except jax.errors.JaxRuntimeError as error:
            yield _failed(classes, one.name, error)
            continue
        one.times, one.peak = [], head_programs.peak_memory()
        fitting.append(one)
    for _ in range(repeats):
        for one in fitting:
            one.once()
    for one in fitting:
        yield Row(f"{classes} classes, {one.name}", _figures(one))
    dense = [one for one in fitting if one.name == "dense"]
    streamed = [one for one in fitting if one.name != "dense"]
    if dense and streamed:
        fastest = min(streamed, key=lambda one: statistics.median(one.times))
        yield _against(classes, fastest, dense[0], most_time)


def _failed(classes: int, name: str, error: Exception) -> Row:
    """A dense head that is too large is no failure: that is what streaming is for."""
    excused = is_out_of_memory(error) and name == "dense"
    what, said = f"{classes} classes, {name}", "does not fit" if excused else in_one_line(error)
    return Row(what, {}, None if excused else False, said)


def _figures(one: _Timed) -> dict[str, float]:
    figures = {
        "ms": 1000 * statistics.median(one.times),
        "temporaries MiB": one.program.temporaries / MIB,
    }
    return figures if one.peak is None else {**figures, "peak MiB": one.peak / MIB}


def _against(classes: int, fastest: _Timed, dense: _Timed, most_time: float) -> Row:
    ratios = [a / b for a, b in zip(fastest.times, dense.times, strict=True)]
    both = (fastest.program.temporaries, dense.program.temporaries)
    if fastest.peak is not None and dense.peak is not None:
        both = fastest.peak, dense.peak
    figures = {"time": statistics.median(ratios), "memory": both[0] / both[1]}
    passed = figures["time"] <= most_time and figures["memory"] <= 1
    note = f"at most {most_time:g}, 1"
    return Row(f"{classes} classes, {fastest.name} / dense", figures, passed, note)
