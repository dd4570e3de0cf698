"""What a trial is worth before it is made: how much lower the loss of what one would choose gets.

The knowledge gradient (Frazier, Powell and Dayanik 2009, doi 10.1287/ijoc.1080.0314) of a trial is
the expected fall of the lowest posterior mean among what one chooses from, once its loss is known.
Where noise is large one trial changes no choice, and only several together are worth something, so
that the best of several numbers of trials counts (Frazier and Powell 2010, doi
10.1287/deca.1100.0180). Legend: M places, K choices, Z quadrature nodes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modsearch.analysis.beliefs import Belief, Posterior, Sites

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int_]

NODES = 9
REPEATS = (1, 4)
"""Numbers of trials of a place whose worth is compared, each by what it costs."""
MOST_CHOICES = 64
"""Choices that count: those that may be the lowest."""
DRAWS = 512


def may_be_lowest(posterior: Posterior) -> Rows:
    """The places that are lowest by their mean less two standard errors."""
    order = np.argsort(posterior.mean_M - 2 * np.sqrt(posterior.variance_M), kind="stable")
    kept: Rows = np.sort(order[:MOST_CHOICES])
    return kept


def gains(
    belief: Belief,
    places: Sites,
    choices: Sites,
    costs_M: Array,
    repeats: Sequence[int] = REPEATS,
) -> Array:
    """Nats by which a trial of each place is expected to lower the chosen loss, for one unit of
    cost (M)."""
    of_choices, at = belief.at(choices), belief.at(places)
    kept = may_be_lowest(of_choices)
    mean_K = of_choices.mean_M[kept]
    shared_MK = belief.between(places, choices.take(kept))
    nodes_Z, weights_Z = np.polynomial.hermite_e.hermegauss(NODES)
    weights_Z = weights_Z / weights_Z.sum()
    best_M = np.zeros(len(costs_M))
    for count in repeats:
        moves_MK = shared_MK / np.sqrt(at.variance_M + at.noise_M / count)[:, None]
        lowest_MZ = np.stack([(mean_K + moves_MK * node).min(axis=1) for node in nodes_Z], axis=1)
        gain_M = mean_K.min() - lowest_MZ @ weights_Z
        best_M = np.maximum(best_M, gain_M / (count * costs_M))
    return best_M


def expected_regret(belief: Belief, choices: Sites, chosen: int, seed: int) -> float:
    """Nats by which the loss of a chosen place is expected to lie above the lowest of all choices;
    by draws from the posterior."""
    of_choices = belief.at(choices)
    kept = np.union1d(may_be_lowest(of_choices), [chosen])
    covariance = belief.between(choices.take(kept), choices.take(kept))
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = np.random.default_rng(seed).standard_normal((DRAWS, len(kept)))
    losses = of_choices.mean_M[kept] + normal @ root.T
    own = losses[:, int(np.flatnonzero(kept == chosen)[0])]
    return float((own - losses.min(axis=1)).mean())
