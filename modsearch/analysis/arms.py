"""Which arms are routed, which ones they are compared with, and what sets a model apart.

An arm is what its models do, whatever their components are called.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from modsearch.config.model import ModelConfig
from modsearch.config.records import Plan, Record, Stage

UNROUTED_BLOCKS = ("dense", "moe")
ROUTED_FFN = "mode_integrated"
"""Names tell for records of before plans said what is routed."""


class Kind(StrEnum):
    """What a model does with its tokens."""

    DENSE = "dense"
    """Every token meets every parameter."""
    SPARSE = "sparse"
    """Every token enters every part, and meets some of its parameters: experts."""
    ROUTED = "routed"
    """Some tokens skip a part of the model."""


@dataclass(frozen=True)
class Roles:
    """Arms of a comparison, in the order of the study; controls are in none."""

    routed: tuple[str, ...]
    reference: tuple[str, ...]
    """What routed arms are compared with: the dense ones, or those with experts where there is
    none; the best of them stands in the headline."""


def kind_of(model: ModelConfig, plan: Plan | None) -> Kind:
    """What a model does, as its plan says; without one, what its components' names say."""
    routed = plan.routed if plan is not None else None
    if routed is None:
        ffn = "mlp" if model.ffn is None else model.ffn.name
        routed = model.block.name not in UNROUTED_BLOCKS or ffn == ROUTED_FFN
    if routed:
        return Kind.ROUTED
    whole = plan.active_params == plan.params if plan else model.block.name != "moe"
    return Kind.DENSE if whole else Kind.SPARSE


def is_routed(record: Record) -> bool:
    """Whether some tokens skip a part of the model."""
    return kind_of(record.candidate.model, record.plan) is Kind.ROUTED


def kinds_of(records: Iterable[Record]) -> dict[str, Kind]:
    """What each arm is, by its trials of the last stage that it has; those that could be planned
    come first."""
    order = sorted(
        records, key=lambda each: (each.plan is not None, list(Stage).index(each.stage), each.hash)
    )
    return {record.arm: kind_of(record.candidate.model, record.plan) for record in order}


def roles(learned: Sequence[str], kinds: Mapping[str, Kind]) -> Roles:
    """Who is compared with whom, of the learned arms whose kind is known."""
    of_kind = {kind: tuple(arm for arm in learned if kinds.get(arm) is kind) for kind in Kind}
    return Roles(of_kind[Kind.ROUTED], of_kind[Kind.DENSE] or of_kind[Kind.SPARSE])


def describe(record: Record) -> str:
    """What sets a trial's model apart from others of its kind, in a few words."""
    model = record.candidate.model
    if not is_routed(record):
        return f"depth {model.depth}, width {model.width}"
    return f"capacity {model.capacity:g}, every {model.every}"


def same_but_router(a: ModelConfig, b: ModelConfig) -> bool:
    """Whether two models differ by their routers alone, if at all."""
    return a.model_copy(update={"router": b.router}) == b
