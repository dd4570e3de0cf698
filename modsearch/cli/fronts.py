"""A front of several objectives for a terminal."""

from modsearch.analysis.numbers import decimal, scientific
from modsearch.cli.text import aligned
from modsearch.config.answers import Frontier, FrontPoint

FEWEST = 0.05
"""Share of draws from which a trial beside the front is shown, too."""


def front_text(found: Frontier) -> str:
    """Candidates on the front, and those that may belong there, as a table."""
    shown = [each for each in found.points if each.on_front or (each.share or 0.0) >= FEWEST]
    prices = list(shown[0].prices)
    head = ("arm", "depth", "width", "objective", *prices, "on front", "share", "hash")
    rows = [head, *(_row(each, prices) for each in shown)]
    sd = "not known" if found.sd is None else decimal(found.sd, 3)
    return (
        f"{aligned(rows)}\n\n"
        f"{len(shown)} of {len(found.points)} candidates of explore at "
        f"{scientific(found.budget)} FLOPs: on the front no other one beats them in every "
        f"objective;\nshare: of draws with the noise of seeds, sd {sd} ({found.basis})"
    )


def _row(each: FrontPoint, prices: list[str]) -> tuple[str, ...]:
    model = each.candidate.model
    share = "" if each.share is None else f"{each.share:.2f}"
    values = [f"{each.prices[price]:,.0f}" for price in prices]
    on_it = "yes" if each.on_front else "no"
    place = (each.arm, str(model.depth), str(model.width), decimal(each.objective, 4))
    return (*place, *values, on_it, share, each.hash)
