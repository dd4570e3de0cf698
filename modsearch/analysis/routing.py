"""How a model routes: decisions, router weights, calibration, and what they go with.

Arrays in, a `RoutingReport` out. The figures are those of Raposo et al. 2024 (arXiv 2404.02258,
figures 1, 5 and 6); beside accuracy stands what says more at a small capacity: skipping every
token is right in 87.5 % of the cases at 12.5 %.

Shapes: L layers with decisions, W windows, T positions, N = W * T tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from modsearch.config.telemetry import (
    Correlation,
    LayerDecisions,
    LayerRouting,
    Membership,
    Overlap,
    Reliability,
    RoutingReport,
    RoutingSample,
    TokenRouting,
    TokenShare,
)

POSITION_BINS = 32
WEIGHT_BINS = 20
CALIBRATION_BINS = 15
SAMPLE_POSITIONS = 64
MIN_SEEN = 20
LISTED_TOKENS = 10
MIN_WINDOWS = 3
LEVEL = 0.95

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Observed:
    """A validation sample in both modes.

    Sequences have one entry for each layer: None where it is not routed, or has no such value.
    """

    tokens_WT: Ints
    """What the model reads."""
    vocab_size: int
    capacities: Sequence[float | None]
    realised: Sequence[Floats | None]
    """Causal share in every window."""
    causal: Sequence[Bools | None]
    """Tokens that causal mode takes."""
    train: Sequence[Bools | None]
    """Tokens that training's rule takes, on the hidden states of its own pass."""
    scores: Sequence[Floats | None]
    """What the tokens of that pass are ranked by."""
    membership: Sequence[Floats | None]
    """Log-odds of being taken, as the causal rule sees the tokens of that pass."""
    loss_WT: Floats
    """Of the prediction at each position, in causal mode."""
    entropy_WT: Floats


def summarise(seen: Observed) -> RoutingReport:
    """The routing of a sample."""
    layers = []
    for layer, capacity in enumerate(seen.capacities):
        realised_W = seen.realised[layer]
        if capacity is not None and realised_W is not None:
            several = len(realised_W) > 1
            found = LayerRouting(
                layer=layer,
                capacity=capacity,
                realised=float(np.mean(realised_W)),
                realised_sd=float(np.std(realised_W, ddof=1)) if several else None,
                decisions=_decisions(seen, layer),
            )
            layers.append(found)
    routers = [layer.layer for layer in layers if layer.decisions is not None]
    return RoutingReport(
        windows=len(seen.tokens_WT),
        positions=seen.tokens_WT.shape[1],
        vocab_size=seen.vocab_size,
        depth=len(seen.capacities),
        layers=layers,
        membership=_membership(seen, routers),
        tokens=_tokens(seen, routers) if routers else None,
        sample=_sample(seen) if routers else None,
    )


def _decisions(seen: Observed, layer: int) -> LayerDecisions | None:
    causal_WT, train_WT = seen.causal[layer], seen.train[layer]
    if causal_WT is None or train_WT is None:
        return None
    scores_WT = seen.scores[layer]
    return LayerDecisions(
        causal_shares=position_shares(causal_WT),
        train_shares=position_shares(train_WT),
        flip_rate=float(np.mean(causal_WT != train_WT)),
        weights=None if scores_WT is None else weight_counts(scores_WT),
        weights_above_half=None if scores_WT is None else float(np.mean(scores_WT > 0)),
        membership=_membership(seen, [layer]),
    )


def _membership(seen: Observed, layers: Sequence[int]) -> Membership | None:
    """Over several layers at once; None where both modes have the same rule."""
    pairs = [
        (log_odds.ravel(), chosen.ravel())
        for log_odds, chosen in ((seen.membership[layer], seen.train[layer]) for layer in layers)
        if log_odds is not None and chosen is not None
    ]
    if not pairs:
        return None
    return membership(
        np.concatenate([log_odds for log_odds, _ in pairs]),
        np.concatenate([chosen for _, chosen in pairs]),
    )


def position_shares(chosen_WT: Bools) -> list[float]:
    """Share of tokens chosen, by position: 32 bins, or one a position where there are fewer."""
    num_positions = chosen_WT.shape[1]
    bins = min(POSITION_BINS, num_positions)
    edges = np.arange(bins) * num_positions // bins
    widths = np.diff(np.append(edges, num_positions))
    counts = np.add.reduceat(chosen_WT.sum(axis=0), edges)
    return [float(share) for share in counts / (widths * len(chosen_WT))]


def weight_counts(scores: Floats) -> list[int]:
    """Router weights, sigmoid(score), in equal bins; a weight of exactly 0.5 lies below it, as
    the causal rule leaves it out."""
    inner = special.logit(np.arange(1, WEIGHT_BINS) / WEIGHT_BINS)
    # Sorting once and cutting at the edges is faster than a sigmoid of every score.
    cuts = np.searchsorted(np.sort(scores, axis=None), inner.astype(scores.dtype), side="right")
    return [int(count) for count in np.diff(cuts, prepend=0, append=scores.size)]


def membership(log_odds_N: Floats, chosen_N: Bools) -> Membership:
    """The decision log-odds > 0 against the truth, and the calibration of sigmoid(log-odds)."""
    said_N = log_odds_N > 0
    num_tokens = chosen_N.size
    hits = int(np.count_nonzero(said_N & chosen_N))
    said, chosen = int(np.count_nonzero(said_N)), int(np.count_nonzero(chosen_N))
    chance_N = special.expit(log_odds_N)
    bin_N = np.minimum((chance_N * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    counts = np.bincount(bin_N, minlength=CALIBRATION_BINS)
    predicted = np.bincount(bin_N, chance_N, CALIBRATION_BINS)
    taken = np.bincount(bin_N[chosen_N], minlength=CALIBRATION_BINS)
    return Membership(
        tokens=num_tokens,
        accuracy=(num_tokens - said - chosen + 2 * hits) / num_tokens,
        always_skip=1 - chosen / num_tokens,
        precision=hits / said if said else None,
        recall=hits / chosen if chosen else None,
        f1=2 * hits / (said + chosen) if said + chosen else None,
        calibration_error=float(np.abs(predicted - taken).sum() / num_tokens),
        bins=[
            Reliability(
                tokens=int(counts[i]),
                predicted=float(predicted[i] / counts[i]),
                chosen=float(taken[i] / counts[i]),
            )
            for i in np.flatnonzero(counts)
        ],
    )


def _tokens(seen: Observed, layers: Sequence[int]) -> TokenRouting:
    found = (seen.causal[layer] for layer in layers)
    chosen_LWT = np.stack([chosen for chosen in found if chosen is not None])
    blocks_WT = chosen_LWT.sum(axis=0)
    shares = token_shares(seen.tokens_WT, blocks_WT, len(layers), seen.vocab_size)
    ranked = sorted(shares, key=lambda each: (-each.share, -each.seen, each.token))
    most = ranked[:LISTED_TOKENS]
    # The same order from the other end, and among equals again the frequent first.
    rest = sorted(ranked[LISTED_TOKENS:], key=lambda each: (each.share, -each.seen, each.token))
    return TokenRouting(
        no_block=float(np.mean(blocks_WT == 0)),
        every_block=float(np.mean(blocks_WT == len(layers))),
        min_seen=MIN_SEEN,
        known=len(shares),
        dead=_share([each.share == 0 for each in shares]),
        always=_share([each.share == 1 for each in shares]),
        most=most,
        least=rest[:LISTED_TOKENS],
        overlaps=overlaps(layers, chosen_LWT),
        with_loss=correlation(blocks_WT, seen.loss_WT),
        with_entropy=correlation(blocks_WT, seen.entropy_WT),
    )


def _share(true: Sequence[bool]) -> float | None:
    return sum(true) / len(true) if true else None


def token_shares(
    tokens_WT: Ints, blocks_WT: Ints, num_layers: int, vocab_size: int
) -> list[TokenShare]:
    """How often each vocabulary id is taken, for those seen often enough to say so."""
    tokens_N = tokens_WT.ravel()
    seen_V = np.bincount(tokens_N, minlength=vocab_size)
    taken_V = np.bincount(tokens_N, blocks_WT.ravel(), vocab_size)
    return [
        TokenShare(
            token=int(token),
            seen=int(seen_V[token]),
            share=float(taken_V[token] / (num_layers * seen_V[token])),
        )
        for token in np.flatnonzero(seen_V >= MIN_SEEN)
    ]


def overlaps(layers: Sequence[int], chosen_LWT: Bools) -> list[Overlap]:
    """Jaccard's index of every pair of layers, and p q / (p + q - p q) of their shares p, q."""
    flat_LN = chosen_LWT.reshape(len(layers), -1).astype(np.float32)
    # Exact up to 2^24 tokens, and within 1e-7 beyond.
    both_LL = (flat_LN @ flat_LN.T).astype(np.float64)
    counts_L = chosen_LWT.sum(axis=(1, 2)).astype(np.float64)
    p_L = counts_L / flat_LN.shape[1]
    found = []
    for i in range(len(layers)):
        for j in range(i + 1, len(layers)):
            either = counts_L[i] + counts_L[j] - both_LL[i, j]
            by_chance = p_L[i] * p_L[j]
            found.append(
                Overlap(
                    layers=(layers[i], layers[j]),
                    jaccard=float(both_LL[i, j] / either) if either else None,
                    independent=float(by_chance / (p_L[i] + p_L[j] - by_chance))
                    if either
                    else None,
                )
            )
    return found


def correlation(x_WT: Ints, y_WT: Floats) -> Correlation:
    """Of counts x with values y, raw and after controlling for position.

    Loss falls along a window, and so may the use of blocks: the partial correlation is that of
    the residuals from the means at each position. Its interval is a jackknife over windows on
    Fisher's z scale, exact without a second pass: sums at a position less those of one window.
    """
    counts_WT = x_WT.astype(np.float64)
    values_WT = y_WT - y_WT.mean(dtype=np.float64)
    num_windows = len(counts_WT)
    moments = _moments(counts_WT, values_WT)
    totals = [each_WT.sum(keepdims=True).ravel() for each_WT in (counts_WT, values_WT)]
    raw = _pearson(*_within(totals[0], totals[1], *moments, counts_WT.size))
    at_positions = counts_WT.sum(0), values_WT.sum(0)
    partial = _pearson(*_within(*at_positions, *moments, num_windows))
    se = None
    if partial is not None and num_windows >= MIN_WINDOWS:
        se = _jackknife_se(counts_WT, values_WT)
    low, high = (None, None)
    if partial is not None and se is not None:
        half = quantile(num_windows - 1) * se
        low, high = (math.tanh(fisher_z(partial) + sign * half) for sign in (-1, 1))
    return Correlation(raw=raw, partial=partial, low=low, high=high, se=se)


def _jackknife_se(x_WT: Floats, y_WT: Floats) -> float | None:
    """Of Fisher's z of the partial correlation; None where a window carries all variation."""
    num_windows = len(x_WT)
    xx, xy, yy = _moments(x_WT, y_WT)
    left_out = [
        _pearson(*parts)
        for parts in zip(
            *_within(
                x_WT.sum(0) - x_WT,
                y_WT.sum(0) - y_WT,
                xx - (x_WT * x_WT).sum(1),
                xy - (x_WT * y_WT).sum(1),
                yy - (y_WT * y_WT).sum(1),
                num_windows - 1,
            ),
            strict=True,
        )
    ]
    known = [fisher_z(value) for value in left_out if value is not None]
    if len(known) < num_windows:
        return None
    spread = float(np.var(known))
    return math.sqrt((num_windows - 1) * spread)


def _moments(x_WT: Floats, y_WT: Floats) -> tuple[float, float, float]:
    return (
        float((x_WT * x_WT).sum()),
        float((x_WT * y_WT).sum()),
        float((y_WT * y_WT).sum()),
    )


def _within(
    x_T: Floats, y_T: Floats, xx: Floats | float, xy: Floats | float, yy: Floats | float, num: int
) -> tuple[Any, Any, Any]:
    """Sums of squares and products about the means at each position, from sums over `num`
    windows; one number each, or one for each row of the sums."""
    return (
        xx - (x_T * x_T).sum(-1) / num,
        xy - (x_T * y_T).sum(-1) / num,
        yy - (y_T * y_T).sum(-1) / num,
    )


def _pearson(xx: float, xy: float, yy: float) -> float | None:
    """None where rounding is all that varies."""
    if xx <= 1e-9 or yy <= 1e-9:
        return None
    return max(-1.0, min(1.0, float(xy / math.sqrt(xx * yy))))


def fisher_z(value: float) -> float:
    """Inverse hyperbolic tangent, finite for a perfect correlation too."""
    return math.atanh(max(-1 + 1e-12, min(1 - 1e-12, value)))


def quantile(freedom: float) -> float:
    """Of Student's t, for a two-sided 95 % interval."""
    return float(special.stdtrit(freedom, 0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Combined:
    """A partial correlation over several seeds."""

    partial: float
    low: float | None
    high: float | None


def combined(found: Sequence[Correlation], num_windows: int) -> Combined | None:
    """Mean over seeds on Fisher's z scale, with a 95 % interval; None where no seed has one.

    All seeds are scored on the same windows, so more seeds do not average the windows' error
    away: it enters whole, as the mean of the seeds' own, beside that of the mean over seeds.
    Degrees of freedom after Satterthwaite.
    """
    partials = [each.partial for each in found if each.partial is not None]
    if not partials:
        return None
    z = [fisher_z(value) for value in partials]
    mean = fmean(z)
    errors = [each.se for each in found if each.se is not None]
    if len(errors) < len(z) or num_windows < MIN_WINDOWS:
        return Combined(math.tanh(mean), None, None)
    parts = [(fmean(errors) ** 2, num_windows - 1)]
    if len(z) > 1:
        parts.append((variance(z) / len(z), len(z) - 1))
    total = sum(part for part, _ in parts)
    if total == 0:
        return Combined(math.tanh(mean), None, None)
    freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
    half = quantile(freedom) * math.sqrt(total)
    return Combined(math.tanh(mean), math.tanh(mean - half), math.tanh(mean + half))


def _sample(seen: Observed) -> RoutingSample:
    num = min(SAMPLE_POSITIONS, seen.tokens_WT.shape[1])

    def of(layers: Sequence[Bools | None]) -> list[list[bool]]:
        return [
            [True] * num if chosen_WT is None else [bool(each) for each in chosen_WT[0, :num]]
            for chosen_WT in layers
        ]

    return RoutingSample(
        tokens=[int(token) for token in seen.tokens_WT[0, :num]],
        causal=of(seen.causal),
        train=of(seen.train),
    )
