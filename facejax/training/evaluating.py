"""Benchmarks during training: images over all devices, numbers as one flat record.

A number is called as its benchmark's record calls it, with the benchmark's name and a slash before
it where it has one: `lfw/verification_accuracy`. The names are made and taken apart here alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from facejax import checkpoints, evaluation, recognition
from facejax.errors import UserError
from facejax.evaluation.benchmarks import Benchmark, Result, measure, numbers
from facejax.evaluation.protocols import Images
from facejax.training.state import TrainState
from facejax.training.subset import Part, count_images, part_of, take_images

# Of the numbers that are not a verification's, those that a line of text has room for.
_HEADLINES = ("rank_", "tar_at_far_", "tpir_at_fpir_")
_MESSAGE = 1000  # bytes of it that processes tell each other


class Planned(NamedTuple):
    """A benchmark, and what is measured of it before the last step."""

    whole: Benchmark
    part: Part


class Evaluated(NamedTuple):
    """What an evaluation gave.

    Attributes:
      results: of each benchmark by its name, of the whole one where that was asked for.
      numbers: of them, flat.
      of_parts: the numbers of the parts, which compare with those of other steps.
    """

    results: dict[str, Result]
    numbers: dict[str, Any]
    of_parts: dict[str, Any]


def plan(benchmarks: Sequence[Benchmark], *, subset: int, seed: int) -> tuple[Planned, ...]:
    """The benchmarks with their parts.

    Args:
      benchmarks: each with another name, which may be empty.
      subset: see `part_of`.
      seed: of the parts.
    """
    return tuple(
        Planned(benchmark, part_of(benchmark, most=subset, seed=seed)) for benchmark in benchmarks
    )


def evaluate(
    embedder: recognition.Embedder,
    state: TrainState,
    planned: Sequence[Planned],
    *,
    batch_size: int,
    whole: bool,
) -> Evaluated:
    """Embeds the images of all benchmarks, each process its share of them, and measures.

    Every process comes to the same numbers. All must call it, and one that fails makes all fail.

    Args:
      embedder: of `recognition.make_embedder(unit=False)`; it sees batches of one shape.
      state: whose network it is, as `step.Step` has it or leaves it.
      planned: of `plan`.
      batch_size: of each process, made larger to a multiple of its devices.
      whole: the whole benchmarks, not only their parts.

    Raises:
      UserError: an image does not decode, in any process, or an embedding is not finite.
    """
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    variables = jax.tree.map(lambda leaf: leaf.addressable_data(0), variables)
    devices = jax.local_device_count()

    def embed(images: Iterator[np.ndarray]) -> np.ndarray:
        even = -(-batch_size // devices) * devices
        return recognition.embed(embedder, variables, images, batch_size=even)

    chosen = [one.whole if whole else one.part.benchmark for one in planned]
    embeddings = embed_all(embed, [one.protocol.images for one in chosen], batch_size=batch_size)
    results, parts = {}, {}
    for one, benchmark, rows in zip(planned, chosen, embeddings, strict=True):
        name = benchmark.name
        results[name] = parts[name] = measure(rows, benchmark)
        if benchmark is not one.part.benchmark:
            parts[name] = measure(rows[one.part.rows], one.part.benchmark)
    return Evaluated(results, flat_numbers(results), flat_numbers(parts))


def embed_all(
    embed: Callable[[Iterator[np.ndarray]], np.ndarray],
    images: Sequence[Images],
    *,
    batch_size: int,
) -> list[np.ndarray]:
    """Embeds sets of images one after another as if they were one, each process its share.

    Args:
      embed: from uint8 [b, H, W, 3], b <= batch_size, one after another, to float32 [m, D].
      images: the sets, not empty, the same in every process.
      batch_size: the most that `embed` is given at a time.

    Returns:
      float32 [M, D] of each set, in every process.

    Raises:
      UserError: of `embed`, or that another process has met an error.
    """
    counts = [count_images(one) for one in images]
    ends = np.cumsum(counts)
    total, processes = int(ends[-1]), jax.process_count()
    # Shares of one size, as what they gather has one shape: the last ones may overlap.
    share = -(-total // processes)
    starts = [min(number * share, total - share) for number in range(processes)]
    start = starts[jax.process_index()]
    mine = _between(images, start, start + share, batch_size)
    if processes == 1:
        rows = embed(mine)
    else:
        gathered = multihost_utils.process_allgather(_together(lambda: embed(mine)))
        rows = np.empty((total, gathered.shape[-1]), gathered.dtype)
        for begin, part in zip(starts, gathered, strict=True):
            rows[begin : begin + share] = part
    return np.split(rows, ends[:-1])


def names(planned: Sequence[Planned]) -> dict[str, Any]:
    """The numbers that an evaluation of the parts will give, with values of no network.

    Args:
      planned: of `plan`.
    """
    random = np.random.default_rng(0)
    results = {}
    for one in planned:
        noise = random.standard_normal((len(one.part.rows), 4), np.float32)
        results[one.whole.name] = measure(noise, one.part.benchmark, resamples=50)
    return flat_numbers(results)


def flat_numbers(results: Mapping[str, Result]) -> dict[str, Any]:
    """The numbers of several benchmarks as one record of what JSON has.

    Args:
      results: by the benchmark's name.

    Returns:
      {"lfw/verification_accuracy": 0.99, ...}; without a name there is no slash. Records in a
      record have another one: "ijbc/gallery_1/rank_1".
    """

    def flat(before: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in record.items():
            if isinstance(value, Mapping):
                yield from flat(f"{before}{name}/", value)
            else:
                yield before + name, value

    found: dict[str, Any] = {}
    for name, result in results.items():
        found |= flat(f"{name}/" if name else "", numbers(result))
    return found


def by_benchmark(line: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A line of the metrics taken apart: {"lfw": {"verification_accuracy": 0.99, ...}, ...}.

    Args:
      line: what has no slash in its name is under "".
    """
    found: dict[str, dict[str, Any]] = {}
    for name, value in line.items():
        benchmark, slash, number = name.partition("/")
        found.setdefault(benchmark if slash else "", {})[number if slash else name] = value
    return found


def headlines(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of templates or of a gallery that matter most.

    Args:
      record: of one benchmark.
    """
    return {
        name: value
        for name, value in record.items()
        if name.startswith(_HEADLINES) and (value is None or checkpoints.is_number(value))
    }


def in_words(record: Mapping[str, Any]) -> str:
    """A flat record as lines of text, one for each benchmark."""
    lines = []
    for name, own in by_benchmark(record).items():
        if evaluation.score_labels(own):
            said = evaluation.scores_in_words(own)
        else:
            shown = headlines(own).items()
            said = ", ".join(
                f"{number} {value:.4f}" for number, value in shown if value is not None
            )
        lines.append(f"{name}: {said}" if name else said)
    return "\n".join(lines)


def _between(
    images: Sequence[Images], start: int, stop: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Those numbered from `start` to `stop` through all sets, a few at a time."""
    first = 0
    for one in images:
        count = count_images(one)
        low, high = max(start - first, 0), min(stop - first, count)
        first += count
        if low >= high:
            continue
        some = one if (low, high) == (0, count) else take_images(one, range(low, high))
        if isinstance(some, np.ndarray):
            yield from (some[at : at + batch_size] for at in range(0, len(some), batch_size))
        else:
            yield from some


def _together(work: Callable[[], np.ndarray]) -> np.ndarray:
    """What this process works out, if no process fails; else all of them raise."""
    failure, rows = None, np.zeros(0)
    try:
        rows = work()
    except Exception as error:  # whatever it is, the others must not wait for this process
        failure = error
    said = "" if failure is None else str(failure) or type(failure).__name__
    told = np.frombuffer(said.encode()[:_MESSAGE].ljust(_MESSAGE, b"\0"), np.uint8)
    heard = multihost_utils.process_allgather(told)
    if failure is not None:
        raise failure
    for number, message in enumerate(heard):
        if words := bytes(message).rstrip(b"\0").decode(errors="ignore"):
            raise UserError(f"process {number} stopped: {words}")
    return rows
