"""What a study asks for, beside what it has: its cells, and results that are missing."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from modsearch.analysis.numbers import scientific
from modsearch.analysis.trials import causal_loss, size_of
from modsearch.config.records import Record, Stage, State
from modsearch.errors import ModsearchError, StudyError
from modsearch.space.space import Space, own_space
from modsearch.store.directory import StudyDirectory


@dataclass(frozen=True)
class CellState:
    """One arm at one budget in one stage."""

    stage: Stage
    arm: str
    budget: float
    wanted: int
    """Trials that the space asks for."""
    found: tuple[Record, ...]
    draws: bool = False
    """Points are drawn until enough of them were trained; what is rejected does not count."""
    ended: int | None = None
    """Results that it had when its search was over; None where that is not known."""

    @property
    def states(self) -> dict[str, int]:
        """Trials by how they ended."""
        return dict(Counter(str(record.state) for record in self.found))

    @property
    def best_causal_loss(self) -> float | None:
        """The lowest one; None without a finished trial."""
        return min((causal_loss(record) for record in self.found if record.scores), default=None)

    @property
    def total(self) -> int:
        """Trials that are trained in all, by what is known now: what a stopped one has left of its
        budget is there for others."""
        if not self.draws or str(State.STOPPED) not in self.states:
            return self.wanted
        untrained = sum(self.states.get(str(each), 0) for each in (State.FAILED, State.INFEASIBLE))
        return len(self.found) - untrained + self.missing

    @property
    def missing(self) -> int:
        """Points that have no result yet. A failed trial is one: it is tried again.

        Sizes and seeds are counted, not trials: when a study grows, another recipe may be
        measured, and the earlier results stay. A search may be over before: its points run out,
        none is left that can be trained, or what is asked is known well enough.
        """
        done = [record for record in self.found if record.state is not State.FAILED]
        if self.ended is not None:
            return max(0, self.ended - len(done))
        if self.stage is Stage.MEASURE:
            return max(0, self.wanted - len({(*size_of(record), record.seed) for record in done}))
        if self.stage is Stage.CONFIRM:
            return max(0, self.wanted - len({record.seed for record in done}))
        if self.draws:
            return max(0, math.ceil(self.wanted - sum(record.charge for record in done) - 1e-9))
        return max(0, self.wanted - len(done))


def ended_key(stage: Stage, arm: str, budget: float, wanted: int) -> str:
    """Name of a searched cell in the manifest; another one when it is asked for more."""
    of = "" if stage is Stage.EXPLORE else f"{stage} of "
    return f"{of}{arm} at {budget!r}, {wanted} trials"


def is_searched(space: Space, stage: Stage) -> bool:
    """Whether a sampler says when a stage's cells are over."""
    if stage is Stage.EXPLORE:
        return space.explore is not None
    return stage is Stage.MEASURE and space.measure is not None and not space.measure.is_grid


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


def cells(
    space: Space,
    records: Sequence[Record],
    explored: Mapping[str, int],
    settled: Mapping[float, int],
) -> list[CellState]:
    """Every cell of a study, in order of stage and budget, and what it has.

    Args:
        space: of the study.
        records: its results.
        explored: of its manifest.
        settled: runs of an arm at which the headline of a budget was settled: there confirm has
            all that it wanted.
    """
    found = []
    draws = space.explore is not None and not space.explore.is_grid
    for stage in Stage:
        for budget in space.budgets(stage):
            for arm in space.arms if stage is Stage.CONFIRM else space.learned_arms:
                place = (stage, arm, budget)
                mine = [r for r in records if (r.stage, r.arm, r.budget.flops) == place]
                wanted = asked = space.num_trials(stage, arm, budget)
                if not wanted:  # a ladder may be that of other arms
                    continue
                over = None
                if is_searched(space, stage):
                    over = explored.get(ended_key(stage, arm, budget, asked))
                if stage is Stage.CONFIRM:
                    wanted = settled.get(budget, wanted)
                elif stage is Stage.MEASURE and over is not None:
                    wanted = over
                elif stage is Stage.MEASURE:  # a ladder may have been extended
                    wanted = max(wanted, len({(*size_of(r), r.seed) for r in mine}))
                drawn = draws and stage is Stage.EXPLORE
                found.append(CellState(stage, arm, budget, wanted, tuple(mine), drawn, over))
    return found


def open_stage(cells: Sequence[CellState]) -> Stage | None:
    """The stage that is under way; None where all are done.

    A stage is done, too, when a later one has begun: what it lacks then is told by `lacking`.
    """
    later = False
    under_way = None
    for stage in reversed(Stage):
        mine = [cell for cell in cells if cell.stage is stage]
        if mine and not later and any(cell.missing for cell in mine):
            under_way = stage
        later = later or any(cell.found for cell in mine)
    return under_way


def lacking(cells: Sequence[CellState], under_way: Stage | None = None) -> Iterator[str]:
    """Cells without all of their results, or without a loss, of stages that have begun and are
    not `under_way`.

    Explore's search ends a cell early, so that there a cell without any result is told alone.
    """
    order = list(Stage)
    last = max((order.index(cell.stage) for cell in cells if cell.found), default=-1)
    for cell in cells:
        if order.index(cell.stage) > last or cell.stage is under_way:
            continue
        where = f"{cell.stage} of {cell.arm} at {scientific(cell.budget)} FLOPs has"
        if cell.missing and not (cell.stage is Stage.EXPLORE and cell.found):
            yield f"{where} {cell.wanted - cell.missing} of {cell.wanted} results"
        elif cell.best_causal_loss is None:
            yield f"{where} no trial that has finished"
