"""What an audit found, in numbers and names: a summary, JSON, and a list to train on."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from facejax import files
from facejax.data.near_duplicates import Near
from facejax.errors import UserError
from facejax.evaluation.audit import Audit, Clean, Leak
from facejax.evaluation.inspection import Inspection
from facejax.evaluation.report import to_json

DISTRUST = (
    "More than half of the labels that were judged are suspect: take a better recognizer. A clean "
    "list keeps them."
)


def records(found: Audit, clean: Clean) -> dict[str, Any]:
    """All that was found as what JSON has, by the names of images and identities.

    Args:
      found: of `audit`.
      clean: of `clean`.
    """
    inspection = found.inspection
    ids, names = inspection.ids, inspection.names
    record: dict[str, Any] = {
        "images": len(ids),
        "identities": len(names),
        "images_per_identity": _spread(found.counts),
        "passed_over": list(inspection.passed_over),
        "label_gaps": [names[number] for number in found.gaps],
        "unreadable": [
            {"image": ids[number], "reason": reason}
            for number, reason in inspection.reasons.items()
        ],
        "tiny": _sized(inspection, found.tiny),
        "not_square": _sized(inspection, found.not_square),
        "flat": [ids[number] for number in np.flatnonzero(inspection.flat)],
        "exact_duplicates": [
            {
                "images": [ids[number] for number in group],
                "same_file": len({inspection.contents[number].tobytes() for number in group}) == 1,
                "identities": len({int(inspection.labels[number]) for number in group}),
            }
            for group in found.duplicates.exact
        ],
        "near_duplicates": _near(found.duplicates.near, inspection, inspection),
        "near_duplicates_cut": found.duplicates.near.cut,
        "clean": {
            "kept": len(clean.kept),
            "dropped": {
                reason: [ids[number] for number in images]
                for reason, images in clean.dropped.items()
            },
        },
    }
    judged = found.judgement
    if judged is not None:
        suspects, same = judged.suspects, judged.same
        record["labels"] = {
            "recognizer": judged.recognizer,
            "own_threshold": judged.own_threshold,
            "other_threshold": judged.other_threshold,
            "same_threshold": judged.same_threshold,
            "thresholds_rest_on": judged.basis,
            "trusted": judged.trusted,
            "judged": int(suspects.judged.sum()),
            "not_judged": int(len(ids) - suspects.judged.sum()),
            "suspects": [
                {
                    "image": ids[number],
                    "identity": names[inspection.labels[number]],
                    "own": float(suspects.own[number]),
                    "other": float(suspects.other[number]),
                    "suggested": _suggested(found, number),
                }
                for number in ranked(found)
            ],
            "same_person": [
                {
                    "identities": [names[one], names[other]],
                    "images": [int(found.counts[one]), int(found.counts[other])],
                    "cosine": float(cosine),
                }
                for one, other, cosine in zip(*same, strict=True)
            ],
        }
    if found.leak is not None:
        record["shared"] = _shared(inspection, found.leak)
    return to_json(record)


def counted(found: Audit, clean: Clean) -> list[tuple[str, int]]:
    """The findings as (what, how many), in the order of the page.

    Args:
      found: of `audit`.
      clean: of `clean`.
    """
    inspection, duplicates = found.inspection, found.duplicates
    rows = [
        ("images", len(inspection.ids)),
        ("identities", len(inspection.names)),
        ("identities of one image", int((found.counts == 1).sum())),
        ("labels without an image", len(found.gaps)),
        ("unreadable images", len(inspection.reasons)),
        ("tiny images", len(found.tiny)),
        ("images that are not square", len(found.not_square)),
        ("flat images", int(inspection.flat.sum())),
        ("groups of exact duplicates", len(duplicates.exact)),
        ("pairs of near-duplicates", len(duplicates.near.first)),
    ]
    if found.judgement is not None:
        judged = found.judgement.suspects.judged
        rows += [
            ("likely wrong labels", int(found.judgement.suspects.suspect.sum())),
            ("labels that can't be judged", int(len(judged) - judged.sum())),
            ("likely one person under two names", len(found.judgement.same.first)),
        ]
    if found.leak is not None:
        rows += [
            ("names shared with the test set", len(found.leak.names)),
            ("exact duplicates shared with it", len(found.leak.exact)),
            ("near-duplicates shared with it", len(found.leak.near.first)),
        ]
        if found.leak.people is not None:
            rows.append(("people likely shared with it", len(found.leak.people)))
    return [*rows, ("images kept in a clean list", len(clean.kept))]


def ranked(found: Audit) -> list[int]:
    """The suspect images, the surest first: by how much another identity is nearer than its own.

    Args:
      found: of `audit`, with a recognizer.
    """
    assert found.judgement is not None
    suspects = found.judgement.suspects
    (numbers,) = np.nonzero(suspects.suspect)
    lead = np.nan_to_num(suspects.other[numbers], nan=-1) - np.nan_to_num(suspects.own[numbers])
    return numbers[np.argsort(-lead, kind="stable")].tolist()


def write_list(
    path: str | Path, found: Audit, clean: Clean, *, root: str | Path | None = None
) -> None:
    """Writes the list that training reads: a line `image<TAB>identity` for each image kept.

    Args:
      path: of the file, replaced as a whole.
      found: of `audit`.
      clean: of `clean`.
      root: the folder that the images are in. Where it is the list's own or below that, as a reader
        of lists wants it, images are named from there; else from the root.

    Raises:
      UserError: a name has a tab or a line break in it, or would read as a comment.
      OSError: it can't be written.
    """
    inspection = found.inspection
    where, home = Path(root or "/").resolve(), Path(path).resolve().parent
    before = "" if root is None or not where.is_relative_to(home) else where.relative_to(home)
    lines = []
    for number in clean.kept.tolist():
        image = str(PurePosixPath(before, inspection.ids[number]))
        name = inspection.names[inspection.labels[number]]
        if any(mark in image + name for mark in "\t\n\r") or image.startswith("#"):
            raise UserError(
                f"{image!a} has a tab or a line break in its name or a # before it, which a list "
                "can't hold: rename it"
            )
        lines.append(f"{image}\t{name}\n")
    files.write(path, "".join(lines))


def _spread(counts: np.ndarray) -> dict[str, Any]:
    some = counts[counts > 0]
    values, how_many = np.unique(counts, return_counts=True)
    return {
        "least": int(some.min(initial=counts.max(initial=0))),
        "median": float(np.median(some)) if len(some) else 0.0,
        "mean": float(some.mean()) if len(some) else 0.0,
        "most": int(counts.max(initial=0)),
        # How many identities have so many images.
        "identities_by_images": {
            str(value): int(number) for value, number in zip(values, how_many, strict=True)
        },
    }


def _sized(inspection: Inspection, images: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "image": inspection.ids[number],
            "height": int(inspection.sizes[number, 0]),
            "width": int(inspection.sizes[number, 1]),
        }
        for number in images
    ]


def _near(near: Near, mine: Inspection, other: Inspection) -> list[dict[str, Any]]:
    return [
        {
            "images": [mine.ids[first], other.ids[second]],
            "identities": [mine.names[mine.labels[first]], other.names[other.labels[second]]],
            "correlation": round(float(correlation), 4),
            "mirrored": bool(mirrored),
        }
        for first, second, correlation, mirrored in zip(*near[:4], strict=True)
    ]


def _shared(mine: Inspection, leak: Leak) -> dict[str, Any]:
    other = leak.other
    people = leak.people
    return {
        "images": len(other.ids),
        "identities": len(other.names),
        "names": [[mine.names[one], other.names[two]] for one, two in leak.names],
        "exact_duplicates": [[mine.ids[one], other.ids[two]] for one, two in leak.exact],
        "near_duplicates": _near(leak.near, mine, other),
        "people": None
        if people is None
        else [
            {"identities": [mine.names[one], other.names[two]], "cosine": cosine}
            for one, two, cosine in people
        ],
    }


def _suggested(found: Audit, number: int) -> str | None:
    """The identity that a suspect image likely is of."""
    assert found.judgement is not None
    suspects, limit = found.judgement.suspects, found.judgement.other_threshold
    if not suspects.other[number] >= limit:
        return None
    return found.inspection.names[suspects.nearest[number]]
