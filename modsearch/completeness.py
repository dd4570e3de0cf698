"""What a study asks for, beside what it has: its cells, and results that are missing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modsearch.analysis.fits import causal_loss
from modsearch.errors import ModsearchError, StudyError
from modsearch.schema import Record, Stage, State
from modsearch.space import Space, own_space
from modsearch.store import StudyDirectory


@dataclass(frozen=True)
class CellState:
    """One arm at one budget in one stage."""

    stage: Stage
    arm: str
    budget: float
    wanted: int
    """Trials that the space asks for."""
    found: tuple[Record, ...]

    @property
    def states(self) -> dict[str, int]:
        """Trials by how they ended."""
        return dict(Counter(str(record.state) for record in self.found))

    @property
    def best_causal_loss(self) -> float | None:
        """The lowest one; None without a finished trial."""
        return min((causal_loss(record) for record in self.found if record.scores), default=None)

    @property
    def missing(self) -> int:
        """Points that have no result yet. A failed trial is one: it is tried again.

        Sizes and seeds are counted, not trials: when a study grows, another size may be
        confirmed, or another recipe measured, and the earlier results stay.
        """
        done = [record for record in self.found if record.state is not State.FAILED]
        if self.stage is Stage.MEASURE:
            sizes = {(r.candidate.model.depth, r.candidate.model.width) for r in done}
            return max(0, self.wanted - len(sizes))
        if self.stage is Stage.CONFIRM:
            return max(0, self.wanted - len({record.seed for record in done}))
        return max(0, self.wanted - len(done))


def study_space(directory: StudyDirectory) -> Space:
    """What a study was asked, from its own `space.yaml`; no plugin is run.

    Raises:
        StudyError: it is missing or damaged.
    """
    try:
        return own_space(directory.space)
    except ModsearchError as error:
        raise StudyError(
            f"can't read {directory.space}: {str(error).partition(chr(10))[0]}\n"
            f"bring the file back: the study goes on and is counted by it"
        ) from error


def cells(space: Space, records: Sequence[Record]) -> list[CellState]:
    """Every cell of a study, in order of stage and budget, and what it has."""
    found = []
    for stage in Stage:
        for budget in space.budgets(stage):
            for arm in space.arms if stage is Stage.CONFIRM else space.learned_arms:
                place = (stage, arm, budget)
                mine = [r for r in records if (r.stage, r.arm, r.budget.flops) == place]
                wanted = space.num_trials(stage, arm, budget)
                found.append(CellState(stage, arm, budget, wanted, tuple(mine)))
    return found


def open_stage(cells: Sequence[CellState]) -> Stage | None:
    """The stage that is under way; None where all are done.

    A sampler may end a cell early, so that a stage is done, too, when a later one has begun.
    """
    later = False
    under_way = None
    for stage in reversed(Stage):
        mine = [cell for cell in cells if cell.stage is stage]
        if mine and not later and any(cell.missing for cell in mine):
            under_way = stage
        later = later or any(cell.found for cell in mine)
    return under_way


def lacking(cells: Sequence[CellState]) -> Iterator[str]:
    """Cells of measure and confirm that have some of their results and not all."""
    for cell in cells:
        if cell.stage is not Stage.EXPLORE and cell.missing and cell.found:
            yield (
                f"{cell.stage} of {cell.arm} at {cell.budget:g} FLOPs has "
                f"{cell.wanted - cell.missing} of {cell.wanted} results"
            )
