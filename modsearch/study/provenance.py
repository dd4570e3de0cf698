"""What a study was made with, and whether it may go on: its manifest and the checks on it."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import torch

from modsearch import __version__
from modsearch.analysis.claims import study_claims
from modsearch.analysis.noise import seed_sd
from modsearch.analysis.power import reachable_margin
from modsearch.config.data import CorpusFacts
from modsearch.config.design import Design
from modsearch.config.manifest import Growth, Manifest
from modsearch.config.records import Stage
from modsearch.config.runtime import EngineName, Plugin, Runtime
from modsearch.config.shipped import PACKAGE
from modsearch.errors import StudyError, redacted
from modsearch.nn.parts import words
from modsearch.planning.compilation import constants
from modsearch.registry.plugins import by_name, digests, load_plugins, plugin_source
from modsearch.registry.table import GRID
from modsearch.space.kinds import OF_PART, OF_SEARCH
from modsearch.space.space import Arm, Section, Space
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import write_bytes, write_yaml
from modsearch.study.completeness import study_space
from modsearch.study.growth import EXTENSIBLE, change_of, refuse_under_way
from modsearch.study.tokens import refuse_other_tokens

CONSTANTS = ("threads", "precision", "micro_batch", "compile")
"""Of a runtime; another device is told with what else has changed."""

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
    admit: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> Manifest:
    """Make the manifest of a new study, or hold this run against the one that is there.

    `ledger` is where its database is, where that is not a file of the study directory.
    `elsewhere`: trials run on other machines, whose devices this one can't see. `corpora` are the
    facts of each vocabulary, where the study has several tokenizers. `admit` may note what else
    the study is made of, or refuse it, before anything is written.

    Raises:
        StudyError: the study was made with another space, corpus, code, plugin, torch or device.
    """
    plugins = load_plugins(space.plugins)
    fresh = _fresh_manifest(space, corpus, plugins, elsewhere=elsewhere, ledger=ledger)
    remade = ledger is None and directory.lost_ledger()
    several = {"corpora": dict(corpora or {}), "unit": space.unit}
    fresh = fresh.model_copy(update={"engine": engine, "ledger_remade": remade, **several})
    if not (directory.root / "manifest.json").exists():
        fresh = admit(fresh)
        write_yaml(directory.space, space.model_dump(mode="json"))
        _keep_copies(directory, plugins, fresh.plugins)
        directory.write_manifest(fresh)
        return fresh
    old = directory.manifest()
    before = study_space(directory)
    begun = old.confirm is None or bool(old.confirm.chosen)
    change = change_of(before, space, old.removed, directory.root, begun=begun)
    records = directory.records() if change else []
    claims = study_claims(old, records)
    refuse_under_way(change.gone, old.confirm, claims.settled, directory.root)
    _refuse_other_runtime(old.runtime, fresh.runtime, space, directory.root)
    refuse_other_tokens(old, fresh, space.vocab_sizes, directory.root)
    if fresh.ledger != old.ledger:
        raise StudyError(
            f"the ledger of {directory.root} is {old.ledger or directory.ledger}, not "
            f"{fresh.ledger or directory.ledger}\nname it with --ledger; if it has moved, change "
            f"`ledger` in {directory.root / 'manifest.json'}"
        )
    other = _differences(old, fresh, partial(_needed, directory, space))
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
            "corpora": {**old.corpora, **fresh.corpora},
            "key": study_key(before, old) if change else old.key,
            "plugins": _together(old.plugins, fresh.plugins, other),
            "packages": {**fresh.packages, **old.packages},
        }
    )
    if change:
        manifest = _grown(manifest, change.grown(len(records), claims.looked), before, space)
    manifest = admit(manifest)
    _keep_copies(directory, plugins, manifest.plugins)
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


def _grown(manifest: Manifest, growth: Growth, old: Space, new: Space) -> Manifest:
    """With the arms that a study has now, and a note of it where results were there before."""
    known = {**manifest.removed, **old.model_dump(mode="json")["arms"]}
    removed = {arm: tree for arm, tree in known.items() if arm not in new.arms}
    arms = {arm: settings.control_of for arm, settings in new.arms.items()}
    arms |= {arm: tree["control_of"] for arm, tree in removed.items()}
    noted = manifest.grown
    # A driver that was killed before it wrote its space has noted it.
    told = growth.trials > 0 and growth.model_copy(update={"day": ""}) not in [
        each.model_copy(update={"day": ""}) for each in noted[-1:]
    ]
    return manifest.model_copy(
        update={
            "arms": arms,
            "removed": removed,
            "grown": (*noted, growth) if told else noted,
        }
    )


def study_key(space: Space, manifest: Manifest) -> str:
    """Name of a study where studies share a database or a storage.

    It is the same on every machine, and another one for whatever a result depends on; a study that
    grows keeps it.
    """
    if manifest.key is not None:
        return manifest.key
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


def key_of(directory: StudyDirectory) -> str:
    """The same of a study that is there.

    Raises:
        StudyError: there is none, or its space can't be read.
    """
    manifest = directory.manifest()  # first: it says that there is no study
    return study_key(study_space(directory), manifest)


def stage_key(space: Space, stage: Stage) -> str:
    """What a stage is beside what may grow in it."""
    section = getattr(space, stage)
    stated = section and section.model_dump(mode="json", exclude=EXTENSIBLE[stage])
    explored, measured = {"objective": None, "stopping": None}, {"sampler": GRID}
    later: Mapping[str, str | None] = measured if stage is Stage.MEASURE else explored
    for name, value in later.items():  # as before there were such
        if stated and stated.get(name, ...) == value:
            del stated[name]
    return _digest(stated)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _keep_copies(
    directory: StudyDirectory, plugins: Iterable[Plugin], made_with: Mapping[str, str]
) -> None:
    """For the record. A name has the content that the study says it was made with; what came in
    its place has its digest in its name."""
    for name, plugin in by_name(plugins).items():
        if made_with.get(name, plugin.digest) != plugin.digest:
            name = f"{Path(plugin.path).stem}-{plugin.digest}.py"
        write_bytes(directory.plugins / name, plugin_source(plugin))


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
    stated += [(OF_SEARCH, {"name": sampler.name}) for sampler in space.samplers.values()]
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


def _differences(old: Manifest, new: Manifest, needed: Callable[[], set[str]]) -> list[str]:
    """What results depend on and is not as it was; `needed` are the digests of plugins that they
    depend on. What is new, or used no more, changes none of them."""
    found = []
    if old.code != new.code:
        found.append(f"code {old.code} is now {new.code}")
    if gone := set(old.plugins.values()) - set(new.plugins.values()):
        lost = gone & needed()
        was = {name: digest for name, digest in old.plugins.items() if digest in lost}
        found += _changes("plugin", was, new.plugins)
    kept = {name: found for name, found in new.packages.items() if name in old.packages}
    found += _changes("package", {name: old.packages[name] for name in kept}, kept)
    if old.versions["torch"] != new.versions["torch"]:
        found.append(f"torch {old.versions['torch']} is now {new.versions['torch']}")
    if old.runtime.device != new.runtime.device:
        found.append(f"device {old.runtime.device} is now {new.runtime.device}")
    return found


def _needed(directory: StudyDirectory, space: Space) -> set[str]:
    """Digests of the plugins that trials of the space's arms were made with, or that its search
    goes by."""
    found = set()
    for record in directory.records():
        if record.arm in space.arms:
            found |= set(directory.digests(record.hash))
    drawn = any(
        origin.how == "plugin file"
        for sampler in space.samplers.values()
        for origin in OF_SEARCH["sampler"].origins(sampler.name)
    )
    return found | set(directory.manifest().plugins.values()) if drawn else found


def _together(
    old: Mapping[str, str], new: Mapping[str, str], mixed: Iterable[str]
) -> dict[str, str]:
    """Plugins of a study that goes on: where one has changed that trials depend on, the first
    content stays, and the report says so."""
    changed = {name for name in old if any(f"plugin {name} " in line for line in mixed)}
    kept = {
        name: digest
        for name, digest in old.items()
        if name in changed or digest in new.values() or name not in new
    }
    more = {
        name: digest
        for name, digest in new.items()
        if name not in kept and digest not in kept.values()
    }
    return kept | more


def _changes(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [
        f"{what} {name} {digest} is now {new.get(name, 'not there')}"
        for name, digest in old.items()
        if new.get(name) != digest
    ]


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
