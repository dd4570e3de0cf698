"""The report: one page that opens offline, the same as Markdown, and all figures and tables.

Everything is computed from the study directory, and nothing else: compiling twice gives the
same bytes.
"""

import base64
import hashlib
import html
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from modsearch.analysis.additions import growth_lines
from modsearch.analysis.claims import Claim, Claims
from modsearch.analysis.numbers import duration, scientific
from modsearch.analysis.trials import finished
from modsearch.analysis.verdicts import Verdict
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage, State
from modsearch.config.units import Unit, nats
from modsearch.errors import StudyError, first_line
from modsearch.reporting.facts import facts
from modsearch.reporting.figures.drawing import Files, render, styled
from modsearch.reporting.figures.inline import colours
from modsearch.reporting.findings_table import SHOWN_BY, only_shown
from modsearch.reporting.material import Material, gather
from modsearch.reporting.paper import PAPER
from modsearch.reporting.parts import Section
from modsearch.reporting.recipe import (
    DEFAULT,
    Recipe,
    RecipeLike,
    load_recipe,
    paragraphs,
    told_apart,
    worded,
)
from modsearch.reporting.sections import SECTIONS, WHOLE
from modsearch.reporting.studies import gather_studies, sections_of
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_bytes, write_text
from modsearch.study.completeness import cells, lacking, study_space

HERE = Path(__file__).parent
GENERATOR = '<meta name="generator" content="modsearch">'
NAMED_FILES = re.compile(r">(figures|tables)/([\w-]+)(\.\w+(?:, \.\w+)*)<")
"""How a page says which files belong to it."""
PLAIN_IN_LINKS = "/:,;()*!@$+"
ALL = SECTIONS | PAPER
"""Every section that a recipe may ask for, by its name."""
TITLES = {
    Verdict.BETTER: "Routed is better",
    Verdict.WORSE: "Routed is worse",
    Verdict.EQUIVALENT: "Equivalent",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.UNTRAINED: "Untrained",
    Verdict.NONE: "No verdict",
}


def compile_report(root: Path, out: Path | None = None, recipe: RecipeLike = DEFAULT) -> Path:
    """Write the report of a study by a recipe, and answer with the path of its page.

    Raises:
        StudyError: there is no study in `root`.
        ConfigError: there is no such recipe, or it is wrong.
    """
    material = gather(root)
    found = load_recipe(recipe, ALL, WHOLE, material.arms)
    front = _Front(
        material,
        TITLES[material.claims.headline.verdict],
        _missing_of(material),
        _left_out(material),
        growth_lines(material.manifest),
        found,
    )
    return _write(front, _sections(material, found), out or root / "report")


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
        [f"{name}: {line}" for name, each in named for line in growth_lines(each.manifest)],
    )
    return _write(front, sections_of(studies, SECTIONS), out)


def _write(front: "_Front", made: Iterable[Section], out: Path) -> Path:
    """All files of a report; sections are made here, where figures have their style."""
    with styled():
        every = list(made)
        sections = _pointed(list(told_apart([section for section in every if section.stands])))
        drawn = {each.name: render(each) for section in sections for each in section.figures}
    earlier = _named_by(out / "index.html")
    for name, files in drawn.items():
        write_bytes(out / "figures" / f"{name}.png", files.png)
        write_bytes(out / "figures" / f"{name}.svg", files.svg)
        write_bytes(out / "figures" / f"{name}.pdf", files.pdf)
    for drawing in (drawing for section in sections for drawing in section.figures):
        write_text(out / "figures" / f"{drawing.name}.csv", _csv(drawing.data))
    for table in (table for section in sections for table in section.tables):
        write_text(out / "tables" / f"{table.name}.csv", _csv(table.frame))
        write_text(out / "tables" / f"{table.name}.tex", table.latex)
    page = _Page(front, sections, _empty(every), drawn)
    write_text(out / "report.md", page.render("page.md.j2"))
    write_text(out / "index.html", page.render("page.html.j2"))
    for path in earlier - _named_by(out / "index.html"):
        path.unlink(missing_ok=True)
    return out / "index.html"


def _named_by(page: Path) -> set[Path]:
    """Files of figures and tables that a page of ours says it has; nobody else's."""
    text = page.read_text(errors="replace") if page.is_file() else ""
    return {
        page.parent / folder / f"{name}{ending}"
        for folder, name, endings in NAMED_FILES.findall(text if GENERATOR in text else "")
        for ending in endings.split(", ")
    }


def _empty(sections: Iterable[Section]) -> list[str]:
    return [
        f"{section.title} (needs {section.needs})"
        for section in sections
        if section.needs and not section.stands
    ]


def _sections(material: Material, recipe: Recipe) -> Iterator[Section]:
    """Those of a recipe, with its words."""
    for part in recipe.sections:
        arms = part.arms or recipe.arms
        yield worded(ALL[part.section](material.only(arms) if arms else material), part)


@dataclass(frozen=True)
class _Front:
    """What stands above the sections."""

    material: Material
    verdict: str
    """In two words."""
    missing: Sequence[str]
    left_out: Sequence[str]
    grown: Sequence[str]
    """What came after the first results."""
    recipe: Recipe | None = None


@dataclass(frozen=True)
class _Page:
    front: _Front
    sections: Sequence[Section]
    empty: Sequence[str]
    """Sections that this study has nothing for, each with what it would need."""
    figures: Mapping[str, Files]
    """By name."""

    def render(self, template: str) -> str:
        environment = Environment(
            loader=FileSystemLoader(HERE),
            autoescape=template.endswith(".html.j2"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["md"] = _markdown
        environment.filters["prose"] = _prose
        environment.filters["data_url"] = _data_url
        script = (HERE / "page.js").read_text()
        images = {name: files.inline for name, files in self.figures.items()}
        material, recipe = self.front.material, self.front.recipe
        manifest, headline = material.manifest, material.claims.headline
        return environment.get_template(template).render(
            name=manifest.name,
            verdict=headline.verdict.value,
            verdict_title=self.front.verdict,
            claim=headline,
            needed=_needed_text(headline, manifest.unit),
            missing=self.front.missing,
            left_out=self.front.left_out,
            counts=_counts(material.records),
            mixed=manifest.mixed,
            grown=self.front.grown,
            title=recipe.title if recipe else None,
            text=paragraphs(recipe.text) if recipe else [],
            sections=self.sections,
            empty=self.empty,
            facts=facts(manifest, material.records),
            images={name: Markup(image) for name, image in images.items()},
            colours=colours(images.values()),
            style=Markup((HERE / "page.css").read_text()),
            script=Markup(script),
            script_hash=_script_hash(script),
            shown_by=SHOWN_BY,
            places=_places(self.sections),
            several=recipe is None,
            command=_again(manifest),
        )


def _needed_text(claim: Claim, unit: Unit) -> str:
    if claim.verdict is Verdict.UNTRAINED:
        return (
            "What it would take: a larger budget, so that models learn more than which token "
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
        f"What it would take: to tell a difference of {found.effect:.3f} {nats(unit)} in four of "
        f"five studies (deviation of a run {found.sd:.3f}), another study with confirm.runs = "
        f"{found.runs}: at most {scientific(found.flops)} FLOPs for both arms, about "
        f"{duration(3600 * found.hours)} on one worker. More runs for this one would be a look "
        f"too many."
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
            for arm, base in manifest.asked.items()
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


def _places(sections: Sequence[Section]) -> dict[str, str]:
    """Titles of sections by the figures and tables in them, as the ledger names these."""
    figures = {f"figures/{each.name}": of.title for of in sections for each in of.figures}
    tables = {f"tables/{each.name}": of.title for of in sections for each in of.tables}
    return figures | tables


def _pointed(sections: Sequence[Section]) -> list[Section]:
    """The same, whose tables name no figure or table that is not in one of them."""
    places = _places(sections)
    return [
        replace(of, tables=[replace(t, frame=only_shown(t.frame, places)) for t in of.tables])
        for of in sections
    ]


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False)


def _data_url(frame: pd.DataFrame) -> str:
    """The CSV file in a link, for a page that was moved without its folder."""
    return f"data:text/csv;charset=utf-8,{quote(_csv(frame), safe=PLAIN_IN_LINKS)}"


def _script_hash(script: str) -> str:
    """What the page's policy knows the only script by that may run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _prose(text: str) -> Markup:
    """What stands between backticks is set as code."""
    if "`" not in text:  # as in most cells of a table with many rows
        return Markup(html.escape(text))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text)))


def _markdown(text: str) -> str:
    """Text that stays text in Markdown, also inside of a table."""
    text = html.escape(text, quote=False).replace("\\", "\\\\")
    for mark in "|*_`[]#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
