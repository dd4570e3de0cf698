"""Learning rates by step and by width."""

import math
from itertools import pairwise

import numpy as np
import pytest

from modsearch.config.model import Component
from modsearch.config.optim import OptimConfig
from modsearch.errors import ConfigError
from modsearch.optim.contracts import RATE_SCHEDULES, Role
from modsearch.optim.parts import completed_optim
from modsearch.optim.rates import Rates
from modsearch.optim.widths import initial_factor, peak

ROLES: tuple[Role, ...] = ("hidden", "vocabulary", "output", "last_norm", "vector")


def rates(optim: OptimConfig, steps: int = 1000) -> list[float]:
    """Of every step at width 64."""
    of_steps = Rates(optim, steps)
    return [of_steps.at(step, peak(optim, "hidden", 64)) for step in range(steps)]


def config(schedule: str | dict[str, object], **values: float) -> OptimConfig:
    return OptimConfig.model_validate({"rate": 0.01, "schedule": schedule, **values})


def test_a_cosine_warms_up_and_falls() -> None:
    found = rates(OptimConfig(rate=0.01, warmup=0.1, final=0.2))
    np.testing.assert_allclose(found[:100], 0.01 * np.arange(1, 101) / 100)
    assert found[99] == found[100] == 0.01
    assert found[-1] == pytest.approx(0.002)
    assert all(a > b for a, b in pairwise(found[100:]))
    assert found[round(100 + 899 / 2)] == pytest.approx(0.006, rel=2e-3)


def test_the_default_rate_is_to_the_bit_what_it_was_before_there_were_schedules() -> None:
    optim = OptimConfig(rate=0.0037, warmup=0.07, final=0.13)
    of_steps = Rates(optim, 977)
    for width in (12, 20, 64, 96):
        high = optim.rate * 64 / width
        for step in range(977):
            if step < 68:
                wanted = high * (step + 1) / 68
            else:
                fall = 1 + math.cos(math.pi * ((step - 68) / (977 - 1 - 68)))
                wanted = high * (optim.final + (1 - optim.final) * 0.5 * fall)
            assert of_steps.at(step, peak(optim, "hidden", width)) == wanted


def test_a_line_falls_by_the_same_each_step_to_zero_if_asked() -> None:
    found = rates(config("linear", final=0))
    assert found[-1] == 0
    np.testing.assert_allclose(np.diff(found[100:]), -0.01 / 899, rtol=1e-9)


def test_wsd_is_stable_and_falls_as_one_minus_a_root_over_its_share_of_all_steps() -> None:
    found = rates(config({"name": "wsd", "decay": 0.3}, final=0.1))
    assert set(found[99:700]) == {0.01}
    progress = (np.arange(702, 1000) - (999 - 0.3 / 0.9 * 899)) / (0.3 / 0.9 * 899)
    wanted = 0.01 * (0.1 + 0.9 * (1 - np.sqrt(progress)))
    np.testing.assert_allclose(found[702:], wanted)
    assert found[-1] == pytest.approx(0.001)


def test_wsd_that_decays_longer_than_there_is_after_the_warm_up_decays_at_once() -> None:
    found = rates(config({"name": "wsd", "decay": 1.0}, warmup=0.5))
    assert found[500] == 0.01
    assert all(a > b for a, b in pairwise(found[500:]))


@pytest.mark.parametrize("schedule", RATE_SCHEDULES.names())
def test_every_schedule_exists_for_short_trainings(schedule: str) -> None:
    for steps in (1, 2, 3, 5):
        assert all(0 < rate <= 0.01 for rate in rates(config(schedule), steps))
    assert set(rates(config(schedule, warmup=0, final=1), 50)) == {0.01}


def test_the_inverse_rule_is_one_rate_for_all() -> None:
    optim = OptimConfig(rate=0.01)
    for role in ROLES:
        assert peak(optim, role, 256, 0.5) == 0.0025
        assert initial_factor(optim, role, 256) == 1


def test_mup_has_a_rate_for_each_role_and_is_the_inverse_rule_at_width_64() -> None:
    optim = OptimConfig(rate=0.01, width_rule="mup")
    for role in ROLES:
        assert peak(optim, role, 64, 0.5) == 0.01
        assert initial_factor(optim, role, 64) == 1
    found = [peak(optim, role, 256) for role in ROLES]
    assert found == pytest.approx([0.0025, 0.01, 0.0025, 0.0025, 0.01])
    assert peak(optim, "hidden", 256, 0.5) == pytest.approx(0.005), "of an orthogonal step"


def test_options_are_completed_and_wrong_ones_are_told() -> None:
    full = completed_optim(OptimConfig.model_validate({"optimizer": "muon", "schedule": "wsd"}))
    assert full.optimizer.options == {"momentum": 0.95, "nesterov": True, "steps": 5}
    assert full.schedule.options == {"decay": 0.2}
    assert completed_optim(full) == full
    for key, value, said in (
        ("schedule", "cosin", "unknown rate_schedule `cosin`; did you mean `cosine`?"),
        ("optimizer", "adam", "unknown optimizer `adam`; did you mean `adamw`?"),
        ("schedule", {"name": "wsd", "decay": 0}, "option `decay`: must be over 0, but got 0"),
        ("schedule", {"name": "wsd", "dekay": 1}, "did you mean `decay`?"),
        ("optimizer", {"name": "muon", "steps": 0}, "option `steps`"),
        ("optimizer", Component(name="adamw", beta1=0.5), "unknown option of optimizer `adamw`"),
    ):
        with pytest.raises(ConfigError) as caught:
            completed_optim(OptimConfig.model_validate({key: value}))
        assert said in str(caught.value)
