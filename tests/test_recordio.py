"""RecordIO against files that are written byte by byte, whole and hostile."""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pickle  # noqa: TID251 (what grain hands to its workers)
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import facejax.data.read_at
from facejax.data import decode, folder_source
from facejax.data.recordio import recordio_source
from facejax.data.recordio_writer import framed, write_recordio
from facejax.errors import UserError
from tests import recordio_files as by_hand
from tests.pictures import Arrays, assert_one_sentence, encode, smooth, write_folder

PEOPLE = [[b"ann 1", b"ann number 2"], [b"bob"], [b"", b"cyd 2", b"cyd 3!!"]]


def records(source) -> list[tuple[bytes, int]]:
    return [(source[i]["image"], source[i]["label"]) for i in range(len(source))]


def expected(people) -> list[tuple[bytes, int]]:
    return [(image, label) for label, images in enumerate(people) for image in images if image]


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        records(recordio_source(path))
    assert_one_sentence(str(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("more", [None, [0.0], [1.5, 2.5, 3.5]])
@pytest.mark.parametrize("index", [True, False])
def test_what_the_form_says_is_read(tmp_path, more, index):
    folder = by_hand.write(tmp_path, PEOPLE, more=more)
    if not index:
        (folder / "train.idx").unlink()
    for path in (folder, folder / "train.rec"):
        source = recordio_source(path)
        assert records(source) == expected(PEOPLE)
        assert source.labels.dtype == np.int32
        assert source.labels.tolist() == [label for _, label in expected(PEOPLE)]
        assert source.identity_names == ("0", "1", "2")
        # with labels and no image, a record is a header of the file
        left = () if more else ("1 record without an image",)
        assert source.passed_over == left
        assert source[0]["id"] == "train.rec:1"


MAGIC = by_hand.MAGIC
HOLDING_MAGIC = [
    MAGIC,
    MAGIC + MAGIC,
    b"abcd" + MAGIC + b"ef",
    b"abc" + MAGIC,  # not at a multiple of four: it stays
    b"abcd" + MAGIC + MAGIC + b"efgh" + MAGIC,
    MAGIC[:2] + MAGIC + b"x",
    bytes(100) + MAGIC,
]


@pytest.mark.parametrize("content", HOLDING_MAGIC)
def test_parts_are_cut_as_the_form_says(content):
    assert framed(content) == by_hand.record(content)


def test_parts_are_joined(tmp_path):
    folder = by_hand.write(tmp_path, [[image] for image in HOLDING_MAGIC])
    assert records(recordio_source(folder)) == expected([[image] for image in HOLDING_MAGIC])
    (folder / "train.idx").unlink()
    assert records(recordio_source(folder)) == expected([[image] for image in HOLDING_MAGIC])


@pytest.mark.parametrize("place", [4, 8, 16])
def test_a_header_that_holds_the_magic_number(tmp_path, place):
    """The record is cut inside its header: at the label, in the number, in the second number."""
    content = bytearray(by_hand.header(0, 1.0, 5) + b"image")
    content[place : place + 4] = MAGIC
    (tmp_path / "train.rec").write_bytes(by_hand.record(bytes(content)))
    (tmp_path / "train.idx").write_text("1\t0\n")
    if place == 4:
        assert "has the label -1.8" in refusal(tmp_path)  # that is what these bytes are
    else:
        assert recordio_source(tmp_path)[0]["image"] == b"image"


def test_the_index_says_which_records_count_and_how_they_are_numbered(tmp_path):
    folder = by_hand.write(tmp_path, PEOPLE)
    lines = (folder / "train.idx").read_text().splitlines()
    kept = [lines[4], lines[0], "", lines[2]]
    (folder / "train.idx").write_text("\n".join(kept))  # no end of line
    source = recordio_source(folder)
    assert records(source) == [(b"ann 1", 0), (b"bob", 1), (b"cyd 2", 2)]
    assert [source[i]["id"] for i in range(3)] == ["train.rec:1", "train.rec:3", "train.rec:5"]
    (folder / "train.idx").write_text("\n".join([lines[4], lines[0]]))
    source = recordio_source(folder)
    assert records(source) == [(b"ann 1", 0), (b"cyd 2", 1)]  # the label that is left moves up
    assert source.identity_names == ("0", "2")
    assert source.passed_over == ("3 identities are promised, 2 have images",)


def test_names_beside_the_file(tmp_path):
    folder = by_hand.write(tmp_path, PEOPLE)
    (folder / "identities.json").write_text(json.dumps(["Ann", "Bob", "Cyd", "Dee"]))
    assert recordio_source(folder).identity_names == ("Ann", "Bob", "Cyd")
    for text in ("[", '["Ann", "Ann", "Cyd"]', '["Ann"]', "7", "[1, 2, 3]"):
        (folder / "identities.json").write_text(text)
        assert "not a list with another name for each label" in refusal(folder)


def test_the_writer_writes_the_form(tmp_path):
    faces = folder_source(write_folder(tmp_path / "faces", {"Ann": 3, "Bob": 2, "Cyd": 4}))
    people = [[] for _ in range(3)]
    for index in range(len(faces)):
        people[faces[index]["label"]].append(faces[index]["image"])
    wanted = by_hand.write(tmp_path / "wanted", people)
    written = write_recordio(faces, tmp_path / "written", progress=False).parent
    for name in ("train.rec", "train.idx"):
        assert (written / name).read_bytes() == (wanted / name).read_bytes()
    assert (written / "property").read_text() == "3,16,16\n"
    source = recordio_source(written)
    assert source.identity_names == ("Ann", "Bob", "Cyd")
    assert records(source) == expected(people)


def test_arrays_are_written_without_loss(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), np.uint8)
    write_recordio(Arrays(images, [1, 0, 1, 0], 2), tmp_path, progress=False)
    source = recordio_source(tmp_path)
    stored = np.stack([decode(source[i]["image"], None) for i in range(4)])
    np.testing.assert_array_equal(stored, images[[1, 3, 0, 2]])  # by identity
    with pytest.raises(ValueError, match="empty"):
        write_recordio(Arrays(images[:0], [], 2), tmp_path)


def read_some(source) -> list:
    return records(source)


def test_threads_forks_and_pickles_read_the_same(tmp_path):
    people = [[bytes([label, number]) * 50 for number in range(20)] for label in range(5)]
    source = recordio_source(by_hand.write(tmp_path, people))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.__getitem__, range(100))) == [source[i] for i in range(100)]
    assert records(pickle.loads(pickle.dumps(source))) == expected(people)
    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(
        target=lambda: os.write(writer, str(records(source) == expected(people)).encode())
    )
    process.start()
    process.join(20)
    assert os.read(reader, 10) == b"True"
    os.close(reader)
    os.close(writer)


def test_memory_is_16_bytes_a_record(tmp_path):
    count = 2000
    source = recordio_source(by_hand.write(tmp_path, [[b"x"] * (count // 2)] * 2))
    arrays = [value for value in vars(source).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 16 * count


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(facejax.data.read_at, "CHECK_EVERY", 0)
    folder = by_hand.write(tmp_path, PEOPLE)
    source = recordio_source(folder)
    copy = pickle.dumps(source)
    status = (folder / "train.rec").stat()
    with (folder / "train.rec").open("ab") as file:
        file.write(b"more")
    for use in (lambda: source[0], lambda: pickle.loads(copy)):
        with pytest.raises(UserError, match=r"train\.rec changed while it was read") as caught:
            use()
    assert_one_sentence(str(caught.value))
    os.truncate(folder / "train.rec", status.st_size)
    os.utime(folder / "train.rec", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert source[0]["image"] == b"ann 1"
    (folder / "train.rec").rename(folder / "old.rec")  # one that is replaced is read as it was
    (folder / "train.rec").write_bytes(b"new")
    assert source[1]["image"] == b"ann number 2"


def word(kind: int, length: int) -> bytes:
    return MAGIC + struct.pack("<I", kind << 29 | length)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no images"),
        (b"PK\3\4 no record at all", "at byte 0 is no record"),
        (MAGIC + b"\1", "at byte 0 is cut off"),
        (word(0, 100) + bytes(50), "at byte 0 is cut off: it has 100 bytes"),
        (word(0, (1 << 29) - 1) + bytes(40), "is cut off: it has 536870911 bytes"),
        (word(0, 8) + bytes(8), "has 8 bytes, fewer than a header"),
        (word(0, 24) + struct.pack("<I", 2**32 - 1) + bytes(20), "fewer than its 4294967295 lab"),
        (word(5, 24) + bytes(24), "at byte 0 is no record"),
        (word(2, 24) + bytes(24), "is a record without its beginning"),
        (word(1, 24) + bytes(24), "is a record without its end"),
        (word(1, 24) + bytes(24) + word(0, 24) + bytes(24), "is a record without its end"),
        (by_hand.image_record(0.5, 1, b"x"), "has the label 0.5, not a whole number"),
        (by_hand.image_record(-1, 1, b"x"), "has the label -1, not"),
        (by_hand.image_record(float("nan"), 1, b"x"), "has the label nan, not"),
        (by_hand.image_record(0, 1 << 40, b"x"), "has the number 1099511627776"),
        (by_hand.image_record(0, 1, b"abc") + b"tail", "at byte 36 is cut off"),
        (by_hand.image_record(0, 1, b"abc") + b"tail tail", "at byte 36 is no record"),
        (by_hand.file_header(0, 1, 1), "has no images"),
    ],
)
def test_a_broken_file_is_refused_at_its_byte(tmp_path, content, message):
    (tmp_path / "train.rec").write_bytes(content)
    found = refusal(tmp_path)
    assert message in found
    assert "train.rec" in found


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("1\t0\n2\tx\n", r"train.idx is no index at byte 4"),
        ("1 0\n", "is no index at byte 0"),
        ("1\t0\n" + "9" * 100, "is no index at byte 4"),
        ("1\t-4\n", "is no index"),
        ("1\t3\n", "at byte 3 is no record"),
        ("1\t99999999999999999999\n", "is behind the end"),
        ("1\t1000000\n", "is behind the end"),
        ("1\t0\n2\t0\n" * 9, "leads to some records twice"),
        ("", "has no images"),
    ],
)
def test_a_broken_index_is_refused(tmp_path, index, message):
    folder = by_hand.write(tmp_path, PEOPLE)
    (folder / "train.idx").write_text(index)
    assert message in refusal(folder)


def test_a_folder_must_have_one_file(tmp_path):
    assert "has none: name the file" in refusal(tmp_path)
    for name in "ab":
        by_hand.write(tmp_path, PEOPLE)
        (tmp_path / "train.rec").rename(tmp_path / f"{name}.rec")
    assert "has a.rec, b.rec: name the file" in refusal(tmp_path)
    assert "none.rec cannot be read (No such file" in refusal(tmp_path / "none.rec")


WHOLE = b"".join(
    by_hand.image_record(number % 3, number, encode(smooth(8, 8, seed=number), ".png") + MAGIC)
    for number in range(4)
)


@given(
    flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), max_size=6),
    end=st.integers(0, len(WHOLE)),
    index=st.none() | st.binary(max_size=60) | st.text("0123456789\t\n", max_size=60),
)
def test_hostile_files_give_only_user_errors(tmp_path, flips, end, index):
    content = bytearray(WHOLE)
    for place, bits in flips:
        content[place] ^= bits
    (tmp_path / "train.rec").write_bytes(content[:end])
    (tmp_path / "train.idx").unlink(missing_ok=True)
    if index is not None:
        data = index if isinstance(index, bytes) else index.encode()
        (tmp_path / "train.idx").write_bytes(data)
    with contextlib.suppress(UserError):
        source = recordio_source(tmp_path)
        for number in range(len(source)):
            assert source[number]["image"]
            assert 0 <= source[number]["label"] < source.num_classes


@given(
    contents=st.lists(
        st.lists(st.sampled_from([MAGIC, b"abcd", b"a", b""]), max_size=6), min_size=1
    )
)
def test_any_content_comes_back(tmp_path, contents):
    people = [[b"x" + b"".join(pieces)] for pieces in contents]
    (tmp_path / "train.idx").unlink(missing_ok=True)
    (tmp_path / "train.rec").write_bytes(
        b"".join(
            framed(by_hand.header(0, label, label) + image) for label, (image,) in enumerate(people)
        )
    )
    assert records(recordio_source(tmp_path)) == expected(people)
