"""Where plugin files that were written earlier import the shape of a model from."""

from modsearch.config.base import MOST_LAYERS
from modsearch.config.model import ModelConfig
from modsearch.config.rules import once

__all__ = ["MOST_LAYERS", "ModelConfig", "once"]
