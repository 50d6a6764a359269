"""HTML pages in one file: no scripts, no links, nothing to fetch; pictures are inside.

The functions give pieces of a page, and `page` puts them together. Whatever text they are given is
escaped.
"""

import base64
import html
from collections.abc import Sequence
from typing import NewType

Html = NewType("Html", str)  # markup, as against text that has yet to be escaped

# The policy holds a browser to what is promised above, should a piece ever break it.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; }}
h1, h2 {{ font-weight: 600; line-height: 1.2; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.3rem 0.8rem; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ padding-left: 0; text-align: left; }}
th {{ border-bottom: 1px solid #888; font-weight: 600; }}
tbody tr + tr td {{ border-top: 1px solid #e5e5e5; }}
figure {{ margin: 2rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption {{ color: #555; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def page(title: str, *parts: Html) -> Html:
    """A whole page.

    Args:
      title: of the window, and the heading at the top.
      parts: what comes under it, made by the functions of this file.

    Returns:
      The text of an HTML file, to be written as UTF-8.
    """
    return Html(_PAGE.format(title=html.escape(title), body="\n".join(parts)))


def heading(text: str) -> Html:
    """A heading inside a page."""
    return Html(f"<h2>{html.escape(text)}</h2>")


def paragraph(text: str) -> Html:
    """A paragraph of plain text."""
    return Html(f"<p>{html.escape(text)}</p>")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table: the first column to the left, the others to the right.

    Args:
      header: the column names.
      rows: as many strings each.

    Raises:
      ValueError: a row has another number of cells than the header.
    """
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"every row must have {len(header)} cells, like the header")
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return Html(
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def picture(png: bytes, caption: str) -> Html:
    """A picture and the words under it, which stand for it where it can't be seen.

    Args:
      png: the content of a PNG file.
      caption: what it shows.
    """
    data = base64.b64encode(png).decode()
    words = html.escape(caption)
    return Html(
        f'<figure><img src="data:image/png;base64,{data}" alt="{words}">\n'
        f"<figcaption>{words}</figcaption></figure>"
    )
