"""What a study says: better, worse, inconclusive, untrained, or nothing, and why.

`measure` chooses who stands in the headline, `confirm` alone says what it says: fresh seeds on
the untouched test part, so that neither the best of many recipes nor the best of many sizes
is taken for an effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modsearch.analysis.arms import describe, is_routed, kinds_of, roles, same_but_router
from modsearch.analysis.compare import Comparison, Confirmed, Multiplier, compare
from modsearch.analysis.confirmation import confirmed
from modsearch.analysis.curves import Curve
from modsearch.analysis.fits import fit_curves, seed_sd
from modsearch.analysis.numbers import scientific
from modsearch.analysis.optima import Optimum, Slope, optima, slope
from modsearch.analysis.power import SEED_SD
from modsearch.analysis.recipes import finished, missed, recipe_key
from modsearch.analysis.verdicts import (
    Needed,
    Verdict,
    multiplier_of,
    needed_for,
    sentence_of,
    verdict_of,
)
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage


@dataclass(frozen=True)
class Claim:
    """The answer at one budget."""

    budget: float | None
    verdict: Verdict
    reason: str
    sentence: str
    comparison: Comparison | None = None
    multiplier: Multiplier | None = None
    no_multiplier: str = ""
    """Why there is none."""
    needed: Needed | None = None
    notes: tuple[str, ...] = ()
    """What a reader should know beside the sentence."""


@dataclass(frozen=True)
class Standing:
    """A routed arm, or a control, against all that stands beside it at its budget."""

    arm: Confirmed
    dense: Comparison | None
    """None where no dense arm is confirmed."""
    controls: tuple[Comparison, ...]
    """Each confirmed control of the study, also those of other arms; none for a control."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Controls that are not this model with its router replaced."""
        return tuple(
            f"{each.reference.arm} is {describe(each.reference.records[0])}, depth "
            f"{each.reference.model.depth}, width {each.reference.model.width}"
            for each in self.controls
            if not same_but_router(self.arm.model, each.reference.model)
        )


@dataclass(frozen=True)
class Claims:
    """Everything that is computed from the records of a study."""

    curves: tuple[Curve, ...]
    optima: tuple[Optimum, ...]
    dense_minima: tuple[Optimum, ...]
    """The lowest dense optimum of each budget."""
    slope: Slope | None
    confirmed: tuple[Confirmed, ...]
    headline: Claim
    """At the largest confirmed budget."""
    by_budget: tuple[Claim, ...]
    controls: tuple[Comparison, ...]
    """The arm of each control against it: positive where learned routing is better."""
    others: tuple[Comparison, ...]
    """Every other confirmed arm against the dense one, for completeness."""
    standings: tuple[Standing, ...]
    """Every confirmed routed arm, controls too, largest budget first."""

    @property
    def routed(self) -> tuple[Confirmed, ...]:
        """Every confirmed routed arm, controls too, at its own largest budget."""
        found: dict[str, Confirmed] = {}
        for each in self.standings:
            found.setdefault(each.arm.arm, each.arm)
        return tuple(found.values())


def study_claims(manifest: Manifest, records: Sequence[Record]) -> Claims:
    """Fits, comparisons and the headline of a study."""
    return _Study(manifest, records).claims()


class _Study:
    """Records by what they may be used for."""

    def __init__(self, manifest: Manifest, records: Sequence[Record]) -> None:
        self.manifest = manifest
        self.records = sorted(records, key=lambda record: record.hash)
        self.curves = fit_curves(self.records)
        self.optima = optima(self.curves)
        learned = [arm for arm, base in manifest.arms.items() if base is None]
        found = roles(learned, kinds_of(self.records))
        self.dense_arms, self.routed_arms = found.reference, found.routed
        budgets = {
            record.budget.flops
            for record in self.records
            if record.stage is Stage.CONFIRM and finished(record)
        }
        self.budgets = sorted(budgets)
        fresh = (
            confirmed(self.records, arm, budget, base)
            for budget in self.budgets
            for arm, base in manifest.arms.items()
        )
        self.confirmed = {(each.arm, each.budget): each for each in fresh if each is not None}
        self.sd = seed_sd(self.records) or SEED_SD

    def claims(self) -> Claims:
        minima = self._dense_minima()
        along = slope(minima)
        by_budget = [self._claim(budget, along) for budget in self.budgets]
        return Claims(
            curves=tuple(self.curves),
            optima=tuple(self.optima),
            dense_minima=tuple(minima),
            slope=along,
            confirmed=tuple(self.confirmed.values()),
            headline=by_budget[-1] if by_budget else self._unconfirmed(),
            by_budget=tuple(by_budget),
            controls=tuple(self._controls()),
            others=tuple(self._others(by_budget)),
            standings=tuple(self._standings()),
        )

    def _dense_minima(self) -> list[Optimum]:
        budgets = sorted({best.budget for best in self.optima})
        found = (self._best(self.dense_arms, budget) for budget in budgets)
        return [best for best in found if best is not None]

    def _best(self, arms: Sequence[str], budget: float) -> Optimum | None:
        """The arm with the lowest measured optimum; the order of the study breaks ties."""
        mine = [best for best in self.optima if best.arm in arms and best.budget == budget]
        return min(mine, key=lambda best: (best.loss, arms.index(best.arm)), default=None)

    def _unconfirmed(self) -> Claim:
        if not self.records:
            reason = "the study has no trials yet"
        elif not self.optima:
            reason = "nothing is measured or confirmed yet"
        else:
            reason = "nothing is confirmed yet: fits alone carry no interval"
        return Claim(None, Verdict.NONE, reason, f"No verdict: {reason}.")

    def _claim(self, budget: float, along: Slope | None) -> Claim:
        reason, pair = self._pair(budget)
        if pair is None:
            sentence = f"No verdict at {scientific(budget)} FLOPs: {reason}."
            return Claim(budget, Verdict.NONE, reason, sentence, no_multiplier="no verdict")
        comparison = compare(*pair, self._missed(pair))
        verdict, reason = verdict_of(comparison, self.manifest.corpus.bigram_entropy)
        needed = None
        if verdict is Verdict.INCONCLUSIVE:
            needed = needed_for(comparison, self.sd)
        found, why_none = multiplier_of(comparison, along, verdict)
        return Claim(
            budget=budget,
            verdict=verdict,
            reason=reason,
            sentence=sentence_of(comparison, verdict, reason),
            comparison=comparison,
            multiplier=found,
            no_multiplier=why_none,
            needed=needed,
            notes=tuple(self._notes(comparison)),
        )

    def _pair(self, budget: float) -> tuple[str, tuple[Confirmed, Confirmed] | None]:
        """The routed and the dense arm that `measure` chooses, or why there are none."""
        chosen = []
        for kind, arms in (("routed", self.routed_arms), ("dense", self.dense_arms)):
            if not arms:
                return f"the study has no trials of a {kind} arm", None
            best = self._best(arms, budget)
            if best is None:
                return f"no {kind} arm was measured at this budget, so none is chosen", None
            found = self.confirmed.get((best.arm, budget))
            if found is None:
                return f"the best measured {kind} arm, {best.arm}, is not confirmed yet", None
            chosen.append(found)
        return "", (chosen[0], chosen[1])

    def _missed(self, pair: tuple[Confirmed, Confirmed]) -> tuple[float, float]:
        arm, reference = (
            missed(self.records, side.arm, recipe_key(side.records[0]), self.sd) for side in pair
        )
        return arm, reference

    def _notes(self, comparison: Comparison) -> list[str]:
        notes = []
        sides = (comparison.arm, comparison.reference)
        notes += [
            f"{side.arm}: by what explore saw, another recipe may be up to {loss:.3f} nats better "
            f"than the one that it ranked first; the interval includes that"
            for side, loss in zip(sides, comparison.missed, strict=True)
            if loss > 0
        ]
        for side in (comparison.arm, comparison.reference):
            best = self._best([side.arm], side.budget)
            marks = list(best.marks) if best else []
            if not side.as_measured:
                marks.append(
                    "the confirmed size or recipe is not the one that measure chooses now"
                )
            if side.lost:
                marks.append(
                    f"{len(side.lost)} of {len(side.lost) + len(side.records)} seeds did not "
                    f"finish, and the mean is over the others"
                )
            notes += [f"{side.arm}: {mark}" for mark in marks]
        return notes

    def _controls(self) -> list[Comparison]:
        found = []
        for (arm, budget), control in self.confirmed.items():
            base = self.manifest.arms.get(arm)
            learned = self.confirmed.get((base, budget)) if base else None
            if learned is not None:
                found.append(compare(learned, control))
        return found

    def _others(self, by_budget: Sequence[Claim]) -> list[Comparison]:
        """Against the dense arm of the headline; the arm in it is left out."""
        found = []
        for claim in by_budget:
            if claim.comparison is None:
                continue
            dense, headline = claim.comparison.reference, claim.comparison.arm
            found += [
                compare(each, dense)
                for each in self.confirmed.values()
                if each.budget == claim.budget
                and each.arm not in (dense.arm, headline.arm)
                and self.manifest.arms.get(each.arm) is None
            ]
        return found

    def _standings(self) -> list[Standing]:
        found = []
        for budget in reversed(self.budgets):
            here = [each for each in self.confirmed.values() if each.budget == budget]
            dense = self._confirmed_dense(budget)
            controls = [each for each in here if self.manifest.arms[each.arm] is not None]
            for arm in here:
                if is_routed(arm.records[0]):
                    beside = [] if arm in controls else controls
                    found.append(
                        Standing(
                            arm=arm,
                            dense=compare(arm, dense) if dense else None,
                            controls=tuple(compare(arm, control) for control in beside),
                        )
                    )
        return found

    def _confirmed_dense(self, budget: float) -> Confirmed | None:
        """The one that measure chooses, or else the first in the order of the study."""
        best = self._best(self.dense_arms, budget)
        names = [*([best.arm] if best else []), *self.dense_arms]
        found = (self.confirmed.get((name, budget)) for name in names)
        return next((each for each in found if each is not None), None)
