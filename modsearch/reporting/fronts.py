"""The front of several objectives that explore has found."""

from collections.abc import Sequence

import pandas as pd

from modsearch.analysis.pareto import DRAWS, Front, Point, fronts
from modsearch.config.records import Record
from modsearch.config.units import Unit
from modsearch.reporting.figures import fronts as figures
from modsearch.reporting.flat import flat_recipe, varying
from modsearch.reporting.frames import Row, frame_of
from modsearch.reporting.parts import Section, Table, section_of

FRONT = (
    "Trials of explore by all of its objectives, at each budget: on the front where no other "
    "trial is as good in every one and better in one. The share is that of {draws} draws in which "
    "a trial is on the front if every loss is another seed's, with a standard deviation over "
    "seeds of {sd} ({basis}); prices are taken as they were measured. A trial on the front with a "
    "small share is there by luck, and one beside it with a large share may belong there. As all "
    "values of explore these enter no fit and no claim."
)


def front(records: Sequence[Record], arms: Sequence[str], unit: Unit) -> Section:
    """What no other trial beats in all objectives; `arms` are all of the study."""
    found = fronts(records)
    text = [text_of(each) for each in found[:1]]
    return section_of(
        "Explore's front",
        text,
        [figures.fronts(found, arms, unit)],
        [Table("front", front_table(found))],
        needs="explore with several objectives",
    )


def text_of(found: Front) -> str:
    """How a front is to be read."""
    sd = "not known" if found.sd is None else f"{found.sd:.3f}"
    return FRONT.format(draws=f"{DRAWS:,}", sd=sd, basis=found.basis)


def front_table(found: Sequence[Front]) -> pd.DataFrame:
    """One row a candidate, those on the front first; only what varies is shown of recipes."""
    points = [point for each in found for point in each.points]
    flat = [flat_recipe(point.records[0]) for point in points]
    arms = [point.records[0].arm for point in points]
    names = varying(list(zip(arms, flat, strict=True)))
    rows = zip(points, flat, strict=True)
    return frame_of([_row(point, {name: row.get(name) for name in names}) for point, row in rows])


def _row(point: Point, recipe: Row) -> Row:
    record = point.records[0]
    row: Row = {"arm": record.arm, "budget": record.budget.flops, **recipe}
    row[figures.cost_name(point)] = point.value
    row |= {figures.PRICE_NAMES[price]: value for price, value in point.prices.items()}
    return row | {
        "on the front": point.on_front,
        "share of draws": point.share,
        "seeds": len(point.records),
        "hash": record.hash,
    }
