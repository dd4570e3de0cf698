"""The command line. Heavy imports are inside the verbs, so that `--help` answers at once."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from modsearch import __version__
from modsearch.errors import ModsearchError, has_surrogates, shortened, shown, told

if TYPE_CHECKING:
    from modsearch.config.data import DataConfig
    from modsearch.config.records import Candidate
    from modsearch.config.runtime import Plugin
    from modsearch.engines.contract import MakeEngine
    from modsearch.registry.registry import Registry
    from modsearch.space.space import Space

app = typer.Typer(
    help="Architecture search for Mixture-of-Depths transformers at equal training FLOPs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

USAGE_ERROR: Any = typer.BadParameter.__base__
"""What typer raises where a command line can't be read."""

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value: a.b=c; repeatable."),
]
SpaceName = Annotated[str, typer.Argument(help="A YAML file, or a shipped space's bare name.")]
ConfigName = Annotated[Path, typer.Argument(help="A YAML file with model, optim and data.")]
StudyDir = Annotated[Path, typer.Argument(help="A directory that `modsearch search` made.")]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Python file with components; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run a command; a user's mistake is one or two lines and exit code 2."""
    if isinstance(sys.stdout, TextIOWrapper):
        # As stderr has it: what a terminal can't show must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_bytes(sys.argv[1:])
        code = app(sys.argv[1:] or ["--help"], prog_name="modsearch", standalone_mode=False)
    except USAGE_ERROR as error:
        verb = error.ctx.command_path if error.ctx else "modsearch"
        _fail(f"{shortened(error.format_message(), 400)}\n`{verb} --help` has what it takes")
    except ModsearchError as error:
        _fail(_in_plugin(error) + str(error))
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror or error}{place}")
    except (Exception, SystemExit) as error:  # a plugin may do what it likes
        from modsearch.registry.plugins import fault

        if (text := fault(error)) is None:
            raise
        _fail(text)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str) -> NoReturn:
    print(told(f"error: {text}"), file=sys.stderr)
    sys.exit(2)


def _in_plugin(error: ModsearchError) -> str:
    """Which line of a plugin asked for what can't be done; nothing where none did."""
    if "modsearch.registry.plugins" not in sys.modules:
        return ""
    from modsearch.registry.plugins import plugin_frame

    at = plugin_frame(error)
    return f"plugin {at.filename}, line {at.lineno}, in `{at.name}`: " if at else ""


def _check_bytes(arguments: list[str]) -> None:
    """Names of files and values go into files that are UTF-8."""
    for before, argument in pairwise(["", *arguments]):
        prompt = before == "--prompt" or argument.startswith("--prompt=")
        if has_surrogates(argument) and not prompt:
            raise ModsearchError(
                f"argument {shown(argument)} is not UTF-8\nonly --prompt takes other bytes"
            )


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C ends a command that can go on with a line that says so."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"modsearch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


components_app = typer.Typer()
app.add_typer(components_app, name="components")


@components_app.callback(invoke_without_command=True)
def components(context: typer.Context, plugin: PluginFiles = None) -> None:
    """List what is registered: blocks, ffns, routers and schedules, and where they come from."""
    from modsearch.registry.listing import listing

    _plugins(plugin)
    if context.invoked_subcommand is None:
        text, warnings = listing(_registries())
        print(text)
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)


@components_app.command()
def show(
    name: Annotated[str, typer.Argument(help="A component, as `modsearch components` lists it.")],
    plugin: PluginFiles = None,
) -> None:
    """What a component is, where it comes from, and its options."""
    _plugins(plugin)
    from modsearch.nn.contracts import KINDS
    from modsearch.registry.listing import description

    print(description(KINDS, name))


@components_app.command()
def check(
    name: Annotated[str, typer.Argument(help="A component; KIND:NAME where kinds share a name.")],
    plugin: PluginFiles = None,
) -> None:
    """Run the conformance kit on a component: exit code 1 if a check fails."""
    _plugins(plugin)
    from modsearch.testing.conformance import report as conformance

    text, passed = conformance(name)
    print(text)
    if not passed:
        raise typer.Exit(1)


@app.command()
def flops(
    config: ConfigName, sets: Sets = None, plugin: PluginFiles = None, as_json: Json = False
) -> None:
    """The FLOP ledger of one configuration: parts, shares, and other conventions."""
    _plugins(plugin)
    candidate = _candidate(config, sets)
    from modsearch.cli.text import ledger_text
    from modsearch.planning.flops import ledger

    table = ledger(candidate)
    print(table.model_dump_json(indent=2) if as_json else ledger_text(table))


@app.command()
def plan(
    space: SpaceName, sets: Sets = None, plugin: PluginFiles = None, as_json: Json = False
) -> None:
    """Cells, trials, FLOPs, memory, hours and what the study can resolve; nothing is trained."""
    wanted = _space(space, sets, plugin)
    from modsearch.cli.text import forecast_text
    from modsearch.planning.forecast import forecast

    result = forecast(wanted)
    print(result.model_dump_json(indent=2) if as_json else forecast_text(result))


@app.command()
def train(
    config: ConfigName,
    flops: Annotated[float, typer.Option(help="Training budget in FLOPs.")],
    out: Annotated[Path | None, typer.Option(help="Where the trial's directory goes.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**41, help="Of parameters, data order and routing.")
    ] = 0,
    sets: Sets = None,
    plugin: PluginFiles = None,
) -> None:
    """Train one candidate at a budget; a second run resumes it."""
    from modsearch.config.base import MOST_FLOPS
    from modsearch.config.records import State

    if not 0 < flops <= MOST_FLOPS:
        raise ModsearchError(f"--flops must be over 0 and at most {MOST_FLOPS:g}, not {flops:g}")
    root = out or Path("runs/train")
    if (root / "manifest.json").exists():
        raise ModsearchError(f"{root} is a study: its trials are its own\nuse another --out")
    plugins = _plugins(plugin)
    candidate = _candidate(config, sets)
    from modsearch.data.sources import refuse_inside
    from modsearch.training.trial import run_trial, single_job

    refuse_inside(candidate.data.corpus, root)
    job = single_job(candidate, flops, seed, plugins)
    with _resumable():
        record = run_trial(root, job)
    if record.state is not State.COMPLETE:
        raise ModsearchError(f"{record.state}: {record.reason}")
    print(record.model_dump_json(indent=2, include={"hash", "plan", "scores"}))
    print(f"trial: {root / 'trials' / record.hash}", file=sys.stderr)


@app.command()
def search(
    space: SpaceName,
    out: Annotated[Path | None, typer.Option(help="Study directory; default runs/NAME.")] = None,
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
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Resume under other code or another torch.")
    ] = False,
    sets: Sets = None,
    plugin: PluginFiles = None,
) -> None:
    """Run or resume a study, score its winners, and write its report."""
    from modsearch.config.records import Stage
    from modsearch.data.sources import refuse_inside
    from modsearch.store.lock import locked, refuse_second

    if stage is not None and stage not in list(Stage):
        raise ModsearchError(f"--stage takes {', '.join(Stage)}, but got `{stage}`")
    if engine not in ("local", "ray"):
        raise ModsearchError(f"--engine takes local or ray, but got `{engine}`")
    for option, value in (("--address", address), ("--storage", storage)):
        if value is not None and engine != "ray":
            raise ModsearchError(f"{option} is for a Ray cluster\nadd --engine ray")
    sketch = outline(space, sets)
    root = out or Path("runs") / sketch.name
    for folder in root.resolve().parents:
        if (folder / "manifest.json").exists():
            raise ModsearchError(f"{root} lies inside of the study {folder}\nuse another --out")
    refuse_inside(sketch.data.corpus, root)
    refuse_second(root)  # before anything heavy is imported
    wanted = _space(space, sets, plugin)
    from modsearch.analysis.claims import study_claims
    from modsearch.engines.local import local
    from modsearch.reporting.page import compile_report
    from modsearch.study.study import Study

    make_engine: MakeEngine = local
    if engine == "ray":
        from modsearch.engines.ray import RayEngine

        make_engine = partial(RayEngine, address=address)
    with _resumable(), locked(root):
        study = Study(
            wanted,
            root,
            workers=workers,
            allow_mixed=allow_mixed,
            make_engine=make_engine,
            engine="ray" if engine == "ray" else "local",
            ledger=ledger,
            storage=storage,
        )
        study.run(Stage(stage) if stage else None)
        study.evaluate_winners()
    page = compile_report(root)
    _warn(study.directory.left_out())
    print(study_claims(study.manifest, study.directory.records()).headline.sentence)
    print(f"report: {page}")


@app.command()
def status(study: StudyDir, as_json: Json = False) -> None:
    """How far a study is; works while it runs."""
    from modsearch.cli.text import status_text
    from modsearch.study.status import status as study_status

    result = study_status(study)
    print(result.model_dump_json(indent=2) if as_json else status_text(result))


@app.command()
def best(
    study: StudyDir,
    budget: Annotated[float | None, typer.Option(help="Default: the largest confirmed.")] = None,
) -> None:
    """The winner as a configuration for `train` and `flops`."""
    from modsearch.config.base import MOST_FLOPS
    from modsearch.config.reading import yaml_text
    from modsearch.study.status import winner

    if budget is not None and not 0 < budget <= MOST_FLOPS:
        raise ModsearchError(f"--budget must be over 0 and at most {MOST_FLOPS:g}, not {budget:g}")
    print(yaml_text(winner(study, budget).candidate.model_dump(mode="json")), end="")


@app.command("eval")
def evaluate(
    target: Annotated[Path, typer.Argument(help="A study, or a folder with a checkpoint.")],
    suite: Annotated[
        str, typer.Option(help="A YAML file, or a shipped suite's bare name.")
    ] = "quick",
    corpus: Annotated[
        str | None, typer.Option(help="Text of the tasks; default: what the trial was trained on.")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Score a study's winners or one checkpoint with lm-eval, in causal mode."""
    _must_exist(target)
    from modsearch.config.records import Stage
    from modsearch.evaluation.evaluate import evaluate_checkpoint, evaluate_winners
    from modsearch.evaluation.suites import load_suite
    from modsearch.registry.plugins import digests
    from modsearch.store.directory import StudyDirectory
    from modsearch.store.trial import trial_config
    from modsearch.study.provenance import check_plugins
    from modsearch.training.checkpoint import load_model

    plugins = _plugins(plugin)
    plan, _ = load_suite(suite)
    data = None if corpus is None else _corpus(corpus)
    if (target / "manifest.json").is_file():
        directory = StudyDirectory(target)
        records = [r for r in directory.records() if r.stage is Stage.CONFIRM]
        models = [record.candidate.model for record in records]
        check_plugins(directory.manifest().plugins, plugins, models, target)
        if not records:
            raise ModsearchError(
                f"{target} has no confirmed trials to score\nrun its search first"
            )
        evaluate_winners(directory, records, suite, data or records[0].candidate.data)
        print(f"results: {target / 'trials'}/*/eval/{plan.name}.json")
        return
    folder = checkpoint_folder(target)
    config = folder.parent / "config.yaml"
    made = trial_config(config) if config.is_file() else None
    if made is not None:
        check_plugins(digests(made.plugins), plugins, [made.candidate.model], target)
    load_model(folder)
    fingerprint = None
    if data is None:
        if made is None:
            raise ModsearchError(f"{target} does not say what it was trained on\nname a --corpus")
        data, fingerprint = made.candidate.data, made.fingerprint
    result = evaluate_checkpoint(folder, suite, data, "test", fingerprint=fingerprint)
    print(f"tasks from corpus `{data.corpus}`", file=sys.stderr)
    print(json.dumps(result["results"], indent=2))


@app.command()
def generate(
    checkpoint: Annotated[Path, typer.Argument(help="A trial's folder, or one with weights.")],
    prompt: Annotated[list[str], typer.Option(help="Text to go on from; give it more than once.")],
    tokens: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="New tokens for each prompt.")
    ] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Only the so many likeliest tokens.")] = None,
    top_p: Annotated[
        float, typer.Option(help="Only the likeliest tokens with this much probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**41, help="Of the draws.")] = 0,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Sample text from a checkpoint, with a key-value cache; what it took goes to stderr."""
    _must_exist(checkpoint)
    from modsearch.nn.generate import Sampling
    from modsearch.nn.generate import generate as sample
    from modsearch.registry.plugins import digests
    from modsearch.store.trial import trial_config
    from modsearch.study.provenance import check_plugins
    from modsearch.training.checkpoint import load_model

    plugins = _plugins(plugin)
    folder = checkpoint_folder(checkpoint)
    if (config := folder.parent / "config.yaml").is_file():
        made = trial_config(config)
        check_plugins(digests(made.plugins), plugins, [made.candidate.model], checkpoint)
    sampling = Sampling(temperature, top_k, top_p, seed)
    model = load_model(folder)
    prompts = [os.fsencode(text) for text in prompt]  # the very bytes that were given
    result = sample(model, [list(text) for text in prompts], tokens, sampling)
    pairs = zip(prompts, result.tokens, strict=True)
    texts = [(text + bytes(new)).decode(errors="replace") for text, new in pairs]
    if beyond := max(result.beyond):
        print(
            f"warning: {beyond} of {tokens} new tokens lie beyond the {model.config.seq_len} "
            f"positions that the model was trained on: expect them to be worse",
            file=sys.stderr,
        )
    if as_json:
        print(json.dumps({"texts": texts, **asdict(result)}))
        return
    print("\n\n".join(texts))
    print(
        f"{sum(result.flops):,} forward FLOPs, {result.cache_bytes:,} bytes of keys and values",
        file=sys.stderr,
    )


@app.command()
def report(
    study: StudyDir,
    out: Annotated[Path | None, typer.Option(help="Default: STUDY/report.")] = None,
) -> None:
    """Compile a study's report."""
    from modsearch.reporting.page import compile_report
    from modsearch.store.directory import StudyDirectory

    page = compile_report(study, out)
    _warn(StudyDirectory(study).left_out())
    print(f"report: {page}")


def checkpoint_folder(path: Path) -> Path:
    """A trial's weights, or the folder itself."""
    return path / "checkpoint" if (path / "checkpoint").is_dir() else path


def _must_exist(path: Path) -> None:
    """Told before anything heavy is imported."""
    if not path.exists():
        raise ModsearchError(f"no folder {path}\nname a study, or a trial with a checkpoint")


def _plugins(files: list[Path] | None) -> "tuple[Plugin, ...]":
    if not files:
        return ()
    from modsearch.registry.plugins import load_plugins

    return load_plugins(files)


def _registries() -> "Mapping[str, Registry[Any]]":
    """The registries, or where torch is not needed yet their names and origins."""
    if "modsearch.nn.contracts" in sys.modules:
        from modsearch.nn.contracts import KINDS

        return KINDS
    from modsearch.registry.registry import Registry
    from modsearch.registry.table import GROUPS, TABLES, TAKEN

    return {
        kind: Registry(kind, object, TABLES[kind], GROUPS[kind], TAKEN if kind == "block" else {})
        for kind in TABLES
    }


def outline(name: str, sets: list[str] | None) -> "Space":
    """A space whose candidates are not built yet: what is wrong so far is told without torch."""
    from modsearch.config.shipped import shipped
    from modsearch.evaluation.suites import load_suite
    from modsearch.space.space import read_space

    path = shipped("search_spaces", name)
    space = read_space(path, sets or [])
    if space.suite is not None:
        try:  # what is wrong with it is said now, not after hours of training
            load_suite(space.suite)
        except ModsearchError as error:
            raise type(error)(f"{path}: suite: {error}") from error
    return space


def _corpus(corpus: str) -> "DataConfig":
    from pydantic import ValidationError

    from modsearch.config.data import DataConfig
    from modsearch.config.wording import first_error

    try:
        return DataConfig(corpus=corpus)
    except ValidationError as error:
        wrong = first_error(error, DataConfig, {"corpus": corpus})
        raise ModsearchError(f"--{wrong}") from error


def _space(name: str, sets: list[str] | None, plugins: list[Path] | None) -> "Space":
    from modsearch.config.shipped import shipped

    outline(name, sets)
    from modsearch.space.candidates import load_space

    return load_space(shipped("search_spaces", name), sets or [], plugins or [])


def _warn(lines: list[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _candidate(path: Path, sets: list[str] | None) -> "Candidate":
    from modsearch.config.reading import read_yaml

    read_yaml(path, [])  # a missing file is told without torch
    from modsearch.space.candidates import load_candidate

    return load_candidate(path, sets or [])
