"""All that was measured on one benchmark, of one model or several side by side."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from facejax.errors import UserError
from facejax.evaluation import insightface_compat, target_far
from facejax.evaluation.benchmarks import Benchmark, Result, measure
from facejax.evaluation.comparison import Comparison, compare
from facejax.evaluation.embedding import Embedded
from facejax.evaluation.fairness import Fairness, fairness
from facejax.evaluation.insightface_compat import InsightFaceVerification
from facejax.evaluation.protocols import Protocol
from facejax.evaluation.quality import RejectCurve, error_versus_reject
from facejax.evaluation.results_page import Shown
from facejax.evaluation.tables import ImageTable
from facejax.evaluation.verification import Verification, format_far
from facejax.recognition.thresholds import Threshold


class Findings(NamedTuple):
    """What one model scored on one benchmark; all but the first are of pairs of images only.

    Attributes:
      result: of `facejax.evaluation.benchmarks.measure`.
      reject: error versus reject; None where there is no quality, or no FAR for the threshold.
      fairness: by the attributes of groups.
      compat: InsightFace's numbers, where they are asked for.
      quality: [M] of the images, by which they are rejected.
      thresholds: calibrated, where they are asked for.
    """

    result: Result
    reject: RejectCurve | None = None
    fairness: Mapping[str, Fairness] = {}
    compat: InsightFaceVerification | None = None
    quality: np.ndarray | None = None
    thresholds: tuple[Threshold, ...] = ()


def find(
    embedded: Embedded,
    benchmark: Benchmark,
    *,
    fars: Sequence[float],
    quality: np.ndarray | None = None,
    groups: Mapping[str, np.ndarray] = {},
    insightface: bool = False,
    target_fars: Sequence[float] = (),
) -> Findings:
    """Measures a model on a benchmark, in every way that is asked for.

    Args:
      embedded: its embeddings of the images.
      benchmark: of `facejax.evaluation.benchmarks.open_benchmark`.
      fars: at which TAR is wanted; the largest is that of reject curves and groups, if there are
        pairs enough.
      quality: [M] of the images, larger is better; None takes what came with the embeddings.
      groups: [M] str of each attribute, of `groups_of`.
      insightface: whether InsightFace's numbers are wanted.
      target_fars: that thresholds are wanted for; see `facejax.evaluation.target_far`.

    Raises:
      UserError: an embedding is not finite.
    """
    result, protocol = measure(embedded.embeddings, benchmark, fars=fars), benchmark.protocol
    if not isinstance(result, Verification) or not isinstance(protocol, Protocol):
        return Findings(result)
    quality = embedded.quality if quality is None else quality
    scored = result.scores, result.same
    reject, by_groups, compat = None, {}, None
    far = supported_far(protocol, fars)
    if far is not None and quality is not None:
        reject = error_versus_reject(
            *scored, protocol.indices, quality, far=far, identities=result.identities
        )
    if far is not None:
        by_groups = {
            attribute: fairness(*scored, result.identities, of[protocol.indices], far=far)
            for attribute, of in groups.items()
        }
    if insightface:
        compat = insightface_compat.insightface_verification(
            embedded.embeddings if embedded.sums is None else embedded.sums,
            protocol.indices,
            protocol.same,
        )
    thresholds = (
        target_far.calibrated(embedded.embeddings, benchmark, result, fars=target_fars)
        if target_fars
        else ()
    )
    return Findings(result, reject, by_groups, compat, quality, thresholds)


def supported_far(protocol: Protocol, fars: Sequence[float]) -> float | None:
    """The largest of several rates, if the different pairs are enough for it; else None.

    Args:
      protocol: with the pairs.
      fars: false accept rates, in (0, 1).
    """
    far = max(fars)
    return far if int(far * int((~protocol.same).sum()) + 1e-9) else None


def refuse(
    benchmark: Benchmark, fars: Sequence[float], *, insightface: bool, grouped: bool
) -> None:
    """Refuses a benchmark whose pairs are too few for what is asked.

    Args:
      benchmark: of any kind; only one of pairs of images is refused.
      fars: the false accept rates that are wanted.
      insightface: whether InsightFace's numbers are.
      grouped: whether error rates by groups are.

    Raises:
      UserError: it has too few.
    """
    protocol = benchmark.protocol
    if not isinstance(protocol, Protocol):
        return
    if insightface and len(protocol.same) < 10:
        raise UserError(
            f"InsightFace cuts the pairs into ten folds, and {benchmark.name} has "
            f"{len(protocol.same)}: leave its numbers out"
        )
    if grouped and supported_far(protocol, fars) is None:
        raise UserError(
            f"{benchmark.name} has {int((~protocol.same).sum())} different pairs, too few for "
            f"groups at the threshold of FAR {format_far(max(fars))}: give a larger FAR, too"
        )


def qualities_of(benchmark: Benchmark, table: ImageTable | None) -> np.ndarray | None:
    """The column "quality", or the only one there is, of a benchmark's images.

    Args:
      benchmark: what is measured on.
      table: of the file, if there is one.

    Returns:
      float64 [M]; None without a table, or where there are no pairs of images.

    Raises:
      UserError: there are several columns and none of that name, or as `ImageTable.numbers`.
    """
    if table is None or not isinstance(benchmark.protocol, Protocol):
        return None
    column = table.columns[0] if len(table.columns) == 1 else "quality"
    return table.numbers(column, benchmark.names)


def groups_of(benchmark: Benchmark, table: ImageTable | None) -> dict[str, np.ndarray]:
    """The attributes of a benchmark's images.

    Args:
      benchmark: what is measured on.
      table: of the file, whose column "quality" is no attribute; None takes the groups that the
        benchmark has by itself.

    Returns:
      [M] str of each column; none where there are no pairs of images.

    Raises:
      UserError: an image is not in the file, or no pair is of two images of one group.
    """
    protocol = benchmark.protocol
    if not isinstance(protocol, Protocol):
        return {}
    if table is None:
        return {} if benchmark.groups is None else {"group": benchmark.groups}
    attributes = [column for column in table.columns if column != "quality"]
    found = {column: table.texts(column, benchmark.names) for column in attributes}
    for column, groups in found.items():
        first, second = groups[protocol.indices].T
        if not ((first == second) & (first != "")).any():
            raise UserError(
                f"no pair of {benchmark.name} is of two images of one {column}: leave that column "
                f"out of {table.path}, or give pairs within groups"
            )
    return found


def side_by_side(
    benchmark: Benchmark, found: Mapping[str, Findings], *, fars: Sequence[float]
) -> Shown:
    """What all models scored on a benchmark, the first compared with each other one.

    Args:
      benchmark: what they were measured on.
      found: by the models' names, one or more.
      fars: at which TAR is compared.
    """
    results = {name: one.result for name, one in found.items()}
    pairs = {name: one for name, one in results.items() if isinstance(one, Verification)}
    comparisons: dict[str, Comparison] = {}
    if isinstance(benchmark.protocol, Protocol) and len(pairs) > 1:
        (name, first), *others = pairs.items()
        comparisons = {
            f"{name} - {other}": compare(
                first.scores,
                second.scores,
                first.same,
                benchmark.protocol.folds,
                first.identities,
                fars=fars,
            )
            for other, second in others
        }
    return Shown(
        benchmark.name,
        results,
        benchmark.protocol,
        {name: one.reject for name, one in found.items() if one.reject is not None},
        {
            name if len(one.fairness) == 1 else f"{name}, {attribute}": groups
            for name, one in found.items()
            for attribute, groups in one.fairness.items()
        },
        comparisons,
        {name: one.compat for name, one in found.items() if one.compat is not None},
        {name: one.quality for name, one in found.items() if one.quality is not None},
    )
