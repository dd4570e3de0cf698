"""Which trials confirm an arm at a budget: fresh runs of its chosen sizes on the test part.

How far a study is counts in looks: what is said rests on the runs of the last whole one, so that
a report that is compiled half way says what its interval was made for.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modsearch.analysis.choice import choose
from modsearch.analysis.compare import Confirmed, Group
from modsearch.analysis.curves import Curve, Fit
from modsearch.analysis.looks import FIXED, Look, planned
from modsearch.analysis.recipes import measured
from modsearch.analysis.trials import causal_loss, finished, recipe_key, size_of
from modsearch.analysis.vertex import NO_CURVATURE, Curvature, measured_curvature
from modsearch.config.design import Chosen, Size
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage
from modsearch.config.seeds import run_index


@dataclass(frozen=True)
class Stand:
    """How far confirm is at one budget, and what it has."""

    chosen: Chosen
    arms: Mapping[str, Confirmed]
    """Those with a finished run."""
    look: Look | None
    """The last whole one; None before the first."""
    number: int
    """Of that look, from 1; 0 before the first."""
    looks: tuple[int, ...]
    """Runs of an arm at each."""
    fixed: bool
    """One look at one size."""
    noted: bool
    """Whether this was written down before its first run; else it is what is there."""

    @property
    def runs(self) -> int:
        """Of an arm, at that look."""
        return self.looks[self.number - 1] if self.number else 0

    @property
    def ended(self) -> bool:
        """Whether no further look is planned."""
        return self.number >= len(self.looks)


def stands(
    manifest: Manifest,
    records: Sequence[Record],
    curves: Sequence[Curve],
    routed: Sequence[str],
    dense: Sequence[str],
) -> list[Stand]:
    """Every budget that confirm has begun, smallest first.

    A study from before there were looks has one, at all that it has: a fixed design.
    """
    runs = [record for record in records if _is_confirm(record)]
    budgets = sorted({record.budget.flops for record in runs if finished(record)})
    found = []
    for budget in budgets:
        here = [record for record in runs if record.budget.flops == budget]
        looks: tuple[int, ...]
        design = manifest.confirm
        chosen = design.at(budget) if design is not None else None
        if design is None or chosen is None:
            chosen = choose(curves, manifest.arms, routed, dense, budget, curve=False)
            chosen, noted = as_trained(chosen, here), False
            numbered = {
                arm: dict(enumerate(_of_sizes(records, here, arm, sizes)))
                for arm, sizes in chosen.sizes.items()
            }
            looks = (max(map(len, numbered.values())),)
            number, curve = 1, False
        else:
            numbered = {
                arm: _by_number(_of_sizes(records, here, arm, sizes), sizes, manifest.seed)
                for arm, sizes in chosen.sizes.items()
            }
            looks, curve, noted = design.looks, design.curve, True
            number = _whole_looks(looks, _counting(chosen, manifest, numbered))
        plan = planned(len(looks)) if curve else (FIXED,)
        look = plan[number - 1] if number else None
        counted = looks[max(0, number - 1)]
        arms = {}
        for arm, by_number in numbered.items():
            mine = [record for index, record in sorted(by_number.items()) if index < counted]
            late = arm in chosen.added or (arm in manifest.removed and curve)
            if late and len(mine) < counted:
                continue  # it stands beside the others when it has as many runs
            if any(map(finished, mine)):
                measure = _Measured(records, curves, manifest.arms[arm] or arm)
                arms[arm] = _confirmed(arm, budget, mine, measure, look)
        found.append(Stand(chosen, arms, look, number, looks, fixed=not curve, noted=noted))
    return found


def _is_confirm(record: Record) -> bool:
    return record.stage is Stage.CONFIRM and record.validation.part == "test"


def as_trained(chosen: Chosen, runs: Sequence[Record]) -> Chosen:
    """Where an extended study has no run of the size that `measure` chooses now, the size with
    most of them counts; never the one with the better ones."""
    sizes = {}
    for arm in dict.fromkeys([*chosen.sizes, *(record.arm for record in runs)]):
        mine = Counter(size_of(row) for row in runs if row.arm == arm and finished(row))
        wanted = [(size.depth, size.width) for size in chosen.sizes.get(arm, ())]
        if mine and not set(wanted) & set(mine):
            wanted = [min(mine, key=lambda size: (-mine[size], size))]
        sizes[arm] = tuple(Size(depth=depth, width=width) for depth, width in wanted)
    return chosen.model_copy(update={"sizes": sizes})


def _of_sizes(
    records: Sequence[Record], runs: Sequence[Record], arm: str, sizes: Sequence[Size]
) -> list[Record]:
    """An arm's runs of the sizes that count, all of one recipe: that of `measure`, or of most."""
    wanted = {(size.depth, size.width) for size in sizes}
    mine = [record for record in runs if record.arm == arm and size_of(record) in wanted]
    rows = measured(records, arm)
    keys = Counter(recipe_key(record) for record in mine)
    recipe = recipe_key(rows[0]) if rows else None
    if recipe not in keys:
        recipe = min(keys, key=lambda key: (-keys[key], key), default=None)
    found = [record for record in mine if recipe_key(record) == recipe]
    return sorted(found, key=lambda record: (record.seed, record.hash))


def _by_number(
    runs: Sequence[Record], sizes: Sequence[Size], study_seed: int
) -> dict[int, Record]:
    """Runs by their numbers, each of the size that it should have."""
    found: dict[int, Record] = {}
    for record in sorted(runs, key=lambda record: (not finished(record), record.hash)):
        number = run_index(record.seed, study_seed)
        size = sizes[number % len(sizes)]
        if size_of(record) == (size.depth, size.width):
            found.setdefault(number, record)
    return found


def _counting(
    chosen: Chosen, manifest: Manifest, numbered: Mapping[str, Mapping[int, Record]]
) -> list[Mapping[int, Record]]:
    """Runs of the arms by which looks are counted: not of one that came after the choice, nor of
    one that has left the study, unless it stands in the headline."""
    sides = (chosen.routed, chosen.dense)
    return [
        by_number
        for arm, by_number in numbered.items()
        if arm not in chosen.added and (arm not in manifest.removed or arm in sides)
    ]


def _whole_looks(looks: Sequence[int], arms: Iterable[Mapping[int, Record]]) -> int:
    """Looks whose runs are all there, however they ended."""
    there = min((_first_missing(by_number) for by_number in arms), default=0)
    return sum(runs <= there for runs in looks)


def _first_missing(by_number: Mapping[int, Record]) -> int:
    return next(number for number in range(len(by_number) + 1) if number not in by_number)


class _Measured:
    """What `measure` says of an arm around the confirmed sizes."""

    def __init__(self, records: Sequence[Record], curves: Sequence[Curve], arm: str) -> None:
        self.rows = measured(records, arm)
        self.curves = [curve for curve in curves if curve.arm == arm]

    def curvature(self, budget: float, depth: int) -> Curvature:
        near = [
            record
            for record in self.rows
            if record.budget.flops == budget and record.candidate.model.depth == depth
        ]
        params = [record.plan.params for record in near if record.plan is not None]
        return measured_curvature(params, [causal_loss(record) for record in near])

    def regret(self, budget: float, depth: int, params: int) -> float | None:
        """Nats by which the minimum may lie lower than a size; None without a fit."""
        for fit in self.curves:
            if isinstance(fit, Fit) and (fit.budget, fit.depth) == (budget, depth):
                return fit.regret(params)
        return None


def _confirmed(
    arm: str, budget: float, runs: Sequence[Record], measure: _Measured, look: Look | None
) -> Confirmed:
    done = [record for record in runs if finished(record)]
    groups = []
    for size in sorted({size_of(record) for record in done}):
        mine = tuple(record for record in done if size_of(record) == size)
        assert mine[0].plan is not None
        groups.append(Group(Size(depth=size[0], width=size[1]), mine[0].plan.params, mine))
    groups.sort(key=lambda group: group.params)
    unfinished = tuple(record for record in runs if not finished(record))
    notes = []
    if unfinished:
        notes.append(
            f"{len(unfinished)} of {len(runs)} runs did not finish, and the loss is that of the "
            f"others"
        )
    depth = groups[0].size.depth
    curvature, regret = NO_CURVATURE, 0.0
    if len(groups) > 1:
        curvature = measure.curvature(budget, depth)
        if lost := sorted(set(map(size_of, runs)) - set(map(size_of, done))):
            widths = ", ".join(str(width) for _, width in lost)
            notes.append(f"no run of width {widths} finished: the minimum may lie there")
    elif (known := measure.regret(budget, depth, groups[0].params)) is not None:
        regret = known
    else:
        notes.append("no curve is fitted around its one size, so that its minimum may lie lower")
    return Confirmed(arm, budget, tuple(groups), unfinished, look, curvature, regret, tuple(notes))
