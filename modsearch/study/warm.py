"""What explore's sampler is told of trials of other studies: read once, and kept with the study.

A trial of another study says something of a configuration here, whatever its arm is called, its
budget, its text: which one is better, not how low its loss would be. It is no result of this one.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from modsearch.analysis.numbers import counted
from modsearch.config.manifest import Manifest
from modsearch.config.model import ModelConfig
from modsearch.config.priors import Prior, Priors, WarmStart
from modsearch.config.records import Record, Stage
from modsearch.config.units import nats_per
from modsearch.errors import StudyError, shown
from modsearch.registry import table
from modsearch.space.axes import spread
from modsearch.space.matching import Match, axis_told, match
from modsearch.space.samplers import SAMPLERS
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory

MOST_TAKEN = 256
"""Configurations of an arm; what a sampler takes to think grows with the cube of their number."""


class Warm:
    """Studies that priors are taken from.

    `key_of` names a study, wherever it lies.
    """

    def __init__(
        self, studies: Mapping[str, Path], space: Space, key_of: Callable[[StudyDirectory], str]
    ) -> None:
        """`studies`: their directories, by what they are called in errors.

        Raises:
            StudyError: the space has no use for them.
        """
        self.studies = studies
        self.space = space
        self.key_of = key_of
        explore = space.explore
        if explore is None:
            raise StudyError(
                "--warm-start tells explore's sampler, but the space has no explore stage\n"
                "leave it out; --reuse takes what was trained already"
            )
        if not SAMPLERS.get(explore.sampler.name).warms:
            able = ", ".join(name for name in sorted(table.SAMPLERS) if SAMPLERS.get(name).warms)
            raise StudyError(
                f"--warm-start: sampler `{explore.sampler.name}` learns from no trial of elsewhere"
                f"\nset explore.sampler to one that does ({able}), or leave it out"
            )
        if explore.objective is not None:
            raise StudyError(
                "--warm-start tells of losses, but explore.objective has others\n"
                "leave one of them out"
            )

    def check(self, known: Sequence[WarmStart], root: Path) -> None:
        """Whether a study that is there was begun with the same ones.

        Raises:
            StudyError: it was not; what it was told then stays.
        """
        if not known:
            raise StudyError(
                f"{root} was begun without --warm-start, and has proposed its trials so\n"
                f"leave it out, or use another --out"
            )
        keys = {each.key: each.name for each in known}
        for name, folder in self.studies.items():
            if self.key_of(StudyDirectory(folder)) not in keys:
                raise StudyError(
                    f"{root} was warm-started from {', '.join(keys.values())}, not from {name}\n"
                    f"leave --warm-start out: what was taken then is in {root / 'prior.json'}"
                )

    def admit(self, manifest: Manifest, into: StudyDirectory) -> Manifest:
        """A study's manifest with what it was told; of one that is there, as it is.

        Raises:
            StudyError: there is nothing to tell, or the study was begun with something else.
        """
        if (into.root / "manifest.json").exists():
            self.check(manifest.warm, into.root)
            return manifest
        origins, priors = self.take(manifest)
        into.write_priors(priors)  # first: a manifest that speaks of them is never without
        return manifest.model_copy(update={"warm": origins})

    def take(self, ours: Manifest) -> tuple[tuple[WarmStart, ...], Priors]:
        """What the studies say of configurations that are points of the arms' open axes.

        Raises:
            StudyError: one of them says nothing.
        """
        arms: dict[str, list[Prior]] = {arm: [] for arm in self.space.learned_arms}
        origins = []
        for name, folder in self.studies.items():
            directory = StudyDirectory(folder)
            theirs = directory.manifest()
            given = Path(name).name
            origin = theirs.name if given == theirs.name else f"{theirs.name} ({given})"
            found = _Found(self.space, ours, theirs, origin)
            taken = found.of(f"--warm-start {name}", directory.records())
            for arm, priors in taken.items():
                arms[arm] += priors
            counts = {arm: len(priors) for arm, priors in taken.items()}
            origins.append(WarmStart(name=origin, key=self.key_of(directory), taken=counts))
        return tuple(origins), Priors(arms={arm: tuple(each) for arm, each in arms.items()})


@dataclass(frozen=True)
class _Found:
    """What one study says of ours."""

    space: Space
    ours: Manifest
    theirs: Manifest
    origin: str

    def of(self, name: str, records: Sequence[Record]) -> dict[str, list[Prior]]:
        """Priors by arm.

        Raises:
            StudyError: there are none; says what is nearest to one.
        """
        if self.theirs.unit != self.ours.unit:
            raise StudyError(
                f"{name}: its losses are {nats_per(self.theirs.unit)}, those of this study "
                f"{nats_per(self.ours.unit)}\nname a study with as many tokenizers"
            )
        # What confirm scores is test text, by which nothing may be chosen.
        finished = [r for r in records if r.scores is not None and r.stage is not Stage.CONFIRM]
        if not finished:
            raise StudyError(
                f"{name} has no finished trial of explore or measure\n"
                f"leave it out, or name another study"
            )
        alike = [each for each in finished if self._tokenizer(each.candidate.model)]
        if not alike:
            there, here = self.theirs.corpus, self.ours.corpus
            raise StudyError(
                f"{name}: its losses are for tokens of {shown(there.tokenizer)} with "
                f"{there.vocab_size:,}, here of {shown(here.tokenizer)} with {here.vocab_size:,}\n"
                f"name a study with the same tokenizer"
            )
        found: dict[str, list[Prior]] = {}
        nearest: tuple[int, str, Record, Match] | None = None
        for arm in self.space.learned_arms:
            matches = self._matches(arm, alike)
            whole = [(record, each) for record, each in matches if not each.unlike]
            found[arm] = _thinned(self._priors(whole), max(self.space.budgets(Stage.EXPLORE)))
            for record, each in matches:
                if nearest is None or len(each.unlike) < nearest[0]:
                    nearest = len(each.unlike), arm, record, each
        if not any(found.values()):
            why = "none could be built here\nname another study, or leave it out"
            if nearest is not None:
                _, arm, record, each = nearest
                why = _difference(self.space.explored(arm), arm, record, each)
            raise StudyError(
                f"{name}: none of its {counted(len(alike), 'trial')} is a point of an arm's open "
                f"axes here: {why}"
            )
        return found

    def _tokenizer(self, model: ModelConfig) -> bool:
        """Whether a model's tokens are those of the same tokenizer here."""
        there, here = self.theirs.facts_of(model), self.ours.facts_of(model)
        return (there.tokenizer, there.vocab_size) == (here.tokenizer, here.vocab_size)

    def _matches(self, arm: str, records: Sequence[Record]) -> list[tuple[Record, Match]]:
        """The nearest point of an arm for each record."""
        tree = self.space.explored(arm)
        known: dict[str, Match | None] = {}
        found = []
        for record in records:
            key = record.candidate.model_dump_json(exclude={"data"})
            if key not in known:
                known[key] = match(tree, record.candidate)
            if (each := known[key]) is not None:
                found.append((record, each))
        return found

    def _priors(self, whole: Sequence[tuple[Record, Match]]) -> list[Prior]:
        """One for each configuration, budget and level."""
        groups: dict[tuple[float, str, str], list[tuple[Record, Match]]] = defaultdict(list)
        for record, each in whole:
            point = repr(sorted(each.point.items()))
            groups[record.budget.flops, self._level(record), point].append((record, each))
        return [
            Prior(
                point=group[0][1].point,
                budget=budget,
                loss=fmean(r.scores.causal_loss for r, _ in group if r.scores is not None),
                trials=len(group),
                level=level,
            )
            for (budget, level, _), group in sorted(groups.items(), key=lambda each: each[0])
        ]

    def _level(self, record: Record) -> str:
        """Of whose losses a trial's is one."""
        model = record.candidate.model
        there, here = self.theirs.facts_of(model), self.ours.facts_of(model)
        same = there.fingerprint == here.fingerprint
        sample = record.validation == self.space.validation(Stage.EXPLORE)
        return "" if same and sample else f"{self.origin}, {record.stage}"


def _difference(tree: Mapping[str, Any], arm: str, record: Record, found: Match) -> str:
    """The first setting in which an arm has no point like a trial, and what would be right."""
    path, (there, here) = next(iter(found.unlike.items()))
    axis = axis_told(tree, found.point, path)
    hint = "give the axis such values" if axis else "name a study of the same constants"
    return (
        f"{path} is {shown(there)} there ({record.hash} of arm `{record.arm}`), and "
        f"{axis or shown(here)} in arm `{arm}` here\n{hint}, or leave it out"
    )


def _thinned(priors: list[Prior], budget: float) -> list[Prior]:
    """At most `MOST_TAKEN`: those of the nearest budgets, and of the last of these some that are
    evenly spread by their losses."""
    if len(priors) <= MOST_TAKEN:
        return priors
    groups: dict[float, list[Prior]] = defaultdict(list)
    for each in priors:
        groups[max(each.budget, budget) / min(each.budget, budget)].append(each)
    kept: list[Prior] = []
    for _, group in sorted(groups.items()):
        if left := MOST_TAKEN - len(kept):
            kept += spread(sorted(group, key=lambda each: each.loss), left)
    return kept
