"""IJB's lists: read as Python's own split reads them, and refused by line where they are wrong."""

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.evaluation import line_blocks, template_files

IDS = np.array([1, 5, 7, 11065])


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "list.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def lines_of(pairs, ids, separator=" ", end="\n"):
    return "".join(separator.join(map(str, (ids[a], ids[b], y))) + end for a, b, y in pairs)


def random_pairs(count, ids, seed=0):
    """Pairs of which the first template is odd and the second even, so that none is two things."""
    rng = np.random.default_rng(seed)
    first = 2 * rng.integers(0, len(ids) // 2, count) + 1
    second = 2 * rng.integers(0, len(ids) // 2, count)
    return [(a, b, (a + b) % 3 // 2) for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("ids", [np.arange(1, 3001), np.arange(9, 9 + 3000) * 10**14])
@pytest.mark.parametrize(
    ("separator", "end"), [(" ", "\n"), (" ", "\r\n"), ("\t", "\n"), ("  ", "\n\n")]
)
def test_pairs_are_read_as_they_were_written(ids, separator, end, written, monkeypatch):
    monkeypatch.setattr(line_blocks, "BLOCK", 10_000)  # many blocks, cut within lines
    wanted = random_pairs(3000, ids)
    text = lines_of(wanted, ids, separator, end)
    for content in (text, text.rstrip(), "\ufeff" + text):
        pairs, same = template_files.read_template_pairs(written(content), ids)
        assert pairs.dtype == np.int32
        assert same.dtype == bool
        np.testing.assert_array_equal(pairs, [pair[:2] for pair in wanted])
        np.testing.assert_array_equal(same, [pair[2] == 1 for pair in wanted])


def test_numbers_of_all_lengths_are_read(written):
    rng = np.random.default_rng(0)
    values = np.array([[int(10 ** rng.uniform(0, 17.9)) for _ in range(3)] for _ in range(500)])
    values[:3] = [[0, 0, 0], [999_999_999_999_999_999, 0, 1], [7, 10**17, 9]]
    text = "".join(f"{a} {b} {c}\n" for a, b, c in values).encode()
    np.testing.assert_array_equal(line_blocks.integers(text, 3), values)


NOT_PLAIN = ["1 2\n", "1 2 3 4\n", "1  2 3\n", " 1 2 3\n", "1 2 3 \n", "1\n2\n3\n", "1 2 -3\n"]
NOT_PLAIN += ["a b c\n", "1 2 \x003\n", "1 2 3\n\n", "1 2 1234567890123456789\n", "\n"]


@pytest.mark.parametrize("text", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_slow_reader(text):
    assert line_blocks.integers(text.encode(), 3) is None
    assert line_blocks.integers(b"1 2 3\n" + text.encode(), 3) is None


GOOD = "1 5 1\n7 5 0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 5 1\n1 5\n", "line 2: '1 5' is malformed; write `template template 0|1`"),
        (GOOD + "1 5 2\n", "line 3: '1 5 2' is malformed"),
        (GOOD + "1 5 -1\n", "line 3: '1 5 -1' is malformed"),
        (GOOD + "1 5 x\n", "line 3: '1 5 x' is malformed"),
        (GOOD + "1 5 1 1\n", "line 3: '1 5 1 1' is malformed"),
        (GOOD + "\n\n1 1234567890123456789 1\n", "line 5: '1 1234567890123456789 1' is malformed"),
        (GOOD + "7 12 0\n", "line 3: template 12 has no image"),
        (GOOD + "7 99999999 0\n", "line 3: template 99999999 has no image"),
        (GOOD + "\n7  12 0\n", "line 4: template 12 has no image"),
        (GOOD + "7 7 1\n", "line 3: template 7 is paired with itself"),
        (
            GOOD + "5 1 0\n",
            "line 3: templates 5 and 1 are different people, but the same .* line 1",
        ),
        ("7 5 0\n\n1 7 0\n\n1 5 1\n5  7 1\n", "line 1: templates 7 and 5 are .* in line 6; drop"),
        ("1 5 1\n", "has 1 same and 0 different pairs"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"1 5 1\n\xff\xfe 5 0\n", "line 2: .* is malformed"),
        (b"\x00" * 200_000, "line 1: it is longer than 65536 bytes"),
    ],
)
def test_wrong_pairs_are_refused_by_line(text, said, written):
    with pytest.raises(UserError, match=said) as caught:
        template_files.read_template_pairs(written(text), IDS)
    assert len(str(caught.value)) < 400


def test_lines_are_counted_over_blocks(written, monkeypatch):
    monkeypatch.setattr(line_blocks, "BLOCK", 64)
    text = GOOD * 50 + "\n1 12 1\n" + GOOD * 50
    with pytest.raises(UserError, match="line 102: template 12"):
        template_files.read_template_pairs(written(text), IDS)


def test_what_can_not_be_opened_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        template_files.read_template_pairs(tmp_path / "none", IDS)
    with pytest.raises(UserError, match="can't be read"):
        template_files.read_template_pairs(tmp_path, IDS)


IMAGE = "1 2.5 3 4 5 6 7 8 9 10 0.9"


def test_images_and_members(written):
    listed = template_files.read_images(written(f"b.jpg {IMAGE}\na.jpg {IMAGE[:-1]}5\r\n"))
    assert listed.names == ["b.jpg", "a.jpg"]
    assert listed.landmarks.shape == (2, 5, 2)
    assert listed.landmarks[0].tolist() == [[1, 2.5], [3, 4], [5, 6], [7, 8], [9, 10]]
    np.testing.assert_array_equal(listed.detection_scores, np.float32([0.9, 0.5]))
    text = "a.jpg 7 3\nb.jpg 5 3\nb.jpg\t7  4\n"
    members = template_files.read_members(written(text), listed.names)
    assert members.images.tolist() == [1, 0, 0]
    assert members.template_ids.tolist() == [5, 7]
    assert members.templates.tolist() == [1, 0, 1]
    assert members.media.tolist() == [3, 3, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.jpg 1 2\n", "line 1: 'a.jpg 1 2' is malformed; write `image x y"),
        (f"a.jpg {IMAGE} 3\n", "line 1: .* is malformed"),
        (f"a.jpg {IMAGE}\n\nb.jpg {IMAGE[:-1]}x\n", "line 3: .* is malformed"),
        (f"a.jpg {IMAGE}\nb.jpg nan{IMAGE[1:]}\n", "line 2: .* is malformed; write eleven finite"),
        (f"a.jpg {IMAGE}\nb.jpg 1e39{IMAGE[1:]}\n", "line 2: .* is malformed; write eleven finite"),
        (
            f"a.jpg {IMAGE}\nb.jpg {IMAGE}\na.jpg {IMAGE}\n",
            "line 3: the image 'a.jpg' is in line 1",
        ),
        (b"\xff " + IMAGE.encode(), "line 1 is not UTF-8"),
        ("\n", "is empty"),
    ],
)
def test_wrong_images_are_refused_by_line(text, said, written):
    with pytest.raises(UserError, match=said):
        template_files.read_images(written(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.jpg 1\n", "line 1: 'a.jpg 1' is malformed; write `image template media`"),
        ("a.jpg 1 -2\n", "line 1: 'a.jpg 1 -2' is malformed"),
        ("a.jpg 1 2\nc.jpg 1 2\n", "line 2: the image 'c.jpg' is not among the images"),
        (
            "a.jpg 1 2\nb.jpg 1 2\n\na.jpg 1 3\n",
            "line 4: the image 'a.jpg' is in template 1 already",
        ),
        ("a.jpg 1 2\n", "no line for the image 'b.jpg'"),
        ("", "is empty"),
    ],
)
def test_wrong_members_are_refused_by_line(text, said, written):
    with pytest.raises(UserError, match=said):
        template_files.read_members(written(text), ["a.jpg", "b.jpg"])


def test_lists_of_templates(written):
    text = 'SUBJECT_ID, template_id ,FILENAME\n9,7,"a,b.jpg"\n8, 5 ,x\n9,7,c\n\n'
    listed = template_files.read_template_list(written(text), IDS)
    assert listed.templates.tolist() == [2, 1]
    assert listed.subjects.tolist() == [9, 8]


HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2,a\n", "line 1: '1,2,a' is no header"),
        (HEADER, "is empty"),
        (HEADER + "1,2,a\n5\n", "line 3: '5' is malformed"),
        (HEADER + "1,2,a\n5,x,a\n", "line 3: '5,x,a' is malformed"),
        (HEADER + "1,2,a\n1,3,a\n", "line 3: template 1 is of subject 3, but of 2 in line 2"),
        (HEADER + "1,2,a\n12,3,a\n", "line 3: template 12 has no image"),
        (HEADER.encode() + b"1,2,a\n1,2,\xff\n", "line 3 is not UTF-8"),
        (HEADER + '1,2,"' + "x" * 200_000 + "\n", "longer than 65536|is no CSV"),
    ],
)
def test_wrong_lists_are_refused_by_line(text, said, written):
    with pytest.raises(UserError, match=said):
        template_files.read_template_list(written(text), IDS)
