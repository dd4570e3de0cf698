"""Plugin files: Python files with components of a third party, each imported once.

The bytes that are hashed are the bytes that are run: the file is read once and compiled here,
past Python's bytecode cache, which may be stale for a file that was just edited. A module's
name comes from its file's path, so it is the same in every process of a study.
"""

import hashlib
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from modsearch.config.runtime import Plugin
from modsearch.errors import ConfigError, ModsearchError, has_surrogates, reason
from modsearch.registry.registry import FILES


@dataclass(frozen=True)
class _Loaded:
    plugin: Plugin
    source: bytes


_LOADED: dict[str, _Loaded] = {}
"""What this process has run, by name of the module."""


def load_plugins(files: Iterable[str | Path | Plugin]) -> tuple[Plugin, ...]:
    """Run plugin files that this process has not run yet; each once, in order.

    A `Plugin` must still have the content of its digest: it is refused before it is run.

    Raises:
        ConfigError: a file is missing, is not Python, fails, or has changed.
    """
    loaded: dict[str, Plugin] = {}
    for file in files:
        wanted = file.digest if isinstance(file, Plugin) else None
        path = Path(file.path if isinstance(file, Plugin) else file).resolve()
        plugin = _load(path, wanted)
        loaded[plugin.path] = plugin
    return tuple(loaded.values())


def plugin_source(plugin: Plugin) -> bytes:
    """The content that was run."""
    return _LOADED[_module_name(Path(plugin.path))].source


def by_name(plugins: Iterable[Plugin]) -> dict[str, Plugin]:
    """Plugins by the names of their files; a second file of a name has its digest in it."""
    found: dict[str, Plugin] = {}
    for plugin in plugins:
        path = Path(plugin.path)
        name = path.name if path.name not in found else f"{path.stem}-{plugin.digest}.py"
        found[name] = plugin
    return found


def digests(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Of plugins, by the names of their files."""
    return {name: plugin.digest for name, plugin in by_name(plugins).items()}


def _module_name(path: Path) -> str:
    stem = re.sub(r"\W", "_", path.stem)
    return f"modsearch_plugin_{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _load(path: Path, wanted: str | None) -> Plugin:
    if has_surrogates(str(path)):  # the path goes into files that are UTF-8
        raise ConfigError(f"the path of plugin {path} is not UTF-8: give it another name")
    name = _module_name(path)
    known = _LOADED.get(name)
    if known is None or wanted is None:
        source = _read(path)
        found = _Loaded(Plugin(path=str(path), digest=_digest(source)), source)
        if known is not None and known.plugin != found.plugin:
            raise ConfigError(
                f"plugin {path} has changed since this process ran it\n"
                f"start a new one: a module can't be taken back"
            )
        known = known or found
    if wanted not in (None, known.plugin.digest):
        raise ConfigError(
            f"plugin {path} has changed: {wanted} is now {known.plugin.digest}\n"
            f"bring the old file back, or start anew"
        )
    if name not in _LOADED:
        # Before it runs: what it registers asks where it comes from.
        _LOADED[name], FILES[name] = known, str(path)
        try:
            _run(name, path, known.source)
        except BaseException:
            del _LOADED[name], FILES[name]
            raise
    return known.plugin


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:16]


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ConfigError(f"no plugin file {path}\nname a Python file that registers components")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read plugin {path}: {error.strerror}") from error


def _run(name: str, path: Path, source: bytes) -> None:
    """Import a file's content under a name; on failure nothing of the module stays.

    Raises:
        ConfigError: the code is wrong; says in which line.
    """
    spec = spec_from_file_location(name, path)
    if spec is None:
        raise ConfigError(f"{path} is not a plugin: its name does not end in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses, pydantic and inspect look classes up
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:  # whatever a stranger's file raises
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, ModsearchError):
            raise ConfigError(f"plugin {path}: {error}") from error
        raise ConfigError(
            f"plugin {path} fails{_line(error, path)}: {reason(error)}\n"
            f"mend the file, or leave it out"
        ) from error


def fault(error: BaseException) -> str | None:
    """What code of a plugin file did wrong, and where; None where none of it ran."""
    if (at := plugin_frame(error)) is None:
        return None
    return (
        f"plugin {at.filename}, line {at.lineno}, in `{at.name}`: {reason(error)}\n"
        f"`modsearch components check NAME --plugin {at.filename}` says more"
    )


def plugin_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of a plugin file that an error passed through."""
    files = {known.plugin.path for known in _LOADED.values()}
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((frame for frame in frames if frame.filename in files), None)


def _line(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" in line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f" in line {lines[-1]}" if lines else ""
