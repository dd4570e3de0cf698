"""What a text is, whatever it is read from: the rule that makes one, and how long ones are cut.

Text is UTF-8. A mark of the byte order before it is left out, a line ends with one character, and
what is no UTF-8 is U+FFFD, as is NUL, which ends documents; all of it is counted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

BOM = b"\xef\xbb\xbf"
END_OF_TEXT = 0
"""The byte that ends a document, where text is what is asked for."""
NO_CHARACTER = "\N{REPLACEMENT CHARACTER}".encode()
BLOCK_BYTES = 64 * 1024
"""Texts are cut at the first end of a line after so many bytes, whatever else a corpus has: where
a text is cut, and into what part its pieces go, depends on itself alone."""


class Form(StrEnum):
    """How a file holds text."""

    TEXT = "text"
    LINES = "lines"
    """A JSON object on each line, with the text in a field."""
    PARQUET = "parquet"
    ARROW = "arrow"
    TOKENS = "tokens"
    """One after the other, of two or four bytes."""


@dataclass
class Seen:
    """Counts of what was read."""

    documents: int = 0
    boms: int = 0
    crlf: int = 0
    invalid: int = 0

    def __add__(self, other: "Seen") -> "Seen":
        mine, theirs = asdict(self), asdict(other)
        return Seen(**{name: mine[name] + theirs[name] for name in mine})


def cut(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """A text that comes in blocks, in pieces of `BLOCK_BYTES` and the rest of a line; inside of a
    line, but of no character, where that is longer than a piece."""
    held, start = b"", 0
    for block in blocks:
        held, start = held[start:] + block, 0
        while len(held) - start >= 2 * BLOCK_BYTES:
            end = _end(held, start)
            yield held[start:end]
            start = end
    while start < len(held):
        end = _end(held, start)
        yield held[start:end]
        start = end


def _end(text: bytes, start: int) -> int:
    """Of the piece that starts there; as it would be if all of the text were there."""
    if len(text) - start <= BLOCK_BYTES:
        return len(text)
    line_end = text.find(b"\n", start + BLOCK_BYTES - 1, start + 2 * BLOCK_BYTES - 1)
    return line_end + 1 if line_end >= 0 else whole(text, start + BLOCK_BYTES)


def whole(text: bytes, end: int) -> int:
    """The same end, or the one before it that cuts no character."""
    before = end
    while before > end - 4 and text[before] & 0xC0 == 0x80:
        before -= 1
    return before


def cleaned(raw: bytes, seen: Seen, *, first: bool = True) -> bytes:
    """A text, or a piece of one, by the rule; the `first` may have a mark of byte order."""
    if first and raw.startswith(BOM):
        raw = raw[len(BOM) :]
        seen.boms += 1
    if b"\r\n" in raw:
        seen.crlf += raw.count(b"\r\n")
        raw = raw.replace(b"\r\n", b"\n")
    if b"\0" in raw:
        seen.invalid += raw.count(b"\0")
        raw = raw.replace(b"\0", NO_CHARACTER)
    try:
        raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(errors="replace").encode()
        seen.invalid += text.count(NO_CHARACTER) - raw.count(NO_CHARACTER)
        raw = text
    return raw
