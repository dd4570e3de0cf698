"""Which trials confirm an arm at a budget: fresh seeds of one candidate on the test part."""

import json
from collections import defaultdict
from collections.abc import Sequence

from modsearch.analysis.compare import Confirmed
from modsearch.analysis.fits import confirm_choice
from modsearch.analysis.recipes import finished, measured, recipe_key, size_of
from modsearch.config.records import Record, Stage


def confirmed(
    records: Sequence[Record], arm: str, budget: float, control_of: str | None = None
) -> Confirmed | None:
    """The confirmed trials of an arm at a budget, all of one candidate; None without any.

    Extending a study can move the size that `measure` chooses. Then the seeds of that size
    count, or while it has none, those of the size with most; never the better ones.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if _is_confirm(record, arm, budget):
            groups[_group_key(record)].append(record)
    groups = {key: rows for key, rows in groups.items() if any(map(finished, rows))}
    if not groups:
        return None
    measured_arm = control_of or arm
    choice = confirm_choice(records, measured_arm, budget)
    size = (choice.depth, choice.width) if choice else None
    rows = measured(records, measured_arm)
    recipe = recipe_key(rows[0]) if rows and control_of is None else None

    def rank(key: str) -> tuple[bool, bool, int, str]:
        first = groups[key][0]
        return (
            size_of(first) != size,
            recipe is not None and recipe_key(first) != recipe,
            -sum(map(finished, groups[key])),
            key,
        )

    chosen = min(groups, key=rank)
    rows = sorted(groups[chosen], key=lambda record: (record.seed, record.hash))
    return Confirmed(
        arm=arm,
        budget=budget,
        records=tuple(filter(finished, rows)),
        lost=tuple(record for record in rows if not finished(record)),
        as_measured=not any(rank(chosen)[:2]),
    )


def _is_confirm(record: Record, arm: str, budget: float) -> bool:
    return (
        record.stage is Stage.CONFIRM
        and record.validation.part == "test"
        and record.arm == arm
        and record.budget.flops == budget
    )


def _group_key(record: Record) -> str:
    candidate = record.candidate.model_dump(mode="json", exclude={"data": True})
    return json.dumps([candidate, record.validation.windows], sort_keys=True)
