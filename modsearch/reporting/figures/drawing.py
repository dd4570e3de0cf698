"""What all figures share: their style, and files of what was drawn.

Matplotlib without pyplot: no global state, no display. The bytes depend on the data alone
(fixed salt for ids, no dates). Figures are narrow, so that they can be read on a phone.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from modsearch.analysis.numbers import count
from modsearch.reporting.figures.inline import inline

PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933",
)  # fmt: skip
"""Okabe and Ito's colours, told apart by colour-blind readers."""
INK, SOFT, SHADE, PAPER = "#222222", "#555555", "#ebebeb", "#ffffff"
"""Greys, which the page turns round in the dark: of what is read, of what is beside it, of an
area, of the ground."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 5.2
"""Inches: 10 pt text stays legible when this is shown at 360 pixels."""


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows."""

    name: str
    """Of its files."""
    caption: str
    figure: Figure
    data: pd.DataFrame
    """The numbers that are drawn, one row for each mark, at full precision."""
    hovers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What the page says of marks under the pointer; `on_hover` fills it."""


def on_hover(hovers: dict[str, Sequence[str]], artist: Artist, *texts: str) -> None:
    """Give an artist texts that the page shows under the pointer: one for each of its markers, in
    order, or one for all of it.

        hovers: dict[str, Sequence[str]] = {}
        [line] = ax.plot(params, losses, marker="o", ls="")
        on_hover(hovers, line, *(f"{count(n)}: {decimal(loss)}" for n, loss in points))
        return Drawing(name, caption, figure, data, hovers)

    Works for what `plot`, `scatter` and `fill_between` return, for the first artist of an
    `errorbar`, and for each single patch of a `bar`. Markers must lie inside of the figure and be
    finite: what isn't drawn has no text.
    """
    gid = f"hover_{len(hovers)}"
    artist.set_gid(gid)
    hovers[gid] = texts


@dataclass(frozen=True)
class Files:
    """A drawing as bytes."""

    png: bytes
    svg: bytes
    """With letters as outlines: it looks the same everywhere."""
    pdf: bytes
    inline: str
    """SVG element of an HTML page."""


@contextmanager
def styled() -> Iterator[None]:
    """In this style whatever the user's own is."""
    with mpl.rc_context(), warnings.catch_warnings():
        _style()
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in any script
        yield


def colours_of(arms: Sequence[str]) -> dict[str, str]:
    """The same colour for an arm in every figure, by its place in the study."""
    return {arm: PALETTE[i % len(PALETTE)] for i, arm in enumerate(arms)}


def _style() -> None:
    mpl.rcdefaults()  # the user's own style would change the bytes
    mpl.rc("font", size=10)
    mpl.rc("axes", grid=True, axisbelow=True)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color="#e4e4e4")
    mpl.rc("legend", frameon=False)
    mpl.rc("svg", hashsalt="modsearch")
    mpl.rc("pdf", fonttype=42)  # TrueType: journals refuse the default
    mpl.rc("text", parse_math=False)  # an arm's name may hold a dollar sign


def panels(
    num: int,
    height: float,
    extra: float,
    *,
    shared: bool = True,
    ratios: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, num * height + extra + 0.3), layout="constrained")
    grid = figure.subplots(num, 1, sharex=shared, squeeze=False, height_ratios=ratios)
    return figure, [grid[i, 0] for i in range(num)]


def rows_of(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), list(names), fontsize=9)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(5))


def log_params(ax: Axes, *, few: bool = False) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3) if few else (1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))
    ax.xaxis.set_minor_locator(NullLocator())


def line(
    colour: str,
    *,
    label: str,
    marker: str = "",
    dashes: str = "-",
    alpha: float = 1.0,
) -> Line2D:
    width = 2 if alpha == 1 else 1
    return Line2D([], [], c=colour, marker=marker, ls=dashes, lw=width, alpha=alpha, label=label)


def legend(figure: Figure, handles: Sequence[Line2D]) -> Legend | None:
    if not handles:
        return None
    labels = [short(str(handle.get_label())) for handle in handles]
    return figure.legend(
        handles, labels, loc="outside lower center", ncols=2, fontsize=9, handlelength=2.8
    )


def short(name: str, limit: int = 32) -> str:
    """One line that fits, and not an underscore first, which a legend would leave out."""
    line = name if len(name) <= limit else f"{name[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"
    return f" {line}" if line.startswith("_") else line


def lay_out(figure: Figure) -> None:
    """Give its axes their places, which costs a third of drawing it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def render(drawing: Drawing) -> Files:
    """All files of a drawing."""
    figure = drawing.figure
    lay_out(figure)
    figure.set_layout_engine(None)  # not again for each file; "none" would draw each twice
    png = _saved(figure, "png", dpi=216, metadata={"Software": None})
    svg = _saved(figure, "svg", metadata={"Date": None, "Creator": None})
    pdf = _saved(figure, "pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    with mpl.rc_context({"svg.fonttype": "none"}):
        text = _saved(figure, "svg", transparent=True, metadata={"Date": None, "Creator": None})
    part = inline(text, drawing.name, drawing.caption, drawing.hovers)
    return Files(png, svg, pdf, part)


def _saved(
    figure: Figure,
    kind: str,
    *,
    metadata: Mapping[str, str | None],
    dpi: float | None = None,
    transparent: bool = False,
) -> bytes:
    file = io.BytesIO()
    figure.savefig(
        file, format=kind, dpi=dpi or figure.dpi, transparent=transparent, metadata=metadata
    )
    return file.getvalue()
