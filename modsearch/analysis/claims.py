"""What a study says: better, worse, equivalent, inconclusive, untrained, or nothing, and why.

`measure` chooses who stands in the headline, `confirm` alone says what it says: fresh seeds on
the untouched test part, so that neither the best of many recipes nor the best of many sizes
is taken for an effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from modsearch.analysis.arms import describe, is_routed, kinds_of, roles, same_but_router
from modsearch.analysis.choice import best_of, choose
from modsearch.analysis.compare import Comparison, Confirmed, Multiplier, compare
from modsearch.analysis.confirmation import Stand, as_trained, stands
from modsearch.analysis.curves import Curve
from modsearch.analysis.fits import fit_curves, seed_noise
from modsearch.analysis.headline_notes import HeadlineNotes
from modsearch.analysis.looks import FUTILE, chance_at_the_end, planned
from modsearch.analysis.noise import moderated
from modsearch.analysis.numbers import percent, scientific
from modsearch.analysis.optima import Optimum, optima
from modsearch.analysis.power import PAPER_EFFECT, runs_for
from modsearch.analysis.slopes import Slope, slope_at
from modsearch.analysis.verdicts import (
    SETTLED,
    Bounds,
    Verdict,
    held_apart,
    multiplier_of,
    sentence_of,
    verdict_of,
)
from modsearch.config.design import Chosen
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage
from modsearch.config.units import Unit

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Needed:
    """What another study would take to tell an effect in four of five cases."""

    effect: float
    """Nats per token."""
    sd: float
    """Of a single run."""
    runs: int | None
    """Of an arm; None: more than are sensible."""
    flops: float
    """Of both arms' runs."""
    hours: float
    """On one worker."""


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
    runs: int = 0
    """Of an arm, on which it rests."""
    noted: bool = False
    """Whether what it rests on was written down before the first run."""
    settled: bool = False
    """Whether a further look is of no use: known, futile, or the last one was taken."""
    notes: tuple[str, ...] = ()
    """What a reader should know beside the sentence."""


@dataclass(frozen=True)
class Beside:
    """A comparison beside the headline: a control, another arm, a pair of routed arms."""

    role: str
    comparison: Comparison
    verdict: Verdict
    p: float | None
    """Adjusted for the looks and for the comparisons of its budget (Holm); told below 0.05."""


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
    """Of the dense minima, at the headline's budget."""
    confirmed: tuple[Confirmed, ...]
    headline: Claim
    """At the largest confirmed budget."""
    by_budget: tuple[Claim, ...]
    beside: tuple[Beside, ...]
    """Every other comparison, largest budget first."""
    standings: tuple[Standing, ...]
    """Every confirmed routed arm, controls too, largest budget first."""
    unit: Unit = "token"
    """What losses and forward FLOPs are counted over."""

    @property
    def looked(self) -> dict[float, int]:
        """Runs of an arm at each budget that its headline rests on."""
        return {each.budget: each.runs for each in self.by_budget if each.budget is not None}

    @property
    def settled(self) -> dict[float, int]:
        """Runs of an arm at each budget whose headline no further look would change."""
        return {
            claim.budget: claim.runs
            for claim in self.by_budget
            if claim.settled and claim.noted and claim.budget is not None
        }

    @property
    def controls(self) -> tuple[Comparison, ...]:
        """The arm of each control against it: positive where learned routing is better."""
        return tuple(each.comparison for each in self.beside if each.role == "control")

    @property
    def routed(self) -> tuple[Confirmed, ...]:
        """Every confirmed routed arm, controls too, at its own largest budget."""
        found: dict[str, Confirmed] = {}
        for each in self.standings:
            found.setdefault(each.arm.arm, each.arm)
        return tuple(found.values())

    @property
    def winners(self) -> tuple[Confirmed, ...]:
        """Both of the headline, the dense one first; without a headline every arm that was
        confirmed at the largest budget."""
        found = self.headline.comparison
        if found is not None:
            return found.reference, found.arm
        largest = max((each.budget for each in self.confirmed), default=None)
        return tuple(each for each in self.confirmed if each.budget == largest)


def study_claims(manifest: Manifest, records: Sequence[Record]) -> Claims:
    """Fits, comparisons and the headline of a study."""
    return _Study(manifest, records).claims()


def choice_at(manifest: Manifest, records: Sequence[Record], budget: float) -> Chosen:
    """What `measure` chooses for confirm at a budget, by the records that there are now."""
    study = _Study(manifest, records)
    curve = manifest.confirm is not None and manifest.confirm.curve
    routed, dense = (
        [arm for arm in arms if arm in manifest.asked]
        for arms in (study.routed_arms, study.dense_arms)
    )
    chosen = choose(study.curves, manifest.asked, routed, dense, budget, curve=curve)
    begun = [row for row in records if row.stage is Stage.CONFIRM and row.budget.flops == budget]
    return as_trained(chosen, begun) if begun and not curve else chosen


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
        self.stands = stands(
            manifest, self.records, self.curves, self.routed_arms, self.dense_arms
        )
        self.noise = moderated(seed_noise(self.records))
        self.bounds = Bounds.of(manifest)
        self.notes = HeadlineNotes(
            manifest, self.records, self.optima, self.routed_arms, self.noise.sd
        )

    def claims(self) -> Claims:
        minima = self._dense_minima()
        fits = [best.fit for best in minima if best.fit is not None]
        slopes = [slope_at(fits, stand.chosen.budget) for stand in self.stands]
        by_budget = list(map(self._claim, self.stands, slopes))
        return Claims(
            curves=tuple(self.curves),
            optima=tuple(self.optima),
            dense_minima=tuple(minima),
            slope=slopes[-1] if slopes else None,
            confirmed=tuple(arm for stand in self.stands for arm in stand.arms.values()),
            headline=by_budget[-1] if by_budget else self._unconfirmed(),
            by_budget=tuple(by_budget),
            beside=tuple(each for stand in reversed(self.stands) for each in self._beside(stand)),
            standings=tuple(
                each for stand in reversed(self.stands) for each in self._standings(stand)
            ),
            unit=self.manifest.unit,
        )

    def _dense_minima(self) -> list[Optimum]:
        budgets = sorted({best.budget for best in self.optima})
        found = (best_of(self.optima, self.dense_arms, budget) for budget in budgets)
        return [best for best in found if best is not None]

    def _unconfirmed(self) -> Claim:
        if not self.records:
            reason = "the study has no trials yet"
        elif not self.optima:
            reason = "nothing is measured or confirmed yet"
        else:
            reason = "nothing is confirmed yet: fits alone carry no interval"
        return Claim(None, Verdict.NONE, reason, f"No verdict: {reason}.")

    def _claim(self, stand: Stand, along: Slope | None) -> Claim:
        budget = stand.chosen.budget
        reason, pair = self._pair(stand)
        if pair is None:
            sentence = f"No verdict at {scientific(budget)} FLOPs: {reason}."
            return Claim(
                budget, Verdict.NONE, reason, sentence, no_multiplier="no verdict",
                runs=stand.runs, noted=stand.noted, settled=stand.ended or self._lost(stand),
            )  # fmt: skip
        comparison = compare(*pair)
        verdict, reason = verdict_of(comparison, self.bounds)
        futile = False
        look, known = comparison.look, comparison.interval
        if verdict is Verdict.INCONCLUSIVE and not stand.ended and known and look:
            last = planned(len(stand.looks))[-1]
            chance = float(
                chance_at_the_end(
                    comparison.difference, known.se, look, last, self.bounds.margin,
                    known.sample_se,
                )
            )  # fmt: skip
            futile = chance < FUTILE
            reason += (
                f" at look {stand.number} of {len(stand.looks)}, and a later one would have a "
                f"verdict with a chance of {percent(chance, 0)}"
            )
        found, why_none = multiplier_of(comparison, along, verdict, self.manifest.unit)
        return Claim(
            budget=budget,
            verdict=verdict,
            reason=reason,
            sentence=sentence_of(comparison, verdict, reason),
            comparison=comparison,
            multiplier=found,
            no_multiplier=why_none,
            needed=self._needed(comparison) if verdict is Verdict.INCONCLUSIVE else None,
            runs=stand.runs,
            noted=stand.noted,
            settled=stand.ended or futile or verdict in SETTLED,
            notes=tuple(self.notes.of(stand, comparison)),
        )

    def _pair(self, stand: Stand) -> tuple[str, tuple[Confirmed, Confirmed] | None]:
        """The routed and the dense arm that `measure` chose, or why there are none."""
        chosen = []
        for kind, arms, name in (
            ("routed", self.routed_arms, stand.chosen.routed),
            ("dense", self.dense_arms, stand.chosen.dense),
        ):
            if not arms:
                return f"the study has no trials of a {kind} arm", None
            if name is None:
                return f"no {kind} arm was measured at this budget, so none is chosen", None
            found = stand.arms.get(name)
            if found is None and stand.noted and stand.number:
                return f"no run of the best measured {kind} arm, {name}, has finished", None
            if found is None:
                return f"the best measured {kind} arm, {name}, is not confirmed yet", None
            chosen.append(found)
        if stand.number == 0:
            counts = " and ".join(str(each.num_runs) for each in chosen)
            return (
                f"the first look is at {stand.looks[0]} runs an arm, and there are {counts}"
            ), None
        return "", (chosen[0], chosen[1])

    def _lost(self, stand: Stand) -> bool:
        """Whether an arm of the headline has no run that finished, so that none is to come."""
        sides = (stand.chosen.routed, stand.chosen.dense)
        return (
            stand.noted
            and stand.number > 0
            and any(name and name not in stand.arms for name in sides)
        )

    def _needed(self, comparison: Comparison) -> Needed:
        """For the effect that the paper reports, or what was seen if that is more; where there
        are runs enough for that, for what was seen."""
        effect = max(abs(comparison.difference), PAPER_EFFECT)
        runs = runs_for(effect, self.noise.sd)
        if runs is not None and runs <= comparison.arm.num_runs:
            effect = abs(comparison.difference)
            runs = runs_for(effect, self.noise.sd)
        sides = (comparison.arm, comparison.reference)
        count = runs or 0
        return Needed(
            effect=effect,
            sd=self.noise.sd,
            runs=runs,
            flops=count * sum(side.budget for side in sides),
            hours=count * sum(side.seconds for side in sides) / SECONDS_PER_HOUR,
        )

    def _beside(self, stand: Stand) -> list[Beside]:
        """Controls, other arms against the dense one, and pairs of learned routed arms."""
        if stand.number == 0:
            return []
        arms = self.manifest.arms
        found: list[tuple[str, Comparison]] = []
        for name, control in stand.arms.items():
            learned = stand.arms.get(arms.get(name) or "")
            if learned is not None:
                found.append(("control", compare(learned, control)))
        dense = self._dense(stand)
        learned_arms = [each for name, each in stand.arms.items() if arms.get(name) is None]
        if dense is not None:
            found += [
                ("other arm", compare(each, dense))
                for each in learned_arms
                if each.arm not in (dense.arm, stand.chosen.routed)
            ]
        routed = [each for each in learned_arms if is_routed(each.records[0])]
        found += [("pair", compare(a, b)) for a, b in combinations(routed, 2)]
        words = held_apart([each for _, each in found], stand.chosen.added, self.bounds)
        return [
            Beside(role, comparison, verdict, p)
            for (role, comparison), (verdict, p) in zip(found, words, strict=True)
        ]

    def _standings(self, stand: Stand) -> list[Standing]:
        dense = self._dense(stand)
        controls = [
            each for name, each in stand.arms.items() if self.manifest.arms[name] is not None
        ]
        found = []
        for arm in stand.arms.values():
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

    def _dense(self, stand: Stand) -> Confirmed | None:
        """The one that measure chose, or else the first in the order of the study."""
        names = [stand.chosen.dense, *self.dense_arms]
        found = (stand.arms.get(name) for name in names if name is not None)
        return next((each for each in found if each is not None), None)
