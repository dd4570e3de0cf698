"""A study is searched: begun, resumed, grown."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modsearch.api.components import Files
from modsearch.api.space import checked_outline, outline
from modsearch.api.study import Study
from modsearch.config.arguments import check_count, check_path, check_text, check_texts
from modsearch.errors import ModsearchError, StudyError, shown

if TYPE_CHECKING:
    from modsearch.api.space import SpaceLike
    from modsearch.config.runtime import EngineName
    from modsearch.engines.contract import MakeEngine
    from modsearch.space.space import Space
    from modsearch.study.events import OnEvent
    from modsearch.study.work import Scorer


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
    if engine not in ("local", "ray"):
        raise ModsearchError(f"--engine takes local or ray, but got `{engine}`")
    for option, value in (("--address", address), ("--storage", storage)):
        if value is not None and engine != "ray":
            raise ModsearchError(f"{option} is for a Ray cluster\nadd --engine ray")
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
    kind: EngineName = "ray" if engine == "ray" else "local"
    with ExitStack() as files:
        studies = _studies_of(reuse, files)
        files.enter_context(locked(root))
        tracking = Tracking(trackers, wanted.name, root, progress or unheard)
        runner = Runner(
            wanted,
            root,
            make_engine=_engine(kind, address),
            engine=kind,
            workers=workers,
            allow_mixed=allow_mixed,
            ledger=ledger,
            storage=storage,
            reuse=studies,
            scorer=_scorer(wanted),
            on_event=tracking,
        )
        runner.run(Stage(stage) if stage else None)
    study = Study(root)
    study.report()
    return study


def _studies_of(reuse: "str | Path | Sequence[str | Path]", files: ExitStack) -> dict[str, Path]:
    """Folders of studies by what they were called; those of packed ones are there as long as
    `files` is open."""
    from modsearch.store.packed import unpacked

    several = [reuse] if isinstance(reuse, str | Path) else reuse
    found = {}
    for each in several:
        path = check_path("reuse", each)
        found[str(path)] = files.enter_context(unpacked(path)) if path.is_file() else path
    return found


def _engine(kind: "EngineName", address: str | None) -> "MakeEngine":
    """What executes trials."""
    if kind == "ray":
        from modsearch.engines.ray import RayEngine

        return partial(RayEngine, address=address)
    from modsearch.engines.local import local

    return local


def _scorer(space: "Space") -> "Scorer | None":
    """lm-eval, where a study needs it."""
    objective = space.explore.objective if space.explore is not None else None
    if space.suite is None and objective is None:
        return None
    from modsearch.evaluation.scorer import Scorer

    return Scorer()
