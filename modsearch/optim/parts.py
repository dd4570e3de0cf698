"""From `optim` to its optimiser and its schedule: completed options, instances."""

from modsearch.config.base import Component
from modsearch.config.optim import OptimConfig
from modsearch.optim.contracts import KINDS, OPTIMIZERS, RATE_SCHEDULES, Optimizer, RateSchedule
from modsearch.registry.options import made, options_of


def optimizer_of(optim: OptimConfig) -> Optimizer:
    """The optimiser that a configuration names.

    Raises:
        ConfigError: unknown name or option, a value out of range, or torch is too old for it.
    """
    options = options_of(OPTIMIZERS, optim.optimizer)
    return made(OPTIMIZERS.get(optim.optimizer.name), options)


def schedule_of(optim: OptimConfig) -> RateSchedule:
    """The schedule that a configuration names.

    Raises:
        ConfigError: unknown name or option, or a value out of range.
    """
    options = options_of(RATE_SCHEDULES, optim.schedule)
    return made(RATE_SCHEDULES.get(optim.schedule.name), options, optim)


def completed_optim(optim: OptimConfig) -> OptimConfig:
    """The same configuration with every component's defaults written out.

    Raises:
        ConfigError: a component is wrong.
    """
    optimizer_of(optim)
    schedule_of(optim)
    parts = {
        key: Component(name=part.name, **options_of(KINDS[kind], part).model_dump(mode="json"))
        for key, kind, part in (
            ("optimizer", "optimizer", optim.optimizer),
            ("schedule", "rate_schedule", optim.schedule),
        )
    }
    return optim.model_copy(update=parts)
