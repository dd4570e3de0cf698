"""What measured speeds say of the paper's claims: the headline's routed arm against the dense one.

Both claims have a number, and are held against it: an arm that is faster, but by less, refutes
what the paper says of its own, much larger models on another device.
"""

from collections.abc import Iterator

from modsearch.analysis.claims import Claims
from modsearch.analysis.laws import Interval
from modsearch.analysis.numbers import decimal, scientific
from modsearch.analysis.paper import DECODING, STEPS, Answer, Finding, not_tested, sided
from modsearch.analysis.speeds import Ratio, decode_ratio, step_ratio, unrest
from modsearch.analysis.verdicts import Verdict
from modsearch.config.speeds import Speeds
from modsearch.config.units import Unit

FASTER_DECODING = 1.5
FASTER_STEPS = 1.6
BATCHES = (1, 16)


def speed_findings(claims: Claims, speeds: Speeds | None) -> list[Finding]:
    """Rows of the ledger; none where nothing was measured."""
    found = claims.headline.comparison
    if speeds is None or found is None:
        return []
    arm, dense, budget = found.arm.arm, found.reference.arm, found.arm.budget
    where = f"{arm} against {dense} at {scientific(budget)} FLOPs"
    caution = "; caution: the machine was not quiet" if unrest(speeds) else ""
    decoding = [decode_ratio(speeds, arm, dense, budget, size) for size in BATCHES]
    steps = step_ratio(speeds, arm, dense, budget)
    rows = []
    if decoding[0] is not None:
        told = ", ".join(_told(decoding, speeds.unit))
        told += "" if speeds.same_text else ", on other tokens than the study's"
        rows.append(
            Finding(DECODING, _answer(decoding[0], FASTER_DECODING, f"{where}: {told}{caution}"))
        )
    if steps is not None:
        reason = f"{where}: steps a second over those of the dense winner{caution}"
        as_good = claims.headline.verdict in (Verdict.BETTER, Verdict.EQUIVALENT)
        if as_good:
            rows.append(Finding(STEPS, _answer(steps.inverse, FASTER_STEPS, reason)))
        else:
            why = f"{where}: {decimal(steps.inverse.value, 2)} times the steps a second, but it "
            rows.append(Finding(STEPS, not_tested(f"{why}is not known to be as good")))
    return rows


def _told(ratios: list[Ratio | None], unit: Unit) -> Iterator[str]:
    for size, ratio in zip(BATCHES, ratios, strict=True):
        if ratio is not None:
            yield f"{decimal(ratio.value, 2)} times the {unit}s a second at batch {size}"


def _answer(ratio: Ratio, bar: float, reason: str) -> Answer:
    reason += f"; held against {bar:g}"
    if ratio.low is None or ratio.high is None:
        return not_tested(f"{reason}; one round alone has no interval")
    return sided(Interval(ratio.value, ratio.low, ratio.high), reason, bar)
