"""A gallery: people's names and templates in a database, and who a face is among them."""

import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import sqlalchemy as sql

from facejax.errors import UserError
from facejax.recognition import enrolling, facts, gallery_files
from facejax.recognition.database import TIMEOUT, Database
from facejax.recognition.loaded import Loaded
from facejax.recognition.matches import (
    Candidate,
    Enrollment,
    Match,
    Matches,
    Refusal,
    Verification,
)
from facejax.recognition.samples import Check, Sample, collect, default_check, one_a_photo
from facejax.recognition.tables import clean_name, people, templates
from facejax.recognition.thresholds import FAR, Threshold, choose, far_of_fpir

SAME_PICTURE = 0.999  # a threshold for a face under two names, where none is calibrated

Pool = Literal["best", "mean"]


class Gallery:
    """An open gallery; several processes may have it open, and threads may share one.

    What one process writes, the next search of any other finds. Similarities are cosines.

    Args:
      where: a path, which gets the suffix `.sqlite` where it has none and is no file as it stands
        (the file has companions, `-wal` and `-shm`, while it is open, and does not belong on a
        network drive); or, where several machines share it, the URL of a PostgreSQL database,
        `postgresql+psycopg://user:password@host/database` (extra `postgres`).
      recognizer: what embeds photos, with a `card`, which the gallery keeps a copy of, and of its
        `thresholds` if it has any; None opens the best one that is installed when a photo comes.
      create: whether to make a gallery that is not there.
      dtype: of the templates, float32, or int8 for a quarter of the memory; None takes what an
        existing gallery has, and float32 for a new one.
      timeout: how long to wait for another process's write, seconds.

    Raises:
      UserError: it can't be opened (`facejax.recognition.database.Database`), has the templates of
        another recognizer, or another `dtype`.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        recognizer: Any = None,
        create: bool = True,
        dtype: Literal["float32", "int8"] | None = None,
        timeout: float = TIMEOUT,
    ):
        self._database = Database(where, create=create, timeout=timeout)
        self._lock = threading.RLock()
        self._loaded: Loaded | None = None
        self._recognizer = recognizer
        try:
            with self._database.reading() as connection:
                self._facts = self._database.facts(connection)
            if not self._facts and create:
                self._learn({"dtype": dtype or "float32"}, "it")
            if dtype not in (None, self.dtype):
                raise UserError(
                    f"the gallery {self} has {self.dtype} templates, not {dtype}: "
                    "leave dtype out, or import an export of it into a new one"
                )
            if recognizer is not None:
                self._adopt(recognizer, said=True)
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return self._database.shown

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """How many people there are."""
        with self._database.reading() as connection:
            return connection.execute(sql.select(sql.func.count()).select_from(people)).scalar_one()

    def close(self) -> None:
        """Frees the database; everything was on the disk before."""
        self._database.close()

    @property
    def card(self) -> dict[str, Any] | None:
        """The card of the recognizer whose templates these are; None where nobody said it."""
        return self._facts.get("card")

    @property
    def dtype(self) -> str:
        """Of the templates, float32 or int8."""
        return self._facts.get("dtype", "float32")

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """The calibrated thresholds that it keeps."""
        return tuple(Threshold.from_json(one) for one in self._facts.get("thresholds", ()))

    def set_thresholds(self, thresholds: Iterable[Threshold]) -> None:
        """Keeps these thresholds from now on, in place of those before.

        Args:
          thresholds: of its recognizer.
        """
        kept = [one.to_json() for one in thresholds]
        with self._database.writing() as (connection, _):
            known = {**self._database.facts(connection), "thresholds": kept}
            self._database.write_facts(connection, known)
        self._facts = known

    def names(self) -> list[str]:
        """Everybody's name, sorted."""
        with self._database.reading() as connection:
            return sorted(connection.scalars(sql.select(people.c.name)))

    def sources(self, name: str) -> list[tuple[str, int]]:
        """Which faces a person was enrolled with: (source, number in it), in their order.

        Args:
          name: of the person.

        Raises:
          UserError: there is nobody of that name.
        """
        with self._database.reading() as connection:
            theirs = templates.c.person == self._person(connection, clean_name(name))
            columns = (templates.c.source, templates.c.number)
            rows = connection.execute(sql.select(*columns).where(theirs).order_by(templates.c.id))
            return [(row.source, row.number) for row in rows]

    def enroll(
        self,
        name: str,
        faces: Any,
        *,
        face: int | None = None,
        check: Check | None = default_check,
        duplicates: Literal["refuse", "allow"] = "refuse",
        duplicate_threshold: float | None = None,
    ) -> Enrollment:
        """Adds templates to a person, who need not be there yet.

        An embedding that the person has already is not added again.

        Args:
          name: of the person; the gallery keeps it in Unicode's NFC (`clean_name`).
          faces: a photo (a path, encoded bytes, or uint8 [H, W, 3]), a folder of photos, a `Face`,
            embeddings (float [D] or [N, D]), or a sequence of such, all of this person.
          face: which of a photo's faces, counted from the left; None wants only one to be there.
          check: face -> the reasons against it, in words; a quality or liveness function of one's
            own. None takes every face. Plain embeddings are not checked.
          duplicates: whether to refuse a face that is enrolled under another name.
          duplicate_threshold: the cosine from which it is that face; None is the strictest of the
            gallery's thresholds, or 0.999 where it has none.

        Returns:
          What was enrolled, once it is on the disk, and what was left out, with the reasons.

        Raises:
          UserError: nothing of it could be enrolled, with the reasons; the name is none; or the
            embeddings are another recognizer's.
        """
        name = clean_name(name)
        samples, refused = self._collect_one_a_photo(faces, face)
        samples, refused = enrolling.checked(name, samples, refused, check)
        strictest = max((one.cosine for one in self.thresholds), default=SAME_PICTURE)
        alike = duplicate_threshold if duplicate_threshold is not None else strictest
        numbers, others = self._add(name, samples, alike if duplicates == "refuse" else None)
        refused += others
        if not numbers:
            raise enrolling.nothing(name, refused)
        return Enrollment(name, tuple(numbers), tuple(refused))

    def remove(self, name: str) -> None:
        """Removes a person, of whom nothing stays in the file; a server keeps files of its own.

        Args:
          name: of the person.

        Raises:
          UserError: there is nobody of that name, or another process kept the file busy.
        """
        name = clean_name(name)
        with self._database.writing() as (connection, stamp):
            person = self._person(connection, name)
            self._database.remove(connection, stamp, person=person)
        self._database.erase(f"{name} is removed")

    def rename(self, old: str, new: str) -> None:
        """Gives a person another name; nothing of the old one stays in the file.

        Args:
          old: the name that is there.
          new: one that is not.

        Raises:
          UserError: there is nobody of the old name, somebody of the new one, or the file is busy.
        """
        old, new = clean_name(old), clean_name(new)
        with self._database.writing() as (connection, stamp):
            person = self._person(connection, old)
            if old == new:
                return
            if enrolling.find(connection, new) is not None:
                raise UserError(f"there is a {new} in {self} already: merge the two")
            changed = {"name": new, "changed": stamp}
            connection.execute(sql.update(people).where(people.c.id == person).values(changed))
            self._database.leave_traces(connection, stamp)
        self._database.erase(f"{old} is now {new}")

    def merge(self, names: Sequence[str], into: str) -> None:
        """Makes one person of several; nothing of the other names stays in the file.

        Args:
          names: of those who are there.
          into: the name of all their templates, which may be one of them, or new.

        Raises:
          UserError: there is nobody of one of the names, or the file is busy.
        """
        into = clean_name(into)
        others = list(dict.fromkeys(clean_name(name) for name in names))
        with self._database.writing() as (connection, stamp):
            numbers = [self._person(connection, name) for name in others if name != into]
            target = enrolling.find(connection, into)
            if target is None and not numbers:
                raise UserError(f"nobody is to become {into}: give the names of those who are")
            if target is None:
                target = enrolling.insert(connection, into, stamp)
            for person in numbers:
                self._database.remove(connection, stamp, person=person, keep=target)
        self._database.erase(f"{', '.join(others)} are now {into}")

    def verify(
        self,
        name: str,
        faces: Any,
        *,
        face: int | None = None,
        threshold: float | None = None,
        far: float = FAR,
        pool: Pool = "best",
    ) -> Verification:
        """Whether a face is that person's (1:1).

        Args:
          name: of the person.
          faces: a photo, a `Face` or an embedding; one face.
          face: which of a photo's faces, counted from the left; None wants only one to be there.
          threshold: the cosine from which it is so; None takes the gallery's for `far`.
          far: the false accept rate, 0 to 1.
          pool: of several templates, the similarity of the `best`, or of their `mean`.

        Raises:
          UserError: there is nobody of that name, not one face, or no threshold for that FAR.
        """
        _check_pool(pool)
        name = clean_name(name)
        samples, refused = self._collect_one_a_photo(faces, face)
        if len(samples) != 1:
            said = ", ".join(map(str, refused)) or f"{len(samples)} faces were given"
            raise UserError(f"one face is wanted to compare with {name} ({said})")
        limit = self._threshold(threshold, far)
        with self._database.reading() as connection:
            theirs, _ = enrolling.of_person(
                connection,
                self._person(connection, name),
                dtype=self.dtype,
                size=len(samples[0].embedding),
                shown=str(self),
            )
        if pool == "mean":
            theirs = theirs.mean(axis=0, keepdims=True)
            theirs /= np.maximum(np.linalg.norm(theirs), 1e-12)
        (sample,) = samples
        similarity = float((theirs @ sample.embedding).max())
        same = similarity >= limit
        return Verification(name, same, similarity, limit, sample.source, sample.number)

    def identify(
        self,
        faces: Any,
        *,
        k: int = 2,
        threshold: float | None = None,
        far: float = FAR,
        fpir: float | None = None,
        margin: float = 0.0,
        pool: Pool = "best",
    ) -> Matches:
        """Who the faces are (1:N, open set).

        Args:
          faces: a photo, a folder, a `Face`, embeddings (float [D] or [N, D]), or a sequence of
            such.
          k: how many names to give of each, two at least, the most similar first.
          threshold: the cosine from which it is somebody; None takes the gallery's for `far`.
          far: the false accept rate of one comparison, 0 to 1.
          fpir: the share of strangers who may get a name, 0 to 1; in place of `far`, which is then
            this by the number of people.
          margin: a cosine by which the best name must be ahead of the second one.
          pool: of several templates of a person, the similarity of the `best`, or of their `mean`.

        Returns:
          Who each one is, or unknown: below the threshold, or the second name within the margin.

        Raises:
          UserError: there is no threshold for that FAR, or the embeddings are another recognizer's.
        """
        _check_pool(pool)
        samples, skipped = self._collect(faces)
        if fpir is not None:
            far = far_of_fpir(fpir, people=len(self))
        limit = self._threshold(threshold, far)
        queries = np.array([sample.embedding for sample in samples])
        found = self._search(queries, max(k, 2), pool) if samples else []
        matches = []
        for sample, candidates in zip(samples, found, strict=True):
            best = candidates[0] if candidates else None
            name = best.name if best and best.similarity >= limit else None
            if name and len(candidates) > 1 and margin > 0:
                ahead = candidates[0].similarity - candidates[1].similarity
                name = None if ahead < margin else name
            shown = tuple(candidates[: max(k, 2)])
            matches.append(Match(name, shown, limit, margin, sample.source, sample.number))
        return Matches(tuple(matches), tuple(skipped))

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes everybody into one file that needs no facejax; see `gallery_files.write`.

        Args:
          path: of the file, .npz.

        Raises:
          UserError: it can't be written, or a template is damaged.
        """
        gallery_files.write(path, self._database, self._facts)

    def import_(self, path: str | os.PathLike[str]) -> int:
        """Adds everybody of an exported file, to those of the same names; see `gallery_files.read`.

        Args:
          path: of the file.

        Returns:
          How many templates were added; those that are there already are not.

        Raises:
          UserError: the file is damaged, no export, or of another recognizer.
        """
        content = gallery_files.read(path)
        theirs = {**content.facts, "embedding_size": content.embeddings.shape[1]}
        with self._database.writing() as (connection, stamp):
            known = self._joined(connection, theirs, f"the file {path}")
            added = gallery_files.add(connection, stamp, content, dtype=self.dtype)
        self._facts = known
        return added

    def _collect(self, given: Any) -> tuple[list[Sample], list[tuple[str, str]]]:
        samples, skipped = collect(given, self._find_faces)
        lengths = sorted({len(sample.embedding) for sample in samples})
        if len(lengths) > 1:
            raise UserError(
                f"the embeddings have lengths {lengths}: they are of several recognizers"
            )
        if lengths:
            size = {"embedding_size": lengths[0]}
            facts.joined(self._facts, size, gallery=str(self), what="an embedding")
        return samples, skipped

    def _collect_one_a_photo(
        self, given: Any, face: int | None
    ) -> tuple[list[Sample], list[Refusal]]:
        samples, skipped = self._collect(given)
        samples, refused = one_a_photo(samples, face)
        return samples, [Refusal(source, -1, (reason,)) for source, reason in skipped] + refused

    def _find_faces(self, photos: list[Any]) -> Any:
        """Those in photos, by the recognizer, which is opened when it is first wanted."""
        from facejax.recognition.faces import find_faces  # here: plain embeddings do without

        if self._recognizer is None:
            from facejax.recognition.open import open as open_recognizer

            recognizer = open_recognizer()
            self._adopt(recognizer, said=False)
            self._recognizer = recognizer
        return find_faces(photos, self._recognizer)

    def _adopt(self, recognizer: Any, *, said: bool) -> None:
        """Compares a recognizer's card with the gallery's, which takes it if it has none."""
        theirs = facts.of_recognizer(recognizer)
        joined = facts.joined(self._facts, theirs, gallery=str(self), what="the recognizer")
        if joined == self._facts:
            return
        if not said and not self._facts.get("recognizer") and len(self):
            raise UserError(
                f"the gallery {self} holds embeddings of which nobody said where they are from: "
                "open it with recognizer= to say that they are this one's"
            )
        self._learn(theirs, "the recognizer")

    def _learn(self, theirs: facts.Facts, what: str) -> None:
        """Keeps those facts that the gallery lacks."""
        with self._database.writing() as (connection, _):
            known = self._joined(connection, theirs, what)
        self._facts = known

    def _joined(self, connection: sql.Connection, theirs: facts.Facts, what: str) -> facts.Facts:
        """Writes the facts that the gallery lacks: another process may have been quicker."""
        mine = self._database.facts(connection)
        known = facts.joined(mine, theirs, gallery=str(self), what=what)
        if known != mine:
            self._database.write_facts(connection, known)
        return known

    def _threshold(self, threshold: float | None, far: float) -> float:
        if threshold is not None:
            return threshold
        return choose(self.thresholds, far=far, whose=f"the gallery {self}").cosine

    def _refreshed(self, pool: Pool = "best") -> Loaded | None:
        """What is in memory, brought up to date; None where nobody has been enrolled yet."""
        with self._database.reading() as connection:
            self._facts = self._database.facts(connection)
            if self._loaded is None and (size := self._facts.get("embedding_size")):
                self._loaded = Loaded(size, self.dtype, str(self))
            if self._loaded is not None:
                self._loaded.refresh(connection, means=pool == "mean")
        return self._loaded

    def _search(self, queries: np.ndarray, k: int, pool: Pool) -> list[list[Candidate]]:
        """Of each query the names with the largest similarities, falling."""
        with self._lock:
            loaded = self._refreshed(pool)
            if loaded is None:
                return [[] for _ in queries]
            search = loaded.best if pool == "best" else loaded.mean
            similarities, persons = search(queries, k)
            return [
                [
                    Candidate(loaded.names[person], float(value))
                    for value, person in zip(values, row, strict=True)
                    if person >= 0
                ]
                for values, row in zip(similarities, persons.tolist(), strict=True)
            ]

    def _add(
        self, name: str, samples: list[Sample], limit: float | None
    ) -> tuple[list[int], list[Refusal]]:
        """Writes samples in one transaction: the numbers of their templates, and what is refused.

        From `limit` on, a face is that of whoever it resembles.
        """
        refused: list[Refusal] = []
        size = {"embedding_size": len(samples[0].embedding)}
        with self._lock:
            if limit is not None:  # most of the work, while others may write
                self._refreshed()
            with self._database.writing() as (connection, stamp):
                known = self._joined(connection, size, "the embedding")
                person = enrolling.find(connection, name)
                if limit is not None:
                    loaded = self._loaded or Loaded(size["embedding_size"], self.dtype, str(self))
                    loaded.refresh(connection, writing=True)
                    samples, refused = enrolling.without_others(
                        loaded, samples, person, limit=limit
                    )
                if not samples:
                    return [], refused
                if person is None:
                    person = enrolling.insert(connection, name, stamp)
                numbers = enrolling.add(
                    connection, stamp, person, samples, dtype=self.dtype, shown=str(self)
                )
            self._facts = known
        return numbers, refused

    def _person(self, connection: sql.Connection, name: str) -> int:
        person = enrolling.find(connection, name)
        if person is None:
            raise UserError(f"there is nobody named {name} in {self}: see its names")
        return person


def _check_pool(pool: str) -> None:
    if pool not in ("best", "mean"):
        raise UserError(f"there is no pool {pool!r}: take best or mean")
