"""How numbers are written for people: one way in sentences, tables and figures."""

import math
from collections.abc import Iterable

MISSING = "\N{EN DASH}"
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def scientific(value: float | None) -> str:
    """FLOPs and other huge numbers: 1.5e11, and 640 as it is."""
    if value is None or math.isnan(value):
        return MISSING
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}" if exponent else mantissa


def count(value: float | None) -> str:
    """Parameters and tokens: 812, 25.3k, 1.2M."""
    if value is None or math.isnan(value):
        return MISSING
    for size, unit in _UNITS:
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def counted(number: int, noun: str) -> str:
    """So many of something: 1 trial, 1,200 trials."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.7 s, 25 s, 12 min, 3.4 h, 1,200 h."""
    if seconds < 100:
        return f"{seconds:.1g} s" if seconds < 1 else f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def decimal(value: float | None, digits: int = 4) -> str:
    """A number with a fixed count of decimals; what rounds to zero has no sign."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text if float(text) else text.lstrip("-")


def percent_digits(shares: Iterable[float]) -> int:
    """Decimals with which no share other than zero is written as zero; one at least."""
    small = [abs(share) for share in shares if share and math.isfinite(share)]
    return 2 if small and min(small) < 0.001 else 1


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent, with a space as ISO 31-0 asks for."""
    return MISSING if share is None or math.isnan(share) else f"{100 * share:.{digits}f} %"


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Both ends in brackets."""
    if low is None or high is None:
        return MISSING
    return f"[{decimal(low, digits)}, {decimal(high, digits)}]"
