"""The report: one page that opens offline, the same as Markdown, and all figures and tables.

Everything is computed from the study directory, and nothing else: compiling twice gives the
same bytes.
"""

import base64
import html
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from modsearch.analysis.claims import Claim, Claims
from modsearch.analysis.numbers import scientific
from modsearch.analysis.recipes import finished
from modsearch.analysis.verdicts import Verdict
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage, State
from modsearch.errors import StudyError, first_line
from modsearch.reporting.figures.drawing import render, styled
from modsearch.reporting.material import Material, gather
from modsearch.reporting.parts import Section
from modsearch.reporting.sections import SECTIONS
from modsearch.reporting.studies import gather_studies, sections_of
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_bytes, write_text
from modsearch.study.completeness import cells, lacking, study_space

TITLES = {
    Verdict.BETTER: "Routed is better",
    Verdict.WORSE: "Routed is worse",
    Verdict.EQUIVALENT: "Equivalent",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.UNTRAINED: "Untrained",
    Verdict.NONE: "No verdict",
}


def compile_report(root: Path, out: Path | None = None) -> Path:
    """Write the report of a study and answer with the path of its page.

    Raises:
        StudyError: there is no study in `root`.
    """
    material = gather(root)
    title = TITLES[material.claims.headline.verdict]
    front = _Front(material, title, _missing_of(material), _left_out(material))
    made = (make(material) for make in SECTIONS.values())
    return _write(front, made, out or root / "report")


def compile_studies(roots: Mapping[str, Path], out: Path) -> Path:
    """Write one report of several studies, by what they are called in errors.

    Raises:
        StudyError: there is none in a folder, or they don't fit together.
    """
    studies = gather_studies(roots)
    named = list(zip(studies.names, studies.materials, strict=True))
    front = _Front(
        studies.together,
        f"{len(named)} studies",
        [f"{name}: {line}" for name, each in named for line in _missing_of(each)],
        [f"{name}: {line}" for name, each in named for line in _left_out(each)],
    )
    return _write(front, sections_of(studies, SECTIONS), out)


def _write(front: "_Front", made: Iterable[Section], out: Path) -> Path:
    """All files of a report; sections are made here, where figures have their style."""
    with styled():
        sections = [section for section in made if section.stands]
        drawn = {each.name: render(each) for section in sections for each in section.figures}
    for name, files in drawn.items():
        write_bytes(out / "figures" / f"{name}.png", files.png)
        write_bytes(out / "figures" / f"{name}.svg", files.svg)
    for drawing in (drawing for section in sections for drawing in section.figures):
        write_text(out / "figures" / f"{drawing.name}.csv", drawing.data.to_csv(index=False))
    for table in (table for section in sections for table in section.tables):
        write_text(out / "tables" / f"{table.name}.csv", table.frame.to_csv(index=False))
    page = _Page(front, sections, {name: files.svg for name, files in drawn.items()})
    write_text(out / "report.md", page.render("page.md.j2"))
    write_text(out / "index.html", page.render("page.html.j2"))
    return out / "index.html"


@dataclass(frozen=True)
class _Front:
    """What stands above the sections."""

    material: Material
    title: str
    """In two words."""
    missing: Sequence[str]
    left_out: Sequence[str]


@dataclass(frozen=True)
class _Page:
    front: _Front
    sections: Sequence[Section]
    images: Mapping[str, bytes]
    """SVG by the name of the figure."""

    def render(self, template: str) -> str:
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=template.endswith(".html.j2"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["md"] = _markdown
        material = self.front.material
        manifest, headline = material.manifest, material.claims.headline
        return environment.get_template(template).render(
            name=manifest.name,
            verdict=headline.verdict.value,
            verdict_title=self.front.title,
            claim=headline,
            needed=_needed_text(headline),
            missing=self.front.missing,
            left_out=self.front.left_out,
            counts=_counts(material.records),
            mixed=manifest.mixed,
            sections=self.sections,
            images={name: _data_url(svg) for name, svg in self.images.items()},
            command=_again(manifest),
        )


def _needed_text(claim: Claim) -> str:
    if claim.verdict is Verdict.UNTRAINED:
        return (
            "What it would take: a larger budget, so that models learn more than which byte "
            "follows which; `modsearch plan` warns where that is unlikely."
        )
    if claim.verdict is not Verdict.INCONCLUSIVE:
        return ""
    found = claim.needed
    if found is None or found.runs is None:
        return (
            "What it would take: more runs than are sensible; the arms are too close "
            "to be told apart at this budget."
        )
    return (
        f"What it would take: to tell a difference of {found.effect:.3f} nats in four of five "
        f"studies (deviation of a run {found.sd:.3f}), another study with confirm.runs = "
        f"{found.runs}: at most {scientific(found.flops)} FLOPs for both arms, about "
        f"{found.hours:.2g} hours on one worker. More runs for this one would be a look too many."
    )


def _missing_of(material: Material) -> list[str]:
    return _missing(material.directory, material.manifest, material.records, material.claims)


def _left_out(material: Material) -> list[str]:
    return [_here(material.directory, line) for line in material.left_out]


def _missing(
    directory: StudyDirectory, manifest: Manifest, records: Sequence[Record], claims: Claims
) -> list[str]:
    """What an unfinished study lacks for a full report: stages, then cells, or arms where the
    cells are not known."""
    if not records:
        return ["The study is empty: no trial has a result yet. Run `modsearch search` on it."]
    done = Counter((record.stage, record.arm) for record in records if finished(record))
    lines = []
    arms = []
    for stage, lacks in LACKS.items():
        wanted = [
            arm
            for arm, base in manifest.arms.items()
            if stage is Stage.CONFIRM or base is None  # controls are confirmed only
        ]
        absent = [arm for arm in wanted if not done[stage, arm]]
        if absent == wanted:
            lines.append(f"No trial of stage {stage} has finished: {lacks}.")
        elif absent:
            arms.append(f"No trial of stage {stage} has finished for {', '.join(absent)}.")
    try:
        found = lacking(cells(study_space(directory), records, manifest.explored, claims.settled))
        return lines + [f"{line[0].upper()}{line[1:]}." for line in found]
    except StudyError as error:
        why = _here(directory, first_line(error))
        return [*lines, *arms, f"Whether all results are there is not known: {why}."]


def _here(directory: StudyDirectory, text: str) -> str:
    """Paths as seen from the study, wherever it lies."""
    return re.sub(rf"(?<!\S){re.escape(str(directory.root))}/", "", text)


def _again(manifest: Manifest) -> str:
    """The command that makes a study again, as it is now: extended, and with its plugins."""
    words = ["modsearch", "search", "STUDY/space.yaml", "--out", "ANOTHER"]
    if manifest.plugins:
        # The copies, whose content is known; they lie beside the space.
        paths = [f"plugins/{name}" for name in manifest.plugins]
        words += ["--set", f"plugins={json.dumps(paths, ensure_ascii=False)}"]
    words += ["--engine", "ray"] if manifest.engine == "ray" else []
    return shlex.join(words)


LACKS = {
    Stage.MEASURE: "there are no isoFLOP curves, and no arm is chosen for the headline",
    Stage.CONFIRM: "there is no headline, and no interval",
}


def _counts(records: Sequence[Record]) -> str:
    """Trials by stage and how they ended."""
    parts = []
    for stage in Stage:
        states = Counter(record.state for record in records if record.stage is stage)
        ended = [f"{states[state]} {state.replace('_', ' ')}" for state in State if states[state]]
        if ended:
            parts.append(f"{stage}: {', '.join(ended)}")
    return "; ".join(parts)


def _data_url(svg: bytes) -> str:
    """An image of its own, so that ids of several figures can't clash on one page."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _markdown(text: str) -> str:
    """Text that stays text in Markdown, also inside of a table."""
    text = html.escape(text, quote=False).replace("\\", "\\\\")
    for mark in "|*_`[]#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
