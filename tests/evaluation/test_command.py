"""lm-eval's own command line on the adapter."""

import json
import socket
import sys
from functools import partialmethod
from importlib import import_module
from pathlib import Path
from runpy import run_module

import pytest
import torch
import yaml
from lm_eval.tasks import TaskManager

from modsearch.config.model import ModelConfig
from modsearch.data.network import _reachable
from modsearch.evaluation.__main__ import main
from modsearch.nn.model import Decoder
from modsearch.training.checkpoint import save_model


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trial's folder, tasks beside it, and lm-eval without its own, which take it ten seconds
    to list."""
    without = partialmethod(TaskManager.__init__, include_defaults=False)
    monkeypatch.setattr(TaskManager, "__init__", without)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    torch.manual_seed(0)
    model = Decoder(ModelConfig(depth=1, width=8, num_heads=1, seq_len=64))
    save_model(model, tmp_path / "trial" / "checkpoint")
    rows = [{"q": f"{n} and", "good": " x", "bad": " yy"} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    local = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "fewshot_split": "test",
        "doc_to_text": "{{q}}",
    }
    pick = {"task": "pick", "output_type": "multiple_choice", "doc_to_target": 0}
    tell = {"task": "tell", "output_type": "generate_until", "doc_to_target": "{{good}}"}
    away = {"task": "away", "output_type": "multiple_choice", "dataset_path": "nobody/has_this"}
    for task in (
        {**local, **pick, "doc_to_choice": "{{[good, bad]}}"},
        {**local, **tell, "generation_kwargs": {"until": ["\n"]}},
        {**away, "test_split": "test", "doc_to_text": "x", "doc_to_target": 0},
    ):
        (tmp_path / "tasks").mkdir(exist_ok=True)
        (tmp_path / "tasks" / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    return tmp_path / "trial"


def run(monkeypatch: pytest.MonkeyPatch, trial: Path, arguments: str) -> None:
    command = f"x run --model modsearch --include_path {trial.parent / 'tasks'} {arguments}"
    monkeypatch.setattr(sys, "argv", command.split())
    main()


def test_lm_evals_flags_run_on_a_trial(
    trial: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = trial.parent / "out"
    run(
        monkeypatch,
        trial,
        f"--model_args checkpoint={trial},dtype=bfloat16 --tasks pick,tell --limit 4 "
        f"--num_fewshot 1 --output_path {out} --log_samples --gen_kwargs max_gen_toks=3 "
        f"--use_cache {trial.parent / 'cache'} --device cpu",
    )
    shown = capsys.readouterr().out
    assert "pick" in shown
    assert "tell" in shown
    [path] = out.rglob("results_*.json")
    results = json.loads(path.read_text())
    assert results["config"]["batch_size"] == "auto"
    assert results["config"]["dtype"] == "bfloat16"
    assert results["n-samples"]["pick"]["effective"] == 4
    [samples] = out.rglob("samples_tell_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert all(len(row["resps"][0][0]) <= 3 for row in rows)
    assert rows[0]["arguments"]["gen_args_0"]["arg_0"].count("and") == 2  # one shot before it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model_args checkpoint={} --tasks away", "needs data from the hub, which can't be"),
        ("--model_args checkpoint={} --tasks hellaswag", "'Rowan/hellaswag' on the Hub"),
        ("--model_args checkpoint={} --tasks=pick,ai2_arc", "'allenai/ai2_arc' on the Hub"),
        ("--model_args checkpoint={} --tasks nosuch", "Tasks not found: nosuch"),
        ("--model_args chekpoint={} --tasks pick", "did you mean `checkpoint`"),
        ("--model_args checkpoint={}/no --tasks pick", "no checkpoint in"),
        ("--model_args checkpoint={},mode=casual --tasks pick", "unknown mode `casual`"),
        ("--model_args checkpoint={} --tasks pick --log_samples", "Specify --output_path"),
        ("--model_args checkpoint={} --tasks tell --gen_kwargs max_gen_toks=0", "max_gen_toks is"),
    ],
)
def test_mistakes_are_told_in_two_lines(
    arguments: str,
    message: str,
    trial: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, trial, arguments.format(trial))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    error = said[said.rindex("error: ") :]
    assert message in error
    assert len(error.splitlines()) <= 2


def test_the_old_name_of_the_command_goes_on_working(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import modsearch

    monkeypatch.setattr(sys, "argv", ["x", "run", "--help"])
    with pytest.raises(SystemExit) as ended:
        run_module("modsearch.evaluate", run_name="__main__")
    assert ended.value.code == 0
    assert "--model_args" in capsys.readouterr().out
    with pytest.raises(ImportError, match="is a function"):
        import_module("modsearch.evaluate")
    assert callable(modsearch.evaluate)


def test_a_hub_that_is_out_of_reach_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modsearch.data.network.getproxies", dict)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert _reachable(f"http://127.0.0.1:{server.getsockname()[1]}")
        closed = f"http://127.0.0.1:{server.getsockname()[1]}/closed"
    assert not _reachable(closed)
    assert not _reachable("not an address")
