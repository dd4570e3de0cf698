"""Verbs on one configuration and what was trained of it: flops, train, eval, generate, export."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import modsearch
from modsearch.cli.options import (
    ConfigName,
    DataDir,
    Json,
    PluginFiles,
    Progress,
    Sets,
    Shown,
    TextField,
    app,
    as_json,
)
from modsearch.cli.progress import resumable, shown_steps, warn


@app.command()
def flops(
    config: ConfigName, sets: Sets = None, plugin: PluginFiles = None, as_object: Json = False
) -> None:
    """The FLOP ledger of one configuration: parts, shares, and other conventions."""
    table = modsearch.flops(config, overrides=sets or (), plugins=plugin or ())
    from modsearch.cli.text import ledger_text

    print(as_json(table) if as_object else ledger_text(table))


@app.command()
def train(
    config: ConfigName,
    flops: Annotated[float, typer.Option(help="Training budget in FLOPs.")],
    out: Annotated[str, typer.Option(help="Where the trial's directory goes.")] = "runs/train",
    seed: Annotated[
        int, typer.Option(min=0, max=2**41, help="Of parameters, data order and routing.")
    ] = 0,
    sets: Sets = None,
    plugin: PluginFiles = None,
    progress: Progress = Shown.TEXT,
    as_object: Json = False,
) -> None:
    """Train one candidate at a budget; a second run resumes it."""
    with resumable(progress):
        record = modsearch.train(
            config,
            flops,
            out=out,
            seed=seed,
            overrides=sets or (),
            plugins=plugin or (),
            progress=shown_steps(progress),
        )
    if as_object:
        print(as_json(record))
        return
    print(record.model_dump_json(indent=2, include={"hash", "plan", "scores"}))
    print(f"trial: {Path(out) / 'trials' / record.hash}", file=sys.stderr)


@app.command("eval")
def evaluate(
    target: Annotated[
        Path,
        typer.Argument(
            help="A study, a folder with a checkpoint or Llama-shaped weights, or hf:NAME."
        ),
    ],
    suite: Annotated[
        str, typer.Option(help="A YAML file, or a shipped suite's bare name.")
    ] = "quick",
    corpus: Annotated[
        str | None, typer.Option(help="Text of the tasks; default: what the trial was trained on.")
    ] = None,
    text: TextField = None,
    data_dir: DataDir = None,
    dtype: Annotated[str, typer.Option(help="Of matrix products: fp32 or bf16.")] = "fp32",
    study: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A study whose report shows the model beside its winners."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the model in --study; default: the last part of its path."),
    ] = None,
    plugin: PluginFiles = None,
    as_object: Json = False,
) -> None:
    """Score a study's winners or one model with lm-eval, in causal mode."""
    found = modsearch.evaluate(
        target,
        suite,
        corpus=corpus,
        text=text,
        data_dir=data_dir,
        dtype=dtype,
        study=study,
        name=name,
        plugins=plugin or (),
    )
    if as_object:
        print(as_json(found))
        return
    from modsearch.cli.scores import evaluation_text

    print(evaluation_text(found))
    if found.file is not None:
        print(f"results: {found.file}")
        print(f"`modsearch report {study}` shows them", file=sys.stderr)
    elif (target / "manifest.json").is_file():
        print(f"results: {target / 'trials'}/*/eval/{found.suite}.json")


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
    as_object: Json = False,
) -> None:
    """Sample text from a checkpoint, with a key-value cache; what it took goes to stderr."""
    found = modsearch.generate(
        checkpoint,
        prompt,
        tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        plugins=plugin or (),
    )
    if beyond := max(found.beyond):
        warn(
            [
                f"{beyond} of {tokens} new tokens lie beyond the {found.seq_len} positions that "
                f"the model was trained on: expect them to be worse"
            ]
        )
    if as_object:
        print(as_json(found))
        return
    print("\n\n".join(found.texts))
    print(
        f"{sum(found.flops):,} forward FLOPs, {found.cache_bytes:,} bytes of keys and values",
        file=sys.stderr,
    )


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A trial's folder, or one with weights.")],
    out: Annotated[Path, typer.Option(help="A new folder, or an empty one.")],
    plugin: PluginFiles = None,
    as_object: Json = False,
) -> None:
    """Write a checkpoint as a folder that `transformers` opens."""
    found = modsearch.export(checkpoint, out, plugins=plugin or ())
    if as_object:
        print(as_json(found))
        return
    trust = ", trust_remote_code=True" if found.trust_remote_code else ""
    print(f"{found.architecture}, {found.params:,} parameters: {found.folder}")
    print(f"AutoModelForCausalLM.from_pretrained({found.folder!r}{trust})")
