"""How often trials read each of several sources, and how much a small one with a large weight
leaves to be scored."""

from collections.abc import Mapping, Sequence

from modsearch.config.data import CorpusFacts
from modsearch.config.records import Plan
from modsearch.data.corpus import Corpora
from modsearch.planning.cells import MANY_EPOCHS, Draft, FactsOf
from modsearch.space.space import Space

LEAST_SCORED = 0.5
"""Of the text of a part; where less of it is scored, that is told."""


def epochs_by_source(cells: Sequence[Draft], facts_of: FactsOf) -> dict[str, tuple[float, float]]:
    """How often a trial reads the train text of each of several sources: fewest and most."""
    found: dict[str, tuple[float, float]] = {}
    for cell in cells:
        for candidate, spent in cell.planned:
            for name, epochs in _epochs(spent, facts_of(candidate.model)).items():
                low, high = found.get(name, (epochs, epochs))
                found[name] = (min(low, epochs), max(high, epochs))
    return found


def _epochs(spent: Plan, facts: CorpusFacts) -> dict[str, float]:
    """Sources have their shares of the tokens by weight, whatever text there is of them."""
    trained = [each for each in facts.sources if each.train_tokens]
    weights = sum(each.weight for each in trained)
    return {
        each.name: spent.tokens * each.weight / weights / each.train_tokens for each in trained
    }


def mixture_note(epochs: Mapping[str, tuple[float, float]]) -> list[str]:
    """A line of how often each source is read."""
    if not epochs:
        return []
    each = ", ".join(f"{name} {_span(*span)}" for name, span in epochs.items())
    return [f"a trial reads the text of each source so many times: {each}"]


def _span(low: float, high: float) -> str:
    least, most = (f"{times:,.0f}" if times >= 10 else f"{times:.2g}" for times in (low, high))
    return most if least == most else f"{least} to {most}"


def mixture_warnings(
    space: Space, corpora: Corpora, epochs: Mapping[str, tuple[float, float]]
) -> list[str]:
    """A line for each source that is read too often, and for each sample that one makes small."""
    lines = [
        f"up to {high:,.0f} epochs of source {name}: bring more text of it, or give it a smaller "
        f"weight"
        for name, (_, high) in epochs.items()
        if high > MANY_EPOCHS
    ]
    for sample, model in space.samples():
        corpus = corpora.of(model)
        if sample.windows is not None or not corpus.facts.sources:
            continue
        used, whole = (count(sample, model.seq_len) for count in (corpus.num_windows, corpus.room))
        if used < LEAST_SCORED * whole:
            name = corpus.scarcest(sample.part)
            lines.append(
                f"only {used:,} of {whole:,} windows of {sample.part} text are scored: source "
                f"{name} has too little for its weight; more text of it, or a smaller weight, "
                f"scores more"
            )
    return list(dict.fromkeys(lines))
