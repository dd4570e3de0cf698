"""FLOPs of a computation, by part, for one sequence.

A multiply-add is two FLOPs. Counted: every matrix product. Not counted: norms, softmax,
look-ups, top-k; what an optimiser multiplies in a step is counted beside this, by itself.
Attention is counted over the whole square, as `torch.utils.flop_counter.FlopCounterMode` counts
it.
"""

from dataclasses import asdict, astuple, dataclass, fields
from typing import Self

from modsearch.errors import ConfigError, shown


@dataclass(frozen=True)
class Flops:
    """FLOPs by part.

    Raises:
        ConfigError: there is no such part, or FLOPs are not a whole number.
    """

    matmul: int = 0
    attention: int = 0
    router: int = 0
    experts: int = 0
    head: int = 0

    def __new__(cls, *values: int, **parts: int) -> Self:
        known = [field.name for field in fields(cls)]
        for part in parts:
            if part not in known:
                raise ConfigError(f"no part `{part}` of FLOPs\nparts: {', '.join(known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for part, flops in asdict(self).items():
            if not (isinstance(flops, int | float) and flops >= 0 and flops % 1 == 0):
                raise ConfigError(
                    f"FLOPs of part `{part}` are a whole number, but got {shown(flops)}"
                )

    @property
    def total(self) -> int:
        """Sum over the parts."""
        return sum(astuple(self))

    def __add__(self, other: "Flops") -> "Flops":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Flops(*(a + b for a, b in pairs))

    def __mul__(self, count: int) -> "Flops":
        return Flops(*(part * count for part in astuple(self)))


@dataclass(frozen=True)
class Cost:
    """Forward and backward FLOPs of one sequence."""

    forward: Flops = Flops()
    backward: Flops = Flops()

    @classmethod
    def product(cls, part: str, flops: int) -> "Cost":
        """A product of `flops` with gradients for both factors: backward is twice forward."""
        return cls(Flops(**{part: flops}), Flops(**{part: 2 * flops}))

    @property
    def training(self) -> Flops:
        """Forward and backward together."""
        return self.forward + self.backward

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, count: int) -> "Cost":
        return Cost(self.forward * count, self.backward * count)


def conventions(
    cost: Cost, seq_len: int, params: int, embedding_params: int, update: float = 0.0
) -> dict[str, float]:
    """Training FLOPs per token as other papers count them.

    `exact` is the ledger that budgets are paid in, with the optimiser's own products (`update`, a
    token). `causal_attention` halves attention (a
    causal kernel needs half of the square). `6N` and `6N_non_embedding` are 6 x parameters
    (Kaplan et al. 2020, arXiv 2001.08361), which is wrong for routed models: it charges
    parameters that a skipped token never meets.
    """
    exact = cost.training
    return {
        "exact": exact.total / seq_len + update,
        "causal_attention": (exact.total - exact.attention / 2) / seq_len + update,
        "6N": 6.0 * params,
        "6N_non_embedding": 6.0 * (params - embedding_params),
    }
