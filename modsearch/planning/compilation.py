"""Whether torch.compile pays in a study: what it saves, against what its shapes cost."""

from modsearch.config.records import Stage
from modsearch.config.runtime import Runtime
from modsearch.space.space import Space
from modsearch.training.machine import can_compile, runtime

SAVED = {"cpu": 0.08, "cuda": 0.42}
"""Share of a step's time: 6 to 10 % on two Zen 4 cores, 43 % on an H100 at 85M parameters in bf16
(reports/gpu-h100/compiled.csv)."""
SECONDS_A_SHAPE = {"cpu": 35.0, "cuda": 35.0}
"""Of a first step: 19 to 47 s there, 24 and 41 s on the H100."""
FLOPS_PER_SECOND = {"cpu": 2e10, "cuda": 5e13}
"""Of a thread, or of a GPU, in training small models."""


def constants(space: Space, *, elsewhere: bool = False) -> Runtime:
    """The constants of a study, with all that `auto` means for it here.

    Raises:
        StudyError: the device, or a compiler, is not there.
    """
    found = runtime(space.resources, elsewhere=elsewhere)
    sharded = found.ranks > 1 and found.parallel == "fsdp"
    if space.resources.compile != "auto" or sharded or not can_compile(found.device):
        return found
    return found.model_copy(update={"compile": worth_compiling(space, found)})


def worth_compiling(space: Space, runtime: Runtime) -> bool:
    """Whether compiling saves more seconds of a worker than it takes."""
    flops, shapes = 0.0, 0
    for stage in Stage:
        for budget in space.budgets(stage):
            for arm in space.arms if stage is Stage.CONFIRM else space.learned_arms:
                trials = space.num_trials(stage, arm, budget)
                flops += trials * budget
                if stage is Stage.MEASURE and space.measure is not None:
                    shapes += trials // space.measure.seeds
                elif stage is Stage.EXPLORE:
                    shapes += trials
    threads = runtime.threads if runtime.device == "cpu" else 1
    seconds = flops / (FLOPS_PER_SECOND[runtime.device] * threads * runtime.ranks)
    return SAVED[runtime.device] * seconds > SECONDS_A_SHAPE[runtime.device] * shapes
