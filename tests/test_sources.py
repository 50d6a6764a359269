"""A folder of identities, and the decoding of its images."""

import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from facejax.data import decode, fingerprint, folder_source, identity_names
from facejax.errors import UserError
from tests.pictures import encode, smooth, write_folder


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(UserError) as caught:
        folder_source(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    assert ". " not in message, "more than one sentence"
    return message


def test_labels_follow_the_sorted_folders_and_records_the_sorted_files(tmp_path):
    write_folder(tmp_path, {"Zoe": 1, "Ann": 2, "Bob": 3})
    source = folder_source(tmp_path)
    expected = ["Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg"]
    expected += [f"Bob/Bob_000{i}.jpg" for i in (1, 2, 3)] + ["Zoe/Zoe_0001.jpg"]
    assert len(source) == 6
    assert source.num_classes == 3
    assert source.labels.dtype == np.int32
    np.testing.assert_array_equal(source.labels, [0, 0, 1, 1, 1, 2])
    for index, record_id in enumerate(expected):
        record = source[index]
        assert record["id"] == record_id
        assert record["label"] == source.labels[index]
        assert record["image"] == (tmp_path / record_id).read_bytes()


def test_every_image_type_and_nothing_else_is_taken(tmp_path):
    write_folder(tmp_path, {"Ann": 1, "Bob": 1})
    suffixes = (".jpeg", ".png", ".pgm", ".ppm", ".bmp", ".webp", ".JPG")
    for suffix in suffixes:
        image = smooth(16, 16)
        pixels = image[..., 0] if suffix == ".pgm" else image
        (tmp_path / "Bob" / f"x{suffix}").write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    (tmp_path / "Bob" / "notes.txt").write_text("not a face")
    (tmp_path / "Bob" / "._x.jpg").write_bytes(b"left by a file manager")
    (tmp_path / "Nobody").mkdir()
    (tmp_path / "sheet.png").write_bytes(encode(smooth(16, 16), ".png"))
    source = folder_source(tmp_path)
    assert source.num_classes == 2
    assert {record_id for record_id in source.ids if record_id.startswith("Bob")} == {
        "Bob/Bob_0001.jpg",
        *(f"Bob/x{suffix}" for suffix in suffixes),
    }
    for index in range(len(source)):
        record = source[index]
        assert decode(record["image"], 8, record["id"]).shape == (8, 8, 3)


def test_what_is_passed_over_is_counted_and_named(tmp_path):
    write_folder(tmp_path, {"Ann": 2, "Bob": 1})
    assert folder_source(tmp_path).passed_over == ()
    image = (tmp_path / "Ann" / "Ann_0001.jpg").read_bytes()
    for name in (
        *(f"Cyd/201{year}/{year}.jpg" for year in range(4)),
        "Bob/more/deeper/1.PNG",
        "Bob/more/.hidden/1.png",
        "Ann/x\n  y.heic",
        "Ann/notes.txt",
        "Ann/.DS_Store",
        "Dee/Thumbs.db",
        "stray.jpg",
        ".git/0.jpg",
        ".ipynb_checkpoints/0-checkpoint.jpg",
        "__MACOSX/Ann/._0.jpg",
        "@eaDir/Ann/0.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(image)
    (tmp_path / "Bob" / "9.jpg").mkdir()
    source = folder_source(tmp_path)
    assert source.identity_names == ("Ann", "Bob")
    assert len(source) == 3
    assert source.passed_over == (
        "5 images in sub-folders of identities (Bob/more/deeper/1.PNG, Cyd/2010/0.jpg, "
        "Cyd/2011/1.jpg ...)",
        "1 folder inside an identity, named as an image (Bob/9.jpg)",
        "2 files that cannot be read as an image (Ann/notes.txt, 'Ann/x\\n  y.heic')",
        "1 file beside the identity folders (stray.jpg)",
        "2 folders without an image (Cyd, Dee)",
        "6 hidden names (.git, .ipynb_checkpoints, @eaDir ...)",
    )


@pytest.mark.parametrize("name", ["Ann/9.jpg", "Cyd"])
def test_a_broken_link_is_named(tmp_path, name):
    write_folder(tmp_path, {"Ann": 2, "Bob": 1})
    (tmp_path / name).symlink_to("/nowhere/at/all")
    assert f"broken links (1 in all: {name})" in refusal(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / name)  # to itself
    assert f"broken links (1 in all: {name})" in refusal(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "Ann" / "8.jpg")  # to read it would wait for ever
    assert "Ann/8.jpg" in refusal(tmp_path)


def test_links_to_images_and_folders_are_followed(tmp_path):
    write_folder(tmp_path / "real", {"Ann": 2, "Bob": 1})
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "Ann").symlink_to(tmp_path / "real" / "Ann")
    (tmp_path / "faces" / "Bob").mkdir()
    (tmp_path / "faces" / "Bob" / "1.jpg").symlink_to(tmp_path / "real" / "Bob" / "Bob_0001.jpg")
    (tmp_path / "faces" / ".old").symlink_to("/nowhere")
    assert folder_source(tmp_path / "faces").labels.tolist() == [0, 0, 1]


def test_names_that_would_be_mistaken(tmp_path):
    write_folder(tmp_path / "a", {"Zoe\u0308": 1, "Bob": 1})
    assert folder_source(tmp_path / "a").num_classes == 2
    write_folder(tmp_path / "a", {"Zo\u00eb": 1})
    assert "two folders that are both called" in refusal(tmp_path / "a")
    write_folder(tmp_path / "b", {"Ann": 1, os.fsdecode(b"Zo\xeb"): 1})
    assert "'Zo\\udceb'" in refusal(tmp_path / "b")
    write_folder(tmp_path / "c", {"Ann": 1, "Bob": 1})
    (tmp_path / "c" / "Bob" / os.fsdecode(b"\xff.jpg")).touch()
    assert "is not UTF-8" in refusal(tmp_path / "c")


def test_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "faces", {"Ann": 2, "Bob": 1})
    assert folder_source("~/faces").path == tmp_path / "faces"
    assert str(tmp_path / "none") in refusal(tmp_path / "none")
    with pytest.raises(UserError, match=r"^~nobody-of-that-name/x is in a home .* set HOME"):
        folder_source("~nobody-of-that-name/x")


def test_a_folder_that_does_not_exist(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nowhere")


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(tmp_path / "file")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "Ann").mkdir()
    (tmp_path / "Ann" / "notes.txt").write_text("")
    assert "no images" in refusal(tmp_path)


def test_images_without_identity_folders(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(smooth(16, 16), ".jpg"))
    assert "no folder per identity" in refusal(tmp_path)


def test_a_single_identity(tmp_path):
    write_folder(tmp_path, {"Ann": 3})
    message = refusal(tmp_path)
    assert "only one identity" in message
    assert "Ann" in message


def test_the_fingerprint_follows_names_and_contents_and_nothing_else(tmp_path):
    write_folder(tmp_path, {"Ann": 2, "Bob": 1})
    before = folder_source(tmp_path).fingerprint()
    assert folder_source(tmp_path).fingerprint() == before

    image = tmp_path / "Ann" / "Ann_0001.jpg"
    status = image.stat()
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    assert folder_source(tmp_path).fingerprint() == before, "the content is what it was"
    content = image.read_bytes()
    image.write_bytes(bytes([*content[:-3], content[-3] ^ 1, *content[-2:]]))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = folder_source(tmp_path).fingerprint()  # of the size and the time it had
    image.write_bytes(content + b"\0")
    longer = folder_source(tmp_path).fingerprint()
    image.rename(tmp_path / "Ann" / "Ann_0009.jpg")
    renamed = folder_source(tmp_path).fingerprint()
    assert len({before, changed, longer, renamed}) == 4


class Arrays:
    """A source with nothing but what every source has."""

    num_classes = 3

    def __init__(self, *images: np.ndarray):
        self.images, self.labels = images, np.arange(len(images), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"image": self.images[index], "label": int(self.labels[index])}


def test_what_a_source_does_not_offer_is_made_up_for(tmp_path):
    folder = folder_source(write_folder(tmp_path, {"Ann": 2, "Bob": 1}))
    assert identity_names(folder) == ("Ann", "Bob")
    assert fingerprint(folder) == folder.fingerprint()
    image = smooth(8, 4)
    assert identity_names(Arrays(image, image)) == ("0", "1", "2")
    assert fingerprint(Arrays(image)) == fingerprint(Arrays(image.copy()))
    others = [Arrays(image.reshape(4, 8, 3)), Arrays(image ^ 1), Arrays(image, image)]
    relabelled, renamed = Arrays(image), Arrays(image)
    relabelled.labels = np.array([1], np.int32)
    renamed.identity_names = ("Ann", "Bob", "Cyd")
    prints = {fingerprint(source) for source in (Arrays(image), *others, relabelled, renamed)}
    assert len(prints) == 6


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_decoding_gives_rgb(suffix):
    image = smooth(32, 24)
    decoded = decode(encode(image, suffix), None)
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 4  # blue and red swapped: about 50


def test_decoding_at_the_right_size_changes_nothing():
    image = smooth(16, 16)
    np.testing.assert_array_equal(decode(encode(image, ".png"), 16), image)
    np.testing.assert_array_equal(decode(image, 16), image)


def test_shrinking_averages_over_areas():
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    means = image.astype(float).reshape(12, 2, 12, 3, 3).mean(axis=(1, 3))
    assert np.abs(decode(image, 12) - means).max() <= 0.51


def test_enlarging_interpolates_linearly():
    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8)[None, :, None] * 20, (8, 8, 3))
    centres = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7) * 20
    enlarged = decode(np.ascontiguousarray(ramp), 16)
    assert np.abs(enlarged - centres[None, :, None]).max() <= 1


@pytest.mark.parametrize("damage", ["empty", "text", "truncated"])
def test_an_image_that_does_not_decode_is_named(damage):
    whole = encode(smooth(32, 32), ".jpg")
    data = {"empty": b"", "text": b"no image", "truncated": whole[: len(whole) // 2]}[damage]
    with pytest.raises(UserError, match=r"^Ann/1\.jpg does not decode as an image: .*\.$"):
        decode(data, 16, "Ann/1.jpg")


def test_opencv_says_nothing_of_its_own_about_a_damaged_image():
    code = (
        "from facejax.data import decode\n"
        "from facejax.errors import UserError\n"
        "import cv2, numpy as np\n"
        "data = cv2.imencode('.bmp', np.zeros((32, 32, 3), np.uint8))[1].tobytes()\n"
        "try: decode(data[:len(data) // 2], 16, 'x')\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_real_faces(real_faces):
    source = folder_source(real_faces / "orl")
    assert (len(source), source.num_classes) == (400, 40)
    assert np.bincount(source.labels).tolist() == [10] * 40
    record = source[57]
    image = decode(record["image"], 112, record["id"])
    assert image.shape == (112, 112, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])  # the photographs are grey
