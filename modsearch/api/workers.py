"""What a study is given to work with: an engine, and lm-eval."""

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modsearch.config.runtime import EngineName
    from modsearch.engines.contract import MakeEngine
    from modsearch.space.space import Space
    from modsearch.study.work import Scorer


def engine_of(kind: "EngineName", address: str | None) -> "MakeEngine":
    """What executes trials."""
    if kind == "ray":
        from modsearch.engines.ray import RayEngine

        return partial(RayEngine, address=address)
    from modsearch.engines.local import local

    return local


def scorer_of(space: "Space") -> "Scorer | None":
    """lm-eval, where a study needs it."""
    objective = space.explore.objective if space.explore is not None else None
    if space.suite is None and objective is None:
        return None
    from modsearch.evaluation.scorer import Scorer

    return Scorer()
