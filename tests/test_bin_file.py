"""Verification sets in pickles: read as pickle reads them, and nothing is ever run."""

import codecs
import os
import pickle  # noqa: TID251  # what is read is written with it
import struct

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.evaluation import plain_pickle
from facejax.evaluation.bin_file import from_bin, read_bin, write_bin
from tests.pictures import JPEGS, encode

IMAGES = [bytes(range(256)), b"", b"\xff\xd8\xff", b"x" * 300]


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "set.bin"
        path.write_bytes(content)
        return path

    return write


def arrays():
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, 9, np.uint8),
        rng.normal(size=(2, 3)).astype(">f4"),
        np.asfortranarray(rng.normal(size=(2, 3))),
        np.array([True, False]),
        np.zeros((0, 2), np.int64),
    ]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_read_as_pickle_reads_it(protocol, written):
    same = [True, False]
    for images in (IMAGES, tuple(IMAGES), [np.frombuffer(one, np.uint8) for one in IMAGES]):
        for kinds in (same, np.array(same), [1, 0], [np.bool_(True), np.bool_(False)]):
            path = written(pickle.dumps((images, kinds), protocol=protocol))
            found, is_same = read_bin(path)
            assert found == IMAGES
            assert is_same.dtype == bool
            assert is_same.tolist() == same
    plain = [None, 3, -(2**70), 1.5, "grün", b"", [1, (2,)], (), np.float32(2.5), "x" * 300]
    found = plain_pickle.load(written(pickle.dumps(plain, protocol=protocol)))
    assert found == plain
    for wanted in arrays():
        (found,) = plain_pickle.load(written(pickle.dumps([wanted], protocol=protocol)))
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_files_of_python_2(protocol, written):
    """Written by hand: its str is bytes, its bool is I01 in protocols 0 and 1."""
    jpeg = JPEGS["baseline"] if "baseline" in JPEGS else next(iter(JPEGS.values()))
    if protocol:
        text = b"".join(b"T" + struct.pack("<i", len(one)) + one for one in (jpeg, b"y'\n"))
    else:
        escaped = [codecs.escape_encode(one)[0] for one in (jpeg, b"y'\n")]
        text = b"".join(b"S'" + one + b"'\np%d\n" % number for number, one in enumerate(escaped))
    true = b"\x88" if protocol == 2 else b"I01\n"
    start = b"\x80\x02" if protocol == 2 else b""
    content = start + b"(" + b"(" + text + b"l" + b"(" + true + b"l" + b"t."
    assert pickle.loads(content, encoding="bytes") == ([jpeg, b"y'\n"], [True])
    assert read_bin(written(content))[0] == [jpeg, b"y'\n"]


class Calls:
    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Calls(os.system, "touch {}"), r"(posix|nt)\.system"),
        (Calls(eval, "open('{}', 'w')"), r"(__builtin__|builtins)\.eval"),
        (([Calls(Calls, Calls(os.system, "touch {}"))], [True]), r"test_bin_file\.Calls|system"),
        (Calls(bytearray, state={"x": Calls(os.system, "touch {}")}), "bytearray"),
        (Calls(codecs.encode, "x", "rot13"), "encode with the encoding 'rot13'"),
        ({"a": 1}, "the operation"),
        ({1, 2}, r"the operation|(__builtin__|builtins)\.set"),
        (np.array([os.system], object), "array of|system"),
        (1j, "complex"),
    ],
)
def test_whatever_else_is_refused_by_name_and_not_run(content, named, protocol, written, tmp_path):
    target = tmp_path / "touched"
    data = pickle.dumps(content, protocol=protocol).replace(b"{}", b"%b")
    # The lengths in the file fit a name as long as the braces.
    with pytest.raises(UserError, match=rf"^.*set\.bin asks for .*({named}).*, and is not read"):
        plain_pickle.load(written(data.replace(b"%b", b"xy")))
    assert not target.exists()
    assert not os.path.exists("xy")


def test_a_name_is_shown_in_one_line(written):
    with pytest.raises(UserError, match=r"asks for os\.sys\?tem, and") as caught:
        plain_pickle.load(written(b"\x80\x04\x8c\x02os\x8c\x07sys\ntem\x93."))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        b".",
        b"0.",
        b"2.",
        b"\x85.",
        b"a.",
        b"e.",
        b"R.",
        b"b.",
        b"\x93.",
        b"h\x05.",
        b"g7\n.",
        b"]" * 10,
        b"\x8e" + struct.pack("<Q", 10 * 2**30) + b"x.",  # 10 GB of bytes
        b"B" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x96" + struct.pack("<Q", 10 * 2**30) + b"x.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
        b"]r\xff\xff\xff\xff0j\xff\xff\xff\x7f.",  # the memo at 2**32 - 1
        b"I" + b"9" * 100_000 + b"\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"F1e\n.",
        b"S'\\x'\n.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I9\ntS'b'\ntR.",
        pickle.dumps((IMAGES, [True, False]))[:-30],
    ],
)
def test_a_damaged_file_is_one_sentence(content, written):
    with pytest.raises(UserError, match=r"set\.bin (is empty|is damaged|asks for)"):
        plain_pickle.load(written(content))


def test_copies_of_copies_are_bounded(written):
    """A text of 1 MB, made bytes a thousand times over by ten bytes each."""
    again = b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R"
    text = b"X" + struct.pack("<I", 2**20) + b"x" * 2**20 + b"q\x00"
    content = b"\x80\x02(" + text + b"c_codecs\nencode\nq\x01" + again * 1000 + b"l."
    with pytest.raises(UserError, match="many times its own size"):
        plain_pickle.load(written(content))


def test_lists_in_lists_cost_what_they_take_in_the_file(written):
    steps = (b"q%bh%b\x86" % (bytes([i % 250]), bytes([i % 250])) for i in range(9999))
    deep = b"(l" + b"".join(steps)
    assert isinstance(plain_pickle.load(written(deep + b".")), tuple)


def test_lists_that_are_shared_are_not_unrolled(written):
    """30 lists of the list before: as many as 10**30 numbers, if they were counted one by one."""
    nested = [True] * 10
    for _ in range(30):
        nested = [nested] * 10
    with pytest.raises(UserError, match="true and false"):
        read_bin(written(pickle.dumps(([b"x"] * 20, nested))))
    shared = [b"x" * 1000] * 10_000
    path = written(pickle.dumps((shared, [True] * 5000)))
    assert path.stat().st_size < 100_000
    assert read_bin(path)[0] == shared
    whole = plain_pickle.load(written(pickle.dumps([[1] * 10_000] * 10_000)))
    assert len({id(one) for one in whole}) == 1


@pytest.mark.parametrize(
    "use",
    [
        b"0\x8c\x08builtinsh\x00\x93.",  # the name of a global
        b"0h\x00\x8c\x04eval\x93.",  # its module
        b"0c_codecs\nencode\n\x8c\x01xh\x00\x86R.",  # the name of an encoding
        b"0cnumpy\ndtype\nh\x00\x85R.",  # the name of a type
    ],
)
def test_a_list_in_place_of_a_name_is_not_unrolled(use, written):
    for steps in (b"(h\x00h\x00h\x00lq\x00" * 60, b"(h\x00lq\x00" * 9_999):  # bomb, tower
        with pytest.raises(UserError, match="something that is called a list, and is not"):
            plain_pickle.load(written(b"\x80\x04]q\x00" + steps + use))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([1, 2, 3], r"not \(images, same\)"),
        ((b"x", [True]), "no list"),
        (([b"x", "y"], [True]), "image 1 is a str"),
        (([b"x", np.zeros((2, 2), np.uint8)], [True]), r"image 1 is an array of uint8 \(2, 2\)"),
        (([b"x", b"y"], [2]), "true and false"),
        (([b"x", b"y"], ["yes"]), "true and false"),
        (([b"x", b"y"], [[True], []]), "true and false"),
        (([b"x", b"y"], [True, False]), "2 images for 2 pairs"),
        (([], []), "0 images for 0 pairs|true and false"),
    ],
)
def test_what_is_no_set_is_said(content, why, written):
    with pytest.raises(UserError, match=f"no verification set.*{why}"):
        read_bin(written(pickle.dumps(content)))


def test_a_set_that_is_written_is_read(tmp_path):
    images = [encode(np.full((8, 8, 3), 40 * i, np.uint8), ".png") for i in range(4)]
    write_bin(tmp_path / "a.bin", images, [True, False])
    with open(tmp_path / "a.bin", "rb") as file:
        assert pickle.load(file, encoding="bytes") == (images, [True, False])
    protocol = from_bin(tmp_path / "a.bin", image_size=8)
    assert protocol.indices.tolist() == [[0, 1], [2, 3]]
    assert protocol.same.tolist() == [True, False]
    assert [int(image[0, 0, 0, 0]) for image in protocol.images] == [0, 40, 80, 120]
    with pytest.raises(ValueError, match="two for each"):
        write_bin(tmp_path / "b.bin", images[:3], [True, False])
