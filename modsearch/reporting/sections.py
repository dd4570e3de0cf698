"""What stands on the page and in which order: headings, explanations, figures, tables."""

from collections.abc import Callable

from modsearch.analysis.claims import Claims
from modsearch.analysis.curves import MIN_POINTS, MIN_SIZES, WINDOW
from modsearch.analysis.findings import findings
from modsearch.analysis.noise import SEED_SD
from modsearch.analysis.numbers import decimal, interval
from modsearch.analysis.speed_findings import speed_findings
from modsearch.config.units import Unit, nats
from modsearch.reporting import (
    evaluation_tables,
    findings_table,
    fronts,
    law_tables,
    pace,
    prices,
    references,
    routing,
    study_tables,
    trial_tables,
)
from modsearch.reporting.facts import chance
from modsearch.reporting.figures import comparisons, curves
from modsearch.reporting.figures import prices as price_figures
from modsearch.reporting.figures import references as reference_figures
from modsearch.reporting.figures import routing as maps
from modsearch.reporting.material import Material
from modsearch.reporting.parts import Section, Table, section_of

MODELS = (
    "The headline's two winners, each at the confirmed size nearest to its minimum; the causal "
    "loss is that of the fitted minimum itself, which may lie above the mean of one size, and the "
    "other columns are those of this size. Cache: keys "
    "and values that decoding keeps of a token, by the share of tokens that each routed layer "
    "took of the test sample."
)
FORWARD = (
    "Realised forward FLOPs per {unit}, under causal routing. Where a dense optimum is measured, "
    "both axes are relative to it: x to its measured size, y to its minimum. Shaded: cheaper "
    "and better."
)
LEDGER = (
    "Claims of Raposo et al. 2024 (arXiv 2404.02258), one a row, at the largest budget that can "
    "answer; smaller ones stand behind the reason. Supported: the 95 % interval excludes the "
    "opposite. Refuted: it excludes the claim. Equivalent: the interval (of losses that of 90 %) "
    "lies within a stated bound. Underpowered: none of these; the smallest effect is what such an "
    "interval tells in four of five studies, 1.43 halves of it. Nats are positive where they "
    "speak for the claim. Whatever the word, it is one about this study's scale; the paper's "
    "budgets are 6e18 to 1e20 FLOPs.",
    "Each row stands for itself: nothing is adjusted for how many there are, so that of twenty "
    "words one may be wrong. Only controls are adjusted, among the comparisons beside the "
    "headline. Differences in loss between arms are of fresh seeds. Where optima lie is read off "
    "the curves, of the routed arm whose minimum is lowest at that budget: their parabolas may be "
    "skew, and the same trials have chosen arm and depth. What is said of routing is answered by "
    "an arm with the paper's own router, expert-choice top-k, where one is confirmed, and by none "
    "where that does not beat the corpus's bigrams.",
)
CONFIRMED = (
    "The ladder size nearest to each arm's minimum and its two neighbours, trained on fresh seeds "
    "and scored once on the test part; an arm's causal loss is the lowest of a parabola fitted to "
    "them, whose curvature leans on what measure saw of it, and the other columns are those of "
    "the size nearest to it. Only these rows make the "
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
    "Confirmed arms that route, controls too. Differences are in nats per {unit} with repeated "
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
EVALUATION = (
    "lm-eval scores of finished trials. Of each suite first its average, accuracy centred on "
    "chance ((accuracy - chance) / (1 - chance), mean over tasks), then the metric that leads in "
    "each task, then others; means over seeds with 95 % intervals that hold the scatter over "
    "seeds and the items' error, and the accuracy of guessing (chance) where the suite states it. "
    "Small models are hardly told apart by accuracy: answer bits per byte (lower is better) is "
    "the code length of the right answer, answer margin (higher) its probability among the "
    "choices minus that of the likeliest wrong one. Scores are causal; a task that is marked "
    "top-k was scored with training's routing, which sees later tokens: that is no likelihood, "
    "and is compared with nothing.",
    "All seeds and arms answer the same items, so more seeds do not make the items' error "
    "smaller, and most of it is the same for two arms. Differences of the headline's two "
    "winners are taken item by item, with seeds and items as crossed random effects; positive: "
    "the routed arm is better, whether the metric is or not. Runs of all confirmed sizes are in "
    "a mean, with the weights that their losses have in the arm's lowest one. Intervals of "
    "differences hold together at 95 % (Bonferroni), and words are by p adjusted for the "
    "suite's tasks (Holm 1979); averages are not adjusted.",
)
REFERENCES = (
    "Rows of stage reference are models that stand beside the study, scored on the same items by "
    "`modsearch eval TARGET --study`: weights of others, or a checkpoint. They cost what they "
    "cost, and no budget was the same, so that they enter no claim. In the differences a positive "
    "value means that the winner is better than the reference, which is taken as it is: intervals "
    "are over the winner's seeds and over items, and are adjusted for each reference by itself."
)
MOST_BESIDE = 10
"""Winners up to which each has a column and not a row: they have two dozen properties."""
CORPUS = (
    "A cell whose best loss does not beat the bigram entropy is untrained and gets no verdict. "
    "Near-duplicates share a tenth of their text; what stands in train does so verbatim, 50 bytes "
    "at least."
)
SEVERAL = (
    "A tokenizer for each vocab_size, 256 being the bytes themselves. Losses, margins and forward "
    "FLOPs of this study are for each byte of text: those of a token over the mean bytes per "
    "token of the part that is scored, the end of a document as one byte. Windows have the same "
    "number of tokens, so that samples of explore and measure are other text for each tokenizer; "
    "confirm, without a number of windows, scores the whole test part."
)
CONVENTIONS = (
    "Budgets are paid by the exact ledger. Other conventions, for comparison with other work: "
    "they move fitted exponents, and 6N charges a routed model for parameters that a skipped "
    "token never meets. Head share: of the LM head in forward FLOPs."
)


def _models(material: Material) -> Section:
    """The two winners of the headline."""
    found = trial_tables.models(
        material.claims, material.telemetry, material.manifest.runtime.precision
    )
    text = [MODELS, f"Chance: {chance(material.manifest, material.records)}."]
    needs = "a confirmed dense arm and a confirmed routed one"
    return section_of(
        "The two models", text, tables=[Table("models", found, turned=True)], needs=needs
    )


def _differences(material: Material) -> Section:
    needs = "two confirmed arms that are compared"
    drawn = [comparisons.differences(material.shown_claims)]
    return section_of("Differences", (), drawn, needs=needs)


def _ledger(material: Material) -> Section:
    """Of a study that has measured anything."""
    claims = material.claims
    measured = speed_findings(claims, material.speeds)
    found = findings(claims, material.manifest, material.records, material.telemetry, measured)
    rows = found if claims.curves or claims.confirmed else []
    tables = [Table("claims", findings_table.ledger(rows, claims.unit))]
    needs = "measured or confirmed trials"
    return section_of("Claims of the paper", LEDGER, tables=tables, needs=needs)


def _isoflop(material: Material) -> Section:
    claims = material.shown_claims
    return section_of(
        "IsoFLOP curves",
        [_fit_rules(claims.unit)],
        [curves.isoflop(claims, material.arms)],
        [Table("minima", study_tables.minima(claims))],
        needs="measured trials",
    )


def _multiplier(material: Material) -> Section:
    claims = material.claims
    return section_of(
        "Compute multiplier",
        [*_multiplier_text(claims), *_untimed(material)],
        tables=[Table("multipliers", study_tables.multipliers(claims))],
        always=bool(claims.by_budget),
        needs="a confirmed budget",
    )


def _laws(material: Material) -> Section:
    """Of arms with fitted minima at three budgets."""
    found = law_tables.arms_of(material.manifest, material.records)
    arms = [each for each in found if each.arm in material.shown]
    return section_of(
        "Scaling laws",
        [LAWS],
        tables=[
            Table("law_exponents", law_tables.exponents(arms)),
            Table("law_left_out", law_tables.left_out(arms)),
        ],
        needs="fitted minima of an arm at three budgets",
    )


def _forward(material: Material) -> Section:
    drawn = curves.forward(material.shown_claims, material.arms, material.claims.dense_minima)
    text = [FORWARD.format(unit=material.claims.unit)]
    return section_of("Loss against forward FLOPs", text, [drawn], needs="measured trials")


def _winners(material: Material) -> Section:
    claims = material.shown_claims
    winners = trial_tables.winners(claims)
    return section_of(
        "Confirmed winners",
        [CONFIRMED, *study_tables.margin(material.manifest, claims)],
        [comparisons.confirm(claims, material.arms)],
        [
            Table("winners", winners, turned=len(winners) <= MOST_BESIDE),
            Table("comparisons", study_tables.comparisons(claims)),
        ],
        needs="confirmed trials",
    )


def _standings(material: Material) -> Section:
    tables = [Table("standings", study_tables.standings(material.shown_claims))]
    needs = "confirmed routed arms beside the headline's"
    text = [STANDINGS.format(unit=material.claims.unit)]
    return section_of("Routed arms", text, tables=tables, needs=needs)


def _controls(material: Material) -> Section:
    tables = [Table("controls", study_tables.controls(material.shown_claims))]
    needs = "a confirmed control beside its arm"
    return section_of("Controls", [CONTROLS], tables=tables, needs=needs)


def _prices(material: Material) -> Section:
    """Only where winners were timed."""
    claims, speeds = material.claims, material.speeds
    if speeds is None or not speeds.arms:
        return section_of("At other prices", needs="times of its winners, by `modsearch time`")
    return section_of(
        "At other prices",
        prices.told(claims, speeds),
        [price_figures.pareto(claims, speeds, material.arms)],
        [
            Table("speeds", prices.speeds(claims, speeds)),
            Table("multipliers_at_equal_time", prices.multipliers(claims, speeds)),
        ],
    )


def _routing(material: Material) -> Section:
    """Of confirmed trials at each arm's largest budget."""
    arms, telemetry = material.shown_claims.routed, material.telemetry
    return section_of(
        "Routing",
        [ROUTING, *routing.missing(arms, telemetry)],
        tables=[
            Table("routing", routing.decisions(arms, telemetry)),
            Table("routing_membership", routing.membership(arms, telemetry)),
            Table("routing_correlations", routing.correlations(arms, telemetry)),
            Table("routing_layers", routing.layers(arms, telemetry), folded=True),
            Table("routing_overlaps", routing.overlaps(arms, telemetry), folded=True),
            Table("routing_calibration", routing.calibration(arms, telemetry), folded=True),
            Table("routing_tokens", routing.tokens(arms, telemetry), folded=True),
        ],
        always=bool(arms),
        needs="confirmed arms that route",
    )


def _maps(material: Material) -> Section:
    arms, telemetry = material.shown_claims.routed, material.telemetry
    drawn = [
        maps.positions(arms, telemetry, material.controls),
        maps.window(arms, telemetry),
        maps.weights(arms, telemetry),
    ]
    return section_of("Routing maps", (), drawn, needs="routing statistics of confirmed trials")


def _explore(material: Material) -> Section:
    records = material.shown_records
    tables = [Table("explore", trial_tables.exploration(records))]
    text = [trial_tables.EXPLORE, *trial_tables.stopped(records)]
    return section_of("Explore's ranking", text, tables=tables, needs="explored trials")


def _front(material: Material) -> Section:
    return fronts.front(material.shown_records, material.arms, material.claims.unit)


def _evaluation(material: Material) -> Section:
    scored, others = material.evaluations, material.references
    found = evaluation_tables.evaluations(material.shown_records, scored, others)
    means = evaluation_tables.evaluation_means(found, scored, others, material.claims.confirmed)
    compared = material.claims.headline.comparison
    shown = compared is not None and {compared.arm.arm, compared.reference.arm} <= set(
        material.shown
    )
    differences = evaluation_tables.evaluation_differences(compared if shown else None, scored)
    winners = [each for each in material.claims.winners if each.arm in material.shown]
    beside = references.beside(winners, scored, others)
    return section_of(
        "Evaluation",
        [*EVALUATION, REFERENCES] if others else EVALUATION,
        [reference_figures.references(beside, material.arms)],
        tables=[
            Table("evaluation_differences", differences),
            Table("reference_differences", references.reference_differences(beside)),
            Table("evaluation_means", means),
            Table("evaluations", found, folded=True),
        ],
        needs="scores of a suite, by `modsearch eval`",
    )


def _corpus(material: Material) -> Section:
    text = [CORPUS, SEVERAL] if material.manifest.corpora else [CORPUS]
    return section_of(
        "Corpus", text, tables=[Table("corpus", study_tables.corpus(material.manifest))]
    )


def _left_out(material: Material) -> Section:
    found = trial_tables.left_out(
        material.manifest, material.records, trial_tables.ladder_of(material.directory)
    )
    return section_of("Rejected, failed, missing and untrained", tables=[Table("left_out", found)])


def _trials(material: Material) -> Section:
    records = material.shown_records
    tables = [Table("trials", trial_tables.trials(records), folded=True)]
    tables.append(Table("times", pace.times(records), folded=True))
    return section_of("Every trial", tables=tables, needs="trials")


def _conventions(material: Material) -> Section:
    tables = [Table("conventions", study_tables.conventions(material.shown_claims))]
    return section_of("FLOP conventions", [CONVENTIONS], tables=tables, needs="confirmed trials")


def _manifest(material: Material) -> Section:
    found = study_tables.provenance(material.manifest)
    return section_of("Manifest", tables=[Table("manifest", found, folded=True)])


SECTIONS: dict[str, Callable[[Material], Section]] = {
    "models": _models,
    "ledger": _ledger,
    "differences": _differences,
    "isoflop": _isoflop,
    "multiplier": _multiplier,
    "laws": _laws,
    "forward": _forward,
    "winners": _winners,
    "standings": _standings,
    "controls": _controls,
    "prices": _prices,
    "routing": _routing,
    "maps": _maps,
    "explore": _explore,
    "front": _front,
    "evaluation": _evaluation,
    "corpus": _corpus,
    "left_out": _left_out,
    "trials": _trials,
    "conventions": _conventions,
    "manifest": _manifest,
}
"""Every section that a report may have, by the name that recipes know it by."""
WHOLE = ("models", "ledger", "multiplier", "prices", "corpus", "left_out", "manifest")
"""Those that are of a study as a whole: which arms a recipe shows changes nothing there."""


def _fit_rules(unit: Unit) -> str:
    return (
        f"A parabola in ln(parameters) for each arm, budget and depth, through the points within "
        f"a factor of {WINDOW} of the lowest one, {MIN_POINTS} at least, from a ladder of "
        f"{MIN_SIZES} sizes or more; a trial far off the others is set aside, and the note "
        f"says so. N* is the vertex. Intervals are 95 %, by the run-to-run deviation of the fits' "
        f"residuals and confirm's seeds together, or of the seeds where that is larger; before "
        f"there are seeds, that of residuals is moderated towards {SEED_SD} {nats(unit)}. "
        f"measure trains all sizes with the same seeds, and what those shift alike no residual "
        f"shows: minima of a budget may share an error of that size. An interval of N* ends where "
        f"the ladder does, if nothing else bounds it. A "
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
        f"The dense arm would need {decimal(found.value, 3)} times the training FLOPs "
        f"{_bounds(found.low, found.high, 3)} for the routed arm's loss, at a slope of "
        f"{decimal(found.slope.value)} {nats(claims.unit)} per e-fold of compute "
        f"{_bounds(found.slope.low, found.slope.high, 4)}."
    )
    how = (
        f"exp(d / s): d is confirm's difference, s the slope of the dense minima at the "
        f"headline's budget, {found.slope.kind}. The interval is "
        f"Fieller's and carries both errors. Time is not in it."
    )
    if found.extrapolated:
        how += " Extrapolated: the implied dense budget lies outside of the measured ones."
    return [first, how]


def _untimed(material: Material) -> list[str]:
    """How time gets onto the page; nothing where it is there, or nothing is confirmed."""
    if not material.claims.confirmed or (material.speeds and material.speeds.arms):
        return []
    return [
        "Speeds: not measured. Trials that share a machine slow each other, so time is measured "
        "apart: `modsearch time STUDY`, on a quiet machine, adds the multiplier at equal training "
        "time, decoding and caches."
    ]


def _bounds(low: float | None, high: float | None, digits: int = 2) -> str:
    if low is None or high is None:
        return "(no interval: the slope can't be told from zero)"
    return interval(low, high, digits)
