"""Loss against what a model costs when it is used: FLOPs, seconds, bytes."""

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Confirmed
from modsearch.analysis.numbers import count, scientific
from modsearch.analysis.speeds import decoded, front, per_second, timed
from modsearch.config.speeds import Speeds
from modsearch.config.units import nats_per
from modsearch.reporting.figures.drawing import (
    MARKERS,
    Drawing,
    colours_of,
    legend,
    line,
    panels,
)
from modsearch.reporting.frames import Row, frame_of

BATCH = 1
"""Of the decoding that is drawn."""
EDGE = "#555555"
NARROW = 4.0
"""Greatest price over the least below which an axis is labelled as a linear one."""

Price = Callable[[Confirmed], float | None]


def pareto(claims: Claims, found: Speeds, arms: Sequence[str]) -> Drawing | None:
    """Confirmed winners by loss and by three prices; what no other arm of the budget beats in both
    is filled and joined."""
    drawn = [each for each in claims.confirmed if timed(found, each.arm, each.budget)]
    if not drawn:
        return None
    colours = colours_of(arms)
    budgets = sorted({each.budget for each in drawn})
    markers = {budget: MARKERS[i % len(MARKERS)] for i, budget in enumerate(budgets)}

    def speed(each: Confirmed) -> float | None:
        row = decoded(timed(found, each.arm, each.budget), BATCH)
        return None if row is None else per_second(row)

    def cache(each: Confirmed) -> float | None:
        row = decoded(timed(found, each.arm, each.budget), BATCH)
        return None if row is None else row.cache_bytes

    def forward(each: Confirmed) -> float:
        return each.forward_flops

    left, right = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"
    prices: list[tuple[str, str, Price, bool]] = [
        (f"forward FLOPs per {claims.unit}", f"{left} cheaper", forward, False),
        (f"{found.unit}s per second, batch {BATCH}", f"faster {right}", speed, True),
        ("cache bytes per sequence", f"{left} smaller", cache, False),
    ]
    prices = [row for row in prices if any(row[2](each) is not None for each in drawn)]
    figure, axes = panels(len(prices), 2.5, 0.25 * math.ceil(len(arms) / 2), shared=False)
    data: list[Row] = []
    for ax, (name, way, price, more) in zip(axes, prices, strict=True):
        for budget in budgets:
            here = [each for each in drawn if each.budget == budget and price(each) is not None]
            best = _panel(ax, here, price, colours, markers[budget], more=more)
            data += [
                {
                    "price": name,
                    "budget": budget,
                    "arm": each.arm,
                    "value": price(each),
                    "lowest loss": each.loss,
                    "half width": each.half_width,
                    "on the front": on_it,
                }
                for each, on_it in zip(here, best, strict=True)
            ]
        _axis(ax)
        ax.set_xlabel(f"{name}  ({way})")
        ax.set_ylabel("causal loss")
    legend(figure, _handles(drawn, colours, markers))
    caption = (
        f"Confirmed winners: lowest causal loss with its 95 % interval, in "
        f"{nats_per(claims.unit)}, against "
        "realised forward FLOPs, cached decoding and the bytes of keys and values at the end of a "
        "window. Filled and joined: no other arm of the budget has both a lower loss and a lower "
        "price; intervals that overlap may order them otherwise."
    )
    return Drawing("pareto", caption, figure, frame_of(data))


def _panel(
    ax: Axes,
    here: Sequence[Confirmed],
    price: Price,
    colours: dict[str, str],
    marker: str,
    *,
    more: bool,
) -> list[bool]:
    """Winners of one budget, and which of them are on the front; with `more` a high price is the
    good one."""
    places = [price(each) or 0.0 for each in here]
    best = front([(-x if more else x, each.loss) for x, each in zip(places, here, strict=True)])
    joined = sorted((x, each.loss) for x, each, b in zip(places, here, best, strict=True) if b)
    ax.plot([x for x, _ in joined], [y for _, y in joined], c="#aaaaaa", lw=1.2, zorder=1)
    for x, each, on_it in zip(places, here, best, strict=True):
        colour = colours[each.arm]
        ax.errorbar(
            [x], [each.loss], yerr=each.half_width, fmt=marker, ms=7, c=colour, capsize=3, lw=1.4,
            mfc=colour if on_it else "white", zorder=3,
        )  # fmt: skip
    return best


def _axis(ax: Axes) -> None:
    """Logarithmic, with labels at round numbers, and some room at the ends."""
    ax.set_xscale("log")
    ax.margins(x=0.12)
    low, high = ax.get_xlim()
    within = high < NARROW * low  # a decade's round numbers would label one place, or none
    ax.xaxis.set_major_locator(MaxNLocator(4) if within else LogLocator(subs=(1, 2, 3, 5, 7)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _handles(
    drawn: Sequence[Confirmed], colours: dict[str, str], markers: dict[float, str]
) -> list[Line2D]:
    names = list(dict.fromkeys(each.arm for each in drawn))
    found = [line(colours[name], label=name, marker="o") for name in names]
    if len(markers) > 1:
        found += [
            Line2D([], [], ls="", marker=marker, c=EDGE, label=f"{scientific(budget)} FLOPs")
            for budget, marker in markers.items()
        ]
    return [
        *found,
        Line2D([], [], ls="", marker="o", c=EDGE, label="filled: on the front"),
        Line2D([], [], ls="", marker="o", c=EDGE, mfc="white", label="hollow: beaten"),
    ]
