"""Causal mode: what happens at t depends on tokens up to t, and not on the rest of the batch.

The conformance kit holds every component to this; here are the cases that need a hand: blocks
that nothing or everything enters, ragged rows, gradients, and the bars themselves.

Exact bars: in fp64 the same decisions, and logits within 1e-10. Dense models in fp32: to the
bit at equal shapes. Routed models in fp32: within 1e-5 where no score that matters lies within
1e-5 of the cut-off.

Shapes: B sequences, T positions, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.nn.blocks.mod import Mod
from modsearch.nn.contracts import ROUTERS, Context
from modsearch.nn.generate import Decoding
from modsearch.nn.model import Decoder, Output
from modsearch.nn.routers.expert_choice import ExpertChoice

VOCAB = 64
B, T = 3, 37
CUTS = [1, 2, 18, 36]
BAR = 1e-10


def decoder(**changes: Any) -> Decoder:
    """A small model in fp64."""
    shape = {"vocab_size": VOCAB, "depth": 4, "width": 16, "num_heads": 2, "capacity": 0.3}
    return Decoder(ModelConfig(**(shape | changes))).double()


def steered(sign: Callable[[Tensor], Tensor]) -> Decoder:
    """A model in which the sign of each token decides whether routed blocks take it.

    The first channel of the embedding is 4 or -4, far more than the blocks add to it, and
    the router looks at nothing else.
    """
    model = decoder(block="mod", every=2, tied=False)
    with torch.no_grad():
        model.embedding.weight[:, 0] = 4.0 * sign(torch.arange(VOCAB))
        for layer in model.routed_layers:
            weight = routed(model, layer).router.get_parameter("weight")
            weight.zero_()
            weight[0, 0] = 0.5
    return model


def routed(model: Decoder, layer: int) -> Mod:
    """The routed block of that layer."""
    block = model.stack()[layer]
    assert isinstance(block, Mod)
    return block


def tokens_like(*rows: str) -> Tensor:
    """Random tokens: lower half of the vocabulary for `-`, upper half for `+`, any for `?`."""
    low = {"-": 0, "+": VOCAB // 2, "?": 0}
    high = {"-": VOCAB // 2, "+": VOCAB, "?": VOCAB}
    return torch.tensor(
        [[int(torch.randint(low[kind], high[kind], ())) for kind in row] for row in rows]
    )


def any_tokens() -> Tensor:
    """A batch without a pattern."""
    return tokens_like(*["?" * T] * B)


def half(token: Tensor) -> Tensor:
    """1 for the upper half of the vocabulary, -1 for the lower."""
    return torch.where(token < VOCAB // 2, -1.0, 1.0)


Case = Callable[[], tuple[Decoder, Tensor]]

CASES: dict[str, Case] = {
    "dense": lambda: (decoder(), any_tokens()),
    "no token enters": lambda: (steered(lambda token: -torch.ones(VOCAB)), any_tokens()),
    "every token enters": lambda: (steered(lambda token: torch.ones(VOCAB)), any_tokens()),
    "ragged": lambda: (steered(half), tokens_like("-" * T, "+" * T, "-" * 30 + "+" * (T - 30))),
}
all_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@dataclass(frozen=True)
class Seen:
    """Logits, and for each layer which tokens entered it (B, T)."""

    logits_BTV: Tensor
    chosen: list[Tensor | None]


def seen(output: Output) -> Seen:
    """Of a pass."""
    return Seen(output.logits_BTV, output.chosen)


def causal(model: Decoder, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Seen:
    """A pass in causal mode, without gradients."""
    with torch.no_grad():
        return seen(model(tokens_BT, "causal", valid_BT=valid_BT))


def changed(tokens: Tensor) -> Tensor:
    """Every token another one, of either half of the vocabulary."""
    return (tokens + torch.randint_like(tokens, 1, VOCAB)) % VOCAB


def assert_same(left: Seen, right: Seen) -> None:
    """The same decisions and logits wherever both have positions."""
    rows, positions = (
        min(a, b)
        for a, b in zip(left.logits_BTV.shape[:2], right.logits_BTV.shape[:2], strict=True)
    )
    for mine, other in zip(left.chosen, right.chosen, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            assert torch.equal(mine[:rows, :positions], other[:rows, :positions])
    gap = left.logits_BTV[:rows, :positions] - right.logits_BTV[:rows, :positions]
    assert gap.abs().max() <= BAR


def rows_of(output: Seen, start: int, stop: int) -> Seen:
    """The output of some of the sequences."""
    chosen = [None if c is None else c[start:stop] for c in output.chosen]
    return Seen(output.logits_BTV[start:stop], chosen)


def until(output: Seen, stop: int) -> Seen:
    """The output of the first positions."""
    chosen = [None if c is None else c[:, :stop] for c in output.chosen]
    return Seen(output.logits_BTV[:, :stop], chosen)


@all_cases
@pytest.mark.parametrize("cut", CUTS)
def test_the_future_does_not_matter(case: Case, cut: int) -> None:
    model, tokens_BT = case()
    other_BT = torch.cat([tokens_BT[:, :cut], changed(tokens_BT[:, cut:])], dim=1)
    full, other = causal(model, tokens_BT), causal(model, other_BT)
    assert_same(until(full, cut), until(other, cut))
    late = (full.logits_BTV - other.logits_BTV)[:, cut:]
    assert late.abs().max() > 1e-3, "the perturbation did nothing"


@all_cases
@pytest.mark.parametrize("cut", CUTS)
def test_a_prefix_equals_the_full_pass(case: Case, cut: int) -> None:
    model, tokens_BT = case()
    assert_same(causal(model, tokens_BT[:, :cut]), until(causal(model, tokens_BT), cut))


@all_cases
@pytest.mark.parametrize("row", range(B))
def test_other_sequences_do_not_matter(case: Case, row: int) -> None:
    model, tokens_BT = case()
    other_BT = changed(tokens_BT)
    other_BT[row] = tokens_BT[row]
    full, other = causal(model, tokens_BT), causal(model, other_BT)
    assert_same(rows_of(full, row, row + 1), rows_of(other, row, row + 1))


@all_cases
def test_the_size_of_the_batch_does_not_matter(case: Case) -> None:
    model, tokens_BT = case()
    full = causal(model, tokens_BT)
    for row in range(B):
        alone = causal(model, tokens_BT[row : row + 1])
        assert_same(alone, rows_of(full, row, row + 1))
    wide = causal(model, torch.cat([tokens_BT, any_tokens(), changed(tokens_BT)]))
    assert_same(full, rows_of(wide, 0, B))


@all_cases
def test_the_step_seed_does_not_matter(case: Case) -> None:
    model, tokens_BT = case()
    with torch.no_grad():
        first, second = model(tokens_BT, "causal", seed=1), model(tokens_BT, "causal", seed=2)
        assert_same(seen(first), seen(second))


@all_cases
def test_padding_does_not_matter(case: Case) -> None:
    model, tokens_BT = case()
    lengths = [T, 13, 1]
    valid_BT = torch.arange(T) < torch.tensor(lengths)[:, None]
    padded = causal(model, tokens_BT, valid_BT)
    for row, length in enumerate(lengths):
        alone = causal(model, tokens_BT[row : row + 1, :length])
        assert_same(alone, until(rows_of(padded, row, row + 1), length))
    for chosen_BT in padded.chosen:
        assert chosen_BT is None or not (chosen_BT & ~valid_BT).any()
    refilled_BT = torch.where(valid_BT, tokens_BT, changed(tokens_BT))
    gap = padded.logits_BTV - causal(model, refilled_BT, valid_BT).logits_BTV
    assert gap[valid_BT].abs().max() <= BAR


@all_cases
def test_gradients_do_not_flow_from_the_past_to_the_future(case: Case) -> None:
    model, tokens_BT = case()
    cut = 18
    x_BTD = model.embedding(tokens_BT).detach().requires_grad_()
    positions_BT = torch.arange(T).expand(B, T)
    y_BTD = x_BTD
    for layer, block in enumerate(model.stack()):
        y_BTD = block.delta(y_BTD, Context("causal", layer, positions_BT, None, 0)).add_to(y_BTD)
    y_BTD[0, :cut].square().sum().backward()
    assert x_BTD.grad is not None
    assert x_BTD.grad[0, :cut].abs().sum() > 0
    assert not x_BTD.grad[0, cut:].any()
    assert not x_BTD.grad[1:].any()


def test_top_k_in_training_sees_the_future() -> None:
    """The perturbation of these tests finds a leak where there is one."""
    model = decoder(block="mod", every=1)
    tokens_BT = any_tokens()
    cut = 18
    other_BT = torch.cat([tokens_BT[:, :cut], changed(tokens_BT[:, cut:])], dim=1)
    with torch.no_grad():
        full, other = model(tokens_BT, "train"), model(other_BT, "train")
    decisions = [
        not torch.equal(mine[:, :cut], theirs[:, :cut])
        for mine, theirs in zip(full.chosen, other.chosen, strict=True)
    ]
    assert any(decisions)
    assert (full.logits_BTV - other.logits_BTV)[:, :cut].abs().max() > 1e-6


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("no token enters", [0, 0, 0]),
        ("every token enters", [T, T, T]),
        ("ragged", [0, T, T - 30]),
    ],
)
def test_steered_cases_route_as_they_say(name: str, counts: list[int]) -> None:
    model, tokens_BT = CASES[name]()
    output = causal(model, tokens_BT)
    for layer in model.routed_layers:
        chosen_BT = output.chosen[layer]
        assert chosen_BT is not None
        assert chosen_BT.sum(dim=1).tolist() == counts


def test_a_block_that_no_token_enters_is_as_if_it_were_not_there() -> None:
    model, tokens_BT = CASES["no token enters"]()
    x_BTD = model.embedding(tokens_BT)
    context = Context("causal", 1, torch.arange(T).expand(B, T), None, 0)
    update = routed(model, 1).delta(x_BTD, context)
    assert update.delta_BKD.shape[:2] == (B, 0)
    assert torch.equal(update.add_to(x_BTD), x_BTD)


@pytest.mark.parametrize("every", [1, 2])
def test_an_untrained_model_routes_about_half(every: int) -> None:
    model = decoder(block="mod", every=every, depth=8, width=64)
    output = causal(model, torch.randint(VOCAB, (16, 64)))
    chosen = torch.stack([c for c in output.chosen if c is not None]).double()
    assert 0.35 < chosen.mean() < 0.65
    assert chosen.mean(dim=2).std() > 0, "rows are ragged"


@pytest.mark.parametrize("capacity", [0.125, 0.5, 1.0])
def test_random_routes_its_capacity(capacity: float) -> None:
    model = decoder(block="mod", router="random", every=1, depth=2, capacity=capacity)
    output = causal(model, torch.zeros(1, 2048, dtype=torch.long))
    for chosen_BT in output.chosen:
        assert chosen_BT is not None
        assert abs(chosen_BT.double().mean() - capacity) < 0.035


def random_decoder(seed: int, capacity: float = 0.25) -> Decoder:
    """Two layers that tokens enter at random, built with a seed."""
    torch.manual_seed(seed)
    return decoder(block="mod", router="random", every=1, depth=2, capacity=capacity).eval()


def draw(model: Decoder, tokens_BT: Tensor, valid_BT: Tensor | None = None) -> Tensor:
    """Which tokens enter which layer (L, B, T)."""
    chosen = causal(model, tokens_BT, valid_BT).chosen
    return torch.stack([chosen_BT for chosen_BT in chosen if chosen_BT is not None])


@pytest.mark.parametrize("capacity", [0.125, 0.25, 0.5])
def test_random_routes_its_capacity_over_sequences(capacity: float) -> None:
    """In every layer, and with the spread of independent draws: within 4 standard errors."""
    tokens_BT = torch.randint(VOCAB, (200, 64))
    chosen_LBT = draw(random_decoder(0, capacity), tokens_BT).double()
    sd = (capacity * (1 - capacity)) ** 0.5
    for share in chosen_LBT.mean(dim=(1, 2)):
        assert abs(share - capacity) < 4 * sd / tokens_BT.numel() ** 0.5
    share_T = chosen_LBT.mean(dim=(0, 1))
    assert (share_T[1:] - capacity).abs().max() < 4 * sd / 400**0.5, "a position is favoured"
    spread = chosen_LBT.mean(dim=2).std(dim=1)
    assert spread.mean() == pytest.approx(sd / 64**0.5, rel=0.2)


def test_random_draws_differ_by_sequence_seed_and_layer() -> None:
    tokens_BT = torch.randint(VOCAB, (6, 256))
    one, other = (draw(random_decoder(seed), tokens_BT) for seed in (0, 1))
    maps = torch.cat([one.flatten(0, 1), other.flatten(0, 1)])
    assert len(maps.unique(dim=0)) == len(maps)
    # Two independent choices of a quarter agree on 10 of 16 cells.
    for left, right in ((one, other), (one[0], one[1]), (one[:, :3], one[:, 3:])):
        assert (left == right).double().mean() == pytest.approx(0.625, abs=0.06)
    assert torch.equal(one, draw(random_decoder(0), tokens_BT))


def test_random_draws_do_not_look_at_later_tokens_batch_mates_or_padding() -> None:
    model, tokens_BT = random_decoder(0), torch.randint(VOCAB, (4, 96))
    full = draw(model, tokens_BT)
    other_BT = tokens_BT.clone()
    other_BT[:, 50:] = changed(tokens_BT[:, 50:])
    later = draw(model, other_BT)
    assert torch.equal(full[:, :, :50], later[:, :, :50])
    assert not torch.equal(full[:, :, 50:], later[:, :, 50:])
    assert torch.equal(draw(model, tokens_BT[2:3]), full[:, 2:3])
    assert torch.equal(draw(model, tokens_BT.flip(0)), full.flip(1))
    valid_BT = torch.arange(96) < torch.tensor([96, 60, 1, 7])[:, None]
    padded = draw(model, torch.where(valid_BT, tokens_BT, changed(tokens_BT)), valid_BT)
    assert torch.equal(padded, full & valid_BT)


def test_random_draws_are_the_same_in_cached_decoding() -> None:
    """Of ragged prompts in several calls, then token by token."""
    model, tokens_BT = random_decoder(3), torch.randint(VOCAB, (3, 40))
    full = draw(model, tokens_BT)
    decoding = Decoding(model, 3)
    for counts in ([9, 1, 4], [5, 9, 2], *[[1, 1, 1]] * 20):
        counts_B = torch.tensor(counts)
        places_BT = decoding.lengths_B[:, None] + torch.arange(max(counts))
        before_LB = decoding.routed_LB.clone()
        done_B = decoding.lengths_B.clone()
        decoding.extend(tokens_BT.gather(1, places_BT), counts_B)
        for row, (start, count) in enumerate(zip(done_B.tolist(), counts, strict=True)):
            expected = full[:, row, start : start + count].sum(dim=1)
            assert torch.equal(decoding.routed_LB[:, row] - before_LB[:, row], expected)


def test_only_routers_that_ask_for_keys_make_them() -> None:
    seen: list[Context] = []
    for router in ("random", "static"):
        model = decoder(block="mod", router=router, every=1, depth=1)
        model.stack()[0].router.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
        causal(model, any_tokens())
        model(any_tokens(), "train")
    assert [context.key_BT is None for context in seen] == [False, True, True, True]


def test_dense_is_equal_to_the_bit() -> None:
    model = decoder(depth=3).float()
    tokens_BT = any_tokens()
    full_BTV = causal(model, tokens_BT).logits_BTV
    for cut in CUTS:
        other_BT = torch.cat([tokens_BT[:, :cut], changed(tokens_BT[:, cut:])], dim=1)
        assert torch.equal(causal(model, other_BT).logits_BTV[:, :cut], full_BTV[:, :cut])
    other_BT = changed(tokens_BT)
    other_BT[1] = tokens_BT[1]
    assert torch.equal(causal(model, other_BT).logits_BTV[1], full_BTV[1])


def near_a_tie(model: Decoder, tokens_BT: Tensor, margin: float) -> Tensor:
    """Positions (B, T) with a score within `margin` of the cut-off at or before them."""
    with torch.no_grad():
        x_BTD = model.embedding(tokens_BT)
        near_BT = torch.zeros(tokens_BT.shape, dtype=torch.bool)
        positions_BT = torch.arange(tokens_BT.shape[1]).expand(tokens_BT.shape)
        for layer, block in enumerate(model.stack()):
            if isinstance(block, Mod) and isinstance(block.router, ExpertChoice):
                near_BT |= block.router.scores(x_BTD).abs() < margin
            context = Context("causal", layer, positions_BT, None, 0)
            x_BTD = block.delta(x_BTD, context).add_to(x_BTD)
    return near_BT.cummax(dim=1).values


@pytest.mark.parametrize("router", ROUTERS.names())
@pytest.mark.parametrize("every", [1, 2])
def test_fp32_within_rounding_where_no_score_is_near_the_cut(router: str, every: int) -> None:
    options = {"name": router}
    if router == "expert_choice":
        options["init_std"] = 0.3
    model = decoder(block="mod", router=options, every=every).float()
    tokens_BT = torch.randint(VOCAB, (16, T))
    near_BT = near_a_tie(model, tokens_BT, margin=1e-5)
    full = causal(model, tokens_BT)
    compared = 0
    for cut in CUTS:
        other_BT = torch.cat([tokens_BT[:, :cut], changed(tokens_BT[:, cut:])], dim=1)
        for other in (causal(model, other_BT), causal(model, tokens_BT[:, :cut])):
            kept_BT = ~near_BT[:, :cut]
            gap_BTV = (full.logits_BTV[:, :cut] - other.logits_BTV[:, :cut]).abs()
            assert gap_BTV[kept_BT].max() <= 1e-5
            for mine, theirs in zip(full.chosen, other.chosen, strict=True):
                if mine is not None and theirs is not None:
                    assert not ((mine[:, :cut] != theirs[:, :cut]) & kept_BT).any()
            compared += int(kept_BT.sum())
    excluded = 1 - compared / (16 * 2 * sum(CUTS))
    assert excluded <= 0.03, f"{excluded:.1%} of the positions lie near a tie: too many to judge"


def test_near_a_tie_finds_one() -> None:
    """A score of exactly the cut-off excludes its position and the later ones, not the earlier."""
    model, _ = CASES["ragged"]()
    tie = 5
    with torch.no_grad():
        model.embedding.weight[tie] = 0
    tokens_BT = torch.full((1, 8), VOCAB - 1)
    tokens_BT[0, 3] = tie
    # The dense block before may write to the channel that the router reads.
    with torch.no_grad():
        for weight in model.stack()[0].output_weights():
            weight[0] = 0
    assert near_a_tie(model, tokens_BT, 1e-5).tolist() == [[False] * 3 + [True] * 5]
