"""Whether studies may stand on one page: what of them must be the same, and where they differ."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from modsearch.config.manifest import Manifest
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Record, Stage
from modsearch.errors import StudyError, shown
from modsearch.space.space import SIZE, Space, over

RUNTIME = ("device", "precision", "threads", "micro_batch", "compile")
"""What of the runtime moves a loss; how often it is saved does not."""

OF_A_SEED = ("name", "seed", "data", "suite", "resources", "plugins")
"""What of a space may differ between repetitions: constants are held against each other."""


def constants(manifest: Manifest, space: Space) -> dict[str, Any]:
    """What must be the same for losses to be comparable, by the name that a reader knows."""
    found: dict[str, Any] = {
        f"runtime.{name}": value
        for name, value in manifest.runtime.model_dump(mode="json", include={*RUNTIME}).items()
    }
    found["unit of loss"] = manifest.unit
    found["corpus.fingerprint"] = " ".join(manifest.fingerprints)
    found["versions.torch"] = manifest.versions.get("torch")
    found["plugins"] = dict(sorted(manifest.plugins.items()))
    found["packages"] = dict(sorted(manifest.packages.items()))
    found["arms"] = sorted(manifest.arms)
    found |= {f"arms.{arm}.control_of": base for arm, base in manifest.arms.items()}
    for arm in space.arms:
        found |= _recipe(arm, space)
    if space.measure is not None:
        found["measure.windows"] = space.measure.windows
    return found


def _recipe(arm: str, space: Space) -> dict[str, Any]:
    """Every value of an arm that is not its size, also those that its space leaves out; those of
    a control are on top of its arm's."""
    settings = space.arms[arm]
    tree = over(space.recipe(settings.control_of or arm), settings)
    found: dict[str, Any] = {}
    for part, defaults in (("model", ModelConfig()), ("optim", OptimConfig())):
        values = {**defaults.model_dump(mode="json"), **tree[part]}
        for key, value in values.items():
            if key not in SIZE:
                found[f"arms.{arm}.{part}.{key}"] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """A component without options is its name."""
    return value["name"] if isinstance(value, dict) and set(value) == {"name"} else value


def refuse_unlike(studies: Mapping[str, Mapping[str, Any]]) -> None:
    """Hold the constants of several studies, by what they are called, against the first one's.

    Raises:
        StudyError: which study differs, in which constant, and both values.
    """
    (first, wanted), *others = studies.items()
    for name, found in others:
        for key in dict.fromkeys([*wanted, *found]):
            if wanted.get(key) != found.get(key):
                raise StudyError(
                    f"{name} does not fit beside {first}: its {key} is {shown(found.get(key))}, "
                    f"not {shown(wanted.get(key))}\n"
                    f"studies on one page have the same constants: report them one by one"
                )


def refuse_shared(studies: Mapping[str, Sequence[Record]]) -> None:
    """Headlines of several studies stand beside each other as if each had its own runs.

    Raises:
        StudyError: two of them have confirmed trials in common.
    """
    confirmed = {
        name: {record.hash for record in records if record.stage is Stage.CONFIRM}
        for name, records in studies.items()
    }
    for (first, one), (name, other) in combinations(confirmed.items(), 2):
        if shared := sorted(one & other):
            raise StudyError(
                f"{name} has {len(shared)} of the confirmed trials of {first}, such as "
                f"{shared[0]}: it is the same study, or a copy\n"
                f"name studies with seeds or budgets of their own"
            )


def repeats(space: Space) -> str:
    """The same for studies that ask the same and differ by their seeds alone."""
    return space.model_dump_json(exclude={*OF_A_SEED})
