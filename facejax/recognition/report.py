"""Photographs as a page: who is in which, faces by person, strangers, and what was left out.

Results go in and markup comes out. The pictures are asked for one by one when it is their turn, so
that a page of many photographs need not fit into memory.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from facejax import page
from facejax.page import Html
from facejax.recognition.clusters import cluster

REFUSED = -1  # in the place of a person
_OF_ONE = 48  # pictures of one person; more tell nothing new


@dataclasses.dataclass(frozen=True, eq=False)
class SeenFace:
    """A face of a report.

    Attributes:
      photo: the place of its photo in the report, from 0.
      number: of the face in the photo, from 0, left to right.
      box: float32 [4]: x and y of the upper left corner, width, height, in pixels of the photo.
      name: in the gallery; None is unknown.
      similarity: the cosine to that name; of somebody unknown it is not looked at.
      reasons: what speaks against its quality; of somebody unknown they refuse the face.
    """

    photo: int
    number: int
    box: np.ndarray
    name: str | None = None
    similarity: float | None = None
    reasons: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody of a report.

    Attributes:
      name: in the gallery, or made up: "unknown 1".
      known: whether it is in the gallery.
      faces: their places in the report, from 0.
      similarities: of each face, the cosine to the name in the gallery; of a stranger's, the mean
        cosine to the other faces of the group, None where there is no other.
    """

    name: str
    known: bool
    faces: tuple[int, ...]
    similarities: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
      photos: what each photo with a face is called.
      faces: of all photos, in their order.
      people: those of the gallery by name, then strangers, the largest group first.
      skipped: (photo, reason) of each photo that is not in `photos`.
    """

    photos: tuple[str, ...]
    faces: tuple[SeenFace, ...]
    people: tuple[Person, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @functools.cached_property
    def whose(self) -> np.ndarray:
        """int [faces]: the place in `people` of each face, -1 of a refused one."""
        places = np.full(len(self.faces), REFUSED)
        for number, person in enumerate(self.people):
            places[list(person.faces)] = number
        return places

    @functools.cached_property
    def similarities(self) -> dict[int, float | None]:
        """Of each face that is not refused, by its place."""
        return {
            face: similarity
            for person in self.people
            for face, similarity in zip(person.faces, person.similarities, strict=True)
        }

    @functools.cached_property
    def by_photo(self) -> list[list[int]]:
        """The places of each photo's faces."""
        places: list[list[int]] = [[] for _ in self.photos]
        for place, face in enumerate(self.faces):
            places[face.photo].append(place)
        return places

    @property
    def refused(self) -> list[int]:
        """The places of the refused faces."""
        return np.flatnonzero(self.whose == REFUSED).tolist()


def arrange(
    photos: Sequence[str],
    faces: Sequence[SeenFace],
    embeddings: np.ndarray,
    *,
    threshold: float,
    called: str = "unknown",
    skipped: Sequence[tuple[str, str]] = (),
) -> Report:
    """Sorts faces by person: by their names, and those without one by likeness.

    Each face is of one person or refused. One that has a name keeps it whatever its quality; a
    blurred stranger would draw other strangers into a group.

    Args:
      photos: as in `Report`.
      faces: as in `Report`.
      embeddings: float32 [faces, D].
      threshold: of `cluster`: the mean cosine from which two groups are one person.
      called: what the strangers are called, before a number from 1.
      skipped: as in `Report`.

    Raises:
      UserError: as `cluster`.
    """
    named: dict[str, list[int]] = {}
    unknown = []
    for place, face in enumerate(faces):
        if face.name is not None:
            named.setdefault(face.name, []).append(place)
        elif not face.reasons:
            unknown.append(place)
    people = [
        Person(name, True, tuple(places), tuple(faces[place].similarity for place in places))
        for name, places in sorted(named.items(), key=lambda one: (one[0].casefold(), one[0]))
    ]
    rows = embeddings[unknown] if unknown else np.zeros((0, 1), np.float32)
    labels = cluster(rows, threshold=threshold)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    for number, members in enumerate(np.split(order, starts) if unknown else (), start=1):
        places = tuple(unknown[member] for member in members)
        people.append(Person(f"{called} {number}", False, places, _likeness(rows[members])))
    return Report(tuple(photos), tuple(faces), tuple(people), tuple(skipped))


def _likeness(rows: np.ndarray) -> tuple[float | None, ...]:
    """Each row's mean cosine to the others."""
    if len(rows) == 1:
        return (None,)
    units = rows.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return tuple(((units @ units.sum(axis=0) - 1) / (len(rows) - 1)).tolist())


def contents(
    report: Report,
    *,
    explanation: Sequence[str],
    pictures: Iterable[bytes | str],
    thumbnail: Callable[[int], bytes],
    most_thumbnails: int,
) -> Iterator[Html]:
    """The pieces of the page, for `facejax.page.write`.

    Args:
      report: of `arrange`.
      explanation: paragraphs under the counts: of thresholds, and by what was recognized.
      pictures: JPEGs of the first photos, or in a picture's place the sentence why there is none;
        the photos after those are listed in words.
      thumbnail: a face's place in the report -> its JPEG.
      most_thumbnails: how many are asked for in all; the faces after those are listed in words.

    Yields:
      Counts, then "Photographs", "People of the gallery", "Unknown people" and "Left out", as far
      as there are any. Every face stands once among people or what was left out.
    """
    known = [number for number, person in enumerate(report.people) if person.known]
    unknown = [number for number, person in enumerate(report.people) if not person.known]
    refused = report.refused
    counts = {
        "photographs": len(report.photos),
        "faces": len(report.faces),
        "known people": len(known),
        "unknown people": len(unknown),
        "faces refused": len(refused),
        "photographs skipped": len(report.skipped),
    }
    yield page.facts((name, str(count)) for name, count in counts.items())
    yield from map(page.paragraph, explanation)
    sections = {
        "Photographs": report.photos,
        "People of the gallery": known,
        "Unknown people": unknown,
        "Left out": refused or report.skipped,
    }
    anchors = {title: f"section-{number}" for number, title in enumerate(sections)}
    there = [title for title, inside in sections.items() if inside]
    links = (page.link(anchors[title], page.plain(title)) for title in there)
    yield page.line(page.joined(links, between=" · "))

    faces = _Faces(report, thumbnail, most_thumbnails)
    makers: dict[str, Callable[[], Iterator[Html]]] = {
        "Photographs": lambda: _photographs(report, pictures),
        "People of the gallery": lambda: _people(faces, known),
        "Unknown people": lambda: _people(faces, unknown),
        "Left out": lambda: _left_out(faces, refused),
    }
    for title in there:
        yield page.heading(title, anchor=anchors[title])
        yield from makers[title]()


def _photographs(report: Report, pictures: Iterable[bytes | str]) -> Iterator[Html]:
    shown = 0

    def large() -> Iterator[Html]:
        nonlocal shown
        for picture in pictures:
            source, anchor = report.photos[shown], _photo(shown)
            names = _who(report, shown)
            if isinstance(picture, bytes):
                seen = page.image(picture, source)
                yield page.item(page.link(anchor, seen), page.plain(source), names, anchor=anchor)
            else:
                yield page.item(page.plain(source), page.quiet(picture), names, anchor=anchor)
            shown += 1

    yield from page.grid(large(), large=True)
    rest = range(shown, len(report.photos))
    if rest:
        yield page.heading(f"{len(rest)} more, without their pictures", level=3)
        items = (
            page.item(page.plain(report.photos[n]), _who(report, n), anchor=_photo(n)) for n in rest
        )
        yield from page.grid(items, large=True)


def _who(report: Report, photo: int) -> Html:
    """The people in a photo, from left to right, with links to their faces."""
    pieces = []
    refused = 0
    for place in report.by_photo[photo]:
        person = int(report.whose[place])
        if person == REFUSED:
            refused += 1
        else:
            name = page.link(_person(person), page.plain(report.people[person].name))
            pieces.append(page.joined([name, _quiet(report.similarities[place])]))
    if refused:
        pieces.append(page.quiet(f"{refused} left out"))
    return page.joined(pieces, between=", ")


class _Faces:
    """Faces as items of a grid, with pictures until there were enough."""

    def __init__(self, report: Report, thumbnail: Callable[[int], bytes], most: int):
        self.report, self._thumbnail, self._left = report, thumbnail, most

    def items(
        self,
        places: Sequence[int],
        below: Callable[[int], Html],
        *,
        anchor: Callable[[int], str] | None = None,
    ) -> Iterator[Html]:
        """An item each: picture, photo, and what stands below; the others in words."""
        pictures = min(len(places), _OF_ONE, self._left)
        self._left -= pictures
        for number, place in enumerate(places):
            photo = self.report.faces[place].photo
            source = self.report.photos[photo]
            lines = [page.link(_photo(photo), page.plain(pathlib.PurePath(source).name))]
            lines.append(below(place))
            if number < pictures:
                lines.insert(0, page.image(self._thumbnail(place), f"a face of {source}"))
            yield page.item(*lines, anchor=anchor and anchor(place))


def _people(faces: _Faces, people: Sequence[int]) -> Iterator[Html]:
    """Each one's faces; strangers who were seen once stand together at the end."""
    report = faces.report
    once = []
    for number in people:
        person = report.people[number]
        if len(person.faces) == 1 and not person.known:
            once.append(number)
            continue
        count = f"{len(person.faces)} face{'s' if len(person.faces) > 1 else ''}"
        yield page.heading(f"{person.name}: {count}", level=3, anchor=_person(number))
        yield from page.grid(
            faces.items(person.faces, lambda place: _quiet(report.similarities[place]))
        )
    if once:
        yield page.heading(f"seen once: {len(once)}", level=3)
        places = [report.people[number].faces[0] for number in once]
        yield from page.grid(
            faces.items(
                places,
                lambda place: page.quiet(report.people[int(report.whose[place])].name),
                anchor=lambda place: _person(int(report.whose[place])),
            )
        )


def _left_out(faces: _Faces, refused: Sequence[int]) -> Iterator[Html]:
    report = faces.report
    if refused:
        yield page.heading(f"faces: {len(refused)}", level=3)
        yield from page.grid(
            faces.items(refused, lambda place: page.quiet("; ".join(report.faces[place].reasons)))
        )
    if report.skipped:
        yield page.heading(f"photographs: {len(report.skipped)}", level=3)
        items = (
            page.item(*([] if name in why else [page.plain(name)]), page.quiet(why))
            for name, why in report.skipped
        )
        yield from page.grid(items, large=True)


def _quiet(similarity: float | None) -> Html:
    return page.quiet("" if similarity is None else f" {similarity:.2f}")


def _photo(number: int) -> str:
    return f"photo-{number}"


def _person(number: int) -> str:
    return f"person-{number}"
