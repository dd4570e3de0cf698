"""The loss of an LM head in turns: the plain one's value, gradients and FLOPs, in less memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from modsearch.nn import losses
from modsearch.nn.losses import head_loss

TOKENS, WIDTH, VOCAB = 37, 8, 101


def parts(
    device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(TOKENS, WIDTH, generator=generator)
    head_VD = torch.randn(VOCAB, WIDTH, generator=generator)
    targets_N = torch.randint(VOCAB, (TOKENS,), generator=generator)
    return (
        x_ND.to(device).requires_grad_(),
        head_VD.to(device).requires_grad_(),
        targets_N.to(device),
    )


def plain(x_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x_ND, head_VD).float(), targets_N)


def found(loss: Callable[..., Tensor], *, autocast: bool = False) -> list[Tensor]:
    x_ND, head_VD, targets_N = parts()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(x_ND, head_VD, targets_N)
    (3 * value).backward()
    assert x_ND.grad is not None
    assert head_VD.grad is not None
    return [value.detach(), x_ND.grad, head_VD.grad]


@pytest.fixture(params=[1, 7, 36], ids=lambda rows: f"{rows} rows at once")
def in_turns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(losses.LOGITS_AT_ONCE, "cpu", request.param * VOCAB)
    return int(request.param)


def test_loss_and_gradients_are_those_of_all_logits_at_once(in_turns: int) -> None:
    for ours, theirs in zip(found(head_loss), found(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_in_bf16_the_loss_is_that_of_bf16_logits(in_turns: int) -> None:
    ours, theirs = found(head_loss, autocast=True), found(plain, autocast=True)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert ours[0].dtype == torch.float32
    for our, their in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(our, their, rtol=0.03, atol=0.003)


def test_what_is_frozen_gets_no_gradient(in_turns: int) -> None:
    x_ND, head_VD, targets_N = parts()
    head_loss(x_ND, head_VD.detach(), targets_N).backward()
    assert x_ND.grad is not None
    with torch.no_grad():
        value = head_loss(x_ND, head_VD, targets_N)
    torch.testing.assert_close(value, plain(x_ND, head_VD, targets_N).detach())


def test_nothing_is_computed_twice(in_turns: int) -> None:
    counts = []
    for loss in (head_loss, plain):
        with FlopCounterMode(display=False) as counter:
            loss(*parts("meta")).backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 2 * TOKENS * WIDTH * VOCAB


class _Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, Tensor):
                self.size = max(self.size, each.numel())
        return out


def test_no_tensor_has_more_than_the_logits_of_a_turn(in_turns: int) -> None:
    with _Largest() as largest:
        head_loss(*parts()).backward()
    assert largest.size <= max(in_turns * VOCAB, VOCAB * WIDTH)
    with _Largest() as of_plain:
        plain(*parts()).backward()
    assert of_plain.size == TOKENS * VOCAB


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by torch
def test_compiled_it_is_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.LOGITS_AT_ONCE, "cpu", 7 * VOCAB)
    compiled = torch.compile(head_loss, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(found(compiled), found(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
