"""What `plan` says: of this study's own trials, for this machine, and of what is rejected."""

import os
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inline import Inline

from modsearch.cli.text import MOST_REJECTED, forecast_text
from modsearch.config.data import DataConfig, Validation
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Plan, Stage, State
from modsearch.config.runtime import Runtime
from modsearch.data.corpus import Corpora, load_corpus
from modsearch.errors import ConfigError
from modsearch.nn.contracts import FFNS
from modsearch.nn.ffn.mlp import Mlp
from modsearch.nn.parts import completed
from modsearch.planning import cells, speed
from modsearch.planning import forecast as planning_forecast
from modsearch.planning.forecast import Forecast, forecast
from modsearch.planning.memory import memory
from modsearch.planning.speed import Timing
from modsearch.planning.vocabularies import unlike
from modsearch.planning.warnings import wide_margin
from modsearch.space.candidates import build
from modsearch.space.space import Space
from modsearch.study.runner import Runner
from modsearch.training import machine
from modsearch.training.budget import plan
from modsearch.training.machine import cores, num_workers, peak_memory

ARMS = {
    "dense": {"model": {"block": "dense"}},
    "mod": {"model": {"block": "mod", "capacity": {"choice": [0.25, 0.5]}}},
    "random": {"control_of": "mod", "model": {"router": "random"}},
}


@pytest.fixture(autouse=True)
def _a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are not what is tested here."""
    monkeypatch.setattr(speed, "SECONDS_PER_SIZE", 0.0)
    monkeypatch.setattr(speed, "WARM_STEPS", 1)
    monkeypatch.setattr(speed, "FEWEST_STEPS", 1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(200):
        (folder / f"{number}.txt").write_text(f"{number} " + f"some text of {number}\n" * 20)
    return folder


def space(corpus: Path, **changes: Any) -> Space:
    values: dict[str, Any] = {
        "name": "tiny",
        "data": {"corpus": str(corpus)},
        "fixed": {
            "model": {"num_heads": 1, "seq_len": 16},
            "optim": {"min_steps": 10, "max_epochs": 99},
        },
        "arms": ARMS,
        "explore": {"budgets": [2e8], "size": {"depth": 2, "width": 8}, "windows": 16},
        "measure": {
            "ladder": [
                {"budget": 2e8, "depth": 2, "widths": [8, 12]},
                {"budget": 4e8, "depth": 2, "widths": [8]},
            ],
            "windows": 16,
        },
        "confirm": {"budgets": [4e8], "seeds": 4, "windows": 16},
    }
    return Space.model_validate({**values, **changes})


def rows(result: dict[str, Any], stage: str, arm: str) -> list[dict[str, Any]]:
    return [c for c in result.cells if (c.stage, c.arm) == (stage, arm)]


def test_the_speed_is_that_of_the_hours_beside_it(corpus: Path) -> None:
    result = forecast(space(corpus))
    assert result.flops == sum(cell.trials * cell.budget for cell in result.cells)
    assert result.worker_seconds == pytest.approx(sum(c.seconds for c in result.cells))
    speed_of_all = result.flops / result.worker_seconds
    assert result.flops_per_second == pytest.approx(speed_of_all)
    assert f"{speed_of_all / 1e9:.3g} GFLOP/s" in forecast_text(result)


def test_how_much_longer_real_studies_took_is_said(corpus: Path) -> None:
    text = forecast_text(forecast(space(corpus)))
    assert "note: hours are those of training and scoring alone: real studies took 1.4 to" in text


def test_all_points_of_explore_are_planned_and_a_rejected_one_counts_for_nothing(
    corpus: Path,
) -> None:
    arms = {**ARMS, "mod": {"model": {"block": "mod", "every": {"choice": [1, 2, 3]}}}}
    result = forecast(space(corpus, arms=arms))
    [cell] = rows(result, "explore", "mod")
    assert (cell.trials, cell.points_planned) == (2, 3)
    [rejected] = cell.rejected
    assert (rejected.depth, rejected.width, rejected.recipe) == (2, 8, {"every": 3})
    [line] = [li for li in forecast_text(result).splitlines() if li.startswith("rejected: ")]
    assert line.startswith(
        "rejected: explore mod 2e+08 depth 2, width 8, every 3: no layer is routed"
    )
    assert result.trials == sum(cell.trials for cell in result.cells)
    one, two = (forecast(space(corpus, arms=a)).trials for a in (arms, ARMS))
    assert one == two


def test_a_size_that_is_rejected_is_named_with_its_arm_and_budget(corpus: Path) -> None:
    ladder = [{"budget": 2e8, "depth": 2, "widths": [8, 512]}]
    result = forecast(
        space(corpus, measure={"ladder": ladder}, confirm={"budgets": [2e8], "seeds": 3})
    )
    for arm in ("dense", "mod"):
        [cell] = rows(result, "measure", arm)
        assert cell.trials == 1
        assert [row.width for row in cell.rejected] == [512]
        assert f"rejected: measure {arm} 2e+08 depth 2, width 512" in forecast_text(result)
        [confirmed] = rows(result, "confirm", arm)
        assert (confirmed.trials, confirmed.rejected) == (3, [])


def test_seeds_of_measure_are_trials_of_the_same_sizes(corpus: Path) -> None:
    ladder = [{"budget": 2e8, "depth": 2, "widths": [8, 12, 512]}]
    result = forecast(space(corpus, measure={"ladder": ladder, "seeds": 3}, confirm=None))
    [cell] = rows(result, "measure", "dense")
    assert (cell.trials, cell.points_planned, len(cell.rejected)) == (6, 3, 1)
    assert cell.seconds > 0
    assert not any("stand for all" in note for note in result.notes)


def test_a_cell_that_can_not_be_trained_is_where_search_will_stop(corpus: Path) -> None:
    result = forecast(
        space(corpus, arms={"dense": ARMS["dense"]}, fixed={"optim": {"min_steps": 10**6}})
    )
    assert (result.trials, result.flops, result.worker_seconds) == (0, 0, 0)
    assert any("search will stop there" in warning for warning in result.warnings)
    assert "none" in forecast_text(result)


def test_many_rejections_are_cut_short_in_the_text_alone(corpus: Path) -> None:
    widths = list(range(512, 912, 8))
    ladder = [{"budget": 2e8, "depth": 2, "widths": [8, *widths]}]
    result = forecast(
        space(
            corpus,
            explore=None,
            confirm=None,
            arms={"dense": ARMS["dense"]},
            measure={"ladder": ladder},
        )
    )
    [cell] = rows(result, "measure", "dense")
    assert len(cell.rejected) == len(widths)
    lines = [li for li in forecast_text(result).splitlines() if li.startswith("rejected: ")]
    assert len(lines) == MOST_REJECTED + 1
    assert lines[-1] == f"rejected: {len(widths) - MOST_REJECTED} more, which --json lists"


def test_budgets_stand_in_the_order_of_the_file(corpus: Path) -> None:
    result = forecast(space(corpus))
    assert [cell.budget for cell in rows(result, "measure", "dense")] == [2e8, 4e8]
    assert space(corpus).budgets(Stage.MEASURE) == [4e8, 2e8], "the order of the search"


def test_a_large_grid_is_planned_by_a_sample_that_is_said(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "MOST_PLANNED", 20)
    # Half of the points route no layer of two.
    arms = {"mod": {"model": {"block": "mod", "every": {"choice": [1, 3]}}}}
    explore = {"budgets": [2e8], "size": {"depth": 2, "width": 8}}
    axes = {"optim": {"beta1": {"choice": [i / 100 for i in range(50)]}}}
    # Of 100 points 50 can be trained; of the 20 that are drawn there are 9.
    result = forecast(space(corpus, arms=arms, axes=axes, explore=explore, confirm=None))
    [cell] = rows(result, "explore", "mod")
    assert cell.points_planned == 20
    assert cell.trials == 45
    assert "20 points of 100 were planned" in forecast_text(result)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_sampler_trains_what_it_is_asked_for(corpus: Path, sampler: str) -> None:
    axes = {"optim": {"rate": {"log": [0.001, 0.1]}, "beta1": {"float": [0.8, 0.9]}}}
    explore = {
        "budgets": [2e8],
        "size": {"depth": 2, "width": {"int": [8, 16], "step": 8}},
        "sampler": sampler,
        "trials": 7,
    }
    result = forecast(space(corpus, axes=axes, explore=explore))
    assert [cell.trials for cell in rows(result, "explore", "dense")] == [7]


def test_a_sampler_trains_as_many_as_a_search_does(corpus: Path, tmp_path: Path) -> None:
    """Of six points of `few` four route a layer, of `never` none."""
    mod = {"block": "mod", "capacity": {"choice": [0.25, 0.5]}}
    arms = {
        "few": {"model": {**mod, "every": {"choice": [1, 2, 3]}}},
        "never": {"model": {**mod, "every": {"choice": [3, 4, 5]}}},
    }
    explore = {
        "budgets": [5e7],
        "size": {"depth": 2, "width": 8},
        "windows": 2,
        "sampler": "random",
        "trials": 4,
    }
    tiny = space(corpus, arms=arms, explore=explore, measure=None, confirm=None)
    study = Runner(tiny, tmp_path / "study", make_engine=partial(Inline, lambda count: None))
    study.run()
    records = [record for record in study.directory.records() if record.state is State.COMPLETE]
    trained = {arm: sum(record.arm == arm for record in records) for arm in arms}
    assert trained == {"few": 4, "never": 0}
    for cell in forecast(tiny).cells:
        assert cell.trials == trained[cell.arm]


def test_many_cells_are_planned_by_fewer_points_each(corpus: Path) -> None:
    arms = {f"a{place}": ARMS["dense"] for place in range(64)}
    explore = {"budgets": [1e8, 2e8], "size": {"depth": 2, "width": 8}}
    many = space(corpus, arms=arms, explore=explore)
    assert cells._most_planned(many, Stage.EXPLORE) == 11
    assert cells._most_planned(space(corpus), Stage.EXPLORE) == 200


def test_more_points_than_a_grid_may_have_are_planned_for_a_sampler(corpus: Path) -> None:
    shares = {"choice": [place / 200 for place in range(150)]}
    axes = {"optim": {"warmup": shares, "beta1": shares}}
    explore = {
        "budgets": [2e8],
        "size": {"depth": 2, "width": 8},
        "sampler": "random",
        "trials": 7,
    }
    result = forecast(space(corpus, axes=axes, explore=explore, measure=None, confirm=None))
    [cell] = rows(result, "explore", "dense")
    assert (cell.trials, cell.points_planned) == (7, cells.MOST_PLANNED)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_search_will_refuse_is_said(corpus: Path) -> None:
    result = forecast(space(corpus, resources={"device": "cuda"}))
    assert any(
        "search will refuse this on this machine: device `cuda` is asked for" in warning
        for warning in result.warnings
    )
    assert result.device == "cpu"


def test_text_that_is_copied_from_training_is_said(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text("\n".join(map(str, range(2000))) + f" {number}")
    [said] = [each for each in forecast(space(tmp_path)).warnings if "verbatim" in each]
    assert "100% of the test text" in said


def test_a_source_that_is_a_copy_of_another_is_said(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "copy")
    sources = [str(corpus), str(tmp_path / "copy")]
    warnings = forecast(space(corpus, data={"corpus": sources})).warnings
    assert sum("is not trained on, whatever its weight" in each for each in warnings) == 1


def test_how_often_each_source_is_read_is_said_and_what_a_small_one_costs(
    corpus: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    for number in range(8):
        (small / f"{number}.txt").write_text(f"{number}: " + f"{number * 977:b}, and so on\n" * 20)

    def mixed(weight: float) -> Forecast:
        sources = [str(corpus), {"path": str(small), "weight": weight}]
        confirm = {"budgets": [4e8], "seeds": 4}
        return forecast(space(corpus, data={"corpus": sources}, explore=None, confirm=confirm))

    told = mixed(9.0)
    facts = load_corpus(
        DataConfig.model_validate({"corpus": [str(corpus), {"path": str(small), "weight": 9.0}]})
    ).facts
    large, other = facts.sources
    epochs = max(cell.epochs for cell in told.cells)
    tokens = epochs * facts.train_tokens
    most = {each.name: tokens * share / each.train_tokens for each, share in
            ((large, 0.1), (other, 0.9))}  # fmt: skip
    [note] = [each for each in told.notes if "reads the text of each source" in each]
    for name, times in most.items():
        assert re.search(rf"{name} [\d.]+ to {times:,.0f}(,|$)" if times >= 10 else
                         rf"{name} [\d.]+ to {times:.2g}(,|$)", note)  # fmt: skip
    assert most[str(small)] > 4
    assert f"up to {most[str(small)]:,.0f} epochs of source {small}: bring more" in str(
        told.warnings
    )
    [scored] = [each for each in told.warnings if "windows of test text are scored" in each]
    used, whole = map(int, re.findall(r"only (\d+) of (\d+)", scored)[0])
    assert used == int(other.test_tokens // 17 / 0.9)
    assert whole == large.test_tokens // 17 + other.test_tokens // 17
    assert f"source {small} has too little" in scored
    fair = other.train_tokens / large.train_tokens
    assert not any("are scored" in each for each in mixed(fair).warnings)
    assert not any("each source" in each for each in forecast(space(corpus)).notes)


def test_tokens_that_never_occur_are_said(corpus: Path) -> None:
    fixed = {"model": {"seq_len": 16, "vocab_size": 32000}, "optim": {"min_steps": 1}}
    result = forecast(space(corpus, fixed=fixed))
    assert any(
        "the tokenizer has 256 tokens: others never occur" in warning
        for warning in result.warnings
    )
    assert not any("never occur" in warning for warning in forecast(space(corpus)).warnings)


@pytest.mark.parametrize(
    ("size", "said"),
    [(257, True), (512, True), (256, False), ({"choice": [256, 300]}, True)],
)
def test_no_row_beyond_bytes_goes_without_a_word(corpus: Path, size: object, said: bool) -> None:
    fixed = {"model": {"seq_len": 16, "num_heads": 1}, "optim": {"min_steps": 1}}
    arms = {**ARMS, "dense": {"model": {"block": "dense", "vocab_size": size}}}
    found = space(corpus, fixed=fixed, arms=arms)
    corpora = Corpora({256: load_corpus(found.data)})
    lines = [each for each in unlike(found, corpora) if "`bpe` would use them" in each]
    assert len(lines) == said


def test_a_margin_that_is_wide_beside_any_loss_is_said(corpus: Path) -> None:
    text = load_corpus(space(corpus).data)

    def said(share: float, **confirm: Any) -> list[str]:
        margin = share * text.facts.bigram_entropy
        asked = {"budgets": [4e8], "seeds": 4, **confirm, "margin": margin}
        return wide_margin(space(corpus, confirm=asked), margin, Corpora({256: text}))

    assert said(0.02) == []
    [line] = said(0.1)
    assert "and that is 10.0 % or more of any loss that beats the corpus's bigrams" in line
    assert said(0.1, seeds=2) == [], "it asks for no verdict"
    asked = {"budgets": [4e8], "runs": 24}
    assert any(
        "are equivalent, and" in each for each in forecast(space(corpus, confirm=asked)).warnings
    )


def test_an_arm_without_a_row_for_each_token_is_refused_before_anything_is_trained(
    corpus: Path, tmp_path: Path
) -> None:
    arms = {**ARMS, "random": {"control_of": "mod", "model": {"vocab_size": 200}}}
    wrong = space(corpus, arms=arms)
    refused = "model.vocab_size of arm `random` is 200, less than the 256 tokens of tokenizer"
    with pytest.raises(ConfigError, match=refused):
        Runner(wrong, tmp_path / "study")
    [said] = [each for each in forecast(wrong).warnings if refused in each]
    assert said.startswith("search will refuse this")
    some = {"model": {"block": "dense", "vocab_size": {"choice": [200, 256]}}}
    [line] = unlike(
        space(corpus, arms={**ARMS, "dense": some}), Corpora({256: load_corpus(wrong.data)})
    )
    assert line.startswith("vocab_size 200 of arm `dense` is less than the 256 tokens")


def test_workers_are_those_of_the_search(corpus: Path) -> None:
    result = forecast(space(corpus))
    assert result.workers == num_workers(Runtime())
    assert "`workers: auto` here" in forecast_text(result)
    many = forecast(space(corpus, resources={"workers": 10 * cores()}))
    assert many.workers == 10 * cores()
    assert many.workers_at_full_speed == cores()
    assert many.seconds >= many.worker_seconds / cores()
    assert many.memory_bytes_of_all_workers == 10 * cores() * many.memory_bytes
    assert f"of which {cores()} at a time run at full speed" in forecast_text(many)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_plan_knows_of_ranks(
    parallel: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (machine, planning_forecast):
        monkeypatch.setattr(module, "cores", lambda: 8)
    alone = forecast(space(corpus))
    result = forecast(space(corpus, resources={"ranks": 2, "threads": 2, "parallel": parallel}))
    assert (alone.workers, result.workers, result.workers_at_full_speed) == (8, 2, 2)
    assert result.process_bytes > 2.5 * alone.process_bytes, "one that watches, and two ranks"
    text = forecast_text(result)
    assert "on one worker of 2 ranks of 2 threads" in text
    assert "as much faster as there are ranks" in text
    assert "ranks" not in forecast_text(alone)


def test_ranks_share_memory() -> None:
    model = completed(ModelConfig(width=256, depth=2, num_heads=4, seq_len=64))
    candidate = Candidate(model=model, optim=OptimConfig(batch_size=16))
    one = memory(candidate, Runtime(device="cuda"))
    replicas, shards = (
        memory(candidate, Runtime(device="cuda", ranks=4, parallel=parallel))
        for parallel in ("ddp", "fsdp")
    )
    assert one.step > replicas.step > shards.step
    held = one.weights + one.moments
    assert replicas.step - shards.step == pytest.approx(0.75 * held)
    on_cpu = memory(candidate, Runtime(ranks=4))
    assert on_cpu.step == 4 * replicas.step
    assert on_cpu.scoring == replicas.scoring, "the ranks have ended"


def test_memory_is_that_of_a_process(corpus: Path) -> None:
    result = forecast(space(corpus))
    assert result.process_bytes > 200 * 2**20
    assert all(cell.memory_bytes > result.process_bytes for cell in result.cells)
    parts = result.memory
    assert parts is not None
    assert result.memory_bytes >= result.process_bytes + parts.step
    [line] = [each for each in forecast_text(result).splitlines() if "saved for the" in each]
    assert f"weights {parts.weights / 2**10:,.0f} KiB" in line


def test_no_more_threads_than_cores_are_started(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", wanted.append)
    data = DataConfig(corpus=str(corpus))
    candidate = build({"model": {"seq_len": 16}, "optim": {"min_steps": 1}}, data)
    spent = plan(candidate, Budget(flops=1e9), 10**9)
    assert isinstance(spent, Plan)
    speed.timed(candidate, spent, Runtime(threads=100_000), load_corpus(data))
    assert wanted == [cores(), torch.get_num_threads()]


def test_times_follow_from_depth_and_flops() -> None:
    def law(depth: int, flops: float) -> Timing:
        step, window = 1e-3 + 2e-3 * depth + 1e-11 * flops, 1e-4 + 3e-12 * flops
        return Timing(depth, flops, step, window, causal_window=window / 3)

    fit = speed._fit([law(2, 1e7), law(2, 4e8), law(4, 2e8)])
    for depth, flops in ((2, 1e8), (4, 1e9), (8, 1e9)):
        expected = law(depth, flops)
        step, window, causal_window = fit @ np.array([1, depth, flops])
        assert step == pytest.approx(expected.step)
        assert window == pytest.approx(expected.window)
        assert causal_window == pytest.approx(expected.causal_window)


def test_what_is_extrapolated_is_known_before_seconds_are_asked_for(corpus: Path) -> None:
    data = DataConfig(corpus=str(corpus))
    sized = []
    for width in (8, 4096):
        candidate = build({"model": {"width": width}, "optim": {"max_epochs": 1e9}}, data)
        spent = plan(candidate, Budget(flops=1e17), 10**9)
        assert isinstance(spent, Plan)
        sized.append((candidate, spent))
    known = load_corpus(data)
    assert speed.Speed(sized, Runtime(), Corpora({256: known})).extrapolated
    assert not speed.Speed(sized[:1], Runtime(), Corpora({256: known})).extrapolated


def test_one_time_is_scaled_by_flops() -> None:
    step, window, causal_window = speed._fit([Timing(2, 1e9, 0.1, 0.04, 0.01, 4)])
    larger = np.array([1, 48, 1e13])
    assert step @ larger == pytest.approx(0.1 * 1e4)
    assert window @ (larger / [1, 1, 4]) == pytest.approx(0.04 * 1e4)
    assert causal_window @ (larger / [1, 1, 4]) == pytest.approx(0.01 * 1e4)


def test_a_whole_part_takes_longer_to_score_than_what_is_observed_of_it(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "OBSERVED_WINDOWS", 8)
    data = DataConfig(corpus=str(corpus))
    values = {"model": {"width": 8, "seq_len": 15}, "optim": {"max_epochs": 1e9}}
    candidate = build(values, data)
    known = load_corpus(data)
    spent = plan(candidate, Budget(flops=1e9), known.facts.train_tokens)
    assert isinstance(spent, Plan)
    guess = speed.Speed([(candidate, spent)], Runtime(), Corpora({256: known}))
    [[one]] = guess._timed.values()
    none, some, whole = (
        guess.seconds(candidate, spent, Validation(part="test", windows=windows))
        for windows in (1, 9, None)
    )
    count = known.facts.test_tokens // 16
    assert count > 9
    assert some - none == pytest.approx(7 * one.window + one.causal_window)
    assert whole - some == pytest.approx((count - 9) * one.causal_window)


def test_a_size_that_is_too_large_to_try_has_a_stand_in(corpus: Path) -> None:
    data = DataConfig(corpus=str(corpus))
    model = {"width": 4096, "depth": 48, "num_heads": 16, "block": "mod"}
    candidate = build({"model": model, "optim": {"batch_size": 64}}, data)
    spent = plan(candidate, Budget(flops=1e20), 10**12)
    assert isinstance(spent, Plan)
    found = speed._stand_in(candidate, Runtime())
    assert found is not None
    smaller, its_plan = found
    assert its_plan.flops_per_step < speed.LARGEST_STEP < spent.flops_per_step
    assert (smaller.model.width, smaller.model.depth) == (256, 2)
    assert smaller.model.seq_len == candidate.model.seq_len


def test_a_stand_in_is_never_the_model_itself(corpus: Path) -> None:
    data = DataConfig(corpus=str(corpus))
    model = {"width": 8192, "depth": 48, "block": "mod"}
    schedule = {"name": "explicit", "layers": [40]}
    candidate = build({"model": {**model, "schedule": schedule}, "optim": {}}, data)
    found = speed._stand_in(candidate, Runtime())
    assert found is not None
    smaller, its_plan = found
    assert (smaller.model.width, smaller.model.depth) == (256, 2)
    assert its_plan.flops_per_step < speed.LARGEST_STEP


@pytest.mark.parametrize("key", ["seq_len", "vocab_size"])
def test_long_sequences_and_large_vocabularies_are_shrunk_to_be_tried(
    corpus: Path, key: str
) -> None:
    data = DataConfig(corpus=str(corpus))
    candidate = build({"model": {"width": 64, key: 1_048_576}, "optim": {}}, data)
    found = speed._stand_in(candidate, Runtime())
    assert found is not None
    smaller, its_plan = found
    assert its_plan.flops_per_step < speed.LARGEST_STEP
    assert 256 <= smaller.model.model_dump()[key] < 1_048_576


def test_what_does_not_fit_the_free_memory_is_not_tried_but_said(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "free_memory", lambda device: 0)
    monkeypatch.setattr(speed, "timed", lambda *_: pytest.fail("tried all the same"))
    result = forecast(space(corpus))
    assert result.sizes_timed == 0
    assert result.extrapolated
    assert any(
        "hours of dense/mlp/expert_choice/16/2/adamw and 2 other kinds are a guess" in warning
        for warning in result.warnings
    )
    assert result.worker_seconds > 0


def test_steps_are_timed_no_longer_than_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        steps = 0

        def train_step(self, batch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
            self.steps += 1
            return torch.zeros(()), torch.zeros(())

    for limit, steps in ((0.0, 1), (1e9, speed.WARM_STEPS + speed.FEWEST_STEPS)):
        monkeypatch.setattr(speed, "MOST_SECONDS_PER_SIZE", limit)
        monkeypatch.setattr(speed, "SECONDS_PER_SIZE", 0.0)
        slow = Slow()
        assert speed._durations(slow, lambda step: step, time.perf_counter)  # type: ignore[arg-type]
        assert slow.steps == steps


@pytest.mark.slow
def test_a_process_has_its_own_peak_of_memory() -> None:
    """Not that of the larger process which started it."""
    block = np.ones(2 * peak_memory() // 8)
    code = "from modsearch.training.machine import peak_memory; print(peak_memory())"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < block.nbytes


@pytest.mark.parametrize(("widths", "told"), [([8, 10, 12, 14], False), ([8, 10, 12], True)])
def test_a_ladder_that_is_too_short_for_a_curve_is_warned_of(
    widths: list[int], told: bool, corpus: Path
) -> None:
    measure = {"ladder": [{"budget": 2e8, "depth": 2, "widths": widths}], "windows": 16}
    found = forecast(space(corpus, measure=measure, confirm=None)).warnings
    line = "has 3 of its 3 sizes that can be trained for dense, mod"
    assert any(line in each for each in found) == told
    assert not any("confirm seeds" in each for each in found), "it asks for no verdict"


def test_a_ladder_that_rejections_make_short_is_warned_of_with_its_arm(corpus: Path) -> None:
    measure = {"ladder": [{"budget": 2e8, "depth": 2, "widths": [8, 10, 12, 14]}]}
    optim = {"min_steps": 10, "max_epochs": 99}
    fixed = {"model": {"num_heads": 1, "seq_len": 16}, "optim": optim}
    steps = forecast(space(corpus, measure=measure, fixed=fixed, confirm=None)).cells
    fewest = {cell.arm: min(cell.steps) for cell in steps if cell.stage == Stage.MEASURE}
    assert fewest["dense"] < fewest["mod"]
    optim["min_steps"] = fewest["mod"]
    found = forecast(space(corpus, measure=measure, fixed=fixed, confirm=None)).warnings
    [line] = [each for each in found if "sizes that can be trained" in each]
    assert "sizes that can be trained for dense: the report fits no curve" in line


def test_a_budget_that_trains_nothing_is_foreseen_with_what_would_help(corpus: Path) -> None:
    def warned(budget: float, width: int) -> list[str]:
        measure = {"ladder": [{"budget": budget, "depth": 2, "widths": [width]}], "windows": 16}
        fixed = {
            "model": {"num_heads": 1, "seq_len": 16},
            "optim": {"max_epochs": 9999, "min_steps": 10},
        }
        arms = {"a": {}}
        planned = forecast(
            space(corpus, explore=None, fixed=fixed, arms=arms, measure=measure, confirm=None)
        )
        return [line for line in planned.warnings if "rarely beat" in line]

    [line] = warned(1e8, 24)
    assert line.startswith("no size of 5,000 parameters or more runs 300 steps (a at 1e+08 FLOPs)")
    assert line.endswith("what is untrained gets no verdict; 13 times the budget would do")
    assert not warned(13e8, 24)
    [line] = warned(13e8, 8)
    assert line.endswith("wider sizes would do")


MOE = {"name": "moe", "num_experts": 4, "top_k": 1}


def test_arms_are_compared_by_what_they_do_and_plan_says_with_which(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dense arm is one whatever its ffn is called, and experts stand in where there is none."""
    monkeypatch.setattr(FFNS, "_registered", {})

    @FFNS.register("mine")
    class Mine(Mlp):
        "Of a plugin."

    arms = {
        "plain": {"model": {"block": "dense", "ffn": "mine"}},
        "experts": {"model": {"ffn": MOE}},
        "inside": {"model": {"ffn": {**MOE, "name": "mode_integrated"}}},
        "mod": {"model": {"block": "mod"}},
        "control": {"control_of": "mod", "model": {"router": "random"}},
    }
    result = forecast(space(corpus, explore=None, arms=arms))
    assert result.routed_arms == ["inside", "mod"]
    assert result.reference_arms == ["plain"]
    assert "routed: inside, mod; compared with: plain\n" in forecast_text(result)
    del arms["plain"]
    assert forecast(space(corpus, explore=None, arms=arms)).reference_arms == ["experts"]


@pytest.mark.parametrize(
    ("arm", "line"),
    [("dense", "no arm routes tokens"), ("mod", "every arm routes tokens")],
)
def test_a_study_without_an_arm_of_either_kind_is_warned_of(
    arm: str, line: str, corpus: Path
) -> None:
    found = forecast(space(corpus, arms={arm: ARMS[arm]})).warnings
    assert any(line in each for each in found)
    assert not any("routes tokens" in each for each in forecast(space(corpus)).warnings)
