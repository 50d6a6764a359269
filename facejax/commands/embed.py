"""`facejax embed`: embeddings into a file, npz or safetensors."""

import argparse
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, Skipped, as_text, of_batch
from facejax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from facejax.recognition import Recognizer

_BATCH = 32


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "embed",
        help="embeddings of faces into a file",
        description="Writes embeddings [N, D] float32, and of each row its photo (names), the "
        "face's number in it (numbers), box (boxes) and measures (quality).",
    )
    arguments.add_photos(parser)
    parser.add_argument("--out", metavar="FILE", required=True, help="FILE.npz or FILE.safetensors")
    parser.add_argument(
        "--aligned",
        action="store_true",
        help="the photographs are crops that are aligned already: of each, one embedding",
    )
    arguments.add_recognizer(parser)
    arguments.add_detector(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    import numpy as np

    from facejax import files

    out = files.expand(given.out)
    if out.suffix.lower() not in (".npz", ".safetensors"):
        raise UserError(f"--out={given.out} has another suffix: give FILE.npz or FILE.safetensors")
    photos = work.list_photos(given.photos)
    recognizer = work.open_recognizer(given.recognizer)
    skipped: list[Skipped] = []
    rows = (_of_crops if given.aligned else _of_photos)(given, recognizer, photos, skipped)
    found = list(rows)
    if found:
        columns = {name: [row[name] for row in found] for name in found[0]}
        arrays = {
            name: np.array(values, np.int32 if name == "numbers" else np.float32)
            for name, values in columns.items()
            if name != "names"
        }
        with files.refusing(out, "give another --out"):
            _write(out, arrays, columns["names"], _about(recognizer, arrays))
    records = {
        "file": str(out) if found else None,
        "recognizer": recognizer.card.name,
        "sha256": recognizer.card.sha256,
        "embedding_size": recognizer.embedding_size,
    }
    counts = {"photos": len({row["names"] for row in found}), "faces": len(found)}
    said = f"{out}: {len(found)} embeddings of {recognizer.card.name}"
    return of_batch(
        records, said if found else "", counts, skipped, done=bool(found), as_json=given.json
    )


def _of_photos(
    given: argparse.Namespace,
    recognizer: "Recognizer",
    photos: Sequence[work.Listed],
    skipped: list[Skipped],
) -> Iterator[dict[str, Any]]:
    """A row of each face."""
    for photo in work.look(given, recognizer, photos):
        if photo.skipped or not photo.faces:
            skipped.append(Skipped(photo.source, photo.skipped or "there is no face in it"))
        for face in photo.faces:
            yield {
                "embeddings": face.embedding,
                "names": face.source,
                "numbers": face.number,
                "boxes": face.box,
                "quality": face.quality,
            }


def _of_crops(
    given: argparse.Namespace,
    recognizer: "Recognizer",
    photos: Sequence[work.Listed],
    skipped: list[Skipped],
) -> Iterator[dict[str, Any]]:
    """A row of each crop that fits."""
    import numpy as np

    from facejax.recognition.photos import Photo, expand, read_ahead

    height, width, _ = recognizer.card.shape

    def read(photo: Photo) -> tuple[str, np.ndarray | str]:
        try:
            pixels = photo.read()
        except UserError as error:
            return photo.source, str(error)
        if pixels.shape[:2] == (height, width):
            return photo.source, pixels
        return photo.source, (
            f"it has {pixels.shape[1]}x{pixels.shape[0]} pixels, and {recognizer.card.name} takes "
            f"crops of {width}x{height}: align it, or leave out --aligned"
        )

    names: list[str] = []
    crops: list[np.ndarray] = []

    def embedded() -> Iterator[dict[str, Any]]:
        if crops:
            for name, row in zip(names, recognizer.embed(np.stack(crops)), strict=True):
                yield {"embeddings": row, "names": name}
        names.clear()
        crops.clear()

    sources = expand([photo.source for photo in photos])
    for source, found in work.progress(read_ahead(read, sources), len(photos)):
        if isinstance(found, str):
            skipped.append(Skipped(source, found))
            continue
        names.append(source)
        crops.append(found)
        if len(crops) == _BATCH:
            yield from embedded()
    yield from embedded()


def _about(recognizer: "Recognizer", arrays: dict[str, "np.ndarray"]) -> dict[str, str]:
    """What has to be known of the embeddings: texts, for safetensors has no others."""
    about = {"recognizer": recognizer.card.name, "sha256": recognizer.card.sha256}
    if "quality" in arrays:
        from facejax.recognition import Quality

        about["quality_names"] = ",".join(Quality._fields)
    return about


def _write(
    out: pathlib.Path, arrays: dict[str, "np.ndarray"], names: list[str], about: dict[str, str]
) -> None:
    import numpy as np

    from facejax import files

    printed = [name.encode(errors="backslashreplace").decode() for name in names]
    with files.replacing(out) as partial:
        if out.suffix.lower() == ".npz":
            with partial.open("wb") as file:
                columns: dict[str, Any] = {
                    name: np.array(text) for name, text in {"names": printed, **about}.items()
                }
                columns |= arrays
                np.savez(file, **columns)
            return
        from safetensors.numpy import save_file

        # safetensors writes the bytes of an array that is not contiguous in a wrong order.
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(whole, partial, metadata={**about, "names": as_text(printed)})
