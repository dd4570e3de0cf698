"""Trees of values whose leaves may be distributions, as they are stated and as they are meant.

A leaf is fixed, or one of `{choice: [..]}`, `{int: [low, high], step: s}`,
`{float: [low, high]}` and `{log: [low, high]}`. A choice may hold components whose options are
distributions themselves.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, TypeVar

import numpy as np
from pydantic import GetCoreSchemaHandler, ValidationInfo, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from modsearch.config.reading import Tree
from modsearch.config.rules import OWN
from modsearch.config.wording import INSIDE
from modsearch.errors import ConfigError, shown

MOST_VALUES = 1000
"""Of one choice."""
MOST_INT = 2**53
"""Where floats and ledgers stop to tell integers apart."""
MOST_FLOAT = 1e300

T = TypeVar("T")


def spread(values: Sequence[T], most: int) -> list[T]:
    """All values, or as many as `most` evenly between the first and the last."""
    if len(values) <= most:
        return list(values)
    if most == 1:
        return [values[0]]
    return [values[place * (len(values) - 1) // (most - 1)] for place in range(most)]


@dataclass(frozen=True)
class Choice:
    """One of several values; a value may be a mapping with distributions of its own."""

    values: tuple[Any, ...]

    @cached_property
    def labels(self) -> list[Any]:
        """The values as a ledger stores them: scalars as they are, others as JSON; all as JSON
        where Python takes two for equal, as it does 1 and True."""
        plain = [
            value if value is None or isinstance(value, bool | int | float | str) else _json(value)
            for value in self.values
        ]
        clash = len(set(plain)) < len(plain)
        return [_json(value) for value in self.values] if clash else plain

    def labelled(self, label: Any) -> Any:
        """The value of a label."""
        return self.values[self.labels.index(label)]

    def has(self, label: Any) -> bool:
        """Whether it is a label of the axis; 1 is none where it has True."""
        return any(type(each) is type(label) and each == label for each in self.labels)

    @property
    def first(self) -> Any:
        """The first value."""
        return self.values[0]

    def at(self, share: float) -> Any:
        """The label at a share of the axis, from 0 to 1."""
        return _at(self.labels, share)

    def share(self, label: Any) -> float:
        """Where a label is on the axis, from 0 to 1, in the order of the values."""
        return self.labels.index(label) / max(1, len(self.labels) - 1)

    def spread(self, most: int) -> list[Any]:
        """So many values at the most, both ends among them."""
        return spread(self.values, most)

    def drawn(self, draws: Random) -> Any:
        """A random value."""
        return draws.choice(self.values)


@dataclass(frozen=True)
class Int:
    """low, low + step, ... up to high."""

    low: int
    high: int
    step: int

    @property
    def values(self) -> range:
        """All of them."""
        return range(self.low, self.high + 1, self.step)

    @property
    def num_values(self) -> int:
        """How many there are, also where `len` would not count them."""
        return (self.high - self.low) // self.step + 1

    def labelled(self, label: int) -> int:
        """A number is its own label."""
        return label

    def has(self, label: Any) -> bool:
        """Whether it is a value of the axis."""
        return type(label) is int and label in self.values

    @property
    def first(self) -> int:
        """The lowest value."""
        return self.low

    def at(self, share: float) -> int:
        """The value at a share of the axis, from 0 to 1."""
        return _at(self.values, share)

    def share(self, label: int) -> float:
        """Where a value is on the axis, from 0 to 1."""
        return _share(label, self.low, self.high)

    def spread(self, most: int) -> list[int]:
        """So many values at the most, both ends among them."""
        return spread(self.values, most)

    def drawn(self, draws: Random) -> int:
        """A random value."""
        return draws.choice(self.values)


@dataclass(frozen=True)
class Float:
    """A real number, uniform or log-uniform."""

    low: float
    high: float
    log: bool

    def labelled(self, label: float) -> float:
        """A number is its own label."""
        return label

    def has(self, label: Any) -> bool:
        """Whether it is a value of the axis; an end that was computed may be off by rounding."""
        slack = 1e-12 * max(abs(self.low), abs(self.high))
        return type(label) is float and self.low - slack <= label <= self.high + slack

    @property
    def first(self) -> float:
        """The lowest value."""
        return self.low

    def at(self, share: float) -> float:
        """The value at a share of the axis, from 0 to 1."""
        if not self.log:
            return float(self.low + share * (self.high - self.low))
        # numpy's: Python's differ in the last digit, and a trial is named by its values.
        low, high = np.log(self.low), np.log(self.high)
        return float(np.exp(low + share * (high - low)))

    def share(self, label: float) -> float:
        """Where a value is on the axis, from 0 to 1."""
        if not self.log:
            return _share(label, self.low, self.high)
        return _share(math.log(label), math.log(self.low), math.log(self.high))

    def spread(self, most: int) -> list[float]:
        """Both ends."""
        return [self.low, self.high]

    def drawn(self, draws: Random) -> float:
        """A random value."""
        if self.log:
            return math.exp(draws.uniform(math.log(self.low), math.log(self.high)))
        return draws.uniform(self.low, self.high)


Distribution = Choice | Int | Float


def _share(value: float, low: float, high: float) -> float:
    return float((value - low) / (high - low)) if high > low else 0.0


def _at(values: Sequence[T], share: float) -> T:
    return values[min(int(share * len(values)), len(values) - 1)]


class OpenTree(Mapping[str, Any]):
    """Values by key, any of which may be open: distributions, read once from what states them.

    Keys are in a fixed order, so that two files that say the same make the same study. Two trees
    are equal that state the same.
    """

    def __init__(self, stated: Tree, *, own: bool = False) -> None:
        """`own`: as it meant once, see `parse_tree`.

        Raises:
            ConfigError: a distribution is malformed; says at which path.
        """
        self._values = {key: parse_tree(stated[key], key, own=own) for key in sorted(stated)}
        self.stated = stated
        """Plain data, to be written back as they were."""

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self.stated == (other.stated if isinstance(other, OpenTree) else other)

    def __repr__(self) -> str:
        return repr(self._values)  # a cell's name in the ledger has it

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read from a mapping, and written as it was stated."""

        def read(
            value: Any, inner: ValidatorFunctionWrapHandler, info: ValidationInfo
        ) -> OpenTree:
            if isinstance(value, OpenTree):
                return value
            try:
                return cls(inner(value), own=info.context == OWN)
            except ConfigError as error:
                raise PydanticCustomError(INSIDE, "{said}", {"said": str(error)}) from error

        return core_schema.with_info_wrap_validator_function(
            read,
            handler.generate_schema(Tree),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda tree: tree.stated
            ),
        )


def parse_tree(value: Any, path: str = "", *, own: bool = False) -> Any:
    """Plain data with distributions in place of the mappings that state them.

    `own`: of a study of before, also where a rule that came later would refuse it.

    Raises:
        ConfigError: a distribution is malformed; says at which path.
    """
    if not isinstance(value, Mapping):
        return value
    stated = KINDS & set(value)
    if not stated or (own and set(value) - _keys(min(stated))):
        # In a fixed order: two files that say the same make the same study.
        return {
            key: parse_tree(inner, f"{path}.{key}" if path else str(key), own=own)
            for key, inner in sorted(value.items())
        }
    try:
        return _distribution(value, min(stated), own=own)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None


KINDS = {"choice", "int", "float", "log"}


def _keys(kind: str) -> set[str]:
    return {kind, "step"} if kind == "int" else {kind}


def is_distribution(value: Any) -> bool:
    """Whether plain data state a distribution, right or wrong."""
    return isinstance(value, Mapping) and bool(KINDS & set(value))


def _distribution(value: Mapping[str, Any], kind: str, *, own: bool) -> Distribution:
    if set(value) - _keys(kind):
        raise ConfigError(
            f"a distribution is {FORMS[kind]} and nothing beside it, but got {shown(value)}"
        )
    if kind == "choice":
        return _choice(value["choice"], own=own)
    low, high = _bounds(value[kind], kind, own=own)
    if kind == "int":
        step = value.get("step", 1)
        if type(step) is not int or not 0 < step <= (math.inf if own else MOST_INT):
            raise ConfigError(f"step is a whole number over 0, but got {shown(step)}")
        return Int(int(low), int(high), step)
    if kind == "log" and low <= 0:
        raise ConfigError(f"a log distribution needs a low over 0, but got {shown(low)}")
    return Float(low, high, log=kind == "log")


FORMS = {
    "choice": "{choice: [A, B, ...]}",
    "int": "{int: [LOW, HIGH], step: S}",
    "float": "{float: [LOW, HIGH]}",
    "log": "{log: [LOW, HIGH]}",
}


def _choice(values: Any, *, own: bool) -> Choice:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"choice takes a list of values, but got {shown(values)}")
    if len(values) > MOST_VALUES and not own:
        raise ConfigError(f"choice has {len(values):,} values, over {MOST_VALUES:,}")
    parsed = tuple(parse_tree(value, own=own) for value in values)
    if any(isinstance(value, Distribution) for value in parsed):
        raise ConfigError(f"a choice holds values, not distributions, but got {shown(values)}")
    if not own:
        _refuse_repeats(parsed, values)
    return Choice(parsed)


def _refuse_repeats(parsed: Sequence[Any], stated: Sequence[Any]) -> None:
    seen: dict[str, Any] = {}
    for value, plain in zip(parsed, stated, strict=True):
        meaning = _json(_meaning(value))
        if meaning in seen:
            raise ConfigError(
                f"choice has {shown(plain)} twice"
                if shown(plain) == shown(seen[meaning])
                else f"choice has one value twice: {shown(seen[meaning])} and {shown(plain)}"
            )
        seen[meaning] = plain


def _meaning(value: Any) -> Any:
    """The same for what means the same: 1 and 1.0, a name and a component without options."""
    if isinstance(value, Distribution):
        return repr(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        if set(value) == {"name"}:
            return value["name"]
        return {key: _meaning(inner) for key, inner in value.items()}
    return [_meaning(inner) for inner in value] if isinstance(value, list) else value


def _bounds(value: Any, kind: str, *, own: bool) -> tuple[float, float]:
    if not (isinstance(value, list) and len(value) == 2):
        raise ConfigError(f"bounds are {FORMS[kind]}, but got {shown(value)}")
    for bound in value:
        if kind == "int":
            if type(bound) is not int or abs(bound) > (math.inf if own else MOST_INT):
                raise ConfigError(f"bounds of int are whole numbers, but got {shown(value)}")
        elif type(bound) not in (int, float) or not abs(bound) <= (
            sys.float_info.max if own else MOST_FLOAT
        ):
            raise ConfigError(f"bounds of {kind} are finite numbers, but got {shown(value)}")
    low, high = value if kind == "int" else map(float, value)
    if low > high:
        raise ConfigError(f"bounds are {FORMS[kind]}, low first, but got {shown(value)}")
    return low, high


def _json(value: Any) -> str:
    return json.dumps(value, default=_open, sort_keys=True)


def _open(axis: Distribution) -> str:
    return "open"
