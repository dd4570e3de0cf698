"""Several objectives: prices beside the loss, the front in report and answers, from YAML alone."""

from functools import partial
from pathlib import Path

import pytest
from inline import CORPUS, Inline, quietly

import modsearch
from modsearch.analysis.pareto import fronts
from modsearch.cli.fronts import front_text
from modsearch.config.records import State
from modsearch.config.shipped import shipped
from modsearch.errors import ConfigError, StudyError
from modsearch.reporting.page import compile_report
from modsearch.space.candidates import load_space
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.study.runner import Runner

SMALLER = (
    f"data.corpus={CORPUS}",
    "fixed.model={seq_len: 32, num_heads: 1}",
    "fixed.optim={min_steps: 5, max_epochs: 99}",
    "arms.mod.model.every=1",
    "explore.budgets=[3e7]",
    "explore.size={depth: 2, width: {int: [4, 10], step: 2}}",
    "explore.windows=2",
    "resources={workers: 1}",
)
"""Of the shipped space, so that it takes seconds."""
ALL = ("loss", "forward_flops", "cache_bytes", "decoding")


def front_space(*changes: str) -> Space:
    return load_space(shipped("search_spaces", "front"), [*SMALLER, *changes])


def searched(root: Path, *changes: str) -> StudyDirectory:
    Runner(front_space(*changes), root, make_engine=partial(Inline, quietly)).run()
    return StudyDirectory(root)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyDirectory:
    root = tmp_path_factory.mktemp("front") / "study"
    objective = f"explore.objective=[{', '.join(ALL)}]"
    sampler = "explore.sampler={name: nsga2, population: 2}"
    return searched(root, objective, "explore.trials=4", sampler)


def test_every_price_is_measured_where_a_trial_was_trained(study: StudyDirectory) -> None:
    records = [record for record in study.records() if record.state is State.COMPLETE]
    assert {record.arm for record in records} == {"dense", "mod"}
    for record in records:
        assert record.scores is not None
        assert record.prices is not None
        assert list(record.prices) == list(ALL[1:])
        assert record.prices["forward_flops"] == record.scores.realised_forward_flops
        assert record.prices["decoding"] > 0
        model = record.candidate.model
        whole = 2 * 4 * model.width * model.depth * model.seq_len  # keys, values; fp32
        held = record.prices["cache_bytes"]
        assert held == whole if record.arm == "dense" else 0 <= held <= whole


def test_the_front_is_in_the_report_and_in_answers(study: StudyDirectory) -> None:
    page = compile_report(study.root)
    assert "## Explore's front" in page.with_name("report.md").read_text()
    tables = page.parent / "tables"
    finished = [record for record in study.records() if record.scores]
    assert len((tables / "front.csv").read_text().splitlines()) == 1 + len(finished)
    assert (page.parent / "figures" / "front.svg").is_file()
    found = modsearch.front(study.root)
    assert found.points[0].on_front
    assert found.sd is not None
    assert "the prior" in found.basis
    on_it = [each for each in found.points if each.on_front]
    assert on_it == found.points[: len(on_it)]
    lowest = min(found.points, key=lambda each: each.objective)
    assert lowest.on_front
    shown = front_text(found)
    assert all(each.hash in shown for each in on_it)
    with pytest.raises(StudyError, match="has no front at 1 FLOPs"):
        modsearch.front(study.root, 1.0)


def test_a_search_of_several_objectives_goes_on_where_it_stopped(
    study: StudyDirectory, tmp_path: Path
) -> None:
    """Two prices that do not depend on the clock, and the same proposals."""
    space = front_space("explore.objective=[loss, forward_flops]", "explore.trials=4")

    def stops(number: int) -> None:
        if number == 3:
            raise KeyboardInterrupt

    root = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        Runner(space, root, make_engine=partial(Inline, stops)).run()
    Runner(space, root, make_engine=partial(Inline, quietly)).run()
    whole = searched(
        tmp_path / "whole", "explore.objective=[loss, forward_flops]", "explore.trials=4"
    )
    assert {r.hash for r in StudyDirectory(root).records()} == {r.hash for r in whole.records()}
    [front] = fronts(whole.records())
    assert {price for point in front.points for price in point.prices} == {"forward_flops"}


def test_a_trial_that_was_trained_without_prices_gets_them(tmp_path: Path) -> None:
    """Killed between its record and its prices; the weights of explore are not kept."""
    changes = ("explore.objective=[loss, cache_bytes]", "explore.trials=2", "arms={mod: {}}")
    first = searched(tmp_path / "study", *changes)
    [record, *_] = [each for each in first.records() if each.prices]
    first.write_record(record.model_copy(update={"prices": None}))
    (first.root / "ledger.db").unlink()
    again = searched(tmp_path / "study", *changes)
    assert all(each.prices for each in again.records() if each.scores)
    assert record.prices in [each.prices for each in again.records()]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("[loss]", r"several objectives are \[loss, PRICE, ...\]"),
        ("[forward_flops, loss]", r"several objectives are \[loss, PRICE, ...\]"),
        ("[loss, bytes]", r"objective.1 is .bytes.: several"),
        ("[loss, decoding, decoding]", "each price once"),
        ("[loss, {suite: quick, metric: acc}]", "prices are forward_flops, cache_bytes, decoding"),
        ("loss", "objective"),
    ],
)
def test_objectives_that_can_not_be(stated: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        front_space(f"explore.objective={stated}")
