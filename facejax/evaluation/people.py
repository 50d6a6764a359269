"""Who is on the images of a list of pairs, as far as the list or the files say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array, csgraph


def linked_images(indices: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Images that same pairs link, directly or over others, taken as one person each.

    Where nothing is known of the people, this is the least that must be true. Images of one person
    that no same pair links are taken for different people.

    Args:
      indices: int [N, 2], the two images of each pair.
      same: bool [N].

    Returns:
      int [M], a person for each image; M is one more than the largest index.
    """
    indices = np.asarray(indices)
    count = int(indices.max()) + 1
    first, second = indices[np.asarray(same)].T
    links = coo_array((np.ones(len(first), bool), (first, second)), (count, count))
    return csgraph.connected_components(links, directed=False)[1].astype(np.int64)


def folders(
    files: Sequence[Path], indices: np.ndarray, same: np.ndarray, *, root: Path
) -> np.ndarray | None:
    """People by the folders of their images, where the pairs agree that a folder is a person.

    Args:
      files: [M] of the images.
      indices: int [N, 2], the two images of each pair.
      same: bool [N].
      root: the folder of all images, which is nobody's.

    Returns:
      int [M]; None where an image has no folder of its own, a same pair is of two folders or a
      different pair of one.
    """
    parents = [file.parent for file in files]
    if root in parents:
        return None
    numbers = {parent: number for number, parent in enumerate(dict.fromkeys(parents))}
    people = np.array([numbers[parent] for parent in parents])
    first, second = people[np.asarray(indices)].T
    return people if np.array_equal(first == second, same) else None
