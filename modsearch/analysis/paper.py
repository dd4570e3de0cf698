"""Claims of Raposo et al. 2024 (arXiv 2404.02258) as a study answers them: a word, and numbers.

Words are given by intervals alone: supported where the interval excludes the opposite, refuted
where it excludes the claim, equivalent where it lies within a stated bound, and underpowered
otherwise, beside the smallest effect that such an interval tells in four of five studies.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from modsearch.analysis.laws import Interval
from modsearch.analysis.noise import NORMAL
from modsearch.analysis.numbers import decimal, percent, percent_digits
from modsearch.config.units import Unit as Over
from modsearch.config.units import nats

REACH = (NORMAL + 0.841621) / NORMAL
"""The effect that is seen with a power of 80 %, over half of a 95 % interval."""
BAND = 1.2
"""A ratio within this factor of 1 is no difference. Ours: the paper states none."""


class Word(StrEnum):
    """On a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    EQUIVALENT = "equivalent"
    UNDERPOWERED = "underpowered"
    NOT_TESTED = "not tested"


class Unit(StrEnum):
    """Of a claim's number."""

    NATS = "nats"
    SHARE = "share"
    """Between 0 and 1, or of the loss."""
    RATIO = "ratio"
    CORRELATION = "correlation"


@dataclass(frozen=True)
class Stated:
    """What the paper claims."""

    claim: str
    where: str
    """In the paper."""
    paper: str
    """Its own number; readings of its figures are said to be approximate."""
    unit: Unit
    """Of the number that answers it here."""
    shown_by: str
    """Figure or table of the report that shows it, as its file is called without suffix; empty
    where none does."""


LOWER_LOSS = Stated(
    "lower loss at equal training FLOPs", "introduction, section 4.1", "up to 1.5 %",
    Unit.SHARE, "figures/differences",
)  # fmt: skip
PARITY = Stated(
    "as good as the optimal dense model with half of its forward FLOPs",
    "introduction", "50 % and more saved", Unit.RATIO, "figures/forward",
)  # fmt: skip
LARGER = Stated(
    "the optimum has more parameters", "read off figure 3", "approx. 1.2 to 2 times", Unit.RATIO,
    "figures/isoflop",
)  # fmt: skip
SAME_FORWARD = Stated(
    "the optimal routed model costs as much per forward pass as the optimal dense one",
    "section 4.1", "the same", Unit.RATIO, "figures/forward",
)  # fmt: skip
CHEAPER = Stated(
    "some routed models are cheaper per forward pass and better than the optimal dense one",
    "figure 4", "yes", Unit.NATS, "figures/forward",
)  # fmt: skip
DEPTH = Stated(
    "saved FLOPs are better spent on depth than on width", "section 4.1", "yes", Unit.NATS,
    "figures/isoflop",
)  # fmt: skip
CROSSING = Stated(
    "at few parameters the dense model is slightly better (the curves cross)", "figure 4",
    "slightly", Unit.NATS, "figures/isoflop",
)  # fmt: skip
RANDOM = Stated(
    "learned routing is better than random routing", "section 3.3; read off figure 3",
    "drastically; approx. 0.1 nats at 50 % capacity",
    Unit.NATS, "tables/controls",
)  # fmt: skip
FORETOLD = Stated(
    "the causal decision foretells top-k", "section 4.2, figure 6", "more than 97 %, also 99 %",
    Unit.SHARE, "tables/routing_membership",
)  # fmt: skip
SAMPLING_LOSS = Stated(
    "causal sampling costs little loss", "sections 3.5 and 4.2", "at most 0.2 to 0.3 %",
    Unit.SHARE, "tables/winners",
)  # fmt: skip
ENTROPY = Stated(
    "tokens that more blocks take have predictions of higher entropy", "section 4.1",
    "correlated, no number", Unit.CORRELATION, "tables/routing_correlations",
)  # fmt: skip
WEIGHTS = Stated(
    "the share of router weights above 0.5 is the capacity", "read off figure 5",
    "approx. 12.5 % at 12.5 % capacity", Unit.SHARE, "figures/routing_weights",
)  # fmt: skip
INTEGRATED = Stated(
    "integrated no-op experts are better than dropping tokens", "section 4.3, figure 7",
    "distinctly", Unit.NATS, "tables/winners",
)  # fmt: skip
MEMORY = Stated(
    "the routed model needs less memory at larger sizes", "section 4.1", "fewer devices",
    Unit.RATIO, "",
)  # fmt: skip
DECODING = Stated(
    "faster steps in sampling", "abstract", "50 % and more", Unit.RATIO, "tables/speeds"
)
STEPS = Stated(
    "a model as good as the optimal dense one steps faster in training, at the same time in all",
    "section 4.1, figure 3", "60 % and more (text), 66 % (caption)", Unit.RATIO, "tables/speeds",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a study says of one claim."""

    word: Word
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """95 % interval; an end is None where nothing bounds it."""
    smallest: float | None = None
    """Difference from what the claim is held against that is told in four of five studies; of a
    ratio the factor."""
    effect: Unit | None = None
    """Of `smallest`; None: that of the value."""


@dataclass(frozen=True)
class Finding:
    """A claim and the answer to it."""

    stated: Stated
    answer: Answer

    def number(self, over: Over) -> str:
        """The value with its interval, losses for each token or byte; empty without any."""
        found = self.answer
        if found.value is None and found.low is None and found.high is None:
            return ""
        known = [each for each in (found.value, found.low, found.high) if each is not None]
        unit = self.stated.unit
        text = "none" if found.value is None else written(found.value, unit, known)
        if found.low is not None or found.high is not None:
            ends = [
                "..." if each is None else written(each, unit, known)
                for each in (found.low, found.high)
            ]
            text += f" [{', '.join(ends)}]"
        return f"{text} {nats(over)}" if unit is Unit.NATS else text

    def reach(self, over: Over) -> str:
        """The smallest effect; empty where it is not known."""
        smallest = self.answer.smallest
        if smallest is None:
            return ""
        unit = self.answer.effect or self.stated.unit
        if unit is Unit.RATIO:
            return f"factor {decimal(smallest, 2)}"
        text = written(smallest, unit, [smallest])
        return f"{text} {nats(over)}" if unit is Unit.NATS else text


def written(value: float, unit: Unit, beside: list[float]) -> str:
    """A number for people, with as many digits as those beside it need."""
    if unit is Unit.SHARE:
        return percent(value, percent_digits(beside))
    if unit is Unit.NATS:
        return decimal(value, 3)
    return decimal(value, 2)


def not_tested(reason: str) -> Answer:
    """Without any number."""
    return Answer(Word.NOT_TESTED, reason)


def sided(found: Interval, reason: str, bar: float = 0.0, *, below: bool = False) -> Answer:
    """A claim that something lies above a bar, or below it."""
    word = Word.UNDERPOWERED
    if found.low > bar:
        word = Word.REFUTED if below else Word.SUPPORTED
    elif found.high < bar:
        word = Word.SUPPORTED if below else Word.REFUTED
    seen = REACH * (found.high - found.low) / 2
    return Answer(word, reason, found.value, found.low, found.high, seen)


def same(found: Interval, reason: str) -> Answer:
    """A claim that a ratio is 1, up to `BAND`."""
    word = Word.UNDERPOWERED
    if found.low > 1 / BAND and found.high < BAND:
        word = Word.EQUIVALENT
    elif found.low > BAND or found.high < 1 / BAND:
        word = Word.REFUTED
    return Answer(word, reason, found.value, found.low, found.high, factor_seen(found))


def factor_seen(found: Interval) -> float | None:
    """The smallest factor that an interval of a ratio tells in four of five studies."""
    if found.low <= 0:
        return None
    return math.exp(REACH * math.log(found.high / found.low) / 2)
