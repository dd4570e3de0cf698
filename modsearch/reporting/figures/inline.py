"""A figure as a part of a page: its SVG follows the page's colours and font, and says the value
of a mark under the pointer.

Ids begin with the figure's name, so that figures on one page can't clash. Every colour that would
be hard to see on a dark ground becomes a CSS variable, which the page defines twice; so figures
need not know of themes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

DARK_PAPER = (0x12, 0x16, 0x1C)
"""The page's ground in the dark."""
DARK_INK = (0xE6, 0xEA, 0xEF)
READABLE = 4.5
"""Least contrast of a colour with the ground (WCAG 2)."""
PIXELS_PER_POINT = 1.5
"""Widest that a figure is shown."""
LEAST_PIXELS_PER_POINT = 0.87
"""Narrowest, so that its letters can be read: a wide one is scrolled on a phone, and one of the
usual width fits 360 pixels."""
COLOUR = re.compile(r"#([0-9a-f]{6})\b")
VARIABLE = re.compile(r"var\(--c-([0-9a-f]{6})\)")
LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
POINTED = re.compile(r"url\(#([^)]+)\)")
Channels = tuple[int, int, int]


def inline(svg: bytes, name: str, label: str, hovers: Mapping[str, Sequence[str]]) -> str:
    """Matplotlib's SVG as an element of an HTML page; `label` is read out in its place.

    `hovers` has texts by group id: as many as the group has marks, or one for all of it.
    """
    root = ElementTree.fromstring(svg)
    _plain_names(root)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style") or _invisible(child):
                parent.remove(child)
    _hovers(root, hovers)
    _ids(root, name)
    for element in root.iter():
        _attributes(element)
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": label,
        "style": f"min-width: {LEAST_PIXELS_PER_POINT * width:.0f}px; "
        f"max-width: {PIXELS_PER_POINT * width:.0f}px",
    }
    for element in root.iter():  # no text but that of leaves has any meaning
        if len(element):
            element.text = None
        element.tail = None
    return ElementTree.tostring(root, encoding="unicode")


def colours(figures: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Value on a light and on a dark ground of each variable that inline figures use."""
    used = {
        found for figure in figures for found in re.findall(r"var\(--c-([0-9a-f]{6})\)", figure)
    }
    return {
        f"--c-{each}": (f"#{each}", _hex(_in_the_dark(_channels(each)))) for each in sorted(used)
    }


def _plain_names(root: Element) -> None:
    """Without namespaces, which HTML knows by itself."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}


def _invisible(element: Element) -> bool:
    """A patch that draws nothing: the ground of a transparent figure."""
    if element.tag != "g" or len(element) != 1 or not element.get("id", "").startswith("patch"):
        return False
    style = element[0].get("style", "")
    return "fill: none" in style and "stroke" not in style


def _hovers(root: Element, hovers: Mapping[str, Sequence[str]]) -> None:
    groups = {element.get("id"): element for element in root.iter("g")}
    for name, texts in hovers.items():
        group = groups.get(name)
        if group is None:  # nothing of it was drawn
            continue
        marks = list(group.iter("use"))
        if len(marks) != len(texts):
            assert len(texts) == 1, f"{name}: {len(texts)} texts for {len(marks)} marks"
            marks = [group]
        for mark, text in zip(marks, texts, strict=True):
            title = Element("title")
            title.text = text
            mark.insert(0, title)
            mark.set("class", "mark")


def _ids(root: Element, name: str) -> None:
    """Those that are pointed at alone, with the figure's name before them."""
    wanted = set()
    for element in root.iter():
        wanted |= {
            value[1:] for key, value in element.attrib.items() if key == "href" and value[0] == "#"
        }
        wanted |= {found for value in element.attrib.values() for found in POINTED.findall(value)}
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                del element.attrib["id"]
                if value in wanted:
                    element.set("id", f"{name}-{value}")
            elif key == "href" and value.startswith("#"):
                element.set("href", f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(key, POINTED.sub(rf"url(#{name}-\1)", value))


def _attributes(element: Element) -> None:
    for key in ("d", "x", "y", "transform"):
        if key in element.attrib:
            short = LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[key])
            element.set(key, " ".join(short.split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if "style" in element.attrib:
        rules = [
            rule
            for rule in element.attrib["style"].split("; ")
            if not rule.startswith("font-family")
        ]
        element.set("style", COLOUR.sub(_variable, ";".join(rules)))


def _variable(found: re.Match[str]) -> str:
    channels = _channels(found[1])
    return found[0] if _in_the_dark(channels) == channels else f"var(--c-{found[1]})"


def _in_the_dark(colour: Channels) -> Channels:
    """Greys are turned round between ink and ground; a colour that is too dark is made lighter."""
    if len(set(colour)) == 1:
        share = colour[0] / 255
        return _mixed(DARK_INK, DARK_PAPER, share)
    for step in range(20):
        lighter = _mixed(colour, (255, 255, 255), step / 20)
        if _contrast(lighter) >= READABLE:
            return lighter
    return DARK_INK


def _mixed(first: Channels, second: Channels, share: float) -> Channels:
    """`share` of the second."""
    red, green, blue = (
        round((1 - share) * one + share * other) for one, other in zip(first, second, strict=True)
    )
    return red, green, blue


def _contrast(colour: Channels) -> float:
    return (_luminance(colour) + 0.05) / (_luminance(DARK_PAPER) + 0.05)


def _luminance(colour: Channels) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(text: str) -> Channels:
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)


def _hex(colour: Channels) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
