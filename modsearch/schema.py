"""Where plugin files that were written earlier import the shape of a model from."""

from modsearch.config.model import ModelConfig

__all__ = ["ModelConfig"]
