"""What all pictures have in common: colors, names, and how they are saved."""

import functools
from pathlib import Path

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from facejax import files

SAME, DIFFERENT, GRID = "#1f6f8b", "#d1603d", "#dddddd"
LINES = ("#1f6f8b", "#d1603d", "#6b8e23", "#7b5ea7", "#8c6d46", "#555555")
_DASHES = ("-", "--", ":", "-.")
_LETTERS = 32  # of a name in a picture


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as a PNG, whole or not at all.

    Args:
      figure: made without pyplot, so that nothing is left open.
      path: of the PNG; its folder is made where it is missing.
    """
    FigureCanvasAgg(figure)
    with files.replacing(path) as partial:
        figure.savefig(partial, dpi=120)


def bare(axes: Axes) -> None:
    """Leaves out the frame's upper and right sides, and lays a faint grid under the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def line(number: int) -> tuple[str, str]:
    """The color and the dashes of a model.

    Args:
      number: of the model, from 0.
    """
    return LINES[number % len(LINES)], _DASHES[number // len(LINES) % len(_DASHES)]


def name(text: str, number: int) -> str:
    """A name as a picture can have it: short, of letters that its font has, and none a command.

    Args:
      text: the name.
      number: of the model, from 0; a name that had to be changed has it behind, from 1.
    """
    drawn = "".join(letter if ord(letter) in _letters() else "?" for letter in text)
    if len(drawn) > _LETTERS:
        drawn = f"{drawn[: _LETTERS - 1]}…"
    if drawn != text:
        drawn += f" [{number + 1}]"
    # An underscore in front hides a name from the legend, and dollars begin a formula.
    return (" " if drawn.startswith("_") else "") + drawn.replace("$", r"\$")


@functools.cache
def _letters() -> frozenset[int]:
    """What the font has, but for signs that turn the direction of what follows."""
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    turning = {*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    return frozenset(font.get_charmap()) - turning
