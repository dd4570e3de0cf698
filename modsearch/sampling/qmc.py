"""Points that cover the axes evenly."""

import numpy as np
from scipy.stats import qmc

from modsearch.space.points import open_axes, point_at
from modsearch.space.samplers import Ask, Point, Sampler, draw_seed


class Qmc(Sampler):
    """A scrambled Sobol' sequence with one dimension an axis (Sobol' 1967): its points lie more
    evenly than independent draws."""

    def propose(self, ask: Ask) -> Point:
        """The sequence's point of that number."""
        axes = open_axes(ask.spec.tree)
        if not axes:
            return {}
        scrambling = np.random.default_rng(draw_seed(ask.seed, ask.spec.name, 0))
        sequence = qmc.Sobol(len(axes), rng=scrambling)
        if ask.number:
            sequence.fast_forward(ask.number)
        units = sequence.random(1)[0]
        return point_at(ask.spec.tree, axes, units.tolist())
