"""The page of an audit: pictures of what was found, in one HTML file that needs no other."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from facejax import files, page
from facejax.data.sources import Source
from facejax.evaluation import figures
from facejax.evaluation.audit import Audit, Clean, Leak
from facejax.evaluation.audit_report import DISTRUST, counted, ranked, records
from facejax.evaluation.inspection import Inspection, read
from facejax.page import Html

SHOWN = 60  # of each kind
_SIDE = 112  # pixels of a picture
_BESIDE = 3  # pictures of each of two identities
_LEAST = 4  # pictures that a row has room for, so that a few are not shown larger than many
_GAP = 8


def write_audit(
    directory: str | Path,
    found: Audit,
    clean: Clean,
    source: Source,
    *,
    against: Source | None = None,
    title: str = "Audit",
) -> list[Path]:
    """Writes `audit.json`, `identities.png` and `index.html`, in place of old ones.

    Args:
      directory: made where it is missing; `~` is the home.
      found: of `audit`.
      clean: of `clean`.
      source: that was audited, from which the pictures are read again.
      against: the test set.
      title: of the page.

    Returns:
      The three files. The page needs no other file; it shows the first 60 of each kind, the JSON
      has all.
    """
    directory = files.expand(directory)
    numbers, tail, index = (
        directory / name for name in ("audit.json", "identities.png", "index.html")
    )
    files.write(numbers, json.dumps(records(found, clean), indent=1, allow_nan=False) + "\n")
    figures.save(_tail_figure(found.counts), tail)
    page.write(index, title, _page(found, clean, source, against, tail.read_bytes()))
    return [numbers, tail, index]


def _tail_figure(counts: np.ndarray) -> Figure:
    """Images of each identity, the largest first, on logarithmic axes."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    falling = np.sort(counts[counts > 0])[::-1]
    axes.plot(np.arange(1, len(falling) + 1), falling, color=figures.SAME, drawstyle="steps-post")
    axes.set(xscale="log", yscale="log", xlabel="identities, largest first", ylabel="images")
    figures.bare(axes)
    return figure


def _page(
    found: Audit, clean: Clean, source: Source, against: Source | None, tail: bytes
) -> Iterator[Html]:
    inspection, duplicates, judged = found.inspection, found.duplicates, found.judgement
    ids, names = inspection.ids, inspection.names
    rows = counted(found, clean)
    yield page.facts([(what, f"{number:,}") for what, number in rows])
    for clause in inspection.passed_over:
        yield page.paragraph(f"Passed over: {clause}.")
    yield page.heading("Images per identity")
    yield page.picture(tail, "Images of each identity, the largest first.")

    if judged is not None:
        suspects = judged.suspects
        yield page.heading("Likely wrong labels")
        yield page.paragraph(
            f"By embeddings of {judged.recognizer}: less than {judged.own_threshold:.3f} like the "
            "rest of the identity; of identities with fewer than three pictures, only those that "
            f"are at least {judged.other_threshold:.3f} like another one. In each row the image, "
            "the identity that it is under, and the nearest other one. Thresholds: "
            f"{judged.basis}."
        )
        if not judged.trusted:
            yield page.paragraph(DISTRUST)
        numbers = ranked(found)
        yield from _sheet(
            numbers,
            lambda number: (
                _row(
                    source,
                    [number],
                    _some(inspection, int(inspection.labels[number]), suspects.suspect),
                    _some(inspection, int(suspects.nearest[number]), suspects.suspect),
                ),
                f"{ids[number]}: own {suspects.own[number]:.2f}, "
                f"{suspects.other[number]:.2f} like {names[suspects.nearest[number]]}",
            ),
        )
        same = judged.same
        yield page.heading("Likely one person under two names")
        yield page.paragraph(
            f"Centers at least {judged.same_threshold:.3f} alike; the default is what about one of "
            "all pairs reaches by chance. Most images of each are like the other too. In brackets "
            "are the numbers of images: one alone may as well be under a wrong name, and comes "
            "last. Siblings are found too."
        )
        yield from _sheet(
            range(len(same.first)),
            lambda number: (
                _row(
                    source,
                    _some(inspection, int(same.first[number]), suspects.suspect),
                    _some(inspection, int(same.second[number]), suspects.suspect),
                ),
                " and ".join(
                    f"{names[each]} ({found.counts[each]})"
                    for each in (same.first[number], same.second[number])
                )
                + f": {same.cosine[number]:.2f}",
            ),
        )

    yield page.heading("Exact duplicates")
    yield from _sheet(
        duplicates.exact,
        lambda group: (
            _row(source, group[: 2 * _BESIDE]),
            ", ".join(ids[number] for number in group[: 2 * _BESIDE]),
        ),
    )
    near = duplicates.near
    across = inspection.labels[near.first] != inspection.labels[near.second]
    yield page.heading("Near-duplicates")
    yield page.paragraph("Those of two identities first.")
    yield from _sheet(
        np.lexsort((-near.correlation, ~across)).tolist(),
        lambda number: (
            _row(source, near.first[[number]].tolist(), near.second[[number]].tolist()),
            f"{ids[near.first[number]]} and {ids[near.second[number]]}: "
            f"{near.correlation[number]:.2f}{', mirrored' if near.mirrored[number] else ''}",
        ),
    )
    if found.leak is not None and against is not None:
        yield from _leak_page(found, found.leak, source, against)
    for title, images in (
        ("Tiny images", found.tiny),
        ("Images that are not square", found.not_square),
        ("Flat images", np.flatnonzero(inspection.flat)),
    ):
        yield page.heading(title)
        yield from _sheet(
            images.tolist(), lambda number: (_row(source, [number]), ids[number]), large=False
        )
    yield page.heading("Unreadable images")
    reasons = list(inspection.reasons.items())
    yield page.table(
        ["image", "reason"], [[ids[number], reason] for number, reason in reasons[:SHOWN]]
    )
    yield _and_more(len(reasons))


def _leak_page(found: Audit, leak: Leak, source: Source, against: Source) -> Iterator[Html]:
    mine, other = found.inspection, leak.other
    yield page.heading("Shared with the test set")
    if leak.names:
        shown = ", ".join(mine.names[one] for one, _ in leak.names[:SHOWN])
        yield page.paragraph(f"Names: {shown}.")
        yield _and_more(len(leak.names))
    pairs = [(one, two, "the same pixels") for one, two in leak.exact]
    pairs += [
        (int(one), int(two), f"{correlation:.2f}")
        for one, two, correlation in zip(*leak.near[:3], strict=True)
    ]
    yield from _sheet(
        pairs,
        lambda pair: (
            _joined([_tile(source, pair[0])], [_tile(against, pair[1])]),
            f"{mine.ids[pair[0]]} and {other.ids[pair[1]]}: {pair[2]}",
        ),
    )
    none = np.zeros(len(other.ids), bool)
    suspect = np.zeros(len(mine.ids), bool)
    yield from _sheet(
        leak.people or (),
        lambda pair: (
            _joined(
                [_tile(source, number) for number in _some(mine, pair[0], suspect)],
                [_tile(against, number) for number in _some(other, pair[1], none)],
            ),
            f"{mine.names[pair[0]]} and {other.names[pair[1]]}: {pair[2]:.2f}",
        ),
    )


def _sheet(items: Sequence[Any], show: Any, *, large: bool = True) -> Iterator[Html]:
    """A contact sheet of the first items; `show` gives an item's JPEG and words."""
    if not len(items):
        yield page.paragraph("None.")
        return

    def tiles() -> Iterator[Html]:
        for item in items[:SHOWN]:
            content, words = show(item)
            yield page.item(page.image(content, words), page.plain(words))

    yield from page.grid(tiles(), large=large)
    yield _and_more(len(items))


def _and_more(count: int) -> Html:
    return page.paragraph(f"And {count - SHOWN:,} more, in audit.json." if count > SHOWN else "")


def _some(inspection: Inspection, identity: int, suspect: np.ndarray) -> list[int]:
    """A few images of an identity, those that are not suspect first."""
    images = np.flatnonzero((inspection.labels == identity) & inspection.pictures.any(axis=1))
    return images[np.argsort(suspect[images], kind="stable")][:_BESIDE].tolist()


def _row(source: Source, *parts: Sequence[int]) -> bytes:
    """A JPEG of images side by side, the parts with a gap between them."""
    return _joined(*([_tile(source, number) for number in part] for part in parts))


def _joined(*parts: Sequence[np.ndarray]) -> bytes:
    gap = np.full((_SIDE, _GAP, 3), 255, np.uint8)
    columns: list[np.ndarray] = []
    for part in parts:
        if columns and part:
            columns.append(gap)
        columns += part
    missing = max(0, _LEAST * _SIDE - sum(column.shape[1] for column in columns))
    columns.append(np.full((_SIDE, missing, 3), 255, np.uint8))
    picture = np.concatenate(columns, axis=1)
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def _tile(source: Source, number: int) -> np.ndarray:
    """uint8 RGB [112, 112, 3], as a network sees it; grey where it can't be read any more."""
    pixels = read(source, int(number))
    if pixels is None:
        return np.full((_SIDE, _SIDE, 3), 200, np.uint8)
    return cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
