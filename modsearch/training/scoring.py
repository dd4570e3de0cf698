"""Losses of a model on its validation sample, and what its routers decide there.

Shapes: B sequences, W windows, T positions, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from modsearch.analysis.routing import Observed, summarise
from modsearch.config.telemetry import RoutingReport
from modsearch.nn.contracts import Mode, Update
from modsearch.nn.model import Decoder, Trace

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.integer[Any]]
Layers = list[Array | None]
"""One entry a layer; None where it has no such value."""


@dataclass(frozen=True)
class Passed(Trace):
    """A forward pass over windows, whose logits are not kept: they are the most of its memory."""

    losses_BT: Tensor
    entropies_BT: Tensor | None
    """Of predictions, in nats; None where nobody asked."""


class Observer:
    """Collects one sample batch by batch, in both modes; idle for a model without routing."""

    def __init__(self, model: Decoder) -> None:
        self.capacities = model.capacities
        self.vocab_size = model.config.vocab_size
        self._routed = bool(model.routed_layers)
        self._chosen: dict[Mode, list[Layers]] = {"causal": [], "train": []}
        self._scores: list[Layers] = []
        self._membership: list[Layers] = []
        self._realised: list[Layers] = []
        self._losses: list[Array] = []
        self._entropies: list[Array] = []

    def add(self, mode: Mode, passed: Passed) -> None:
        """One batch in one mode; batches come in the same order in both."""
        if not self._routed:
            return
        chosen = [_array(each) for each in passed.chosen]
        self._chosen[mode].append(chosen)
        if mode == "causal":
            assert passed.entropies_BT is not None
            self._losses.append(passed.losses_BT.cpu().numpy())
            self._entropies.append(passed.entropies_BT.cpu().numpy())
            self._realised.append(
                [
                    None if capacity is None else _shares(update, chosen_BT)
                    for capacity, update, chosen_BT in zip(
                        self.capacities, passed.updates, chosen, strict=True
                    )
                ]
            )
        else:
            # Of this mode: here training's own choice on the same hidden states is known.
            routings = [update.routing for update in passed.updates]
            self._scores.append([_array(each.scores_BT if each else None) for each in routings])
            self._membership.append(
                [_array(each.membership_BT if each else None) for each in routings]
            )

    @property
    def realised_capacity(self) -> float | None:
        """Mean share that routed layers take in causal mode; None without any."""
        known = [float(each.mean()) for each in _joined(self._realised) if each is not None]
        return fmean(known) if known else None

    @property
    def agreement(self) -> float | None:
        """Share of decisions on which both modes agree; None where there are no decisions."""
        causal, train = (_joined(self._chosen[mode]) for mode in self._chosen)
        agreed = [
            float((a == b).mean())
            for a, b in zip(causal, train, strict=True)
            if a is not None and b is not None
        ]
        return fmean(agreed) if agreed else None

    def report(self, tokens_WT: npt.NDArray[np.int64]) -> RoutingReport | None:
        """The routing of the whole sample; None for a model without routing."""
        if not self._routed:
            return None
        return summarise(
            Observed(
                tokens_WT=tokens_WT,
                vocab_size=self.vocab_size,
                capacities=self.capacities,
                realised=_joined(self._realised),
                causal=_joined(self._chosen["causal"]),
                train=_joined(self._chosen["train"]),
                scores=_joined(self._scores),
                membership=_joined(self._membership),
                loss_WT=np.concatenate(self._losses),
                entropy_WT=np.concatenate(self._entropies),
            )
        )


def _entropies(logits_NV: Tensor) -> Tensor:
    """Entropy of each prediction (N,) in nats."""
    terms_NV: Tensor = torch.special.entr(logits_NV.float().softmax(-1))
    return terms_NV.sum(-1)


def _array(values_BT: Tensor | None) -> Array | None:
    return None if values_BT is None else values_BT.cpu().numpy()


def _shares(update: Update, chosen_BT: Array | None) -> Array | None:
    """Realised capacity of each sequence: share of tokens, or of visits where experts route."""
    if chosen_BT is not None:
        taken: Array = chosen_BT.mean(axis=1)
        return taken
    load, visits_B = update.statistics.get("load"), update.expert_rows_B
    if load is None or visits_B is None:
        return None
    # The load is the batch's: each sequence has its part of it by its own visits.
    visits: Array = visits_B.cpu().numpy()
    shares: Array = visits * (load.item() / max(visits.mean(), 1e-9))
    return shares


def _joined(batches: list[Layers]) -> Layers:
    """Batches of each layer, as one array."""
    columns = zip(*batches, strict=True)
    return [_together([each for each in column if each is not None]) for column in columns]


def _together(arrays: Sequence[Array]) -> Array | None:
    return np.concatenate(arrays) if arrays else None


SCORING_TOKENS = 4096
"""In a batch, or one window where that has more."""
LOGITS_AT_ONCE = 2**24
"""Of a batch's logits are copied, 64 MiB, by what is found of each token by itself."""
OBSERVED_WINDOWS = 256
"""At most so many windows of a sample tell what routing does: it says little more with more."""
MOST_BLOCKS = 64
"""Shares of a sample whose losses are kept."""


@dataclass(frozen=True)
class Loss:
    """Losses of both modes on one sample, and what causal routing did."""

    causal: float
    """Over all windows."""
    train_mode: float
    """The causal loss and what the other mode adds to it where both are known: in the windows
    that are observed."""
    block_losses: list[float]
    """Mean causal losses of consecutive shares of the windows."""
    realised_capacity: float | None
    realised_forward_flops: float
    agreement: float | None
    routing: RoutingReport | None
    """None without routed layers, and where a loss is not a number."""


@torch.no_grad()
def score(model: Decoder, windows: Integers, device: str) -> Loss:
    """Losses on (windows, seq_len + 1) tokens, in nats per token, in fp32.

    The causal loss is that of every window. What only routing needs, training's mode and what
    the routers decide, is found on at most `OBSERVED_WINDOWS` of them, evenly spaced.

    Never compiled: a trial's windows are too few to pay for it, and in causal mode each routed
    layer breaks the graph, whose rows are counted then (benchmarks/compilation.py).
    """
    model.eval()
    num_windows, num_positions = len(windows), windows.shape[1] - 1
    num_observed = min(num_windows, OBSERVED_WINDOWS)
    observed = np.arange(num_observed) * num_windows // num_observed
    causal_W = np.empty(num_windows)
    observer = Observer(model)
    added, flops = 0.0, 0
    for places in _batches(observed, num_positions):
        tokens_BT = _tokens(windows[places], device)
        passed = scored(model, tokens_BT, "causal", entropies=bool(model.routed_layers))
        causal_W[places] = _means(passed.losses_BT)
        observer.add("causal", passed)
        flops += sum(model.causal_forward(num_positions, rows) for rows in passed.rows)
        passed = scored(model, tokens_BT, "train")
        added += float((_means(passed.losses_BT) - causal_W[places]).sum())
        observer.add("train", passed)
    others = np.setdiff1d(np.arange(num_windows), observed)
    causal_W[others] = causal_losses(model, windows[others], device)
    causal = float(causal_W.mean())
    train_mode = causal + added / num_observed
    finite = math.isfinite(causal + train_mode)
    return Loss(
        causal=causal,
        train_mode=train_mode,
        block_losses=block_means(causal_W),
        realised_capacity=observer.realised_capacity,
        realised_forward_flops=flops / (num_observed * num_positions),
        agreement=observer.agreement,
        routing=observer.report(windows[observed, :-1].astype(np.int64)) if finite else None,
    )


@torch.no_grad()
def causal_losses(model: Decoder, windows: Integers, device: str) -> Array:
    """Mean causal loss of each window (W,), in nats per token; the model is in evaluation."""
    losses_W = np.empty(len(windows))
    for places in _batches(np.arange(len(windows)), windows.shape[1] - 1):
        passed = scored(model, _tokens(windows[places], device), "causal")
        losses_W[places] = _means(passed.losses_BT)
    return losses_W


def block_means(losses_W: Array) -> list[float]:
    """Means of `MOST_BLOCKS` consecutive shares, or of each window where there are fewer; their
    lengths differ by one window at most."""
    shares = np.array_split(losses_W, min(MOST_BLOCKS, len(losses_W)))
    return [float(share.mean()) for share in shares]


def _batches(places: Array, num_positions: int) -> list[Array]:
    size = windows_at_once(num_positions)
    return [places[start : start + size] for start in range(0, len(places), size)]


def windows_at_once(num_positions: int) -> int:
    """Windows of a batch."""
    return max(1, SCORING_TOKENS // num_positions)


def _tokens(windows: Integers, device: str) -> Tensor:
    return torch.from_numpy(windows).to(device).long()


def scored(model: Decoder, tokens_BT: Tensor, mode: Mode, *, entropies: bool = False) -> Passed:
    """The loss at each position but the last of windows, and the entropies if they are wanted."""
    output = model(tokens_BT[:, :-1], mode)
    logits_NV, targets_N = output.logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten()
    losses, found = [], []
    rows = max(1, LOGITS_AT_ONCE // logits_NV.shape[1])
    for some_MV, of_M in zip(
        torch.split(logits_NV, rows), torch.split(targets_N, rows), strict=True
    ):
        losses.append(F.cross_entropy(some_MV.float(), of_M, reduction="none"))
        if entropies:
            found.append(_entropies(some_MV))
    return Passed(
        output.shape,
        output.updates,
        torch.cat(losses).view(output.shape),
        torch.cat(found).view(output.shape) if entropies else None,
    )


def _means(losses_BT: Tensor) -> Array:
    """Of each window, in double precision."""
    means: Array = losses_BT.double().mean(dim=1).cpu().numpy()
    return means
