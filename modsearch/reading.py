"""What a user wrote, as plain data: YAML, overrides of its values, and what is wrong with them."""

import re
from pathlib import Path
from typing import get_args

import yaml
from pydantic import BaseModel, ValidationError

from modsearch.axes import Tree
from modsearch.errors import ConfigError
from modsearch.registry import unknown


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but 5e10 is a number (YAML 1.1 asks for 5.0e+10)."""


_Loader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.?[\d_]*([eE][-+]?\d+)|\d[\d_]*\.[\d_]*|\.\d+([eE][-+]?\d+)?|\.(inf|nan))$"
    ),
    list("-+0123456789."),
)


def read_yaml(path: Path, overrides: list[str]) -> Tree:
    """A YAML file as plain data, with `a.b=c` overrides applied.

    Raises:
        ConfigError: the file is missing or is not a YAML mapping, or an override is malformed.
    """
    try:
        value = yaml.load(path.read_text(), _Loader)  # derives from SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read {path}: {error}") from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {line}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must be a mapping of keys to values")
    for text in overrides:
        override(value, text)
    return value


def override(tree: Tree, stated: str) -> None:
    """Set one value of a tree, as `a.b=c` says.

    Raises:
        ConfigError: it is malformed.
    """
    path, equals, text = stated.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set takes key.key=value, but got `{stated}`")
    *parents, last = path.split(".")
    for key in parents:
        if tree.get(key) is None:
            tree[key] = {}
        if not isinstance(tree[key], dict):
            raise ConfigError(f"--set {path}: `{key}` is a value, it has no keys")
        tree = tree[key]
    try:
        tree[last] = yaml.load(text, _Loader)  # derives from SafeLoader
    except yaml.YAMLError:
        raise ConfigError(f"--set {path}: `{text}` is not valid YAML") from None


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """For the first thing that is wrong in values of `model`: where, and what."""
    # A misspelled key is often a missing one, too; what was written helps more.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    *parents, key = first["loc"] or ("",)
    if first["type"] == "extra_forbidden" and (known := _fields_at(model, parents)):
        kind = f"key in {'.'.join(map(str, parents))}" if parents else "key"
        return str(unknown(kind, str(key), known))
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    shown = f", but got {given!r}" if isinstance(given, str | int | float) else ""
    return f"{where}: {message}{shown}" if where else message


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
