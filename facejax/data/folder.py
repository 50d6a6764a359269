"""What is in a folder of identities, and what in it is passed over."""

import dataclasses
import os
import pathlib
import unicodedata

from facejax.data.images import IMAGE_SUFFIXES, is_hidden, is_image
from facejax.errors import UserError


@dataclasses.dataclass
class Listing:
    """The images of each identity, and the names that are passed over, by the reason."""

    images: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    nested: list[str] = dataclasses.field(default_factory=list)
    folders_like_images: list[str] = dataclasses.field(default_factory=list)
    other_files: list[str] = dataclasses.field(default_factory=list)
    beside: list[str] = dataclasses.field(default_factory=list)
    without_images: list[str] = dataclasses.field(default_factory=list)
    hidden: list[str] = dataclasses.field(default_factory=list)
    broken: list[str] = dataclasses.field(default_factory=list)

    def passed_over(self) -> tuple[str, ...]:
        """A clause for each reason for which anything was passed over, with the first names."""
        reasons = (
            (self.nested, "image", " in sub-folders of identities"),
            (self.folders_like_images, "folder", " inside an identity, named as an image"),
            (self.other_files, "file", " that cannot be read as an image"),
            (self.beside, "file", " beside the identity folders"),
            (self.without_images, "folder", " without an image"),
            (self.hidden, "hidden name", ""),
        )
        return tuple(
            f"{counted(len(names), noun)}{where} ({few(names)})"
            for names, noun, where in reasons
            if names
        )


def list_folder(path: pathlib.Path, *, sessions: bool = False) -> Listing:
    """Lists `path/<identity>/<image>`; identities and images in sorted order.

    Args:
      path: the folder that holds one folder for each identity.
      sessions: whether images in folders inside an identity's are among its images.

    Raises:
      UserError: a folder cannot be read, a link is broken, an image is no file, a name is not
        UTF-8, or two folders have one name in different Unicode forms.
    """
    listing = Listing()
    for entry in _entries(path):
        if is_hidden(entry.name):
            listing.hidden.append(entry.name)
        elif _is_folder(entry):
            _list_identity(listing, path, entry.name, sessions=sessions)
        elif entry.is_symlink() and not _is_file(entry):
            listing.broken.append(entry.name)  # an identity, perhaps: the labels would move
        else:
            listing.beside.append(entry.name)
    if listing.broken:
        raise UserError(
            f"{path} has names that lead to no file and no folder, such as broken links "
            f"({len(listing.broken)} in all: {few(listing.broken)}): mend or remove them."
        )
    _check_names(path, listing)
    return listing


def _list_identity(listing: Listing, path: pathlib.Path, identity: str, *, sessions: bool) -> None:
    images = _images_in(listing, path, identity, sessions=sessions)
    if images:
        listing.images[identity] = [name.removeprefix(f"{identity}/") for name in images]
    else:
        listing.without_images.append(identity)


def _images_in(
    listing: Listing,
    path: pathlib.Path,
    folder: str,
    *,
    sessions: bool,
    within: tuple[str, ...] = (),
) -> list[str]:
    """The images of a folder; it and they are given relative to `path`."""
    images = []
    within = (*within, os.path.realpath(path / folder))
    for entry in _entries(path / folder):
        name = f"{folder}/{entry.name}"
        if is_hidden(entry.name):
            listing.hidden.append(name)
        elif _is_folder(entry):
            if is_image(entry.name):
                listing.folders_like_images.append(name)
            if not sessions:
                listing.nested += _images_below(path, name)
            elif os.path.realpath(path / name) in within:
                listing.broken.append(name)  # a link to where it is itself
            else:
                images += _images_in(listing, path, name, sessions=True, within=within)
        elif not is_image(entry.name):
            listing.other_files.append(name)
        elif _is_file(entry):
            images.append(name)
        else:
            listing.broken.append(name)
    return images


def _images_below(path: pathlib.Path, folder: str) -> list[str]:
    """The images anywhere in a folder, which is given relative to `path`, as they are."""
    found = []
    for inside, folders, names in os.walk(path / folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        where = os.path.relpath(inside, path)
        found += [f"{where}/{name}" for name in sorted(names) if is_image(name)]
    return found


def _entries(folder: pathlib.Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name."""
    remedy = "give a folder that holds one folder per identity."
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        raise UserError(f"{folder} does not exist: {remedy}") from None
    except NotADirectoryError:
        raise UserError(f"{folder} is a file: {remedy}") from None
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be read ({error.strerror}): make it readable, or move it "
            "out of the way."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or through a locked folder
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _check_names(path: pathlib.Path, listing: Listing) -> None:
    seen: dict[str, str] = {}
    for identity, images in listing.images.items():
        for name in (identity, *images):
            try:
                name.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"the name {name!a} in {path} is not UTF-8: rename the file or folder."
                ) from None
        other = seen.setdefault(unicodedata.normalize("NFC", identity), identity)
        if other != identity:
            raise UserError(
                f"{path} has two folders that are both called {identity}, in different Unicode "
                "forms: merge them, or rename one."
            )


def refuse_what_cannot_be_learned(path: pathlib.Path, listing: Listing) -> None:
    """Refuses a folder without at least two identities.

    Args:
      path: the folder.
      listing: what is in it.

    Raises:
      UserError: there are fewer; it says why.
    """
    if any(map(is_image, listing.beside)) and not listing.images:
        raise UserError(
            f"{path} holds images but no folder per identity: move each person's images into a "
            "folder of their own there."
        )
    if not listing.images:
        raise UserError(
            f"{path} has no images: put them in one folder per identity, as {path}/<Name>/<image> "
            f"({', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)})."
        )
    if len(listing.images) == 1:
        raise UserError(
            f"{path} has only one identity ({next(iter(listing.images))}): add the folder of at "
            "least one more person."
        )


def counted(count: int, noun: str) -> str:
    """A number and a noun: "1 image", "2 images".

    Args:
      count: how many.
      noun: in the singular, with a regular plural.
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def few(names: list[str]) -> str:
    """The first three names; what would break the line is escaped.

    Args:
      names: at least one.
    """
    first = [name if name.isprintable() else ascii(name) for name in names[:3]]
    return ", ".join(first) + (" ..." if len(names) > 3 else "")
