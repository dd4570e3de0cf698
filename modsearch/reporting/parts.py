"""What a page is made of: sections, with text, figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from modsearch.reporting import frames
from modsearch.reporting.figures.drawing import Drawing

PAPER_WIDTH = 527.0
"""Points between the margins of A4."""
CELL_PADDING = 4.5
LETTER = 0.66
"""Width of a letter, in widths of the type: of wide fonts, in bold."""
LEAST_PRINT, MOST_PRINT = 3.5, 8.0
TOLD = 200
"""Letters from which on a cell is text to read and not a value."""


@dataclass(frozen=True)
class Table:
    """A table of the page; its name is that of its files."""

    name: str
    frame: pd.DataFrame
    folded: bool = False
    """Shown only when asked for: many rows."""
    turned: bool = False
    """Shown with a row for each column: few things with many properties."""

    @property
    def title(self) -> str:
        """Its name in words."""
        words = self.name.replace("_", " ")
        return words[:1].upper() + words[1:]

    @cached_property
    def shown(self) -> pd.DataFrame:
        """Cells as rounded text."""
        found = frames.display(self.frame)
        if not self.turned:
            return found
        corner, *names = found.columns
        heads = [corner, *found[corner]]
        rows = [[name, *found[name]] for name in names]
        return pd.DataFrame(rows, columns=heads, dtype=object)

    @cached_property  # a page asks once for each cell
    def header(self) -> list[str]:
        """Names of the columns shown."""
        return [str(name) for name in self.shown.columns]

    @cached_property
    def rows(self) -> list[list[str]]:
        """Cells as rounded text."""
        return [[str(cell) for cell in row] for row in self.shown.to_numpy()]

    @property
    def numeric(self) -> list[bool]:
        """Which columns stand to the right."""
        if self.turned:
            return [False, *(True for _ in range(len(self.frame)))]
        return frames.numeric(self.frame)

    @cached_property  # a page asks once for each cell
    def told(self) -> bool:
        """Whether it is read row by row, as text: a narrow window shows a row as a card."""
        return not self.turned and any(len(cell) > TOLD for row in self.rows for cell in row)

    @property
    def print_size(self) -> float:
        """Largest type, in points, at which no word is broken on a page of A4."""
        columns = zip(self.header, *self.rows, strict=True)
        words = [[word for cell in column for word in cell.split()] for column in columns]
        letters = sum(max(map(len, column), default=0) for column in words)
        room = PAPER_WIDTH - CELL_PADDING * len(words)
        return round(min(MOST_PRINT, max(LEAST_PRINT, room / max(LETTER * letters, 1))), 1)

    @property
    def latex(self) -> str:
        """What is shown as a LaTeX table, for the package booktabs."""
        places = "".join("r" if each else "l" for each in self.numeric)
        return self.shown.to_latex(index=False, escape=True, column_format=places)


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then figures, then tables."""

    title: str
    text: Sequence[str] = ()
    figures: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    always: bool = False
    """Whether it stands on the page without a figure or a table."""
    needs: str = ""
    """What a study must have for it, as a reader would say it."""

    @property
    def stands(self) -> bool:
        """Whether there is anything to show."""
        return self.always or bool(self.figures or self.tables)


def section_of(
    title: str,
    text: Sequence[str] = (),
    figures: Sequence[Drawing | None] = (),
    tables: Sequence[Table] = (),
    *,
    always: bool = False,
    needs: str = "",
) -> Section:
    """Without figures and tables that the study has nothing for."""
    drawn = [each for each in figures if each is not None]
    filled = [each for each in tables if len(each.frame)]
    return Section(title, text, drawn, filled, always, needs)
