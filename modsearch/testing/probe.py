"""What checks build and compare: a case, a model of it, its tokens and rows, what comes out.

Exact bars: fp64 within 1e-10 and the same decisions; where nothing is recomputed, equal to the
bit.

Shapes: B sequences, T positions, D width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modsearch.config.model import Component, ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.nn.contracts import Context, Mode, Router
from modsearch.nn.model import Decoder, Output, Trace

B, T = 3, 37
BAR = 1e-10
MODES: tuple[Mode, ...] = ("train", "causal")


class Broken(AssertionError):
    """A component does not keep what a check asks for."""


@dataclass(frozen=True)
class Case:
    """A component in a model."""

    kind: str
    name: str
    """Of the component under test."""
    config: ModelConfig
    """The model that it is tested in, every option written out."""
    label: str
    """What it is called in tables and test names."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How it is trained, where the component is an optimiser or a rate schedule."""
    sampler: Component | None = None
    """The component itself, where it is a sampler."""
    space: str = ""
    """By what name the sampler's space is known to the checks."""

    def __str__(self) -> str:
        return self.label


def expect(kept: object, why: str) -> None:
    """Raise the reason where something is not kept."""
    if not kept:
        raise Broken(why)


def warm_model(case: Case, dtype: torch.dtype = torch.float64) -> Decoder:
    """After two training steps' worth of observations, in evaluation mode.

    Buffers that move between steps have left their initial values then. What is observed is the
    lower half of the vocabulary, and checks use the upper one: in a first layer a cut-off may
    equal the score of a token that was observed, and a tie falls either way.
    """
    model = Decoder(case.config).to(dtype).train()
    with torch.no_grad():
        for step in range(2):
            tokens_BT = draw_tokens(case) - case.config.vocab_size // 2
            model.loss(tokens_BT, tokens_BT, step)
            model.end_step()
    return model.eval()


def draw_tokens(case: Case, num_sequences: int = B, num_positions: int = T) -> Tensor:
    """Of the upper half of the vocabulary (B, T)."""
    half = case.config.vocab_size // 2
    return torch.randint(half, 2 * half, (num_sequences, num_positions))


def changed_tokens(case: Case, tokens: Tensor) -> Tensor:
    """Every token another one."""
    half = case.config.vocab_size // 2
    return half + (tokens - half + torch.randint_like(tokens, 1, half)) % half


def draw_rows(case: Case, num_positions: int = T, num_sequences: int = 5) -> Tensor:
    """Of a residual stream (B, T, D)."""
    return torch.randn(num_sequences, num_positions, case.config.width, dtype=torch.float64)


def real_positions(*lengths: int) -> Tensor:
    """Which positions are real (B, T)."""
    return torch.arange(T) < torch.tensor(lengths)[:, None]


def context_of(mode: Mode, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Context:
    """Of rows that are the whole of their sequences, in the first layer."""
    num_sequences, num_positions = x_BTD.shape[:2]
    positions_BT = torch.arange(num_positions, device=x_BTD.device).expand(num_sequences, -1)
    return Context(mode, 0, positions_BT, valid_BT, 0)


def routers_of(model: Decoder) -> list[Router]:
    """One for each routed layer, in order."""
    return [module for module in model.modules() if isinstance(module, Router)]


def update_option(case: Case) -> object:
    """How a routed block adds: some ways carry x itself."""
    return case.config.block.options.get("update", "delta")


def backward(loss: Tensor, trace: Trace, share: float = 1.0) -> None:
    """Of a share of the loss and the auxiliary loss."""
    total = loss if trace.aux is None else loss + trace.aux
    (share * total).backward()  # type: ignore[no-untyped-call]  # untyped in torch


@dataclass(frozen=True)
class Seen:
    """Logits, and for each layer which tokens entered its routed part (B, T)."""

    logits_BTV: Tensor
    chosen: Sequence[Tensor | None]

    def part(self, rows: slice, positions: slice) -> "Seen":
        """Some sequences and positions."""
        chosen = [None if c is None else c[rows, positions] for c in self.chosen]
        return Seen(self.logits_BTV[rows, positions], chosen)


def seen_by(
    model: Decoder,
    tokens_BT: Tensor,
    mode: Mode = "causal",
    seed: int = 0,
    valid_BT: Tensor | None = None,
) -> Seen:
    """What a model makes of tokens."""
    with torch.no_grad():
        output: Output = model(tokens_BT, mode, seed, valid_BT)
    return Seen(output.logits_BTV, output.chosen)


def expect_same(left: Seen, right: Seen, what: str, real_BT: Tensor | None = None) -> None:
    """The same decisions and logits, where `real_BT` says so."""
    if real_BT is None:
        real_BT = torch.ones(left.logits_BTV.shape[:2], dtype=torch.bool)
    for layer, (mine, other) in enumerate(zip(left.chosen, right.chosen, strict=True)):
        if mine is None or other is None:
            expect(mine is other, f"{what}: layer {layer} is routed in one pass only")
            continue
        flips = ((mine != other) & real_BT).nonzero().tolist()
        expect(not flips, f"{what}: layer {layer} decides otherwise at {places(flips)}")
    gap_BT = (left.logits_BTV - right.logits_BTV).abs().amax(dim=-1)
    wrong = ((gap_BT > BAR) & real_BT).nonzero().tolist()
    expect(not wrong, f"{what}: logits differ by {gap_BT[real_BT].max():.1e} at {places(wrong)}")


def places(pairs: list[list[int]]) -> str:
    """The first of some (sequence, position) pairs."""
    if not pairs:
        return ""
    sequence, position = pairs[0]
    more = f" and {len(pairs) - 1} more" if len(pairs) > 1 else ""
    return f"sequence {sequence}, position {position}{more}"
