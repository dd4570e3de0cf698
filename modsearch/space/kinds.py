"""Every kind of component that a candidate has, by the part of it that names them."""

from typing import Any

from modsearch.nn import contracts as models
from modsearch.optim import contracts as trainings
from modsearch.registry.registry import Registry

OF_PART: dict[str, dict[str, Registry[Any]]] = {"model": models.KINDS, "optim": trainings.KINDS}
KINDS: dict[str, Registry[Any]] = {**models.KINDS, **trainings.KINDS}
