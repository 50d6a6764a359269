"""Embeddings in a file, npz or safetensors, with the names of their images.

`embeddings` [N, D] float32, `names` [N] and perhaps `quality` [N], as `facejax embed` writes them,
and `sums` [N, D] float64 for InsightFace's numbers; safetensors has the names as JSON in its
metadata.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facejax import files
from facejax.errors import UserError
from facejax.evaluation.tables import image_key

SUFFIXES = (".npz", ".safetensors")
_ARRAYS = ("embeddings", "quality", "sums")


class Stored(NamedTuple):
    """What a file has.

    Attributes:
      path: of the file.
      embeddings: float32 [N, D].
      names: [N] of the images, each once; None where the file has none.
      quality: float64 [N], larger is better; None where the file has none, or several measures.
      sums: float64 [N, D], of images and mirror images; None where the file has none.
    """

    path: Path
    embeddings: np.ndarray
    names: tuple[str, ...] | None
    quality: np.ndarray | None
    sums: np.ndarray | None = None


def read_embeddings(path: str | Path) -> Stored:
    """Reads a file of embeddings.

    Args:
      path: FILE.npz or FILE.safetensors; `~` is the home.

    Raises:
      UserError: it can't be read, or is no file of embeddings.
    """
    path = files.expand(path)
    refuse_suffix(path)
    arrays, names = _npz(path) if path.suffix.lower() == ".npz" else _safetensors(path)
    rows = arrays.get("embeddings")
    if rows is None or rows.ndim != 2 or rows.dtype.kind != "f" or not rows.size:
        what = "none" if rows is None else f"{rows.dtype} {list(rows.shape)}"
        raise UserError(f"{path} must have `embeddings`, floats [N, D], and has {what}: add them")
    if names is not None and len(names) != len(rows):
        raise UserError(
            f"{path} has {len(rows)} embeddings and {len(names)} names: give each its name"
        )
    quality = arrays.get("quality")
    if quality is not None and (quality.shape != (len(rows),) or quality.dtype.kind not in "fiu"):
        quality = None  # of `facejax embed`: several measures of each
    sums = arrays.get("sums")
    if sums is not None and (sums.ndim != 2 or len(sums) != len(rows) or sums.dtype.kind != "f"):
        raise UserError(f"the `sums` of {path} are no floats [{len(rows)}, D]: leave them out")
    return Stored(
        path,
        np.asarray(rows, np.float32),
        names,
        None if quality is None else np.asarray(quality, np.float64),
        None if sums is None else np.asarray(sums, np.float64),
    )


def write_embeddings(
    path: str | Path,
    embeddings: np.ndarray,
    *,
    names: Sequence[str],
    quality: np.ndarray | None = None,
    sums: np.ndarray | None = None,
) -> None:
    """Writes a file of embeddings, which appears when it is whole.

    Args:
      path: FILE.npz or FILE.safetensors; `~` is the home.
      embeddings: float32 [N, D].
      names: [N].
      quality: floats [N], or None.
      sums: float64 [N, D], or None.

    Raises:
      UserError: it can't be written.
    """
    path = files.expand(path)
    refuse_suffix(path)
    printed = [name.encode(errors="backslashreplace").decode() for name in names]
    arrays: dict[str, Any] = {"embeddings": np.ascontiguousarray(embeddings, np.float32)}
    for name, values in (("quality", quality), ("sums", sums)):
        if values is not None:
            arrays[name] = np.ascontiguousarray(values, np.float64)
    remedy = "make room there, or give another place"
    with files.refusing(path, remedy), files.replacing(path) as partial:
        if path.suffix.lower() == ".npz":
            with partial.open("wb") as file:
                np.savez(file, names=np.array(printed, str), **arrays)
        else:
            from safetensors.numpy import save_file

            save_file(arrays, partial, metadata={"names": json.dumps(printed)})


def choose_file(path: str | Path, benchmark: str) -> Path:
    """The file of a benchmark: the path itself, or the one in a folder that has its name.

    Args:
      path: of a file, or of a folder that has NAME.npz or NAME.safetensors of each benchmark.
      benchmark: its name.

    Raises:
      UserError: the folder has no such file, or there is nothing.
    """
    path = files.expand(path)
    if not path.is_dir():
        return path
    found = [path / f"{file_name(benchmark)}{suffix}" for suffix in SUFFIXES]
    for each in found:
        if each.is_file():
            return each
    raise UserError(f"the embeddings of {benchmark} are not in {path}: add {found[0].name} there")


def file_name(name: str) -> str:
    """What a model or a benchmark is called as a file or folder.

    Args:
      name: any.
    """
    return re.sub(r"[^\w.+-]+", "_", name).strip(".") or "_"


def rows_of(stored: Stored, names: Sequence[str], *, benchmark: str) -> np.ndarray:
    """Which embedding is which image's: by its name, or else by the order.

    Args:
      stored: of `read_embeddings`.
      names: [M] of the benchmark's images; suffixes may be left out here or in the file.
      benchmark: its name, for the message.

    Returns:
      int64 [M], rows of the file.

    Raises:
      UserError: an image has no embedding, two have one name, or there are no names and the
        number doesn't fit.
    """
    if stored.names is None:
        if len(stored.embeddings) != len(names):
            raise UserError(
                f"{stored.path} has {len(stored.embeddings)} embeddings and no names, and "
                f"{benchmark} has {len(names)} images: give `names`, or one embedding for each "
                "image in order"
            )
        return np.arange(len(names))
    whole: dict[str, int] = {}
    keys: dict[str, int] = {}
    for row, name in enumerate(stored.names):
        if whole.setdefault(_plain(name), row) != row:
            raise UserError(f"{stored.path} has {name!r} twice: give each image one embedding")
        key = image_key(name)
        keys[key] = -1 if key in keys else row  # a.jpg and a.png: only their whole names tell
    rows = np.array([whole.get(_plain(name), keys.get(image_key(name), -1)) for name in names])
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        raise UserError(
            f"{stored.path} has no embedding of {missing.size} of the {len(names)} images of "
            f"{benchmark}, such as {names[missing[0]]!r}: add them under these names (its first "
            f"one is {stored.names[0]!r})"
        )
    return rows


def place(given: str | Path, model: str, benchmark: str) -> Path:
    """Where embeddings go: the file that is given, or MODEL/BENCHMARK.npz in the folder.

    Args:
      given: FILE.npz, FILE.safetensors, or else a folder.
      model: its name.
      benchmark: its name.
    """
    path = files.expand(given)
    if is_file_name(path):
        return path
    return path / file_name(model) / f"{file_name(benchmark)}.npz"


def is_file_name(path: str | Path) -> bool:
    """Whether a path is called FILE.npz or FILE.safetensors.

    Args:
      path: of a file or folder.
    """
    return Path(path).suffix.lower() in SUFFIXES


def refuse_suffix(path: Path) -> None:
    """Refuses a file that is neither npz nor safetensors by its name.

    Args:
      path: of the file.

    Raises:
      UserError: it is another.
    """
    if not is_file_name(path):
        raise UserError(f"{path} has another suffix: give FILE.npz or FILE.safetensors")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _npz(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    try:
        with np.load(path) as content:
            present = {"names", *_ARRAYS} & set(content.files)
            arrays = {name: content[name] for name in present}
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except Exception as error:  # of a damaged file NumPy and zipfile raise nearly everything
        raise _unreadable(path, "it is damaged or no npz file") from error
    names = arrays.pop("names", None)
    if names is None:
        return arrays, None
    if names.ndim != 1 or names.dtype.kind not in "Uiu":
        raise UserError(f"the `names` of {path} are no texts [N]: give one of each embedding")
    return arrays, tuple(map(str, names.tolist()))


def _safetensors(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as content:  # type: ignore[no-untyped-call]
            present = set(_ARRAYS) & set(content.keys())
            arrays = {name: content.get_tensor(name) for name in present}
            text = (content.metadata() or {}).get("names")
        names = None if text is None else json.loads(text)
    except OSError as error:
        raise _unreadable(path, error.strerror or "there is no such file") from error
    except Exception as error:  # of a damaged file, its own error and others
        raise _unreadable(path, "it is damaged or no safetensors file") from error
    if names is None:
        return arrays, None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"the `names` of {path} are no list of texts: give one of each embedding")
    return arrays, tuple(names)


def _unreadable(path: Path, why: str) -> UserError:
    return UserError(f"the embeddings {path} can't be read ({why}): give a file that can")
