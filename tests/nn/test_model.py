"""The routed update, exactly: against the dense model, against its definition, and against a
slow twin in values and gradients.

Shapes: B sequences, T positions, K chosen rows, D width, V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.nn.blocks.dense import Dense
from modsearch.nn.blocks.mod import Mod
from modsearch.nn.contracts import ROUTERS, Context, Mode, Options, Router, Routing, num_selected
from modsearch.nn.model import Decoder, statistics
from modsearch.nn.parts import block_names
from modsearch.nn.rotary import Angles
from modsearch.nn.routers.expert_choice import ExpertChoice
from modsearch.nn.routers.threshold import Threshold
from modsearch.nn.selection import Gate, pack, share, top_k
from modsearch.testing.naive import naive_decoder

VOCAB = 64
GATES = get_args(Gate)
EXACT_ONE = {"name": "expert_choice", "gate": "one_plus_tanh"}
"""With a zero weight its gate is 1 + 0.2 tanh(0), exactly 1."""


def decoder(**changes: Any) -> Decoder:
    """A small model in fp32."""
    shape = {"vocab_size": VOCAB, "depth": 4, "width": 16, "num_heads": 2, "capacity": 0.3}
    return Decoder(ModelConfig(**(shape | changes)))


def some_tokens(num_sequences: int = 3, num_positions: int = 37) -> Tensor:
    """A random batch."""
    return torch.randint(VOCAB, (num_sequences, num_positions))


def routed(model: Decoder, layer: int) -> Mod:
    """The routed block of that layer."""
    block = model.stack()[layer]
    assert isinstance(block, Mod)
    return block


def expert_choice(block: Mod) -> ExpertChoice:
    """Its router."""
    assert isinstance(block.router, ExpertChoice)
    return block.router


def context(
    mode: Mode, x_BTD: Tensor, valid_BT: Tensor | None = None, layer: int = 0, seed: int = 0
) -> Context:
    """What the model would hand to its first block."""
    B, T = x_BTD.shape[:2]
    return Context(mode, layer, torch.arange(T).expand(B, T), valid_BT, seed)


def router_of(name: str, width: int, capacity: float) -> Router:
    """A router with default options."""
    cls = ROUTERS.get(name)
    return cls(width, capacity, cls.Config())


def scoring_first_channel(capacity: float, **options: Any) -> ExpertChoice:
    """A router whose score is the first channel of its input."""
    router = ExpertChoice(4, capacity, ExpertChoice.Config(**options))
    with torch.no_grad():
        router.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    return router


def rows_with_scores(scores_BT: Tensor) -> Tensor:
    """Input whose first channel holds the scores."""
    return torch.cat([scores_BT[..., None], torch.randn(*scores_BT.shape, 3)], dim=-1)


# A routed block of full capacity and gate 1 is the dense block.


def full_capacity_twins(every: int, router: Any) -> tuple[Decoder, Decoder]:
    """A dense model, and a routed one of full capacity with the same weights and gate 1."""
    dense = decoder()
    twin = decoder(block="mod", every=every, router=router, capacity=1.0)
    weights = dense.state_dict()
    for name, value in twin.state_dict().items():
        if name.endswith("router.weight"):
            weights[name] = torch.zeros_like(value)
        elif name.endswith("router.salt"):
            weights[name] = value
        elif ".inner." in name:
            weights[name] = weights.pop(name.replace(".inner.", "."))
    twin.load_state_dict(weights)
    return dense, twin


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("router", [EXACT_ONE, "random"], ids=["expert_choice", "random"])
@pytest.mark.parametrize("num_positions", [1, 37, 64])
def test_full_capacity_and_gate_1_is_dense_to_the_bit(
    every: int, router: Any, num_positions: int
) -> None:
    dense, twin = full_capacity_twins(every, router)
    assert len(twin.routed_layers) == 4 // every
    tokens_BT = some_tokens(3, num_positions)
    assert torch.equal(twin(tokens_BT, "train").logits_BTV, dense(tokens_BT, "train").logits_BTV)


def test_full_capacity_and_gate_1_has_the_gradients_of_dense() -> None:
    dense, twin = full_capacity_twins(2, EXACT_ONE)
    tokens_BT = some_tokens()
    dense.loss(tokens_BT, tokens_BT, 0)[0].backward()
    twin.loss(tokens_BT, tokens_BT, 0)[0].backward()
    gradients = dict(dense.named_parameters())
    for name, parameter in twin.named_parameters():
        if not name.endswith("router.weight"):
            mine, theirs = parameter.grad, gradients[name.replace(".inner.", ".")].grad
            assert mine is not None
            assert theirs is not None
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_the_dense_delta_is_a_sum_and_nothing_is_subtracted() -> None:
    """`(x + delta) - x` would be off in the last bits."""
    block = decoder(depth=1).stack()[0]
    assert isinstance(block, Dense)
    x_BTD = torch.randn(3, 37, 16)
    where = context("train", x_BTD)
    attention_BTD = block.attention.attention(block.attention.norm(x_BTD), where)
    ffn_BTD = block.ffn.ffn.delta(block.ffn.norm(x_BTD + attention_BTD), where).delta_BKD
    delta_BTD = attention_BTD + ffn_BTD
    assert torch.equal(block.delta(x_BTD, where).delta_BKD, delta_BTD)
    assert not torch.equal((x_BTD + delta_BTD) - x_BTD, delta_BTD)


def test_a_gate_of_0_leaves_every_row_unchanged() -> None:
    model = decoder(block="mod", every=1)
    with torch.no_grad():
        for layer in model.routed_layers:
            expert_choice(routed(model, layer)).weight.zero_()
    tokens_BT = some_tokens()
    bare_BTV = model.head(model.norm(model.embedding(tokens_BT)))
    assert torch.equal(model(tokens_BT, "train").logits_BTV, bare_BTV)


# Which rows are chosen.


@pytest.mark.parametrize(
    ("capacity", "num_positions", "expected"),
    [
        (0.29, 100, 29),  # 0.29 * 100 is 28.999999999999996
        (0.57, 100, 57),  # 56.99999999999999
        (0.7, 10, 7),
        (0.1, 30, 3),
        (0.125, 2048, 256),
        (0.125, 37, 4),
        (0.3, 37, 11),
        (0.999, 10, 9),
        (0.01, 10, 1),
        (1.0, 37, 37),
        (1.0, 1, 1),
    ],
)
def test_num_selected(capacity: float, num_positions: int, expected: int) -> None:
    assert num_selected(capacity, num_positions) == expected


def test_num_selected_is_the_floor_of_the_exact_product() -> None:
    for percent in range(1, 101):
        for num_positions in range(1, 300):
            exact = max(1, math.floor(Fraction(percent, 100) * num_positions))
            assert num_selected(percent / 100, num_positions) == exact


@pytest.mark.parametrize("router", ROUTERS.names())
@pytest.mark.parametrize("capacity", [0.125, 0.29, 0.5, 1.0])
@pytest.mark.parametrize("num_positions", [1, 37, 100])
def test_exactly_the_slots_in_order(router: str, capacity: float, num_positions: int) -> None:
    x_BTD = torch.randn(5, num_positions, 8)
    built = router_of(router, 8, capacity)
    routing = built(x_BTD, context("train", x_BTD))
    index_BK = routing.index_BK
    assert index_BK.shape == (5, built.slots(num_positions))
    assert num_selected(capacity, num_positions) <= index_BK.shape[1] <= num_positions
    valid_BK = routing.valid_BK
    if valid_BK is None:
        valid_BK = torch.ones_like(index_BK).bool()
    assert not (valid_BK[:, 1:] & ~valid_BK[:, :-1]).any(), "padding stands last"
    for index_K, valid_K in zip(index_BK, valid_BK, strict=True):
        assert (index_K[valid_K].diff() > 0).all()
        assert len(index_K.unique()) == len(index_K)
    assert index_BK.min() >= 0
    assert index_BK.max() < num_positions


def test_the_highest_scores_are_chosen_in_each_sequence() -> None:
    scores_BT = torch.randn(5, 63)
    scores_BT[2] -= 100  # a whole sequence below all others still gets its k
    router = scoring_first_channel(0.3)
    x_BTD = rows_with_scores(scores_BT)
    index_BK = router(x_BTD, context("train", x_BTD)).index_BK
    for row, chosen in zip(scores_BT.tolist(), index_BK.tolist(), strict=True):
        assert chosen == sorted(sorted(range(63), key=lambda t, row=row: -row[t])[:18])


def test_ties_go_to_the_lowest_index() -> None:
    scores_BT = torch.randint(3, (4, 1000)).float()
    expected = [
        sorted(sorted(range(1000), key=lambda t, row=row: (-row[t], t))[:431])
        for row in scores_BT.tolist()
    ]
    assert top_k(scores_BT, 431, None).tolist() == expected
    assert top_k(torch.zeros(1, 1000), 7, None).tolist() == [list(range(7))]


def test_padding_is_never_chosen_while_real_rows_remain() -> None:
    scores_BT = torch.randn(3, 20)
    scores_BT[:, 12:] += 100  # padding would win
    valid_BT = torch.arange(20) < torch.tensor([[12], [5], [20]])
    router = scoring_first_channel(0.5)
    x_BTD = rows_with_scores(scores_BT)
    routing = router(x_BTD, context("train", x_BTD, valid_BT))
    assert routing.valid_BK is not None
    assert routing.valid_BK.sum(dim=1).tolist() == [10, 5, 10]
    assert torch.equal(routing.valid_BK, valid_BT.gather(1, routing.index_BK))
    assert (routing.index_BK.diff(dim=1) > 0).all()


def test_pack_pads_ragged_rows_with_unchosen_ones() -> None:
    chosen_BT = torch.tensor([[0, 0, 0, 0], [1, 0, 1, 1], [0, 0, 0, 1]]).bool()
    index_BK, valid_BK = pack(chosen_BT, None)
    assert valid_BK.tolist() == [[False] * 3, [True] * 3, [True, False, False]]
    assert index_BK[1].tolist() == [0, 2, 3]
    assert index_BK[2, 0] == 3
    for chosen, index, valid in zip(chosen_BT, index_BK, valid_BK, strict=True):
        assert not chosen[index[~valid]].any()
        assert len(set(index.tolist())) == 3, "a row stands twice: its update would count twice"


def test_pack_of_nothing() -> None:
    index_BK, valid_BK = pack(torch.zeros(2, 5, dtype=torch.bool), None)
    assert index_BK.shape == valid_BK.shape == (2, 0)


@pytest.mark.parametrize(
    ("every", "layers"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3]), (3, [2]), (5, [4]), (6, [])]
)
def test_every_nth_layer_is_routed(every: int, layers: list[int]) -> None:
    model = decoder(block="mod", depth=5, every=every)
    assert model.routed_layers == layers
    chosen = model(some_tokens(), "train").chosen
    assert [layer for layer, rows in enumerate(chosen) if rows is not None] == layers


# What a routed block does to chosen and to other rows.


@pytest.mark.parametrize("router", ROUTERS.names())
@pytest.mark.parametrize("mode", ["train", "causal"])
@pytest.mark.parametrize("padded", [False, True])
def test_rows_that_are_not_chosen_pass_unchanged_to_the_bit(
    router: str, mode: Mode, padded: bool
) -> None:
    block = routed(decoder(block="mod", every=1, router=router), 0)
    x_BTD = torch.randn(5, 37, 16)
    lengths = torch.tensor([[37], [20], [3], [1], [12]])
    valid_BT = torch.arange(37) < lengths if padded else None
    with torch.no_grad():
        update = block.delta(x_BTD, context(mode, x_BTD, valid_BT))
        after_BTD = update.add_to(x_BTD)
    assert update.index_BK is not None
    entered_BT = torch.zeros(5, 37, dtype=torch.bool)
    for b, index_K in enumerate(update.index_BK):
        real_K = index_K if update.valid_BK is None else index_K[update.valid_BK[b]]
        entered_BT[b, real_K] = True
    assert 0 < entered_BT.sum() < entered_BT.numel()
    assert torch.equal(after_BTD[~entered_BT], x_BTD[~entered_BT])
    assert (after_BTD != x_BTD).any(dim=-1)[entered_BT].all()
    if valid_BT is not None:
        assert not (entered_BT & ~valid_BT).any()


@pytest.mark.parametrize("gate", GATES)
def test_the_delta_is_that_of_the_wrapped_block_times_the_gate(gate: str) -> None:
    expected_gate: dict[str, Callable[[Tensor], Tensor]] = {
        "identity": lambda r: r,
        "sigmoid": lambda r: 1 / (1 + torch.exp(-r)),
        "scaled_sigmoid": lambda r: 0.1 / (1 + torch.exp(-r)),
        "one": lambda r: torch.ones_like(r),
        "tanh": lambda r: 1 - 2 / (torch.exp(2 * r) + 1),
        "one_plus_tanh": lambda r: 1 + 0.2 * (1 - 2 / (torch.exp(2 * r) + 1)),
        "softmax_selected": lambda r: torch.exp(r) / torch.exp(r).sum(),
    }
    model = decoder(block="mod", every=1, router={"name": "expert_choice", "gate": gate})
    block = routed(model.double(), 0)
    x_BTD = torch.randn(3, 37, 16, dtype=torch.float64)
    update = block.delta(x_BTD, context("train", x_BTD))
    assert update.index_BK is not None
    for b, index_K in enumerate(update.index_BK):
        rows = x_BTD[b : b + 1, index_K]
        inner = block.inner.delta(rows, Context("train", 0, index_K[None], None, 0)).delta_BKD[0]
        scores_K = x_BTD[b, index_K] @ expert_choice(block).weight[0]
        expected = expected_gate[gate](scores_K)[:, None] * inner
        torch.testing.assert_close(update.delta_BKD[b], expected, rtol=0, atol=1e-12)


def test_positions_inside_are_the_original_ones() -> None:
    block = routed(decoder(block="mod", every=1).double(), 0)
    x_BTD = torch.randn(2, 63, 16, dtype=torch.float64)
    update = block.delta(x_BTD, context("train", x_BTD))
    index_BK = update.index_BK
    assert index_BK is not None
    rows_BKD = x_BTD.gather(1, index_BK[..., None].expand(-1, -1, 16))
    gate_BK1 = expert_choice(block).scores(x_BTD).gather(1, index_BK)[..., None]

    def at(positions_BK: Tensor) -> Tensor:
        context = Context("train", 0, positions_BK, None, 0)
        return gate_BK1 * block.inner.delta(rows_BKD, context).delta_BKD

    renumbered_BK = torch.arange(index_BK.shape[1]).expand_as(index_BK)
    assert (update.delta_BKD - at(index_BK)).abs().max() < 1e-12
    assert (update.delta_BKD - at(renumbered_BK)).abs().max() > 1e-5


def test_a_skipped_token_is_not_attended_to() -> None:
    block = routed(decoder(block="mod", every=1).double(), 0)
    weight_D = expert_choice(block).weight[0].detach()
    x_BTD = torch.randn(2, 37, 16, dtype=torch.float64)
    before = block.delta(x_BTD, context("train", x_BTD))
    assert before.index_BK is not None
    skipped_BT = torch.ones(2, 37, dtype=torch.bool).scatter(1, before.index_BK, False)
    # A change at a right angle to the router's weight, so that the scores stay.
    noise_BTD = torch.randn_like(x_BTD)
    noise_BTD -= (noise_BTD @ weight_D)[..., None] * weight_D / weight_D.square().sum()
    after = block.delta(x_BTD + noise_BTD * skipped_BT[..., None], context("train", x_BTD))
    assert torch.equal(after.index_BK, before.index_BK)
    assert torch.equal(after.delta_BKD, before.delta_BKD)
    first_B = before.index_BK[:, 0]
    chosen_BT = torch.zeros_like(skipped_BT).scatter(1, first_B[:, None], True)
    control = block.delta(x_BTD + noise_BTD * chosen_BT[..., None], context("train", x_BTD))
    moved_BK = (control.delta_BKD - before.delta_BKD).abs().amax(dim=-1)
    assert (moved_BK > 1e-9).all(), "a chosen token is seen by all later ones"


# The router's gradients and its auxiliary loss.


@pytest.mark.parametrize("selection", ["token_choice", "expert_choice"])
def test_losses_are_finite_where_no_token_enters(selection: str) -> None:
    """Experts behind a router that chose nothing have no row to take a mean of."""
    model = decoder(
        block="mode_staged",
        every=1,
        router="threshold",
        ffn={"name": "moe", "selection": selection, "z_weight": 0.1},
    )
    for module in model.modules():
        if isinstance(module, Threshold):
            module.cutoff.fill_(1e6)
    tokens_BT = some_tokens()
    loss, output = model.loss(tokens_BT, tokens_BT, 0)
    assert output.aux is not None
    assert output.aux.isfinite()
    assert all(value.isfinite() for value in statistics(output.updates).values())
    (loss + output.aux).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_means_are_over_real_rows_only() -> None:
    values_BT = torch.randn(3, 7)
    valid_BT = torch.arange(7) < torch.tensor([[7], [3], [0]])
    poisoned_BT = values_BT.masked_fill(~valid_BT, math.nan)
    torch.testing.assert_close(share(poisoned_BT, valid_BT), values_BT[valid_BT].mean())
    assert share(values_BT, None) == values_BT.mean()
    assert share(values_BT, torch.zeros_like(valid_BT)) == 0


@pytest.mark.parametrize("gate", [gate for gate in GATES if gate != "one"])
def test_the_router_learns_from_the_language_model_alone(gate: str) -> None:
    router = {"name": "expert_choice", "gate": gate, "bce_weight": 0}
    model = decoder(block="mod", every=2, router=router)
    tokens_BT = some_tokens()
    loss, _ = model.loss(tokens_BT, tokens_BT, 0)
    loss.backward()
    for layer in model.routed_layers:
        gradient = expert_choice(routed(model, layer)).weight.grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_only_chosen_tokens_carry_the_gradient_to_the_router() -> None:
    """d loss / d w is the sum of (d loss / d x' . delta) x over chosen tokens."""
    block = routed(decoder(block="mod", every=1).double(), 0)
    x_BTD = torch.randn(2, 37, 16, dtype=torch.float64)
    upstream_BTD = torch.randn_like(x_BTD)
    update = block.delta(x_BTD, context("train", x_BTD))
    (update.add_to(x_BTD) * upstream_BTD).sum().backward()
    assert update.index_BK is not None
    weight = expert_choice(block).weight
    expected_D = torch.zeros(16, dtype=torch.float64)
    for b, index_K in enumerate(update.index_BK):
        rows_KD = x_BTD[b, index_K]
        delta_KD = update.delta_BKD[b].detach() / (rows_KD @ weight[0].detach())[:, None]
        expected_D += ((upstream_BTD[b, index_K] * delta_KD).sum(-1)[:, None] * rows_KD).sum(0)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[0], expected_D)


@pytest.mark.parametrize("padded", [False, True])
def test_the_target_of_the_auxiliary_loss_is_the_top_k_mask(padded: bool) -> None:
    router = scoring_first_channel(0.3, bce_weight=0.25)
    scores_BT = torch.randn(3, 20)
    x_BTD = rows_with_scores(scores_BT)
    valid_BT = torch.arange(20) < torch.tensor([[20], [9], [4]]) if padded else None
    routing = router(x_BTD, context("train", x_BTD, valid_BT))
    terms = []
    for b, (row, index) in enumerate(zip(scores_BT, routing.index_BK.tolist(), strict=True)):
        for t, score in enumerate(row):
            if valid_BT is None or valid_BT[b, t]:
                terms.append(-F.logsigmoid(score if t in index else -score))
    assert routing.aux is not None
    torch.testing.assert_close(routing.aux, 0.25 * torch.stack(terms).mean())


def test_the_auxiliary_loss_is_summed_over_layers_and_absent_in_causal_mode() -> None:
    model = decoder(block="mod", every=1, depth=3)
    tokens_BT = some_tokens()
    aux = model.loss(tokens_BT, tokens_BT, 0)[1].aux
    assert aux is not None
    # Untrained scores are near 0, where each token's cross-entropy is ln 2.
    assert aux.item() == pytest.approx(3 * 0.01 * math.log(2), rel=0.05)
    assert model(tokens_BT, "causal").aux is None
    assert decoder().loss(tokens_BT, tokens_BT, 0)[1].aux is None


def test_the_auxiliary_loss_makes_the_causal_choice_the_top_k() -> None:
    """Trained on it alone, the router tells the two apart at a score of 0."""
    router = ExpertChoice(8, 0.25, ExpertChoice.Config(bce_weight=1.0))
    direction_D = torch.randn(8)
    x_BTD = torch.randn(16, 64, 8)
    side_BT = torch.where(torch.arange(64) % 4 == 0, 4.0, -4.0)
    x_BTD += side_BT[..., None] * direction_D / direction_D.norm()
    with torch.no_grad():
        router.weight.copy_(0.01 * direction_D)
    optimizer = torch.optim.Adam(router.parameters(), 0.05)
    for _ in range(60):
        routing = router(x_BTD, context("train", x_BTD))
        assert routing.aux is not None
        optimizer.zero_grad()
        routing.aux.backward()
        optimizer.step()
    causal = router(x_BTD, context("causal", x_BTD))
    assert causal.valid_BK is not None
    assert abs(causal.valid_BK.sum() / (16 * 64) - 0.25) < 0.01
    top = {(b, t) for b, row in enumerate(routing.index_BK.tolist()) for t in row}
    mine = {
        (b, t)
        for b, (row, valid) in enumerate(
            zip(causal.index_BK.tolist(), causal.valid_BK, strict=True)
        )
        for t, real in zip(row, valid.tolist(), strict=True)
        if real
    }
    assert len(top ^ mine) < 0.01 * 16 * 64


def test_the_causal_choice_is_a_score_above_0() -> None:
    scores_BT = torch.tensor([[-1e-3, 0.0, 1e-3, 5.0, -0.0, 1e-7, -5.0]])
    router = scoring_first_channel(0.3)
    x_BTD = rows_with_scores(scores_BT)
    routing = router(x_BTD, context("causal", x_BTD))
    assert routing.valid_BK is not None
    assert routing.valid_BK.all()
    assert routing.index_BK.tolist() == [[2, 3, 5]]
    assert torch.equal(routing.gate_BK, scores_BT.gather(1, routing.index_BK))


def test_scores_of_bf16_rows_are_fp32() -> None:
    router = ExpertChoice(16, 0.5, ExpertChoice.Config())
    x_BTD = torch.randn(2, 9, 16).bfloat16()
    assert router.scores(x_BTD).dtype == torch.float32
    assert torch.equal(router.scores(x_BTD), router.scores(x_BTD.float()))
    low = router.to(torch.bfloat16).scores(x_BTD)
    assert low.dtype == torch.float32
    assert router.double().scores(x_BTD.double()).dtype == torch.float64


def test_scores_are_fp32_under_autocast() -> None:
    router = ExpertChoice(16, 0.5, ExpertChoice.Config())
    x_BTD = torch.randn(2, 9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        scores_BT = router.scores(x_BTD)
    assert scores_BT.dtype == torch.float32
    assert torch.equal(scores_BT, router.scores(x_BTD))


def test_bf16_rows_keep_the_residual_stream_in_fp32() -> None:
    model = decoder(block="mod", every=2)
    tokens_BT = some_tokens()
    with torch.autocast("cpu", torch.bfloat16):
        x_BTD = model.embedding(tokens_BT)
        for layer, block in enumerate(model.stack()):
            x_BTD = block.delta(x_BTD, context("train", x_BTD, layer=layer)).add_to(x_BTD)
            assert x_BTD.dtype == torch.float32


# The slow twin.


def gradients(model: Decoder, logits_BTV: Tensor, aux: Tensor | None) -> dict[str, Tensor]:
    """Of a scalar that weighs every logit differently, and of the auxiliary loss."""
    model.zero_grad()
    weights_BTV = torch.sin(torch.arange(logits_BTV.numel()).view_as(logits_BTV))
    total = (logits_BTV * weights_BTV).sum()
    (total if aux is None else total + 100 * aux).backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


@pytest.mark.parametrize("mode", ["train", "causal"])
@pytest.mark.parametrize(
    ("num_positions", "every", "capacity", "tied"),
    [(37, 1, 0.3, True), (63, 2, 0.125, False), (5, 1, 1.0, True)],
)
def test_values_and_gradients_equal_the_slow_twin(
    mode: Mode, num_positions: int, every: int, capacity: float, tied: bool
) -> None:
    model = decoder(
        block="mod",
        depth=2,
        width=12,
        every=every,
        capacity=capacity,
        tied=tied,
        router={"name": "expert_choice", "init_std": 0.5},
    ).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
    tokens_BT = some_tokens(2, num_positions)
    fast, slow = model(tokens_BT, mode), naive_decoder(model, tokens_BT, mode)
    for fast_BT, slow_B in zip(fast.chosen, slow.chosen, strict=True):
        mask_BT = torch.ones_like(tokens_BT).bool() if fast_BT is None else fast_BT
        assert [row.nonzero().flatten().tolist() for row in mask_BT] == slow_B
    torch.testing.assert_close(fast.logits_BTV, slow.logits_BTV, rtol=0, atol=1e-11)
    assert (fast.aux is None) == (slow.aux is None) == (mode == "causal")
    if fast.aux is not None:
        torch.testing.assert_close(fast.aux, slow.aux, rtol=1e-12, atol=0)
    mine = gradients(model, fast.logits_BTV, fast.aux)
    theirs = gradients(model, slow.logits_BTV, slow.aux)
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-9, atol=1e-10, msg=name)
        assert gradient.abs().max() > 0, f"{name} has no gradient: nothing was compared"


def test_dense_equals_the_slow_twin() -> None:
    model = decoder(depth=1, width=12).double()
    tokens_BT = some_tokens(1, 37)
    slow = naive_decoder(model, tokens_BT, "train")
    torch.testing.assert_close(
        model(tokens_BT, "train").logits_BTV, slow.logits_BTV, rtol=0, atol=1e-11
    )


def test_rotary_attention_sees_distances_only() -> None:
    attention = decoder().double().stack()[0].get_submodule("attention.attention")
    x_BTD = torch.randn(1, 9, 16, dtype=torch.float64)
    positions_BT = torch.tensor([[0, 1, 2, 5, 6, 9, 10, 20, 21]])

    def at(positions_BT: Tensor) -> Tensor:
        return attention(x_BTD, Context("train", 0, positions_BT, None, 0))

    here, there = at(positions_BT), at(positions_BT + 1000)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-11)
    assert (here - at(2 * positions_BT)).abs().max() > 1e-4


def test_angles_that_are_given_are_of_these_positions_and_heads_or_not_used() -> None:
    positions_BT = torch.arange(6).expand(2, 6)
    angles = Angles.of(positions_BT, 8, torch.float32)
    context = Context("train", 0, positions_BT, None, 0, angles=angles)
    assert context.angles_of(8, torch.float32) is angles
    later = replace(context, positions_BT=positions_BT + 1).angles_of(8, torch.float32)
    torch.testing.assert_close(later.cos[0, 0, :-1], angles.cos[1:])
    assert context.angles_of(4, torch.float32).cos.shape == (6, 2)


@pytest.mark.parametrize(
    "own", [False, True], ids=["the same positions", "positions of their own"]
)
def test_angles_of_chosen_rows_are_looked_up(own: bool) -> None:
    positions_BT = torch.arange(6).expand(2, 6)
    if own:
        positions_BT = positions_BT + torch.tensor([[0], [3]])
    index_BK = torch.tensor([[0, 2, 5], [1, 2, 4]])
    known = Angles.of(positions_BT, 8, torch.float32)
    inside = Context("train", 0, positions_BT, None, 0, angles=known).chosen(index_BK, None)
    anew = Context("train", 0, positions_BT, None, 0).chosen(index_BK, None)
    assert inside.angles is not None
    assert anew.angles is None
    assert inside.angles_of(8, torch.float32) is inside.angles
    there = anew.angles_of(8, torch.float32)
    for one, other in ((inside.angles.cos, there.cos), (inside.angles.sin, there.sin)):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


# The model as a whole.


@pytest.mark.parametrize("router", ROUTERS.names())
def test_loss_is_the_mean_cross_entropy_routed_as_in_training(router: str) -> None:
    model = decoder(block="mod", every=1, router=router)
    tokens_BT, targets_BT = some_tokens(), some_tokens()
    loss, of_loss = model.loss(tokens_BT, targets_BT, seed=3)
    output = model(tokens_BT, "train", 3)
    aux = of_loss.aux
    picked = output.logits_BTV.log_softmax(-1).gather(-1, targets_BT[..., None])
    torch.testing.assert_close(loss, -picked.mean())
    assert (aux is None) == (output.aux is None)
    if aux is not None:
        assert torch.equal(aux, output.aux)


def test_the_step_seed_reaches_the_router() -> None:
    model = decoder(block="mod", every=1, router="random")
    tokens_BT = some_tokens()
    losses = {model.loss(tokens_BT, tokens_BT, seed)[0].item() for seed in range(5)}
    assert len(losses) == 5


@pytest.mark.parametrize("mode", ["train", "causal"])
def test_the_layer_reaches_the_router(mode: Mode) -> None:
    model = decoder(block="mod", every=1, router="random")
    chosen = model(some_tokens(1, 64), mode).chosen
    assert len(torch.stack([rows for rows in chosen if rows is not None]).unique(dim=0)) == 4


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("block", block_names())
def test_an_untrained_model_is_near_the_uniform_loss(block: str, tied: bool) -> None:
    model = decoder(block=block, tied=tied, width=64, depth=6)
    loss, _ = model.loss(some_tokens(8, 64), some_tokens(8, 64), 0)
    assert loss.item() == pytest.approx(math.log(VOCAB), abs=1.0)


def test_a_tied_head_is_the_embedding() -> None:
    tied, untied = decoder(), decoder(tied=False)
    assert tied.head.weight is tied.embedding.weight
    extra = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
    assert extra == VOCAB * 16


@pytest.mark.parametrize("name", block_names())
def test_what_writes_to_the_residual_stream_starts_smaller(name: str) -> None:
    model = decoder(depth=8, width=128, block=name)
    for block in model.stack():
        for weight in block.output_weights():
            # A matrix of experts (E, H, D) has its inputs before its outputs.
            fan_in = weight.shape[1]
            expected = (fan_in * 2 * 8) ** -0.5
            assert weight.std().item() == pytest.approx(expected, rel=0.05)


def test_a_router_needs_nothing_but_the_contract() -> None:
    class Last(Router):
        """The last row, gate 2."""

        class Config(Options):
            """No options."""

        def __init__(self, width: int, capacity: float, options: Options) -> None:
            super().__init__(width, capacity, options)

        def forward(self, x_BTD: Tensor, context: Context) -> Routing:
            index_BK = torch.full((x_BTD.shape[0], 1), x_BTD.shape[1] - 1)
            return Routing(index_BK, torch.full(index_BK.shape, 2.0), None)

        def slots(self, num_positions: int) -> int:
            return 1

        def cost(self, num_positions: int, mode: Mode) -> Any:
            raise NotImplementedError

    inner = decoder(depth=1).stack()[0]
    block = Mod(Mod.Config(), inner, Last(16, 0.1, Last.Config()))
    x_BTD = torch.randn(2, 9, 16)
    after_BTD = block.delta(x_BTD, context("train", x_BTD)).add_to(x_BTD)
    assert torch.equal(after_BTD[:, :-1], x_BTD[:, :-1])
    alone = Context("train", 0, torch.full((2, 1), 8), None, 0)
    expected = x_BTD[:, -1:] + 2 * inner.delta(x_BTD[:, -1:], alone).delta_BKD
    torch.testing.assert_close(after_BTD[:, -1:], expected)


def test_how_well_membership_is_foretold_is_a_statistic() -> None:
    """Over tokens and routed layers; routers without a second rule have none."""
    model = decoder(block="mod", every=2, depth=4, router="expert_choice", capacity=0.25)
    _, output = model.loss(some_tokens(), some_tokens(), 0)
    routings = [each.routing for each in output.updates if each.routing is not None]
    right = [
        (chosen_BT == (routing.membership_BT > 0)).double().mean().item()
        for routing, chosen_BT in zip(
            routings, (each for each in output.chosen if each is not None), strict=True
        )
        if routing.membership_BT is not None
    ]
    assert len(right) == 2
    found = statistics(output.updates)["membership_accuracy"]
    assert found.item() == pytest.approx(sum(right) / 2)
    assert 0.25 < found.item() < 1
    other = decoder(block="mod", router="token_choice")
    _, output = other.loss(some_tokens(), some_tokens(), 0)
    assert "membership_accuracy" not in statistics(output.updates)
