"""From a candidate and a budget to a plan, or to the reason why there is none.

Everything is known before anything is trained: the model is built on the meta device.
"""

from modsearch.analysis.numbers import counted
from modsearch.config.records import Budget, Candidate, Infeasible, Plan
from modsearch.errors import ConfigError
from modsearch.nn.cost import conventions
from modsearch.nn.model import Decoder, routes, warmed_stair
from modsearch.nn.shapes import shapes_alone
from modsearch.training.weights import update_flops

TOLERANCE = 0.01
"""Largest relative distance of the achieved FLOPs from the budget."""


def plan(
    candidate: Candidate, budget: Budget, train_tokens: int, vocab_size: int = 256
) -> Plan | Infeasible:
    """Steps that come nearest to the budget: round(budget / training FLOPs per step).

    Args:
        candidate: what to train; component options must be complete.
        budget: training FLOPs, forward and backward.
        train_tokens: tokens of the corpus's train part.
        vocab_size: tokens that its tokenizer has.
    """
    config, optim = candidate.model, candidate.optim
    try:
        with shapes_alone():
            model = Decoder(config)
    except ConfigError as error:
        return Infeasible(reason=" ".join(str(error).splitlines()))
    if routes(model.config) and not model.routed_layers:
        return Infeasible(
            reason=f"no layer is routed: depth {config.depth}, every {config.every}, "
            f"schedule `{config.schedule.name}`: a larger depth or a smaller every routes some"
        )
    if config.vocab_size < vocab_size:
        return Infeasible(
            reason=f"vocab_size {config.vocab_size} is less than the {vocab_size} tokens of the "
            f"tokenizer"
        )
    cost = model.cost(config.seq_len)
    update = update_flops(model, optim)
    flops_per_step = optim.batch_size * cost.training.total + update
    steps = round(budget.flops / flops_per_step)
    achieved = steps * flops_per_step
    if model.schedule.warmup and model.routed_layers:
        steps, achieved = _warmed_steps(model, candidate, budget, update)
    tokens_per_step = optim.batch_size * config.seq_len
    epochs = steps * tokens_per_step / train_tokens
    if steps < optim.min_steps:
        return Infeasible(
            reason=f"{counted(steps, 'step')} at {budget.flops:.3g} FLOPs, fewer than "
            f"min_steps = {optim.min_steps}: a larger budget, a smaller size or a smaller "
            f"batch_size gives more"
        )
    if abs(achieved - budget.flops) > TOLERANCE * budget.flops:
        return Infeasible(
            reason=f"{counted(steps, 'step')} make {achieved:.4g} FLOPs, over 1 % from "
            f"{budget.flops:.4g}: a larger budget or a smaller batch_size comes nearer"
        )
    if epochs > optim.max_epochs:
        return Infeasible(
            reason=f"{epochs:.1f} epochs of {train_tokens:,} tokens, over "
            f"max_epochs = {optim.max_epochs:g}: more text, a larger size or a smaller budget "
            f"takes fewer"
        )
    params = model.num_params
    embedding = config.vocab_size * config.width * (1 if config.tied else 2)
    return Plan(
        steps=steps,
        tokens=steps * tokens_per_step,
        epochs=epochs,
        flops_per_step=flops_per_step,
        flops=achieved,
        forward_flops=cost.forward.total / config.seq_len,
        params=params,
        active_params=model.active_params,
        embedding_params=embedding,
        routed=bool(model.routed_layers),
        head_share=cost.forward.head / cost.forward.total,
        conventions=conventions(cost, config.seq_len, params, embedding, update / tokens_per_step),
        seconds=_guess_seconds(candidate, steps, flops_per_step),
    )


def _warmed_steps(
    model: Decoder, candidate: Candidate, budget: Budget, update: int
) -> tuple[int, int]:
    """Steps and FLOPs of a schedule whose capacities fall, so that steps cost differently."""
    costs: dict[float, int] = {}

    def flops(steps: int) -> int:
        stairs = stair_counts(model.schedule.warmup, steps)
        for stair in stairs.keys() - costs.keys():
            model.set_progress(model.schedule.warmup * stair)
            cost = model.cost(candidate.model.seq_len).training.total
            costs[stair] = candidate.optim.batch_size * cost + update
        model.set_progress(1.0)
        return sum(count * costs[stair] for stair, count in stairs.items())

    high = 1
    while flops(high) < budget.flops:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if flops(middle) < budget.flops else (low, middle)
    steps = min((max(low, 1), high), key=lambda steps: abs(flops(steps) - budget.flops))
    return steps, flops(steps)


def stair_counts(warmup: float, steps: int) -> dict[float, int]:
    """How many of so many steps stand on each stair of a warm-up, without visiting them all.

    Stairs only rise, so each one's steps end where a bisection says.
    """
    counts: dict[float, int] = {}
    first = 0
    while first < steps:
        stair = warmed_stair(warmup, first / steps)
        last, beyond = first, steps
        while beyond - last > 1:
            middle = (last + beyond) // 2
            if warmed_stair(warmup, middle / steps) == stair:
                last = middle
            else:
                beyond = middle
        counts[stair] = beyond - first
        first = beyond
    return counts


def _guess_seconds(candidate: Candidate, steps: int, flops_per_step: int) -> float:
    """Fixed time a layer plus time a FLOP, as seen on one CPU core; only its order matters."""
    return steps * (1.5e-3 * candidate.model.depth + 2e-3 + flops_per_step / 5e10)
