"""RecordIO byte by byte, written from the form's description and not with facejax's writer."""

import pathlib
import struct

MAGIC = bytes.fromhex("0a23d7ce")  # 0xced7230a, the least byte first


def part(kind: int, content: bytes) -> bytes:
    word = (kind << 29) + len(content)
    out = bytearray(MAGIC)
    for shift in (0, 8, 16, 24):
        out.append(word >> shift & 255)
    out += content
    while len(out) % 4:
        out.append(0)
    return bytes(out)


def record(content: bytes) -> bytes:
    """Cut at every aligned magic number, by looking at each word in turn."""
    pieces, piece = [], b""
    for place in range(0, len(content), 4):
        word = content[place : place + 4]
        if word == MAGIC:
            pieces.append(piece)
            piece = b""
        else:
            piece += word
    pieces.append(piece)
    if len(pieces) == 1:
        return part(0, pieces[0])
    kinds = [1] + [2] * (len(pieces) - 2) + [3]
    return b"".join(part(kind, piece) for kind, piece in zip(kinds, pieces, strict=True))


def header(flag: int, label: float, key: int) -> bytes:
    return struct.pack("<I", flag) + struct.pack("<f", label) + struct.pack("<QQ", key, 0)


def image_record(label: float, key: int, image: bytes, more: list[float] | None = None) -> bytes:
    if more is None:
        return record(header(0, label, key) + image)
    labels = b"".join(struct.pack("<f", number) for number in [label, *more])
    return record(header(1 + len(more), 0.0, key) + labels + image)


def file_header(key: int, start: int, end: int) -> bytes:
    return record(header(2, 0.0, key) + struct.pack("<ff", start, end))


def write(
    folder: pathlib.Path, people: list[list[bytes]], *, more: list[float] | None = None
) -> pathlib.Path:
    """Writes train.rec, train.idx and property as InsightFace lays them out: images from number 1,
    then record 0, then one record for each identity with the range of its images."""
    folder.mkdir(parents=True, exist_ok=True)
    content, index, key, ranges = b"", "", 1, []
    for label, images in enumerate(people):
        ranges.append((key, key + len(images)))
        for image in images:
            index += f"{key}\t{len(content)}\n"
            content += image_record(label, key, image, more)
            key += 1
    index += f"0\t{len(content)}\n"
    content += file_header(0, key, key + len(people))
    for start, end in ranges:
        index += f"{key}\t{len(content)}\n"
        content += file_header(key, start, end)
        key += 1
    (folder / "train.rec").write_bytes(content)
    (folder / "train.idx").write_text(index)
    (folder / "property").write_text(f"{len(people)},112,112\n")
    return folder
