"""Names written beside the lines that they name, where there is room for all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from modsearch.reporting.figures.drawing import lay_out, legend, line

FONT = 8.5
GAP = 5.0
"""Points between a line and its name."""
SIDES = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""From an anchor: right, above, below, left, then corners."""
MARK = 4.0
"""Pixels from the middle of a mark to its edge."""
LINE_COST, MARK_COST = 4.0, 3.0
"""Of a line that runs through half of a name, and of a mark below it."""
MOST_COST = 2.0
"""Up to which a name can be read where it lies."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Name:
    """Of one line, as it runs through its axes, in data."""

    ax: Axes
    text: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]


def write_names(figure: Figure, names: Sequence[Name]) -> bool:
    """Write all of them beside their lines, or none where one would lie on something else.

    Everything else must be drawn, the legend too: limits of axes stay as they are from here on.
    """
    if not names:
        return True
    lay_out(figure)
    axes = list(dict.fromkeys(name.ax for name in names))
    for ax in axes:
        ax.set_xlim(ax.get_xlim())
        ax.set_ylim(ax.get_ylim())
    placed: list[Annotation] = []
    for ax in axes:
        obstacles = _Obstacles(ax)
        for name in (each for each in names if each.ax is ax):
            found = _best(name, obstacles)
            if found is None:
                for each in placed:
                    each.remove()
                return False
            placed.append(found)
            obstacles.boxes.append(found.get_window_extent())
    return True


def name_lines(figure: Figure, names: Sequence[Name], extra: Sequence[Line2D] = ()) -> None:
    """Names beside their lines and `extra` in a legend; all in it where the names don't fit."""
    made = legend(figure, extra)
    if write_names(figure, names):
        return
    if made is not None:
        made.remove()
    legend(figure, [*(line(name.colour, label=name.text) for name in names), *extra])


class _Obstacles:
    """What a name should not lie on, in pixels."""

    def __init__(self, ax: Axes) -> None:
        self.inside = ax.get_window_extent()
        self.boxes: list[Bbox] = [text.get_window_extent() for text in ax.texts]
        runs, marks = [], []
        for drawn in ax.lines:
            data = np.asarray(drawn.get_xydata(), dtype=np.float64)
            points = drawn.get_transform().transform(data)
            if drawn.get_linestyle() != "None":
                runs += [_filled(points)]
            if drawn.get_marker() not in ("None", "", None):
                marks += [points]
        for bars in ax.collections:
            if isinstance(bars, LineCollection):  # of errors
                segments = (np.asarray(each, dtype=np.float64) for each in bars.get_segments())
                runs += [_filled(ax.transData.transform(each)) for each in segments]
        self.runs, self.marks = _joined(runs), _joined(marks)

    def cost(self, box: Bbox) -> float:
        """Of a name in that box: not finite where it would be cut or lie on another one."""
        if not (
            self.inside.x0 <= box.x0
            and box.x1 <= self.inside.x1
            and self.inside.y0 <= box.y0
            and box.y1 <= self.inside.y1
        ):
            return np.inf
        if any(box.overlaps(other) for other in self.boxes):
            return np.inf
        on_lines = _inside(self.runs, box) / max(box.width, 1.0)
        return LINE_COST * on_lines + MARK_COST * _inside(self.marks, box.padded(MARK))


def _best(name: Name, obstacles: _Obstacles) -> Annotation | None:
    """The name where it lies on the least; None where nowhere is good enough."""
    made = name.ax.annotate(
        name.text, (name.x[0], name.y[0]), (0, 0), textcoords="offset points", fontsize=FONT,
        color=name.colour, annotation_clip=False,
    )  # fmt: skip
    made.set_in_layout(False)
    size = made.get_window_extent()
    path = name.ax.transData.transform(np.column_stack([name.x, name.y]))
    gap = GAP * name.ax.figure.dpi / 72
    lowest, best = MOST_COST, None
    for place, at in enumerate(_anchors(len(path))):
        for turn, (across, up) in enumerate(SIDES):
            x = path[at][0] + across * gap + (across - 1) / 2 * size.width
            y = path[at][1] + up * gap + (up - 1) / 2 * size.height
            box = Bbox.from_bounds(x, y, size.width, size.height)
            cost = obstacles.cost(box) + 0.02 * turn + 0.05 * place
            if cost < lowest:
                lowest, best = cost, (at, across, up)
    if best is None:
        made.remove()
        return None
    at, across, up = best
    made.xy = (name.x[at], name.y[at])
    made.set_position((across * GAP, up * GAP))
    made.set_horizontalalignment(("right", "center", "left")[across + 1])
    made.set_verticalalignment(("top", "center", "bottom")[up + 1])
    return made


def _anchors(num: int) -> Iterable[int]:
    """Places on a line: its ends, then what lies between."""
    inner = sorted({round(share * (num - 1)) for share in (0.85, 0.15, 0.7, 0.3, 0.5)})
    return dict.fromkeys([num - 1, 0, *reversed(inner)])


def _filled(points: Array) -> Array:
    """A line as points about two pixels apart."""
    pieces = [points[:1]]
    for first, last in pairwise(points):
        if np.isfinite([first, last]).all():
            num = int(np.hypot(*(last - first)) // 2) + 1
            pieces.append(first + (last - first) * np.linspace(0, 1, num + 1)[1:, None])
    return np.concatenate(pieces)


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate(parts) if parts else np.empty((0, 2))


def _inside(points: Array, box: Bbox) -> int:
    x, y = points.T
    return int(((box.x0 <= x) & (x <= box.x1) & (box.y0 <= y) & (y <= box.y1)).sum())
