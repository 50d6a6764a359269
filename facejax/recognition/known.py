"""The recognizers whose weights facejax knows: SFace and dlib's network."""

import pathlib
from collections.abc import Callable
from typing import Any

from facejax import models
from facejax.errors import UserError
from facejax.recognition import packages, templates
from facejax.recognition.card import Card
from facejax.recognition.dlib_file import MEAN, read_layers
from facejax.recognition.onnx_file import read_tensors
from facejax.recognition.recognizer import Recognizer, of_network

SFACE_CARD = Card(
    name="SFace",
    image_size=112,
    template=templates.ARCFACE,
    color="rgb",
    mean=127.5,
    scale=1 / 128,
    flip=False,
    unit=True,
    embedding_size=128,
    sha256=packages.SFACE.sha256,
)
DLIB_CARD = Card(
    name="dlib",
    image_size=150,
    template=templates.DLIB,
    color="rgb",
    mean=MEAN,
    scale=1 / 256,
    flip=False,
    unit=True,
    embedding_size=128,
    sha256=packages.DLIB.sha256,
)


def sface(path: pathlib.Path | None = None) -> Recognizer:
    """SFace.

    Args:
      path: of the ONNX file; None takes that of the installed package.

    Raises:
      UserError: it is not installed, can't be read, or has other weights.
    """
    path = path or packages.locate(packages.SFACE)
    tensors = read_tensors(packages.read_known(path, packages.SFACE), path)
    variables = _mapped(path, models.sface_variables, tensors)
    return of_network(
        SFACE_CARD, models.from_module(models.SFace()).apply, variables, directory=path
    )


def dlib(path: pathlib.Path | None = None) -> Recognizer:
    """dlib's network.

    Args:
      path: of the .dat file; None takes that of the installed package.

    Raises:
      UserError: it is not installed, can't be read, or has other weights.
    """
    path = path or packages.locate(packages.DLIB)
    layers = read_layers(packages.read_known(path, packages.DLIB), path)
    variables = _mapped(path, models.dlib_variables, layers)
    return of_network(
        DLIB_CARD, models.from_module(models.DlibResNet()).apply, variables, directory=path
    )


def _mapped(path: pathlib.Path, mapping: Callable[[Any], Any], weights: Any) -> Any:
    try:
        return mapping(weights)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path} has not the weights of this network ({error}): get it anew, or give another"
        ) from error
