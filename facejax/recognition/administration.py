"""Who is in a gallery, and what becomes of them: removed, renamed, made one."""

from collections.abc import Sequence

import sqlalchemy as sql

from facejax.errors import UserError
from facejax.recognition import enrolling
from facejax.recognition.database import Database
from facejax.recognition.tables import clean_name, people, templates


def number(connection: sql.Connection, name: str, *, shown: str) -> int:
    """A person's number.

    Args:
      connection: in a transaction.
      name: as the gallery keeps it.
      shown: the gallery, for the sentence.

    Raises:
      UserError: there is nobody of that name.
    """
    person = enrolling.find(connection, name)
    if person is None:
        raise UserError(f"there is nobody named {name} in {shown}: see its names")
    return person


def names(database: Database) -> list[str]:
    """Everybody's name, sorted.

    Args:
      database: of the gallery.
    """
    with database.reading() as connection:
        return sorted(connection.scalars(sql.select(people.c.name)))


def sources(database: Database, name: str) -> list[tuple[str, int]]:
    """Which faces a person was enrolled with; see `Gallery.sources`.

    Args:
      database: of the gallery.
      name: of the person.
    """
    with database.reading() as connection:
        theirs = templates.c.person == number(connection, clean_name(name), shown=database.shown)
        columns = (templates.c.source, templates.c.number)
        rows = connection.execute(sql.select(*columns).where(theirs).order_by(templates.c.id))
        return [(row.source, row.number) for row in rows]


def remove(database: Database, name: str) -> None:
    """Removes a person; see `Gallery.remove`.

    Args:
      database: of the gallery.
      name: of the person.
    """
    name = clean_name(name)
    with database.writing() as (connection, stamp):
        person = number(connection, name, shown=database.shown)
        database.remove(connection, stamp, person=person)
    database.erase(f"{name} is removed")


def rename(database: Database, old: str, new: str) -> None:
    """Gives a person another name; see `Gallery.rename`.

    Args:
      database: of the gallery.
      old: the name that is there.
      new: one that is not.
    """
    old, new = clean_name(old), clean_name(new)
    with database.writing() as (connection, stamp):
        person = number(connection, old, shown=database.shown)
        if old == new:
            return
        if enrolling.find(connection, new) is not None:
            raise UserError(f"there is a {new} in {database.shown} already: merge the two")
        changed = {"name": new, "changed": stamp}
        connection.execute(sql.update(people).where(people.c.id == person).values(changed))
        database.leave_traces(connection, stamp)
    database.erase(f"{old} is now {new}")


def merge(database: Database, given: Sequence[str], into: str) -> None:
    """Makes one person of several; see `Gallery.merge`.

    Args:
      database: of the gallery.
      given: the names of those who are there.
      into: the name of all their templates.
    """
    into = clean_name(into)
    others = list(dict.fromkeys(clean_name(name) for name in given))
    with database.writing() as (connection, stamp):
        numbers = [
            number(connection, name, shown=database.shown) for name in others if name != into
        ]
        target = enrolling.find(connection, into)
        if target is None and not numbers:
            raise UserError(f"nobody is to become {into}: give the names of those who are")
        if target is None:
            target = enrolling.insert(connection, into, stamp)
        for person in numbers:
            database.remove(connection, stamp, person=person, keep=target)
    database.erase(f"{', '.join(others)} are now {into}")
