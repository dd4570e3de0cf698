"""Several studies on one page: the headline of each, what repetitions say together, and curves
of all measured trials where budgets differ."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modsearch.analysis.claims import Claim, study_claims
from modsearch.analysis.numbers import decimal, interval, scientific
from modsearch.analysis.recipes import measured
from modsearch.analysis.replication import Replication, replication
from modsearch.analysis.trials import finished, is_scored
from modsearch.analysis.verdicts import Verdict
from modsearch.config.records import Record, Stage, State
from modsearch.config.units import Unit, nats
from modsearch.reporting.figures.studies import Headline, forest
from modsearch.reporting.frames import Row, frame_of
from modsearch.reporting.material import Material, gather
from modsearch.reporting.parts import Section, Table
from modsearch.study.agreement import constants, refuse_shared, refuse_unlike, repeats
from modsearch.study.completeness import study_space

STUDIES = (
    "One row for each study and confirmed budget: its own headline, from its own runs and its own "
    "looks at them. Headlines are never computed again from the runs of several studies: how "
    "often each looked, and when it ended, was decided by its own runs, and an interval of all "
    "of them would not know. Positive differences: routed is better."
)
REPEATED = (
    "The mean's interval holds the scatter over studies and the error of the test text that all "
    "of them share. What repetitions get wrong alike, more of them do not undo: a study that ends "
    "early, because it has seen an effect, overstates it, and a parabola misses what bends "
    "otherwise. Of made-up studies, ten at a time, it holds the true difference in 93 to 97 % of "
    "cases, and in 84 to 91 % where curves are far from parabolas."
)
JOINED = (
    "Curves through the measured trials of all studies together. They choose nothing here and "
    "enter no headline: each study chose its arms and "
    "sizes by its own. Intervals are by the scatter around the curves."
)
CURVES = ("isoflop", "laws", "forward")
"""Sections of the joined trials."""
SHARED = ("corpus",)
"""Sections that are the same for all studies."""


Make = Callable[[Material], Section]
"""A section of one study."""


@dataclass(frozen=True)
class Studies:
    """Studies whose constants agree, smallest confirmed budget first, then by seed."""

    materials: Sequence[Material]
    repetitions: Sequence[Sequence[Material]]
    """Those that differ by their seeds alone, two or more at a time."""

    @property
    def unit(self) -> Unit:
        """What the losses of all of them are counted over."""
        return self.materials[0].manifest.unit

    @property
    def names(self) -> list[str]:
        """What each is called on the page; one of its own."""
        plain = [f"{each.manifest.name}, seed {each.manifest.seed}" for each in self.materials]
        places = [plain[: place + 1].count(name) for place, name in enumerate(plain)]
        return [
            f"{name} ({place})" if plain.count(name) > 1 else name
            for name, place in zip(plain, places, strict=True)
        ]

    @property
    def name(self) -> str:
        """Of all together."""
        return ", ".join(dict.fromkeys(each.manifest.name for each in self.materials))

    @property
    def together(self) -> Material:
        """All records as if one study had them, under the sentence of all of them."""
        first = self.materials[0]
        named = zip(self.names, self.materials, strict=True)
        mixed = [f"{name}: {line}" for name, each in named for line in each.manifest.mixed]
        headline = Claim(None, Verdict.NONE, "", self.sentence)
        return replace(
            first,
            manifest=first.manifest.model_copy(
                update={"name": self.name, "mixed": mixed, **self._code}
            ),
            records=[record for each in self.materials for record in each.records],
            claims=replace(first.claims, headline=headline),
        )

    @property
    def _code(self) -> dict[str, str]:
        """What a manifest says of it, where studies were made with several versions."""
        codes = list(dict.fromkeys(each.manifest.code for each in self.materials))
        return {} if len(codes) == 1 else {"code": ", ".join(codes), "revision": "unknown"}

    @property
    def sentence(self) -> str:
        """The page's first one."""
        whole = len(self.repetitions) == 1 and len(self.repetitions[0]) == len(self.materials)
        found = _replications(self.repetitions[0]) if whole else []
        if found:
            return _sentence(found[-1], len(self.materials), self.unit)
        count = Counter(claim.verdict for each in self.materials for claim in claims_of(each))
        return (
            f"{len(self.materials)} studies, whose headlines are: {_verdicts(count)}. Each stands "
            f"for itself."
        )


def gather_studies(roots: Mapping[str, Path]) -> Studies:
    """Read several studies, by what they are called in errors.

    Raises:
        StudyError: there is none in a folder, or they don't fit together.
    """
    materials = {name: gather(root) for name, root in roots.items()}
    spaces = {name: study_space(each.directory) for name, each in materials.items()}
    refuse_unlike(
        {name: constants(each.manifest, spaces[name]) for name, each in materials.items()}
    )
    refuse_shared({name: each.records for name, each in materials.items()})
    groups: dict[str, list[Material]] = {}
    for name in sorted(materials, key=lambda name: _order(materials[name])):
        groups.setdefault(repeats(spaces[name]), []).append(materials[name])
    return Studies(
        materials=sorted(materials.values(), key=_order),
        repetitions=[group for group in groups.values() if len(group) > 1],
    )


def sections_of(studies: Studies, known: Mapping[str, Make]) -> Iterator[Section]:
    """What stands on their page, in its order; `known` are the sections of one study."""
    yield _headlines(studies)
    yield _repeated(studies)
    yield from _joined(studies, known)
    yield _each(studies)
    for name in SHARED:
        yield known[name](studies.materials[0])


def _order(material: Material) -> tuple[float, str, int]:
    manifest = material.manifest
    return material.claims.headline.budget or 0.0, manifest.name, manifest.seed


def claims_of(material: Material) -> Sequence[Claim]:
    """Headlines of all confirmed budgets; without any why there is none."""
    return material.claims.by_budget or (material.claims.headline,)


def _headlines(studies: Studies) -> Section:
    rows = [
        (name, material, claim)
        for name, material in zip(studies.names, studies.materials, strict=True)
        for claim in claims_of(material)
    ]
    rows.sort(key=lambda row: row[2].budget or 0.0)  # stable: by seed inside
    drawn = forest([*_differences(rows), *_means(studies)], studies.unit)
    return Section(
        "Studies",
        [STUDIES, *_versions(studies)],
        [drawn] if drawn else [],
        [Table("studies", frame_of([_row(*row) for row in rows]))],
    )


def _versions(studies: Studies) -> list[str]:
    """A warning, where code differs between studies."""
    codes = {each.manifest.code for each in studies.materials}
    if len(codes) == 1:
        return []
    return [
        f"The studies were made with {len(codes)} versions of the code; what they compute may "
        f"differ."
    ]


def _row(name: str, material: Material, claim: Claim) -> Row:
    found, multiplier = claim.comparison, claim.multiplier
    known = found.interval if found else None
    done = [
        record.plan.flops * record.charge
        for record in material.records
        if record.plan and (finished(record) or record.state is State.STOPPED)
    ]
    return {
        "study": name,
        "budget": claim.budget,
        "verdict": claim.verdict.value,
        "difference": found.difference if found else None,
        "difference low": known.low if known else None,
        "difference high": known.high if known else None,
        "runs an arm": claim.runs,
        "routed arm": found.arm.arm if found else None,
        "dense arm": found.reference.arm if found else None,
        "multiplier": multiplier.value if multiplier else None,
        "multiplier low": multiplier.low if multiplier else None,
        "multiplier high": multiplier.high if multiplier else None,
        "trials": len(material.records),
        "FLOPs spent": float(sum(done)),
    }


def _differences(rows: Iterable[tuple[str, Material, Claim]]) -> list[Headline]:
    found = []
    for name, _, claim in rows:
        each = claim.comparison
        if each is not None:
            ends = (each.interval.low, each.interval.high) if each.interval else (None, None)
            where = f"{name}, {scientific(claim.budget)}"
            found.append(Headline(where, each.arm.budget, claim.verdict, each.difference, *ends))
    return found


def _means(studies: Studies) -> list[Headline]:
    return [
        Headline(
            f"mean of {len(each.differences)}, {scientific(each.budget)}",
            each.budget, None, each.mean.value, each.mean.low, each.mean.high,
        )
        for group in studies.repetitions
        for each in _replications(group)
        if len(each.differences) > 1
    ]  # fmt: skip


def _replications(group: Sequence[Material]) -> list[Replication]:
    """Of each confirmed budget."""
    by_budget: dict[float, list[Claim]] = {}
    for material in group:
        for claim in material.claims.by_budget:
            by_budget.setdefault(claim.budget or 0.0, []).append(claim)
    found = (replication(claims) for _, claims in sorted(by_budget.items()))
    return [each for each in found if each is not None]


def _repeated(studies: Studies) -> Section:
    """Studies that differ by their seeds alone."""
    text, rows = [], []
    for group in studies.repetitions:
        for found in _replications(group):
            text.append(f"{group[0].manifest.name}: {_sentence(found, len(group), studies.unit)}")
            rows.append(_replication_row(group, found))
    return Section("Repeated studies", [*text, REPEATED], (), _tables("repeated", rows))


def _tables(name: str, rows: Sequence[Row]) -> list[Table]:
    return [Table(name, frame_of(rows))] if rows else []


def _replication_row(group: Sequence[Material], found: Replication) -> Row:
    return {
        "study": group[0].manifest.name,
        "budget": found.budget,
        "studies": len(group),
        "seeds": ", ".join(str(each.manifest.seed) for each in group),
        "mean difference": found.mean.value,
        "mean difference low": found.mean.low,
        "mean difference high": found.mean.high,
        "deviation over studies": found.sd,
        "intervals that hold the mean": f"{found.holding} of {found.intervals}",
        "verdicts": _verdicts(found.verdicts),
    }


def _sentence(found: Replication, studies: int, unit: Unit) -> str:
    """What an honest reader wants to know of repetitions."""
    first = (
        f"{studies} studies at {scientific(found.budget)} FLOPs that differ by their seeds alone: "
        f"{_verdicts(found.verdicts)}."
    )
    if len(found.differences) < 2:
        difference = f"{decimal(found.differences[0], 3)} {nats(unit)}"
        return f"{first} One of them has a difference, {difference}."
    of = "" if len(found.differences) == studies else f" of {len(found.differences)} of them"
    ends = interval(found.mean.low, found.mean.high)
    known = f" {ends}" if found.mean.low is not None else ", too few for an interval"
    return (
        f"{first} The mean difference{of} is {decimal(found.mean.value, 3)} {nats(unit)}{known}, "
        f"its standard deviation over studies {decimal(found.sd, 3)}, and {found.holding} of "
        f"{found.intervals} own intervals hold that mean."
    )


def _verdicts(count: Mapping[Verdict, int]) -> str:
    words = [f"{count[each]} {each.value}" for each in Verdict if count.get(each)]
    return ", ".join(words).replace(f" {Verdict.NONE.value}", " without a verdict")


def _joined(studies: Studies, known: Mapping[str, Make]) -> list[Section]:
    """Curves, laws and prices of all measured trials, where studies have other budgets."""
    if len({frozenset(_budgets(each)) for each in studies.materials}) < 2:
        return []
    material = _together(studies)
    joined = {record.hash for arm in material.arms for record in measured(material.records, arm)}
    text = [JOINED]
    for arm in material.arms:
        other = [
            name
            for name, each in zip(studies.names, studies.materials, strict=True)
            if any(row.arm == arm and row.hash not in joined for row in _measured(each))
        ]
        if other:
            text.append(
                f"{arm}: only trials of the recipe that most of them have are joined, and not "
                f"those of {'; '.join(other)}, where explore chose another one."
            )
    first, *others = (known[name](material) for name in CURVES)
    return [replace(first, text=[*text, *first.text]), *others]


def _measured(material: Material) -> list[Record]:
    return [each for each in material.records if is_scored(each, Stage.MEASURE)]


def _budgets(material: Material) -> set[float]:
    return {each.budget.flops for each in _measured(material)}


def _together(studies: Studies) -> Material:
    """All measured trials as if one study had them, without anything explored or confirmed."""
    first = studies.materials[0]
    found = {row.hash: row for each in studies.materials for row in _measured(each)}
    manifest = first.manifest.model_copy(update={"name": studies.name, "confirm": None})
    records = [found[name] for name in sorted(found)]
    claims = study_claims(manifest, records)
    return replace(first, manifest=manifest, records=records, claims=claims)


def _each(studies: Studies) -> Section:
    """Each study's own sentence."""
    text = [
        f"{name}: {claim.sentence}"
        for name, material in zip(studies.names, studies.materials, strict=True)
        for claim in claims_of(material)
    ]
    return Section("What each study says", text, always=True)
