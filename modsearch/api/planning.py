"""What a study will cost and resolve, before it is begun."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modsearch.api.components import Files
from modsearch.api.space import load_space

if TYPE_CHECKING:
    from modsearch.api.space import SpaceLike
    from modsearch.planning.forecast import Forecast


def plan(space: "SpaceLike", *, overrides: Sequence[str] = (), plugins: Files = ()) -> "Forecast":
    """Cells, trials, FLOPs, memory, hours and what the study can resolve; nothing is trained but
    some sizes for a moment, to time them."""
    wanted = load_space(space, overrides=overrides, plugins=plugins)
    from modsearch.planning.forecast import forecast

    return forecast(wanted)
