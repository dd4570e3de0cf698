"""What a study was made with, and whether it may go on: its manifest and the checks on it."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Set
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import torch

from modsearch import __version__
from modsearch.analysis.noise import seed_sd
from modsearch.analysis.power import reachable_margin
from modsearch.config.data import CorpusFacts
from modsearch.config.design import Design
from modsearch.config.manifest import Manifest
from modsearch.config.model import ModelConfig
from modsearch.config.records import Stage
from modsearch.config.runtime import EngineName, Plugin, Runtime
from modsearch.config.shipped import PACKAGE
from modsearch.errors import StudyError, redacted
from modsearch.nn.parts import words
from modsearch.planning.compilation import constants
from modsearch.registry.built_in import components_of
from modsearch.registry.plugins import by_name, digests, load_plugins, plugin_source
from modsearch.space.kinds import OF_PART, OF_SEARCH
from modsearch.space.space import Arm, Section, Space
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_bytes, write_yaml
from modsearch.study.completeness import study_space
from modsearch.study.tokens import refuse_other_tokens

CONSTANTS = ("threads", "precision", "micro_batch", "compile")
"""Of a runtime; another device is told with what else has changed."""

EXTENSIBLE = {
    "explore": {"budgets", "trials"},
    "measure": {"ladder", "seeds"},
    "confirm": {"budgets", "seeds"},
}
"""What may grow in a stage."""

LIBRARIES = ("torch", "numpy", "optuna", "lm_eval", "ray", "pandas", "scipy")


def open_manifest(
    directory: StudyDirectory,
    space: Space,
    corpus: CorpusFacts,
    corpora: Mapping[int, CorpusFacts] | None = None,
    *,
    allow_mixed: bool,
    elsewhere: bool = False,
    engine: EngineName = "local",
    ledger: str | None = None,
) -> Manifest:
    """Make the manifest of a new study, or hold this run against the one that is there.

    `ledger` is where its database is, where that is not a file of the study directory.
    `elsewhere`: trials run on other machines, whose devices this one can't see. `corpora` are the
    facts of each vocabulary, where the study has several tokenizers.

    Raises:
        StudyError: the study was made with another space, corpus, code, plugin, torch or device.
    """
    plugins = load_plugins(space.plugins)
    fresh = _fresh_manifest(space, corpus, plugins, elsewhere=elsewhere, ledger=ledger)
    remade = ledger is None and directory.lost_ledger()
    several = {"corpora": dict(corpora or {}), "unit": space.unit}
    fresh = fresh.model_copy(update={"engine": engine, "ledger_remade": remade, **several})
    if not (directory.root / "manifest.json").exists():
        write_yaml(directory.space, space.model_dump(mode="json"))
        _keep_copies(directory, plugins)
        directory.write_manifest(fresh)
        return fresh
    old = directory.manifest()
    before = study_space(directory)
    begun = old.confirm is None or bool(old.confirm.chosen)
    _refuse_other_space(before, space, directory.root, begun=begun)
    _refuse_other_runtime(old.runtime, fresh.runtime, space, directory.root)
    refuse_other_tokens(old, fresh, space.vocab_sizes, directory.root)
    if fresh.ledger != old.ledger:
        raise StudyError(
            f"the ledger of {directory.root} is {old.ledger or directory.ledger}, not "
            f"{fresh.ledger or directory.ledger}\nname it with --ledger; if it has moved, change "
            f"`ledger` in {directory.root / 'manifest.json'}"
        )
    other = _differences(old, fresh)
    if other and not allow_mixed:
        raise StudyError(
            f"{directory.root} was made with other versions: {', '.join(other)}\n"
            f"use another --out, or resume with --allow-mixed, which the report will show"
        )
    spread = fresh.runtime.model_dump(include={"ranks", "parallel"})
    manifest = old.model_copy(
        update={
            "runtime": old.runtime.model_copy(update=spread),
            "mixed": list(dict.fromkeys([*old.mixed, *other])),
            "ledger_remade": old.ledger_remade or remade,
            "confirm": _extended(old.confirm, fresh.confirm),
        }
    )
    _keep_copies(directory, plugins)
    if manifest != old:
        directory.write_manifest(manifest)
    if before != space:
        write_yaml(directory.space, space.model_dump(mode="json"))
    return manifest


def _design(space: Space) -> Design | None:
    """How the space's confirm decides."""
    confirm = space.confirm
    if confirm is None:
        return None
    margin = confirm.margin or reachable_margin(confirm.looks, seed_sd(min(confirm.budgets)))
    return Design(looks=confirm.looks, curve=confirm.seeds is None, margin=margin)


def _extended(old: Design | None, new: Design | None) -> Design | None:
    """What was chosen stays; seeds that a fixed design gets after its look are noted."""
    if old is None or new is None or not old.chosen:
        return new
    if old.looks == new.looks:
        return old
    return new.model_copy(
        update={
            "chosen": old.chosen,
            "margin": old.margin,
            "earlier": (*old.earlier, old.looks[-1]),
        }
    )


def study_key(space: Space, manifest: Manifest) -> str:
    """Name of a study where studies share a database or a storage.

    It is the same on every machine, and another one for whatever a result depends on.
    """
    constant = space.resources.model_dump(
        mode="json", include={"threads", "device", "micro_batch"}
    )
    constant["precision"] = manifest.runtime.precision
    if manifest.runtime.compile:
        constant["compile"] = True
    fixed = space.model_dump(mode="json", include={"seed", "fixed", "axes", "arms"})
    made_with = [*manifest.fingerprints, manifest.code, manifest.packages]
    made_with += [manifest.versions["torch"], manifest.runtime.device]
    return f"{space.name}-{_digest([fixed, constant, made_with])}"


def stage_key(space: Space, stage: Stage) -> str:
    """What a stage is beside what may grow in it."""
    section = getattr(space, stage)
    stated = section and section.model_dump(mode="json", exclude=EXTENSIBLE[stage])
    if stated and stated.get("objective", ...) is None:  # as before there were objectives
        del stated["objective"]
    return _digest(stated)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _keep_copies(directory: StudyDirectory, plugins: Iterable[Plugin]) -> None:
    """For the record. A copy of another content stays, and the new one has its digest in its
    name."""
    for name, plugin in by_name(plugins).items():
        source = plugin_source(plugin)
        path = directory.plugins / name
        if path.exists() and path.read_bytes() != source:
            path = directory.plugins / f"{Path(plugin.path).stem}-{plugin.digest}.py"
        write_bytes(path, source)


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
    files = {o.target.rpartition(":")[0] for o in origins if o.how == "plugin file"}
    return bool(origins) and files <= plugins


def _fresh_manifest(
    space: Space,
    corpus: CorpusFacts,
    plugins: Iterable[Plugin],
    *,
    elsewhere: bool,
    ledger: str | None,
) -> Manifest:
    runtime = constants(space, elsewhere=elsewhere)
    return Manifest(
        name=space.name,
        seed=space.seed,
        arms={name: arm.control_of for name, arm in space.arms.items()},
        runtime=runtime,
        corpus=corpus,
        code=code_hash(),
        revision=_git_revision(),
        started=datetime.now(UTC).date().isoformat(),
        versions={"python": platform.python_version(), "modsearch": __version__}
        | {library: version(library) for library in LIBRARIES},
        machine=_machine(runtime.device),
        command=shlex.join([Path(sys.argv[0]).name, *map(redacted, sys.argv[1:])]),
        plugins=digests(plugins),
        packages=_packages(space),
        ledger=ledger,
        confirm=_design(space),
    )


def code_hash() -> str:
    """Hash of the package's sources: what a result depends on, committed or not."""
    return _sources_hash(PACKAGE)


def _sources_hash(root: Path) -> str:
    """Of a package's folder, or of a single module."""
    paths = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _packages(space: Space) -> dict[str, str]:
    """Installed packages whose components the space names, with version and hash of sources."""
    sections: list[Section | Arm] = [space.fixed, space.axes, *space.arms.values()]
    stated = [
        (OF_PART[part], tree.stated)
        for section in sections
        for part, tree in (("model", section.model), ("optim", section.optim))
    ]
    if space.explore is not None:
        stated.append((OF_SEARCH, {"name": space.explore.sampler.name}))
    found = {}
    for kinds, values in stated:
        for registry, name in product(kinds.values(), set(words(values))):
            if name not in registry.names():
                continue
            for origin in registry.origins(name):
                if origin.how == "entry point":
                    package, _, number = origin.distribution.rpartition(" ")
                    top = origin.target.partition(":")[0].partition(".")[0]
                    found[package] = f"{number} {_module_hash(top)}"
    return dict(sorted(found.items()))


def _module_hash(name: str) -> str:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return "unknown"
    origin = Path(spec.origin)
    return _sources_hash(origin.parent if spec.submodule_search_locations else origin)


def _differences(old: Manifest, new: Manifest) -> list[str]:
    """What a result depends on and is not as it was."""
    found = []
    if old.code != new.code:
        found.append(f"code {old.code} is now {new.code}")
    if set(old.plugins.values()) != set(new.plugins.values()):
        found += _changes("plugin", old.plugins, new.plugins)
    found += _changes("package", old.packages, new.packages)
    if old.versions["torch"] != new.versions["torch"]:
        found.append(f"torch {old.versions['torch']} is now {new.versions['torch']}")
    if old.runtime.device != new.runtime.device:
        found.append(f"device {old.runtime.device} is now {new.runtime.device}")
    return found


def _changes(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return [
        f"{what} {name} {old.get(name, 'not there')} is now {new.get(name, 'not there')}"
        for name in names
    ]


def _refuse_other_space(old: Space, new: Space, root: Path, *, begun: bool) -> None:
    """A study may be extended (more trials, sizes, budgets, seeds), not changed; how confirm
    decides is fixed once it has `begun`, for whoever adds looks after a look is fooled more often.

    Raises:
        StudyError: something else differs; the message names it.
    """
    for name in ("name", "seed", "fixed", "axes", "arms"):
        if getattr(old, name) != getattr(new, name):
            raise StudyError(
                f"{root} was made with other `{name}`: a study may be extended, not changed\n"
                f"use another --out for the changed space"
            )
    for stage, extensible in EXTENSIBLE.items():
        if stage == "confirm" and not begun:
            continue
        before, after = getattr(old, stage), getattr(new, stage)
        if before is not None and (
            after is None
            or before.model_dump(exclude=extensible) != after.model_dump(exclude=extensible)
            or (stage == "confirm" and (before.seeds is None) != (after.seeds is None))
        ):
            named = [
                f"{stage}.{key}"
                for key in type(before).model_fields
                if after is None or getattr(before, key) != getattr(after, key)
            ]
            raise StudyError(
                f"{root} was made with another `{stage}` ({', '.join(named)}): only "
                f"{', '.join(sorted(extensible))} may grow\n"
                f"use another --out for the changed space"
            )
    if not _asked(old, begun=begun) <= _asked(new, begun=begun):
        raise StudyError(
            f"{root} was made with more trials, sizes, budgets or seeds: a study may grow, not "
            f"shrink\nuse another --out for the smaller space"
        )


def _refuse_other_runtime(old: Runtime, new: Runtime, space: Space, root: Path) -> None:
    """What `auto` was decided to be stays, also where a study that has grown would decide anew.

    Raises:
        StudyError: a constant differs; the message names it.
    """
    was, now = old.model_dump(), new.model_dump()
    for name in CONSTANTS:
        before, after = was[name], now[name]
        if before != after and not (name == "compile" and space.resources.compile == "auto"):
            raise StudyError(
                f"{root} was made with other `resources`: {name} {before} is now {after}, and "
                f"{', '.join(sorted(CONSTANTS))} are constants of a study\n"
                f"use another --out for the changed space"
            )


def _asked(space: Space, *, begun: bool) -> set[tuple[object, ...]]:
    """Everything that a space asks to be trained, arms and recipes aside; confirm's trials once
    it has begun."""
    found: set[tuple[object, ...]] = set()
    if space.explore is not None:
        trials = space.explore.trials or 0
        found |= {("explore", b, n) for b in space.explore.budgets for n in range(trials + 1)}
    if space.measure is not None:
        for rung in space.measure.ladder:
            for arm in rung.arms or space.learned_arms:
                place = ("measure", arm, rung.budget, rung.depth)
                seeds = range(space.measure.seeds)
                found |= {(*place, width, seed) for width in rung.widths for seed in seeds}
    if space.confirm is not None and begun:
        runs = range(space.confirm.looks[-1])
        found |= {("confirm", b, run) for b in space.confirm.budgets for run in runs}
    return found


def _git_revision() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _machine(device: str) -> dict[str, str]:
    if device == "cpu":
        name = _cpu_name()
    elif torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        name = "cuda, on the cluster's nodes"
    return {"device": name, "cores": str(os.cpu_count()), "system": platform.system()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
