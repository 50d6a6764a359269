"""What the report page says of each benchmark, piece by piece."""

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from facejax import page
from facejax.errors import UserError
from facejax.evaluation import figures, hard_pairs, report, results_figures, results_tables
from facejax.evaluation.bands import tar_band
from facejax.evaluation.benchmarks import Result, numbers
from facejax.evaluation.comparison import Comparison
from facejax.evaluation.fairness import Fairness
from facejax.evaluation.identification import Identification
from facejax.evaluation.ijb import TemplateProtocol, TemplateResults
from facejax.evaluation.insightface_compat import InsightFaceVerification
from facejax.evaluation.protocols import Protocol
from facejax.evaluation.quality import RejectCurve
from facejax.evaluation.tinyface import GalleryProtocol
from facejax.evaluation.verification import Verification
from facejax.page import Html

_NONE: Mapping[str, Any] = types.MappingProxyType({})
_WHO = {
    "identities": "known",
    "linked images": "not known: images that same pairs link are taken for one person, and all "
    "others for different people",
}
_ROC = (
    "True accept rate over false accept rate. Bars and bands are 95 % intervals of the true accept "
    "rate at each point, dotted where they rest on fewer than 100 false accepts and are not to be "
    "relied on."
)
_SCORES = "Cosines of the pairs of the same person and of the pairs of different people."
# A figure and its caption -> the piece of the page that shows it; the name is that of its file.
Show = Callable[[str, Figure, str], Html]


class Shown(NamedTuple):
    """A benchmark on the page: what each model scored on it.

    Attributes:
      name: for people; of all that are shown another one.
      results: by the model's name, one or more; all of one kind, on the same pairs.
      protocol: its images, for pictures of the hardest pairs, and its folds; None for neither.
      rejects: error-versus-reject curves by the model's name.
      fairness: of groups, by the model's name.
      comparisons: paired differences, by "first - second".
      compat: InsightFace's numbers by the model's name.
      qualities: [M] of each image, such as the embedding's norm, by the model's name.
    """

    name: str
    results: Mapping[str, Result]
    protocol: Protocol | TemplateProtocol | GalleryProtocol | None = None
    rejects: Mapping[str, RejectCurve] = _NONE
    fairness: Mapping[str, Fairness] = _NONE
    comparisons: Mapping[str, Comparison] = _NONE
    compat: Mapping[str, InsightFaceVerification] = _NONE
    qualities: Mapping[str, np.ndarray] = _NONE


def brief(results: Mapping[str, Verification], show: Show) -> Iterator[Html]:
    """One list of pairs on half a page: table, ROC and scores.

    Args:
      results: by the model's name, one or more.
      show: see `Show`.
    """
    header, rows, notes = report.cells(
        {name: report.scores(result) for name, result in results.items()}
    )
    yield page.paragraph(_about(results))
    top, *below = zip(header, *rows, strict=True)  # one column per result, so it is narrow
    yield page.table(top, below)
    yield from map(page.paragraph, notes)
    yield show("roc", results_figures.roc_figure(_curves(results)), _ROC)
    yield show("scores", results_figures.score_figure(results), _SCORES)


def overview(shown: Sequence[Shown]) -> Iterator[Html]:
    """A table for each kind of benchmark, a row for each set and model.

    Args:
      shown: one benchmark or more.
    """
    yield page.heading("All sets")
    for kind in (Verification, TemplateResults, Identification):
        found = [
            ((one.name, model), numbers(result))
            for one in shown
            for model, result in one.results.items()
            if isinstance(result, kind)
        ]
        if found:
            names, records = zip(*found, strict=True)
            make = results_tables.verification if kind is Verification else results_tables.searches
            yield from _table(results_tables.stacked(make(names, records)), two_names=True)
    yield page.paragraph(
        "Under a rate is its 95 % interval, by resampling people. A ~ before it says that it is "
        "not to be relied on, and a line above why; a dash, that there is too little for a number."
    )


def section(one: Shown, show: Show) -> Iterator[Html]:
    """All of a benchmark, under its heading.

    Args:
      one: the benchmark.
      show: see `Show`.
    """
    first = next(iter(one.results.values()))
    if isinstance(first, Verification):
        yield from _verification(one, show)
    elif isinstance(first, TemplateResults):
        yield from _templates(one, show)
    else:
        yield from _galleries(one, show)
    yield from _qualities(one, show)
    yield from _fairness(one)


def _verification(one: Shown, show: Show) -> Iterator[Html]:
    results = {
        name: result for name, result in one.results.items() if isinstance(result, Verification)
    }
    yield page.paragraph(_about(results))
    curves = _curves(results)
    yield from _pair_figures(curves, results, show, bands="; bands as above")
    yield page.heading("Folds", level=3)
    protocol = one.protocol if isinstance(one.protocol, Protocol) else None
    if protocol is not None:
        yield show(
            "folds",
            results_figures.fold_figure(results, protocol.folds),
            "The ROC of each fold by itself, and of all pairs as the thick line.",
        )
    yield from _table(results_tables.folds(results))
    if one.comparisons:
        yield page.heading("Models against each other", level=3)
        yield page.paragraph(
            "Differences on the same resampled people; p is two-sided, of no difference."
        )
        yield from _table(results_tables.comparisons(one.comparisons), two_names=True)
    if one.compat:
        yield page.heading("As InsightFace computes it", level=3)
        yield from _table(results_tables.insightface(one.compat))
    if protocol is not None:
        yield from _hardest(results, protocol)


def _hardest(results: Mapping[str, Verification], protocol: Protocol) -> Iterator[Html]:
    """The pairs each model gets most wrong; of all images only theirs are kept, as thumbnails."""
    chosen = {
        name: hard_pairs.hardest(result.scores, result.same) for name, result in results.items()
    }
    pairs = np.concatenate([kind for kinds in chosen.values() for kind in kinds])
    wanted = protocol.indices[pairs].ravel().tolist()
    pictures: dict[int, np.ndarray] = {}
    yield page.heading("Hardest pairs", level=3)
    yield page.paragraph(
        "Under each pair are its score and its images. A pair that no model gets right may be "
        "labelled wrongly."
    )
    try:
        pictures = hard_pairs.thumbnails(protocol.images, wanted)
    except UserError as error:
        yield page.paragraph(f"There are no pictures: {error}")
    for name, (different, same) in chosen.items():
        scores = results[name].scores
        threshold = float(np.median(results[name].accuracy.thresholds))
        wrong = (int((scores[different] >= threshold).sum()), int((scores[same] < threshold).sum()))
        for what, kind, count in (
            ("different people who are most alike", different, wrong[0]),
            ("the same person, least alike", same, wrong[1]),
        ):
            yield page.heading(f"{name}: {what}", level=3)
            yield page.paragraph(
                f"{count} of these {len(kind)} are judged wrongly at the threshold {threshold:.3f}."
            )
            yield from page.pairs(_pair(protocol, pictures, int(n), scores[n]) for n in kind)


def _pair(
    protocol: Protocol, pictures: Mapping[int, np.ndarray], number: int, score: float
) -> Html:
    first, second = protocol.indices[number].tolist()
    names = hard_pairs.image_names(protocol.images, [first, second])
    lines = [page.plain(f"{score:.3f}"), *map(page.quiet, names)]
    if first in pictures and second in pictures:
        picture = hard_pairs.side_by_side(pictures[first], pictures[second])
        lines.insert(0, page.image(picture, " beside ".join(names)))
    return page.item(*lines)


def _pair_figures(
    curves: Sequence[results_figures.Curve],
    results: Mapping[str, Verification] | Mapping[str, TemplateResults],
    show: Show,
    *,
    bands: str = "",
) -> Iterator[Html]:
    """The curves and scores of pairs, be they of images or of templates."""
    yield page.heading("ROC and DET", level=3)
    yield show("roc", results_figures.roc_figure(curves), _ROC)
    yield show(
        "det",
        results_figures.det_figure(curves),
        "Same pairs that are refused over different pairs that are accepted, both as normal "
        f"deviates{bands}. The dotted line is that of equal error rates.",
    )
    yield page.heading("Scores", level=3)
    yield show("scores", results_figures.score_figure(results), _SCORES)


def _templates(one: Shown, show: Show) -> Iterator[Html]:
    results = {
        name: result for name, result in one.results.items() if isinstance(result, TemplateResults)
    }
    pairs = next(iter(results.values())).pairs
    yield page.paragraph(
        f"{pairs.same + pairs.different:,} pairs of templates, {pairs.same:,} of them of the same "
        "person. A template is a person's images pooled into one vector."
    )
    curves = [
        results_figures.curve_of_many(
            result.scores,
            result.same,
            f"{figures.name(name, number)}: AUC {result.pairs.auc:.4f}",
            result.pairs.tars,
        )
        for number, (name, result) in enumerate(results.items())
    ]
    yield from _pair_figures(curves, results, show)
    searched = {
        name: result.identification
        for name, result in results.items()
        if result.identification is not None
    }
    galleries = {
        f"{name}, gallery {number}": gallery
        for name, result in results.items()
        for number, gallery in enumerate(result.galleries, 1)
    }
    if searched:
        yield from _searches(searched, galleries, show)


def _galleries(one: Shown, show: Show) -> Iterator[Html]:
    results = {
        name: result for name, result in one.results.items() if isinstance(result, Identification)
    }
    first = next(iter(results.values()))
    yield page.paragraph(
        f"{first.mated + first.non_mated:,} probes, of which the gallery has the person of "
        f"{first.mated:,}."
    )
    yield from _searches(results, results, show)


def _searches(
    results: Mapping[str, Identification], galleries: Mapping[str, Identification], show: Show
) -> Iterator[Html]:
    """What is found, over all galleries, and TPIRs in each."""
    yield page.heading("Identification", level=3)
    yield show(
        "cmc",
        results_figures.cmc_figure(results),
        "The share of the probes, whose person is in the gallery, that are found up to each rank, "
        "with 95 % bands.",
    )
    if any(result.tpirs for result in galleries.values()):
        yield from _table(results_tables.identification(galleries))


def _qualities(one: Shown, show: Show) -> Iterator[Html]:
    if one.rejects:
        yield page.heading("Errors when the worst images are rejected", level=3)
        yield show(
            "rejects",
            results_figures.reject_figure(one.rejects),
            "False non-match rate of what is left when the share of worst quality is rejected, at "
            "a fixed threshold, with 95 % bands.",
        )
        yield from _table(results_tables.rejects(one.rejects))
    if one.qualities:
        yield page.heading("Quality", level=3)
        caption = "Qualities of the images, such as the norms of embeddings."
        sets = {model: {"all images": each} for model, each in one.qualities.items()}
        if isinstance(one.protocol, Protocol):
            caption = "Qualities of the images of same and of different pairs."
            alike, others = (
                np.unique(one.protocol.indices[one.protocol.same == kind]) for kind in (True, False)
            )
            sets = {
                model: {"in same pairs": each[alike], "in different pairs": each[others]}
                for model, each in one.qualities.items()
            }
        yield show("qualities", results_figures.quality_figure(sets), caption)


def _fairness(one: Shown) -> Iterator[Html]:
    if one.fairness:
        yield page.heading("Groups of people", level=3)
        yield page.paragraph(
            "Of pairs within a group: FMR, the share of different pairs accepted, and FNMR, the "
            "share of same pairs refused, at one threshold for all; and the threshold at which the "
            "group itself has the wanted FAR."
        )
        yield from _table(results_tables.groups(one.fairness), two_names=True)
        spreads = results_tables.spreads(one.fairness)
        if spreads.rows:
            yield page.paragraph("How far the rates differ; all are above their least by chance.")
            yield from _table(spreads)


def _table(cells: results_tables.Cells, *, two_names: bool = False) -> Iterator[Html]:
    yield page.table(cells.header, cells.rows, two_names=two_names)
    yield from map(page.paragraph, cells.notes)


def _about(results: Mapping[str, Verification]) -> str:
    first = next(iter(results.values()))
    return (
        f"{first.same.size} pairs, {first.same.sum()} of them of the same person. Accuracy is by "
        "the threshold that is best on the other folds; intervals are of 95 %, by resampling "
        f"{first.people} people, who are {_WHO[first.basis]}."
    )


def _curves(results: Mapping[str, Verification]) -> list[results_figures.Curve]:
    return [
        results_figures.curve_of(
            result,
            figures.name(name, number),
            band=tar_band(result.scores, result.same, result.identities),
        )
        for number, (name, result) in enumerate(results.items())
    ]
