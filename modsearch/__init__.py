"""modsearch: architecture search and benchmarks for Mixture-of-Depths at equal training FLOPs.

    study = modsearch.search("quickstart", "runs/mine", progress=print)
    print(study.headline.sentence)

Names are imported when they are used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modsearch.api.comparing import compare
    from modsearch.api.components import check, components, describe
    from modsearch.api.data import prepare_data, show_data
    from modsearch.api.evaluating import evaluate
    from modsearch.api.fronts import front
    from modsearch.api.model import export, flops, generate, train
    from modsearch.api.planning import plan
    from modsearch.api.space import load_space
    from modsearch.api.speeds import time_winners
    from modsearch.api.study import Study, open_study, pack, predict, report, search
    from modsearch.errors import ModsearchError

__version__ = "0.1.0"

__all__ = [
    "ModsearchError",
    "Study",
    "check",
    "compare",
    "components",
    "describe",
    "evaluate",
    "export",
    "flops",
    "front",
    "generate",
    "load_space",
    "open_study",
    "pack",
    "plan",
    "predict",
    "prepare_data",
    "report",
    "search",
    "show_data",
    "time_winners",
    "train",
]

_HOMES = {
    "api.comparing": ("compare",),
    "api.components": ("check", "components", "describe"),
    "api.data": ("prepare_data", "show_data"),
    "api.evaluating": ("evaluate",),
    "api.fronts": ("front",),
    "api.model": ("export", "flops", "generate", "train"),
    "api.planning": ("plan",),
    "api.space": ("load_space",),
    "api.speeds": ("time_winners",),
    "api.study": ("Study", "open_study", "pack", "predict", "report", "search"),
    "errors": ("ModsearchError",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = found = getattr(import_module(f"modsearch.{home}"), name)
            return found
    raise AttributeError(f"module `modsearch` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
