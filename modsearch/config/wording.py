"""What pydantic found wrong, in the words of who wrote it: where, what would be right, what is."""

from collections.abc import Callable, Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modsearch.errors import shown, unknown

WANTED = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text in UTF-8",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "json_invalid": "is not whole JSON",
    "json_type": "is not JSON",
    "greater_than": "must be over {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be under {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length}",
    "too_long": "takes at most {max_length} of them",
    "string_too_short": "needs text",
    "string_too_long": "takes at most {max_length} characters",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
}
"""By type of error; `{}` is filled from its context."""

INSIDE = "inside"
"""Type of an error whose text begins with the rest of the path, below the field that has it."""

LISTLESS = ("dict_type", "model_type", "too_long", "value_error")
"""Errors after which a list was not meant as several values."""


def first_error(
    error: ValidationError,
    model: type[BaseModel],
    values: object = None,
    origin: Callable[[str], str] = str,
    *,
    choices: bool = False,
) -> str:
    """For the first thing that is wrong in `values` of `model`: where (as `origin` says of a
    path), what would be right, and what it is; with `choices` also how several values are said."""
    # A misspelled key is often a missing one, too; what was written helps more.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    path = _written(first, values)
    if first["type"] == "extra_forbidden":
        *parents, key = path or [""]
        if known := _fields_at(model, parents):
            kind = f"key in {'.'.join(map(str, parents))}" if parents else "key"
            return str(unknown(kind, str(key), known))
    where = origin(".".join(str(part) for part in path))
    if first["type"] == INSIDE:
        return f"{where}.{first['msg']}"
    message = _sentence(first, choices)
    return f"{where}: {message}" if where else message


def _written(error: ErrorDetails, values: object) -> list[int | str]:
    """The path of an error as far as it leads through what was written: pydantic adds the kinds
    of a union to it."""
    path: list[int | str] = []
    at = values
    for place, part in enumerate(error["loc"]):
        last = place == len(error["loc"]) - 1
        if isinstance(at, BaseModel):
            at = dict(at)
        if (isinstance(at, Mapping) and part in at) or (
            isinstance(at, list | tuple) and isinstance(part, int) and part < len(at)
        ):
            at = at[part]  # type: ignore[index]  # a list takes the int that it was checked for
            path.append(part)
        elif values is None or (last and error["type"] == "missing"):
            path.append(part)
    return path


def _sentence(error: ErrorDetails, choices: bool) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":  # a validator of ours: it says all
        return error["msg"].removeprefix("Value error, ")
    if kind not in WANTED:
        return f"{error['msg'][:1].lower()}{error['msg'][1:]}, but got {shown(error['input'])}"
    wanted = WANTED[kind].format(**{name: _plain(value) for name, value in context.items()})
    if kind in ("missing", "json_invalid", "json_type"):
        return wanted
    return f"{wanted}, but got {shown(error['input'])}{_hint(error, choices)}"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("'", "")


def _hint(error: ErrorDetails, choices: bool) -> str:
    """A second line, where one can guess what was meant."""
    value = error["input"]
    if choices and isinstance(value, list) and value and error["type"] not in LISTLESS:
        return "\nto try several values, write {choice: [...]} in a search space"
    if (
        isinstance(value, str)
        and error["type"] in ("int_type", "float_type")
        and _is_number(value)
    ):
        return "\nleave the quotes out"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fields_at(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """Keys of the model that lies at a path inside another one; none where no model does."""
    for part in path:
        if part in model.model_fields:  # else an index or a name that the user gave
            annotations = [model.model_fields[str(part)].annotation]
            while annotations:
                found = annotations.pop(0)
                if isinstance(found, type) and issubclass(found, BaseModel):
                    model = found
                    break
                annotations += get_args(found)
            else:
                return []
    return list(model.model_fields)
