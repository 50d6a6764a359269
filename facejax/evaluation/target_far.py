"""A threshold for use, from the pairs of different people of a benchmark."""

from collections.abc import Sequence

import numpy as np

from facejax.errors import UserError
from facejax.evaluation import impostors
from facejax.evaluation.benchmarks import Benchmark
from facejax.evaluation.protocols import Protocol
from facejax.evaluation.thresholds import LEAST_ACCEPTS, calibrate, calibrate_scores, too_few
from facejax.evaluation.verification import Verification
from facejax.recognition.thresholds import Threshold


def refuse_too_few(benchmark: Benchmark, fars: Sequence[float]) -> None:
    """Refuses a benchmark that can't calibrate a recognizer for all the rates.

    Args:
      benchmark: of pairs, or of a folder, where all pairs of two people count.
      fars: the wanted false accept rates.

    Raises:
      UserError: it has no pairs, or too few of different people.
    """
    protocol = benchmark.protocol
    if not isinstance(protocol, Protocol):
        raise UserError(
            f"{benchmark.name} has no pairs of images to calibrate on: give one of pairs"
        )
    people = _people(benchmark)
    negatives = int((~protocol.same).sum()) if people is None else impostors.count(people)
    for far in fars:
        if int(far * negatives + 1e-9) < LEAST_ACCEPTS:
            raise UserError(f"{benchmark.name} can't calibrate: {too_few(negatives, far)}")


def calibrated(
    embeddings: np.ndarray,
    benchmark: Benchmark,
    result: Verification,
    *,
    fars: Sequence[float],
    data: str = "",
) -> tuple[Threshold, ...]:
    """The thresholds of these rates.

    Args:
      embeddings: floats [M, D] of the benchmark's images.
      benchmark: that `refuse_too_few` lets pass.
      result: its pairs' scores.
      fars: the wanted false accept rates, in (0, 1).
      data: where the images come from, in words; the benchmark's name, if it is empty.

    Returns:
      A threshold for each rate, FARs falling: of all pairs of two people where the benchmark is a
      folder of people, else of its list's.

    Raises:
      UserError: as `calibrate`.
    """
    people, data = _people(benchmark), data or benchmark.name
    if people is not None:
        return calibrate(embeddings, people, fars=fars, data=data)
    return calibrate_scores(
        result.scores, result.same, fars=fars, identities=result.identities, data=data
    )


def squared_distance(cosine: float) -> float:
    """Of two unit vectors with this cosine: 2 - 2 cos.

    Args:
      cosine: -1 to 1.
    """
    return 2 - 2 * cosine


def angle(cosine: float) -> float:
    """Between two vectors with this cosine, degrees.

    Args:
      cosine: -1 to 1.
    """
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _people(benchmark: Benchmark) -> np.ndarray | None:
    """Who is on each image, where all are known and so all pairs of them can be used."""
    protocol = benchmark.protocol
    if benchmark.kind != "folder" or not isinstance(protocol, Protocol):
        return None
    return np.unique(np.asarray(protocol.identities), return_inverse=True)[1]
