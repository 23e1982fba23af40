"""A table for the terminal: columns as wide as they must be, the last one wrapped."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import unicodedata
from dataclasses import dataclass, field
from typing import TextIO

__all__ = ["Style", "Table", "width"]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Style:
    """Colours, if whoever reads can see them.

    They are left out unless the stream is a terminal, and where NO_COLOR is set (no-color.org).
    """

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self.coloured = stream.isatty() and not plain

    def __call__(self, content: str, *names: str) -> str:
        """`content` in the styles `names`, such as "bold" or "red"."""
        if not self.coloured or not names:
            return content
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{content}\x1b[0m"


@dataclass
class Table:
    """Rows under a heading, all but the last column in one line.

    Attributes:
        columns: The headings.
        rows: The cells, as many in each row as there are columns, and the style of each row.
    """

    columns: list[str]
    rows: list[tuple[list[str], tuple[str, ...]]] = field(default_factory=list)

    def add(self, *cells: str, styles: tuple[str, ...] = ()) -> None:
        """Add a row; `styles` is how its last cell looks."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append((list(cells), styles))

    def render(self, style: Style, columns: int | None = None) -> str:
        """The table as text, `columns` wide or as wide as the terminal."""
        total = columns or min(shutil.get_terminal_size((110, 24)).columns, 160)
        sizes = [
            max(width(row[index]) for row in [self.columns, *(cells for cells, _ in self.rows)])
            for index in range(len(self.columns) - 1)
        ]
        room = max(total - sum(sizes) - 2 * len(sizes) - 2, 24)
        heading = style("  ".join(map(_pad, self.columns, [*sizes, 0])).rstrip(), "bold")
        lines = ["  " + heading]
        for cells, styles in self.rows:
            wrapped = textwrap.wrap(cells[-1], room) or [""]
            first = "  ".join(map(_pad, cells[:-1], sizes))
            blank = " " * (sum(sizes) + 2 * (len(sizes) - 1))
            for number, line in enumerate(wrapped):
                lines.append(f"  {blank if number else first}  {style(line, *styles)}")
        return "\n".join(line.rstrip() for line in lines)


def width(content: str) -> int:
    """How many columns of a terminal `content` takes."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in content)
    return len(content) + wide - sum(map(bool, map(unicodedata.combining, content)))


def _pad(content: str, size: int) -> str:
    return content + " " * (size - width(content))
