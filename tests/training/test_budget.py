"""Budgets: what a plan achieves, what is rejected and why, and that nothing is allocated."""

import resource
from collections import Counter

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Infeasible, Plan
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.model import Decoder, routes, warmed_stair
from modsearch.nn.parts import block_names, completed
from modsearch.training.budget import TOLERANCE, plan, stair_counts

PLENTY = 10**15
"""Tokens: no candidate runs out of text."""
BLOCKS = block_names()


def candidate(block: str = "mod", min_steps: int = 1, **model: object) -> Candidate:
    config = ModelConfig.model_validate(
        {"block": block, "depth": 2, "width": 16, "seq_len": 32, **model}
    )
    return Candidate(model=completed(config), optim=OptimConfig(min_steps=min_steps))


def step_flops(given: Candidate) -> int:
    """Of one training step, from the model's own ledger."""
    with torch.device("meta"):
        model = Decoder(given.model)
    return given.optim.batch_size * model.cost(given.model.seq_len).training.total


def planned(given: Candidate, flops: float, train_tokens: int = PLENTY) -> Plan:
    found = plan(given, Budget(flops=flops), train_tokens)
    assert isinstance(found, Plan), found
    return found


def reason(given: Candidate, flops: float, train_tokens: int = PLENTY) -> str:
    found = plan(given, Budget(flops=flops), train_tokens)
    assert isinstance(found, Infeasible), found
    return found.reason


@settings(max_examples=50)
@given(
    st.sampled_from(BLOCKS),
    st.sampled_from(ROUTERS.names()),
    st.integers(1, 6),
    st.integers(1, 24),
    st.integers(2, 300),
    st.floats(0.01, 1),
    st.integers(1, 3),
    st.floats(6, 15),
)
def test_a_plan_comes_within_one_percent_or_is_refused(
    block: str,
    router: str,
    depth: int,
    heads: int,
    seq_len: int,
    capacity: float,
    every: int,
    log_flops: float,
) -> None:
    given = candidate(
        block,
        router=router,
        depth=depth,
        width=4 * heads,
        num_heads=2,
        seq_len=seq_len,
        capacity=capacity,
        every=every,
    )
    flops = 10**log_flops
    found = plan(given, Budget(flops=flops), PLENTY)
    if isinstance(found, Infeasible):
        assert round(flops / step_flops(given)) < 50 or (routes(given.model) and every > depth)
        return
    assert found.flops == found.steps * step_flops(given)
    assert abs(found.flops - flops) <= 0.01 * flops
    assert abs(found.flops - flops) <= found.flops_per_step / 2 + 1e-9 * flops, "not the nearest"
    assert found.tokens == found.steps * given.optim.batch_size * seq_len
    assert found.epochs == pytest.approx(found.tokens / PLENTY)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_plan_says_what_the_model_is(block: str) -> None:
    given = candidate(block, depth=4, width=24)
    found = planned(given, 1000 * step_flops(given))
    model = Decoder(given.model)
    cost = model.cost(given.model.seq_len)
    assert found.steps == 1000
    assert found.flops_per_step == given.optim.batch_size * cost.training.total
    assert found.forward_flops == cost.forward.total / given.model.seq_len
    assert found.params == sum(parameter.numel() for parameter in model.parameters())
    assert found.embedding_params == 256 * 24
    assert found.head_share == cost.forward.head / cost.forward.total
    exact = found.conventions["exact"] * given.model.seq_len * given.optim.batch_size
    assert exact == pytest.approx(found.flops_per_step)
    assert found.conventions["6N"] == 6 * found.params
    assert found.conventions["6N_non_embedding"] == 6 * (found.params - found.embedding_params)
    assert 0 < found.conventions["causal_attention"] < found.conventions["exact"]


def test_untied_embeddings_count_twice() -> None:
    tied, untied = (
        planned(given, 1000 * step_flops(given))
        for given in (candidate(tied=True), candidate(tied=False))
    )
    assert untied.embedding_params == 2 * tied.embedding_params
    assert untied.params - tied.params == tied.embedding_params
    assert untied.flops_per_step == tied.flops_per_step


def test_a_routed_model_gets_more_steps_for_the_same_budget() -> None:
    dense, routed, full = (
        planned(candidate(block, capacity=capacity), 1e10)
        for block, capacity in (("dense", 0.125), ("mod", 0.125), ("mod", 1.0))
    )
    assert routed.steps > dense.steps >= full.steps


def test_too_few_steps_are_refused() -> None:
    given = candidate(min_steps=200)
    assert planned(given, 200 * step_flops(given)).steps == 200
    message = reason(given, 199 * step_flops(given))
    assert message.startswith("199 steps")
    assert "fewer than min_steps = 200: a larger budget, a smaller size" in message


def test_a_budget_that_no_number_of_steps_reaches_is_refused() -> None:
    given = candidate()
    assert "over 1 % from" in reason(given, 10.4 * step_flops(given))
    assert planned(given, (10 + 0.9 * 10 * TOLERANCE) * step_flops(given)).steps == 10
    assert "over 1 % from" in reason(given, (10 + 1.1 * 10 * TOLERANCE) * step_flops(given))


def test_no_step_at_all_is_refused() -> None:
    assert reason(candidate(), 1.0).startswith("0 steps")


def test_too_many_epochs_are_refused() -> None:
    given = candidate()
    tokens = 1000 * given.optim.batch_size * given.model.seq_len
    assert planned(given, 1000 * step_flops(given), tokens // 4).epochs == 4
    message = reason(given, 1000 * step_flops(given), tokens // 4 - 1)
    assert "epochs of" in message
    assert "over max_epochs = 4: more text" in message


@pytest.mark.parametrize(("depth", "every"), [(1, 2), (3, 4)])
def test_a_routed_arm_without_a_routed_layer_is_refused(depth: int, every: int) -> None:
    given = candidate(depth=depth, every=every)
    assert "no layer is routed" in reason(given, 1e10)
    assert planned(candidate("dense", depth=depth, every=every), 1e10).steps > 0
    assert planned(candidate(depth=depth + 1, every=every), 1e10).steps > 0


def test_planning_allocates_nothing() -> None:
    """A model of 2e12 parameters, 8 TB of weights."""
    given = candidate(width=2**16, depth=48, num_heads=8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = planned(given, 1000.0 * step_flops(given))
    assert found.params > 2e12
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_planning_takes_nothing_from_the_random_stream() -> None:
    before = torch.get_rng_state()
    planned(candidate(), 1e10)
    assert torch.equal(torch.get_rng_state(), before)


def test_exact_integers_at_large_budgets() -> None:
    """Python's integers, not floats: 3e18 is beyond 2**53."""
    given = candidate(width=64, depth=4)
    found = planned(given, 3e18)
    assert found.flops == found.steps * found.flops_per_step
    assert isinstance(found.flops, int)


@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(1, 3000))
def test_the_steps_of_each_stair_are_counted_as_if_one_by_one(warmup: float, steps: int) -> None:
    one_by_one = Counter(warmed_stair(warmup, step / steps) for step in range(steps))
    assert stair_counts(warmup, steps) == one_by_one


def test_a_warm_up_at_a_huge_budget_is_planned_at_once() -> None:
    """1e25 FLOPs are 1e18 steps of such a model."""
    given = candidate(schedule={"name": "every_nth", "warmup": 0.3})
    found = planned(given, 1e25, train_tokens=10**21)
    assert found.steps > 10**17
    assert found.flops == pytest.approx(1e25, rel=1e-9)
