"""How many FLOPs does a search need? Samplers on tables of real trials, without training any.

The samplers of the package search the space of a table, many times with other seeds. A trial costs
the FLOPs that it cost, and has the loss that it had with one of its seeds, in an order that each
search draws for itself. A search answers with one configuration after every trial. It *knows* the
best one from where on all its answers have a mean loss within 0.5 % of the lowest mean loss.

    python benchmarks/search/replay.py [SPACE ...] [--searches 50] [--samplers tpe isoflop ...]
        [--out docs/search] [--workers 2]

Writes `SPACE.md`, `SPACE.svg`, `SPACE-regret.csv` and `SPACE-known.csv` into the folder. Samplers
that look at the largest budget alone answer with the lowest mean of the losses that they have
seen; where they propose what they have seen already, another seed of it is trained. The grid is
gone through in an order that each search draws. `isoflop` answers by its belief through all
trials, and so does `tpe, believed`. `asha` is successive halving over the budgets (Li et al. 2018,
arXiv 1810.05934), each trained from its beginning, as schedules of the learning rate need it.
`tpe, smaller first` tries 20 configurations at each smaller budget first, and is told of them;
`..., warm` are told of 60 that another study had drawn, and trained at the budget before the
largest, whose FLOPs are not counted. `oracle` knows the mean losses of all, and trains the best
one; `shortlist` is told which twenty are the best ones, in no order, and pays for no more than
telling them apart: it trains each at the largest budget, with one seed after the other, and
answers with the lowest mean.
"""

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tables import SPACES, key_of, read_table, tree_of

from modsearch.analysis.believed import believed
from modsearch.config.base import Component
from modsearch.config.data import DataConfig
from modsearch.config.priors import Prior
from modsearch.config.records import Budget, Candidate, Record, Scores, Stage, State
from modsearch.space.candidates import build
from modsearch.space.points import at_point
from modsearch.space.samplers import SAMPLERS, SEED, SEEDS, Ask, CellSpec, Tried, sampler_of

CLOSE = 0.005
HALVING = 3
"""Of so many configurations of a rung of `asha` one is promoted."""
NO_MORE = 1000
"""A seed that no table has."""
SMALL = {"gp": 30, "isoflop": 40, "tpe": 100}
"""Trials' worth of FLOPs after which a search ends that takes long to think; others go on until
they have spent what all configurations cost once."""
SHORT = 20
"""Configurations that `shortlist` is told."""
SOON = 40
"""The same as `SMALL` of searches that are told of other trials."""

Point = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The trials of a space."""

    space: str
    losses: Mapping[tuple[str, float], Mapping[int, float]]
    """By configuration and budget, then by seed."""
    flops: Mapping[tuple[str, float], float]
    candidates: Mapping[str, Candidate]
    points: Mapping[str, Point]

    @property
    def budgets(self) -> list[float]:
        return sorted({budget for _, budget in self.losses})

    @property
    def means(self) -> dict[str, float]:
        """Of each configuration at the largest budget: what is true of it."""
        largest = self.budgets[-1]
        return {key: fmean(self.losses[key, largest].values()) for key in self.points}

    @property
    def whole(self) -> float:
        """FLOPs of every configuration once, at the largest budget."""
        return sum(self.flops[key, self.budgets[-1]] for key in self.points)


@cache
def table_of(space: str) -> Table:
    """The packed table of a space."""
    losses: dict[tuple[str, float], dict[int, float]] = defaultdict(dict)
    flops: dict[tuple[str, float], float] = {}
    points: dict[str, Point] = {}
    for row in read_table(space):
        key = key_of(row.point)
        losses[key, row.budget][row.seed] = row.loss
        flops[key, row.budget] = row.flops
        points[key] = row.point
    tree = tree_of(space)
    built = {key: build(at_point(tree, point), DataConfig()) for key, point in points.items()}
    return Table(space, losses, flops, built, points)


@dataclass
class Search:
    """What one search has trained, and what it answers after each trial."""

    table: Table
    seed: int
    records: dict[str, Record] = field(default_factory=dict)
    spent: list[float] = field(default_factory=list)
    """FLOPs, after each trial."""
    answers: list[str | None] = field(default_factory=list)
    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Losses at the largest budget, by configuration."""
    means: dict[str, float] = field(default_factory=dict)
    """Of the same."""
    _tried: Counter[tuple[str, float]] = field(default_factory=Counter)

    def train(self, key: str, budget: float) -> float:
        """The loss of one more trial of a configuration. One more than the table has of it is the
        first again, and costs nothing; a sampler that asks for seeds is told that it failed."""
        known = self.table.losses[key, budget]
        draws = np.random.default_rng([self.seed, *key.encode(), int(budget)])
        turn = self._tried[key, budget]
        self._tried[key, budget] += 1
        is_new = turn < len(known)
        seed = sorted(known)[int(draws.permutation(len(known))[turn % len(known)])]
        cost = self.table.flops[key, budget] if is_new else 0.0
        self.spent.append((self.spent[-1] if self.spent else 0.0) + cost)
        if budget == self.table.budgets[-1] and is_new:
            self.seen[key].append(known[seed])
            self.means[key] = fmean(self.seen[key])
        self._note(key, budget, *((seed, known[seed]) if is_new else (NO_MORE, None)))
        return known[seed]

    def _note(self, key: str, budget: float, seed: int, loss: float | None) -> None:
        record = Record.model_construct(
            hash=f"{key} {budget!r} {seed}",
            stage=Stage.EXPLORE,
            arm="all",
            candidate=self.table.candidates[key],
            budget=Budget(flops=budget),
            seed=seed,
            state=State.COMPLETE if loss is not None else State.INFEASIBLE,
            objective=None,
            scores=Scores.model_construct(causal_loss=loss) if loss is not None else None,
        )
        self.records[record.hash] = record

    def has_spent(self, trials: int) -> bool:
        """Whether it has spent so many trials' worth of FLOPs."""
        share = trials / len(self.table.points)
        return bool(self.spent) and self.spent[-1] >= share * self.table.whole

    def lowest(self) -> str | None:
        """The configuration with the lowest mean of what was seen at the largest budget."""
        return min(self.means, key=lambda key: (self.means[key], key), default=None)

    def believed(self) -> str | None:
        """The one that is best by a belief through all trials."""
        if not self.seen:
            return None
        finished = [record for record in self.records.values() if record.scores is not None]
        return believed(finished)[0][1][0].hash.rsplit(" ", 2)[0]

    def regrets(self) -> list[float]:
        """Of each answer, as a share of the lowest mean loss; infinite before there is one."""
        means = self.table.means
        best = min(means.values())
        return [
            means[answer] / best - 1 if answer is not None else float("inf")
            for answer in self.answers
        ]

    def known(self) -> float | None:
        """FLOPs from where on all answers are close to the best; None where the last is not."""
        found = None
        for spent, regret in zip(self.spent, self.regrets(), strict=True):
            if regret > CLOSE:
                found = None
            elif found is None:
                found = spent
        return found


def sampled(
    name: str, table: Table, seed: int, *, by_belief: bool = False, below: int = 0, told: int = 0
) -> Search:
    """A search with a sampler of the package, over the largest budget, or over all where the
    sampler has candidates trained again, or is first to try so many at each budget `below`.
    `told`: configurations that another study had trained at the budget before the largest."""
    search = Search(table, seed)
    component = Component.model_validate(
        {"name": name} | ({"smaller_first": True} if below else {})
    )
    sampler = sampler_of(component)
    reseeds = SAMPLERS.get(name).reseeds
    tree = {**tree_of(table.space)}
    if reseeds:
        tree[SEED] = SEEDS
    budgets = tuple(table.budgets if reseeds or below else table.budgets[-1:])
    most = SOON if below or told else SMALL.get(name, len(table.points))
    wanted = len(table.points)
    specs = [
        CellSpec(
            Stage.EXPLORE,
            "all",
            budget,
            tree,
            component,
            wanted,
            budgets=budgets,
            prior=known_elsewhere(table, seed, told),
        )
        for budget in budgets
    ]
    room = dict.fromkeys(budgets[:-1], below) if below else {}
    tried: dict[float, list[Tried]] = {budget: [] for budget in budgets}
    order = np.random.default_rng(seed).permutation(sorted(table.points))
    untried = {key: table.points[key] for key in map(str, order)}

    def ask(spec: CellSpec) -> Ask:
        mine = tried[spec.budget]
        return Ask(
            spec=spec,
            seed=seed,
            number=len(mine),
            wanted=wanted,
            tried=mine,
            records=lambda: search.records,
            untried=untried.values(),
        )

    while not search.has_spent(most) and len(search.spent) < wanted * len(budgets):
        asked = (
            (spec, sampler.propose(ask(spec)))
            for spec in specs
            if len(tried[spec.budget]) < room.get(spec.budget, float("inf"))
        )
        spec, point = next(
            ((spec, each) for spec, each in asked if each is not None), (None, None)
        )
        if spec is None or point is None:
            break
        key = key_of({path: label for path, label in point.items() if path != SEED})
        untried.pop(key, None)
        loss = search.train(key, spec.budget)
        mine = tried[spec.budget]
        mine.append(Tried(len(mine), point, loss, running=False, hash=f"{key} {len(mine)}"))
        if not (by_belief or reseeds):
            search.answers.append(search.lowest())
        elif spec.budget == budgets[-1]:
            search.answers.append(search.believed())
        else:  # it has learned something, and answers when it has trained there
            search.answers.append(search.answers[-1] if search.answers else None)
    return search


def known_elsewhere(table: Table, seed: int, count: int) -> tuple[Prior, ...]:
    """What another study is taken to have trained: so many, drawn for each search."""
    budget = table.budgets[-2]
    drawn = np.random.default_rng([seed, count]).permutation(sorted(table.points))[:count]
    of_key = {key: table.losses[key, budget] for key in map(str, drawn)}
    return tuple(
        Prior(point=table.points[key], budget=budget, loss=losses[min(losses)], level="another")
        for key, losses in of_key.items()
    )


def halving(table: Table, seed: int) -> Search:
    """Asynchronous successive halving with one worker over points in a random order."""
    search = Search(table, seed)
    waiting = list(np.random.default_rng(seed).permutation(sorted(table.points)))
    rungs: list[dict[str, float]] = [{} for _ in table.budgets]
    while not search.has_spent(len(table.points)):
        place, key = _promoted(rungs) or (0, str(waiting.pop()) if waiting else None)
        if key is None:
            break
        rungs[place][key] = search.train(key, table.budgets[place])
        search.answers.append(search.lowest())
    return search


def _promoted(rungs: Sequence[Mapping[str, float]]) -> tuple[int, str] | None:
    """Where the next configuration goes that is among the best of its rung, from above."""
    for place in reversed(range(1, len(rungs))):
        below = rungs[place - 1]
        best = sorted(below, key=lambda key: (below[key], key))[: len(below) // HALVING]
        for key in best:
            if key not in rungs[place]:
                return place, key
    return None


def oracle(table: Table, seed: int) -> Search:
    """The best configuration once."""
    search = Search(table, seed)
    means = table.means
    best = min(means, key=lambda key: (means[key], key))
    search.train(best, table.budgets[-1])
    search.answers.append(best)
    return search


def shortlist(table: Table, seed: int) -> Search:
    """The best twenty, in a random order, until the table has no more seeds of them."""
    search = Search(table, seed)
    means, largest = table.means, table.budgets[-1]
    told = sorted(means, key=lambda key: (means[key], key))[:SHORT]
    order = [told[place] for place in np.random.default_rng(seed).permutation(SHORT)]
    for turn in range(max(len(table.losses[key, largest]) for key in order)):
        for key in order:
            if turn < len(table.losses[key, largest]):
                search.train(key, largest)
                search.answers.append(search.lowest())
    return search


SEARCHES: dict[str, Callable[[Table, int], Search]] = {
    "grid": partial(sampled, "grid"),
    "random": partial(sampled, "random"),
    "qmc": partial(sampled, "qmc"),
    "tpe": partial(sampled, "tpe"),
    "tpe, smaller first": partial(sampled, "tpe", below=20),
    "tpe, warm": partial(sampled, "tpe", told=60),
    "isoflop, warm": partial(sampled, "isoflop", told=60),
    "tpe, believed": partial(sampled, "tpe", by_belief=True),
    "gp": partial(sampled, "gp"),
    "asha": halving,
    "isoflop": partial(sampled, "isoflop"),
    "shortlist": shortlist,
    "oracle": oracle,
}


@dataclass(frozen=True)
class Outcome:
    """What came of one search."""

    space: str
    sampler: str
    seed: int
    spent: list[float]
    regrets: list[float]
    known: float | None


def outcome(job: tuple[str, str, int]) -> Outcome:
    """Of one search; the same in every process."""
    space, sampler, seed = job
    search = SEARCHES[sampler](table_of(space), seed)
    return Outcome(space, sampler, seed, search.spent, search.regrets(), search.known())


def write_known(outcomes: Sequence[Outcome], path: Path) -> None:
    """FLOPs of every search from where on it knew the best; nothing where it did not."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["space", "sampler", "search", "spent", "known"])
        for each in outcomes:
            known = "" if each.known is None else f"{each.known:.6g}"
            writer.writerow([each.space, each.sampler, each.seed, f"{each.spent[-1]:.6g}", known])


def regret_at(outcomes: Sequence[Outcome], flops: float) -> list[float]:
    """Of each search when it had spent so much."""
    found = []
    for each in outcomes:
        place = int(np.searchsorted(each.spent, flops * (1 + 1e-9), side="right")) - 1
        found.append(each.regrets[place] if place >= 0 else float("inf"))
    return found


def curves(
    outcomes: Sequence[Outcome],
) -> Iterator[tuple[str, str, float, float, float, float]]:
    """Space, sampler, trials' worth of FLOPs, and quartiles of regret over searches."""
    for (space, sampler), group in _groups(outcomes).items():
        table = table_of(space)
        one = table.whole / len(table.points)
        most = min(each.spent[-1] for each in group) / one
        for trials in np.unique(np.geomspace(1 / 9, most, 80).round(3)):
            low, middle, high = np.percentile(
                regret_at(group, trials * one), (25, 50, 75), method="nearest"
            )
            yield space, sampler, float(trials), float(low), float(middle), float(high)


def _groups(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for each in outcomes:
        groups[each.space, each.sampler].append(each)
    return groups


def write_curves(outcomes: Sequence[Outcome], path: Path) -> None:
    """Regret against FLOPs."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["space", "sampler", "trials", "lower quartile", "median", "upper"])
        for *names, trials, low, middle, high in curves(outcomes):
            writer.writerow([*names, trials, *(f"{each:.5g}" for each in (low, middle, high))])


def table_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A table in Markdown: trials' worth of FLOPs until the best is known, and regret."""
    yield (
        "| sampler | searches | knows the best after, in trials of the largest budget: median "
        "(quartiles) | share that knows it | mean regret after the FLOPs of 10 trials | 20 | 40 |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for (space, sampler), group in _groups(outcomes).items():
        table = table_of(space)
        one = table.whole / len(table.points)
        known = [each.known / one if each.known is not None else np.inf for each in group]
        low, middle, high = np.percentile(known, (25, 50, 75), method="nearest")
        share = sum(np.isfinite(known)) / len(known)
        after = [_percent(regret_at(group, count * one)) for count in (10, 20, 40)]
        quartiles = f"{_trials(middle)} ({_trials(low)} to {_trials(high)})"
        yield (f"| `{sampler}` | {len(group)} | {quartiles} | {share:.0%} | {' | '.join(after)} |")


def _trials(number: float) -> str:
    return f"{number:.1f}" if np.isfinite(number) else "never"


def _percent(regrets: Sequence[float]) -> str:
    finite = [each for each in regrets if np.isfinite(each)]
    return f"{100 * fmean(finite):.2f} %" if len(finite) == len(regrets) else "no answer yet"


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Median regret against FLOPs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _, sampler, trials, _, middle, _ in curves(outcomes):
        if np.isfinite(middle):
            lines[sampler].append((trials, 100 * middle))
    for sampler, points in lines.items():
        width = 2.5 if sampler == "isoflop" else 1.2
        if sampler == "oracle":
            axis.plot(*points[0], "k*", label=sampler, clip_on=False)
        else:
            axis.plot(*zip(*points, strict=True), label=sampler, lw=width)
    axis.axhline(100 * CLOSE, c="#999999", lw=0.8, ls="--")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0, top=5)
    axis.set_title(outcomes[0].space, loc="left")
    axis.set_xlabel("FLOPs spent, in trials of the largest budget")
    axis.set_ylabel("median regret (% of the lowest loss)")
    axis.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spaces", nargs="*", choices=[*SPACES, []], default=[])
    parser.add_argument("--searches", type=int, default=50)
    parser.add_argument("--samplers", nargs="+", choices=SEARCHES, default=list(SEARCHES))
    parser.add_argument("--out", type=Path, default=Path("docs/search"))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.workers) as pool:
        for space in options.spaces or SPACES:
            jobs = [
                (space, sampler, seed)
                for sampler in options.samplers
                for seed in range(options.searches)
            ]
            outcomes: list[Outcome] = []
            for each in pool.map(outcome, jobs):
                outcomes.append(each)
                print(f"{len(outcomes)}/{len(jobs)} {space} {each.sampler}", end="\r", flush=True)
            write_known(outcomes, options.out / f"{space}-known.csv")
            write_curves(outcomes, options.out / f"{space}-regret.csv")
            text = "\n".join(table_lines(outcomes)) + "\n"
            (options.out / f"{space}.md").write_text(text)
            draw(outcomes, options.out / f"{space}.svg")
            print(text)


if __name__ == "__main__":
    main()
