"""What the conformance kit does not cover: the statistics of the random control, the width of
an MLP.

Shapes: B sequences, T positions, D width.
"""

from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from modsearch.nn.contracts import FFNS, Context, Mode
from modsearch.nn.cost import Flops
from modsearch.nn.routers.random import Random, gaussian

WIDTH = 16


def context(mode: Mode, x_BTD: Tensor, layer: int = 0, seed: int = 0) -> Context:
    """Of a batch without padding."""
    B, T = x_BTD.shape[:2]
    return Context(mode, layer, torch.arange(T).expand(B, T), None, seed)


@pytest.mark.parametrize("ratio", [0.01, 1.0, 8 / 3, 4.0])
def test_mlp_hidden_width_is_a_multiple_of_4(ratio: float) -> None:
    cls = FFNS.get("mlp")
    built = cls(WIDTH, 1.0, cls.Config(ratio=ratio))
    hidden = built.get_parameter("down.weight").shape[1]
    assert hidden % 4 == 0
    assert abs(hidden - ratio * WIDTH) <= max(2, 4 - ratio * WIDTH)


# The random control.


def drawn(mode: Mode, x_BTD: Tensor, router: Random | None = None, **where: int) -> Tensor:
    """Which tokens a random router of capacity 0.25 takes (B, T)."""
    router = Random(WIDTH, 0.25, Random.Config()) if router is None else router
    routing = router(x_BTD, context(mode, x_BTD, **where))
    assert (routing.gate_BK == 1).all()
    valid_BK = routing.valid_BK
    chosen_BT = torch.zeros(x_BTD.shape[:2], dtype=torch.long)
    source = torch.ones_like(routing.index_BK) if valid_BK is None else valid_BK.long()
    return chosen_BT.scatter_add(1, routing.index_BK, source).bool()


@pytest.mark.parametrize(("seed", "layer"), [(0, 0), (0, 1), (1, 0), (7_000_021_003, 5)])
def test_gaussian_is_standard_normal(seed: int, layer: int) -> None:
    """Bars are five standard errors of 1e5 independent values."""
    values = gaussian(torch.arange(100_000), seed, layer)
    error = 5 / 100_000**0.5
    assert abs(values.mean()) < error
    assert abs(values.var() - 1) < error * 2**0.5
    assert abs((values**3).mean()) < error * 15**0.5
    assert abs((values**4).mean() - 3) < error * 96**0.5
    for lag in (1, 2, 7, 64):
        assert abs((values[lag:] * values[:-lag]).mean()) < error
    for share in (0.05, 0.125, 0.5, 0.9):
        above = (values > NormalDist().inv_cdf(1 - share)).double().mean()
        assert abs(above - share) < error * (share * (1 - share)) ** 0.5


def test_gaussian_is_a_function_of_its_arguments() -> None:
    counter = torch.tensor([5, 0, 17, (1 << 40) + 3])
    values = gaussian(counter, 3, 2)
    assert torch.equal(values, gaussian(counter, 3, 2))
    assert torch.equal(values[2:3], gaussian(torch.tensor([17]), 3, 2))
    for other in (gaussian(counter + 1, 3, 2), gaussian(counter, 4, 2), gaussian(counter, 3, 3)):
        assert (values != other).all()


@pytest.mark.parametrize("seed", [2**31, 2**33, 7_000_021_003, 2**63, 2**80, -5])
def test_gaussian_takes_any_seed(seed: int) -> None:
    values = gaussian(torch.arange(1000), seed, 3)
    assert values.isfinite().all()
    assert abs(values.mean()) < 0.2


@pytest.mark.parametrize("change", ["seed", "layer"])
def test_gaussian_is_uncorrelated_between_steps_and_layers(change: str) -> None:
    counter = torch.arange(100_000)
    here, there = gaussian(counter, 10, 1), gaussian(counter, 10, 1)
    assert torch.equal(here, there)
    there = gaussian(counter, 11, 1) if change == "seed" else gaussian(counter, 10, 2)
    assert abs((here * there).mean()) < 5 / 100_000**0.5


def test_random_training_choice_differs_by_step_layer_and_row() -> None:
    x_BTD = torch.zeros(4, 64, WIDTH)
    chosen_BT = drawn("train", x_BTD)
    assert (chosen_BT.sum(dim=1) == 16).all()
    assert torch.equal(chosen_BT, drawn("train", torch.randn_like(x_BTD)))
    assert len(chosen_BT.unique(dim=0)) == 4
    for other_BT in (drawn("train", x_BTD, seed=1), drawn("train", x_BTD, layer=1)):
        # Two independent choices of a quarter agree on 10 of 16 cells, and never on all.
        assert 0.4 < (chosen_BT == other_BT).double().mean() < 0.85


def test_random_training_choice_favours_no_position() -> None:
    x_BTD = torch.zeros(64, 32, WIDTH)
    counts_T = sum(drawn("train", x_BTD, seed=seed).sum(dim=0) for seed in range(50))
    share_T = counts_T / (64 * 50)
    assert (share_T - 0.25).abs().max() < 5 * (0.25 * 0.75 / (64 * 50)) ** 0.5


def test_random_causal_choice_depends_on_key_layer_and_salt_only() -> None:
    """Without keys, as where a router is asked by hand, positions stand for them."""
    torch.manual_seed(0)
    x_BTD = torch.zeros(4, 512, WIDTH)
    router = Random(WIDTH, 0.25, Random.Config())
    chosen_BT = drawn("causal", x_BTD, router)
    assert len(chosen_BT.unique(dim=0)) == 1
    assert torch.equal(chosen_BT, drawn("causal", torch.randn_like(x_BTD), router, seed=9))
    assert torch.equal(chosen_BT[:1, :37], drawn("causal", x_BTD[:1, :37], router))
    for other_BT in (drawn("causal", x_BTD, router, layer=1), drawn("causal", x_BTD)):
        assert 0.5 < (chosen_BT == other_BT).double().mean() < 0.75


@pytest.mark.parametrize("layer", [0, 1, 2, 11])
def test_random_causal_share_is_near_the_capacity(layer: int) -> None:
    share = drawn("causal", torch.zeros(1, 20_000, WIDTH), layer=layer).double().mean()
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 20_000) ** 0.5


def test_the_salt_of_random_follows_from_the_seed_and_takes_nothing_from_it() -> None:
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(int(Random(WIDTH, 0.25, Random.Config()).salt))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]


def test_random_is_free() -> None:
    router = Random(WIDTH, 0.25, Random.Config())
    assert not list(router.parameters())
    assert router.cost(64, "train").training == Flops()
    assert router.cost(64, "causal").forward == Flops()
