"""A model that stands beside a study, as a point of reference."""

from collections.abc import Mapping
from typing import Any

from modsearch.config.base import Frozen

FOLDER = "references"
"""Of a study: NAME/SUITE.json below it."""


class Reference(Frozen):
    """Which model results are of."""

    target: str
    """As it was named: `hf:NAME`, or a folder."""
    params: int
    digest: str
    """Of its weights, shape and tokenizer."""


References = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Results of models beside a study, by their names there and suite; `reference` says which."""
