"""Parts of sources and sources joined: views over an index, no image is written anew."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from facejax.data.sources import Source, fingerprint, identity_names
from facejax.errors import UserError


class Selection:
    """Some records of a source, their labels 0, 1, ...; made by `select`."""

    def __init__(self, source: Source, records: np.ndarray) -> None:
        """Keeps some records.

        Args:
          source: of all of them.
          records: the numbers [N] of those to keep.
        """
        self._source, self._records = source, records
        found, labels = np.unique(np.asarray(source.labels)[records], return_inverse=True)
        names = identity_names(source)
        self.labels = labels.astype(np.int32)
        self.identity_names = tuple(names[label] for label in found.tolist())
        self.passed_over = getattr(source, "passed_over", ())
        self.checked = getattr(source, "checked", False)

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._source[int(self._records[index])]
        return {**record, "label": int(self.labels[index])}

    def read_into(self, numbers: np.ndarray, images: np.ndarray) -> bool:
        """Many images at once, where the source can; see `Source`."""
        read_into = getattr(self._source, "read_into", None)
        return read_into is not None and read_into(self._records[numbers], images)

    def fingerprint(self) -> str:
        """Hash of that of the source and of what is kept of it."""
        kept = self._records.astype("<i8").tobytes()
        return hashlib.sha256(fingerprint(self._source).encode() + kept).hexdigest()


class Joined:
    """The records of several sources, one behind the other; made by `join_sources`."""

    def __init__(
        self, sources: Sequence[Source], labels: np.ndarray, names: tuple[str, ...]
    ) -> None:
        self._sources = tuple(sources)
        self._starts = np.cumsum([0, *map(len, sources)])
        self.labels = labels
        self.identity_names = names
        self.passed_over = tuple(
            clause for source in sources for clause in getattr(source, "passed_over", ())
        )
        self.checked = all(getattr(source, "checked", False) for source in sources)

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        record = self._sources[which][int(index - self._starts[which])]
        return {**record, "label": int(self.labels[index])}

    def fingerprint(self) -> str:
        """Hash of those of the sources, in their order, and of the labels and names."""
        digest = hashlib.sha256("".join(map(fingerprint, self._sources)).encode())
        digest.update(self.labels.tobytes())
        digest.update(json.dumps(self.identity_names).encode())
        return digest.hexdigest()


def join_sources(sources: Sequence[Source], *, join: str = "disjoint") -> Joined:
    """Several sources as one.

    Args:
      sources: in the order of their records.
      join: "disjoint": no two sources share a person. The labels of a source stand behind those of
        the one before; a name that is taken gets the source's number, as in "Ann (2)". "names":
        identities of one name are one person, whose label is that of the first source that has it.

    Returns:
      A source whose `[i]` is that of the source that has the record, with the label of all.

    Raises:
      ValueError: `join` is neither of the two, or there are no sources.
    """
    if join not in ("disjoint", "names"):
        raise ValueError(f'join must be "disjoint" or "names", not {join!r}')
    if not sources:
        raise ValueError("there are no sources to join")
    numbers: dict[str, int] = {}
    labels = []
    for position, source in enumerate(sources, 1):
        places = []
        for name in identity_names(source):
            if join == "disjoint":
                while name in numbers:
                    name = f"{name} ({position})"
            places.append(numbers.setdefault(name, len(numbers)))
        labels.append(np.array(places, np.int32)[np.asarray(source.labels)])
    return Joined(sources, np.concatenate(labels), tuple(numbers))


def select(
    source: Source,
    *,
    minimum_images: int = 0,
    maximum_images: int = 0,
    share_of_images: float = 1.0,
    share_of_identities: float = 1.0,
    seed: int = 0,
) -> Source:
    """A part of a source; see `select_records`.

    Args:
      source: the records.
      minimum_images: as in `select_records`.
      maximum_images: as in `select_records`.
      share_of_images: as in `select_records`.
      share_of_identities: as in `select_records`.
      seed: as in `select_records`.

    Returns:
      A view, with the names of the identities that are left; the source itself if all of it is
      wanted.

    Raises:
      UserError: nothing would be left.
      ValueError: an argument is out of its range.
    """
    records = select_records(
        np.asarray(source.labels),
        minimum_images=minimum_images,
        maximum_images=maximum_images,
        share_of_images=share_of_images,
        share_of_identities=share_of_identities,
        seed=seed,
    )
    return source if len(records) == len(source) else Selection(source, records)


def select_records(
    labels: np.ndarray,
    *,
    minimum_images: int = 0,
    maximum_images: int = 0,
    share_of_images: float = 1.0,
    share_of_identities: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Which records to keep, chosen in this order by the arguments in theirs.

    What is drawn at random depends on the seed and the numbers of records and labels alone, and of
    two shares the smaller is a part of the larger.

    Args:
      labels: int [N].
      share_of_images: of all images, whosever they are, 0 < share <= 1.
      minimum_images: identities that have fewer then are left out.
      share_of_identities: of the identities that are left, 0 < share <= 1.
      maximum_images: so many of each identity at most, drawn at random; 0: all.
      seed: of what is drawn, 0 or more.

    Returns:
      The numbers of the records, int64, rising.

    Raises:
      UserError: nothing would be left, or no identity may have as many as it must.
      ValueError: an argument is out of its range.
    """
    if not (0 < share_of_images <= 1 and 0 < share_of_identities <= 1):
        raise ValueError(f"out of range: {share_of_images=}, {share_of_identities=}")
    if min(minimum_images, maximum_images, seed) < 0:
        raise ValueError(f"out of range: {minimum_images=}, {maximum_images=}, {seed=}")
    if 0 < maximum_images < minimum_images:
        raise UserError(
            f"maximum_images {maximum_images} is below minimum_images {minimum_images}: change one "
            "of them."
        )
    records = np.arange(len(labels), dtype=np.int64)
    images, identities = (
        np.random.Philox(key=seed, counter=[0, 0, 0, stream]) for stream in (0, 1)
    )
    drawn = images.random_raw(len(labels))
    if share_of_images < 1:
        records = _smallest(drawn, round(share_of_images * len(labels)))
    counts = np.bincount(labels[records]) if len(records) else np.zeros(0, np.int64)
    kept = counts >= max(1, minimum_images)
    if share_of_identities < 1:
        draws = np.where(kept, identities.random_raw(len(kept)), np.uint64(2**64 - 1))
        chosen = _smallest(draws, round(share_of_identities * int(kept.sum())))
        kept &= np.isin(np.arange(len(kept)), chosen)
    records = records[kept[labels[records]]]
    if not len(records):
        raise UserError(
            f"no images are left with {minimum_images=}, {share_of_images=} and "
            f"{share_of_identities=}: keep more."
        )
    if maximum_images:
        order = np.lexsort((drawn[records], labels[records]))
        of_order = labels[records][order]
        starts = np.flatnonzero(np.diff(of_order, prepend=of_order[0] - 1))
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        records = np.sort(records[order[rank < maximum_images]])
    return records


def _smallest(numbers: np.ndarray, count: int) -> np.ndarray:
    """Where the smallest so many stand, rising."""
    return np.sort(np.argsort(numbers, kind="stable")[:count])
