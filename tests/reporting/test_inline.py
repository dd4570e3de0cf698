"""Figures as parts of a page: unique ids, both themes, hover texts."""

import io
import re
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from modsearch.reporting.figures.drawing import Drawing, on_hover, render, styled
from modsearch.reporting.figures.inline import colours, inline
from modsearch.reporting.frames import frame_of


def drawn(name: str, label: str = "<b> & 'x'") -> str:
    """Two points with a text each, and a bar with one."""
    with styled():
        figure = Figure(figsize=(4, 3))
        ax = figure.subplots()
        hovers: dict[str, object] = {}
        [line] = ax.plot([1, 2], [1, 2], ls="", marker="o", mfc="white", c="#003355")
        on_hover(hovers, line, "one < two", "two")
        on_hover(hovers, ax.bar([1], [1], color="#777777")[0], "bar")
        ax.set_xlabel(label)
        return render(Drawing(name, label, figure, frame_of([]), hovers)).inline


def test_ids_of_two_figures_differ_and_each_reference_has_its_target() -> None:
    text = drawn("one") + drawn("two")
    ids = re.findall(r' id="([^"]+)"', text)
    assert ids
    assert len(ids) == len(set(ids))
    pointed = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert pointed == set(ids)


def test_every_mark_has_its_own_text_and_a_patch_has_one() -> None:
    root = ElementTree.fromstring(drawn("one"))
    titles = [(parent.tag, title.text) for parent in root.iter() for title in parent
              if title.tag == "title"]  # fmt: skip
    assert titles == [("g", "bar"), ("use", "one < two"), ("use", "two")]


def test_text_is_text_and_hostile_names_are_escaped() -> None:
    text = drawn("one", "<script>alert('$x_1$')</script>")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "<?xml" not in text
    assert "<!DOCTYPE" not in text
    assert "<style" not in text
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "<script>alert('$x_1$')</script>"
    assert "<script>alert('$x_1$')</script>" in [each.text for each in root.iter("text")]


def test_no_hard_grey_and_nothing_too_dark_for_the_dark_page() -> None:
    text = drawn("one")
    for channels in re.findall(r"#([0-9a-f]{6})", text):
        assert len({channels[:2], channels[2:4], channels[4:]}) > 1
    values = colours([text])
    assert values["--c-ffffff"] == ("#ffffff", "#12161c")
    assert values["--c-000000"] == ("#000000", "#e6eaef")
    light, dark = values["--c-003355"]
    assert light == "#003355"
    assert sum(bytes.fromhex(dark[1:])) > sum(bytes.fromhex(light[1:]))
    assert "var(--c-003355)" in text


def test_the_ground_is_left_out_and_the_files_keep_theirs() -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots()
    file = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg", transparent=True)
    assert inline(file.getvalue(), "x", "x", {}).count("<path") < file.getvalue().count(b"<path")
