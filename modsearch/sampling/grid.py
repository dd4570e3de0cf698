"""Every point, one after the other."""

from modsearch.space.samplers import Ask, Point, Sampler


class Grid(Sampler):
    """Every point of a finite space once, long trials first."""

    measures = True

    def propose(self, ask: Ask) -> Point | None:
        """The first one that was not tried."""
        return next(iter(ask.untried), None)
