"""A study: its stages in their order, each a set of cells that an engine works through.

explore ranks recipes, measure draws isoFLOP curves with one recipe per arm, confirm trains the
chosen sizes on fresh seeds, scores them on the test part, and ends when the headline is known. The
ledger and the trial directories hold the whole state: running a study again goes on where it
stopped.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from modsearch.analysis.additions import growth_lines, with_added
from modsearch.analysis.choice import MOST_EXTENSIONS
from modsearch.analysis.claims import Claim, choice_at, study_claims
from modsearch.analysis.fits import fit_curves, noise
from modsearch.analysis.noise import SEED_SD
from modsearch.analysis.numbers import counted
from modsearch.analysis.power import PAPER_EFFECT, chances
from modsearch.config.design import Chosen
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record, Stage, State
from modsearch.config.runtime import EngineName, Runtime, Share
from modsearch.config.units import nats
from modsearch.data.corpus import load_corpora
from modsearch.engines.contract import Engine, MakeEngine
from modsearch.engines.local import local
from modsearch.planning.vocabularies import refuse_too_few, unlike
from modsearch.registry.plugins import load_plugins
from modsearch.sampling.cell import Cell
from modsearch.sampling.ledger import Ledger, place, server_url
from modsearch.space.samplers import CellSpec
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.store.mirror import Mirror
from modsearch.study.completeness import ended_key, is_searched
from modsearch.study.driver import Driver
from modsearch.study.events import OnEvent
from modsearch.study.progress import Progress
from modsearch.study.provenance import key_of, open_manifest, stage_key, study_key
from modsearch.study.reuse import Reuse
from modsearch.study.scorings import (
    Scorings,
    check_suites,
    ranked_by,
    refuse_other_objective,
)
from modsearch.study.stages import Stages
from modsearch.study.trials import Trials
from modsearch.study.warm import Warm
from modsearch.study.work import Scorer, run_job, run_mirrored
from modsearch.training.machine import num_workers


class Runner:
    """One study directory, its space, its ledger and its one driver."""

    def __init__(
        self,
        space: Space,
        root: Path,
        *,
        make_engine: MakeEngine = local,
        engine: EngineName = "local",
        workers: int | None = None,
        allow_mixed: bool = False,
        ledger: str | None = None,
        storage: str | None = None,
        reuse: Mapping[str, Path] | None = None,
        warm: Mapping[str, Path] | None = None,
        scorer: Scorer | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        """
        Args:
            reuse: directories of studies whose trials may be taken, by what they are called.
            warm: of studies whose trials explore's sampler is told of.
        """
        self.space = space
        self.make_engine = make_engine
        self.scorer = scorer
        self.directory = StudyDirectory(root)
        # Opened before anything is written, so that a wrong address leaves no trace.
        server = Ledger(server_url(ledger)) if ledger else None
        self.progress = Progress(self.directory, on_event)
        resumed = (root / "manifest.json").exists()
        corpora = load_corpora(
            space.data,
            space.vocab_sizes,
            told=self.progress.prepared,
            mixing=self.directory.manifest().mixing if resumed else None,
        )
        refuse_too_few(space, corpora)
        for line in (*corpora.first.facts.without_text, *unlike(space, corpora)):
            self.progress.note(line)
        for sample, model in space.samples():  # before anything is trained
            corpora.of(model).windows(sample, model.seq_len)
        if scorer is not None:
            begun = {record.stage for record in self.directory.records()}
            check_suites(scorer, space, corpora.first.facts.fingerprint, begun)
        plugins = load_plugins(space.plugins)
        grown = self.directory.manifest().grown if resumed else ()
        reused = Reuse(ranked_by(space)) if reuse else None
        warmed = Warm(warm, space, key_of) if warm else None

        def admit(manifest: Manifest) -> Manifest:
            if reused is not None:
                mixed = reused.open(reuse or {}, manifest, root, allow_mixed=allow_mixed)
                mixed = list(dict.fromkeys([*manifest.mixed, *mixed]))
                manifest = manifest.model_copy(update={"mixed": mixed})
            return manifest if warmed is None else warmed.admit(manifest, self.directory)

        self.manifest = open_manifest(
            self.directory,
            space,
            corpora.first.facts,
            corpora.facts,
            allow_mixed=allow_mixed,
            elsewhere=engine != "local",
            engine=engine,
            ledger=place(server.url) if server else None,
            admit=admit,
        )
        self.key = study_key(space, self.manifest)
        for each in self.manifest.warm if not resumed else ():
            self.progress.note(f"explore's sampler is told of {each.told}")
        for line in growth_lines(self.manifest, self.manifest.grown[len(grown) :]):
            self.progress.note(f"the study has changed {line}")
        mirror = Mirror.of(storage, self.key) if storage else None
        self.ledger = server or Ledger.in_file(self.directory.ledger)
        asked = space.resources.workers
        self.workers = workers or (asked if asked != "auto" else None)
        """None: as many as a cluster has room for."""
        if self.workers is None and engine == "local":
            self.workers = num_workers(self.manifest.runtime)
        self.stages = Stages(
            space,
            self.directory,
            corpora.facts_of,
            self.manifest.runtime,
            plugins,
        )
        suite = space.asked_suite
        cells = suite is not None and suite.cells
        self.trials = Trials(
            self.directory,
            mirror,
            space.resources.keep,
            cells=cells,
            reuse=reused,
        )

    def run(self, only: Stage | None = None) -> None:
        """Run or resume the stages that the space asks for, or one of them."""
        engine = self.engine()
        with self.ledger.held(self.key), engine.started():
            self.progress.workers = engine.num_workers
            for stage in [only] if only else self.stages.wanted:
                for specs in self._rounds(stage):
                    self._train(stage, specs, engine)
            self._score(engine)
        records = self.directory.records()
        for line in self.trials.reuse.told(records) if self.trials.reuse is not None else ():
            self.progress.note(line)
        self.progress.over(records)
        if any(record.state is State.FAILED for record in records):
            self.progress.note("failed trials are tried again by the same command")

    def _score(self, engine: Engine) -> None:
        """What the study's suite is asked of, on the workers that are there."""
        if self.scorer is None:
            return
        scorings = Scorings(self.stages, self.trials, self.progress, self.manifest)
        suite = self.space.asked_suite
        if scorings.left and suite is not None:
            self.progress.note(
                f"evaluate: {counted(scorings.left, 'trial')} with suite {suite.name}"
            )
            engine.run(scorings.next_job, scorings.on_record)

    def _rounds(self, stage: Stage) -> Iterator[list[CellSpec]]:
        """What to train next in a stage, by what has come back of the round before."""
        if stage is not Stage.CONFIRM:
            yield from self.stages.rounds(stage)
        if stage is Stage.MEASURE:
            for _ in range(MOST_EXTENSIONS):
                if specs := self.stages.extended():
                    yield specs
        if stage is Stage.CONFIRM:
            for budget in self.space.budgets(stage):
                yield from self._looks(budget)

    def _looks(self, budget: float) -> Iterator[list[CellSpec]]:
        """Runs of every arm, in looks, until the headline at a budget is known."""
        claim = self._claim(budget)
        seen = claim.runs if claim is not None else 0
        chosen, looks = self._chosen(budget)
        if len(looks) > 1:
            self.progress.note(self._foreseen(looks))
        for count in looks:
            yield self.stages.looked(chosen, count)
            claim = self._claim(budget)
            if claim is not None and claim.runs > seen and len(looks) > 1:
                number = looks.index(claim.runs) + 1
                self.progress.note(f"look {number} of {len(looks)}: {claim.sentence}")
                seen = claim.runs
            # Arms that came later have as many runs as those that it rests on.
            if claim is not None and claim.settled and count >= claim.runs:
                break

    def _foreseen(self, looks: tuple[int, ...]) -> str:
        """What confirm can tell, by the noise of this study's own trials."""
        design = self.manifest.confirm
        assert design is not None
        records = self.directory.records()
        found = noise(records, fit_curves(records))
        sd = found.sd if found else SEED_SD
        told = chances(looks, design.margin, PAPER_EFFECT, sd)
        return (
            f"runs scatter by some {sd:.3f} {nats(self.manifest.unit)} here: an effect of "
            f"{PAPER_EFFECT} would be told with a chance of {told.better:.0%}, for "
            f"{told.runs:.0f} runs an arm in the mean"
        )

    def _claim(self, budget: float) -> Claim | None:
        claims = study_claims(self.manifest, self.directory.records())
        return next((claim for claim in claims.by_budget if claim.budget == budget), None)

    def _chosen(self, budget: float) -> tuple[Chosen, tuple[int, ...]]:
        """What is confirmed at a budget: written down before its first run, so that no result can
        change it."""
        design = self.manifest.confirm
        assert design is not None
        noted, records = design.at(budget), self.directory.records()
        if noted is None:
            chosen = choice_at(self.manifest, records, budget)
        else:
            curves = fit_curves(records)
            chosen = with_added(noted, self.manifest, curves, curve=design.curve)
        if chosen != noted and self.space.arms.keys() <= chosen.sizes.keys():
            self.manifest = self.manifest.model_copy(update={"confirm": design.noting(chosen)})
            self.directory.write_manifest(self.manifest)
        return chosen, design.looks

    def _train(self, stage: Stage, specs: list[CellSpec], engine: Engine) -> None:
        """One round. What failed is tried once more before anything builds on it: nodes that
        come and go must not decide which size is confirmed."""
        for _ in range(2):
            driver = self.driver(specs)
            left = driver.left()
            if stage is Stage.EXPLORE and left:
                refuse_other_objective(self.space, self.directory)
            self.progress.begin(stage, len(left))
            engine.run(driver.next_job, driver.on_record)
            if not driver.failed:
                self._note_ended(driver)
                break

    def driver(self, specs: list[CellSpec]) -> Driver:
        """What hands out the jobs of some cells."""
        cells = [self.cell(spec) for spec in specs]
        return Driver(self.stages, cells, self.trials, self.progress, self.ledger.check)

    def _note_ended(self, driver: Driver) -> None:
        """Write down which searched cells are over: their results alone do not tell."""
        ends = dict(self.manifest.explored)
        records = self.directory.records()
        for spec in (cell.spec for cell in driver.cells):
            if is_searched(self.space, spec.stage):
                wanted = self.space.num_trials(spec.stage, spec.arm, spec.budget)
                place = (spec.stage, spec.arm, spec.budget)
                mine = [r for r in records if (r.stage, r.arm, r.budget.flops) == place]
                done = sum(record.state is not State.FAILED for record in mine)
                ends[ended_key(spec.stage, spec.arm, spec.budget, wanted)] = done
        if ends != self.manifest.explored:
            self.manifest = self.manifest.model_copy(update={"explored": ends})
            self.directory.write_manifest(self.manifest)

    def cell(self, spec: CellSpec) -> Cell:
        """A cell on this study's ledger."""
        shared = self.manifest.ledger is not None
        prefix = f"{self.key}/{stage_key(self.space, spec.stage)}/" if shared else ""
        return Cell(self.ledger.storage, spec, self.space.seed, prefix, self._by_hash)

    def _by_hash(self) -> dict[str, Record]:
        return {record.hash: record for record in self.directory.records()}

    def engine(self) -> Engine:
        """What executes this study's trials; not started yet."""
        share = _share(self.space, self.manifest.runtime)
        run = partial(run_job, self.directory.root.resolve(), self.scorer)
        if self.trials.mirror is not None:
            run = partial(run_mirrored, self.trials.mirror, self.scorer)
        return self.make_engine(run, self.workers, share)


def _share(space: Space, runtime: Runtime) -> Share:
    cpus, gpus = space.resources.cpus, space.resources.gpus
    return Share(
        threads=runtime.threads,
        cpus=runtime.threads * runtime.ranks if cpus is None else cpus,
        gpus=float(runtime.ranks if runtime.device == "cuda" else 0) if gpus is None else gpus,
    )
