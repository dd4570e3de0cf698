"""Files that come with an installation, by their bare names."""

import os
from pathlib import Path

from modsearch.errors import ConfigError, shown, unknown

PACKAGE = Path(__file__).parents[1]
"""The folder of modsearch's own code."""
SHIPPED = {"search_spaces": "search space", "evals": "suite", "reports": "recipe"}
"""What lies in a folder of shipped files."""


def shipped(folder: str, name: str) -> Path:
    """A user's file by its path, or a shipped one of `folder` by its bare name.

    Raises:
        ConfigError: neither exists; the message has the nearest name.
    """
    path = Path(name)
    bare = not path.suffix and os.sep not in name
    roots = [root for root in _data_folders(folder) if root.is_dir()]
    if bare:
        for root in roots:
            if (root / f"{name}.yaml").is_file():
                return root / f"{name}.yaml"
    known = shipped_names(folder)
    what = SHIPPED.get(folder, folder)
    hint = f"shipped {what}s: {', '.join(known)}" if known else "name a YAML file"
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("[!.]*.yaml"))[:8]
        raise ConfigError(
            f"{shown(name)} is a folder, not a YAML file\n"
            + (f"name a file in it: {', '.join(inside)}" if inside else hint)
        )
    if not bare:
        if not path.is_file():
            raise ConfigError(f"no file {name}\n{hint}")
        if path.suffix.lower() not in ("", ".yaml", ".yml", ".json"):
            raise ConfigError(f"{name} does not end in .yaml, so it is not read as one\n{hint}")
        return path
    if path.is_file():
        raise ConfigError(
            f"{shown(name)} has no suffix, so it reads as a shipped name\n"
            f"name the file by its path: ./{name}"
        )
    if Path(f"{name}.yaml").is_file():
        raise ConfigError(f"no shipped name {shown(name)}\ndid you mean the file {name}.yaml?")
    if not known:
        raise ConfigError(f"no {what}s are shipped with this installation; name a file")
    raise unknown(what, name, known)


def is_shipped(folder: str, path: Path) -> bool:
    """Whether a file is one of those that come with an installation."""
    return path.parent in _data_folders(folder)


def shipped_names(folder: str) -> list[str]:
    """Bare names of what is shipped in a folder."""
    return sorted({file.stem for root in _data_folders(folder) for file in root.glob("*.yaml")})


def _data_folders(folder: str) -> tuple[Path, Path]:
    """Where shipped files lie: in an installation, and in the repository."""
    return PACKAGE / "_data" / folder, PACKAGE.parent / folder
