"""A sampler of one's own: steps away from the best trial so far.

modsearch components check climb --plugin examples/my_sampler.py
"""

import numpy as np
from pydantic import Field

from modsearch.space.axes import Distribution
from modsearch.space.points import open_axes, resolve
from modsearch.space.samplers import SAMPLERS, Ask, Options, Point, Sampler


@SAMPLERS.register("climb")
class Climb(Sampler):
    """Hill climbing: the best point with some axes drawn anew; random draws until there is one."""

    class Config(Options):
        """How far a step goes."""

        drawn: float = Field(0.5, gt=0, le=1)
        """Share of the axes that are drawn anew."""

    def __init__(self, options: Config) -> None:
        super().__init__(options)
        self.drawn = options.drawn

    def propose(self, ask: Ask) -> Point:
        """A neighbour; all that it draws comes from the ask's own seed."""
        draws = np.random.default_rng(ask.draw_seed)
        axes = open_axes(ask.spec.tree)
        fresh = draws.random(len(axes)) < self.drawn
        scored = [tried for tried in ask.tried if tried.cost is not None]
        best = min(scored, key=lambda tried: tried.cost or 0.0).point if scored else {}
        kept = {path for path, new in zip(axes, fresh, strict=True) if not new and path in best}
        shares = dict(zip(axes, draws.random(len(axes)).tolist(), strict=True))
        found: Point = {}

        def pick(path: str, axis: Distribution) -> object:
            found[path] = best[path] if path in kept else axis.at(shares[path])
            return axis.labelled(found[path])

        resolve(ask.spec.tree, pick)  # what a kept choice brings along is there, too
        return found
