"""What stands on the page and in which order: headings, explanations, figures, tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Confirmed
from modsearch.analysis.curves import MIN_POINTS, MIN_SIZES, WINDOW
from modsearch.analysis.noise import SEED_SD
from modsearch.analysis.numbers import decimal, interval
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record
from modsearch.reporting import frames, law_tables, routing, study_tables, trial_tables

FORWARD = (
    "Realised forward FLOPs per token, under causal routing. Where a dense optimum is measured, "
    "both axes are relative to it: x to its measured size, y to its minimum. Shaded: cheaper "
    "and better."
)
CONFIRMED = (
    "The ladder size nearest to each arm's minimum and its two neighbours, trained on fresh seeds "
    "and scored once on the test part; an arm's causal loss is the lowest of the parabola through "
    "them, and the other columns are those of the size nearest to it. Only these rows make the "
    "headline. Causal: no routing decision looks at a "
    "later token; train-mode loss may look ahead and ranks nothing. Brackets: 95 % intervals; of "
    "the causal loss the repeated one of the last look, of the other columns that of the mean "
    "over seeds. In the comparisons a positive difference means that the arm has the lower loss. "
    "Rows other than the headline are beside it: each has its own repeated 95 % interval, and "
    "`better` or `worse` where its p, adjusted for the looks and for all rows beside the headline "
    "at that budget, controls too, is below 0.05 (Holm 1979); so a row whose interval just "
    "excludes zero may be inconclusive. Equivalent is not adjusted."
)
CONTROLS = (
    "A control is the arm's model with the router replaced: it tells the effect of routing from "
    "that of cheaper blocks. Positive differences: learned routing is better. Verdicts are "
    "adjusted for all comparisons beside the headline, as above."
)
STANDINGS = (
    "Confirmed arms that route, controls too. Differences are in nats per token with repeated "
    "95 % intervals, each for itself: with many arms some exclude zero by chance. Positive: the "
    "arm has the lower loss. At the same budget an arm may have another size than a control that "
    "was made for another arm: the note says where."
)
ROUTING = (
    "Confirmed trials at each arm's largest budget, on at most 256 evenly spaced windows of the "
    "test sample: means over seeds with their standard deviation. Flip rate: tokens that causal "
    "routing and training's rule decide differently, each on its own hidden states. Membership: "
    "the causal decision against training's on the same hidden states; always skip is the "
    "accuracy of routing no token at all, whose F1 is 0. Dead and always ids: shares of the "
    "vocabulary ids seen 20 times or more that no block, or every block, ever takes. "
    "Correlations: of the number of routed blocks that take a token with its loss and with the "
    "entropy of its prediction; the partial one compares tokens at the same position, and its "
    "interval holds for other windows and seeds. A dash there: position alone decides, or no "
    "token is routed."
)
LAWS = (
    "N* ~ C to the exponent, through the vertices of the curves and by the joint surface "
    "L = E + A / N^alpha + B / D^beta of all trials (variable projection with non-negative least "
    "squares; 95 % of a bootstrap that gives every trial another seed). Exponents move with what "
    "counts as a parameter (Porian et al. 2024), E and the exponents trade against each other "
    "where a study spans little (Besiroglu et al. 2024), and a parabola's vertex is off where a "
    "grid is wide or uneven (Czech et al. 2026): the last column has that bias for these grids, "
    "if the surface holds. Below, each budget is foretold from the arm's others; `modsearch "
    "predict` does it for any other."
)
EXPLORE = (
    "Ranks recipes within an arm, by causal validation loss. Its values are the best of many "
    "draws: they enter no fit and no claim. Columns: what differs between recipes."
)
EVALUATION = (
    "lm-eval scores of finished trials; means over seeds first, with 95 % intervals that hold the "
    "scatter over seeds and the items' error. All seeds and arms answer the same items, so more "
    "seeds do not make the latter smaller, and much of it is the same for two arms."
)
CORPUS = (
    "A cell whose best loss does not beat the bigram entropy is untrained and gets no verdict. "
    "Near-duplicates share a tenth of their text; what stands in train does so verbatim, 50 bytes "
    "at least."
)
CONVENTIONS = (
    "Budgets are paid by the exact ledger. Other conventions, for comparison with other work: "
    "they move fitted exponents, and 6N charges a routed model for parameters that a skipped "
    "token never meets. Head share: of the LM head in forward FLOPs."
)


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
        return [str(name) for name in frames.display(self.frame).columns]

    @property
    def rows(self) -> list[list[str]]:
        """Cells as rounded text."""
        return [[str(cell) for cell in row] for row in frames.display(self.frame).to_numpy()]

    @property
    def numeric(self) -> list[bool]:
        """Which columns stand to the right."""
        return frames.numeric(self.frame)


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then figures, then tables."""

    title: str
    text: list[str] = field(default_factory=list)
    figures: Sequence[str] = ()
    tables: list[Table] = field(default_factory=list)
    always: bool = False
    """Whether it stands on the page without a figure or a table."""


def sections_of(
    manifest: Manifest,
    records: Sequence[Record],
    claims: Claims,
    results: trial_tables.Evaluations,
    telemetry: routing.Telemetry,
    ladder: Sequence[trial_tables.Size],
) -> list[Section]:
    """Every section that a report may have, empty ones too."""
    evaluations = trial_tables.evaluations(records, results)
    evaluation_tables = [
        Table("evaluation_means", trial_tables.evaluation_means(evaluations)),
        Table("evaluations", evaluations, folded=True),
    ]
    return [
        Section(
            "IsoFLOP curves",
            [_fit_rules()],
            ["isoflop"],
            [Table("minima", study_tables.minima(claims))],
        ),
        Section(
            "Compute multiplier",
            _multiplier_text(claims),
            (),
            [Table("multipliers", study_tables.multipliers(claims))],
            always=bool(claims.by_budget),
        ),
        _laws_section(manifest, records),
        Section("Loss against forward FLOPs", [FORWARD], ["forward"]),
        Section(
            "Confirmed winners",
            [CONFIRMED],
            ["confirm"],
            [
                Table("winners", trial_tables.winners(claims)),
                Table("comparisons", study_tables.comparisons(claims)),
            ],
        ),
        Section(
            "Routed arms", [STANDINGS], (), [Table("standings", study_tables.standings(claims))]
        ),
        Section("Controls", [CONTROLS], (), [Table("controls", study_tables.controls(claims))]),
        _routing_section(claims.routed, telemetry),
        Section("Routing maps", [], ["routing_positions", "routing_sample", "routing_weights"]),
        Section(
            "Explore's ranking",
            [EXPLORE],
            (),
            [Table("explore", trial_tables.exploration(records))],
        ),
        Section("Evaluation", [EVALUATION], (), evaluation_tables),
        Section("Corpus", [CORPUS], (), [Table("corpus", study_tables.corpus(manifest))]),
        Section(
            "Rejected, failed, missing and untrained",
            [],
            (),
            [Table("left_out", trial_tables.left_out(manifest, records, ladder))],
        ),
        Section(
            "Every trial", [], (), [Table("trials", trial_tables.trials(records), folded=True)]
        ),
        Section(
            "FLOP conventions",
            [CONVENTIONS],
            (),
            [Table("conventions", study_tables.conventions(claims))],
        ),
        Section(
            "Manifest", [], (), [Table("manifest", study_tables.provenance(manifest), folded=True)]
        ),
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


def _laws_section(manifest: Manifest, records: Sequence[Record]) -> Section:
    """Of arms with fitted minima at three budgets."""
    arms = law_tables.arms_of(manifest, records)
    return Section(
        "Scaling laws",
        [LAWS],
        (),
        [
            Table("law_exponents", law_tables.exponents(arms)),
            Table("law_left_out", law_tables.left_out(arms)),
        ],
    )


def _fit_rules() -> str:
    return (
        f"A parabola in ln(parameters) for each arm, budget and depth, through the points within "
        f"a factor of {WINDOW} of the lowest one, {MIN_POINTS} at least, from a ladder of "
        f"{MIN_SIZES} sizes or more; a trial far off the others is set aside, and the note "
        f"says so. N* is the vertex. Intervals are 95 %, by the run-to-run deviation of the fits' "
        f"residuals and confirm's seeds together, or of the seeds where that is larger; before "
        f"there are seeds, that of residuals is moderated towards {SEED_SD} nats. measure trains "
        f"all sizes with one seed, and what that shifts alike no residual shows: the minima of a "
        f"budget may share an error of that size. An interval of N* ends where the ladder does, "
        f"if nothing else bounds it. A "
        f"parabola is blind to skew: a wide or uneven grid moves its vertex (Czech et al. 2026, "
        f"arXiv 2603.22339)."
    )


def _multiplier_text(claims: Claims) -> list[str]:
    """What the dense arm would need for the routed arm's loss."""
    claim = claims.headline
    found = claim.multiplier
    if found is None:
        return [f"None: {claim.no_multiplier or claim.reason}."]
    first = (
        f"The dense arm would need {decimal(found.value, 2)} times the training FLOPs "
        f"{_bounds(found.low, found.high)} for the routed arm's loss, at a slope of "
        f"{decimal(found.slope.value)} nats per e-fold of compute "
        f"{_bounds(found.slope.low, found.slope.high, 4)}."
    )
    how = (
        f"exp(d / s): d is confirm's difference, s the slope of the dense minima at the "
        f"headline's budget, {found.slope.kind}. The interval is "
        f"Fieller's and carries both errors. Time is not in it: trials that share a machine slow "
        f"each other, so a time ratio is measured apart, on a quiet device."
    )
    if found.extrapolated:
        how += " Extrapolated: the implied dense budget lies outside of the measured ones."
    return [first, how]


def _bounds(low: float | None, high: float | None, digits: int = 2) -> str:
    if low is None or high is None:
        return "(no interval: the slope can't be told from zero)"
    return interval(low, high, digits)
