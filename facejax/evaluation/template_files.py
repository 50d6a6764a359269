"""The lists of IJB-B and IJB-C, as InsightFace lays them out.

    *_name_5pts_score.txt      image x y x y x y x y x y score    the images, in order
    *_face_tid_mid.txt         image template media               which images are a template's
    *_template_pair_label.txt  template template 0|1              the pairs of the 1:1 protocol
    *_1N_gallery_G1.csv        TEMPLATE_ID,SUBJECT_ID,FILENAME,.. the lists of the 1:N protocol

Files are read a block of lines at a time. The pairs, 15.7 million in IJB-C, are taken apart by
NumPy and not line by line; all that stays of them is their two templates and their label.
"""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facejax import files
from facejax.errors import UserError
from facejax.evaluation import line_blocks
from facejax.evaluation.line_blocks import fields_of
from facejax.evaluation.pairs import shown

_TABLE = 1 << 24  # ids up to here are looked up in a table
_FILTER = 1 << 20
_ROWS = 1 << 20  # pairs that are compared at a time


class ListedImages(NamedTuple):
    """Images with what their detector said of them."""

    names: list[str]  # [M]
    landmarks: np.ndarray  # [M, 5, 2] float32, (x, y) in pixels of the loose crop
    detection_scores: np.ndarray  # [M] float32


class Members(NamedTuple):
    """Which images a template is made of, and which of them are of one medium."""

    images: np.ndarray  # [R] int32, in the list of images
    templates: np.ndarray  # [R] int32, in `template_ids`
    media: np.ndarray  # [R] int64, ids of the file
    template_ids: np.ndarray  # [T] int64 of the file, rising


class ListedTemplates(NamedTuple):
    """A gallery, or probes: templates and whose they are."""

    templates: np.ndarray  # [n] int32, each once, in the order of the file
    subjects: np.ndarray  # [n] int64 ids of the file


def read_images(path: str | Path) -> ListedImages:
    """Reads a `*_name_5pts_score.txt`.

    Args:
      path: of the file; `~` is the home.

    Raises:
      UserError: it can't be read, or a line is malformed or names an image that has been named.
    """
    path = files.expand(path)
    lines: dict[str, int] = {}
    landmarks, scores = [], []
    for block in line_blocks.blocks(path):
        numbers = []
        for line, text, fields in fields_of(block):
            try:
                if len(fields) != 12:
                    raise ValueError
                numbers.append([float(field) for field in fields[1:]])
            except ValueError:
                raise _malformed(path, line, text, "`image x y x y x y x y x y score`") from None
            name = _name(path, line, fields[0])
            if lines.setdefault(name, line) != line:
                raise UserError(
                    f"{path}, line {line}: the image {shown(name)} is in line {lines[name]} "
                    "already; drop one of the two"
                )
        array = np.array(numbers).reshape(-1, 11)
        broken = np.flatnonzero(~(np.abs(array) <= np.finfo(np.float32).max).all(axis=1))
        if broken.size:
            line, text, _ = list(fields_of(block))[broken[0]]
            raise _malformed(path, line, text, "eleven finite numbers after the image")
        landmarks.append(array[:, :10].reshape(-1, 5, 2).astype(np.float32))
        scores.append(array[:, 10].astype(np.float32))
    if not lines:
        raise _empty(path)
    return ListedImages(list(lines), np.concatenate(landmarks), np.concatenate(scores))


def read_members(path: str | Path, names: Sequence[str]) -> Members:
    """Reads a `*_face_tid_mid.txt`.

    Args:
      path: of the file; `~` is the home.
      names: of the images, each once.

    Raises:
      UserError: it can't be read, or a line is malformed, names an unknown image, or an image for
        the second time in one template; or an image is in no template.
    """
    path = files.expand(path)
    places = {name: place for place, name in enumerate(names)}
    rows, where = [], []
    for block in line_blocks.blocks(path):
        for line, text, fields in fields_of(block):
            if len(fields) != 3 or not (_is_id(fields[1]) and _is_id(fields[2])):
                raise _malformed(path, line, text, "`image template media`")
            name = _name(path, line, fields[0])
            if name not in places:
                raise UserError(
                    f"{path}, line {line}: the image {shown(name)} is not among the images that "
                    "have landmarks; add it there or drop the line"
                )
            rows.append((places[name], int(fields[1]), int(fields[2])))
            where.append(line)
    if not rows:
        raise _empty(path)
    images, ids, media = np.array(rows, np.int64).T
    template_ids, templates = np.unique(ids, return_inverse=True)
    again = _repeated(images * len(template_ids) + templates)
    if again is not None:
        raise UserError(
            f"{path}, line {where[again[1]]}: the image {shown(names[images[again[1]]])} is in "
            f"template {ids[again[1]]} already, by line {where[again[0]]}; drop one of the two"
        )
    missing = np.flatnonzero(np.bincount(images, minlength=len(names)) == 0)
    if missing.size:
        raise UserError(
            f"{path} has no line for the image {shown(names[missing[0]])} ({missing.size} of "
            f"{len(names)} images with landmarks are in no template): get a complete file"
        )
    return Members(images.astype(np.int32), templates.astype(np.int32), media, template_ids)


def read_template_pairs(
    path: str | Path, template_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a `*_template_pair_label.txt`; a pair that is listed twice counts twice.

    15.7 million lines take some seconds, and 9 bytes each.

    Args:
      path: of the file; `~` is the home.
      template_ids: [T] int64, rising: the templates that there are.

    Returns:
      pairs: int32 [N, 2], places in `template_ids`.
      same: bool [N].

    Raises:
      UserError: it can't be read, or a line is malformed, has an unknown template, pairs a template
        with itself, or says the contrary of another line.
    """
    path = files.expand(path)
    pairs, same = [], []
    for first, block in line_blocks.blocks(path):
        values = line_blocks.integers(block, 3)
        lines: Sequence[int] = range(first, first + (0 if values is None else len(values)))
        if values is None or values[:, 2].max() > 1:
            lines, values = _pair_by_pair(path, (first, block))
        places = _places(values[:, :2], template_ids)
        wrong = np.flatnonzero((places < 0).any(axis=1) | (places[:, 0] == places[:, 1]))
        if wrong.size:
            row = int(wrong[0])
            unknown = values[row, :2][places[row] < 0]
            raise UserError(
                f"{path}, line {lines[row]}: template "
                + (
                    f"{unknown[0]} has no image; add its images or drop the line"
                    if unknown.size
                    else f"{values[row, 0]} is paired with itself; pair two different templates"
                )
            )
        pairs.append(places)
        same.append(values[:, 2] == 1)
    if not sum(map(len, same)):
        raise _empty(path)
    joined, labels = np.concatenate(pairs), np.concatenate(same)
    del pairs
    if labels.all() or not labels.any():
        raise UserError(
            f"{path} has {labels.sum()} same and {(~labels).sum()} different pairs: verification "
            "needs both kinds"
        )
    _refuse_contradictions(path, joined, labels, template_ids)
    return joined, labels


def read_template_list(path: str | Path, template_ids: np.ndarray) -> ListedTemplates:
    """Reads a gallery or probes, of which there is a row for each image.

    Args:
      path: of the CSV, whose header has TEMPLATE_ID and SUBJECT_ID; `~` is the home.
      template_ids: [T] int64, rising: the templates that there are.

    Raises:
      UserError: it can't be read, has no such header, or a row is malformed, has an unknown
        template, or another subject than an earlier row of its template.
    """
    path = files.expand(path)
    subjects: dict[int, tuple[int, int]] = {}  # and the line
    columns: tuple[int, int] | None = None
    for first, block in line_blocks.blocks(path):
        reader = csv.reader(io.StringIO(_text(path, first, block)), skipinitialspace=True)
        for row in _rows(path, reader, first):
            line = first + reader.line_num - 1
            if columns is None:
                columns = _columns(path, row)
                continue
            if not row:
                continue
            values = [row[column].strip() if column < len(row) else "" for column in columns]
            if not all(_is_id(value.encode()) for value in values):
                raise _malformed(path, line, ",".join(row), "a row with both ids as whole numbers")
            template, subject = map(int, values)
            known, before = subjects.setdefault(template, (subject, line))
            if known != subject:
                raise UserError(
                    f"{path}, line {line}: template {template} is of subject {subject}, but of "
                    f"{known} in line {before}; drop the wrong line"
                )
    if not subjects:
        raise _empty(path)
    places = _places(np.fromiter(subjects, np.int64), template_ids)
    if (places < 0).any():
        unknown = list(subjects)[int(np.argmax(places < 0))]
        raise UserError(
            f"{path}, line {subjects[unknown][1]}: template {unknown} has no image; add its images "
            "or drop its lines"
        )
    return ListedTemplates(places, np.array([subject for subject, _ in subjects.values()]))


def _pair_by_pair(path: Path, block: tuple[int, bytes]) -> tuple[list[int], np.ndarray]:
    """The same from lines with tabs, several spaces or none between them."""
    lines, rows = [], []
    for line, text, fields in fields_of(block):
        if len(fields) != 3 or not all(map(_is_id, fields)) or int(fields[2]) > 1:
            raise _malformed(path, line, text, "`template template 0|1`")
        lines.append(line)
        rows.append([int(field) for field in fields])
    return lines, np.array(rows, np.int64).reshape(-1, 3)


def _refuse_contradictions(
    path: Path, pairs: np.ndarray, same: np.ndarray, template_ids: np.ndarray
) -> None:
    """Refuses a pair that is both same and different, whichever of its templates comes first."""
    ours = np.unique(_keys(pairs[same], len(template_ids)))
    some = np.zeros(_FILTER, bool)  # what most of the other pairs don't pass
    some[ours % _FILTER] = True
    for start in range(0, len(pairs), _ROWS):
        keys = _keys(pairs[start : start + _ROWS], len(template_ids))
        rows = np.flatnonzero(some[keys % _FILTER] & ~same[start : start + _ROWS])
        both = rows[np.isin(keys[rows], ours)]
        if both.size:
            number = start + int(both[0])
            keys = _keys(pairs, len(template_ids))
            before = int(np.flatnonzero(same & (keys == keys[number]))[0])
            lines = _lines(path, (number, before))
            first, second = template_ids[pairs[number]]
            raise UserError(
                f"{path}, line {lines[number]}: templates {first} and {second} are different "
                f"people, but the same person in line {lines[before]}; drop the wrong line"
            )


def _lines(path: Path, numbers: Sequence[int]) -> dict[int, int]:
    """In which lines of a file its entries stand, of which the numbers are given from 0."""
    filled = (line for block in line_blocks.blocks(path) for line, _, _ in fields_of(block))
    last = max(numbers) + 1
    return {n: line for n, line in enumerate(itertools.islice(filled, last)) if n in numbers}


def _keys(pairs: np.ndarray, count: int) -> np.ndarray:
    """One number for a pair, whichever of its templates comes first."""
    return pairs.min(axis=1).astype(np.int64) * count + pairs.max(axis=1)


def _places(ids: np.ndarray, template_ids: np.ndarray) -> np.ndarray:
    """int32 places in `template_ids`, -1 of an id that is not there."""
    if template_ids[-1] < _TABLE:
        table = np.full(int(template_ids[-1]) + 2, -1, np.int32)
        table[template_ids] = np.arange(len(template_ids), dtype=np.int32)
        return table[np.minimum(ids, len(table) - 1)]
    places = np.searchsorted(template_ids, ids).astype(np.int32)
    there = template_ids[np.minimum(places, len(template_ids) - 1)] == ids
    return np.where(there, places, np.int32(-1))


def _repeated(keys: np.ndarray) -> tuple[int, int] | None:
    """Two places of equal keys."""
    order = np.argsort(keys, kind="stable")
    equal = np.flatnonzero(np.diff(keys[order]) == 0)
    return (int(order[equal[0]]), int(order[equal[0] + 1])) if equal.size else None


def _rows(path: Path, reader: Iterator[list[str]], first: int) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:  # a quote that is not closed, a field of more than 128 KiB
        line = first + getattr(reader, "line_num", 1) - 1
        raise UserError(f"{path}, line {line} is no CSV ({error}): mend the line") from None


def _columns(path: Path, header: list[str]) -> tuple[int, int]:
    names = [name.strip().upper() for name in header]
    if "TEMPLATE_ID" not in names or "SUBJECT_ID" not in names:
        raise UserError(
            f"{path}, line 1: {shown(','.join(header))} is no header with TEMPLATE_ID and "
            "SUBJECT_ID; give a list of templates as IJB has them"
        )
    return names.index("TEMPLATE_ID"), names.index("SUBJECT_ID")


def _is_id(field: bytes) -> bool:
    return field.isdigit() and len(field) <= line_blocks.DIGITS


def _name(path: Path, line: int, field: bytes) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}, line {line} is not UTF-8: save the file as UTF-8") from None


def _text(path: Path, first: int, block: bytes) -> str:
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        line = first + block[: error.start].count(b"\n")
        raise UserError(f"{path}, line {line} is not UTF-8: save the file as UTF-8") from None


def _malformed(path: Path, line: int, text: bytes | str, wanted: str) -> UserError:
    if isinstance(text, bytes):
        text = text[:200].decode(errors="replace")
    return UserError(f"{path}, line {line}: {shown(text)} is malformed; write {wanted}")


def _empty(path: Path) -> UserError:
    return UserError(f"{path} is empty: get a complete file")
