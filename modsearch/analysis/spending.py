"""What a study's trials cost, and what of that another study had paid already."""

from collections import Counter
from collections.abc import Sequence

from modsearch.analysis.numbers import counted, scientific
from modsearch.config.records import Record


def taken(records: Sequence[Record]) -> dict[str, int]:
    """How many trials were taken from each other study."""
    return dict(Counter(each.reused_from for each in records if each.reused_from is not None))


def taken_line(records: Sequence[Record]) -> str:
    """Both totals of training FLOPs, in a line; empty where all trials are the study's own."""
    origins = taken(records)
    if not origins:
        return ""
    flops = [each.plan.flops * each.charge if each.plan is not None else 0.0 for each in records]
    saved = sum(n for n, each in zip(flops, records, strict=True) if each.reused_from is not None)
    studies = ", ".join(f"{count:,} of {name}" for name, count in origins.items())
    return (
        f"{scientific(sum(flops) - saved)} training FLOPs by this study; "
        f"{counted(sum(origins.values()), 'trial')} taken from others ({studies}) had cost "
        f"{scientific(saved)}, {scientific(sum(flops))} in all"
    )
