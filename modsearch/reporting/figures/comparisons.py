"""What confirm found: runs, means, and differences with their intervals."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Comparison, Confirmed
from modsearch.analysis.numbers import count, decimal, interval, scientific
from modsearch.analysis.verdicts import Verdict
from modsearch.config.units import nats_per
from modsearch.reporting.figures.drawing import (
    PALETTE,
    Drawing,
    colours_of,
    legend,
    on_hover,
    panels,
    rows_of,
    short,
)
from modsearch.reporting.frames import Row, frame_of


def confirm(claims: Claims, arms: Sequence[str]) -> Drawing | None:
    """Every confirmed seed, with the mean of each arm and its 95 % interval."""
    if not claims.confirmed:
        return None
    colours = colours_of(arms)
    budgets = sorted({each.budget for each in claims.confirmed})
    num_arms = max(sum(each.budget == one for each in claims.confirmed) for one in budgets)
    figure, axes = panels(len(budgets), 0.8 + 0.42 * num_arms, 0.35, shared=False)
    hovers: dict[str, Sequence[str]] = {}
    for ax, budget in zip(axes, budgets, strict=True):
        rows = [each for each in claims.confirmed if each.budget == budget][::-1]
        for y, each in enumerate(rows):
            colour = colours[each.arm]
            _confirmed_runs(ax, each, y, colour, hovers)
        rows_of(ax, [short(each.arm) for each in rows])
        ax.set_title(f"{scientific(budget)} training FLOPs", fontsize=10, loc="left")
    axes[-1].set_xlabel(f"causal loss on the test part ({nats_per(claims.unit)})")
    handles = [
        Line2D([], [], ls="", marker="o", mfc="none", c="#555555", label="one run"),
        Line2D([], [], marker="D", c="#555555", label="lowest loss, 95 % interval"),
    ]
    legend(figure, handles)
    data: list[Row] = [
        {
            "budget": each.budget,
            "arm": each.arm,
            "depth": group.size.depth,
            "width": group.size.width,
            "params": group.params,
            "causal loss": loss,
            "lowest loss": each.loss,
            "half width": each.half_width,
        }
        for each in claims.confirmed
        for group in each.groups
        for loss in group.losses
    ]
    caption = (
        "Confirmed runs, a line for each size, and the lowest loss of the parabola fitted to them "
        "with its 95 % interval; of one size, their mean."
    )
    return Drawing("confirm", caption, figure, frame_of(data), hovers)


def _confirmed_runs(
    ax: Axes, each: Confirmed, y: int, colour: str, hovers: dict[str, Sequence[str]]
) -> None:
    """Runs of an arm, a line a size, smallest at the bottom, and the minimum over sizes."""
    for place, group in enumerate(each.groups):
        line = y - 0.3 + 0.12 * place
        [marks] = ax.plot(group.losses, [line] * len(group.losses), ls="", marker="o", ms=4,
                          mfc="none", c=colour)  # fmt: skip
        size = f"{each.arm}, width {group.size.width}, {count(group.params)} parameters"
        on_hover(hovers, marks, *(f"{size}: {decimal(loss)}" for loss in group.losses))
    bar = ax.errorbar(
        [each.loss], [y + 0.2], xerr=each.half_width, fmt="D", ms=5, c=colour, capsize=3, lw=1.6
    )
    half = each.half_width
    ends = "" if half is None else f" {interval(each.loss - half, each.loss + half, 4)}"
    on_hover(hovers, bar[0], f"{each.arm}, lowest loss: {decimal(each.loss)}{ends}")


def differences(claims: Claims) -> Drawing | None:
    """How much lower each arm's loss is than its reference's, with 95 % intervals; pale where
    either is untrained and the difference says nothing."""
    if not any(claim.comparison for claim in claims.by_budget):
        return None
    rows: list[tuple[str, Comparison, str]] = []
    for claim in claims.by_budget[::-1]:
        if claim.comparison is None:
            continue
        rows.append(_difference(claim.comparison, claim.verdict, PALETTE[0]))
        rows += [
            _difference(each.comparison, each.verdict, "#777777")
            for each in claims.beside
            if each.role == "control" and each.comparison.arm.budget == claim.budget
        ]
    rows = rows[::-1]
    figure, axes = panels(1, 0.75 + 0.48 * len(rows), 0.1)
    ax = axes[0]
    hovers: dict[str, Sequence[str]] = {}
    for y, (_, each, colour) in enumerate(rows):
        error = None
        if (found := each.interval) is not None:
            error = [[each.difference - found.low], [found.high - each.difference]]
        bar = ax.errorbar([each.difference], [y], xerr=error, fmt="D", ms=6, c=colour, capsize=4,
                          lw=2)  # fmt: skip
        ends = f" {interval(found.low, found.high, 4)}" if found else ""
        on_hover(
            hovers, bar[0],
            f"{each.arm.arm} against {each.reference.arm}: {decimal(each.difference)}{ends}",
        )  # fmt: skip
    ax.axvline(0, c="#222222", lw=1)
    rows_of(ax, [name for name, _, _ in rows])
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.1 * high), max(high, -0.1 * low))
    ax.set_xlabel(f"difference in loss ({nats_per(claims.unit)})\n\N{LEFTWARDS ARROW} worse"
                  "        first arm        better \N{RIGHTWARDS ARROW}")  # fmt: skip
    data: list[Row] = [
        {
            "budget": each.arm.budget,
            "arm": each.arm.arm,
            "against": each.reference.arm,
            "difference": each.difference,
            "low": each.interval.low if each.interval else None,
            "high": each.interval.high if each.interval else None,
        }
        for _, each, _ in rows[::-1]
    ]
    caption = (
        "Difference in causal loss with 95 % intervals: right of zero, the first arm of a row is "
        "better."
    )
    return Drawing("differences", caption, figure, frame_of(data), hovers)


def _difference(each: Comparison, verdict: Verdict, colour: str) -> tuple[str, Comparison, str]:
    if verdict is Verdict.UNTRAINED:
        return f"{_versus(each)}: untrained", each, "#d0d0d0"
    return _versus(each), each, colour


def _versus(each: Comparison) -> str:
    first, second = short(each.arm.arm), short(each.reference.arm)
    return f"{first} against\n{second}, {scientific(each.arm.budget)} FLOPs"
