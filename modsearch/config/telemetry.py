"""How a trained model routes its validation sample."""

from modsearch.config.base import Frozen


class Correlation(Frozen):
    """Of two values of a token, over the tokens of all windows."""

    raw: float | None
    """Pearson's; None where one of the two does not vary."""
    partial: float | None
    """The same of what differs from the mean at the token's position; None where nothing does."""
    low: float | None
    """95 % interval of the partial one: a jackknife over windows, whose tokens depend on each
    other; None with fewer than three."""
    high: float | None
    se: float | None
    """Of the partial one's inverse hyperbolic tangent."""


class Reliability(Frozen):
    """Tokens whose predicted chance of membership lies in one bin."""

    tokens: int
    predicted: float
    """Their mean predicted chance."""
    chosen: float
    """The share of them that training's rule chose."""


class Membership(Frozen):
    """The causal decision against the one of training, on the same hidden states."""

    tokens: int
    """Decisions."""
    accuracy: float
    always_skip: float
    """Accuracy of choosing no token at all, whose F1 is 0."""
    precision: float | None
    """None where the causal decision chooses nothing."""
    recall: float | None
    f1: float | None
    calibration_error: float
    """Expected calibration error: mean over tokens of |predicted - chosen| of their bin."""
    bins: list[Reliability]
    """By predicted chance, ascending; empty bins are left out."""


class LayerDecisions(Frozen):
    """Which tokens one layer took."""

    causal_shares: list[float]
    """By position, in bins of about equal width."""
    train_shares: list[float]
    flip_rate: float
    """Share of tokens that only one of both modes takes; each mode on its own hidden states."""
    weights: list[int] | None
    """Counts of router weights, sigmoid(score), in equal bins from 0 to 1; None without scores."""
    weights_above_half: float | None
    membership: Membership | None
    """None where both modes have the same rule."""


class LayerRouting(Frozen):
    """What one routed layer did on the sample."""

    layer: int
    capacity: float
    """Asked for."""
    realised: float
    """Share of tokens under causal routing, mean over windows; of visits where experts route."""
    realised_sd: float | None
    """Over windows; None of a single one."""
    decisions: LayerDecisions | None
    """None where the layer has no router that takes or leaves whole tokens."""


class Overlap(Frozen):
    """Of the tokens that two layers take under causal routing."""

    layers: tuple[int, int]
    jaccard: float | None
    """Taken by both over taken by either; None where neither takes any."""
    independent: float | None
    """What their shares would give if they were independent."""


class TokenShare(Frozen):
    """How often a vocabulary id is taken."""

    token: int
    seen: int
    share: float
    """Of its (position, routed layer) pairs, under causal routing."""


class TokenRouting(Frozen):
    """What the routed layers together do with tokens, under causal routing."""

    no_block: float
    """Share of positions that no routed layer takes."""
    every_block: float
    """Share of positions that every routed layer takes."""
    min_seen: int
    """Only vocabulary ids seen as often count below."""
    known: int
    """Such ids."""
    dead: float | None
    """Share of them that no layer ever takes; None where there are none."""
    always: float | None
    """Share of them that every layer always takes."""
    most: list[TokenShare]
    """Highest shares first."""
    least: list[TokenShare]
    """Lowest shares first; ids that stand in `most` are left out."""
    overlaps: list[Overlap]
    with_loss: Correlation
    """Of the number of routed blocks that take a token with the loss of its prediction."""
    with_entropy: Correlation
    """The same with the entropy of its prediction."""


class RoutingSample(Frozen):
    """Decisions on the first positions of the first window, for every layer from below."""

    tokens: list[int]
    causal: list[list[bool]]
    """A layer without a router takes all."""
    train: list[list[bool]]


class RoutingReport(Frozen):
    """How a trained model routes its validation sample."""

    windows: int
    positions: int
    """Of each window."""
    vocab_size: int
    depth: int
    layers: list[LayerRouting]
    """The routed ones."""
    membership: Membership | None
    """Over all layers."""
    tokens: TokenRouting | None
    """None where no layer has decisions."""
    sample: RoutingSample | None
    texts: dict[int, str] = {}
    """Of ids that are named here, where tokens are not bytes."""

    @property
    def named(self) -> list[int]:
        """Ids of single tokens in it."""
        shares = [*self.tokens.most, *self.tokens.least] if self.tokens else []
        sample = self.sample.tokens if self.sample else []
        return sorted({*(each.token for each in shares), *sample})
