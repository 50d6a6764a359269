"""Verification pairs of a labelled set, in folds that share no identity, and their file."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facejax import files
from facejax.errors import UserError
from facejax.evaluation.pairs import LabelPairs, draw_pairs

_BLOCK = 1024


def identity_folds(labels: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """The fold of each image: an identity lies in one, and the folds have as many images as can be.

    Identities with many images are dealt first, there and back again; equal ones in random order.

    Args:
      labels: int [M].
      folds: how many, at least 2.
      seed: of the order.

    Returns:
      int [M], 0 to folds - 1.

    Raises:
      UserError: there are fewer than two identities for each fold.
    """
    identities, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if folds < 2 or len(identities) < 2 * folds:
        raise UserError(
            f"{folds} folds of {len(identities)} identities: each needs two, and there must be two "
            "folds; give another number of folds"
        )
    order = np.lexsort((np.random.default_rng(seed).permutation(len(identities)), -counts))
    there_and_back = np.concatenate([np.arange(folds), np.arange(folds)[::-1]])
    fold = np.empty(len(identities), np.int64)
    fold[order] = np.resize(there_and_back, len(identities))
    return fold[numbers]


def balanced_pairs(labels: np.ndarray, *, pairs: int, folds: int = 10, seed: int = 0) -> LabelPairs:
    """As many same as different pairs, no pair twice, none across folds.

    Args:
      labels: int [M] identities of the images.
      pairs: how many in all, a multiple of 2 * folds.
      folds: how many; no identity is in two of them.
      seed: of all that is drawn.

    Returns:
      LabelPairs, fold by fold, the same pairs of each first, as LFW's View 2 has them.

    Raises:
      UserError: `pairs` is no such multiple, there are too few identities, or a fold has fewer
        pairs than are wanted.
    """
    if pairs <= 0 or pairs % (2 * folds):
        raise UserError(
            f"{pairs} pairs in {folds} folds are not as many same as different ones in each: give "
            f"a multiple of {2 * folds}"
        )
    parts = []
    for fold, members in enumerate(_members(labels, folds, seed)):
        try:
            drawn = draw_pairs(labels[members], pairs=pairs // folds, seed=seed + fold)
        except ValueError as error:
            raise UserError(f"fold {fold}: {error}; give fewer pairs or folds") from error
        parts.append((members[drawn.indices], drawn.same))
    return _joined(parts)


def all_pairs(labels: np.ndarray, *, folds: int = 10, seed: int = 0) -> LabelPairs:
    """Every pair of two images of one fold; those across folds would share identities with both.

    Args:
      labels: int [M] identities of the images.
      folds: how many; no identity is in two of them.
      seed: of the folds.

    Raises:
      UserError: there are too few identities.
    """
    parts = []
    for members in _members(labels, folds, seed):
        pairs = members[np.stack(np.triu_indices(len(members), 1), axis=1)]
        parts.append((pairs, labels[pairs[:, 0]] == labels[pairs[:, 1]]))
    return _joined(parts)


def hard_pairs(
    labels: np.ndarray, embeddings: np.ndarray, *, pairs: int, folds: int = 10, seed: int = 0
) -> LabelPairs:
    """The same pairs of least and the different pairs of greatest similarity, of each fold.

    Args:
      labels: int [M] identities of the images.
      embeddings: floats [M, D], of any length.
      pairs: as in `balanced_pairs`.
      folds: how many; no identity is in two of them.
      seed: of the folds.

    Returns:
      LabelPairs, fold by fold, the same pairs of each first, the hardest first.

    Raises:
      UserError: as `balanced_pairs`.
    """
    if pairs <= 0 or pairs % (2 * folds):
        raise UserError(f"{pairs} pairs in {folds} folds: give a multiple of {2 * folds}")
    wanted = pairs // (2 * folds)
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    parts = []
    for fold, members in enumerate(_members(labels, folds, seed)):
        hardest = []
        for same in (True, False):
            found = _hardest(unit[members], labels[members], wanted, same=same)
            if len(found) < wanted:
                kind = "same" if same else "different"
                raise UserError(
                    f"fold {fold}: {wanted} {kind} pairs are wanted and {len(found)} can be formed "
                    f"of {len(members)} images; give fewer pairs or folds"
                )
            hardest.append(members[found])
        parts.append((np.concatenate(hardest), np.arange(2 * wanted) < wanted))
    return _joined(parts)


def write_pairs(path: str | Path, names: Sequence[str], pairs: LabelPairs) -> None:
    """Writes pairs as lines `path,path,0|1,fold`, which `read_pairs` reads.

    Args:
      path: of the file, which appears when it is whole; `~` is the home.
      names: [M] of the images, below the image folder.
      pairs: of them.

    Raises:
      UserError: a name has a line break.
      OSError: it can't be written.
    """
    for name in names:
        if "\n" in name or "\r" in name:
            raise UserError(f"the image {name!r} has a line break in its name: rename it")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for (first, second), same, fold in zip(pairs.indices, pairs.same, pairs.folds, strict=True):
        writer.writerow([names[first], names[second], int(same), int(fold)])
    files.write(files.expand(path), text.getvalue())


def _members(labels: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """The images of each fold."""
    fold = identity_folds(labels, folds=folds, seed=seed)
    return [np.flatnonzero(fold == number) for number in range(folds)]


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> LabelPairs:
    indices, same = (np.concatenate(each) for each in zip(*parts, strict=True))
    folds = np.repeat(np.arange(len(parts)), [len(same) for _, same in parts])
    return LabelPairs(indices, same, folds)


def _hardest(unit: np.ndarray, labels: np.ndarray, wanted: int, *, same: bool) -> np.ndarray:
    """[at most `wanted`, 2], the hardest first; blocks of rows at a time."""
    best = np.zeros(0)
    found = np.zeros((0, 2), np.int64)
    for start in range(0, len(unit), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(unit)))
        hardness = (unit[rows] @ unit.T) * (-1 if same else 1)
        wrong = (labels[rows][:, None] == labels) != same
        hardness[wrong | (np.arange(len(unit)) <= rows[:, None])] = -np.inf  # each pair once
        top = np.argsort(-hardness, axis=None, kind="stable")[:wanted]
        row, column = np.unravel_index(top, hardness.shape)
        pairs = np.stack([row + start, column], axis=1)
        best = np.concatenate([best, hardness.ravel()[top]])
        found = np.concatenate([found, pairs])
        kept = np.argsort(-best, kind="stable")[:wanted]
        best, found = best[kept], found[kept]
    return found[np.isfinite(best)]
