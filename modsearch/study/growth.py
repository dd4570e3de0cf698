"""What a study may be given after it has begun, and what of it stays as it was.

Arms, values of an axis, budgets, sizes and seeds may come; an arm may go, with its trials left
where they are. Whatever the results that are there depend on stays: how confirm decides, too, once
it has begun, for whoever adds looks after a look is fooled more often.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modsearch.config.design import Design
from modsearch.config.manifest import Growth
from modsearch.config.reading import Tree
from modsearch.config.records import Stage
from modsearch.errors import StudyError, shown
from modsearch.space.axes import is_distribution
from modsearch.space.space import Space

EXTENSIBLE = {
    "explore": {"budgets", "trials"},
    "measure": {"ladder", "seeds"},
    "confirm": {"budgets", "seeds"},
}
"""What may grow in a stage."""

NUMBERS = (("explore", "trials"), ("measure", "seeds"), ("confirm", "seeds"))
"""Of it what is one number."""


@dataclass(frozen=True)
class Change:
    """How a space differs from the one that its study had before."""

    added: tuple[str, ...] = ()
    """In words."""
    arms: tuple[str, ...] = ()
    """Those among it."""
    budgets: tuple[float, ...] = ()
    """Those of confirm among it."""
    gone: tuple[str, ...] = ()
    """Arms that are in the space no more."""

    def __bool__(self) -> bool:
        return bool(self.added or self.gone)

    def grown(self, trials: int, looks: dict[float, int]) -> Growth:
        """The same, to be kept: after so many results, and runs of an arm by budget that confirm
        had been looked at."""
        return Growth(
            added=self.added,
            arms=self.arms,
            budgets=self.budgets,
            removed=self.gone,
            trials=trials,
            looks=looks,
            day=datetime.now(UTC).date().isoformat(),
        )


def change_of(
    old: Space, new: Space, removed: Mapping[str, Tree], root: Path, *, begun: bool
) -> Change:
    """What a study's space got, and which arms it lost.

    Args:
        old: the space before.
        new: the space now.
        removed: arms that went out of it earlier, as they were stated.
        root: the study, for messages.
        begun: whether confirm has chosen anything.

    Raises:
        StudyError: something else differs; the message names it, and both values.
    """
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    for name in ("name", "seed", "fixed"):
        if found := _difference(before[name], after[name], name):
            raise _changed(root, *found)
    values = list(_values(before["axes"], after["axes"], "axes", root))
    earlier = {**removed, **before["arms"]}
    for arm in (each for each in after["arms"] if each in earlier):
        values += _values(earlier[arm], after["arms"][arm], f"arms.{arm}", root)
    if values and new.explore is not None and not new.explore.is_grid:
        sampler = new.explore.sampler.name
        raise StudyError(
            f"{root} can't get {values[0]}: sampler `{sampler}` has drawn without it\n"
            f"give it an arm of its own, or use another --out"
        )
    _refuse_other_stages(before, after, root, begun=begun)
    kept = old.arms.keys() & new.arms.keys()
    lost = _asked(old, kept, begun=begun) - _asked(new, kept, begun=begun)
    if lost:
        raise StudyError(
            f"{root} was made with {min(map(_in_words, lost))}: a study may grow, not shrink\n"
            f"use another --out for the smaller space"
        )
    fresh = tuple(arm for arm in new.arms if arm not in old.arms)
    return Change(
        added=(
            *(_arm(new, arm, again=arm in removed) for arm in fresh),
            *values,
            *_more(old, new, begun=begun),
        ),
        arms=fresh,
        budgets=tuple(_new_budgets(old, new, Stage.CONFIRM)) if begun else (),
        gone=tuple(arm for arm in old.arms if arm not in new.arms),
    )


def refuse_under_way(
    gone: Collection[str], design: Design | None, settled: Collection[float], root: Path
) -> None:
    """An arm may not go while confirm is under way with it: its looks are about all its arms.

    Raises:
        StudyError: it would.
    """
    for chosen in design.chosen if design is not None else ():
        for arm in gone:
            if arm in chosen.sizes and chosen.budget not in settled:
                raise StudyError(
                    f"{root} can't lose arm `{arm}` now: confirm at {chosen.budget:g} FLOPs is "
                    f"under way with it\nfinish it with the space as it was, or use another --out"
                )


def _refuse_other_stages(before: Tree, after: Tree, root: Path, *, begun: bool) -> None:
    for stage, extensible in EXTENSIBLE.items():
        old, new = before[stage], after[stage]
        if old is None or (stage == "confirm" and not begun):
            continue
        if new is None:
            raise _changed(root, stage, old, new)
        for key, value in old.items():
            path = f"{stage}.{key}"
            if key not in extensible:
                if found := _difference(value, new[key], path):
                    raise _changed(root, *found)
            elif (value is None) != (new[key] is None):
                raise _changed(root, path, value, new[key])


def _changed(root: Path, path: str, old: Any, new: Any) -> StudyError:
    if old is None:
        what = f"without `{path}`, which is {shown(new)} now"
    elif new is None:
        what = f"with `{path}` {shown(old)}, which is left out now"
    else:
        what = f"with `{path}` {shown(old)}, not {shown(new)}"
    return StudyError(
        f"{root} was made {what}: a study may grow, not change\n"
        f"use another --out for the changed space"
    )


def _difference(old: Any, new: Any, path: str) -> tuple[str, Any, Any] | None:
    """The first place where two trees differ, and both values."""
    if _same(old, new):
        return None
    if isinstance(old, dict) and isinstance(new, dict) and not _is_leaf(old, new):
        for key in dict.fromkeys([*old, *new]):
            if found := _difference(old.get(key), new.get(key), f"{path}.{key}"):
                return found
    return path, old, new


def _values(old: Any, new: Any, path: str, root: Path) -> Iterator[str]:
    """Choices that have got further values, in words.

    Raises:
        StudyError: something else differs.
    """
    if _same(old, new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        if not _is_leaf(old, new):
            for key in dict.fromkeys([*old, *new]):
                yield from _values(old.get(key), new.get(key), f"{path}.{key}", root)
            return
        if old.keys() == new.keys() == {"choice"}:
            more = [v for v in new["choice"] if not any(_same(v, w) for w in old["choice"])]
            if more and len(more) == len(new["choice"]) - len(old["choice"]):
                yield f"{path} {', '.join(map(shown, more))}"
                return
    raise _changed(root, path, old, new)


def _is_leaf(old: Tree, new: Tree) -> bool:
    return is_distribution(old) or is_distribution(new)


def _same(old: Any, new: Any) -> bool:
    """Python takes 1 and True for equal; what they mean is not."""
    return json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)


def _arm(space: Space, arm: str, *, again: bool) -> str:
    base = space.arms[arm].control_of
    return f"arm `{arm}`" + (f", a control of `{base}`" if base else "") + ", again" * again


def _more(old: Space, new: Space, *, begun: bool) -> Iterator[str]:
    """Stages, budgets, sizes and numbers that came, in words; what confirm will have is open
    before it has begun."""
    stages = [stage for stage in Stage if begun or stage is not Stage.CONFIRM]
    for stage in stages:
        if new.budgets(stage) and not old.budgets(stage):
            yield f"stage {stage}"
        elif budgets := _new_budgets(old, new, stage):
            yield f"{stage} at {' and '.join(f'{budget:g}' for budget in budgets)} FLOPs"
    for (budget, depth), widths in _new_sizes(old, new).items():
        sizes = ", ".join(map(str, widths))
        yield f"measure at {budget:g} FLOPs of depth {depth}, width {sizes}"
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    for stage_name, key in NUMBERS:
        if before[stage_name] and after[stage_name] and (begun or stage_name != "confirm"):
            was, now = before[stage_name][key], after[stage_name][key]
            if was != now:
                yield f"{stage_name}.{key} {now} in place of {was}"


def _new_budgets(old: Space, new: Space, stage: Stage) -> list[float]:
    known = old.budgets(stage)
    return [budget for budget in new.stated_budgets(stage) if budget not in known]


def _new_sizes(old: Space, new: Space) -> dict[tuple[float, int], list[int]]:
    """Widths that arms got at budgets which were there, by budget and depth."""
    kept = old.arms.keys() & new.arms.keys()
    found: dict[tuple[float, int], set[int]] = {}
    for _, _, budget, depth, width, _ in _measured(new, kept) - _measured(old, kept):
        if budget in old.budgets(Stage.MEASURE):
            found.setdefault((budget, depth), set()).add(width)
    return {place: sorted(widths) for place, widths in sorted(found.items())}


def _measured(space: Space, arms: Set[str]) -> set[tuple[str, str, float, int, int, int]]:
    """Trials that measure is asked for, seeds aside."""
    return {
        ("measure", arm, rung.budget, rung.depth, width, 0)
        for rung in (space.measure.ladder if space.measure else [])
        for arm in (rung.arms or space.learned_arms)
        if arm in arms
        for width in rung.widths
    }


def _asked(space: Space, arms: Set[str], *, begun: bool) -> set[tuple[Any, ...]]:
    """Everything that a space asks to be trained, recipes aside; confirm's trials once it has
    begun."""
    found: set[tuple[Any, ...]] = set()
    if space.explore is not None:
        trials = space.explore.trials or 0
        found |= {("explore", b, n) for b in space.explore.budgets for n in range(trials + 1)}
    if space.measure is not None:
        seeds = range(1, space.measure.seeds + 1)
        sizes = _measured(space, arms)
        found |= {(*size[:-1], seed) for size in sizes for seed in seeds}
    if space.confirm is not None and begun:
        runs = range(1, space.confirm.looks[-1] + 1)
        found |= {("confirm", b, run) for b in space.confirm.budgets for run in runs}
    return found


def _in_words(asked: tuple[Any, ...]) -> str:
    """One of what `_asked` finds."""
    if asked[0] == "measure":
        _, arm, budget, depth, width, seed = asked
        return f"measure of `{arm}` at {budget:g} FLOPs, depth {depth}, width {width}, seed {seed}"
    stage, budget, number = asked
    return f"{stage} at {budget:g} FLOPs with {number} " + (
        "trials" if stage == "explore" else "seeds or runs"
    )
