"""Pages that need nothing but themselves, with all text escaped."""

import base64
import html.parser
import re
import socket

import numpy as np
import pytest

from facejax import page
from tests.browser import visit
from tests.pictures import encode

HOSTILE = '</td><script src="https://example.org/x.js">alert(1)</script> & "quoted" \'text\''
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Reader(html.parser.HTMLParser):
    """What a browser makes of a page: tags, their attributes and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def whole():
    return page.page(
        HOSTILE,
        page.heading(HOSTILE),
        page.paragraph(HOSTILE),
        page.table([HOSTILE, "n"], [[HOSTILE, "1"], ["b", "2"]]),
        page.picture(PNG, HOSTILE),
    )


def test_text_stays_text_wherever_it_stands(whole):
    read = Reader(whole)
    assert read.text.count(HOSTILE) == 7  # title, h1, h2, paragraph, header, cell, caption
    (alt,) = [attributes["alt"] for tag, attributes in read.tags if tag == "img"]
    assert alt == HOSTILE


def test_a_page_fetches_nothing_and_runs_nothing(whole):
    read = Reader(whole)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "link", "a", "iframe", "object"})
    for _, attributes in read.tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
    style = whole[whole.index("<style>") : whole.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    policies = [a["content"] for t, a in read.tags if t == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_a_picture_is_inside_the_page(whole):
    (source,) = [attributes["src"] for tag, attributes in Reader(whole).tags if tag == "img"]
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PNG


def test_a_table_has_its_cells_in_order():
    read = Reader(page.table(["", "a"], [["x", "1"], ["y", "2"]]))
    assert [text for text in read.text if text.strip()] == ["a", "x", "1", "y", "2"]
    assert [tag for tag, _ in read.tags if tag in ("th", "tr", "td")] == (
        ["tr", "th", "th", "tr", "td", "td", "tr", "td", "td"]
    )
    with pytest.raises(ValueError, match="2 cells"):
        page.table(["a", "b"], [["1"]])


def test_a_jpeg_is_told_from_a_png_and_from_what_is_neither():
    jpeg = encode(np.zeros((2, 2, 3), np.uint8), ".jpg")
    ((_, attributes),) = Reader(page.image(jpeg, HOSTILE)).tags
    assert base64.b64decode(attributes["src"].removeprefix("data:image/jpeg;base64,")) == jpeg
    assert attributes["alt"] == HOSTILE
    with pytest.raises(ValueError, match="PNG or a JPEG"):
        page.image(b"GIF89a", "moving")


def test_grids_and_links_lead_within():
    item = page.item(page.link(HOSTILE, page.plain(HOSTILE)), page.quiet(HOSTILE), anchor=HOSTILE)
    pieces = [
        page.facts([(HOSTILE, "1")]),
        page.heading(HOSTILE, level=3, anchor="here"),
        page.line(page.joined([page.plain(HOSTILE), page.plain("b")], between=" & ")),
        *page.grid([item], large=True),
    ]
    read = Reader(page.page("", *pieces))
    assert read.text.count(HOSTILE) == 4  # of a fact, the heading, the link and what is quiet
    assert f"{HOSTILE} & b" in read.text
    attributes = [given for _, given in read.tags]
    assert [given["href"] for given in attributes if "href" in given] == [f"#{HOSTILE}"]
    assert [given["id"] for given in attributes if "id" in given] == ["here", HOSTILE]


def test_a_page_is_written_as_it_is_made(tmp_path):
    path = tmp_path / "new" / "page.html"

    def parts(count):
        for number in range(count):
            (partial,) = path.parent.iterdir() if number else [path]
            assert number == 0 or partial.stat().st_size > (number - 1) * 100_000
            yield page.paragraph(f"{number:100000}")

    page.write(path, HOSTILE, parts(4))
    assert path.read_text() == page.page(
        HOSTILE, *map(page.paragraph, [f"{n:100000}" for n in range(4)])
    )
    assert page.is_page(path)
    before = path.read_bytes()

    def failing():
        yield page.paragraph("no")
        raise KeyError("half way")

    with pytest.raises(KeyError):
        page.write(path, "", failing())
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["page.html"]
    page.write(path, "\udcff", [])  # of a file's name that is no UTF-8
    assert "<h1>\\udcff</h1>" in path.read_text()
    path.write_text("<!DOCTYPE html><title>of somebody</title>")
    assert not page.is_page(path)


def test_a_browser_tells_a_page_that_fetches(tmp_path):
    """What the tests of our pages rely on: a request is seen, and so is a broken picture."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"http://127.0.0.1:{server.getsockname()[1]}/x.png"  # nobody, in a moment
    path = tmp_path / "page.html"
    path.write_text(
        f'<title>fetches</title><img src="{there}"><img src="data:image/png;base64,AAAA">'
        f'<img src="data:image/png;base64,{base64.b64encode(PNG).decode()}">'
        '<div style="width: 5000px">wide</div>'
    )
    seen = visit(path, tmp_path / "profile")
    assert seen.requests == [there]
    assert seen.pictures == [(0, 0), (0, 0), (1, 1)]
    assert (seen.title, seen.text) == ("fetches", "wide")
    assert seen.overflow > 3000
