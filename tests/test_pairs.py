"""Pair files of both formats, what is wrong in them, and pairs drawn from labels."""

import itertools
import unicodedata

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.evaluation import draw_pairs, read_pairs, resolve_images

DEV_TEST = "2\nAnn_A\t1\t2\nBob\t3\t14\nAnn_A\t1\tBob\t3\nCat\t2\tBob\t14\n"
TABLE = "a/1.png,a/2.png,1\nb/1.png,b/2.png,1\na/1.png,b/1.png,0\n\na/2.png,b/2.png,0\n"


def written(tmp_path, text):
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("separator", ["\t", " ", "   "])
def test_reads_the_development_format(tmp_path, separator):
    pairs = read_pairs(written(tmp_path, DEV_TEST.replace("\t", separator)))
    assert pairs.first == ["Ann_A/Ann_A_0001", "Bob/Bob_0003", "Ann_A/Ann_A_0001", "Cat/Cat_0002"]
    assert pairs.second == ["Ann_A/Ann_A_0002", "Bob/Bob_0014", "Bob/Bob_0003", "Bob/Bob_0014"]
    assert pairs.same.tolist() == [True, True, False, False]
    assert pairs.folds.tolist() == [0, 5, 0, 5]  # of ten, consecutive within each kind
    assert pairs.lines.tolist() == [2, 3, 4, 5]


def test_reads_view_2_with_its_sets_as_folds(tmp_path):
    lines = ["3\t2"]
    for fold in range(3):
        lines += [f"P{fold}\t{i}\t{i + 1}" for i in (1, 2)]
        lines += [f"P{fold}\t{i}\tQ{fold}\t1" for i in (1, 2)]
    pairs = read_pairs(written(tmp_path, "\n".join(lines)))
    assert pairs.folds.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert pairs.same.tolist() == [True, True, False, False] * 3


@pytest.mark.parametrize("text", [TABLE, TABLE.replace(",", "\t"), TABLE.replace(",", " , ")])
def test_reads_a_plain_table(tmp_path, text):
    pairs = read_pairs(written(tmp_path, text))
    assert pairs.first == ["a/1.png", "b/1.png", "a/1.png", "a/2.png"]
    assert pairs.second == ["a/2.png", "b/2.png", "b/1.png", "b/2.png"]
    assert pairs.same.tolist() == [True, True, False, False]
    assert pairs.lines.tolist() == [1, 2, 3, 5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["is empty", "one pair per line"]),
        (DEV_TEST.replace("Bob\t3\t14", "Bob\t3"), ["line 3", "'Bob\\t3'", "write `name i j`"]),
        (DEV_TEST.replace("Bob\t3\t14", "Bob\t3\tx"), ["line 3", "is not a pair"]),
        (DEV_TEST.replace("Bob\t3\t14", "Bob\t-3\t14"), ["line 3", "is not a pair"]),
        (DEV_TEST.replace("Bob\t3\t14", "Bob\t3\t3"), ["line 3", "Bob_0003", "with itself"]),
        (DEV_TEST.replace("Cat", "Bob"), ["line 5", "as different people", "`Bob 2 14`"]),
        (DEV_TEST.replace("2\n", "3\n", 1), ["first line", "promises 3", "2 and 2", "mend"]),
        (DEV_TEST[:-14], ["promises 2", "2 and 1", "complete file"]),
        (DEV_TEST.replace("Bob\t3\t14\n", ""), ["promises 2", "1 and 2"]),
        (DEV_TEST[2:], ["line 1", "begin an LFW file with its count"]),
        (TABLE.replace("2.png,1", "2.png,2", 1), ["line 1", "is not a pair", "path_a,path_b,0"]),
        (TABLE.replace("a/2.png,b/2.png,0", "a/2.png,b/2.png"), ["line 5", "is not a pair"]),
        (TABLE.replace("a/2.png,b/2.png,0", ",b/2.png,0"), ["line 5", "is not a pair"]),
        (TABLE.replace("a/2.png,b/2.png", "b/2.png,b/2.png"), ["line 5", "with itself"]),
        (TABLE.replace(",0", ",1"), ["4 same and 0 different", "two pairs of each kind"]),
        ("1 2\nA 1 2\nA 1 3\nA 1 B 1\nA 1 B 2\n", ["1 folds", "two folds"]),
    ],
)
def test_names_what_is_wrong(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_pairs(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    for words in said:
        assert words in message


def test_names_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="there is no pair file"):
        read_pairs(tmp_path / "none.txt")
    with pytest.raises(UserError, match="cannot be read as text"):
        read_pairs(tmp_path)
    (tmp_path / "pairs.bin").write_bytes(b"\x80\x04\x95\xff")
    with pytest.raises(UserError, match="cannot be read as text"):
        read_pairs(tmp_path / "pairs.bin")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_other_encodings_are_told_what_to_do(tmp_path, encoding):
    path = tmp_path / "pairs.txt"
    path.write_bytes(DEV_TEST.replace("Ann", "Zo\u00eb").encode(encoding))
    with pytest.raises(UserError, match=r"save it as UTF-8$"):
        read_pairs(path)
    path.write_bytes(DEV_TEST.encode(encoding))
    if encoding != "latin-1":  # without an accent it is UTF-8 as well
        with pytest.raises(UserError, match=r"save it as UTF-8$"):
            read_pairs(path)


def test_marks_and_line_ends_of_other_systems(tmp_path):
    expected = read_pairs(written(tmp_path, DEV_TEST))
    for end in (b"\r\n", b"\r"):
        content = b"\xef\xbb\xbf" + DEV_TEST.encode().replace(b"\n", end)
        (tmp_path / "pairs.txt").write_bytes(content)
        pairs = read_pairs(tmp_path / "pairs.txt")
        assert (pairs.first, pairs.second) == (expected.first, expected.second)
        assert pairs.lines.tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("separator", [",", ", ", "\t"])
def test_quoted_fields(tmp_path, separator):
    names = ['"Ray, Bob/1.png"', '"Ann ""A"" Lee/1.png"', '"c\t/1.png"', "d/it's.png"]
    pairs = [(0, 1, '"1"'), (0, 2, "1"), (0, 3, "0"), (1, 2, '"0"')]
    lines = [separator.join((names[a], names[b], same)) for a, b, same in pairs]
    read = read_pairs(written(tmp_path, "\n".join(lines)))
    plain = ["Ray, Bob/1.png", 'Ann "A" Lee/1.png', "c\t/1.png", "d/it's.png"]
    assert read.first == [plain[a] for a, _, _ in pairs]
    assert read.second == [plain[b] for _, b, _ in pairs]
    assert read.same.tolist() == [True, True, False, False]


def test_quoted_names_in_the_format_of_lfw(tmp_path):
    quoted = DEV_TEST.replace("Ann_A", '"Ann_A"')
    assert read_pairs(written(tmp_path, quoted)).first[0] == "Ann_A/Ann_A_0001"


@pytest.mark.parametrize("spelling", ["a/1.png", "./a/1.png", "a//1.png", "b/../a/1.png"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_pair_cannot_be_both_same_and_different(tmp_path, spelling, turned):
    again = ["a/2.png", spelling][:: 1 if turned else -1]
    path = written(tmp_path, TABLE + ",".join(again) + ",0\n")
    with pytest.raises(UserError, match=r"line 6: .* called different .* the same .* in line 1"):
        read_pairs(path)


@pytest.mark.parametrize("line", ["./a/1.png,a/1.png,0", "a/1.png,a/../a/1.png,1"])
def test_an_image_is_itself_however_it_is_spelt(tmp_path, line):
    with pytest.raises(UserError, match=r"line 6: .* one image, .* with itself"):
        read_pairs(written(tmp_path, TABLE + line))


def people(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_one_file_under_two_names_is_one_image(tmp_path):
    names = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]
    people(tmp_path, names)
    table = TABLE + "./a/1.png,b/2,0\nc/1.png,b/1,0\n"
    (tmp_path / "c").symlink_to("a")
    files, indices = resolve_images(read_pairs(written(tmp_path, table)), tmp_path)
    assert files == [tmp_path / name for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png")]
    assert indices[4:].tolist() == [[0, 3], [0, 2]]
    for line, said in (
        ("c/1.png,a/1,1", r"line 6: .* one image"),
        ("a/1,c/2.png,0", r"line 6: .* called different people, but the same person in line 1"),
    ):
        pairs = read_pairs(written(tmp_path, TABLE + line))
        with pytest.raises(UserError, match=said):
            resolve_images(pairs, tmp_path)


@pytest.mark.parametrize("list_form", ["NFC", "NFD"])
@pytest.mark.parametrize("folder_form", ["NFC", "NFD"])
def test_accents_in_either_unicode_form(tmp_path, list_form, folder_form):
    zoe = unicodedata.normalize(folder_form, "Zo\u00eb")
    root = people(
        tmp_path / "images", [f"{n}/{n}_000{i}.JPG" for n in (zoe, "Bob") for i in (1, 2)]
    )
    lfw = "2\nZo\u00eb 1 2\nBob 1 2\nZo\u00eb 1 Bob 1\nZo\u00eb 2 Bob 2\n"
    table = "Zo\u00eb/Zo\u00eb_0001.jpg,Zo\u00eb/Zo\u00eb_0002.JPG,1\nBob/Bob_0001,Bob/Bob_0002,1\n"
    table += (
        "Zo\u00eb/Zo\u00eb_0001.JPG,Bob/Bob_0001,0\nZo\u00eb/Zo\u00eb_0002.Jpg,Bob/Bob_0002,0\n"
    )
    for text in (lfw, table):
        pairs = read_pairs(written(tmp_path, unicodedata.normalize(list_form, text)))
        files, indices = resolve_images(pairs, root)
        assert files[:2] == [root / zoe / f"{zoe}_000{i}.JPG" for i in (1, 2)]
        assert indices.tolist() == [[0, 1], [2, 3], [0, 2], [1, 3]]


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000 + "x", "x" * 10**5])
def test_names_that_no_file_can_have(tmp_path, name):
    people(tmp_path, ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    pairs = read_pairs(written(tmp_path, TABLE + f"{name},a/1.png,0\n"))
    with pytest.raises(UserError, match=r"line 6 names the image 'x.*\.\.\.', which") as error:
        resolve_images(pairs, tmp_path)
    assert len(str(error.value)) < 600 + 2 * len(str(tmp_path))


@pytest.mark.parametrize("text", ["9" * 5000, "2\nBob 1 " + "9" * 5000, "x" * 10**6, '"x'])
def test_what_is_too_long_or_not_closed_is_named_and_shortened(tmp_path, text):
    with pytest.raises(UserError, match="is not a pair") as error:
        read_pairs(written(tmp_path, text))
    assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_the_home_in_the_paths_of_pairs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    people(tmp_path / "images", ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    written(tmp_path, TABLE)
    files, _ = resolve_images(read_pairs("~/pairs.txt"), "~/images")
    assert files[0] == tmp_path / "images" / "a" / "1.png"


def test_resolves_each_image_once(tmp_path):
    pairs = read_pairs(written(tmp_path, DEV_TEST))
    files = ["Ann_A/Ann_A_0001.jpg", "Ann_A/Ann_A_0002.png", "Bob/Bob_0003.jpg"]
    files += ["Bob/Bob_0014.pgm", "Cat/Cat_0002.jpeg"]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, indices = resolve_images(pairs, tmp_path)
    assert found == [tmp_path / name for name in files]
    assert indices.tolist() == [[0, 1], [2, 3], [0, 2], [4, 3]]

    (tmp_path / files[3]).unlink()
    with pytest.raises(UserError) as error:
        resolve_images(pairs, tmp_path)
    for words in ("'Bob/Bob_0014'", "line 3", str(pairs.path), str(tmp_path), "add the image"):
        assert words in str(error.value)
    with pytest.raises(UserError, match="there is no image folder"):
        resolve_images(pairs, tmp_path / "none")


def test_resolves_images_whatever_the_case_of_their_suffix(tmp_path):
    pairs = read_pairs(written(tmp_path, DEV_TEST))
    files = ["Ann_A/Ann_A_0001.JPG", "Ann_A/Ann_A_0002.Png", "Bob/Bob_0003.jpeg"]
    files += ["Bob/Bob_0014.PPM", "Cat/Cat_0002.webp"]
    others = ["Ann_A/Ann_A_0001.txt", "Ann_A/Ann_A_0001.PNG", "Bob/Bob_0014.npy"]
    for name in files + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert resolve_images(pairs, tmp_path)[0] == [tmp_path / name for name in files]


def test_resolves_the_paths_of_a_table(tmp_path):
    pairs = read_pairs(written(tmp_path, TABLE))
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, indices = resolve_images(pairs, tmp_path)
    assert [path.name for path in found] == ["1.png", "2.png", "1.png", "2.png"]
    assert indices.tolist() == [[0, 1], [2, 3], [0, 2], [1, 3]]


def test_reads_the_real_pairs(real_faces):
    pairs = read_pairs(real_faces / "lfw_dev" / "pairs_test.txt")
    files, indices = resolve_images(pairs, real_faces / "lfw_dev" / "test")
    assert (len(files), indices.shape, int(pairs.same.sum())) == (1549, (1000, 2), 500)
    people = np.array([file.parent.name for file in files])
    np.testing.assert_array_equal(people[indices[:, 0]] == people[indices[:, 1]], pairs.same)
    assert np.bincount(pairs.folds, weights=pairs.same).tolist() == [50] * 10


def test_drawn_pairs_are_balanced_unique_and_right():
    labels = np.random.default_rng(0).permutation(np.arange(300) // 6)
    got = draw_pairs(labels, pairs=601, seed=1)
    assert got.indices.shape == (601, 2)
    assert got.same.sum() == 300
    np.testing.assert_array_equal(labels[got.indices[:, 0]] == labels[got.indices[:, 1]], got.same)
    assert (got.indices[:, 0] != got.indices[:, 1]).all()
    assert len({frozenset(pair) for pair in got.indices.tolist()}) == 601
    assert sorted(set(got.folds.tolist())) == list(range(10))
    assert np.bincount(got.folds, weights=got.same).tolist() == [30] * 10


def test_drawn_pairs_follow_the_seed():
    labels = np.arange(60) // 4
    one, again, other = (draw_pairs(labels, pairs=40, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.indices, again.indices)
    assert (one.indices != other.indices).any()


def test_drawn_pairs_are_uniform():
    """Every pair of a small set is drawn about equally often, within 5 standard errors."""
    labels = np.array([0, 1, 0, 2, 1, 0])  # 4 same pairs, 11 different ones
    counts: dict[frozenset, int] = {}
    for seed in range(1500):
        for pair in draw_pairs(labels, pairs=4, seed=seed).indices.tolist():
            counts[frozenset(pair)] = counts.get(frozenset(pair), 0) + 1
    for a, b in itertools.combinations(range(6), 2):
        share = 2 / 4 if labels[a] == labels[b] else 2 / 11
        error = (share * (1 - share) / 1500) ** 0.5
        assert counts[frozenset((a, b))] / 1500 == pytest.approx(share, abs=5 * error)


def test_drawn_pairs_can_be_all_there_are_and_no_more():
    labels = np.array([0, 0, 0, 1, 1, 1])  # 6 same pairs, 9 different ones
    assert draw_pairs(labels, pairs=12, seed=0).same.sum() == 6
    with pytest.raises(ValueError, match="7 same pairs are wanted and 6 can be formed"):
        draw_pairs(labels, pairs=14, seed=0)
    with pytest.raises(ValueError, match="different"):
        draw_pairs(np.zeros(9, int), pairs=8, seed=0)
