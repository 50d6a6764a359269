"""Groups of people in folders, each with its own pair file, as Racial Faces in the Wild has them.

RFW is laid out as `test/data/African/<name>/<name>_0001.jpg` and
`test/txts/African/African_pairs.txt`, whose lines are LFW's without its first line; and so on for
Asian, Caucasian and Indian.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from facejax import files
from facejax.data import is_hidden
from facejax.errors import UserError
from facejax.evaluation.protocols import ImageFiles, Protocol, from_pairs


class GroupedProtocol(NamedTuple):
    """The pairs of all groups, one group's after another's."""

    protocol: Protocol
    groups: np.ndarray  # [M] str, of each image; [N, 2] at `protocol.indices`


def from_groups(folder: str | Path, *, image_size: int) -> GroupedProtocol:
    """The pairs of a folder of groups.

    The groups are the sub-folders of `FOLDER/data`, or of the folder itself where it has no `data`
    (or of `FOLDER/test/data`). The pair file of a group G is `txts/G/G_pairs.txt` beside `data`, or
    `pairs.txt` or `G_pairs.txt` among its images or beside them. A sub-folder without one is no
    group.

    Args:
      folder: `~` is the home.
      image_size: side in pixels to which images are resized.

    Returns:
      GroupedProtocol. Folds are each group's own; nobody is taken to be in two groups.

    Raises:
      UserError: there are not two groups, or as `from_pairs`.
    """
    root, images = _places(folder)
    if not images.is_dir():
        raise UserError(f"there is no folder {images}: give one that has a folder for each group")
    found = {
        group.name: from_pairs(pairs, group, image_size=image_size, headless=True)
        for group, pairs in _groups(root, images)
    }
    if len(found) < 2:
        raise UserError(
            f"{images} has {len(found)} folders with a pair file, and two groups are needed: give "
            f"each group G its `{root / 'txts' / 'G' / 'G_pairs.txt'}` or `{images}/G/pairs.txt`"
        )
    return _joined(root.resolve().name, found, image_size)


def has_groups(folder: str | Path) -> bool:
    """Whether a folder has two groups with pair files or more.

    Args:
      folder: `~` is the home.
    """
    root, images = _places(folder)
    return images.is_dir() and len(_groups(root, images)) > 1


def _places(folder: str | Path) -> tuple[Path, Path]:
    """The folder that has the pair files, and that of the groups."""
    root = files.expand(folder)
    if (root / "test" / "data").is_dir():
        root = root / "test"
    return root, root / "data" if (root / "data").is_dir() else root


def _groups(root: Path, images: Path) -> list[tuple[Path, Path]]:
    """The groups' folders, and their pair files."""
    folders = [
        each for each in sorted(images.iterdir()) if each.is_dir() and not is_hidden(each.name)
    ]
    found = [(each, _pair_file(root, each)) for each in folders]
    return [(each, pairs) for each, pairs in found if pairs is not None]


def _pair_file(root: Path, group: Path) -> Path | None:
    name = f"{group.name}_pairs.txt"
    places = [root / "txts" / group.name / name, group / "pairs.txt", group / name, root / name]
    return next((place for place in places if place.is_file()), None)


def _joined(name: str, found: dict[str, Protocol], image_size: int) -> GroupedProtocol:
    paths: list[Path] = []
    indices, people, groups, first_person = [], [], [], 0
    for group, protocol in found.items():
        assert isinstance(protocol.images, ImageFiles)  # of from_pairs
        theirs = protocol.identities
        indices.append(protocol.indices + len(paths))
        groups += [group] * len(protocol.images.files)
        paths += protocol.images.files
        if theirs is not None:
            people.append(theirs + first_person)
            first_person += int(theirs.max()) + 1
    parts = found.values()
    return GroupedProtocol(
        Protocol(
            name,
            ImageFiles(tuple(paths), image_size),
            np.concatenate(indices),
            np.concatenate([part.same for part in parts]),
            np.concatenate([part.folds for part in parts]),
            np.concatenate(people) if len(people) == len(found) else None,
        ),
        np.array(groups, str),
    )
