"""`facejax gallery`: who is in a gallery, and what becomes of them."""

import argparse

from facejax.commands import arguments
from facejax.commands.outcome import Outcome, as_text, printable
from facejax.table import format_table


def add(commands: arguments.Commands) -> None:
    """Describes the command and its actions.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser("gallery", help="who is enrolled, and what becomes of them")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, about: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=about)
        arguments.add_gallery(made)
        arguments.add_json(made)
        return made

    listing = action("list", "everybody's name, or one person's faces")
    listing.add_argument("name", metavar="NAME", nargs="?", help="whose faces to list")
    listing.set_defaults(run=_list)
    removing = action("remove", "takes people out; nothing of them stays in the file")
    removing.add_argument("names", metavar="NAME", nargs="+")
    removing.set_defaults(run=_remove)
    renaming = action("rename", "gives a person another name")
    renaming.add_argument("old", metavar="OLD")
    renaming.add_argument("new", metavar="NEW")
    renaming.set_defaults(run=_rename)
    merging = action("merge", "makes one person of several")
    merging.add_argument("names", metavar="NAME", nargs="+", help="of those who are there")
    merging.add_argument("--into", metavar="NAME", required=True, help="one of them, or new")
    merging.set_defaults(run=_merge)
    exporting = action("export", "everybody into one file, which NumPy reads")
    exporting.add_argument("file", metavar="FILE.npz")
    exporting.set_defaults(run=_export)
    importing = action("import", "everybody of an exported file, into a gallery that may be new")
    importing.add_argument("file", metavar="FILE.npz")
    importing.set_defaults(run=_import)


def _list(given: argparse.Namespace) -> Outcome:
    from facejax.recognition import Gallery

    with Gallery(given.gallery, create=False) as gallery:
        if given.name is not None:
            faces = gallery.sources(given.name)
            records = [{"photo": source, "number": number} for source, number in faces]
            if given.json:
                return Outcome(as_text({"name": given.name, "faces": records}))
            rows = [[printable(source) or "-", str(number)] for source, number in faces]
            return Outcome(format_table(["photo", "face"], rows))
        names, card = gallery.names(), gallery.card
        if not given.json:
            # A name a line, for other programs; nobody is an empty text.
            return Outcome("\n".join(names))
        about = {
            "gallery": str(gallery),
            "recognizer": card and {"name": card["name"], "sha256": card["sha256"]},
            "dtype": gallery.dtype,
            "thresholds": [one.to_json() for one in gallery.thresholds],
            "names": names,
        }
    return Outcome(as_text(about))


def _remove(given: argparse.Namespace) -> Outcome:
    from facejax.recognition import Gallery

    with Gallery(given.gallery, create=False) as gallery:
        for name in given.names:
            gallery.sources(name)  # nobody is removed where one is not there
        for name in dict.fromkeys(given.names):
            gallery.remove(name)
    return _done(given, {"removed": given.names}, f"removed: {', '.join(given.names)}")


def _rename(given: argparse.Namespace) -> Outcome:
    from facejax.recognition import Gallery

    with Gallery(given.gallery, create=False) as gallery:
        gallery.rename(given.old, given.new)
    return _done(given, {"old": given.old, "new": given.new}, f"{given.old} is now {given.new}")


def _merge(given: argparse.Namespace) -> Outcome:
    from facejax.recognition import Gallery

    with Gallery(given.gallery, create=False) as gallery:
        gallery.merge(given.names, given.into)
        count = len(gallery.sources(given.into))
    said = f"{', '.join(given.names)}: now {given.into}, faces: {count}"
    return _done(given, {"merged": given.names, "into": given.into, "faces": count}, said)


def _export(given: argparse.Namespace) -> Outcome:
    from facejax.recognition import Gallery

    with Gallery(given.gallery, create=False) as gallery:
        gallery.export(given.file)
        count = len(gallery)
    return _done(given, {"file": given.file, "people": count}, f"{given.file}: people: {count}")


def _import(given: argparse.Namespace) -> Outcome:
    from facejax.recognition import Gallery
    from facejax.recognition.gallery_files import read

    read(given.file)  # before a gallery is made for what is none
    with Gallery(given.gallery) as gallery:
        added = gallery.import_(given.file)
        count = len(gallery)
    said = f"{gallery}: faces added: {added}, people: {count}"
    return _done(given, {"gallery": str(gallery), "added": added, "people": count}, said)


def _done(given: argparse.Namespace, record: dict[str, object], said: str) -> Outcome:
    return Outcome(as_text(record) if given.json else printable(said))
