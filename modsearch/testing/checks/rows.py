"""Which rows are chosen, and that every update goes to its row.

Shapes: T positions, K chosen rows, D width.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from modsearch.nn.contracts import Block, Update, num_selected
from modsearch.nn.model import Decoder, Trace
from modsearch.testing.probe import (
    MODES,
    Case,
    T,
    context_of,
    draw_rows,
    expect,
    places,
    real_positions,
    routers_of,
    warm_model,
)


def capacity(case: Case) -> None:
    """A router fills `slots` rows, at least k and at most all; a changed capacity counts."""
    for share in (0.125, 0.3, 1.0):
        config = case.config.model_copy(update={"capacity": share})
        router, other = (routers_of(Decoder(each))[0].double() for each in (config, case.config))
        other.capacity = share
        for num_positions in (1, T, 64):
            where = f"capacity {share} of {num_positions}"
            slots, k = router.slots(num_positions), num_selected(share, num_positions)
            expect(k <= slots <= num_positions, f"{where}: {slots} slots for k = {k}")
            expect(other.slots(num_positions) == slots, f"{where}: `capacity` is not looked at")
            x_BTD = draw_rows(case, num_positions)
            for mode in MODES:
                routing = router(x_BTD, context_of(mode, x_BTD))
                shape = tuple(routing.index_BK.shape)
                if mode == "train":
                    expect(shape == (5, slots), f"{where}: index {shape} for {slots} slots")
                expect(shape[1] <= num_positions, f"{where}, {mode}: {shape[1]} rows")
                expect(tuple(routing.gate_BK.shape) == shape, f"{where}, {mode}: gate's shape")
                valid_BK = routing.valid_BK
                expect(
                    valid_BK is None
                    or (tuple(valid_BK.shape) == shape and valid_BK.dtype == torch.bool),
                    f"{where}, {mode}: valid_BK is not a bool of the index's shape",
                )


def _updates(case: Case) -> Iterator[tuple[str, Block, Tensor, Tensor | None, Update]]:
    """The first block's updates in both modes, with and without padding."""
    block = warm_model(case).stack()[0]
    for mode in MODES:
        for valid_BT in (None, real_positions(T, 20, 3, 1, 12)):
            x_BTD = draw_rows(case)
            with torch.no_grad():
                update = block.delta(x_BTD, context_of(mode, x_BTD, valid_BT))
            where = f"{mode}, {'without' if valid_BT is None else 'with'} padding"
            yield where, block, x_BTD, valid_BT, update


def order(case: Case) -> None:
    """Chosen rows ascend and are unique; padding stands last and adds nothing."""
    for where, _, _, _, update in _updates(case):
        if update.routing is None:
            continue
        index_BK, valid_BK = update.routing.index_BK, update.routing.valid_BK
        if valid_BK is None:
            valid_BK = torch.ones_like(index_BK).bool()
        early = (valid_BK[:, 1:] & ~valid_BK[:, :-1]).any()
        expect(not early, f"{where}: padding stands before a chosen row")
        for sequence, (index_K, valid_K) in enumerate(zip(index_BK, valid_BK, strict=True)):
            row = f"{where}, sequence {sequence}"
            expect((index_K[valid_K].diff() > 0).all(), f"{row}: rows do not ascend")
            expect(len(index_K.unique()) == len(index_K), f"{row}: a row stands twice")
        if update.index_BK is not None:
            padding = update.delta_BKD[~valid_BK]
            expect(not padding.any(), f"{where}: padding adds to the residual stream")


def no_token_lost(case: Case) -> None:
    """Each delta goes to its row; rows that are not chosen stay to the bit, chosen ones move."""
    for where, _, x_BTD, valid_BT, update in _updates(case):
        after_BTD = update.add_to(x_BTD)
        expect(after_BTD.shape == x_BTD.shape, f"{where}: shape {tuple(after_BTD.shape)}")
        if update.index_BK is None:
            same = torch.equal(after_BTD, x_BTD + update.delta_BKD)
            expect(same, f"{where}: the result is not x + delta")
            continue
        wanted_BTD = x_BTD.clone()
        for b, index_K in enumerate(update.index_BK.tolist()):
            for k, t in enumerate(index_K):
                wanted_BTD[b, t] += update.delta_BKD[b, k]
        expect(torch.equal(after_BTD, wanted_BTD), f"{where}: a delta went to another row")
        expect(update.routing is not None, f"{where}: chosen rows without a routing")
        assert update.routing is not None
        [chosen_BT] = Trace((x_BTD.shape[0], x_BTD.shape[1]), [update]).chosen
        assert chosen_BT is not None
        moved_BT = (after_BTD != x_BTD).any(dim=-1)
        lost = (chosen_BT & ~moved_BT).nonzero().tolist()
        expect(not lost, f"{where}: chosen, but not updated: {places(lost)}")
        extra = (moved_BT & ~chosen_BT).nonzero().tolist()
        expect(not extra, f"{where}: not chosen, but changed: {places(extra)}")
        if valid_BT is not None:
            wrong = (chosen_BT & ~valid_BT).nonzero().tolist()
            expect(not wrong, f"{where}: padding is chosen: {places(wrong)}")
