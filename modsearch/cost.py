"""Where plugin files that were written earlier import FLOPs from."""

from modsearch.nn.cost import Cost, Flops

__all__ = ["Cost", "Flops"]
