"""The arguments that several commands share, under one name each."""

import argparse
import math
from typing import Any

FAR = 1e-3  # a comparison's, where nobody says otherwise

# What `commands.add_parser` belongs to; argparse has no public name for its type.
Commands = Any


def add_photos(parser: argparse.ArgumentParser) -> None:
    """PHOTOS...: files, or folders with all that is in them."""
    parser.add_argument(
        "photos", metavar="PHOTOS", nargs="+", help="photographs, or folders of them"
    )


def add_recognizer(parser: argparse.ArgumentParser, *, gallery: bool = False) -> None:
    """--recognizer; with `gallery`, where it is left out it is the gallery's."""
    default = "that of the gallery, else the best" if gallery else "the best"
    parser.add_argument(
        "--recognizer",
        metavar="NAME",
        help=f"sface, dlib, the workdir of a run, or FILE.onnx (default: {default} installed)",
    )


def add_detector(parser: argparse.ArgumentParser) -> None:
    """--detector, --tiles, --smallest and --score: how faces are found."""
    parser.add_argument(
        "--detector", metavar="FILE.onnx", help="of YuNet (default: that of the extra faces)"
    )
    parser.add_argument(
        "--tiles",
        choices=("always", "auto", "never"),
        default="always",
        help="whether to look closer for small faces; auto does not in a portrait "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--smallest",
        type=_pixels,
        default=24.0,
        metavar="PIXELS",
        help="width of the smallest faces to look for (default: 24)",
    )
    parser.add_argument(
        "--score",
        type=share,
        default=0.7,
        metavar="SCORE",
        help="least score of a face, 0 to 1 (default: 0.7)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="for machines")


def add_draw(parser: argparse.ArgumentParser) -> None:
    """--draw."""
    parser.add_argument(
        "--draw",
        metavar="OUT",
        help="a folder for the photographs with their faces marked; of one photograph, a file",
    )


def add_face(parser: argparse.ArgumentParser) -> None:
    """--face: which one of a photo with several."""
    parser.add_argument(
        "--face",
        choices=("only", "largest", "center"),
        default="only",
        help="which face of a photo with several; only takes none of them (default: %(default)s)",
    )


def add_gallery(parser: argparse.ArgumentParser) -> None:
    """GALLERY."""
    parser.add_argument("gallery", metavar="GALLERY", help="a file, or the URL of a database")


def add_threshold(parser: argparse.ArgumentParser, *, far: bool = True, fpir: bool = False) -> None:
    """--threshold, and --far and --fpir in its place: one of them."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--threshold", type=cosine, metavar="COSINE", help="from which similarity it is the same"
    )
    if far:
        one.add_argument(
            "--far",
            type=share,
            metavar="RATE",
            help="in place of it: how often two different people may be called the same "
            f"(default: {FAR})",
        )
    if fpir:
        one.add_argument(
            "--fpir",
            type=share,
            metavar="RATE",
            help="in place of both: how often a stranger may be called somebody of the gallery",
        )


def cosine(text: str) -> float:
    """A cosine."""
    return _number(text, "a cosine, from -1 to 1", -1.0, 1.0)


def margin(text: str) -> float:
    """What one cosine is to be ahead of another."""
    return _number(text, "a number from 0 to 2", 0.0, 2.0)


def whole_number(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _pixels(text: str) -> float:
    return _number(text, "a number of pixels, 1 or more", 1.0, math.inf)


def share(text: str) -> float:
    """A number between 0 and 1."""
    value = _number(text, "a number between 0 and 1", 0.0, 1.0)
    if value in (0.0, 1.0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and 1")
    return value


def _number(text: str, kind: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and least <= value <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is not {kind}")
    return value
