"""Models beside a study: what its winners are held against, on the same items."""

from collections.abc import Sequence

import pandas as pd

from modsearch.analysis.compare import Confirmed
from modsearch.analysis.scores import Contender
from modsearch.config.references import References
from modsearch.config.samples import asked_of
from modsearch.reporting.evaluation_tables import Evaluations, difference_rows, winner
from modsearch.reporting.figures.references import Beside
from modsearch.reporting.frames import Row, frame_of


def beside(
    arms: Sequence[Confirmed], results: Evaluations, references: References
) -> list[Beside]:
    """By suite: the winners, and models beside the study, that have answered the same documents:
    winners of several tokenizers may have had others."""
    found = []
    scored = [winner(arm, results) for arm in arms]
    for suite in sorted({suite for suites in references.values() for suite in suites}):
        models = [
            Contender(name, [suites[suite]], fixed=True)
            for name, suites in sorted(references.items())
            if suite in suites
        ]
        asked = {asked_of(model.results[0]) for model in models}
        known = [each[suite] for each in scored if suite in each]
        winners = [each for each in known if asked_of(each.results[0]) in asked]
        if winners:
            found.append(Beside(suite, winners, models))
    return found


def reference_differences(found: Sequence[Beside]) -> pd.DataFrame:
    """How much better each winner is than each model beside the study: every such model with the
    winners is a family of comparisons."""
    rows: list[Row] = []
    for each in found:
        for model in each.models:
            asked = asked_of(model.results[0])
            same = [side for side in each.winners if asked_of(side.results[0]) == asked]
            rows += difference_rows(each.suite, [model, *same])
    return frame_of(rows)
