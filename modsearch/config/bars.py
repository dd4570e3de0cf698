"""By what a worker stops a trial of explore."""

from modsearch.config.base import Frozen


class Bar(Frozen):
    """What a trial is held against at one rung."""

    share: float
    """Of its steps."""
    most: float
    """Its smoothed loss, or what is foretold of its final one, must not be above this."""
    added: float = 0.0
    """To what is foretold, for what such forecasts were off by in the mean."""
    margin: float = 0.0
    """Half-width of the error of what is foretold: it must be above by more."""
    foretold: bool = False
    """Whether the final loss is foretold; else the loss is taken as it is."""
    why: str
    """What the bar is, in words."""


class Bars(Frozen):
    """By what a trial may be stopped; decided when it is handed out, and kept with it."""

    bars: list[Bar] = []
