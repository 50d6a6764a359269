"""A copy of a folder of identities with faults in it, and what they are; for audit.py."""

import dataclasses
import json
import pathlib
import shutil

import cv2
import numpy as np

COPIES = ("same file", "same pixels", "jpeg", "smaller", "larger", "brighter", "cropped", "mirror")
SPLIT = "~2"  # behind the name of the second half of an identity


@dataclasses.dataclass
class Planted:
    """What is wrong with the copy; images as "identity/file".

    Attributes:
      person: of each image that was moved or copied, the identity that it is of.
      swapped: the images whose labels were swapped.
      copies: of each kind, (original, copy).
      splits: (identity, its second half).
      unreadable, tiny, not_square, flat: images of that kind.
    """

    person: dict[str, str] = dataclasses.field(default_factory=dict)
    swapped: list[str] = dataclasses.field(default_factory=list)
    copies: dict[str, list[tuple[str, str]]] = dataclasses.field(default_factory=dict)
    splits: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    unreadable: list[str] = dataclasses.field(default_factory=list)
    tiny: list[str] = dataclasses.field(default_factory=list)
    not_square: list[str] = dataclasses.field(default_factory=list)
    flat: list[str] = dataclasses.field(default_factory=list)


def plant(
    source: pathlib.Path,
    target: pathlib.Path,
    *,
    seed: int,
    swapped: float = 0.05,
    copies: int = 60,
    others: int = 10,
) -> Planted:
    """Copies a folder with faults.

    Args:
      source: `source/<identity>/<image>`, each file's name of one identity only.
      target: made here; `target.json` beside it says what was planted.
      seed: of what is drawn.
      swapped: the share of all images whose labels are swapped, in pairs.
      copies: of each kind in `COPIES`; half of them lie in another identity.
      others: unreadable, tiny, not square and flat images, of each.
    """
    random = np.random.default_rng(seed)
    images = [f"{path.parent.name}/{path.name}" for path in sorted(source.glob("*/*.jpg"))]
    identity = np.array([image.partition("/")[0] for image in images])
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    planted = Planted()
    order = random.permutation(len(images)).tolist()

    count = int(swapped * len(images) / 2)
    while count:
        one = order.pop()
        other = next(number for number in order if identity[number] != identity[one])
        order.remove(other)
        for here, there in ((one, other), (other, one)):
            moved = f"{identity[there]}/{images[here].partition('/')[2]}"
            shutil.copyfile(source / images[here], target / moved)
            (target / images[here]).unlink()
            planted.swapped.append(moved)
            planted.person[moved] = str(identity[here])
        count -= 1

    for kind in COPIES:
        planted.copies[kind] = []
        for number in range(copies):
            original = images[order.pop()]
            person, _, name = original.partition("/")
            where = str(random.choice(identity[identity != person])) if number % 2 else person
            suffix = "jpg" if kind in ("same file", "jpeg", "brighter", "cropped") else "png"
            copy = f"{where}/{name[:-4]}-{kind.replace(' ', '-')}.{suffix}"
            _copy(source / original, target / copy, kind, random)
            planted.copies[kind].append((original, copy))
            planted.person[copy] = person

    left = np.unique(identity[order], return_counts=True)
    for person in random.choice(left[0][left[1] >= 6], 2, replace=False).tolist():
        second = f"{person}{SPLIT}"
        inside = sorted((target / person).iterdir())
        (target / second).mkdir()
        for path in inside[len(inside) // 2 :]:
            path.rename(target / second / path.name)
            moved = f"{second}/{path.name}"
            before = f"{person}/{path.name}"
            planted.person[moved] = planted.person.pop(before, person)
            planted.swapped = [moved if each == before else each for each in planted.swapped]
            for pairs in planted.copies.values():
                pairs[:] = [
                    (moved if one == before else one, moved if copy == before else copy)
                    for one, copy in pairs
                ]
        planted.splits.append((person, second))

    split = {name for names in planted.splits for name in names}
    order = [number for number in order if identity[number] not in split]
    for kind in ("unreadable", "tiny", "not_square", "flat"):
        for _ in range(others):
            image = images[order.pop()]
            _spoil(target / image, kind)
            getattr(planted, kind).append(image)
    said = json.dumps(dataclasses.asdict(planted), indent=1)
    target.with_suffix(".json").write_text(said)
    return planted


def read(target: pathlib.Path) -> Planted:
    """What `plant` said."""
    return Planted(**json.loads(target.with_suffix(".json").read_text()))


def _copy(
    source: pathlib.Path, target: pathlib.Path, kind: str, random: np.random.Generator
) -> None:
    if kind == "same file":
        shutil.copyfile(source, target)
        return
    pixels = _pixels(source)
    side = len(pixels)
    if kind == "smaller":
        pixels = cv2.resize(pixels, (side * 5 // 8,) * 2, interpolation=cv2.INTER_AREA)
    elif kind == "larger":
        pixels = cv2.resize(pixels, (side * 3 // 2,) * 2)
    elif kind == "brighter":
        pixels = np.clip(1.2 * pixels.astype(np.float32) + 10, 0, 255).astype(np.uint8)
    elif kind == "cropped":
        off = round(0.03 * side)
        top, left = random.integers(0, off + 1, 2)
        pixels = pixels[top : side - off + top, left : side - off + left]
    elif kind == "mirror":
        pixels = pixels[:, ::-1]
    quality = [cv2.IMWRITE_JPEG_QUALITY, 60] if kind == "jpeg" else []
    cv2.imwrite(str(target), pixels, quality)


def _spoil(path: pathlib.Path, kind: str) -> None:
    if kind == "unreadable":
        path.write_bytes(path.read_bytes()[:1000])
        return
    pixels = _pixels(path)
    if kind == "tiny":
        pixels = cv2.resize(pixels, (20, 20), interpolation=cv2.INTER_AREA)
    elif kind == "not_square":
        pixels = pixels[:, 10:-10]
    else:
        pixels = np.full_like(pixels, 40)
    cv2.imwrite(str(path), pixels)


def _pixels(path: pathlib.Path) -> np.ndarray:
    """uint8 BGR [H, W, 3], as OpenCV writes it."""
    pixels = cv2.imread(str(path))
    assert pixels is not None, path
    return pixels
