"""HTML pages in one file: no scripts, nothing to fetch; pictures are inside, links lead within.

The functions give pieces of a page, and `page` or `write` puts them together. Whatever text they
are given is escaped.
"""

import base64
import html
from collections.abc import Iterable, Iterator, Sequence
from typing import NewType

from facejax import files

Html = NewType("Html", str)  # markup, as against text that has yet to be escaped

# By these lines a page is known as one of ours.
_START = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="facejax">
"""
# The policy holds a browser to what is promised above, should a piece ever break it.
_TOP = """<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
h1, h2, h3 {{ font-weight: 600; line-height: 1.2; }}
h2 {{ margin-top: 3rem; }}
h3 {{ margin: 1.8rem 0 0.5rem; }}
a {{ color: #0057a8; text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }}
th, td {{ padding: 0.3rem 0.8rem; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ padding-left: 0; text-align: left; }}
th {{ border-bottom: 1px solid #888; font-weight: 600; }}
tbody tr + tr td {{ border-top: 1px solid #e5e5e5; }}
figure {{ margin: 2rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption {{ color: #555; }}
.grid {{ display: grid; gap: 2rem 1rem; padding: 0; list-style: none; }}
.grid li {{ min-width: 0; }}
.grid li:target {{ outline: 3px solid #0057a8; outline-offset: 6px; border-radius: 2px; }}
.grid img {{ display: block; margin-bottom: 0.4rem; border-radius: 6px; }}
.large {{ grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }}
.large img {{ max-height: 26rem; }}
.large li:target {{ grid-column: 1 / -1; }}
.large li:target img {{ max-height: none; }}
.small {{ grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: 1.2rem 1rem;
  font-size: 0.85rem; line-height: 1.35; }}
.small img {{ width: 7rem; }}
.pairs {{ grid-template-columns: repeat(auto-fill, minmax(min(100%, 10rem), 1fr));
  font-size: 0.85rem; line-height: 1.35; }}
.pairs img {{ width: 13rem; max-width: 100%; }}
.names th:nth-child(2), .names td:nth-child(2) {{ text-align: left; }}
.names td {{ white-space: pre; vertical-align: top; }}
.names th, .names td {{ padding: 0.3rem 0.5rem; }}
.names td:nth-child(-n+2) {{ white-space: normal; overflow-wrap: anywhere;
  min-width: min(7rem, 20vw); }}
.small a {{ display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3;
  overflow: hidden; }}
.facts {{ display: flex; flex-wrap: wrap; gap: 0.5rem 2.5rem; margin: 1.5rem 0; }}
.facts div {{ display: flex; flex-direction: column-reverse; }}
.facts dd {{ margin: 0; font-size: 1.8rem; font-weight: 600; line-height: 1.1; }}
.facts dt, .quiet {{ color: #555; }}
</style>
</head>
<body>
<h1>{title}</h1>
"""
_END = "</body>\n</html>\n"


def page(title: str, *parts: Html) -> Html:
    """A whole page.

    Args:
      title: of the window, and the heading at the top.
      parts: what comes under it, made by the functions of this file.

    Returns:
      The text of an HTML file, to be written as UTF-8.
    """
    return Html("".join(_pieces(title, parts)))


def write(path: files.Path, title: str, parts: Iterable[Html]) -> None:
    """Writes a whole page in place of the file that is there, piece by piece as they are made.

    So it may be larger than what fits into memory. If making a piece raises, the old file stays.

    Args:
      path: of the file.
      title: as in `page`.
      parts: as in `page`.

    Raises:
      OSError: it can't be written; the old file is as it was.
    """
    with (
        files.replacing(path) as partial,
        # What is no Unicode, as a file's name may be, is written as its number.
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.writelines(_pieces(title, parts))


def is_page(path: files.Path) -> bool:
    """Whether a file was written by `write`, or has the text of a `page`.

    Args:
      path: of the file, which must be there.

    Raises:
      OSError: it can't be read.
    """
    start = _START.encode()
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def _pieces(title: str, parts: Iterable[Html]) -> Iterator[str]:
    yield _START + _TOP.format(title=html.escape(title))
    for part in parts:
        yield part + "\n"
    yield _END


def plain(text: str) -> Html:
    """Plain text.

    Args:
      text: to be escaped.
    """
    return Html(html.escape(text))


def quiet(text: str) -> Html:
    """Plain text that stands back.

    Args:
      text: to be escaped.
    """
    return Html(f'<span class="quiet">{html.escape(text)}</span>')


def link(target: str, content: Html) -> Html:
    """A link to a place of the same page.

    Args:
      target: the `anchor` of a heading or an item.
      content: what is clicked on: text or an image.
    """
    return Html(f'<a href="#{html.escape(target)}">{content}</a>')


def joined(pieces: Iterable[Html], *, between: str = "") -> Html:
    """Pieces one after the other.

    Args:
      pieces: markup.
      between: text that stands between two of them.
    """
    return Html(html.escape(between).join(pieces))


def heading(text: str, *, level: int = 2, anchor: str | None = None) -> Html:
    """A heading inside a page.

    Args:
      text: of the heading.
      level: 2, or 3 for what stands under it.
      anchor: what a `link` calls it.
    """
    return Html(f"<h{level}{_named(anchor)}>{html.escape(text)}</h{level}>")


def paragraph(text: str) -> Html:
    """A paragraph of plain text."""
    return Html(f"<p>{html.escape(text)}</p>")


def line(content: Html) -> Html:
    """A paragraph of markup: text and links.

    Args:
      content: of the paragraph.
    """
    return Html(f"<p>{content}</p>")


def facts(values: Iterable[tuple[str, str]]) -> Html:
    """A few numbers in large type, side by side.

    Args:
      values: (what it is, the number).
    """
    each = "\n".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in values
    )
    return Html(f'<dl class="facts">\n{each}\n</dl>')


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, two_names: bool = False) -> Html:
    """A table: the first column to the left, the others to the right.

    Args:
      header: the column names.
      rows: as many strings each.
      two_names: whether the second column is to the left too. Long names of both are broken, and
        lines of the other cells stay lines.

    Raises:
      ValueError: a row has another number of cells than the header.
    """
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"every row must have {len(header)} cells, like the header")
    kind = ' class="names"' if two_names else ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return Html(
        f'<div class="wide"><table{kind}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def image(content: bytes, words: str) -> Html:
    """A picture by itself.

    Args:
      content: of a PNG or a JPEG file.
      words: that stand for it where it can't be seen.

    Raises:
      ValueError: it is neither.
    """
    kinds = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}
    kind = next((kind for start, kind in kinds.items() if content.startswith(start)), None)
    if kind is None:
        raise ValueError("a picture must be the content of a PNG or a JPEG file")
    data = base64.b64encode(content).decode()
    return Html(f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(words)}">')


def picture(content: bytes, caption: str) -> Html:
    """A picture and the words under it, which stand for it where it can't be seen.

    Args:
      content: of a PNG or a JPEG file.
      caption: what it shows.

    Raises:
      ValueError: it is neither.
    """
    words = html.escape(caption)
    return Html(f"<figure>{image(content, caption)}\n<figcaption>{words}</figcaption></figure>")


def grid(items: Iterable[Html], *, large: bool = False) -> Iterator[Html]:
    """Items side by side, in as many columns as there is room for.

    Args:
      items: of `item`; they are asked for one by one, as the pieces are.
      large: whether they are photographs, not thumbnails.

    Yields:
      The pieces.
    """
    yield from _grid(items, "large" if large else "small")


def pairs(items: Iterable[Html]) -> Iterator[Html]:
    """A `grid` of pictures that are twice as wide as high, such as two faces beside each other.

    Args:
      items: of `item`.

    Yields:
      The pieces.
    """
    yield from _grid(items, "pairs")


def item(*lines: Html, anchor: str | None = None) -> Html:
    """What stands in a grid: an image and lines of text under it.

    Args:
      lines: text, links, an `image`.
      anchor: what a `link` calls it.
    """
    return Html(f"<li{_named(anchor)}>{''.join(f'<div>{each}</div>' for each in lines)}</li>")


def _grid(items: Iterable[Html], kind: str) -> Iterator[Html]:
    yield Html(f'<ul class="grid {kind}">')
    yield from items
    yield Html("</ul>")


def _named(anchor: str | None) -> str:
    return "" if anchor is None else f' id="{html.escape(anchor)}"'
