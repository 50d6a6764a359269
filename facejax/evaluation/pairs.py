"""Lists of image pairs: LFW's files, plain tables, and pairs drawn from a labelled set.

LFW's format (`pairs.txt`, `pairsDevTest.txt`): the first line is `n`, or `folds n`; then each fold
has n lines `name i j` (same person) and n lines `name i name j` (different people), separated by
tabs or spaces. `Name 3` is the image `Name/Name_0003`. RFW's files are the same without the first
line. The plain format has no header; its lines are `path_a,path_b,1` (same) or `path_a,path_b,0`,
with commas or tabs, and may have a fourth field, the number of the pair's fold.
"""

import csv
import posixpath
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facejax import files
from facejax.errors import UserError


class Pairs(NamedTuple):
    """Pairs of image names, in the order of the file."""

    first: list[str]  # [N] relative to the image folder; LFW's without a suffix
    second: list[str]
    same: np.ndarray  # [N] bool
    folds: np.ndarray  # [N] int
    lines: np.ndarray  # [N] int, the line of the file, from 1
    path: Path  # the file


class LabelPairs(NamedTuple):
    """Pairs of images of one labelled set."""

    indices: np.ndarray  # [N, 2] int
    same: np.ndarray  # [N] bool
    folds: np.ndarray  # [N] int


def read_pairs(path: str | Path, *, headless: bool = False) -> Pairs:
    """Reads a pair file of either format; empty lines are passed over.

    Args:
      path: the file, UTF-8; `~` is the home. Fields may be quoted as in CSV.
      headless: admit LFW's lines without the first one, as RFW has them; whether the file is whole
        is then not known.

    Returns:
      Pairs. The folds are those of the file; else ten, or as many as an LFW header says: see
      `pair_folds`.

    Raises:
      UserError: the file cannot be read, a line is malformed (its number and the remedy are
        named), an image is paired with itself, a pair is called both same and different, the
        header promises another number of pairs, or a kind of pair is missing.
    """
    path = files.expand(path)
    lines = [(i, line.strip()) for i, line in enumerate(_text(path), 1) if line.strip()]
    if not lines:
        raise UserError(f"the pair file {path} is empty: give a file with one pair per line")
    header = lines[0][1].split()
    is_lfw = len(header) <= 2 and all(map(_is_number, header))
    parse = _lfw_pair if is_lfw or (headless and _is_rfw(lines)) else _plain_pair
    parsed = [parse(line, f"{path}, line {i}") for i, line in lines[is_lfw:]]
    same = np.array([pair[2] for pair in parsed], bool)
    folds = int(header[0]) if is_lfw and len(header) == 2 else 10
    own = [pair[3] for pair in parsed if pair[3] is not None]
    if own and len(own) != len(parsed):
        raise UserError(
            f"{path} gives a fold for {len(own)} of {len(parsed)} pairs: give one for each, or none"
        )
    folds = len(set(own)) if own else folds
    if is_lfw:
        promised = int(header[-1]) * (folds if len(header) == 2 else 1)
        if (int(same.sum()), int((~same).sum())) != (promised, promised):
            raise UserError(
                f"the first line of {path} promises {promised} same and {promised} different "
                f"pairs, but the file has {same.sum()} and {(~same).sum()}: get a complete file "
                "or mend its first line"
            )
    if min(same.sum(), (~same).sum()) < 2 or folds < 2:
        raise UserError(
            f"{path} has {same.sum()} same and {(~same).sum()} different pairs in {folds} folds: "
            "verification needs at least two pairs of each kind and two folds"
        )
    pairs = Pairs(
        [pair[0] for pair in parsed],
        [pair[1] for pair in parsed],
        same,
        np.array(own) if own else pair_folds(same, folds),
        np.array([i for i, _ in lines[is_lfw:]]),
        path,
    )
    first, second = (list(map(_plainest, side)) for side in (pairs.first, pairs.second))
    refuse_contradictions(first, second, pairs)
    return pairs


def _text(path: Path) -> list[str]:
    """The lines of a file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no pair file {path}: check the path given as pairs") from None
    except OSError as error:
        raise UserError(
            f"the pair file {path} cannot be read as text ({error.strerror}): give a text file of "
            "pairs that can be read"
        ) from error
    try:
        if b"\0" in content:  # a text in UTF-16, which often is UTF-8 too
            raise ValueError
        text = content.decode("utf-8-sig")
    except ValueError:
        raise UserError(
            f"the pair file {path} cannot be read as text in UTF-8: save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _fields(line: str, separator: str) -> list[str]:
    """The fields of a line, without quotes; spaces separate however many they are."""
    try:
        rows = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True)
        return [field.strip() for field in next(rows)]
    except csv.Error:  # a quote that is not closed, a field of more than 128 KiB
        return []


def _is_number(field: str) -> bool:
    return field.isdecimal() and len(field) < 10


def _plainest(name: str) -> str:
    """One spelling for what is plainly one file."""
    return unicodedata.normalize("NFC", posixpath.normpath(name))


def shown(text: str) -> str:
    """A text of the file in quotes, shortened for a message.

    Args:
      text: any.
    """
    return repr(text if len(text) <= 100 else f"{text[:97]}...")


def refuse_contradictions(first: Sequence[Any], second: Sequence[Any], pairs: Pairs) -> None:
    """Refuses an image paired with itself, and a pair that is both same and different.

    Args:
      first: [N] what stands for the first image of each pair, equal for equal images.
      second: [N] for the second image.
      pairs: the pairs themselves.

    Raises:
      UserError: naming the lines.
    """
    seen: dict[frozenset[Any], int] = {}
    for number, images in enumerate(zip(first, second, strict=True)):
        names = f"{shown(pairs.first[number])} and {shown(pairs.second[number])}"
        where = f"{pairs.path}, line {pairs.lines[number]}"
        if images[0] == images[1]:
            raise UserError(
                f"{where}: {names} are one image, which is paired with itself; pair two different "
                "images"
            )
        earlier = seen.setdefault(frozenset(images), number)
        if pairs.same[earlier] != pairs.same[number]:
            raise UserError(
                f"{where}: {names} are called {_kind(pairs, number)}, but {_kind(pairs, earlier)} "
                f"in line {pairs.lines[earlier]}; drop the wrong line"
            )


def _kind(pairs: Pairs, number: int) -> str:
    return "the same person" if pairs.same[number] else "different people"


def _is_rfw(lines: Sequence[tuple[int, str]]) -> bool:
    """Whether there is a line `name i name j`, which no plain file has."""
    fields = (_fields(line, "\t" if "\t" in line else " ") for _, line in lines)
    return any(len(each) == 4 and _is_number(each[1]) and _is_number(each[3]) for each in fields)


def _lfw_pair(line: str, where: str) -> tuple[str, str, bool, None]:
    fields = _fields(line, "\t" if "\t" in line else " ")
    if len(fields) not in (3, 4) or not (_is_number(fields[1]) and _is_number(fields[-1])):
        raise UserError(
            f"{where}: {shown(line)} is not a pair; write `name i j` for two images of one person "
            "or `name i name j` for two people"
        )
    names = (fields[0], fields[-2] if len(fields) == 4 else fields[0])
    if len(fields) == 4 and names[0] == names[1]:
        raise UserError(
            f"{where}: {shown(line)} pairs {shown(names[0])} with itself as different people; "
            f"write `{shown(names[0])[1:-1]} {fields[1]} {fields[3]}` for two images of one person"
        )
    first, second = (
        f"{name}/{name}_{int(number):04d}"
        for name, number in zip(names, (fields[1], fields[-1]), strict=True)
    )
    return first, second, len(fields) == 3, None


def _plain_pair(line: str, where: str) -> tuple[str, str, bool, int | None]:
    fields = _fields(line, ",")
    if len(fields) not in (3, 4):
        fields = _fields(line, "\t")
    whole = len(fields) in (3, 4) and fields[0] and fields[1] and fields[2] in ("0", "1")
    if not whole or not all(map(_is_number, fields[3:])):
        raise UserError(
            f"{where}: {shown(line)} is not a pair; write `path_a,path_b,1` for two images of one "
            "person or `path_a,path_b,0` for two people, with the number of its fold behind it if "
            "you like (or begin an LFW file with its count)"
        )
    return fields[0], fields[1], fields[2] == "1", int(fields[3]) if fields[3:] else None


def draw_pairs(labels: np.ndarray, *, pairs: int, seed: int) -> LabelPairs:
    """Draws verification pairs from a labelled set: half same, half different, no pair twice.

    Both kinds are drawn uniformly from all their pairs, without replacement, so an identity with
    many images is in more of them. The ten folds are random and hold half of each kind.

    Args:
      labels: [M] int identities of the images.
      pairs: how many; an odd one is a different pair.
      seed: of the draw.

    Returns:
      LabelPairs, the same pairs first; `indices` are into `labels`.

    Raises:
      ValueError: the labels admit fewer same or different pairs than are wanted.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], labels[order], side="right")  # of each one's identity
    position = np.arange(labels.size)

    def draw(starts: np.ndarray, counts: np.ndarray, wanted: int, kind: str) -> np.ndarray:
        """Position i pairs with the counts[i] positions from starts[i] on."""
        total = np.cumsum(counts)
        if not 0 < wanted <= total[-1]:
            raise ValueError(
                f"{wanted} {kind} pairs are wanted and {total[-1]} can be formed of {labels.size} "
                "images"
            )
        drawn = rng.choice(total[-1], size=wanted, replace=False)
        i = np.searchsorted(total, drawn, side="right")
        return np.stack([order[i], order[starts[i] + drawn - (total[i] - counts[i])]], axis=1)

    positives = draw(position + 1, ends - position - 1, pairs // 2, "same")
    negatives = draw(ends, labels.size - ends, pairs - pairs // 2, "different")
    same = np.arange(pairs) < len(positives)
    return LabelPairs(np.concatenate([positives, negatives]), same, pair_folds(same))


def consecutive_folds(n: int, k: int = 10) -> np.ndarray:
    """Fold numbers [n] int: 0 ... 0 1 ... 1 ... k-1, as nearly equal in size as can be."""
    return np.arange(n) * k // n


def pair_folds(same: np.ndarray, k: int = 10) -> np.ndarray:
    """Fold numbers [N] int of a list of pairs: consecutive among the same, and the different.

    Each fold so holds both kinds in the list's proportion. For LFW's View 2 file (ten sets of 300
    same, then 300 different pairs) the folds are the sets. Consecutive tenths of a file that lists
    all same pairs first would hold one kind each: the threshold is then chosen on other odds than
    it is judged on, and accuracy can fall below that of a coin.
    """
    same = np.asarray(same, bool)
    folds = np.empty(same.size, np.int64)
    folds[same] = consecutive_folds(int(same.sum()), k)
    folds[~same] = consecutive_folds(int((~same).sum()), k)
    return folds
