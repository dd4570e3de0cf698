"""What losses and costs are counted over: a token, or a byte of text where a study has several
tokenizers, whose tokens are not the same."""

from typing import Literal

Unit = Literal["token", "byte"]


def nats(unit: Unit) -> str:
    """Of a loss, or of a difference of two, in a sentence."""
    return "nats" if unit == "token" else nats_per(unit)


def nats_per(unit: Unit) -> str:
    """The same where it is to be said in full."""
    return f"nats per {unit}"
