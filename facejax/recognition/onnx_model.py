"""A recognizer of any ONNX file, run by onnxruntime (extra `onnx`)."""

import dataclasses
import functools
import hashlib
import importlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from facejax.errors import UserError
from facejax.recognition import packages
from facejax.recognition.card import Card, Color, card_path, read_card
from facejax.recognition.embed import Embedder
from facejax.recognition.recognizer import Recognizer
from facejax.recognition.templates import Size, arcface, height_width

_TYPES = {1: np.float32, 10: np.float16, 11: np.float64}  # of TensorProto.DataType

Run = Callable[[np.ndarray], np.ndarray]  # uint8 [B, H, W, 3], RGB -> float32 [B, D]


class _Input(NamedTuple):
    """What the file says of the images that it takes; None where it leaves a number open."""

    batch: int | None
    height: int | None
    width: int | None
    channels_first: bool
    dtype: Any


def onnx_model(
    path: pathlib.Path,
    *,
    color: Color | None = None,
    mean: float | tuple[float, float, float] | None = None,
    scale: float | None = None,
    size: Size | None = None,
    template: np.ndarray | None = None,
) -> Recognizer:
    """The recognizer of an ONNX file that makes an embedding of an image.

    What isn't given is as a card beside the file says (FILE.card.json, see `Card.write`), else as
    InsightFace's networks take it: RGB, (x - 127.5) / 127.5, at the ArcFace template.

    Args:
      path: of the file.
      color: the order of channels that the network takes, rgb or bgr.
      mean: taken off a pixel's 0 to 255, one number or three.
      scale: times that.
      size: in pixels, the side or (height, width), where the file leaves it open.
      template: float32 [5, 2], where the landmarks lie.

    Raises:
      UserError: the extra is missing, the file can't be read or run, it is no such network, or the
        card beside it says otherwise than the file or what is given.
    """
    onnx, runtime = _extra("onnx"), _extra("onnxruntime")
    content, sha256 = packages.read(path)
    try:
        model = onnx.load_model_from_string(content)
        if any(tensor.data_location for tensor in model.graph.initializer):
            onnx.load_external_data_for_model(model, str(path.parent))
            digest = hashlib.sha256(content)
            for tensor in model.graph.initializer:
                digest.update(tensor.raw_data)
            sha256 = digest.hexdigest()
    except Exception as error:  # protobuf's, and what onnx raises of files beside it
        raise UserError(
            f"{path} can't be read as an ONNX file ({_in_short(error)}): get it anew"
        ) from error
    _leave_one_input(model, path)
    takes = _input(model, path)

    beside = card_path(path)
    card = read_card(beside) if beside.is_file() else None
    asked = height_width(size if size is not None else card.image_size if card else (0, 0))
    shape = (takes.height or asked[0], takes.width or asked[1])
    if not all(shape):
        raise UserError(f"{path} leaves the size of its images open: give size= in pixels")
    if all(asked) and asked != shape:
        raise UserError(
            f"{path} takes images of {shape[0]}x{shape[1]} pixels (height x width), and not of "
            f"{asked[0]}x{asked[1]}: leave the size out"
        )
    image_size: Size = shape[0] if shape[0] == shape[1] else shape

    def chosen(given: Any, field: str, default: Any) -> Any:
        return given if given is not None else getattr(card, field) if card else default

    made = Card(
        name=card.name if card else path.stem,
        image_size=image_size,
        template=chosen(template, "template", arcface(image_size)),
        color=chosen(color, "color", "rgb"),
        mean=chosen(mean, "mean", 127.5),
        scale=chosen(scale, "scale", 1 / 127.5),
        flip=card.flip if card else False,
        unit=card.unit if card else True,
        embedding_size=card.embedding_size if card else 1,  # until it was run
        sha256=sha256,
    )
    run, embedding_size = _running(model, runtime, takes, made, path)
    made = dataclasses.replace(made, embedding_size=embedding_size)
    if card is not None and (field := card.difference(made)):
        raise UserError(
            f"{beside} says {field} {getattr(card, field)}, but it is {getattr(made, field)}: take "
            "away the card, or give the file and the settings that it was written for"
        )
    embedders = functools.cache(lambda flip, unit: _embedder(run, flip=flip, unit=unit))
    return Recognizer(made, path, 0, {}, (), embedders, lambda sharding: None, False)


def _extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f'ONNX files need the package {name}: pip install "facejax[onnx]"'
        ) from None


def _in_short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(". :")


def _leave_one_input(model: Any, path: pathlib.Path) -> None:
    """Takes the weights off the graph's inputs, and what no node uses."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    used = {name for node in graph.node for name in node.input}
    images = [each for each in graph.input if each.name not in weights and each.name in used]
    if len(images) != 1:
        raise UserError(
            f"{path} has {len(images)} inputs besides its weights: give a network of one, images"
        )
    kept = images[0]
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs
    del graph.input[:]
    graph.input.append(kept)


def _input(model: Any, path: pathlib.Path) -> _Input:
    tensor = model.graph.input[0].type.tensor_type
    sides = [each.dim_value or None for each in tensor.shape.dim]
    if tensor.elem_type not in _TYPES or len(sides) != 4 or 3 not in (sides[1], sides[3]):
        raise UserError(
            f"{path} takes no float images [B, 3, H, W] or [B, H, W, 3], but {sides}: give a "
            "network of color images"
        )
    channels_first = sides[1] == 3
    height, width = sides[2:4] if channels_first else sides[1:3]
    return _Input(sides[0], height, width, channels_first, _TYPES[tensor.elem_type])


def _running(
    model: Any, runtime: Any, takes: _Input, card: Card, path: pathlib.Path
) -> tuple[Run, int]:
    """The network as a function of any number of crops, and the length of what it gives."""
    mean = np.array(card.mean, np.float32)

    def prepare(crops: np.ndarray) -> np.ndarray:
        ordered = crops[..., ::-1] if card.color == "bgr" else crops
        images = (ordered.astype(np.float32) - mean) * np.float32(card.scale)
        images = images.transpose(0, 3, 1, 2) if takes.channels_first else images
        return np.ascontiguousarray(images, takes.dtype)

    def runner(content: bytes) -> Run:
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised too
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [each for each in wanted if each in runtime.get_available_providers()]
        session = runtime.InferenceSession(content, options, providers=providers)
        feed = session.get_inputs()[0].name

        def run(crops: np.ndarray) -> np.ndarray:
            (output, *_) = session.run(None, {feed: prepare(crops)})
            if output.shape[:1] != crops.shape[:1]:
                raise ValueError(f"of {len(crops)} images it makes {list(output.shape)}")
            return np.asarray(output, np.float32).reshape(len(crops), -1)

        return run

    probe = np.random.default_rng(0).integers(0, 256, (3, *card.shape), np.uint8)
    try:
        run = in_batches(runner(model.SerializeToString()), takes.batch)
        first = run(probe)
    except Exception as error:  # whatever onnxruntime raises
        raise UserError(
            f"{path} can't be run on images of {card.shape[0]}x{card.shape[1]} pixels "
            f"({_in_short(error)}): give the size that it takes, or another file"
        ) from error
    if not first.size or not np.isfinite(first).all():
        raise UserError(f"{path} makes no embedding of an image: give a face-recognition network")
    if takes.batch:
        run = _unfixed(model, runner, probe, first) or run
    return run, first.shape[1]


def in_batches(run: Run, batch: int | None) -> Run:
    """A function of any number of crops, from one of a fixed number.

    Args:
      run: of `batch` crops.
      batch: how many; None is any number.
    """
    if batch is None:
        return run

    def every(crops: np.ndarray) -> np.ndarray:
        padded = np.pad(crops, [(0, -len(crops) % batch), (0, 0), (0, 0), (0, 0)])
        parts = [run(padded[i : i + batch]) for i in range(0, len(padded), batch)]
        return np.concatenate(parts)[: len(crops)]

    return every


def _unfixed(
    model: Any, runner: Callable[[bytes], Run], probe: np.ndarray, expected: np.ndarray
) -> Run | None:
    """The network with its fixed batch taken off; None where it then computes something else."""
    try:
        graph = model.graph
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        del graph.value_info[:]  # shapes inside, of the fixed batch
        run = runner(model.SerializeToString())
        same = np.abs(run(probe) - expected).max() <= 1e-3 * np.abs(expected).max()
    except Exception:  # a shape inside is written out, too
        return None
    return run if same else None


def _embedder(run: Run, *, flip: bool, unit: bool) -> Embedder:
    """As `make_embedder`, of a network that XLA does not run; its variables are its own."""

    def embedder(variables: Any, crops: np.ndarray) -> np.ndarray:
        del variables
        embeddings = run(crops)
        if flip:
            embeddings = (embeddings + run(crops[:, :, ::-1])) / 2
        if unit:
            squares = np.sum(embeddings**2, axis=-1, keepdims=True)
            embeddings = embeddings / np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))
        return embeddings

    return embedder
