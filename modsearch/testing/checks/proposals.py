"""What a sampler must keep: points of its space, and the same ones however often it is asked."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from modsearch.config.records import Record
from modsearch.errors import ConfigError
from modsearch.sampling.cell import Asked, Cell
from modsearch.sampling.ledger import Storage, in_memory
from modsearch.space.points import is_finite, misfit
from modsearch.space.samplers import SAMPLERS, CellSpec, Point
from modsearch.testing.probe import Case, expect
from modsearch.testing.searches import TRIALS, Outcome, ask, name_of, spec_of, with_prior

KILLED_AFTER = 13
"""Trials at the most, when a driver is killed that has asked for one more: samplers have learned
by then."""
BEGUN = 2
"""Trials by which a warm start is seen."""


def proposes(case: Case) -> None:
    """Every proposal is a point of the space, whatever became of the trials before."""
    expect(_searched(case) or not is_finite(_spec(case).tree), "it proposes nothing")


def same_proposals(case: Case) -> None:
    """The same question has the same answer, whatever was drawn elsewhere, and draws nothing
    there."""
    first = _searched(case)
    with _other_generators():
        before = _states()
        second = _searched(case)
        expect(_states() == before, "it draws from a generator that is not its own")
    expect(first == second, f"asked again it proposes other points: {_gap(first, second)}")


def takes_prior(case: Case) -> None:
    """What other studies have trained keeps all rules: points of the space, and the same ones
    asked again. It changes them where the sampler says so, and only there."""
    spec = _spec(case)
    if spec.prices or not (cold := _searched(case, BEGUN)):
        return
    warm, again = (_searched(case, BEGUN, warm=True) for _ in range(2))
    expect(warm == again, f"asked again after a warm start it differs: {_gap(warm, again)}")
    warms = SAMPLERS.get(spec.sampler.name).warms
    expect(warms or warm == cold, "it learns from a warm start, but `warms` is not set")
    same = warm == cold and not is_finite(spec.tree)
    expect(not (warms and same), "`warms` is set, but a warm start changes nothing")


def goes_on(case: Case) -> None:
    """A search whose driver is killed goes on as one that was not."""
    if not _searched(case):
        return
    whole = _Search(case, in_memory())
    whole.run()
    storage = in_memory()
    first = _Search(case, storage)
    first.run(min(KILLED_AFTER, len(whole.points()) - 1))
    if first.cell.why_done() is None:
        first.cell.ask()
    again = _Search(case, storage)
    for orphan in again.cell.orphans():
        again.tell(orphan)
    again.run()
    found, wanted = again.points(), whole.points()
    expect(found == wanted, f"a killed search goes on otherwise: {_gap(wanted, found)}")


def _spec(case: Case) -> CellSpec:
    assert case.sampler is not None
    return spec_of(case.sampler, case.space)


def _searched(case: Case, most: int = TRIALS, *, warm: bool = False) -> list[Point]:
    """The points of a search, each asked of a new instance; none in a space that the sampler
    refuses, as a grid does where an axis is continuous."""
    spec = with_prior(_spec(case)) if warm else _spec(case)
    points: list[Point] = []
    try:
        while len(points) < most and (point := ask(spec, points)) is not None:
            why = misfit(spec.tree, point)
            expect(why is None, f"trial {len(points)} is no point of the space: {why}")
            points.append(point)
    except ConfigError:
        if points:  # it took the space, and must go on in it
            raise
    return points


class _Search:
    """A cell on a ledger, driven to its end by one worker."""

    def __init__(self, case: Case, storage: Storage) -> None:
        spec = _spec(case)
        self.outcome = Outcome(spec)
        self.cell = Cell(storage, spec, 0, records=self.records)

    def records(self) -> dict[str, Record]:
        ended = [trial for trial in self.cell.trials() if trial.state.is_finished()]
        return {
            name_of(trial.number): self.outcome.record(trial.number, trial.params)
            for trial in ended
        }

    def run(self, most: float = float("inf")) -> None:
        while len(self.cell.trials()) < most and self.cell.why_done() is None:
            if (asked := self.cell.ask()) is None:
                break
            self.tell(asked)

    def tell(self, asked: Asked) -> None:
        point = self.cell.trials()[asked.number].params
        self.cell.note_hash(asked.number, name_of(asked.number))
        self.cell.tell(asked.number, self.outcome.record(asked.number, point))

    def points(self) -> list[Point]:
        return [trial.params for trial in self.cell.trials()]


@contextmanager
def _other_generators() -> Iterator[None]:
    """Python's and numpy's generators elsewhere than they were, and afterwards back."""
    python, of_numpy = random.getstate(), np.random.get_state()
    random.seed(12345)
    np.random.seed(12345)
    torch.manual_seed(12345)  # a check runs in a fork of torch's
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)


def _states() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()
    return random.getstate(), name, str(keys), tuple(rest), torch.random.get_rng_state().tolist()


def _gap(left: list[Point], right: list[Point]) -> str:
    """The first place at which two searches differ."""
    for number, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return f"trial {number} is {one} and {other}"
    return f"{len(left)} and {len(right)} of them"
