"""Points from the densities of good and of bad trials."""

import optuna
from pydantic import Field

from modsearch.sampling.levels import levelled
from modsearch.sampling.past import proposed
from modsearch.sampling.smaller import from_smaller
from modsearch.space.samplers import Ask, Options, Point, Sampler


class Tpe(Sampler):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), as Optuna has it: draws where good
    trials are dense and bad ones are not; trials in flight count as bad ones. With several
    objectives good is what few others beat in all (Ozaki et al. 2022)."""

    warms = True

    class Config(Options):
        """When it begins to learn, and how hard it looks."""

        n_startup: int = Field(10, ge=0, le=100_000)
        """Trials that have ended, those of a warm start too, before anything is learned; until
        then draws are uniform."""
        candidates: int = Field(24, gt=0, le=100_000)
        """Draws from the density of good trials, of which the most promising one is taken."""
        smaller_first: bool = False
        """Whether budgets are searched from the smallest up, each told of the arm's smaller ones;
        with one objective."""

    def __init__(self, options: Config) -> None:
        super().__init__(options)
        self.n_startup = options.n_startup
        self.smaller_first = options.smaller_first
        self.candidates = options.candidates

    def propose(self, ask: Ask) -> Point:
        """The most promising of its candidates."""
        below = from_smaller(ask) if self.smaller_first else ()
        prior = (*ask.spec.prior, *below)
        sampler = optuna.samplers.TPESampler(
            seed=ask.draw_seed,
            n_startup_trials=self.n_startup,
            n_ei_candidates=self.candidates,
        )
        return proposed(sampler, ask, constrained=True, prior=levelled(ask, prior))
