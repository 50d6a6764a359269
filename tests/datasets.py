"""What the tests of kept datasets share: a folder of bitmaps, what is built of it, how often."""

import pathlib
from typing import Any

import facejax.data.build
from facejax.data import build_dataset, folder_source
from tests.pictures import encode, smooth


def write_bitmaps(folder: pathlib.Path) -> pathlib.Path:
    """Two of Ann, Bob and Cyd each, which all have one size."""
    for person, name in enumerate(("Ann", "Bob", "Cyd")):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            image = encode(smooth(8, 8, seed=10 * person + number), ".bmp")
            (folder / name / f"{number}.bmp").write_bytes(image)
    return folder


def written(monkeypatch: Any) -> list[str]:
    """The datasets that are really written during a test."""
    return counted(monkeypatch, facejax.data.build, "_write", lambda writer, final, **_: final.name)


def counted(monkeypatch: Any, module: Any, name: str, what: Any) -> list[Any]:
    calls: list[Any] = []
    function = getattr(module, name)

    def counting(*arguments, **options):
        calls.append(what(*arguments, **options))
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, counting)
    return calls


def build(faces: pathlib.Path, out: pathlib.Path, **options):
    return build_dataset(folder_source(faces), out, progress=False, **options)


def assert_equal(dataset, faces: pathlib.Path) -> None:
    source = folder_source(faces)
    assert [dataset[i] for i in range(len(dataset))] == [source[i] for i in range(len(source))]
