"""A study: stages in their order, each a set of cells that an engine works through.

explore ranks recipes, measure draws isoFLOP curves with one recipe per arm, confirm trains
the chosen sizes on fresh seeds and scores them on the test part. The ledger and the trial
directories hold the whole state: running a study again goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, Self

import torch

from modsearch.analysis.fits import confirm_choice
from modsearch.analysis.recipes import best_recipe
from modsearch.config.reading import Tree
from modsearch.config.records import Budget, Infeasible, Job, Plan, Record, Stage, State
from modsearch.config.runtime import Runtime, Share, Signal
from modsearch.data.corpus import load_corpus
from modsearch.engines.local import LocalEngine
from modsearch.errors import StudyError, first_line
from modsearch.evaluation.evaluate import evaluate_winners
from modsearch.registry.plugins import load_plugins
from modsearch.sampling.ledger import Asked, Cell, CellSpec, Ledger, place, server_url
from modsearch.space.axes import Int, grid, parse_tree, resolve, unlabelled
from modsearch.space.candidates import build
from modsearch.space.space import Space, over
from modsearch.store.directory import StudyDirectory
from modsearch.store.mirror import Mirror
from modsearch.study.completeness import explored_key
from modsearch.study.progress import Progress, describe, summary
from modsearch.study.provenance import open_manifest, stage_key, study_key
from modsearch.training.budget import plan
from modsearch.training.machine import num_workers
from modsearch.training.trial import run_mirrored, run_trial

ANY_SIZE = Int(1, 1_000_000, 1)
SEEDS_PER_STUDY = 1000


RunTrial = Callable[[Job], Record]


class Engine(Protocol):
    """What executes jobs, as many at once as it has workers."""

    num_workers: int

    def started(self) -> AbstractContextManager[Self]:
        """Workers live inside this context."""

    def run(
        self,
        next_job: Callable[[], Job | Signal],
        on_record: Callable[[Job, Record], None],
    ) -> None:
        """Pull jobs and push records until there is nothing left."""


MakeEngine = Callable[[RunTrial, int | None, Share], Engine]
"""An engine from what a trial is, the workers that were asked for, and what a trial takes."""


def local(run_trial: RunTrial, workers: int | None, share: Share) -> Engine:
    """Worker processes on this machine."""
    return LocalEngine(run_trial, workers or 1, share.threads)


def trial_seed(study_seed: int, stage: Stage, index: int = 0) -> int:
    """Seed of a trial: one in explore, another in measure, fresh ones in confirm."""
    start = {Stage.EXPLORE: 0, Stage.MEASURE: 1, Stage.CONFIRM: 100}[stage]
    return study_seed * SEEDS_PER_STUDY + start + index


class Driver:
    """Hands out the jobs of one stage and takes their records.

    Planning, rejection, duplicates and telling live here, so they are the same under every
    engine.
    """

    def __init__(self, study: "Study", specs: Sequence[CellSpec]) -> None:
        self.study = study
        self.cells = [study.cell(spec) for spec in specs]
        self.in_flight: dict[str, list[tuple[Cell, int]]] = {}
        self._orphans = [(cell, asked) for cell in self.cells for asked in cell.orphans()]
        self.lost = self._without_results()
        self.failed = 0

    def _without_results(self) -> list[Job]:
        """Trainings that the ledger has and the study directory lost.

        Raises:
            StudyError: it lost all: this is another directory.
        """
        told = {
            trial_hash: (cell, asked) for cell in self.cells for trial_hash, asked in cell.told()
        }
        lost = [
            self.study.job(cell.spec, asked.values)
            for trial_hash, (cell, asked) in told.items()
            if self.study.directory.finished(trial_hash) is None
        ]
        if lost and self.study.mirror is None and not self.study.directory.records():
            raise StudyError(
                f"the ledger has {len(lost)} finished trials of this study, but "
                f"{self.study.directory.root} has none of their results\n"
                f"name the directory that it was run in with --out, or use another ledger"
            )
        return lost

    def next_job(self) -> Job | Signal:
        """The next training; rejected and known trials are told on the way."""
        self.study.ledger.check()
        while self.lost:
            job = self.lost.pop()
            if isinstance(job.plan, Infeasible):
                reason = job.plan.reason
                self.study.directory.write_record(job.record(State.INFEASIBLE, reason=reason))
            elif job.hash not in self.in_flight:
                self.study.progress.say(f"{describe(job)} has no result here: run again")
                self.in_flight[job.hash] = []  # told already
                self.study.progress.started(job)
                return job
        while True:
            found = self._next_ask()
            if found is None:
                return Signal.WAIT if self.in_flight else Signal.DONE
            cell, asked = found
            job = self.study.job(cell.spec, asked.values)
            cell.note_hash(asked.number, job.hash)
            if isinstance(job.plan, Infeasible):
                record = job.record(State.INFEASIBLE, reason=job.plan.reason)
                self.study.progress.say(f"rejected {describe(job)}: {job.plan.reason}")
                self.study.directory.write_record(record)
                cell.tell(asked.number, record)
            elif job.hash in self.in_flight:
                self.in_flight[job.hash].append((cell, asked.number))
            elif (known := self.study.directory.finished(job.hash)) is not None:
                self.study.drop_weights(known)
                repeat = cell.is_repeat(asked.number, job.hash)
                cell.tell(asked.number, known, repeat=repeat)
            else:
                self.in_flight[job.hash] = [(cell, asked.number)]
                self.study.progress.started(job)
                return job

    def on_record(self, job: Job, record: Record) -> None:
        """Tell every trial that waited for this training. A failed one stays asked: the same
        command tries it again, under its own number."""
        waiting = self.in_flight.pop(job.hash)
        record = self.study.fetch(job, record)
        self.study.progress.ended(job, record)
        self.study.ledger.check()
        if record.state is State.FAILED:
            self.failed += 1
            with suppress(OSError):  # the disk may be what failed
                self.study.directory.write_record(record)
            return
        self.study.drop_weights(record)
        for index, (cell, number) in enumerate(waiting):
            cell.tell(number, record, repeat=index > 0)

    def _next_ask(self) -> tuple[Cell, Asked] | None:
        if self._orphans:
            return self._orphans.pop(0)
        open_cells = [cell for cell in self.cells if cell.why_done() is None]
        if not open_cells:
            return None
        cell = max(open_cells, key=self._expected)
        return cell, cell.ask()

    def _expected(self, cell: Cell) -> float:
        """Seconds of the cell's next trial: long trials start first, so that no worker is left
        with one at the end."""
        point = cell.upcoming()
        return self.study.guess(cell.spec, point) if point is not None else float("inf")


class Study:
    """One study directory, its space, its ledger and its one driver."""

    def __init__(
        self,
        space: Space,
        root: Path,
        *,
        workers: int | None = None,
        allow_mixed: bool = False,
        make_engine: MakeEngine = local,
        engine: Literal["local", "ray"] = "local",
        ledger: str | None = None,
        storage: str | None = None,
    ) -> None:
        self.space = space
        self.make_engine = make_engine
        self.directory = StudyDirectory(root)
        # Opened before anything is written, so that a wrong address leaves no trace.
        server = Ledger(server_url(ledger)) if ledger else None
        corpus = load_corpus(space.data)
        for sample, seq_len in space.samples():  # before anything is trained
            corpus.windows(sample, seq_len)
        self.plugins = load_plugins(space.plugins)
        self.corpus = corpus.facts
        self.manifest = open_manifest(
            self.directory,
            space,
            self.corpus,
            allow_mixed=allow_mixed,
            elsewhere=make_engine is not local,
            engine=engine,
            ledger=place(server.url) if server else None,
        )
        self.key = study_key(space, self.manifest)
        self.mirror = Mirror.of(storage, self.key) if storage else None
        self.ledger = server or Ledger.in_file(self.directory.ledger)
        runtime = self.manifest.runtime
        asked = space.resources.workers
        self.asked_workers = workers or (asked if asked != "auto" else None)
        self.workers = self.asked_workers or num_workers(runtime)
        self.progress = Progress(self.directory, self.workers)
        self._guesses: dict[tuple[str, str], float] = {}

    def run(self, only: Stage | None = None) -> None:
        """Run or resume the stages that the space asks for, or one of them."""
        engine = self.engine()
        wanted = [stage for stage in Stage if self.space.budgets(stage)]
        if only is not None and only not in wanted:
            raise StudyError(
                f"space `{self.space.name}` has no stage `{only}`, only {', '.join(wanted)}"
            )
        with self.ledger.held(self.key), engine.started(), self.progress:
            self.progress.workers = engine.num_workers
            for stage in [only] if only else wanted:
                specs = self.cell_specs(stage)
                # What failed is tried once more before the next stage builds on this one: nodes
                # that come and go must not decide which size is confirmed.
                for _ in range(2):
                    driver = Driver(self, specs)
                    self._announce(stage, driver)
                    engine.run(driver.next_job, driver.on_record)
                    if not driver.failed:
                        self._note_explored(driver)
                        break
        records = self.directory.records()
        self.progress.say(f"trials: {summary(records)}")
        if any(record.state is State.FAILED for record in records):
            self.progress.say("failed trials are tried again by the same command")

    def _note_explored(self, driver: Driver) -> None:
        """Write down which cells of explore are over: their results alone do not tell."""
        ends = dict(self.manifest.explored)
        records = self.directory.records()
        for spec, wanted in ((cell.spec, cell.wanted) for cell in driver.cells):
            if spec.stage is Stage.EXPLORE:
                place = (spec.stage, spec.arm, spec.budget)
                mine = [r for r in records if (r.stage, r.arm, r.budget.flops) == place]
                done = sum(record.state is not State.FAILED for record in mine)
                ends[explored_key(spec.arm, spec.budget, wanted)] = done
        if ends != self.manifest.explored:
            self.manifest = self.manifest.model_copy(update={"explored": ends})
            self.directory.write_manifest(self.manifest)

    def cell(self, spec: CellSpec) -> Cell:
        """A cell on this study's ledger."""
        shared = self.manifest.ledger is not None
        prefix = f"{self.key}/{stage_key(self.space, spec.stage)}/" if shared else ""
        return Cell(self.ledger.storage, spec, self.space.seed, prefix)

    def engine(self) -> Engine:
        """What executes this study's trials; not started yet."""
        workers = self.workers if self.make_engine is local else self.asked_workers
        share = _share(self.space, self.manifest.runtime)
        run = partial(run_trial, self.directory.root.resolve())
        if self.mirror is not None:
            run = partial(run_mirrored, self.mirror)
        return self.make_engine(run, workers, share)

    def fetch(self, job: Job, record: Record) -> Record:
        """Bring a trial's directory here from the storage, where there is one."""
        if self.mirror is None:
            return record
        weights = () if self._keeps_weights(record) else ("checkpoint/model.safetensors",)
        try:
            folder = self.directory.trial(job.hash)
            self.mirror.pull(job.hash, folder, without=("checkpoint/resume.safetensors", *weights))
            for name in weights:
                self.mirror.remove(job.hash, name)
        except Exception as error:  # each file system has its own
            return job.record(State.FAILED, reason=f"storage: {first_line(error)}")
        return record

    def evaluate_winners(self) -> None:
        """Score the confirmed trials with the space's suite."""
        records = [r for r in self.directory.records() if r.stage is Stage.CONFIRM and r.scores]
        if self.space.suite is None or not records:
            return
        self.progress.say(f"evaluate: {len(records)} trials with suite {self.space.suite}")
        evaluate_winners(
            self.directory,
            records,
            self.space.suite,
            self.space.data,
            "cpu" if not torch.cuda.is_available() else self.manifest.runtime.device,
        )

    def _announce(self, stage: Stage, driver: Driver) -> None:
        guesses = []
        for cell in driver.cells:
            told = sum(trial.state.is_finished() for trial in cell.trials())
            points = list(cell.spec.points or ())[told:]
            left = max(0, cell.wanted - told)
            seconds = [self.guess(cell.spec, point) for point in points] or [0.0]
            guesses += [sum(seconds) / len(seconds)] * left
        guesses += [_seconds(job) for job in driver.lost]
        self.progress.begin(stage, len(guesses), sum(guesses))

    def cell_specs(self, stage: Stage) -> list[CellSpec]:
        """The cells of a stage. Measure needs explore's results, and confirm measure's.

        Raises:
            StudyError: an earlier stage has not what this one needs.
        """
        make = {
            Stage.EXPLORE: self._explore_cell,
            Stage.MEASURE: self._measure_cell,
            Stage.CONFIRM: self._confirm_cell,
        }[stage]
        arms = list(self.space.arms) if stage is Stage.CONFIRM else self.space.learned_arms
        return [make(arm, budget) for budget in self.space.budgets(stage) for arm in arms]

    def _explore_cell(self, arm: str, budget: float) -> CellSpec:
        explore = self.space.explore
        assert explore is not None
        tree = {**self.space.recipe(arm), "size": parse_tree(explore.size)}
        spec = CellSpec(Stage.EXPLORE, arm, budget, tree, explore.sampler, explore.trials)
        return self._ordered(spec, list(grid(tree))) if explore.sampler == "grid" else spec

    def _measure_cell(self, arm: str, budget: float) -> CellSpec:
        tree = {**self.recipe(arm), "size": {"depth": ANY_SIZE, "width": ANY_SIZE}}
        points: list[dict[str, object]] = [
            {"size.depth": size["depth"], "size.width": size["width"]}
            for size in self.space.sizes(budget)
        ]
        return self._ordered(CellSpec(Stage.MEASURE, arm, budget, tree), points)

    def _confirm_cell(self, arm: str, budget: float) -> CellSpec:
        assert self.space.confirm is not None
        measured = self.space.arms[arm].control_of or arm
        choice = confirm_choice(self.directory.records(), measured, budget)
        if choice is None:
            raise StudyError(
                f"nothing to confirm: measure has no finished trial of arm `{measured}` at "
                f"{budget:g} FLOPs\nrun stage `measure`; `modsearch status` has what was rejected "
                f"or failed"
            )
        size = {"depth": choice.depth, "width": choice.width}
        tree = {**self.recipe(arm), "size": size, "seed": Int(0, 1_000_000, 1)}
        points: list[dict[str, object]] = [
            {"seed": index} for index in range(self.space.confirm.seeds)
        ]
        return self._ordered(CellSpec(Stage.CONFIRM, arm, budget, tree), points)

    def _ordered(self, spec: CellSpec, points: list[dict[str, object]]) -> CellSpec:
        points.sort(key=lambda point: -self.guess(spec, point))
        return CellSpec(
            spec.stage, spec.arm, spec.budget, spec.tree, spec.sampler, spec.trials, tuple(points)
        )

    def recipe(self, arm: str) -> Tree:
        """The arm's one recipe: fixed by the space, or the best of explore.

        Raises:
            StudyError: explore has no finished trial of the arm.
        """
        settings = self.space.arms[arm]
        base = settings.control_of or arm
        if self.space.explore is None:
            tree = self.space.recipe(base)
        else:
            best = best_recipe(self.directory.records(), base)
            if best is None:
                raise StudyError(
                    f"no recipe for arm `{base}`: explore has no finished trial of it\n"
                    f"run the stage `explore` first, and look at `modsearch status`"
                )
            model = best.candidate.model.model_dump(exclude={"depth", "width"})
            tree = {"model": model, "optim": best.candidate.optim.model_dump()}
        return tree if settings.control_of is None else over(tree, settings)

    def job(self, spec: CellSpec, values: Tree) -> Job:
        """The training that a trial of a cell means."""
        candidate = build(values, self.space.data)
        budget = Budget(flops=spec.budget)
        return Job(
            stage=spec.stage,
            arm=spec.arm,
            candidate=candidate,
            budget=budget,
            seed=trial_seed(self.space.seed, spec.stage, values.get("seed", 0)),
            validation=self.space.validation(spec.stage),
            fingerprint=self.corpus.fingerprint,
            runtime=self.manifest.runtime,
            plan=plan(candidate, budget, self.corpus.train_tokens),
            plugins=self.plugins,
        )

    def guess(self, spec: CellSpec, point: dict[str, object]) -> float:
        """Rough seconds of a point of a cell."""
        key = spec.name, repr(point)
        if key not in self._guesses:  # asked for again and again while a worker waits
            values = resolve(spec.tree, lambda path, axis: unlabelled(axis, point[path]))
            self._guesses[key] = _seconds(self.job(spec, values))
        return self._guesses[key]

    def drop_weights(self, record: Record) -> None:
        """Delete final weights that the study does not keep."""
        if not self._keeps_weights(record):
            folder = self.directory.trial(record.hash) / "checkpoint"
            (folder / "model.safetensors").unlink(missing_ok=True)

    def _keeps_weights(self, record: Record) -> bool:
        keep = self.space.resources.keep
        return keep == "all" or (keep == "winners" and record.stage is Stage.CONFIRM)


def _seconds(job: Job) -> float:
    return job.plan.seconds if isinstance(job.plan, Plan) else 0.0


def _share(space: Space, runtime: Runtime) -> Share:
    cpus, gpus = space.resources.cpus, space.resources.gpus
    return Share(
        threads=runtime.threads,
        cpus=runtime.threads if cpus is None else cpus,
        gpus=float(runtime.device == "cuda") if gpus is None else gpus,
    )
