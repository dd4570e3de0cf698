"""What a reader should know beside the sentence of a headline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from modsearch.analysis.additions import late_notes
from modsearch.analysis.arms import describe
from modsearch.analysis.compare import Comparison, Confirmed
from modsearch.analysis.noise import t_quantile
from modsearch.analysis.numbers import percent
from modsearch.analysis.optima import Optimum
from modsearch.analysis.recipes import best_recipe, missed
from modsearch.analysis.trials import recipe_key
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record
from modsearch.config.units import Unit, nats

if TYPE_CHECKING:
    from modsearch.analysis.confirmation import Stand


@dataclass(frozen=True)
class HeadlineNotes:
    """Of one study."""

    manifest: Manifest
    records: Sequence[Record]
    optima: Sequence[Optimum]
    routed_arms: Sequence[str]
    sd: float
    """Of a single run, nats."""

    def of(self, stand: "Stand", comparison: Comparison) -> list[str]:
        """Of the headline at a budget."""
        notes = []
        if stand.fixed:
            notes.append(
                "A fixed design: one size an arm. The interval is widened by how far each arm's "
                "own minimum may lie below the size that stands for it"
            )
        elif len(stand.looks) > 1:
            notes.append(
                f"Look {stand.number} of {len(stand.looks)}, at {stand.runs} runs an arm. The "
                f"interval is a repeated one: it holds the truth at all looks together with 95 %. "
                f"After an early end the difference itself is too large in the mean; the interval "
                f"is not"
            )
        notes += self._lower(stand, comparison)
        notes += smaller(comparison, self.manifest.unit)
        design = self.manifest.confirm
        if design is not None and design.earlier:
            counts = ", ".join(map(str, design.earlier))
            notes.append(
                f"Runs were added after looks at {counts} of them: the interval does not know, "
                f"and is wrong in more than 5 % of such studies"
            )
        notes += late_notes(self.manifest, stand.chosen, stand.looks)
        for side in (comparison.arm, comparison.reference):
            loss = missed(self.records, side.arm, recipe_key(side.records[0]), self.sd)
            if loss > 0:
                notes.append(
                    f"{side.arm}: by what explore saw, another recipe may be up to {loss:.3f} "
                    f"{nats(self.manifest.unit)} better than the one that it ranked first; that "
                    f"is in no interval"
                )
            marks = [*side.notes, *self._marks(stand, side)]
            notes += [f"{side.arm}: {mark}" for mark in marks]
        return notes

    def _lower(self, stand: "Stand", comparison: Comparison) -> list[str]:
        """Routed arms that fresh seeds put below the one of the headline."""
        chosen = comparison.arm
        found = [
            f"{name} ({each.loss:.4f})"
            for name, each in stand.arms.items()
            if name in self.routed_arms and each.loss < chosen.loss
        ]
        if not found:
            return []
        return [
            f"The routed arm is the one that measure ranked first; fresh seeds put lower than "
            f"{chosen.arm} ({chosen.loss:.4f}): {', '.join(found)}. The headline keeps to what "
            f"was chosen before them, and the others stand among the comparisons"
        ]

    def _marks(self, stand: "Stand", side: Confirmed) -> list[str]:
        marks: list[str] = []
        ranked = best_recipe(self.records, side.arm)
        if ranked is not None and recipe_key(ranked) != recipe_key(side.records[0]):
            marks.append(
                "explore would now rank another recipe first, but confirm had begun with this one"
            )
        best = next((b for b in self.optima if (b.arm, b.budget) == (side.arm, side.budget)), None)
        if best is not None:
            marks += best.marks
            wanted = {(size.depth, size.width) for size in stand.chosen.sizes[side.arm]}
            if (best.point.depth, best.point.width) not in wanted:
                marks.append(
                    f"measure would now choose depth {best.point.depth}, width "
                    f"{best.point.width}, but confirm had begun"
                )
        ends = [side.groups[0].params, side.groups[-1].params]
        if (
            len(side.groups) > 1
            and min(abs(side.estimate.params / end - 1) for end in ends) < 1e-6
        ):
            marks.append("its minimum lies at the end of the confirmed sizes, perhaps beyond")
        return marks


def smaller(comparison: Comparison, unit: Unit) -> list[str]:
    """A size of the reference with no more forward FLOPs than the arm, which fresh seeds do not
    tell from the size that stands for it: then the ratio of the two winners is no saving."""
    dense = comparison.reference
    if dense.sd is None:
        return []
    own = dense.scores
    for group in dense.groups:
        scores = [each.scores for each in group.records if each.scores is not None]
        share = fmean(each.realised_forward_flops for each in scores) / dense.forward_flops
        higher = fmean(group.losses) - fmean(each.causal_loss for each in own)
        half = t_quantile(dense.estimate.freedom) * dense.sd
        half *= math.sqrt(1 / len(scores) + 1 / len(own))
        if share < 1 and share <= comparison.forward_ratio and higher <= half:
            return [
                f"Forward FLOPs are of one size each, and losses are flat around a minimum: "
                f"{dense.arm}, {describe(group.records[0])}, needs {percent(share, 0)} "
                f"of those of the dense size here, and its loss, {higher:.3f} "
                f"[{higher - half:.3f}, {higher + half:.3f}] {nats(unit)} "
                f"higher, is not told from it. So no saving is shown"
            ]
    return []
