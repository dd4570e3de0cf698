"""Points from a model of the loss over the axes."""

import optuna
from pydantic import Field

from modsearch.sampling.levels import levelled
from modsearch.sampling.past import proposed
from modsearch.sampling.smaller import from_smaller
from modsearch.space.samplers import Ask, Options, Point, Sampler


class Gp(Sampler):
    """Gaussian process with a Matern kernel, as Optuna has it: the point with the highest expected
    improvement (of the hypervolume with several objectives), trials in flight fantasised; axes
    that some choices alone bring along are drawn."""

    warms = True

    class Config(Options):
        """When it begins to learn."""

        n_startup: int = Field(10, gt=0, le=100_000)
        """Trials with a loss, those of a warm start too, before anything is learned; until then
        draws are uniform."""
        smaller_first: bool = False
        """Whether budgets are searched from the smallest up, each told of the arm's smaller ones;
        with one objective."""

    def __init__(self, options: Config) -> None:
        super().__init__(options)
        self.n_startup = options.n_startup
        self.smaller_first = options.smaller_first

    def propose(self, ask: Ask) -> Point:
        """The point that promises most."""
        below = from_smaller(ask) if self.smaller_first else ()
        prior = (*ask.spec.prior, *below)
        sampler = optuna.samplers.GPSampler(
            seed=ask.draw_seed,
            n_startup_trials=self.n_startup,
            warn_independent_sampling=False,
        )
        return proposed(sampler, ask, prior=levelled(ask, prior))
