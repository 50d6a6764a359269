"""The tables of a gallery, in one SQLite file or on a PostgreSQL server, through SQLAlchemy Core.

Every writing transaction takes the next number of one counter and stamps what it writes with it;
what is removed leaves its number behind, and nothing else. So a reader asks for what came after the
last number that it saw, at the cost of that. A row of the counter's table is locked until the
transaction ends, so that numbers become visible in order.
"""

import contextlib
import json
import os
import pathlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sql

from facejax import files
from facejax.errors import UserError
from facejax.recognition import tables
from facejax.recognition.tables import gallery, people, removed, templates

TIMEOUT = 30.0
_SCHEME = "://"  # of a URL, and no part of a path
_SUFFIX = ".sqlite"
_PAGE = 16_384  # bytes: in pages of 4096 a template of 512 floats would take one of its own

_Result = TypeVar("_Result")


def is_made(where: str | os.PathLike[str]) -> bool:
    """Whether a gallery has a file; on a server, which makes tables, whoever is there.

    Args:
      where: as in `Database`.
    """
    return _SCHEME in str(where) or os.path.exists(_path(where))


class Database:
    """An open gallery's tables.

    Args:
      where: a path, which gets the suffix `.sqlite` where it has none and is no file as it stands;
        or a URL, `postgresql+psycopg://user:password@host/database`.
      create: whether to make what is not there.
      timeout: how long to wait for another process's write, seconds.

    Raises:
      UserError: it is not there, can't be opened, is damaged, no gallery, of a newer schema, busy
        for longer than `timeout`, or its driver is missing.
    """

    def __init__(self, where: str | os.PathLike[str], *, create: bool, timeout: float = TIMEOUT):
        self.timeout = timeout
        if _SCHEME in str(where):
            self._path = None
            url = _url(str(where))
            self.shown = url.render_as_string(hide_password=True)
        else:
            self._path = _file(where, create)
            url = sql.URL.create("sqlite", database=str(self._path))
            self.shown = str(self._path)
        try:
            self._engine = sql.create_engine(url, **self._options(url))
        except ModuleNotFoundError as error:
            raise UserError(
                f"{self.shown} takes {error.name}: pip install 'facejax[postgres]'"
            ) from error
        if self._path is not None:
            sql.event.listen(self._engine, "connect", self._prepare)
            sql.event.listen(self._engine, "begin", _begin)
        try:
            self._check(create)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes its connections; the last one of a file takes the files beside it along."""
        self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """A transaction that sees one moment's state throughout."""
        options = {} if self._path else {"isolation_level": "REPEATABLE READ"}
        with (
            self._telling(),
            self._engine.connect() as connection,
            connection.execution_options(**options).begin(),
        ):
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[tuple[sql.Connection, int]]:
        """A transaction of which there is one at a time, over all processes.

        Yields:
          The connection, and the number to stamp changes with. What the block wrote is on the disk
          when it is left, and undone if it raises.
        """
        with self._turn() as connection:
            number = gallery.c.changes + 1
            counted = sql.update(gallery).values(changes=number).returning(gallery.c.changes)
            yield connection, connection.execute(counted).scalar_one()

    @contextlib.contextmanager
    def _turn(self, busy: UserError | None = None) -> Iterator[sql.Connection]:
        """A transaction that has waited for the writers before it."""
        with (
            self._telling(busy),
            self._engine.connect() as connection,
            connection.execution_options(facejax_writes=True).begin(),
        ):
            if self._path is None:
                wait = f"SET LOCAL lock_timeout = {max(1, round(1000 * self.timeout))}"
                connection.exec_driver_sql(wait)
            yield connection

    def facts(self, connection: sql.Connection) -> dict[str, Any]:
        """What the gallery says of itself."""
        return json.loads(connection.execute(sql.select(gallery.c.facts)).scalar_one())

    def write_facts(self, connection: sql.Connection, facts: dict[str, Any]) -> None:
        """Replaces what it says of itself, in a writing transaction."""
        connection.execute(sql.update(gallery).values(facts=json.dumps(facts)))

    def remove(
        self, connection: sql.Connection, stamp: int, *, person: int, keep: int | None = None
    ) -> None:
        """Removes a person in a writing transaction; call `erase` after it.

        Args:
          connection: of `writing`.
          stamp: of `writing`.
          person: the number.
          keep: another person, who gets the templates; None removes them.
        """
        theirs = templates.c.person == person
        if keep is not None:
            moved = {"person": keep, "changed": stamp}
            connection.execute(sql.update(templates).where(theirs).values(moved))
        gone = connection.scalars(sql.select(templates.c.id).where(theirs)).all()
        connection.execute(sql.delete(people).where(people.c.id == person))
        rows: list[dict[str, Any]] = [{"person": person, "template": None, "changed": stamp}]
        rows += [{"person": None, "template": number, "changed": stamp} for number in gone]
        connection.execute(sql.insert(removed), rows)
        self.leave_traces(connection, stamp)

    def leave_traces(self, connection: sql.Connection, stamp: int) -> None:
        """Notes that a writing transaction leaves bytes behind, for `erase`."""
        connection.execute(sql.update(gallery).values(erase=stamp))

    def erase(self, done: str) -> None:
        """Takes the bytes of removed rows out of the file and of the log beside it.

        `secure_delete` zeroes a row where it lies, but not the copies that a split page left of it,
        so the file is written anew. Where the process ends before that, the next opening does it.
        A server's files are the server's: there it does nothing.

        Args:
          done: what the person asked for, the beginning of a sentence, should the file be busy.

        Raises:
          UserError: another process kept the file busy.
        """
        if self._path is None:
            return
        busy = UserError(
            f"{done}, but traces stay in {self.shown} while another process keeps it busy: they go "
            "with the next opening or removal"
        )
        with self._telling(busy), self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            (pending,) = raw.execute(f"SELECT erase FROM {gallery.name}").fetchone()
            raw.execute("VACUUM")
            if raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise busy
        with self._turn(busy) as connection:  # another's removal may have come in between
            connection.execute(
                sql.update(gallery).where(gallery.c.erase == pending).values(erase=0)
            )

    def _options(self, url: sql.URL) -> dict[str, Any]:
        if url.get_backend_name() == "sqlite":
            return {"connect_args": {"timeout": self.timeout, "check_same_thread": False}}
        connect = {"connect_timeout": max(2, round(self.timeout))}
        return {"pool_pre_ping": True, "connect_args": connect}

    def _prepare(self, raw: Any, _: Any) -> None:
        """Settings of a new connection to a file; that of the log is kept in the file itself."""
        raw.isolation_level = None  # transactions begin where SQLAlchemy says so
        for setting in ("foreign_keys = ON", "secure_delete = ON", "synchronous = FULL"):
            raw.execute(f"PRAGMA {setting}")

    def _waiting(self, action: Callable[[], _Result]) -> _Result:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _check(self, create: bool) -> None:
        """Makes the tables where there are none, and refuses what is not a gallery of ours."""
        with self.reading() as connection:
            there = self._has_tables(connection)
        if not there:
            if not create:
                raise UserError(f"there is no gallery in {self.shown}: give another place")
            self._make()
        with self.reading() as connection:
            columns = (gallery.c.schema, gallery.c.erase)
            found, erase = connection.execute(sql.select(*columns)).one()
        if found != tables.SCHEMA:
            raise UserError(
                f"the gallery {self.shown} has schema {found}, and this facejax knows schema "
                f"{tables.SCHEMA}: install a newer facejax"
            )
        if erase:  # a process died before it had done so; a busy file leaves it for the next
            with contextlib.suppress(UserError):
                self.erase("a removal is done")

    def _has_tables(self, connection: sql.Connection) -> bool:
        here = sql.inspect(connection)
        if here.has_table(gallery.name):
            return True
        if self._path is not None and here.get_table_names():
            raise UserError(
                f"there is no gallery in {self.shown}, but another program's tables: give another "
                "place"
            )
        return False

    def _make(self) -> None:
        with self._telling(), self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            if self._path is not None and raw is not None:
                raw.execute(f"PRAGMA page_size = {_PAGE}")
                # Two processes that make one file at once: SQLite does not wait here by itself.
                self._waiting(lambda: raw.execute("PRAGMA journal_mode = WAL").fetchone())
        with self._turn() as connection:
            if self._path is None:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7061302)")
            if not self._has_tables(connection):  # another process may have been quicker
                tables.METADATA.create_all(connection)
                first = {"id": 1, "schema": tables.SCHEMA, "changes": 0, "erase": 0, "facts": "{}"}
                connection.execute(sql.insert(gallery), first)

    @contextlib.contextmanager
    def _telling(self, busy: UserError | None = None) -> Iterator[None]:
        """Turns what a database raises into one sentence."""
        try:
            yield
        except UserError:
            raise
        except (sql.exc.DBAPIError, sqlite3.Error) as error:
            original: Any = error.orig if isinstance(error, sql.exc.DBAPIError) else error
            raise self._sentence(original, busy) from error
        except (sql.exc.NoResultFound, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damaged() from error

    def _damaged(self) -> UserError:
        return UserError(
            f"the gallery {self.shown} is damaged: restore a copy, or begin a new one from an "
            "export"
        )

    def _sentence(self, error: Any, busy: UserError | None) -> UserError:
        said = " ".join(str(error).split())
        if self._path is None:
            if getattr(error, "sqlstate", None) == "55P03":
                return busy or self._busy()
            return UserError(f"the database {self.shown} refuses ({said}): see to it")
        code = _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return busy or self._busy()
        if code == sqlite3.SQLITE_NOTADB:
            return UserError(
                f"{self.shown} is no gallery, or a damaged one: restore a copy, or give another "
                "place"
            )
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL):
            return UserError(
                f"can't open or write the gallery {self.shown} ({said}): see to its folder, its "
                "permissions and the space on its disk"
            )
        return self._damaged()

    def _busy(self) -> UserError:
        return UserError(
            f"the gallery {self.shown} has been busy with another process's write for "
            f"{self.timeout:g} s: wait for that one to end"
        )


def _begin(connection: sql.Connection) -> None:
    """A writer takes its turn at the beginning, so that what it has read is still so."""
    writes = connection.get_execution_options().get("facejax_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _code(error: Any) -> int:
    """SQLite's primary code, 0 of what has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _url(where: str) -> sql.URL:
    try:
        url = sql.make_url(where)
    except (sql.exc.ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() != "postgresql":
        raise UserError(
            "a gallery is a file, or postgresql+psycopg://USER@HOST/DATABASE: the URL that was "
            "given is neither"
        )
    return url


def _file(where: str | os.PathLike[str], create: bool) -> pathlib.Path:
    path = _path(where)
    if os.path.isdir(path):  # a pathlib.Path raises where a name is too long
        raise UserError(f"{path} is a folder, and a gallery is a file: give another name")
    if not os.path.exists(path):
        if not create:
            raise UserError(f"there is no gallery {path}: enroll somebody, or give another path")
        with files.refusing(path, "give another path"):
            path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _path(where: str | os.PathLike[str]) -> pathlib.Path:
    """With the suffix, where it has none and is no file as it stands."""
    path = files.expand(where)
    if path.suffix or os.path.isfile(path) or not path.name:
        return path
    return path.with_name(path.name + _SUFFIX)
