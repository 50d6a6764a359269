"""List files, in the forms that people have, and what leads out of the folder."""

import contextlib
import os
import pathlib
import pickle  # noqa: TID251 (what grain hands to its workers)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import facejax.data.read_at
from facejax.data import folder_source, list_source
from facejax.errors import UserError
from tests.pictures import assert_one_sentence, encode, smooth, write_folder


@pytest.fixture
def faces(tmp_path) -> pathlib.Path:
    return write_folder(tmp_path / "faces", {"Ann": 2, "Bob": 1, "Cyd Lee": 2})


def write(faces: pathlib.Path, text: str | bytes) -> pathlib.Path:
    path = faces / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: pathlib.Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        list_source(path, **options)
    assert_one_sentence(str(caught.value))
    return str(caught.value)


FORMS = {
    "spaces": "{path} {name}\n",
    "tab": "{path}\t{name}\n",
    "many spaces, and a line of Windows": "  {path}   {label} \r\n",
    "index, label, path": "{index}\t{label}.000000\t{path}\n",
    "index, labels, path": "{index}\t{label}\t7\t8.5\t{path}\n",
    "aligned, path, label": "1\t{path}\t{label}\n",
    "path, label, landmarks": "{path}\t{name}\t1.5\t2.5\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_the_folder_gives(faces, form):
    folder = folder_source(faces)
    lines = [
        FORMS[form].format(index=i, path=path, label=label, name=path.split("/")[0].split()[0])
        for i, (path, label) in enumerate(zip(folder.ids, folder.labels, strict=True))
    ]
    source = list_source(write(faces, "".join(lines)))
    assert [source[i] for i in range(len(source))] == [folder[i] for i in range(len(folder))]
    assert source.labels.dtype == np.int32
    np.testing.assert_array_equal(source.labels, folder.labels)
    named = "{name}" in FORMS[form]
    assert source.identity_names == (("Ann", "Bob", "Cyd") if named else ("0", "1", "2"))


def test_comments_blank_lines_and_where_the_last_line_ends(faces):
    text = "\ufeff# mine\n\nBob/Bob_0001.jpg 12\n  \n # Bob/Bob_0001.jpg 3\nAnn/Ann_0001.jpg 7"
    source = list_source(write(faces, text))
    assert [source[i]["id"] for i in range(2)] == ["Bob/Bob_0001.jpg", "Ann/Ann_0001.jpg"]
    assert source.labels.tolist() == [1, 0]
    assert source.identity_names == ("7", "12")
    assert list_source(write(faces, "\ufeffBob/Bob_0001.jpg a"))[0]["id"] == "Bob/Bob_0001.jpg"


def test_numbers_come_before_names_and_in_their_order(faces):
    labels = ["zoe", "10", "9", "Ann"]
    text = "".join(f"Ann/Ann_0001.jpg {label}\n" for label in labels)
    source = list_source(write(faces, text))
    assert source.identity_names == ("9", "10", "Ann", "zoe")
    assert source.labels.tolist() == [3, 1, 0, 2]


def test_a_list_elsewhere(faces, tmp_path):
    (tmp_path / "list.tsv").write_text("Ann/Ann_0002.jpg\tx\n")
    source = list_source(tmp_path / "list.tsv", folder=faces)
    assert source[0]["image"] == (faces / "Ann" / "Ann_0002.jpg").read_bytes()
    assert "line 1" in refusal(tmp_path / "list.tsv")


def test_nothing_leads_out_of_the_folder(faces, tmp_path):
    outside = tmp_path / "secret.jpg"
    outside.write_bytes(encode(smooth(8, 8), ".jpg"))
    (tmp_path / "faces2").mkdir()
    (tmp_path / "faces2" / "1.jpg").write_bytes(b"x")  # begins as the folder's name does
    (faces / "link").symlink_to(tmp_path / "faces2")
    for name in (
        "../secret.jpg",
        "Ann/../../secret.jpg",
        str(outside),
        "../faces2/1.jpg",
        "/etc/x.jpg",
        "//etc/x.jpg",
        "link/../../secret.jpg",
    ):
        message = refusal(write(faces, f"Ann/Ann_0001.jpg 1\n{name} 2\n"))
        assert "line 2" in message
        assert "leads out of the folder" in message
    inside = faces / "Ann" / "Ann_0001.jpg"
    text = f"{inside} 1\nBob/../Ann/Ann_0001.jpg 1\nlink/../Ann/Ann_0001.jpg 1\nlink/1.jpg 2\n"
    source = list_source(write(faces, text))
    assert [source[i]["image"] for i in range(4)] == [inside.read_bytes()] * 3 + [b"x"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Ann/Ann_0001.jpg", "has no label"),
        ("Ann/Ann_0001.jpg\t", "has no label"),
        ("Ann/Ann_0009.jpg 1", "leads to no file"),
        ("Ann/\x00.jpg 1", "leads to no file"),
        ("Ann/pipe.jpg 1", "leads to no file"),
        ("Ann/folder.jpg 1", "leads to no file"),
        ("notes.txt 1", "names no image"),
        ("1\t2\t3", "names no image"),
        (b"Ann/\xff.jpg 1", "is not UTF-8"),
        ("x" * 70_000 + ".jpg 1", "is too long"),
        ("x" * 60_000 + ".jpg 1", "leads to no file"),
        ("../\x1b[31m.jpg 1", r"'../\x1b[31m.jpg'"),
    ],
)
def test_a_line_that_does_not_do_is_named(faces, line, message):
    os.mkfifo(faces / "Ann" / "pipe.jpg")
    (faces / "Ann" / "folder.jpg").mkdir()
    line = line if isinstance(line, bytes) else line.encode()
    found = refusal(write(faces, b"\n# first\nAnn/Ann_0001.jpg 1\n" + line + b"\n"))
    assert found.startswith(f"line 4 of {faces / 'list.txt'} ")
    assert message in found


def test_lists_without_images_and_lists_that_are_none(faces, tmp_path):
    assert "has no images" in refusal(write(faces, "# nothing\n"))
    assert "none.txt cannot be read (No such file" in refusal(tmp_path / "none.txt")
    assert "line 1" in refusal(faces / "Ann" / "Ann_0001.jpg")
    assert "cannot be read" in refusal(faces)


def test_what_changes_afterwards_is_noticed(faces, monkeypatch):
    monkeypatch.setattr(facejax.data.read_at, "CHECK_EVERY", 0)
    path = write(faces, "Ann/Ann_0001.jpg 1\nBob/Bob_0001.jpg 2\n")
    source = list_source(path)
    image = faces / "Ann" / "Ann_0001.jpg"
    before = source[0]
    assert pickle.loads(pickle.dumps(source))[0] == before
    content, status = image.read_bytes(), image.stat()
    image.write_bytes(content[::-1])
    os.utime(image, ns=(0, status.st_mtime_ns + 1))
    with pytest.raises(UserError, match=r"Ann_0001\.jpg changed since .*list\.txt was") as caught:
        source[0]
    assert_one_sentence(str(caught.value))
    image.unlink()
    with pytest.raises(UserError, match="changed since"):
        source[0]
    image.write_bytes(content)
    os.utime(image, ns=(0, status.st_mtime_ns))
    assert source[0] == before
    path.write_text("Bob/Bob_0001.jpg 1\nBob/Bob_0001.jpg 2\n ")
    with pytest.raises(UserError, match=r"list\.txt changed while"):
        source[1]


def test_memory_is_16_bytes_an_image(faces):
    source = list_source(write(faces, "Ann/Ann_0001.jpg 1\nBob/Bob_0001.jpg 2\n" * 50))
    arrays = [value for value in vars(source).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 16 * 100


PIECES = [
    *("Ann/Ann_0001.jpg", "Bob/Bob_0001.jpg", "..", "/", "\t", " ", "\n", "\r\n", "#", "1", "1.0"),
    *("Ann", "\0", "\ufeff", "é", "9" * 30, ".jpg", "../../etc/passwd.jpg", "x" * 600, "-1", "1e9"),
]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14), tail=st.binary(max_size=8))
def test_hostile_lists_give_only_user_errors(tmp_path, pieces, tail):
    if not (tmp_path / "faces").exists():
        write_folder(tmp_path / "faces", {"Ann": 1, "Bob": 1})
    images = {path.read_bytes() for path in (tmp_path / "faces").rglob("*.jpg")}
    path = tmp_path / "faces" / "list.txt"
    path.write_bytes("".join(pieces).encode() + tail)
    with contextlib.suppress(UserError):
        source = list_source(path)
        for number in range(len(source)):
            record = source[number]
            assert record["image"] in images
            assert record["label"] == source.labels[number] < source.num_classes
