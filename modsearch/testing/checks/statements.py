"""What a component says about itself, and the shapes of what it gives."""

import ast
import inspect
import textwrap
from itertools import pairwise

import torch

from modsearch.errors import ConfigError
from modsearch.nn.contracts import SCHEDULES, Options, Router
from modsearch.nn.model import Decoder, Output, statistics
from modsearch.nn.parts import component_options
from modsearch.registry.built_in import base_name
from modsearch.space.kinds import KINDS
from modsearch.testing.probe import (
    MODES,
    B,
    Case,
    T,
    context_of,
    draw_rows,
    draw_tokens,
    expect,
    update_option,
    warm_model,
)


def builds(case: Case) -> None:
    """Builds on the CPU and on the meta device; what writes to the residual stream is its own."""
    model = Decoder(case.config)
    for name, parameter in model.named_parameters():
        expect(parameter.isfinite().all(), f"{name} starts with values that are not finite")
    for layer, block in enumerate(model.stack()):
        own = {id(parameter) for parameter in block.parameters()}
        foreign = {id(weight) for weight in block.output_weights()} - own
        expect(not foreign, f"layer {layer}: output_weights() has a tensor that is no parameter")
    with torch.device("meta"):
        Decoder(case.config)


def options(case: Case) -> None:
    """Every option has a default and a docstring; unknown ones are refused."""
    config = KINDS[case.kind].get(base_name(case.kind, case.name)).Config
    expect(issubclass(config, Options), "Config does not derive from Options")
    required = [name for name, field in config.model_fields.items() if field.is_required()]
    expect(not required, f"options without a default: {', '.join(required)}")
    expect(config.model_config.get("frozen"), "Config is not frozen")
    expect(config.model_config.get("extra") == "forbid", "Config takes unknown options")
    bare = set(config.model_fields) - _documented(config)
    expect(not bare, f"options without a docstring below them: {', '.join(sorted(bare))}")


def _documented(config: type[Options]) -> set[str]:
    """Fields with a string below them; all, where the source can't be read."""
    found: set[str] = set()
    for cls in config.__mro__:
        if not (issubclass(cls, Options) and cls is not Options):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(cls))
        except (OSError, TypeError):
            return set(config.model_fields)
        [node] = ast.parse(source).body
        assert isinstance(node, ast.ClassDef)
        for field, below in pairwise(node.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = below.value if isinstance(below, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found.add(field.target.id)
    return found


def shapes(case: Case) -> None:
    """Logits, decisions and row counts have their shapes, at 1 position too; all is finite."""
    model = warm_model(case)
    for num_sequences, num_positions in ((B, T), (1, 1)):
        tokens_BT = draw_tokens(case, num_sequences, num_positions)
        for mode in MODES:
            output: Output = model(tokens_BT, mode)
            where = f"{mode}, {num_sequences} x {num_positions}"
            wanted = (num_sequences, num_positions, case.config.vocab_size)
            expect(output.logits_BTV.shape == wanted, f"{where}: logits {output.logits_BTV.shape}")
            expect(output.logits_BTV.isfinite().all(), f"{where}: logits are not finite")
            counts = (len(output.rows), *(len(rows) for rows in output.rows))
            expect(counts == (num_sequences, *[case.config.depth] * num_sequences), where)
            aux = output.aux
            expect(aux is None or aux.ndim == 0, f"{where}: aux is not a scalar")
            expect(aux is None or aux.isfinite(), f"{where}: aux is not finite")
            for name, value in statistics(output.updates).items():
                expect(value.ndim == 0, f"{where}: statistic {name} is not a scalar")
                expect(not value.requires_grad, f"{where}: statistic {name} is not detached")
                expect(value.isfinite(), f"{where}: statistic {name} is not finite")


def output_weights(case: Case) -> None:
    """With zeros for output_weights() a block adds nothing."""
    for layer, block in enumerate(warm_model(case).stack()):
        with torch.no_grad():
            for weight in block.output_weights():
                weight.zero_()
        if update_option(case) == "delta":
            x_BTD = draw_rows(case)
            delta_BKD = block.delta(x_BTD, context_of("train", x_BTD)).delta_BKD
            expect(not delta_BKD.any(), f"layer {layer} adds something beside output_weights()")


def capacities(case: Case) -> None:
    """A capacity in (0, 1] or None for each layer, at any depth that the schedule takes."""
    schedule = SCHEDULES.get(case.name)(component_options("schedule", case.config.schedule))
    expect(0 <= schedule.warmup < 1, f"warmup is {schedule.warmup}")
    fits = 0
    for depth in (1, 2, 7):
        for every in (1, 2, 3):
            for share in (0.01, 0.3, 1.0):
                shape = {"depth": depth, "every": every, "capacity": share}
                config = case.config.model_copy(update=shape)
                try:
                    found = schedule.capacities(config)
                except ConfigError:
                    continue
                fits += 1
                expect(len(found) == depth, f"{shape}: {len(found)} capacities")
                wrong = [c for c in found if c is not None and not 0 < c <= 1]
                expect(not wrong, f"{shape}: capacities {wrong}")
                expect(schedule.capacities(config) == found, f"{shape}: another answer next time")
    expect(fits, "no depth fits")


def warms_up(case: Case) -> None:
    """Routers and ffns have the schedule's capacities, at the end of training again."""
    model = Decoder(case.config)
    for progress in (0.0, 0.5, 1.0):
        model.set_progress(progress)
    for layer, (share, block) in enumerate(zip(model.capacities, model.stack(), strict=True)):
        found = [module.capacity for module in block.modules() if isinstance(module, Router)]
        expect(all(each == share for each in found), f"layer {layer}: {found}, and not {share}")
