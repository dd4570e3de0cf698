"""A study: searched, opened to be read, reported, packed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from modsearch.api.components import Files
from modsearch.api.searching import engine_named, engine_of, studies_of
from modsearch.api.space import checked_outline, outline
from modsearch.config.answers import Outcome, Packed, Predictions
from modsearch.config.arguments import (
    check_count,
    check_flops,
    check_path,
    check_text,
    check_texts,
)
from modsearch.config.units import nats_per
from modsearch.errors import ModsearchError, StudyError, shown

if TYPE_CHECKING:
    import pandas as pd

    from modsearch.analysis.claims import Claim, Claims
    from modsearch.analysis.curves import Curve
    from modsearch.api.space import SpaceLike
    from modsearch.config.manifest import Manifest
    from modsearch.config.records import Record
    from modsearch.config.speeds import Speeds
    from modsearch.reporting.recipe import RecipeLike
    from modsearch.space.space import Space
    from modsearch.study.events import OnEvent
    from modsearch.study.status import StudyStatus
    from modsearch.study.work import Scorer


class Study:
    """A study directory, finished or under way, or a file of `pack`: every answer is read from it
    when it is asked for, and only `report` and `pack` write."""

    def __init__(self, root: str | Path) -> None:
        from modsearch.store.directory import StudyDirectory

        self.root = check_path("study", root)
        self.packed = self.root.is_file()
        """Whether it is a file, without weights."""
        self.directory = StudyDirectory(self._unpacked() if self.packed else self.root.absolute())
        """Its files, wherever the current folder goes."""
        with self._named():
            # A mistake is told with the path that was given.
            (self.directory if self.packed else StudyDirectory(self.root)).manifest()

    def _unpacked(self) -> Path:
        """A folder that is there as long as this object is."""
        from modsearch.store.packed import unpacked

        files = ExitStack()
        folder = files.enter_context(unpacked(self.root))
        finalize(self, files.close)
        return folder

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors inside name the file that was given, not where it was unpacked."""
        try:
            yield
        except StudyError as error:
            raise StudyError(self._as_given(str(error))) from error

    def _as_given(self, text: str) -> str:
        return text.replace(str(self.directory.root), str(self.root)) if self.packed else text

    @property
    def manifest(self) -> "Manifest":
        """What it was made with."""
        return self.directory.manifest()

    def __repr__(self) -> str:
        return f"Study({str(self.root)!r})"

    def __fspath__(self) -> str:
        return str(self.root)

    @property
    def trials(self) -> "list[Record]":
        """The results that count, in order of their hashes."""
        return self.directory.records()

    @property
    def records(self) -> "pd.DataFrame":
        """The same as a table: one row a trial."""
        from modsearch.reporting import trial_tables

        return trial_tables.trials(self.trials)

    @property
    def claims(self) -> "Claims":
        """Fits, comparisons and verdicts."""
        from modsearch.analysis.claims import study_claims

        return study_claims(self.manifest, self.trials)

    @property
    def headline(self) -> "Claim":
        """Routed against dense at the largest confirmed budget."""
        return self.claims.headline

    @property
    def fits(self) -> "tuple[Curve, ...]":
        """The isoFLOP curve of each arm, budget and depth, or why it has none."""
        return self.claims.curves

    @property
    def winners(self) -> "pd.DataFrame":
        """What confirm trained: one row for each budget and arm."""
        from modsearch.reporting import trial_tables

        return trial_tables.winners(self.claims)

    @property
    def evaluations(self) -> "pd.DataFrame":
        """lm-eval's metrics of the trials that were scored, and of models beside the study."""
        from modsearch.analysis.references import comparable
        from modsearch.reporting import evaluation_tables

        trials = self.trials
        results, beside = self.directory.all_evaluations(trials)
        references, _ = comparable(beside, results.values())
        return evaluation_tables.evaluations(trials, results, references)

    @property
    def speeds(self) -> "Speeds | None":
        """How fast its winners train and decode; None where `time_winners` has not measured it."""
        return self.directory.speeds()

    def best(self, budget: float | None = None) -> "Record":
        """A trial of the confirmed candidate with the lowest mean loss; of the lowest measured
        one where nothing is confirmed. Its `candidate` can be trained, and counted by `flops`.

        Args:
            budget: training FLOPs; default: the largest.

        Raises:
            ModsearchError: nothing is finished at that budget.
        """
        from modsearch.study.status import winner

        at = None if budget is None else check_flops("budget", budget)
        with self._named():
            return winner(self.directory.root, at)

    def predict(self, flops: float) -> Predictions:
        """What its laws foretell of a budget: size, tokens and loss of every measured arm, with
        95 % intervals, and how well its budgets foretell one another.

        Args:
            flops: training FLOPs of one trial.

        Raises:
            ModsearchError: no arm has fitted minima at two budgets.
        """
        from modsearch.analysis.predictions import study_predictions

        at = check_flops("flops", flops)
        try:
            return study_predictions(self.manifest, self.trials, at)
        except StudyError as error:
            raise StudyError(f"{self.root}: {error}") from error

    def doubts(self, trial: "Record") -> list[str]:
        """What a user of a winner should know: a line for each."""
        manifest = self.manifest
        entropy = manifest.bigram_entropy(trial.candidate.model)
        loss = trial.scores.causal_loss if trial.scores is not None else None
        if loss is None or loss < entropy:
            return []
        return [
            f"this model is untrained: its loss, {loss:.3f} {nats_per(manifest.unit)}, does not "
            f"beat the corpus's bigram entropy, {entropy:.3f}; a larger budget would help"
        ]

    def folder(self, trial: "Record | str") -> Path:
        """Directory of a trial, by its record or its hash.

        Raises:
            ModsearchError: the study has no such trial.
        """
        name = trial if isinstance(trial, str) else trial.hash
        if not any(each.hash == name for each in self.trials):
            raise ModsearchError(f"{self.root} has no trial {shown(name)}")
        return self.directory.trial(name)

    def status(self) -> "StudyStatus":
        """How far it is; works while it runs."""
        from modsearch.study.status import status

        with self._named():
            found = status(self.directory.root)
        if not self.packed:
            return found
        page = self._page
        return found.model_copy(
            update={
                "left_out": list(map(self._as_given, found.left_out)),
                "report": str(page) if page.is_file() else None,
            }
        )

    def left_out(self) -> list[str]:
        """What of it does not count or can't be read: a line for each."""
        return list(map(self._as_given, self.directory.left_out()))

    @property
    def _page(self) -> Path:
        """Where its report is unless it is told to be elsewhere: of a file, beside it."""
        return (self.root.parent if self.packed else self.root) / "report" / "index.html"

    def report(self, out: str | Path | None = None, recipe: "RecipeLike | None" = None) -> Path:
        """Compile its report, and answer with the path of the page.

        Args:
            out: folder of the page; default: `report` in the study, or beside its file.
            recipe: the bare name of a shipped recipe, a YAML file, or a mapping.
        """
        return report([self], self._page.parent if out is None else out, recipe)

    def pack(self, out: str | Path | None = None) -> Packed:
        """Write its records, without weights, to one compressed file that `open_study` reads: a
        study that can be published. The same study gives the same bytes.

        Args:
            out: the file; default: `records.tar.xz` in the study.

        Raises:
            ModsearchError: the file is in another form, or the study is a file already.
        """
        from modsearch.store.packed import pack

        if self.packed:
            raise StudyError(f"{self.root} is packed already\nname the directory of a study")
        path = check_path("out", out) if out is not None else self.root / "records.tar.xz"
        if not path.name.endswith(".tar.xz") or path.is_dir():
            raise ModsearchError(
                f"--out must be a file that ends in .tar.xz, but got {shown(str(path))}"
            )
        results = self.directory.results()
        return Packed(
            records=str(path),
            bytes=pack(self.directory, path.absolute()),
            trials=len(results.records),
            warnings=self.directory.left_out(results),
        )

    def outcome(self) -> Outcome:
        """What it says, as plain data."""
        trials, claim = self.trials, self.headline
        page = self._page
        found, multiplier = claim.comparison, claim.multiplier
        states = [str(record.state) for record in trials]
        try:
            winner = self.best().hash
        except ModsearchError:
            winner = None
        return Outcome(
            name=self.manifest.name,
            root=str(self.root),
            verdict=str(claim.verdict),
            sentence=claim.sentence,
            budget=claim.budget,
            difference=found.difference if found else None,
            low=found.interval.low if found and found.interval else None,
            high=found.interval.high if found and found.interval else None,
            multiplier=multiplier.value if multiplier else None,
            winner=winner,
            trials={state: states.count(state) for state in dict.fromkeys(states)},
            report=str(page) if page.is_file() else None,
            warnings=self.left_out(),
            unit=self.manifest.unit,
        )


def open_study(root: str | Path) -> Study:
    """A study that `search` made, also while it runs.

    Raises:
        ModsearchError: there is no study, or its manifest can't be read.
    """
    return Study(root)


def report(
    studies: "str | Path | Study | Sequence[str | Path | Study]",
    out: str | Path | None = None,
    recipe: "RecipeLike | None" = None,
) -> Path:
    """Compile the report of a study, or of several on one page, and answer with its path.

    Args:
        studies: one, or a list of studies whose constants and arms agree.
        out: folder of the page; default: that of the one study.
        recipe: of a page of one study: the bare name of a shipped recipe, a YAML file, or a
            mapping.

    Raises:
        ModsearchError: there is no study, several have no `out` or a recipe, or they do not fit
            together.
    """
    from modsearch.reporting.page import compile_report, compile_studies
    from modsearch.reporting.recipe import DEFAULT

    several = [studies] if isinstance(studies, str | Path | Study) else list(studies)
    if not several:
        raise ModsearchError("--study must name one study or more, but got none")
    opened = [each if isinstance(each, Study) else Study(each) for each in several]
    if out is None:
        if len(opened) != 1:
            raise ModsearchError(
                f"--out is missing: a page of {len(opened)} studies belongs to none of them\n"
                f"name a folder for it, as in --out runs/together"
            )
        out = opened[0]._page.parent
    page = check_path("out", out)
    if page.exists() and not page.is_dir():
        raise ModsearchError(
            f"--out must be a folder, but {shown(str(page))} is a file\n"
            f"name a folder: the page, its figures and its tables go there"
        )
    if recipe is not None and len(opened) > 1:
        raise ModsearchError(
            "--recipe is for one study: a page of several has sections of its own\n"
            "leave it out, or compile the studies one by one"
        )
    if recipe is not None and not isinstance(recipe, Mapping):
        check_path("recipe", recipe)
    with ExitStack() as named:
        for each in opened:
            named.enter_context(each._named())
        if len(opened) == 1:
            compile_report(opened[0].directory.root, page.absolute(), recipe or DEFAULT)
        else:
            _refuse_twice(opened)
            roots = {str(each.root): each.directory.root for each in opened}
            compile_studies(roots, page.absolute())
    return page / "index.html"


def _refuse_twice(studies: "Sequence[Study]") -> None:
    names = [str(each.root) for each in studies]
    for name in names:
        if names.count(name) > 1:
            raise ModsearchError(f"{name} stands there twice\nname each study once")


def pack(study: str | Path | Study, out: str | Path | None = None) -> Packed:
    """Write a study's records to one file (`Study.pack`)."""
    return (study if isinstance(study, Study) else Study(study)).pack(out)


def predict(study: str | Path | Study, flops: float) -> Predictions:
    """What a study's laws foretell of a budget (`Study.predict`)."""
    return (study if isinstance(study, Study) else Study(study)).predict(flops)


def search(
    space: "SpaceLike",
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    stage: str | None = None,
    engine: str = "local",
    address: str | None = None,
    storage: str | None = None,
    ledger: str | None = None,
    reuse: "str | Path | Sequence[str | Path]" = (),
    warm_start: "str | Path | Sequence[str | Path]" = (),
    allow_mixed: bool = False,
    overrides: Sequence[str] = (),
    plugins: Files = (),
    track: Sequence[str] = (),
    progress: "OnEvent | None" = None,
) -> Study:
    """Run, resume or grow a study, score its winners, and write its report.

    Ctrl-C (or the stop button of a notebook) raises `KeyboardInterrupt`; the same call goes on
    from there. A space with more arms, values of an axis, budgets, sizes or seeds than the study
    had goes on with it, and only what is new is trained.

    Args:
        space: a YAML file, the bare name of a shipped space, plain data, or a loaded space.
        out: the study directory; default: `runs/NAME`.
        workers: trials at once; default: what the space says.
        stage: only `explore`, `measure` or `confirm`.
        engine: what executes trials: `local` or `ray`.
        address: `HOST:PORT` of a Ray cluster; default: a Ray of its own, here.
        storage: a shared path or an fsspec URI for trials; default: the study directory.
        ledger: `postgresql://USER@HOST/DATABASE`; default: a file in the study directory.
        reuse: studies, directories or files of `pack`, from which trials are taken that are the
            same training, in the place of training them here.
        warm_start: studies whose trials explore's sampler is told of before its first one; none
            of them becomes a result of this study.
        allow_mixed: resume under other code or another torch, which the report will show.
        overrides: values of the space to replace, such as `"confirm.runs=12"`.
        plugins: Python files with components.
        track: experiment trackers that are told each trial: `tensorboard`, `wandb`, `mlflow`,
            `trackio`.
        progress: called with each event (`modsearch.study.events`); `print` shows a line for
            each.

    Raises:
        ModsearchError: what was asked for can't be done.
    """
    from modsearch.config.records import Stage
    from modsearch.data.sources import refuse_inside
    from modsearch.store.lock import locked, refuse_second

    if workers is not None:
        check_count("workers", workers, 1, 1024)
    for name, text in (("address", address), ("storage", storage), ("ledger", ledger)):
        check_text(name, text)
    if progress is not None and not callable(progress):
        raise ModsearchError(f"progress takes a function of an event, but got {shown(progress)}")
    if stage is not None and stage not in list(Stage):
        raise ModsearchError(f"--stage takes {', '.join(Stage)}, but got `{stage}`")
    kind = engine_named(engine, address, storage)
    sketch = outline(space, overrides)
    root = check_path("out", out) if out is not None else Path("runs") / sketch.name
    for folder in root.resolve().parents:
        if (folder / "manifest.json").exists():
            raise ModsearchError(f"{root} lies inside of the study {folder}\nuse another --out")
    refuse_inside(sketch.data, root)
    refuse_second(root)  # before anything heavy is imported
    wanted = checked_outline(sketch, space, plugins)
    from modsearch.study.events import unheard
    from modsearch.study.runner import Runner
    from modsearch.tracking.events import Tracking

    if stage is not None and not wanted.budgets(Stage(stage)):
        stages = ", ".join(each for each in Stage if wanted.budgets(each))
        raise StudyError(f"space `{wanted.name}` has no stage `{stage}`, only {stages}")
    trackers = check_texts("track", track)
    with ExitStack() as files:
        studies = studies_of("reuse", reuse, files)
        warm = studies_of("warm-start", warm_start, files)
        files.enter_context(locked(root))
        tracking = Tracking(trackers, wanted.name, root, progress or unheard)
        runner = Runner(
            wanted,
            root,
            make_engine=engine_of(kind, address),
            engine=kind,
            workers=workers,
            allow_mixed=allow_mixed,
            ledger=ledger,
            storage=storage,
            reuse=studies,
            warm=warm,
            scorer=_scorer(wanted),
            on_event=tracking,
        )
        runner.run(Stage(stage) if stage else None)
    study = Study(root)
    study.report()
    return study


def _scorer(space: "Space") -> "Scorer | None":
    """lm-eval, where a study needs it."""
    objective = space.explore.metric if space.explore is not None else None
    if space.suite is None and objective is None:
        return None
    from modsearch.evaluation.scorer import Scorer

    return Scorer()
