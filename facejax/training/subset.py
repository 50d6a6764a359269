"""A part of a benchmark, so that it can be measured often, and the few images that it takes.

Verification keeps pairs in the proportions of folds and of kinds. Templates and galleries keep
whole people, with all that the benchmark has of them: a search among fewer is easier, so its
numbers compare with those of the same part alone.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facejax.evaluation.benchmarks import Benchmark
from facejax.evaluation.bin_file import EncodedImages
from facejax.evaluation.ijb import LooseCrops, TemplateProtocol
from facejax.evaluation.protocols import ImageFiles, Images, Protocol
from facejax.evaluation.template_files import ListedTemplates
from facejax.evaluation.tinyface import GalleryProtocol


class Part(NamedTuple):
    """What is measured of a benchmark.

    Attributes:
      benchmark: with nothing but the part's images.
      rows: int64 [m], which of the whole benchmark's images these are, rising.
    """

    benchmark: Benchmark
    rows: np.ndarray


def part_of(benchmark: Benchmark, *, most: int, seed: int) -> Part:
    """A benchmark with fewer questions, the same ones for a seed.

    Args:
      benchmark: of `open_benchmark`, or one like it.
      most: of verification, how many pairs; of templates, how many of them (without the lists of
        the 1:N protocol, pairs); of a gallery, how many probes, and how many images beside those
        of the probes' people. A person more where else pairs of one kind would be missing. 0: all.
      seed: of what is drawn.
    """
    protocol, random = benchmark.protocol, np.random.default_rng(seed)
    rows: np.ndarray = np.arange(count_images(protocol.images))
    if not most:
        return Part(benchmark, rows)
    part: Protocol | TemplateProtocol | GalleryProtocol
    if isinstance(protocol, TemplateProtocol):
        part, rows = _templates(protocol, most, random)
    elif isinstance(protocol, GalleryProtocol):
        part, rows = _gallery(protocol, most, random)
    else:
        part, rows = _pairs(protocol, most, random)
    groups = None if benchmark.groups is None else benchmark.groups[rows]
    return Part(Benchmark(benchmark.name, part, groups), rows)


def count_images(images: Images) -> int:
    """How many images there are, without looking at one.

    Args:
      images: of a benchmark of `open_benchmark`, or an array.
    """
    if isinstance(images, ImageFiles):
        return len(images.files)
    if isinstance(images, EncodedImages):
        return len(images.images)
    assert isinstance(images, np.ndarray | LooseCrops)
    return len(images)


def take_images(images: Images, rows: Sequence[int] | np.ndarray) -> Images:
    """Some of the images, of the same kind; none is read here.

    Args:
      images: as of `count_images`.
      rows: integers [m], which of them.
    """
    if isinstance(images, ImageFiles):
        return dataclasses.replace(images, files=[images.files[row] for row in rows])
    if isinstance(images, EncodedImages):
        numbers = range(len(images.images)) if images.numbers is None else images.numbers
        return dataclasses.replace(
            images,
            images=[images.images[row] for row in rows],
            numbers=[numbers[row] for row in rows],
        )
    if isinstance(images, LooseCrops):
        return dataclasses.replace(
            images,
            names=[images.names[row] for row in rows],
            landmarks=images.landmarks[np.asarray(rows)],
        )
    assert isinstance(images, np.ndarray)
    return images[np.asarray(rows)]


def fingerprint(benchmark: Benchmark) -> str:
    """A SHA-256 of all that is asked, whatever folder the images are in.

    Args:
      benchmark: a whole one or a part.
    """
    digest = hashlib.sha256(str(count_images(benchmark.protocol.images)).encode())

    def add(value: object) -> None:
        if isinstance(value, np.ndarray) and value.ndim < 4:  # no images
            digest.update(f"{value.dtype} {value.shape}\n".encode() + value.tobytes())
        elif isinstance(value, tuple):
            for one in value:
                add(one)

    add(benchmark.protocol)
    return digest.hexdigest()


def _pairs(
    protocol: Protocol, most: int, random: np.random.Generator
) -> tuple[Protocol, np.ndarray]:
    chosen = _spread(protocol.same, protocol.folds, most, random)
    rows, places = np.unique(protocol.indices[chosen], return_inverse=True)
    people = protocol.identities
    part = protocol._replace(
        images=take_images(protocol.images, rows),
        indices=places.reshape(-1, 2),
        same=protocol.same[chosen],
        folds=protocol.folds[chosen],
        identities=None if people is None else people[rows],
    )
    return part, rows


def _spread(
    same: np.ndarray, folds: np.ndarray, most: int, random: np.random.Generator
) -> np.ndarray:
    """At most so many pairs, rising, in the proportions that folds and kinds have among all."""
    order = random.permutation(len(same))
    _, kind, sizes = np.unique(
        np.stack([folds, same], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    kind = kind.reshape(-1)[order]
    # How much of its kind comes before a pair: each kind's first pair is among the first of all.
    before = np.empty(len(same))
    for number, size in enumerate(sizes):
        before[kind == number] = np.arange(size) / size
    return np.sort(order[np.lexsort((kind, before))[:most]])


def _gallery(
    protocol: GalleryProtocol, most: int, random: np.random.Generator
) -> tuple[GalleryProtocol, np.ndarray]:
    people = _whole_people(protocol.probes, most, random)
    probes = np.flatnonzero(np.isin(protocol.probes, people))
    theirs = np.isin(protocol.gallery, people)
    others = random.permutation(np.flatnonzero(~theirs))[:most]
    gallery = np.sort(np.concatenate([np.flatnonzero(theirs), others]))
    rows = np.concatenate([probes, len(protocol.probes) + gallery])
    images = take_images(protocol.images, rows)
    assert isinstance(images, ImageFiles)
    part = protocol._replace(
        images=images,
        probes=protocol.probes[probes],
        gallery=protocol.gallery[gallery],
    )
    return part, rows


def _whole_people(subjects: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """People, one at least, whose rows are at most so many together."""
    people, counts = np.unique(subjects, return_counts=True)
    order = random.permutation(len(people))
    return people[order[: max(int(np.sum(np.cumsum(counts[order]) <= most)), 1)]]


def _templates(
    protocol: TemplateProtocol, most: int, random: np.random.Generator
) -> tuple[TemplateProtocol, np.ndarray]:
    count = len(protocol.members.template_ids)
    lists = [*protocol.galleries, *([] if protocol.probes is None else [protocol.probes])]
    if lists:
        numbers, first = np.unique(
            np.concatenate([one.templates for one in lists]), return_index=True
        )
        subjects = np.concatenate([one.subjects for one in lists])[first]
        order = random.permutation(np.unique(subjects))
        owners = np.full(count, -1)
        owners[numbers] = np.argsort(order)[np.searchsorted(np.sort(order), subjects)]
        kept = _first_people(owners, protocol, most)
        asked = np.flatnonzero(kept[protocol.pairs].all(axis=1))
    else:
        same = protocol.same
        asked = _spread(same, np.zeros(len(same), np.int64), most, random)
        kept = np.isin(np.arange(count), protocol.pairs[asked])
    return _only(protocol, kept, asked)


def _first_people(owners: np.ndarray, protocol: TemplateProtocol, most: int) -> np.ndarray:
    """bool [T], the templates of the first people.

    Args:
      owners: [T], the place of a template's person in the order in which people are taken; -1 where
        it is not known whose it is.
      protocol: whose pairs are of both kinds among the templates that are kept.
      most: how many templates, but for that.
    """
    sizes = np.bincount(owners[owners >= 0])
    people = max(int(np.sum(np.cumsum(sizes) <= most)), 1)
    # A pair is there from the later of its people on.
    known = (owners[protocol.pairs] >= 0).all(axis=1)
    later = owners[protocol.pairs].max(axis=1)
    for kind in (True, False):
        there = later[known & (protocol.same == kind)]
        people = max(people, int(there.min(initial=len(sizes) - 1)) + 1)
    return (owners >= 0) & (owners < people)


def _only(
    protocol: TemplateProtocol, kept: np.ndarray, asked: np.ndarray
) -> tuple[TemplateProtocol, np.ndarray]:
    """A protocol of the templates kept [T] and the pairs asked for, and its images' rows."""
    members, place = protocol.members, np.cumsum(kept, dtype=np.int32) - 1
    mine = kept[members.templates]
    rows, images = np.unique(members.images[mine], return_inverse=True)

    def listed(one: ListedTemplates) -> ListedTemplates:
        there = kept[one.templates]
        return ListedTemplates(place[one.templates[there]], one.subjects[there])

    images_kept = take_images(protocol.images, rows)
    assert isinstance(images_kept, LooseCrops)
    part = protocol._replace(
        images=images_kept,
        detection_scores=protocol.detection_scores[rows],
        members=members._replace(
            images=images.reshape(-1).astype(np.int32),
            templates=place[members.templates[mine]],
            media=members.media[mine],
            template_ids=members.template_ids[kept],
        ),
        pairs=place[protocol.pairs[asked]],
        same=protocol.same[asked],
        galleries=tuple(listed(one) for one in protocol.galleries),
        probes=None if protocol.probes is None else listed(protocol.probes),
    )
    return part, rows.astype(np.int64)
