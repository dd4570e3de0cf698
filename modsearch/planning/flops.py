"""The FLOP ledger of one configuration."""

from dataclasses import asdict

from modsearch.config.base import Frozen
from modsearch.config.records import Candidate
from modsearch.nn.cost import conventions
from modsearch.nn.model import Decoder
from modsearch.nn.shapes import shapes_alone
from modsearch.training.weights import update_flops

HEAD_WARNING = 0.25


class PartFlops(Frozen):
    """FLOPs per token of one part of a model."""

    forward: float
    backward: float
    share_of_forward: float
    """Of the model's forward FLOPs."""


class FlopLedger(Frozen):
    """FLOPs of a configuration, per token at its training sequence length but where it says so."""

    params: int
    active_params: int
    """Parameters that a token meets when no block skips it."""
    embedding_params: int
    routed_layers: list[int]
    parts: dict[str, PartFlops]
    forward: float
    training: float
    """Forward and backward."""
    training_step: int
    """FLOPs of one step, over its whole batch, and its update."""
    update: int = 0
    """Of them the optimiser's own matrix products."""
    conventions: dict[str, float]
    """Training FLOPs per token as other papers count them."""

    @property
    def warning(self) -> str | None:
        """What makes this configuration a poor place to look for savings."""
        return head_warning(self.parts["head"].share_of_forward)


def ledger(candidate: Candidate) -> FlopLedger:
    """FLOPs of one configuration by part, per token at the training sequence length."""
    config = candidate.model
    with shapes_alone():
        model = Decoder(config)
    cost = model.cost(config.seq_len)
    params = model.num_params
    tokens_per_step = candidate.optim.batch_size * config.seq_len
    update = update_flops(model, candidate.optim)
    embedding = config.vocab_size * config.width * (1 if config.tied else 2)
    forward, backward = asdict(cost.forward), asdict(cost.backward)
    parts = {
        part: PartFlops(
            forward=flops / config.seq_len,
            backward=backward[part] / config.seq_len,
            share_of_forward=flops / cost.forward.total,
        )
        for part, flops in forward.items()
    }
    return FlopLedger(
        params=params,
        active_params=model.active_params,
        embedding_params=embedding,
        routed_layers=model.routed_layers,
        parts=parts,
        forward=cost.forward.total / config.seq_len,
        training=cost.training.total / config.seq_len,
        training_step=cost.training.total * candidate.optim.batch_size + update,
        update=update,
        conventions=conventions(cost, config.seq_len, params, embedding, update / tokens_per_step),
    )


def head_warning(share: float) -> str | None:
    """A warning where the LM head has too large a share of the forward FLOPs."""
    if share <= HEAD_WARNING:
        return None
    return (
        f"the LM head is {share:.0%} of the forward FLOPs of a size: routing saves nothing there"
    )
