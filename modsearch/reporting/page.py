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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from modsearch.analysis.claims import Claim, Claims, study_claims
from modsearch.analysis.compare import Confirmed
from modsearch.analysis.curves import MIN_POINTS, MIN_SIZES, WINDOW
from modsearch.analysis.numbers import decimal, scientific
from modsearch.analysis.recipes import finished
from modsearch.analysis.verdicts import Verdict
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage, State
from modsearch.errors import StudyError, first_line
from modsearch.reporting import routing, tables
from modsearch.reporting.figures import figures
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_bytes, write_text
from modsearch.study.completeness import cells, lacking, study_space

TITLES = {
    Verdict.BETTER: "Routed is better",
    Verdict.WORSE: "Routed is worse",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.UNTRAINED: "Untrained",
    Verdict.NONE: "No verdict",
}
CAPTIONS = {
    "differences": "Difference in causal loss with 95 % intervals: right of zero, the first arm "
    "of a row is better.",
    "isoflop": "IsoFLOP curves: causal validation loss of measured trials against parameters.",
    "forward": "Loss against realised forward FLOPs per token, measured trials.",
    "confirm": "Confirmed seeds, their means and 95 % intervals.",
    "routing_positions": "Share of tokens that each layer takes, by position, mean over seeds: "
    "under causal routing and as in training. Grey layers take every token.",
    "routing_sample": "The first tokens of one window, first seed: which layers take them.",
    "routing_weights": "Router weights, sigmoid(score), of all layers and seeds. Where the score "
    "alone decides, causal routing takes what is above 0.5; a predictor, a bias or a cut-off "
    "moves that.",
}


@dataclass(frozen=True)
class Table:
    """A table of the page; its name is that of the CSV file."""

    name: str
    frame: pd.DataFrame
    folded: bool = False
    """Shown only when asked for: many rows."""

    @property
    def header(self) -> list[str]:
        """Names of the columns shown."""
        return [str(name) for name in tables.display(self.frame).columns]

    @property
    def rows(self) -> list[list[str]]:
        """Cells as rounded text."""
        return [[str(cell) for cell in row] for row in tables.display(self.frame).to_numpy()]

    @property
    def numeric(self) -> list[bool]:
        """Which columns stand to the right."""
        return tables.numeric(self.frame)


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then figures, then tables."""

    title: str
    text: list[str] = field(default_factory=list)
    figures: Sequence[str] = ()
    tables: list[Table] = field(default_factory=list)
    always: bool = False
    """Whether it stands on the page without a figure or a table."""


def compile_report(root: Path, out: Path | None = None) -> Path:
    """Write the report of a study and answer with the path of its page.

    Raises:
        StudyError: there is no study in `root`.
    """
    directory = StudyDirectory(root)
    manifest, counted = directory.manifest(), directory.results()
    records = counted.records
    out = out or root / "report"
    claims = study_claims(manifest, records)
    results = {record.hash: directory.evaluations(record.hash) for record in records}
    found = {
        record.hash: report
        for arm in claims.routed
        for record in arm.records
        if (report := directory.routing(record.hash)) is not None
    }
    drawn = figures(manifest, claims, found)
    sections = [
        replace(section, tables=[table for table in section.tables if len(table.frame)])
        for section in _sections(manifest, records, claims, results, found)
    ]
    for name, (png, svg) in drawn.items():
        write_bytes(out / "figures" / f"{name}.png", png)
        write_bytes(out / "figures" / f"{name}.svg", svg)
    for table in (table for section in sections for table in section.tables):
        write_text(out / "tables" / f"{table.name}.csv", table.frame.to_csv(index=False))
    missing = _missing(directory, manifest, records)
    left_out = [_here(directory, line) for line in directory.left_out(counted)]
    page = _Page(manifest, records, claims, sections, drawn, missing, left_out)
    write_text(out / "report.md", page.render("page.md.j2"))
    write_text(out / "index.html", page.render("page.html.j2"))
    return out / "index.html"


@dataclass(frozen=True)
class _Page:
    manifest: Manifest
    records: Sequence[Record]
    claims: Claims
    sections: Sequence[Section]
    drawn: dict[str, tuple[bytes, bytes]]
    missing: list[str]
    left_out: list[str]

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
        headline = self.claims.headline
        return environment.get_template(template).render(
            name=self.manifest.name,
            verdict=headline.verdict.value,
            verdict_title=TITLES[headline.verdict],
            claim=headline,
            needed=_needed_text(headline),
            missing=self.missing,
            left_out=self.left_out,
            counts=_counts(self.records),
            mixed=self.manifest.mixed,
            sections=[
                section
                for section in self.sections
                if section.always or section.tables or set(section.figures) & set(self.drawn)
            ],
            figures={name: _data_url(svg) for name, (_, svg) in self.drawn.items()},
            captions=CAPTIONS,
            command=_again(self.manifest),
        )


def _sections(
    manifest: Manifest,
    records: Sequence[Record],
    claims: Claims,
    results: tables.Evaluations,
    telemetry: routing.Telemetry,
) -> list[Section]:
    evaluations = tables.evaluations(records, results)
    evaluation_tables = [
        Table("evaluation_means", tables.evaluation_means(evaluations)),
        Table("evaluations", evaluations, folded=True),
    ]
    return [
        Section(
            "IsoFLOP curves",
            [_fit_rules()],
            ["isoflop"],
            [Table("minima", tables.minima(claims))],
        ),
        Section(
            "Compute multiplier",
            _multiplier_text(claims),
            (),
            [Table("multipliers", tables.multipliers(claims))],
            always=bool(claims.by_budget),
        ),
        Section("Loss against forward FLOPs", [FORWARD], ["forward"]),
        Section(
            "Confirmed winners",
            [CONFIRMED],
            ["confirm"],
            [
                Table("winners", tables.winners(claims)),
                Table("comparisons", tables.comparisons(claims)),
            ],
        ),
        Section("Routed arms", [STANDINGS], (), [Table("standings", tables.standings(claims))]),
        Section("Controls", [CONTROLS], (), [Table("controls", tables.controls(claims))]),
        _routing_section(claims.routed, telemetry),
        Section("Routing maps", [], ["routing_positions", "routing_sample", "routing_weights"]),
        Section(
            "Explore's ranking", [EXPLORE], (), [Table("explore", tables.exploration(records))]
        ),
        Section("Evaluation", [EVALUATION], (), evaluation_tables),
        Section("Corpus", [CORPUS], (), [Table("corpus", tables.corpus(manifest))]),
        Section(
            "Rejected, failed and untrained",
            [],
            (),
            [Table("left_out", tables.left_out(manifest, records))],
        ),
        Section("Every trial", [], (), [Table("trials", tables.trials(records), folded=True)]),
        Section(
            "FLOP conventions",
            [CONVENTIONS],
            (),
            [Table("conventions", tables.conventions(claims))],
        ),
        Section("Manifest", [], (), [Table("manifest", tables.provenance(manifest), folded=True)]),
    ]


def _routing_section(arms: Sequence[Confirmed], telemetry: routing.Telemetry) -> Section:
    """Of confirmed trials at each arm's largest budget."""
    return Section(
        "Routing",
        [ROUTING, *routing.missing(arms, telemetry)],
        (),
        [
            Table("routing", routing.decisions(arms, telemetry)),
            Table("routing_membership", routing.membership(arms, telemetry)),
            Table("routing_correlations", routing.correlations(arms, telemetry)),
            Table("routing_layers", routing.layers(arms, telemetry), folded=True),
            Table("routing_overlaps", routing.overlaps(arms, telemetry), folded=True),
            Table("routing_calibration", routing.calibration(arms, telemetry), folded=True),
            Table("routing_tokens", routing.tokens(arms, telemetry), folded=True),
        ],
        always=bool(arms),
    )


FORWARD = (
    "Realised forward FLOPs per token, under causal routing. Where a dense optimum is measured, "
    "both axes are relative to it: x to its measured size, y to its minimum. Shaded: cheaper "
    "and better."
)
CONFIRMED = (
    "The ladder size nearest to each arm's minimum, trained on fresh seeds and scored once on the "
    "test part. Only these rows make the headline. Causal loss: no routing decision looks at a "
    "later token; train-mode loss may look ahead and ranks nothing. In the comparisons a "
    "positive difference means that the arm has the lower loss; rows other than the headline "
    "were not chosen by measure and are there for completeness."
)
CONTROLS = (
    "A control is the arm's model with the router replaced: it tells the effect of routing from "
    "that of cheaper blocks. Positive differences: learned routing is better."
)
STANDINGS = (
    "Confirmed arms that route, controls too. Differences are in nats per token with 95 % "
    "intervals, each for itself: with many arms some exclude zero by chance. Positive: the arm "
    "has the lower loss. At the same budget an arm may have another size than a control that was "
    "made for another arm: the note says where."
)
ROUTING = (
    "Confirmed trials at each arm's largest budget, on the test part: means over seeds with their "
    "standard deviation. Flip rate: tokens that causal routing and training's rule decide "
    "differently, each on its own hidden states. Membership: the causal decision against "
    "training's on the same hidden states; always skip is the accuracy of routing no token at "
    "all, whose F1 is 0. Dead and always ids: shares of the vocabulary ids seen 20 times or more "
    "that no block, or every block, ever takes. Correlations: of the number of routed blocks that "
    "take a token with its loss and with the entropy of its prediction; the partial one compares "
    "tokens at the same position, and its interval holds for other windows and seeds. A dash "
    "there: position alone decides, or no token is routed."
)
EXPLORE = (
    "Ranks recipes within an arm, by causal validation loss. Its values are the best of many "
    "draws: they enter no fit and no claim. Columns: what differs between recipes."
)
EVALUATION = "lm-eval scores of finished trials; means over seeds first."
CORPUS = (
    "A cell whose best loss does not beat the bigram entropy is untrained and gets no verdict."
)
CONVENTIONS = (
    "Budgets are paid by the exact ledger. Other conventions, for comparison with other work: "
    "they move fitted exponents, and 6N charges a routed model for parameters that a skipped "
    "token never meets. Head share: of the LM head in forward FLOPs."
)


def _fit_rules() -> str:
    return (
        f"A parabola in ln(parameters) for each arm, budget and depth, through the points within "
        f"a factor of {WINDOW} of the lowest one, {MIN_POINTS} at least, from a ladder of "
        f"{MIN_SIZES} sizes or more. N* is the vertex; the deviation of its loss is propagated "
        f"from the run-to-run deviation, the larger of the fits' residuals and confirm's seeds."
    )


def _multiplier_text(claims: Claims) -> list[str]:
    """What the dense arm would need for the routed arm's loss."""
    claim = claims.headline
    found = claim.multiplier
    if found is None:
        return [f"None: {claim.no_multiplier or claim.reason}."]
    value, low, high = found.adjusted
    first = (
        f"The dense arm would need {decimal(found.value, 2)} times the training FLOPs "
        f"{_bounds(found.low, found.high)} for the routed arm's loss, at a slope of "
        f"{decimal(found.slope.value)} nats per e-fold of compute. Adjusted by measured speed "
        f"(the routed arm's training takes {decimal(found.time_ratio, 2)} times as long at "
        f"the same budget), {decimal(value, 2)} times the training time {_bounds(low, high)}."
    )
    how = (
        "exp(d / s): d is confirm's difference, s the slope of the dense minima. The interval is "
        "Fieller's and carries both errors; that of the time ratio is not in it."
    )
    if found.extrapolated:
        how += " Extrapolated: the implied dense budget lies outside of the measured ones."
    return [first, how]


def _bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "(no interval: the slope can't be told from zero)"
    return f"[{decimal(low, 2)}, {decimal(high, 2)}]"


def _needed_text(claim: Claim) -> str:
    if claim.verdict is not Verdict.INCONCLUSIVE:
        return ""
    found = claim.needed
    if found is None:
        return (
            "What it would take: more seeds than are sensible; the arms are too close "
            "to be told apart at this budget."
        )
    return (
        f"What it would take: to tell a difference of {found.effect:.3f} nats at 80 % power "
        f"(deviation over seeds {found.sd:.3f}), {found.seeds} seeds per arm: {found.trials} more "
        f"trials, {scientific(found.flops)} FLOPs, about {found.hours:.2g} hours on one worker."
    )


def _missing(
    directory: StudyDirectory, manifest: Manifest, records: Sequence[Record]
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
        found = lacking(cells(study_space(directory), records, manifest.explored))
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
