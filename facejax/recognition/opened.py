"""What the work on a gallery shares: its tables, what it says of itself, and what is in memory."""

import os
import threading
from collections.abc import Iterable
from typing import Any, Literal

import sqlalchemy as sql

from facejax.errors import UserError
from facejax.recognition import facts
from facejax.recognition.database import Database
from facejax.recognition.loaded import Loaded
from facejax.recognition.matches import Refusal
from facejax.recognition.samples import Sample, collect, one_a_photo
from facejax.recognition.tables import people
from facejax.recognition.thresholds import Threshold, choose

Pool = Literal["best", "mean"]


class Opened:
    """An open gallery, as `Gallery` shows it to those who use it.

    Args:
      where: as in `Gallery`, and so are the others.
      recognizer: what embeds photos, or None.
      create: whether to make a gallery that is not there.
      dtype: of the templates of a new one, and what an existing one is to have.
      timeout: how long to wait for another process's write, seconds.

    Attributes:
      database: the tables.
      facts: what it says of itself, as of the last look.
      loaded: what is searched, None before the first search; whoever uses it holds `lock`.
      lock: of `loaded`.
      recognizer: what embeds photos; None before the first of them comes.

    Raises:
      UserError: as `Gallery`.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        recognizer: Any,
        create: bool,
        dtype: Literal["float32", "int8"] | None,
        timeout: float,
    ):
        self.database = Database(where, create=create, timeout=timeout)
        self.lock = threading.RLock()
        self.loaded: Loaded | None = None
        self.recognizer = recognizer
        try:
            with self.database.reading() as connection:
                self.facts = self.database.facts(connection)
            if not self.facts and create:
                self._learn({"dtype": dtype or "float32"}, "it")
            if dtype not in (None, self.dtype):
                raise UserError(
                    f"the gallery {self} has {self.dtype} templates, not {dtype}: "
                    "leave dtype out, or import an export of it into a new one"
                )
            if recognizer is not None:
                self._adopt(recognizer, said=True)
        except BaseException:
            self.database.close()
            raise

    def __str__(self) -> str:
        return self.database.shown

    def __len__(self) -> int:
        """How many people there are."""
        with self.database.reading() as connection:
            return connection.execute(sql.select(sql.func.count()).select_from(people)).scalar_one()

    @property
    def dtype(self) -> str:
        """Of the templates, float32 or int8."""
        return self.facts.get("dtype", "float32")

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """The calibrated thresholds that it keeps."""
        return tuple(Threshold.from_json(one) for one in self.facts.get("thresholds", ()))

    def set_thresholds(self, thresholds: Iterable[Threshold]) -> None:
        """Keeps these thresholds from now on, in place of those before.

        Args:
          thresholds: of its recognizer.
        """
        kept = [one.to_json() for one in thresholds]
        with self.database.writing() as (connection, _):
            known = {**self.database.facts(connection), "thresholds": kept}
            self.database.write_facts(connection, known)
        self.facts = known

    def threshold(self, given: float | None, far: float) -> float:
        """The cosine that was given, or the gallery's own for a FAR.

        Args:
          given: the cosine; None takes the gallery's.
          far: the false accept rate, 0 to 1.

        Raises:
          UserError: it has none for that FAR.
        """
        if given is not None:
            return given
        return choose(self.thresholds, far=far, whose=f"the gallery {self}").cosine

    def refresh(self, *, pool: Pool) -> Loaded | None:
        """Brings what is in memory up to date, under the lock.

        Args:
          pool: mean, where the people's means are wanted, too.

        Returns:
          What is searched; None where nobody has been enrolled yet.
        """
        with self.database.reading() as connection:
            self.facts = self.database.facts(connection)
            if self.loaded is None and (size := self.facts.get("embedding_size")):
                self.loaded = Loaded(size, self.dtype, str(self))
            if self.loaded is not None:
                self.loaded.refresh(connection, means=pool == "mean")
        return self.loaded

    def join(self, connection: sql.Connection, theirs: facts.Facts, what: str) -> facts.Facts:
        """Writes the facts that the gallery lacks: another process may have been quicker.

        Args:
          connection: of a writing transaction; once it is done, what is returned is `facts`.
          theirs: of what is to come into the gallery.
          what: whose they are, for the sentences.

        Returns:
          What the gallery now says of itself.

        Raises:
          UserError: they are another recognizer's.
        """
        mine = self.database.facts(connection)
        known = facts.joined(mine, theirs, gallery=str(self), what=what)
        if known != mine:
            self.database.write_facts(connection, known)
        return known

    def collect(self, given: Any) -> tuple[list[Sample], list[tuple[str, str]]]:
        """Samples of photos, faces and embeddings; see `facejax.recognition.samples.collect`.

        Args:
          given: as there.

        Raises:
          UserError: as there, or they are another recognizer's.
        """
        samples, skipped = collect(given, self._find_faces)
        lengths = sorted({len(sample.embedding) for sample in samples})
        if len(lengths) > 1:
            raise UserError(
                f"the embeddings have lengths {lengths}: they are of several recognizers"
            )
        if lengths:
            size = {"embedding_size": lengths[0]}
            facts.joined(self.facts, size, gallery=str(self), what="an embedding")
        return samples, skipped

    def collect_one_a_photo(
        self, given: Any, face: int | None
    ) -> tuple[list[Sample], list[Refusal]]:
        """As `collect`, with one face of each photo.

        Args:
          given: as there.
          face: which of a photo's faces, counted from the left; None wants only one to be there.

        Returns:
          samples: of which one is asked for.
          refused: the others, and the photos without one.
        """
        samples, skipped = self.collect(given)
        samples, refused = one_a_photo(samples, face)
        return samples, [Refusal(source, -1, (reason,)) for source, reason in skipped] + refused

    def _find_faces(self, photos: list[Any]) -> Any:
        """Those in photos, by the recognizer, which is opened when it is first wanted."""
        from facejax.recognition.faces import find_faces  # here: plain embeddings do without

        if self.recognizer is None:
            from facejax.recognition.open import open as open_recognizer

            recognizer = open_recognizer()
            self._adopt(recognizer, said=False)
            self.recognizer = recognizer
        return find_faces(photos, self.recognizer)

    def _adopt(self, recognizer: Any, *, said: bool) -> None:
        """Compares a recognizer's card with the gallery's, which takes it if it has none."""
        theirs = facts.of_recognizer(recognizer)
        joined = facts.joined(self.facts, theirs, gallery=str(self), what="the recognizer")
        if joined == self.facts:
            return
        if not said and not self.facts.get("recognizer") and len(self):
            raise UserError(
                f"the gallery {self} holds embeddings of which nobody said where they are from: "
                "open it with recognizer= to say that they are this one's"
            )
        self._learn(theirs, "the recognizer")

    def _learn(self, theirs: facts.Facts, what: str) -> None:
        """Keeps those facts that the gallery lacks."""
        with self.database.writing() as (connection, _):
            known = self.join(connection, theirs, what)
        self.facts = known
