"""Records of made-up studies whose law is known."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from modsearch.analysis.choice import choose
from modsearch.analysis.fits import fit_curves
from modsearch.analysis.optima import optimum
from modsearch.config.data import CorpusFacts, Validation
from modsearch.config.design import Design
from modsearch.config.manifest import Manifest
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Plan, Record, Scores, Stage, State
from modsearch.config.runtime import Runtime

WIDTHS = (16, 20, 24, 32, 40, 48, 64, 80, 96)


BUDGETS = (1e11, 1e12)


SLOPE = 0.15


CURVATURE = 0.1


LOOKS = (6, 12, 18, 24)


GAIN = 1.2  # MoD at C equals dense at 1.2 C


def params_of(depth: int, width: int) -> int:
    return 256 * width + 12 * depth * width * width


def law(block: str, budget: float, params: float, gain: float = GAIN) -> float:
    """A parabola in ln N around N* ~ C^0.5, falling by SLOPE nats an e-fold of compute."""
    routed = block == "mod"
    compute = budget * (gain if routed else 1.0)
    best = 30_000 * math.sqrt(compute / 1e11) * (1.3 if routed else 1.0)
    floor = 1.9 - SLOPE * math.log(compute / 1e11)
    return floor + CURVATURE * math.log(params / best) ** 2


def trial(
    stage: Stage = Stage.MEASURE,
    arm: str = "dense",
    budget: float = 1e11,
    depth: int = 2,
    width: int = 32,
    seed: int = 1,
    loss: float | None = None,
    state: State = State.COMPLETE,
    part: str | None = None,
    name: str | None = None,
    speed: float = 0.01,
    **recipe: Any,
) -> Record:
    """One record through the schema; `recipe` goes to the model, or to `rate`."""
    rate = recipe.pop("rate", 0.005)
    block = recipe.pop("block", "dense" if arm.startswith("dense") else "mod")
    recipe = {"ffn": "mlp", **recipe}  # records hold completed configurations
    model = ModelConfig(depth=depth, width=width, num_heads=1, block=block, **recipe)
    params = params_of(depth, width)
    value = law(block, budget, params) if loss is None else loss
    routed = block != "dense"
    forward = 2.0 * params * (0.6 if routed else 1.0)
    steps = max(1, round(budget / (3 * forward * 512)))
    identity = f"{stage}-{arm}-{budget:g}-{depth}-{width}-{seed}-{rate:g}-{model.router.name}"
    done = state is State.COMPLETE
    part = part or ("test" if stage is Stage.CONFIRM else "validation")
    return Record(
        hash=name or identity,
        stage=stage,
        arm=arm,
        candidate=Candidate(model=model, optim=OptimConfig(rate=rate)),
        budget=Budget(flops=budget),
        seed=seed,
        validation=Validation(part=part),
        state=state,
        reason=None if done else "made to fail",
        plan=Plan(
            steps=steps,
            tokens=steps * 512,
            epochs=0.1,
            flops_per_step=int(3 * forward * 512),
            flops=int(steps * 3 * forward * 512),
            forward_flops=forward,
            params=params,
            active_params=params,
            embedding_params=256 * width,
            head_share=0.2,
            conventions={"exact": 3 * forward, "6N": 6.0 * params},
            seconds=5.0,
        ),
        scores=Scores(
            causal_loss=value,
            train_mode_loss=value - (0.001 if routed else 0.0),
            bits_per_byte=value / math.log(2),
            final_train_loss=value,
            realised_capacity=0.11 if routed else None,
            realised_forward_flops=forward * (0.98 if routed else 1.0),
            agreement=0.97 if routed else None,
            seconds=36.0,
            step_seconds=speed,
            peak_memory=2**28,
        )
        if done
        else None,
    )


def manifest(
    arms: dict[str, str | None] | None = None,
    bigram: float = 3.0,
    confirm: Design | None = None,
) -> Manifest:
    return Manifest(
        confirm=confirm,
        name="synthetic",
        seed=0,
        arms=arms or {"dense": None, "mod": None, "mod-random": "mod"},
        runtime=Runtime(),
        corpus=CorpusFacts(
            name="stdlib",
            fingerprint="f00d",
            train_tokens=9_000_000,
            validation_tokens=500_000,
            test_tokens=500_000,
            bytes_per_token=1.0,
            unigram_entropy=3.3,
            bigram_entropy=bigram,
        ),
        code="c0de",
        revision="unknown",
        versions={"torch": "2.9", "python": "3.11"},
        machine={"device": "cpu"},
        command="modsearch search quickstart",
    )


def study(
    sd: float = 0.0,
    shift: float = 0.0,
    seeds: int = 3,
    budgets: Sequence[float] = BUDGETS,
    confirm_budgets: Sequence[float] | None = None,
    draw: int = 0,
) -> list[Record]:
    """Explore, measure and confirm of dense, mod and its random control, from the law.

    `shift` is added to the routed arm's confirmed loss; positive makes it worse.
    """
    generator = np.random.default_rng(draw)

    def noisy(value: float) -> float:
        return value + sd * float(generator.standard_normal())

    rows = [
        trial(Stage.EXPLORE, arm, budgets[0], seed=0, rate=rate, loss=2.0 + 10 * rate + extra)
        for arm, extra in (("dense", 0.0), ("mod", -0.1))
        for rate in (0.005, 0.01)
    ]
    for budget in budgets:
        for arm in ("dense", "mod"):
            for width in WIDTHS:
                value = law(arm, budget, params_of(2, width))
                rows.append(trial(Stage.MEASURE, arm, budget, width=width, loss=noisy(value)))
    curves = fit_curves(rows)
    for budget in budgets if confirm_budgets is None else confirm_budgets:
        for arm, extra in (("dense", 0.0), ("mod", shift), ("mod-random", shift + 0.1)):
            base = "mod" if arm == "mod-random" else arm
            best = optimum(curves, base, budget)
            assert best is not None
            choice = best.point
            router = "random" if arm == "mod-random" else "expert_choice"
            size = 30_000 * math.sqrt(budget / 1e11)
            gain = GAIN if base == "mod" else 1.0
            floor = law("dense", budget * gain, size * math.sqrt(gain)) + extra
            rows += [
                trial(
                    Stage.CONFIRM, arm, budget, choice.depth, choice.width, 100 + seed,
                    noisy(floor) + (seed - (seeds - 1) / 2) * 1e-4, router=router, block=base,
                )
                for seed in range(seeds)
            ]  # fmt: skip
    return rows


def looked(
    runs: int, sd: float = 0.0, shift: float = 0.0, draw: int = 0, looks: Sequence[int] = LOOKS
) -> tuple[Manifest, list[Record]]:
    """A study whose confirm has so many runs an arm, over three sizes, of the law.

    `shift` is added to the routed arm's loss; positive makes it worse.
    """
    generator = np.random.default_rng([7, draw])
    rows = [row for row in study(sd, draw=draw) if row.stage is not Stage.CONFIRM]
    arms: dict[str, str | None] = {"dense": None, "mod": None, "mod-random": "mod"}
    chosen = choose(fit_curves(rows), arms, ["mod"], ["dense"], BUDGETS[-1], curve=True)
    for arm, sizes in chosen.sizes.items():
        block = "dense" if arm == "dense" else "mod"
        extra = {"dense": 0.0, "mod": shift, "mod-random": shift + 0.1}[arm]
        for number in range(runs):
            size = sizes[number % len(sizes)]
            loss = law(block, BUDGETS[-1], params_of(size.depth, size.width)) + extra
            rows.append(
                trial(
                    Stage.CONFIRM, arm, BUDGETS[-1], size.depth, size.width, 100 + number,
                    loss + sd * float(generator.standard_normal()) + 1e-6 * (number // 3),
                    block=block, router="random" if arm == "mod-random" else "expert_choice",
                )
            )  # fmt: skip
    design = Design(looks=tuple(looks), curve=True, margin=0.02, chosen=(chosen,))
    return manifest(arms, confirm=design), rows


def changed(record: Record, **scores: float) -> Record:
    assert record.scores is not None
    return record.model_copy(update={"scores": record.scores.model_copy(update=scores)})
