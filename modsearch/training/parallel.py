"""A model on several ranks: replicated (DDP), or in parts (FSDP2). Loaded by ranks alone: it takes
a second."""

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from modsearch.config.runtime import Parallel
from modsearch.errors import ConfigError
from modsearch.nn.model import Decoder
from modsearch.nn.passes import Passes
from modsearch.nn.ranks import Ranks
from modsearch.training.spread import Found, Loss, Objective, Spread


def spread_of(parallel: Parallel, ranks: Ranks) -> Spread:
    """The way that a runtime names."""
    return Shards(ranks) if parallel == "fsdp" else Replicas(ranks)


class Replicas(Spread):
    """All of the model on each rank; gradients are exchanged while they are found."""

    def take(self, model: Decoder) -> None:
        """As it is."""

    def objective(self, model: Decoder, loss: Loss) -> nn.Module:
        """Through DDP, where there are gradients."""
        self._objective = _Exchanged(Objective(model, loss), self.ranks)
        return self._objective

    def exchange(self, last: bool) -> AbstractContextManager[None]:
        """Gradients of a step's passes go together, with the last one."""
        if last:
            return nullcontext()
        return cast(AbstractContextManager[None], self._objective.replicated.no_sync())


class _Exchanged(nn.Module):
    """An objective through DDP; as it is where no gradient is wanted."""

    def __init__(self, alone: Objective, ranks: Ranks) -> None:
        super().__init__()
        self.alone = alone
        self.replicated = DistributedDataParallel(
            alone,
            process_group=ranks.group,
            gradient_as_bucket_view=True,
            # What no loss reaches has no gradient in a process of its own, either.
            find_unused_parameters=True,
        )

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor, seed: int, passes: Passes | None
    ) -> Found:
        module = self.replicated if torch.is_grad_enabled() else self.alone
        return cast(Found, module(tokens_BT, targets_BT, seed, passes))


class Shards(Spread):
    """Parameters, gradients and moments in as many parts as there are ranks; a block's weights are
    whole while it computes. Gradients of each pass are exchanged, since there is no room for whole
    ones. Weights travel in fp32: autocast makes what it needs of them, as it does in a process of
    its own."""

    compiles = False
    """What is exchanged around a block would break the compiler's one graph."""

    def take(self, model: Decoder) -> None:
        """Cut up its blocks, and what is around them."""
        assert self.ranks.group is not None
        mesh = DeviceMesh.from_group(self.ranks.group, model.device.type)
        for block in model.stack():
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        register_fsdp_forward_method(model, "loss")

    def checked(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """AdamW steps on each element by itself; others may go by whole matrices.

        Raises:
            ConfigError: it is not AdamW.
        """
        if type(optimizer) is not torch.optim.AdamW:
            raise ConfigError(
                "with parallel: fsdp a matrix lies in parts, and only AdamW steps on parts\n"
                "set optimizer: adamw, or parallel: ddp"
            )
        return optimizer

    def whole(self, tensor: Tensor) -> Tensor:
        """Put together."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def placed(self, tensor: Tensor, like: Tensor) -> Tensor:
        """Cut up as the other is; what is no value for each of its elements stays."""
        if isinstance(like, DTensor) and tensor.shape == like.shape:
            moved = tensor.to(like.device)
            return distribute_tensor(moved, like.device_mesh, like.placements)
        return tensor
