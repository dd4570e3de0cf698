"""Verbs on studies: plan, search, status, best, predict, report, compare, pack."""

import json
from pathlib import Path
from typing import Annotated

import typer

import modsearch
from modsearch.analysis.numbers import counted
from modsearch.cli.options import (
    DataDir,
    Json,
    PackedOrDir,
    PluginFiles,
    Progress,
    Sets,
    Shown,
    SpaceName,
    StudyDir,
    TextField,
    app,
    as_json,
)
from modsearch.cli.progress import resumable, say, shown_study, warn

FixedSeeds = Annotated[
    int | None,
    typer.Option(
        "--confirm-seeds",
        min=1,
        max=900,
        help="A fixed design: so many seeds of one size an arm, and one look.",
    ),
]


@app.command()
def plan(
    space: SpaceName,
    confirm_seeds: FixedSeeds = None,
    sets: Sets = None,
    plugin: PluginFiles = None,
    as_object: Json = False,
) -> None:
    """Cells, trials, FLOPs, memory, hours and what the study can resolve; nothing is trained."""
    overrides = [*(sets or ()), *_fixed(confirm_seeds)]
    result = modsearch.plan(space, overrides=overrides, plugins=plugin or ())
    from modsearch.cli.text import forecast_text

    print(as_json(result) if as_object else forecast_text(result))


@app.command()
def search(
    space: SpaceName,
    out: Annotated[str | None, typer.Option(help="Study directory; default runs/NAME.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Parallel trials.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only explore, measure or confirm.")] = None,
    engine: Annotated[str, typer.Option(help="What executes trials: local or ray.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a Ray cluster; default: a Ray of its own, here."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Shared path or fsspec URI for trials; default: the study directory."),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            envvar="MODSEARCH_LEDGER",
            help="postgresql://USER@HOST/DATABASE; default: a file in the study directory.",
        ),
    ] = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="STUDY",
            help="Take what it has trained already: a study, or its packed file; repeatable.",
        ),
    ] = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="STUDY",
            help="Tell explore's sampler what it trained, as priors and never as results: a "
            "study, or its packed file; repeatable.",
        ),
    ] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Resume under other code or another torch.")
    ] = False,
    confirm_seeds: FixedSeeds = None,
    sets: Sets = None,
    plugin: PluginFiles = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Tell trials to tensorboard, wandb, mlflow or trackio; repeatable.",
        ),
    ] = None,
    progress: Progress = Shown.TEXT,
    as_object: Json = False,
) -> None:
    """Run, resume or grow a study, score its winners, and write its report."""
    with resumable(progress), shown_study(progress) as on_event:
        study = modsearch.search(
            space,
            out,
            workers=workers,
            stage=stage,
            engine=engine,
            address=address,
            storage=storage,
            ledger=ledger,
            reuse=reuse or (),
            warm_start=warm_start or (),
            allow_mixed=allow_mixed,
            overrides=[*(sets or ()), *_fixed(confirm_seeds)],
            plugins=plugin or (),
            track=track or (),
            progress=on_event,
        )
    outcome = study.outcome()
    warn(outcome.warnings, progress)
    if as_object:
        print(as_json(outcome))
        return
    print(outcome.sentence)
    print(f"report: {outcome.report}")


def _fixed(seeds: int | None) -> list[str]:
    return [] if seeds is None else [f"confirm.seeds={seeds}"]


@app.command()
def status(study: PackedOrDir, as_object: Json = False) -> None:
    """How far a study is; works while it runs."""
    from modsearch.cli.text import status_text

    result = modsearch.open_study(study).status()
    print(as_json(result) if as_object else status_text(result))


@app.command()
def best(
    study: PackedOrDir,
    budget: Annotated[float | None, typer.Option(help="Default: the largest confirmed.")] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Instead: explore's trials by several objectives.")
    ] = False,
    as_object: Json = False,
) -> None:
    """The winner as a configuration for `train` and `flops`; as JSON with its hash and scores."""
    from modsearch.cli.fronts import front_text
    from modsearch.config.reading import yaml_text

    if front:
        found = modsearch.front(study, budget)
        print(as_json(found) if as_object else front_text(found))
        return

    opened = modsearch.open_study(study)
    record = opened.best(budget)
    warn(opened.doubts(record))
    if as_object:
        print(as_json(record))
        return
    print(yaml_text(record.candidate.model_dump(mode="json")), end="")


@app.command()
def predict(
    study: PackedOrDir,
    flops: Annotated[float, typer.Option(help="Training FLOPs of one trial.")],
    as_object: Json = False,
) -> None:
    """Size, tokens and loss that a study's laws foretell of a budget, with intervals."""
    from modsearch.cli.text import predictions_text

    result = modsearch.predict(study, flops)
    print(as_json(result) if as_object else predictions_text(result))


@app.command()
def time(
    study: StudyDir,
    rounds: Annotated[int, typer.Option(min=2, max=1000, help="Turns of each arm.")] = 9,
    seconds: Annotated[float, typer.Option(help="Of a turn, about.")] = 0.5,
    corpus: Annotated[
        str | None, typer.Option(help="The study's text, where it lies elsewhere.")
    ] = None,
    plugin: PluginFiles = None,
    as_object: Json = False,
) -> None:
    """Time training steps and decoding of a study's winners, all arms in turns, for its report:
    on a quiet machine of the kind that it ran on."""
    found = modsearch.time_winners(
        study,
        rounds=rounds,
        seconds=seconds,
        corpus=corpus,
        plugins=plugin or (),
        progress=lambda line: say(line, Shown.TEXT),
    )
    from modsearch.analysis.speeds import doubts
    from modsearch.cli.text import speeds_text

    warn(doubts(found))
    if as_object:
        print(as_json(found))
        return
    print(speeds_text(found, modsearch.open_study(study).claims))
    print(f"`modsearch report {study}` puts them on the study's page")


@app.command()
def report(
    studies: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY",
            help="Directories that `search` made, or files that `pack` wrote; several go onto "
            "one page.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(help="Default: STUDY/report, or `report` beside a file. Of several: needed."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Which sections: study, raposo2024 (the paper's figures), or a file."),
    ] = None,
    as_object: Json = False,
) -> None:
    """Compile the report of a study, or of several with the same arms and constants."""
    opened = [modsearch.open_study(study) for study in studies]
    page = modsearch.report(opened, out, recipe)
    warn([line for each in opened for line in each.left_out()])
    print(json.dumps({"report": str(page)}, indent=2) if as_object else f"report: {page}")


@app.command()
def compare(
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="TARGET",
            help="Studies (both winners of the headline, with their seeds), trials or folders "
            "with a checkpoint; the first is what others are held against.",
        ),
    ],
    suite: Annotated[
        str, typer.Option(help="A YAML file, or a shipped suite's bare name.")
    ] = "quick",
    corpus: Annotated[
        str | None,
        typer.Option(help="Text of the tasks; default: what the first model was trained on."),
    ] = None,
    text: TextField = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the figure: SVG and PNG.")] = None,
    plugin: PluginFiles = None,
    as_object: Json = False,
) -> None:
    """Models on the same documents: differences from the first with intervals, by each task's
    leading metric; what is not scored yet is scored."""
    from modsearch.cli.scores import scores_text

    found = modsearch.compare(
        targets,
        suite,
        corpus=corpus,
        text=text,
        data_dir=data_dir,
        plugins=plugin or (),
        out=out,
        progress=lambda line: say(line, Shown.TEXT),
    )
    print(as_json(found) if as_object else scores_text(found))


@app.command()
def pack(
    study: StudyDir,
    out: Annotated[
        str | None, typer.Option(help="The file, .tar.xz; default: STUDY/records.tar.xz.")
    ] = None,
    as_object: Json = False,
) -> None:
    """Write a study's records, without weights, to one file that can be published: `report`,
    `status`, `best` and `predict` read it, and `tar xJf` unpacks it."""
    found = modsearch.pack(study, out)
    warn(found.warnings)
    if as_object:
        print(as_json(found))
        return
    print(f"records: {found.records} ({counted(found.trials, 'trial')}, {found.bytes:,} bytes)")
