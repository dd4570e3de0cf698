"""What a study got after it was looked at: who was chosen when, and what a reader must know of it.

An arm that came after confirm had chosen is confirmed like the others, at sizes of its own, and
takes no part in the comparison that was fixed without it.
"""

from collections.abc import Iterable, Sequence

from modsearch.analysis.choice import chosen_sizes
from modsearch.analysis.curves import Curve
from modsearch.analysis.numbers import counted, scientific
from modsearch.config.design import SIZES, Chosen
from modsearch.config.manifest import Growth, Manifest


def with_added(
    chosen: Chosen, manifest: Manifest, curves: Sequence[Curve], *, curve: bool
) -> Chosen:
    """What was chosen at a budget, with sizes for the arms that came since: a control has those
    of its arm. An arm that nothing was measured of is left out."""
    sizes, added = dict(chosen.sizes), dict(chosen.added)
    for arm, base in manifest.asked.items():
        if arm in chosen.sizes:
            continue
        found = chosen.sizes.get(base or "") or chosen_sizes(
            curves, base or arm, chosen.budget, SIZES if curve else 1
        )
        if found:
            sizes[arm], added[arm] = found, _looked(manifest, arm, chosen.budget)
    return chosen.model_copy(update={"sizes": sizes, "added": added})


def _looked(manifest: Manifest, arm: str, budget: float) -> int:
    """Runs of an arm at the last look of confirm, when an arm came."""
    came = [growth.looks.get(budget, 0) for growth in manifest.grown if arm in growth.arms]
    return came[-1] if came else 0


def late_notes(manifest: Manifest, chosen: Chosen, looks: Sequence[int]) -> list[str]:
    """Of the headline at a budget: what was there after it had been looked at, and what was not
    chosen with it."""
    notes = [
        f"Arm {arm} was added to the study after {after(runs, looks)} of confirm at "
        f"{scientific(chosen.budget)} FLOPs: it took no part in the choice of the headline's "
        f"arms, and what is said of it knew that look"
        for arm, runs in chosen.added.items()
    ]
    for growth in manifest.grown:
        if chosen.budget in growth.budgets and growth.looks:
            notes.append(
                f"Confirm at {scientific(chosen.budget)} FLOPs was added to the study after "
                f"{_looks(growth, manifest)}: its arms and sizes were chosen by measure before "
                f"its own first run"
            )
    return notes


def growth_lines(manifest: Manifest, grown: Iterable[Growth] | None = None) -> list[str]:
    """A line for each time that a study was given something, or lost an arm.

    Args:
        manifest: of the study.
        grown: some of its times; default: all.
    """
    return [_line(growth, manifest) for growth in (manifest.grown if grown is None else grown)]


def _line(growth: Growth, manifest: Manifest) -> str:
    parts = [f"added: {'; '.join(growth.added)}"] if growth.added else []
    if growth.removed:
        arms = ", ".join(f"`{arm}`" for arm in growth.removed)
        parts.append(f"out of the space: {arms}, whose trials stay")
    when = f"after {counted(growth.trials, 'trial')}"
    if growth.looks:
        when += f" and {_looks(growth, manifest)}"
    return f"{when} ({growth.day}), {', and '.join(parts)}"


def _looks(growth: Growth, manifest: Manifest) -> str:
    looks = manifest.confirm.looks if manifest.confirm is not None else ()
    return " and ".join(
        f"{after(runs, looks)} of confirm at {scientific(budget)} FLOPs"
        for budget, runs in growth.looks.items()
    )


def after(runs: int, looks: Sequence[int]) -> str:
    """How far confirm was, by the runs of an arm that had been looked at."""
    if runs == 0:
        return "the beginning"
    if len(looks) > 1 and runs in looks:
        return f"look {looks.index(runs) + 1} of {len(looks)}"
    return f"the look at {counted(runs, 'run')} an arm"
