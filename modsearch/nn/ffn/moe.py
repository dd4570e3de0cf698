"""A mixture of experts in the place of the MLP: every row goes to `top_k` experts.

The baseline with token dropping that Mixture-of-Depths-and-Experts is compared with (Raposo et
al. 2024, section 4.3).
"""

from modsearch.nn.experts import ExpertFfn, ExpertOptions


class Moe(ExpertFfn):
    """SwiGLU experts by token choice or expert choice."""

    class Config(ExpertOptions):
        """Options of the experts."""

    def __init__(self, width: int, capacity: float, options: Config) -> None:
        super().__init__(width, capacity, options)
