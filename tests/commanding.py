"""What the tests of the commands share: how one is run, and stand-ins for the networks."""

import json
import pathlib
from typing import Any

import numpy as np

from facejax import __main__, compilation, recognition
from facejax.commands import work
from facejax.recognition.thresholds import Threshold
from tests import stand_ins
from tests.stand_ins import SIDE, photo, save

ANN, BOB, CYD, DAN = range(4)
THRESHOLDS = (
    Threshold(far=1e-2, cosine=0.5, upper_bound=1.2e-2, negatives=10_000, data="checks"),
    Threshold(far=1e-3, cosine=0.6, upper_bound=1.5e-3, negatives=10_000, data="checks"),
)


def without_networks(
    monkeypatch: Any, folder: pathlib.Path, *, thresholds: tuple[Threshold, ...] = THRESHOLDS
) -> None:
    """Stand-ins for both, and no cache of programs outside of the test, which runs in a folder."""
    stand_in = stand_ins.Recognizer(thresholds=thresholds)
    monkeypatch.setattr(recognition, "open", lambda name: stand_in)
    monkeypatch.setattr(work, "open_detector", lambda given: stand_ins.detector)
    monkeypatch.setattr(compilation, "enable_cache", lambda directory: None)
    monkeypatch.chdir(folder)


def save_people(folder: pathlib.Path) -> pathlib.Path:
    """people/NAME/N.png of Ann, Bob and Cyd, two each."""
    for person, name in enumerate(("Ann", "Bob", "Cyd")):
        for number in (1, 2):
            save(folder / "people" / name / f"{number}.png", photo(person, number=number))
    return folder / "people"


def run(*arguments: object) -> int:
    return __main__.main([str(argument) for argument in arguments])


def answer(capsys: Any, *arguments: object, status: int = 0) -> Any:
    """What a command prints for machines."""
    assert run(*arguments, "--json") == status
    return json.loads(capsys.readouterr().out)


def complaint(capsys: Any, *arguments: object) -> str:
    """The sentence of a refusal."""
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    assert said.startswith("error: ")
    return said.removeprefix("error: ").rstrip("\n")


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of the colors of two patterns, computed from the full pictures."""
    a, b = (
        each.reshape(4, SIDE // 4, 4, SIDE // 4, 3).mean(axis=(1, 3)).ravel() - 127.3
        for each in (one, other)
    )
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
