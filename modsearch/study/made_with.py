"""Which plugin files a trial is made with, and whether its weights are used with the same."""

import shlex
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

from modsearch.config.model import ModelConfig
from modsearch.config.records import Candidate
from modsearch.config.runtime import Plugin
from modsearch.errors import StudyError
from modsearch.nn.parts import words
from modsearch.registry.built_in import components_of
from modsearch.registry.registry import Origin
from modsearch.space.kinds import OF_PART


def used_by(candidate: Candidate, plugins: Sequence[Plugin]) -> tuple[Plugin, ...]:
    """Of plugin files those that a candidate has a component of: its trial depends on no other."""
    if not plugins:
        return ()
    files = set()
    for part, kinds in OF_PART.items():
        named = set(words(candidate.model_dump(mode="json", include={part})))
        for registry in kinds.values():
            for name in named.intersection(registry.names()):
                files |= _files(registry.origins(name))
    return tuple(plugin for plugin in plugins if plugin.path in files)


def check_plugins(
    made_with: Mapping[str, str],
    plugins: Iterable[Plugin],
    models: Iterable[ModelConfig],
    what: Path,
) -> None:
    """Weights are scored with the plugins that they were trained with, and no others' content.

    Plugins that the models have no component of need not be there.

    Raises:
        StudyError: files are not named, or have changed.
    """
    given = {plugin.path: plugin.digest for plugin in plugins}
    right = {path for path, digest in given.items() if digest in made_with.values()}
    if all(_comes_from(right, kind, name) for kind, name in components_of(models)):
        return
    missing = [name for name, digest in made_with.items() if digest not in given.values()]
    if missing:
        copies = next(
            (root / "plugins" for root in (what, *what.resolve().parents) if _is_study(root)),
            Path(),
        )
        named = " ".join(shlex.join(["--plugin", str(copies / name)]) for name in missing)
        raise StudyError(
            f"{what} was made with plugin {', '.join(missing)}, which is not named or has changed"
            f"\nname it as it was: {named}"
        )


def _is_study(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def _comes_from(plugins: Set[str], kind: str, name: str) -> bool:
    """Whether a component is there, and not from another plugin file than these."""
    origins = OF_PART["model"][kind].origins(name)
    return bool(origins) and _files(origins) <= plugins


def _files(origins: Iterable[Origin]) -> set[str]:
    """Of those that are in plugin files."""
    return {each.target.rpartition(":")[0] for each in origins if each.how == "plugin file"}
