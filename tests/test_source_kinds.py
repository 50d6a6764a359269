"""The same images in every form are the same records, and so the same batches."""

import gzip
import io
import json
import pathlib
import pickle  # noqa: TID251 (what grain hands to its workers)
import tarfile
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import facejax.data.read_at
from facejax.data import (
    batches,
    build_dataset,
    build_lfw,
    folder_source,
    open_source,
    parquet_source,
    tar_source,
    tfds_source,
    write_recordio,
)
from facejax.errors import UserError
from tests.pictures import assert_one_sentence, write_folder

NAMES = ("Ann", "Bob", "Cyd")


def write_tar(path: pathlib.Path, members: list[tuple[str, bytes]], **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_parquet(path: pathlib.Path, columns: dict, metadata: dict | None = None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if metadata:
        table = table.replace_schema_metadata({b"huggingface": json.dumps(metadata)})
    pq.write_table(table, path, **options)


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> dict[str, str]:
    """What `open_source` takes, for each form of the same nine images."""
    root = tmp_path_factory.mktemp("forms")
    folder = folder_source(write_folder(root / "faces", {"Ann": 3, "Bob": 2, "Cyd": 4}))
    records = [folder[i] for i in range(len(folder))]
    lines = [f"{record['id']}\t{NAMES[record['label']]}\n" for record in records]
    (root / "faces" / "list.txt").write_text("".join(lines))
    write_recordio(folder, root / "rec", progress=False)
    build_dataset(folder, root / "dataset", progress=False)
    build_lfw(root / "faces", root / "tfds")
    split = (records[:4], records[4:])
    for number, part in enumerate(split):
        images = [{"bytes": r["image"], "path": r["id"]} for r in part]
        write_parquet(
            root / "hub" / "data" / f"train-{number}.parquet",
            {"image": images, "label": [r["label"] for r in part]},
            {"info": {"features": {"label": {"names": list(NAMES)}}}},
            row_group_size=3,
        )
        write_parquet(
            root / "plain" / f"{number}.parquet",
            {"label": [NAMES[r["label"]] for r in part], "image": [r["image"] for r in part]},
        )
        for form, label in (("cls", str.encode), ("json", lambda n: f'{{"label":"{n}"}}'.encode())):
            members = []
            for i, r in enumerate(part):
                key = f"{number}/{i:04d}"
                members += [(f"{key}.{form}", label(NAMES[r["label"]])), (f"{key}.jpg", r["image"])]
            write_tar(root / form / f"{number}.tar", members)
    return {
        "folder": str(root / "faces"),
        "list": str(root / "faces" / "list.txt"),
        "rec": str(root / "rec"),
        "dataset": str(root / "dataset"),
        "parquet, of a hub": str(root / "hub"),
        "parquet": str(root / "plain"),
        "tar, cls": str(root / "cls"),
        "tar, json": str(root / "json"),
        "tfds": f"{root / 'tfds'}|lfw:train",
    }


def opened(text: str):
    directory, _, name = text.rpartition("|")
    return tfds_source(name, directory=directory) if directory else open_source(text)


KINDS = [
    *("list", "rec", "dataset", "parquet, of a hub", "parquet", "tar, cls", "tar, json", "tfds"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_records_and_batches_to_the_bit(forms, kind):
    folder, source = opened(forms["folder"]), opened(forms[kind])
    assert len(source) == 9
    assert source.identity_names == NAMES
    assert source.labels.dtype == np.int32
    np.testing.assert_array_equal(source.labels, folder.labels)
    copy = pickle.loads(pickle.dumps(source))
    for index in (*range(9), 4, 0):
        for record in (source[index], copy[index]):
            assert record["image"] == folder[index]["image"]
            assert record["label"] == folder[index]["label"]
            assert isinstance(record["id"], str)
    options = {"batch_size": 4, "image_size": 16, "seed": 5, "threads": 2}
    taken = zip(batches(folder, **options), batches(source, **options), strict=False)
    for one, other in islice(taken, 5):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_tfds_by_name(forms):
    directory, _, name = forms["tfds"].partition("|")
    for missing in ("lfw:test", "no_such_dataset"):
        with pytest.raises(UserError, match="cannot be read") as caught:
            tfds_source(missing, directory=directory)
        assert "\n" not in str(caught.value)
    assert len(tfds_source("lfw:train[:4]", directory=directory)) == 4
    assert tfds_source(name, directory=directory)[0]["id"] == "lfw:train:0"


TARS = [
    ([("1.jpg", b"x")], "has no label beside 1.jpg"),
    ([("1.jpg", b"x"), ("2.cls", b"1"), ("2.jpg", b"x")], "has no label beside 1.jpg"),
    ([("1.jpg", b"x"), ("1.cls", b" ")], "1.cls of .* has no label"),
    ([("1.jpg", b"x"), ("1.json", b"[")], "1.json of .* has no label"),
    ([("1.jpg", b"x"), ("1.json", b"[1]")], "1.json of .* has no label"),
    ([("1.jpg", b"x"), ("1.json", b'{"label": 1.5}')], "1.json of .* has no label"),
    ([("1.jpg", b"x"), ("1.png", b"x"), ("1.cls", b"1")], "two images of the key 1"),
    ([("1.cls", b"1" * (1 << 21)), ("1.jpg", b"x")], "too long for a label"),
    ([("1.txt", b"1")], "has no images"),
]


@pytest.mark.parametrize(("members", "message"), TARS)
def test_tars_that_do_not_do(tmp_path, members, message):
    write_tar(tmp_path / "0.tar", members)
    with pytest.raises(UserError, match=message) as caught:
        tar_source(tmp_path)
    assert_one_sentence(str(caught.value))


def test_damaged_and_changed_tars(tmp_path, monkeypatch):
    monkeypatch.setattr(facejax.data.read_at, "CHECK_EVERY", 0)
    members = [("1.cls", b"7"), ("1.jpg", b"x" * 3000), ("2.json", b"{}"), ("3.cls", b"1")]
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        write_tar(tmp_path / "0.tar", [*members, ("é" * 150 + ".jpg", b"y")][:4], format=form)
        source = tar_source(tmp_path / "0.tar")
        assert source.identity_names == ("7",)
        assert source[0]["image"] == b"x" * 3000
        assert source.passed_over == ("1 key without an image",)
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole + b"more")
    with pytest.raises(UserError, match="changed while"):
        source[0]
    (tmp_path / "0.tar").write_bytes(whole[:2600])
    with pytest.raises(UserError, match=r"is cut off at byte|no tar file"):
        tar_source(tmp_path)
    write_tar(tmp_path / "1.tar", members)
    (tmp_path / "0.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(UserError, match="unpack it if it is compressed"):
        tar_source(tmp_path)


def test_parquet_that_does_not_do(tmp_path):
    cases = [
        ({"picture": [b"x"], "label": [1]}, "has the columns picture, label: name them"),
        ({"image": [b"x"], "label": [1.5]}, "has the label 1.5"),
        ({"image": [b"x"], "label": [None]}, "has the label None"),
    ]
    for columns, message in cases:
        write_parquet(tmp_path / "0.parquet", columns)
        with pytest.raises(UserError, match=message) as caught:
            parquet_source(tmp_path)
        assert_one_sentence(str(caught.value))
    write_parquet(tmp_path / "0.parquet", {"image": [{"path": "a.jpg"}], "label": [1]})
    with pytest.raises(UserError, match=r"a\.jpg of .* has no image"):
        parquet_source(tmp_path)[0]
    whole = (tmp_path / "0.parquet").read_bytes()
    (tmp_path / "0.parquet").write_bytes(whole[:-20])
    with pytest.raises(UserError, match="cannot be read") as caught:
        parquet_source(tmp_path)
    assert "\n" not in str(caught.value)
    for name, other, read in (
        (b"a.jpg", b"\xff.jpg", lambda: parquet_source(tmp_path)[0]),
        (b"label", b"labe\xff", lambda: parquet_source(tmp_path)),
        (b"label", b"labe\n", lambda: parquet_source(tmp_path)),
    ):
        assert name in whole
        (tmp_path / "0.parquet").write_bytes(whole.replace(name, other))
        with pytest.raises(UserError, match=r"cannot be read|has the columns") as caught:
            read()
        assert "\n" not in str(caught.value)
    (tmp_path / "0.parquet").unlink()
    with pytest.raises(UserError, match=r"has no \.parquet file"):
        parquet_source(tmp_path)
