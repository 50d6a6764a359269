"""Pages that need nothing but themselves, with all text escaped."""

import base64
import html.parser
import re

import pytest

from facejax import page

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
