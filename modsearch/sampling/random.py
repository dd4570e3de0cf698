"""Points that nothing is learned for."""

import numpy as np

from modsearch.space.points import open_axes, point_at
from modsearch.space.samplers import Ask, Point, Sampler


class Random(Sampler):
    """Independent uniform draws on every axis."""

    def propose(self, ask: Ask) -> Point:
        """One draw an axis."""
        axes = open_axes(ask.spec.tree)
        units = np.random.default_rng(ask.draw_seed).random(len(axes))
        return point_at(ask.spec.tree, axes, units.tolist())
