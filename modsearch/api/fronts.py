"""What explore found of several objectives at once."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from modsearch.config.answers import Frontier, FrontPoint
from modsearch.config.arguments import check_flops, check_path
from modsearch.errors import StudyError

if TYPE_CHECKING:
    from os import PathLike


def front(study: "str | PathLike[str]", budget: float | None = None) -> Frontier:
    """Candidates of explore that no other one beats in all of its objectives, and how surely.

    Args:
        study: its directory, a file of `pack`, or what `open_study` answered with.
        budget: training FLOPs; default: the largest of explore.

    Raises:
        ModsearchError: explore has no finished trials with several objectives at that budget.
    """
    root = check_path("study", study)
    at = None if budget is None else check_flops("budget", budget)
    from modsearch.analysis.pareto import fronts
    from modsearch.store.directory import StudyDirectory
    from modsearch.store.packed import unpacked

    with unpacked(root) if root.is_file() else nullcontext(root) as folder:
        directory = StudyDirectory(folder)
        directory.manifest()  # says what is wrong with a path
        found = [each for each in fronts(directory.records()) if at in (None, each.budget)]
    if not found:
        where = "" if at is None else f" at {at:g} FLOPs"
        raise StudyError(
            f"{root} has no front{where}: no finished trial of explore has several "
            f"objectives\nstate them in the space: explore: {{objective: [loss, forward_flops]}}"
        )
    first = found[0]
    return Frontier(
        budget=first.budget,
        sd=first.sd,
        basis=first.basis,
        points=[
            FrontPoint(
                arm=each.records[0].arm,
                hash=each.records[0].hash,
                objective=each.value,
                prices={str(price): value for price, value in each.prices.items()},
                on_front=each.on_front,
                share=each.share,
                seeds=len(each.records),
                candidate=each.records[0].candidate,
            )
            for each in first.points
        ],
    )
