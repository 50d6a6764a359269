"""A gallery: people's names and templates in a database, and who a face is among them."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from facejax.recognition import administration, asking, enrolling, gallery_files
from facejax.recognition.database import TIMEOUT
from facejax.recognition.matches import Enrollment, Matches, Verification
from facejax.recognition.opened import Opened, Pool
from facejax.recognition.samples import Check, default_check
from facejax.recognition.thresholds import FAR, Threshold


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
        self._opened = Opened(
            where, recognizer=recognizer, create=create, dtype=dtype, timeout=timeout
        )

    def __str__(self) -> str:
        return str(self._opened)

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """How many people there are."""
        return len(self._opened)

    def close(self) -> None:
        """Frees the database; everything was on the disk before."""
        self._opened.database.close()

    @property
    def card(self) -> dict[str, Any] | None:
        """The card of the recognizer whose templates these are; None where nobody said it."""
        return self._opened.facts.get("card")

    @property
    def dtype(self) -> str:
        """Of the templates, float32 or int8."""
        return self._opened.dtype

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """The calibrated thresholds that it keeps."""
        return self._opened.thresholds

    def set_thresholds(self, thresholds: Iterable[Threshold]) -> None:
        """Keeps these thresholds from now on, in place of those before.

        Args:
          thresholds: of its recognizer.
        """
        self._opened.set_thresholds(thresholds)

    def names(self) -> list[str]:
        """Everybody's name, sorted."""
        return administration.names(self._opened.database)

    def sources(self, name: str) -> list[tuple[str, int]]:
        """Which faces a person was enrolled with: (source, number in it), in their order.

        Args:
          name: of the person.

        Raises:
          UserError: there is nobody of that name.
        """
        return administration.sources(self._opened.database, name)

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
        return enrolling.enroll(
            self._opened,
            name,
            faces,
            face=face,
            check=check,
            limit=duplicate_threshold,
            duplicates=duplicates,
        )

    def remove(self, name: str) -> None:
        """Removes a person, of whom nothing stays in the file; a server keeps files of its own.

        Args:
          name: of the person.

        Raises:
          UserError: there is nobody of that name, or another process kept the file busy.
        """
        administration.remove(self._opened.database, name)

    def rename(self, old: str, new: str) -> None:
        """Gives a person another name; nothing of the old one stays in the file.

        Args:
          old: the name that is there.
          new: one that is not.

        Raises:
          UserError: there is nobody of the old name, somebody of the new one, or the file is busy.
        """
        administration.rename(self._opened.database, old, new)

    def merge(self, names: Sequence[str], into: str) -> None:
        """Makes one person of several; nothing of the other names stays in the file.

        Args:
          names: of those who are there.
          into: the name of all their templates, which may be one of them, or new.

        Raises:
          UserError: there is nobody of one of the names, or the file is busy.
        """
        administration.merge(self._opened.database, names, into)

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
        return asking.verify(
            self._opened, name, faces, face=face, threshold=threshold, far=far, pool=pool
        )

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
        return asking.identify(
            self._opened,
            faces,
            k=k,
            threshold=threshold,
            far=far,
            fpir=fpir,
            margin=margin,
            pool=pool,
        )

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes everybody into one file that needs no facejax; see `gallery_files.write`.

        Args:
          path: of the file, .npz.

        Raises:
          UserError: it can't be written, or a template is damaged.
        """
        gallery_files.write(path, self._opened.database, self._opened.facts)

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
        with self._opened.database.writing() as (connection, stamp):
            known = self._opened.join(connection, theirs, f"the file {path}")
            added = gallery_files.add(connection, stamp, content, dtype=self.dtype)
        self._opened.facts = known
        return added
