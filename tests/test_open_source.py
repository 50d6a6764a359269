"""A path says what it leads to, and several are joined."""

import pathlib

import pytest

from facejax.data import folder_source, open_source, source_places
from facejax.errors import UserError
from facejax.training import from_config
from facejax.training.config import Config
from tests import recordio_files
from tests.pictures import assert_one_sentence, write_folder


@pytest.fixture
def faces(tmp_path) -> pathlib.Path:
    return write_folder(tmp_path / "faces", {"Ann": 2, "Bob": 1})


def kinds(path) -> list[str]:
    return [place.kind for place in source_places(path)]


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        source_places(path)
    assert_one_sentence(str(caught.value))
    return str(caught.value)


def test_a_path_recognises_itself(faces, tmp_path):
    for name, kind in (
        ("a/train.rec", "rec"),
        ("b/x.parquet", "parquet"),
        ("c/data/x.parquet", "parquet"),
        ("d/0.tar", "tar"),
        ("e/dataset_info.json", "dataset"),
        ("f/faces-1/dataset_info.json", "dataset"),
        ("g/images.npy", "dataset"),
        ("h/notes.txt", "folder"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
        assert kinds(tmp_path / name[0]) == [kind]
    for name, kind in (("l.lst", "list"), ("l.TXT", "list"), ("l.rec", "rec"), ("l", "folder")):
        assert kinds(tmp_path / name) == [kind]
    assert kinds(faces) == ["folder"]


def test_a_prefix_decides(faces, tmp_path):
    (faces / "faces.tar").touch()  # what the folder came in
    assert "with a prefix, tar:" in refusal(faces)
    assert f"or folder:{faces}" in refusal(faces)
    assert source_places(f"folder:{faces}") == (("folder", str(faces)),)
    assert source_places("tfds:lfw:train") == (("tfds", "lfw:train"),)
    assert source_places("list:anything") == (("list", "anything"),)
    assert "names nothing" in refusal("rec:")
    (tmp_path / "x.csv").touch()
    assert "as in list:" in refusal(tmp_path / "x.csv")


def test_commas(faces, tmp_path):
    assert kinds(f"{faces},rec:x, tfds:lfw:train") == ["folder", "rec", "tfds"]
    assert "a path is empty" in refusal(f"{faces},")
    assert "a path is empty" in refusal("")
    with_comma = tmp_path / "a,b"
    with_comma.mkdir()
    assert source_places(with_comma) == (("folder", str(with_comma)),)


def test_sources_are_opened_and_joined(faces, tmp_path):
    people = [[b"x", b"y"], [b"z"]]
    recordio_files.write(tmp_path / "rec", people)
    (tmp_path / "list.txt").write_text("faces/Ann/Ann_0002.jpg Ann\nfaces/Bob/Bob_0001.jpg Zoe\n")
    text = f"{faces},{tmp_path / 'rec'},{tmp_path / 'list.txt'}"
    source = open_source(text)
    assert source.identity_names == ("Ann", "Bob", "0", "1", "Ann (3)", "Zoe")
    assert source.labels.tolist() == [0, 0, 1, 2, 2, 3, 4, 5]
    image = (faces / "Ann" / "Ann_0002.jpg").read_bytes()
    assert [source[i]["image"] for i in (1, 3, 6)] == [image, b"x", image]
    source = open_source(text, join="names")
    assert source.identity_names == ("Ann", "Bob", "0", "1", "Zoe")
    assert source.labels.tolist() == [0, 0, 1, 2, 2, 3, 0, 4]


def test_sessions_inside_an_identity(faces):
    for name in ("Ann/2019/may/1.jpg", "Ann/2019/2.jpg", "Ann/.old/3.jpg", "Cyd/a/4.jpg"):
        (faces / name).parent.mkdir(parents=True, exist_ok=True)
        (faces / name).write_bytes(b"x")
    flat = folder_source(faces)
    assert flat.identity_names == ("Ann", "Bob")
    assert flat.passed_over[0].startswith("3 images in sub-folders of identities")
    nested = folder_source(faces, sessions=True)
    assert nested.ids == (
        "Ann/2019/2.jpg",
        "Ann/2019/may/1.jpg",
        "Ann/Ann_0001.jpg",
        "Ann/Ann_0002.jpg",
        "Bob/Bob_0001.jpg",
        "Cyd/a/4.jpg",
    )
    assert nested.labels.tolist() == [0, 0, 0, 0, 1, 2]
    assert nested[5]["image"] == b"x"
    assert nested.passed_over == ("1 hidden name (Ann/.old)",)
    assert len(open_source(faces, sessions=True)) == 6
    (faces / "Cyd" / "a" / "again").symlink_to(faces / "Cyd")
    with pytest.raises(UserError, match="Cyd/a/again"):
        folder_source(faces, sessions=True)


def test_training_opens_joins_and_filters(faces, tmp_path):
    recordio_files.write(tmp_path / "rec", [[b"x", b"y"], [b"z"]])
    config = Config()
    config.data.path = f"{faces},rec:{tmp_path / 'rec'}"
    config.data.cache = str(tmp_path / "cache")
    assert from_config.settled(config, ["data.join"]) == ()
    assert config.data.kind == "joined"
    assert from_config.training_source(config).labels.tolist() == [0, 0, 1, 2, 2, 3]
    config.data.minimum_images = 2
    source = from_config.training_source(config)
    assert source.identity_names == ("Ann", "0")
    assert source[0]["image"] == (faces / "Ann" / "Ann_0001.jpg").read_bytes()
    config.data.maximum_images = 1
    with pytest.raises(UserError, match=r"config\.data\.maximum_images 1 is below config\.data\.m"):
        from_config.settled(config)
    config.data.minimum_images = 0
    config.data.balance, config.data.per_identity = 1.0, 2
    with pytest.raises(UserError, match=r"config\.data\.balance is for batches without"):
        from_config.settled(config)


@pytest.mark.parametrize(("kind", "written"), [("", "rec:{}"), ("rec", "{}"), ("rec", "rec:{}")])
def test_the_kind_of_a_path_in_a_config(tmp_path, kind, written):
    folder = recordio_files.write(tmp_path / "rec", [[b"x", b"y"], [b"z"]])
    config = Config()
    config.data.kind, config.data.path = kind, written.format(folder)
    notes = from_config.settled(config, ["data.cache", "data.join", "data.damaged"])
    assert config.data.kind == "rec"
    assert len(notes) == 3
    assert len(from_config.training_source(config)) == 3
