"""A model on several ranks: replicated (DDP) or sharded (FSDP2), and its tensors as a whole.

Either way gradients are means over the ranks, of which each has as many sequences. What else is
of the whole step, such as the load in a balancing loss, is the business of `nn.passes`.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from modsearch.config.runtime import Runtime
from modsearch.errors import ConfigError
from modsearch.nn.model import Decoder, Trace
from modsearch.nn.passes import Passes
from modsearch.nn.ranks import Ranks
from modsearch.training.compilation import CompiledLoss, Loss

SAME = 1e-6
"""Relative difference of a buffer from its mean over the ranks that rounding explains."""

Found = tuple[Tensor, Tensor, Trace]
"""What a pass makes small, its loss alone, and what its layers said."""


class Objective(nn.Module):
    """Loss and auxiliary losses of a pass. A module, since that is what DDP wraps, and one without
    buffers, since nobody's are sent to the others: all ranks move theirs alike."""

    def __init__(self, model: Decoder, runtime: Runtime) -> None:
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())
        self._loss: Loss = CompiledLoss(model) if runtime.compile else model.loss

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor, seed: int, passes: Passes | None
    ) -> Found:
        """The mean over a pass."""
        loss, trace = self._loss(tokens_BT, targets_BT, seed, passes)
        aux = trace.aux
        return loss if aux is None else loss + aux, loss.detach(), trace


class Spread:
    """The objective of a model on the ranks of a group: gradients are those of all of them."""

    def __init__(self, model: Decoder, runtime: Runtime, ranks: Ranks) -> None:
        model.set_ranks(ranks)
        sharded = ranks.group is not None and runtime.parallel == "fsdp"
        if sharded:
            _shard(model, ranks)
        self.alone = Objective(model, runtime)
        self._replicated: DistributedDataParallel | None = None
        if ranks.group is not None and not sharded:
            self._replicated = DistributedDataParallel(
                self.alone,
                process_group=ranks.group,
                gradient_as_bucket_view=True,
                # What no loss reaches has no gradient in a process of its own, either.
                find_unused_parameters=True,
            )

    def __call__(
        self, tokens_BT: Tensor, targets_BT: Tensor, seed: int, passes: Passes | None
    ) -> Found:
        """Of a pass on this rank's sequences."""
        module = self._replicated
        if module is None or not torch.is_grad_enabled():
            return cast(Found, self.alone(tokens_BT, targets_BT, seed, passes))
        return cast(Found, module(tokens_BT, targets_BT, seed, passes))

    def exchange(self, last: bool) -> AbstractContextManager[None]:
        """Around a pass and its gradients: replicas exchange those of a step's passes together,
        with the last one. Shards do so after each pass, since they have no room for them."""
        if last or self._replicated is None:
            return nullcontext()
        return cast(AbstractContextManager[None], self._replicated.no_sync())


def _shard(model: Decoder, ranks: Ranks) -> None:
    """Parameters, gradients and moments in as many parts as there are ranks; a block's weights
    are whole while it computes."""
    assert ranks.group is not None
    mesh = DeviceMesh.from_group(ranks.group, model.device.type)
    for block in model.stack():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "loss")


def clip(parameters: Sequence[Tensor], most: float) -> Tensor:
    """Scale gradients down to a norm over all of them, wherever they lie; the norm before."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = whole(norm)
    torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return norm


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts of all ranks, which all ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Whole tensors on the first rank, in the memory of its processor where they were in parts;
    nothing on the others."""
    found = {}
    for name, tensor in tensors.items():
        one = whole(tensor.detach())
        if ranks.is_first:
            found[name] = one.cpu() if isinstance(tensor, DTensor) else one
    return found


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, in parts where `like` is in parts."""
    if isinstance(like, DTensor) and tensor.shape == like.shape:
        moved = tensor.to(like.device)
        return distribute_tensor(moved, like.device_mesh, like.placements)
    return tensor


def check_buffers(model: Decoder, ranks: Ranks) -> None:
    """Buffers must have moved alike on all ranks.

    Raises:
        ConfigError: a component has moved one by what its own rank has seen.
    """
    if ranks.group is None:
        return
    own = {name: b.double() for name, b in model.named_buffers() if b.numel()}
    for (name, mine), total in zip(own.items(), ranks.sums(list(own.values())), strict=True):
        if not torch.allclose(total / ranks.count, mine, rtol=SAME, atol=SAME, equal_nan=True):
            raise ConfigError(
                f"buffer {name} is not the same on all ranks\nits component must move it by the "
                f"whole step: self.ranks.sum(...) of what end_step() goes by"
            )
