"""What a planned study should be told before it is run."""

from collections.abc import Sequence

from modsearch.analysis.compare import MIN_SEEDS
from modsearch.analysis.curves import MIN_SIZES
from modsearch.config.records import Stage
from modsearch.data.corpus import VOCAB_SIZE, Corpus
from modsearch.errors import DataError
from modsearch.planning.cells import Draft, PlannedCell
from modsearch.planning.flops import head_warning
from modsearch.space.space import Space

FEW_STEPS = 500
LONGER = (1.4, 2.3)
"""Times as long as said did real studies take (docs/measurements.md)."""
MANY_EPOCHS = 4
MUCH_COPIED = 0.05
"""Of the test text; what licences and idioms take is less."""


def notes(space: Space, cells: list[Draft]) -> list[str]:
    """What stands for something else in a forecast."""
    low, high = LONGER
    notes = [
        f"hours are those of training and scoring alone: real studies took {low} to {high} times "
        f"as long, with start-up, workers beside each other and other programs"
    ]
    if space.explore is not None and (space.measure or space.confirm):
        notes.append("measure and confirm are planned with the first recipe of explore")
    for cell in cells:
        if cell.tried < cell.asked and cell.stage is not Stage.CONFIRM:
            notes.append(
                f"{cell.stage} {cell.arm} {cell.budget:.3g}: {cell.tried} points of "
                f"{cell.asked:,} were planned, and stand for all"
            )
    return notes


def _unused_vocabulary(space: Space) -> list[str]:
    """Tokens are bytes; the head pays for all others, too."""
    sizes = [space.recipe(arm)["model"].get("vocab_size", 0) for arm in space.learned_arms]
    largest = max((size for size in sizes if isinstance(size, int)), default=0)
    if largest <= VOCAB_SIZE:
        return []
    return [
        f"vocab_size is {largest}, but tokens are bytes: those from {VOCAB_SIZE} on never occur, "
        f"and the LM head pays for them"
    ]


def too_small(space: Space, corpus: Corpus) -> list[str]:
    """A stand-in corpus serves for a plan, but not for the search."""
    try:
        for sample, seq_len in space.samples():
            corpus.windows(sample, seq_len)
    except DataError as error:
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


def warnings_of(space: Space, cells: Sequence[PlannedCell]) -> list[str]:
    """What makes a study say less than it costs: a line for each."""
    found = _unused_vocabulary(space)
    few = sorted({cell.budget for cell in cells if min(cell.steps, default=FEW_STEPS) < FEW_STEPS})
    if few:
        budgets = ", ".join(f"{budget:.3g}" for budget in few)
        found.append(
            f"some sizes run fewer than {FEW_STEPS} steps at {budgets} FLOPs: "
            f"far up the right branch"
        )
    epochs = max((cell.epochs for cell in cells), default=0.0)
    if epochs > MANY_EPOCHS:
        found.append(f"up to {epochs:,.0f} epochs of the corpus: bring more text")
    share = max((cell.head_share for cell in cells), default=0.0)
    if warning := head_warning(share):
        found.append(warning)
    if space.confirm is None or space.confirm.looks[-1] < MIN_SEEDS:
        found.append(
            f"fewer than {MIN_SEEDS} confirm seeds: the report will give no interval and no "
            f"verdict"
        )
    found += _short_ladders(space, cells)
    for cell in cells:
        if not cell.trials:
            where = f"{cell.stage} {cell.arm} {cell.budget:.3g}"
            found.append(f"{where} has nothing that can be trained: search will stop there")
    return found


def _short_ladders(space: Space, cells: Sequence[PlannedCell]) -> list[str]:
    """A curve is fitted for each arm, budget and depth."""
    found = []
    for rung in space.measure.ladder if space.measure else ():
        left = [
            len(rung.widths) - sum(each.depth == rung.depth for each in cell.rejected)
            for cell in cells
            if (cell.stage, cell.budget) == (Stage.MEASURE, rung.budget)
        ]
        if min(left) < MIN_SIZES:
            found.append(
                f"the ladder at {rung.budget:.3g} FLOPs, depth {rung.depth} has {min(left)} sizes "
                f"that can be trained: the report fits no curve to fewer than {MIN_SIZES}"
            )
    return found
