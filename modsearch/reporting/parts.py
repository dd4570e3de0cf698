"""What a page is made of: sections, with text, figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from modsearch.reporting import frames
from modsearch.reporting.figures.drawing import Drawing


@dataclass(frozen=True)
class Table:
    """A table of the page; its name is that of the CSV file."""

    name: str
    frame: pd.DataFrame
    folded: bool = False
    """Shown only when asked for: many rows."""

    @property
    def header(self) -> list[str]:
        """Names of the columns shown."""
        return [str(name) for name in frames.display(self.frame).columns]

    @property
    def rows(self) -> list[list[str]]:
        """Cells as rounded text."""
        return [[str(cell) for cell in row] for row in frames.display(self.frame).to_numpy()]

    @property
    def numeric(self) -> list[bool]:
        """Which columns stand to the right."""
        return frames.numeric(self.frame)


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then figures, then tables."""

    title: str
    text: Sequence[str] = ()
    figures: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    always: bool = False
    """Whether it stands on the page without a figure or a table."""

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
) -> Section:
    """Without figures and tables that the study has nothing for."""
    drawn = [each for each in figures if each is not None]
    return Section(title, text, drawn, [each for each in tables if len(each.frame)], always)
