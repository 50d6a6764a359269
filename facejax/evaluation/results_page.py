"""The report of an evaluation: one page that needs nothing else, its numbers, its pictures alone.

Pieces are made one by one and written at once, so that no more than one picture is held.
"""

import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from facejax import files, page
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
_Show = Callable[[str, Figure, str], Html]


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


def write_page(directory: str | Path, shown: Sequence[Shown], *, title: str) -> list[Path]:
    """Writes `evaluation.json`, the pictures alone and `index.html`, in place of old ones.

    Args:
      directory: made where it is missing; `~` is the home.
      shown: one benchmark or more.
      title: of the page.

    Returns:
      The files: the numbers, then the pictures, called by benchmark and what they show, then the
      page. The JSON has every number but those of each pair or image. The page needs no other
      file, and is there whole or not at all.

    Raises:
      OSError: a file can't be written.
      ValueError: two benchmarks have one name, or one has no results or those of several kinds.
    """
    names = [one.name for one in shown]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"one benchmark or more is wanted, each of another name, not {names}")
    for one in shown:
        kinds = {type(result) for result in one.results.values()}
        if len(kinds) != 1:
            raise ValueError(f"{one.name} has results of {len(kinds)} kinds, and must have one")
    directory = files.expand(directory)
    written = [directory / "evaluation.json"]
    records = {one.name: _record(one) for one in shown}
    files.write(written[0], json.dumps(records, indent=1, allow_nan=False) + "\n")
    index = directory / "index.html"
    page.write(index, title, _pieces(shown, directory, written))
    return [*written, index]


def write_report(
    directory: str | Path, results: Mapping[str, Verification], *, title: str = "Verification"
) -> list[Path]:
    """Writes `verification.json`, `roc.png`, `scores.png` and `index.html`, in place of old ones.

    This is the short form of `write_page`, for one list of pairs.

    Args:
      directory: made where it is missing; `~` is the home.
      results: by the name that is shown, one or more, on the same pairs.
      title: of the page, which should say whose faces they are.

    Returns:
      The four files. The JSON has all numbers but the pairs' scores; the page shows the table and
      the pictures, and needs no other file.
    """
    directory = files.expand(directory)
    written = [directory / "verification.json"]
    summary = {name: _details(result) for name, result in results.items()}
    files.write(written[0], json.dumps(summary, indent=1, allow_nan=False) + "\n")
    show = _shower(directory, "", written)
    header, rows, notes = report.cells(
        {name: report.scores(result) for name, result in results.items()}
    )

    def pieces() -> Iterator[Html]:
        yield page.paragraph(_about(results))
        top, *below = zip(header, *rows, strict=True)  # one column per result, so it is narrow
        yield page.table(top, below)
        yield from map(page.paragraph, notes)
        yield show("roc", results_figures.roc_figure(_curves(results)), _ROC)
        yield show("scores", results_figures.score_figure(results), _SCORES)

    index = directory / "index.html"
    page.write(index, title, pieces())
    return [*written, index]


def _pieces(shown: Sequence[Shown], directory: Path, written: list[Path]) -> Iterator[Html]:
    """The page, and on the way the pictures alone, which are added to what was written."""
    anchors = [f"set-{number}" for number in range(1, len(shown) + 1)]
    links = (
        page.link(anchor, page.plain(one.name)) for anchor, one in zip(anchors, shown, strict=True)
    )
    yield page.line(page.joined(links, between=" · "))
    yield from _overview(shown)
    by_model: dict[str, dict[str, np.ndarray]] = {}
    for one in shown:
        for model, qualities in one.qualities.items():
            by_model.setdefault(model, {})[one.name] = qualities
    several = {model: sets for model, sets in by_model.items() if len(sets) > 1}
    if several:
        yield page.heading("Quality by set", level=3)
        show = _shower(directory, "", written)
        yield show(
            "qualities",
            results_figures.quality_figure(several),
            "Qualities of the images of each set, such as the norms of embeddings.",
        )
    taken = {"index", ""}
    for anchor, one in zip(anchors, shown, strict=True):
        yield page.heading(one.name, anchor=anchor)
        show = _shower(directory, f"{_file_name(one.name, taken)}-", written)
        first = next(iter(one.results.values()))
        if isinstance(first, Verification):
            yield from _verification(one, show)
        elif isinstance(first, TemplateResults):
            yield from _templates(one, show)
        else:
            yield from _galleries(one, show)
        yield from _qualities(one, show)
        yield from _fairness(one)


def _overview(shown: Sequence[Shown]) -> Iterator[Html]:
    """A table for each kind, a row for each set and model."""
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


def _verification(one: Shown, show: _Show) -> Iterator[Html]:
    results = {
        name: result for name, result in one.results.items() if isinstance(result, Verification)
    }
    yield page.paragraph(_about(results))
    curves = _curves(results)
    yield page.heading("ROC and DET", level=3)
    yield show("roc", results_figures.roc_figure(curves), _ROC)
    yield show(
        "det",
        results_figures.det_figure(curves),
        "Same pairs that are refused over different pairs that are accepted, both as normal "
        "deviates; bands as above. The dotted line is that of equal error rates.",
    )
    yield page.heading("Scores", level=3)
    yield show("scores", results_figures.score_figure(results), _SCORES)
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


def _templates(one: Shown, show: _Show) -> Iterator[Html]:
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
    yield page.heading("ROC and DET", level=3)
    yield show("roc", results_figures.roc_figure(curves), _ROC)
    yield show(
        "det",
        results_figures.det_figure(curves),
        "Same pairs that are refused over different pairs that are accepted, both as normal "
        "deviates. The dotted line is that of equal error rates.",
    )
    yield page.heading("Scores", level=3)
    yield show("scores", results_figures.score_figure(results), _SCORES)
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


def _galleries(one: Shown, show: _Show) -> Iterator[Html]:
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
    results: Mapping[str, Identification], galleries: Mapping[str, Identification], show: _Show
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


def _qualities(one: Shown, show: _Show) -> Iterator[Html]:
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


def _shower(directory: Path, start: str, written: list[Path]) -> _Show:
    """What saves a figure by itself, and gives it as a piece of the page."""

    def show(name: str, figure: Figure, caption: str) -> Html:
        path = directory / f"{start}{name}.png"
        figures.save(figure, path)
        written.append(path)
        return page.picture(path.read_bytes(), caption)

    return show


def _file_name(name: str, taken: set[str]) -> str:
    """What a benchmark's files are called, of letters that every system has; another each time."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name)[:40].strip("-") or "set"
    found, number = plain, 1
    while found.lower() in taken:
        number += 1
        found = f"{plain}-{number}"
    taken.add(found.lower())
    return found


def _record(one: Shown) -> dict[str, Any]:
    """All numbers of a benchmark but those with a value per pair or image."""
    extra = {
        "rejects": {
            name: {**curve._asdict(), "area": curve.area(), "area_to_0.2": curve.area(upto=0.2)}
            for name, curve in one.rejects.items()
        },
        "fairness": one.fairness,
        "comparisons": one.comparisons,
        "compat": one.compat,
        "qualities": {
            name: {
                "mean": np.mean(each),
                "deviation": np.std(each),
                "quartiles": np.quantile(each, [0, 0.25, 0.5, 0.75, 1]),
            }
            for name, each in one.qualities.items()
        },
    }
    return {
        "scores": {name: numbers(result) for name, result in one.results.items()},
        "details": {name: _details(result) for name, result in one.results.items()},
        **report.to_json({name: each for name, each in extra.items() if each}),
    }


def _details(result: Result) -> dict[str, Any]:
    """All fields of a result but those with a value per pair, and how many pairs there were."""
    fields = result._asdict()
    for each in ("scores", "same", "identities"):
        fields.pop(each, None)
    if isinstance(result, Verification):
        fields = {"pairs": result.same.size, "same_pairs": result.same.sum(), **fields}
    return report.to_json(fields)
