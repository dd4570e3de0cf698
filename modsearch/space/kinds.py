"""Every kind of component that a space names: of a candidate by the part of it that has them, and
samplers."""

from typing import Any

from modsearch.nn import contracts as models
from modsearch.optim import contracts as trainings
from modsearch.registry.registry import Registry
from modsearch.space.samplers import SAMPLERS

OF_PART: dict[str, dict[str, Registry[Any]]] = {"model": models.KINDS, "optim": trainings.KINDS}
OF_SEARCH: dict[str, Registry[Any]] = {"sampler": SAMPLERS}
KINDS: dict[str, Registry[Any]] = {**models.KINDS, **trainings.KINDS, **OF_SEARCH}
