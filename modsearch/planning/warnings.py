"""What a planned study should be told before it is run."""

import math
from collections import defaultdict
from collections.abc import Sequence

from modsearch.analysis.arms import Roles
from modsearch.analysis.choice import MOST_EXTENSIONS
from modsearch.analysis.compare import MIN_SEEDS
from modsearch.analysis.curves import MIN_SIZES
from modsearch.analysis.numbers import percent
from modsearch.config.records import Stage
from modsearch.config.units import nats
from modsearch.data.corpus import Corpora, Corpus
from modsearch.errors import ModsearchError
from modsearch.planning.cells import MANY_EPOCHS, Draft, PlannedCell
from modsearch.planning.flops import head_warning
from modsearch.planning.vocabularies import refuse_too_few, unlike
from modsearch.space.space import Space

ENOUGH_WINDOWS = 256
FEW_STEPS = 500
LONGER = (1.4, 2.3)
"""Times as long as said did real studies take (docs/measurements.md)."""
MUCH_COPIED = 0.05
"""Of the test text; what licences and idioms take is less."""
WIDE_MARGIN = 0.025
"""Of the loss of bigrams, and so more of any that beats it; the paper gains 1.5 % at most."""
SHORT, SMALL = 300, 5_000
"""Steps and parameters below which models of bytes rarely beat bigrams (docs/measurements.md)."""


def notes(space: Space, cells: list[Draft]) -> list[str]:
    """What stands for something else in a forecast, and what its losses are counted over."""
    low, high = LONGER
    notes = [
        f"hours are those of training and scoring alone: real studies took {low} to {high} times "
        f"as long, with start-up, workers beside each other and other programs"
    ]
    if space.explore is not None and (space.measure or space.confirm):
        notes.append("measure and confirm are planned with the first recipe of explore")
    if space.measure is not None and not space.measure.is_grid:
        notes.append(
            f"measure's trials are at the most so many: `{space.measure.sampler.name}` ends a "
            f"cell when its minimum is known well enough; it may try up to "
            f"{MOST_EXTENSIONS} sizes beyond each end of a ladder"
        )
    if space.unit == "byte":
        notes.append(
            f"a tokenizer for each vocab_size ({', '.join(map(str, space.vocab_sizes))}), so that "
            f"losses and margins are in nats per byte, forward FLOPs for each byte"
        )
        if few := _few_windows(space):
            notes.append(
                f"{few} score windows of so many tokens, which are other text for each tokenizer: "
                f"arms differ by that, too, and {ENOUGH_WINDOWS} `windows` halve it; confirm "
                f"without a number of them scores the same text"
            )
    for cell in cells:
        if cell.tried < cell.asked:
            notes.append(
                f"{cell.stage} {cell.arm} {cell.budget:.3g}: {cell.tried} points of "
                f"{cell.asked:,} were planned, and stand for all"
            )
    return notes


def _few_windows(space: Space) -> str:
    """Stages whose samples are small."""
    stages = [stage for stage in Stage if space.budgets(stage)]
    few = [s for s in stages if (space.validation(s).windows or ENOUGH_WINDOWS) < ENOUGH_WINDOWS]
    return " and ".join(few)


def _large_heads(cells: Sequence[PlannedCell]) -> list[str]:
    """A line, or one for each vocabulary where there are several."""
    shares: dict[int, float] = {}
    for cell in cells:
        for size, share in cell.head_shares.items():
            shares[size] = max(share, shares.get(size, 0.0))
    several = len(shares) > 1
    found = [(size, head_warning(share)) for size, share in sorted(shares.items())]
    return [f"vocab_size {size}: {line}" if several else line for size, line in found if line]


def unfit(space: Space, corpora: Corpora) -> list[str]:
    """A stand-in corpus serves for a plan, but not for the search."""
    try:
        refuse_too_few(space, corpora)
        for sample, model in space.samples():
            corpora.of(model).windows(sample, model.seq_len)
    except ModsearchError as error:
        return ["search will refuse this corpus: " + "; ".join(str(error).splitlines())]
    return []


def copied_text(corpus: Corpus) -> list[str]:
    """What was trained on tells nothing of new text."""
    share = corpus.facts.test_copied or 0.0
    if share <= MUCH_COPIED:
        return []
    return [
        f"{share:.0%} of the test text stands verbatim in the training text: losses are too low "
        f"where models learn it by heart"
    ]


def wide_margin(space: Space, margin: float | None, corpora: Corpora) -> list[str]:
    """What is called the same although it may differ by much. Only a loss below that of bigrams
    has a verdict, so of every loss that has one the margin is at least such a share."""
    if margin is None or space.confirm is None or space.confirm.looks[-1] < MIN_SEEDS:
        return []
    every = [each.facts for each in corpora.by_size.values()]
    bigrams = max(each.bigram_entropy / each.size(space.unit, "validation") for each in every)
    share = margin / bigrams
    if share <= WIDE_MARGIN:
        return []
    return [
        f"arms that differ by less than {margin:g} {nats(space.unit)} are equivalent, and that is "
        f"{percent(share)} or more of any loss that beats the corpus's bigrams ({bigrams:.3f}), "
        f"while the paper gains up to 1.5 %; larger budgets, where runs scatter less, more runs, "
        f"or a smaller `confirm.margin` would help"
    ]


def warnings_of(
    space: Space, cells: Sequence[PlannedCell], found: Roles, corpora: Corpora
) -> list[str]:
    """What makes a study say less than it costs: a line for each."""
    lines = unlike(space, corpora)
    lines += _no_comparison(space, found)
    few = [cell for cell in cells if min(cell.steps, default=FEW_STEPS) < FEW_STEPS]
    if few:
        lines.append(
            f"some sizes run fewer than {FEW_STEPS} steps ({_places(few)}): "
            f"far up the right branch"
        )
    lines += _untrained(cells)
    epochs = max((cell.epochs for cell in cells), default=0.0)
    if epochs > MANY_EPOCHS:
        lines.append(f"up to {epochs:,.0f} epochs of the corpus: bring more text")
    lines += _large_heads(cells)
    if space.confirm is not None and space.confirm.looks[-1] < MIN_SEEDS:
        lines.append(
            f"fewer than {MIN_SEEDS} confirm seeds: the report will give no interval and no "
            f"verdict"
        )
    lines += _short_ladders(space, cells)
    for stage in Stage:
        if none := [cell for cell in cells if cell.stage is stage and not cell.trials]:
            lines.append(
                f"{stage} has nothing that can be trained ({_places(none)}): search will stop "
                f"there; what is rejected says what would help"
            )
    return lines


def _no_comparison(space: Space, found: Roles) -> list[str]:
    """A headline takes an arm of either kind."""
    if space.confirm is None:
        return []
    lines = []
    if not found.routed:
        lines.append(
            "no arm routes tokens, so that the report will give no verdict: add one, such as "
            "`mod: {model: {block: mod}}`"
        )
    if not found.reference:
        lines.append(
            "every arm routes tokens, so that there is nothing to compare with and the report "
            "will give no verdict: add one that does not, such as `dense: {model: {block: dense}}`"
        )
    return lines


def _untrained(cells: Sequence[PlannedCell]) -> list[str]:
    """Cells that are likely not to beat what counting pairs of bytes reaches."""
    most = {
        place: max(
            (steps for steps, size in zip(cell.steps, cell.params, strict=True) if size >= SMALL),
            default=0,
        )
        for place, cell in enumerate(cells)
    }
    short = [place for place, steps in most.items() if cells[place].steps and steps < SHORT]
    if not short:
        return []
    fewest = min(most[place] for place in short)
    budget = f"{math.ceil(SHORT / fewest)} times the budget" if fewest else "wider sizes"
    return [
        f"no size of {SMALL:,} parameters or more runs {SHORT} steps "
        f"({_places([cells[place] for place in short])}): such models rarely beat the corpus's "
        f"bigrams, and what is untrained gets no verdict; {budget} would do"
    ]


def _short_ladders(space: Space, cells: Sequence[PlannedCell]) -> list[str]:
    """A curve is fitted for each arm, budget and depth."""
    lines = []
    for rung in space.measure.ladder if space.measure else ():
        arms: dict[int, list[str]] = defaultdict(list)
        for cell in cells:
            mine = cell.arm in (rung.arms or [cell.arm])
            if mine and (cell.stage, cell.budget) == (Stage.MEASURE, rung.budget):
                lost = sum(each.depth == rung.depth for each in cell.rejected)
                arms[len(rung.widths) - lost].append(cell.arm)
        for left, names in sorted(arms.items()):
            if 0 < left < MIN_SIZES:
                lines.append(
                    f"the ladder at {rung.budget:.3g} FLOPs, depth {rung.depth} has {left} of its "
                    f"{len(rung.widths)} sizes that can be trained for {', '.join(names)}: the "
                    f"report fits no curve to fewer than {MIN_SIZES}; add widths between those "
                    f"that can"
                )
    return lines


def _places(cells: Sequence[PlannedCell]) -> str:
    """Arms by budget, of cells."""
    arms: dict[float, dict[str, None]] = defaultdict(dict)
    for cell in cells:
        arms[cell.budget][cell.arm] = None
    return "; ".join(f"{', '.join(names)} at {at:.3g} FLOPs" for at, names in sorted(arms.items()))
