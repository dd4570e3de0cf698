"""Points bred from those that no other beats."""

from collections.abc import Sequence

import optuna
from pydantic import Field

from modsearch.sampling.past import proposed
from modsearch.space.samplers import Ask, Options, Point, Sampler, Tried

GENERATION = optuna.samplers.NSGAIISampler._get_generation_key()


class Nsga2(Sampler):
    """NSGA-II (Deb et al. 2002), as Optuna has it: generations that are bred, with crossover and
    mutation, from the trials on the fronts so far, spread-out ones first. For several
    objectives."""

    class Config(Options):
        """How large a generation is."""

        population: int = Field(10, ge=2, le=10_000)
        """Finished trials of a generation, and parents of the next one."""

    def __init__(self, options: Config) -> None:
        super().__init__(options)
        self.population = options.population

    def propose(self, ask: Ask) -> Point:
        """A child of two parents; a uniform draw in the first generation."""
        sampler = optuna.samplers.NSGAIISampler(
            seed=ask.draw_seed, population_size=self.population
        )
        marks = [{GENERATION: each} for each in _generations(ask.tried, self.population)]
        return proposed(sampler, ask, marks=marks)


def _generations(tried: Sequence[Tried], population: int) -> list[int]:
    """The generation of each trial: the next one begins when so many of the last have a cost.

    By their numbers, so that it does not depend on the order in which results came back.
    """
    found: list[int] = []
    now = done = 0
    for each in tried:
        if done >= population:
            now, done = now + 1, 0
        found.append(now)
        done += each.cost is not None
    return found
