"""Where thresholds are kept: in a run's folder, in facejax's home, and those that come with it.

What a person has calibrated wins over what is shipped.
"""

import dataclasses
import importlib.resources
import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any

from facejax import files
from facejax.errors import UserError
from facejax.recognition.card import Card
from facejax.recognition.thresholds import Threshold

_SHIPPED = "shipped_thresholds.json"  # of docs/thresholds.py


def thresholds_path(card: Card, *, run: str | pathlib.Path | None = None) -> pathlib.Path:
    """Where a recognizer's own thresholds lie: RUN/thresholds.json, else in facejax's home.

    Args:
      card: the recognizer's.
      run: the workdir of the run whose network it is; None is any other network.
    """
    if run is not None:
        return files.expand(run) / "thresholds.json"
    return files.home() / "thresholds" / f"{card.sha256}.json"


def write_thresholds(
    path: str | pathlib.Path, thresholds: Iterable[Threshold], *, card: Card
) -> None:
    """Writes thresholds, in place of those that are there.

    Args:
      path: of the file; see `thresholds_path`.
      thresholds: of the recognizer.
      card: the recognizer's, which goes into the file.

    Raises:
      UserError: it can't be written.
    """
    content = {
        "card": json.loads(card.to_json()),
        "thresholds": [one.to_json() for one in thresholds],
    }
    with files.refusing(path, "make room there, or make the folder writable"):
        files.write(files.expand(path), json.dumps(content, indent=2) + "\n")


def read_thresholds(path: str | pathlib.Path, *, card: Card) -> tuple[Threshold, ...]:
    """Reads thresholds.

    Args:
      path: of the file.
      card: of the recognizer whose they are to be.

    Returns:
      The thresholds; none where the same weights were calibrated under another card (flip, order of
      colors, normalisation, template): their cosines are others.

    Raises:
      UserError: the file can't be read, is damaged, or is of other weights.
    """
    try:
        content = json.loads(files.expand(path).read_text("utf-8"))
        theirs = Card.from_json(json.dumps(content["card"]))
        thresholds = _checked(content["thresholds"])
    except OSError as error:
        raise UserError(
            f"the thresholds {path} can't be read ({error.strerror}): make the file readable, or "
            "remove it"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged or no file of thresholds ({type(error).__name__}: {error}): "
            "calibrate anew, or remove it"
        ) from error
    if theirs.sha256 != card.sha256:
        raise UserError(
            f"the thresholds {path} are of other weights (sha256 {theirs.sha256[:12]}...) than "
            f"those of {card.name} ({card.sha256[:12]}...): calibrate anew, or remove the file"
        )
    alike = dataclasses.replace(theirs, name=card.name, unit=card.unit)
    return thresholds if alike == card else ()


def shipped_thresholds(card: Card) -> tuple[Threshold, ...]:
    """Those that come with facejax, for SFace and dlib's network as they are by default.

    Args:
      card: the recognizer's.

    Returns:
      The thresholds; none of other weights, or with another flip.
    """
    text = importlib.resources.files("facejax.recognition").joinpath(_SHIPPED).read_text("utf-8")
    entry = json.loads(text).get(card.sha256)
    if entry is None or entry["flip"] != card.flip:
        return ()
    return _checked(entry["thresholds"])


def stored_thresholds(
    card: Card, *, run: str | pathlib.Path | None = None
) -> tuple[Threshold, ...]:
    """A recognizer's thresholds: a person's own calibration, else those that are shipped.

    Args:
      card: the recognizer's.
      run: the workdir of the run whose network it is.

    Returns:
      The thresholds; () where there are none.

    Raises:
      UserError: as `read_thresholds`.
    """
    path = thresholds_path(card, run=run)
    own = read_thresholds(path, card=card) if path.is_file() else ()
    return own or shipped_thresholds(card)


def _checked(entries: list[dict[str, Any]]) -> tuple[Threshold, ...]:
    """The thresholds of a file.

    Raises:
      ValueError: a number is none, or out of its range (and others, for what is no list of them).
    """
    thresholds = tuple(Threshold.from_json(entry) for entry in entries)
    for one in thresholds:
        if not 0 < one.far <= 1 or not math.isfinite(one.cosine):
            raise ValueError(f"FAR {one.far!r} at cosine {one.cosine!r}")
    return thresholds
