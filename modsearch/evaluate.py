"""Score models with lm-eval: suites of tasks, and lm-eval's own command line.

    python -m modsearch.evaluate run --model modsearch --model_args pretrained=FOLDER --tasks ...

registers the adapter and hands over to lm-eval's parser, which has no entry point for models.
"""

import hashlib
import io
import json
import logging
import math
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from modsearch.data import load_corpus
from modsearch.documents import SOURCES, Origin
from modsearch.errors import ConfigError, DataError, ModsearchError, StudyError
from modsearch.lm import ModsearchLM
from modsearch.nn.contracts import Mode
from modsearch.nn.model import Decoder
from modsearch.registry import unknown
from modsearch.schema import DataConfig, Frozen, Record, Stage, State
from modsearch.store import StudyDirectory, shipped, write_text
from modsearch.train import load_model

Part = Literal["validation", "test"]
Results = dict[str, Any]
"""What lm-eval returns: results, configs, versions, n-shot, n-samples, config, ..."""

OWN_SOURCE = "modsearch:"
SPLIT = "held_out"
BOOTSTRAP_DRAWS = 1000
"""For standard errors that lm-eval has no formula for."""


class SuiteTask(BaseModel):
    """A task of `include` by its name, or a whole definition with lm-eval's own keys."""

    model_config = ConfigDict(frozen=True, extra="allow")

    task: str
    limit: int | None = Field(None, gt=0)
    """Only the first documents are scored."""

    @property
    def definition(self) -> dict[str, Any]:
        """lm-eval's keys; empty where the task is defined elsewhere."""
        return dict(self.model_extra or {})


def _task(value: object) -> object:
    return {"task": value} if isinstance(value, str) else value


class Suite(Frozen):
    """Tasks that are run together."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    description: str
    include: tuple[str, ...] = ()
    """Folders of task definitions: beside the suite's file, or of lm-eval's own collection."""
    tasks: list[Annotated[SuiteTask, BeforeValidator(_task)]] = Field(min_length=1)

    @property
    def hash(self) -> str:
        """Identity of what is asked."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_suite(suite: str | Path) -> tuple[Suite, Path]:
    """A suite and its file, by the bare name of a shipped one or by a path.

    Raises:
        ConfigError: there is no such suite (with the nearest name), or it is wrong.
    """
    path = shipped("evals", str(suite))
    try:
        return Suite.model_validate(yaml.safe_load(path.read_text())), path
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: `{where}`: {first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def evaluate(
    model: Decoder,
    suite: str | Path,
    data: DataConfig,
    part: Part,
    mode: Mode = "causal",
    seed: int = 0,
) -> Results:
    """Score a model on a suite.

    Documents of the suite's own come from one part of the corpus and are the same for every
    model at the same seed. The global random generators are left as they were.

    Returns:
        lm-eval's results as plain data, without the samples, with a standard error for bits per
        byte; `config` says how they were made.

    Raises:
        ConfigError: the suite is unknown or wrong.
        DataError: a task's data is missing.
    """
    from lm_eval.evaluator import evaluate as lm_eval_evaluate

    plan, path = load_suite(suite)
    was_training = model.training
    lm = ModsearchLM(model, mode)
    try:
        with _untouched(), _quiet():
            tasks = _Tasks(plan, path.parent, data, part, seed)
            # Not around the loading of tasks: a download shows its progress.
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                results = lm_eval_evaluate(
                    lm,
                    {"tasks": tasks.tasks, "groups": tasks.groups},
                    samples=tasks.samples or None,
                    bootstrap_iters=BOOTSTRAP_DRAWS,
                    log_samples=True,
                )
    finally:
        model.train(was_training)
    _fill_errors(results["results"], results.pop("samples"))
    for config in results["configs"].values():
        config.pop("custom_dataset", None)
    results["config"] = {
        "model": "modsearch",
        **lm.get_model_info(),
        "suite": plan.name,
        "suite_hash": plan.hash,
        "part": part,
        "corpus": tasks.fingerprint,
        "seed": seed,
        "batch_size": lm.batch_size,
        "device": lm.device.type,
        "bootstrap_iters": BOOTSTRAP_DRAWS,
    }
    plain: Results = json.loads(json.dumps(results, default=str))
    return plain


class _Tasks:
    """A suite's tasks as lm-eval's objects."""

    def __init__(
        self, suite: Suite, folder: Path, data: DataConfig, part: Part, seed: int
    ) -> None:
        from lm_eval.tasks import TaskManager

        include: list[str | Path] = [_included(name, folder) for name in suite.include]
        self.manager = TaskManager(include_path=include, include_defaults=False)
        self.origin = Origin(np.empty(0, np.uint8), seed, folder)
        self.fingerprint: str | None = None
        if any(_own_source(task) for task in suite.tasks):
            corpus = load_corpus(data)
            self.origin = Origin(corpus.parts[part], seed, folder)
            self.fingerprint = corpus.facts.fingerprint
        self.tasks: dict[str, Any] = {}
        self.groups: dict[str, Any] = {}
        self.samples: dict[str, list[int]] = {}
        for task in suite.tasks:
            self._add(task)

    def _add(self, task: SuiteTask) -> None:
        if not task.definition and task.task not in self.manager.all_tasks:
            raise unknown("task", task.task, self.manager.all_tasks)
        spec = self._spec(task) if task.definition else task.task
        try:
            loaded = self.manager.load([spec])
        except ConnectionError as error:
            raise DataError(
                f"task `{task.task}` needs data from the hub, which can't be reached\n"
                f"go online, or use a suite that needs no network, such as `quick`"
            ) from error
        except OSError as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"can't load the data of task `{task.task}`: {reason}") from error
        for name, built in loaded["tasks"].items():
            built.set_config("num_fewshot", built.config.num_fewshot or 0)
            built.set_fewshot_seed(self.origin.seed)
            if task.limit is not None:
                self.samples[name] = list(range(min(task.limit, len(built.eval_docs))))
        self.tasks |= loaded["tasks"]
        self.groups |= loaded["groups"]

    def _spec(self, task: SuiteTask) -> dict[str, Any]:
        """A definition for lm-eval, with documents where the source is ours.

        Raises:
            ConfigError: the source is unknown, or its options are wrong.
        """
        spec = {"task": task.task, **task.definition}
        name = _own_source(task)
        if name is None:
            return spec
        if name not in SOURCES:
            raise unknown("source of documents", name, SOURCES)
        try:
            source = SOURCES[name](**spec.get("dataset_kwargs", {}))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"task `{task.task}`: dataset_kwargs: `{where}`: {first['msg']}"
            ) from error
        documents = source.documents(self.origin)
        return {**spec, "custom_dataset": lambda **_: _dataset(documents)}


def _own_source(task: SuiteTask) -> str | None:
    path = str(task.definition.get("dataset_path", ""))
    return path.removeprefix(OWN_SOURCE) if path.startswith(OWN_SOURCE) else None


def _dataset(documents: list[dict[str, Any]]) -> dict[str, Any]:
    from datasets import Dataset

    return {SPLIT: Dataset.from_list(documents)}


def _included(name: str, folder: Path) -> Path:
    import lm_eval.tasks

    collection = Path(lm_eval.tasks.__file__).parent
    for root in (folder, collection):
        if (root / name).is_dir():
            return root / name
    names = [path.name for path in collection.iterdir() if path.is_dir()]
    raise unknown("folder of tasks", name, names)


def _fill_errors(
    results: dict[str, dict[str, Any]], samples: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    """Add the standard error of bits per byte, which lm-eval leaves out."""
    for task, rows in samples.items():
        for key in list(results[task]):
            metric, _, kind = key.partition(",")
            if metric == "bits_per_byte" and len(rows) > 1:
                pairs = [row["bits_per_byte"] for row in rows if row["filter"] == kind]
                results[task][f"bits_per_byte_stderr,{kind}"] = ratio_error(pairs) / math.log(2)


def ratio_error(pairs: Sequence[tuple[float, int]]) -> float:
    """Standard error of sum(a) / sum(b) over pairs (a, b) drawn independently.

    The linearised ratio estimator (Cochran 1977, section 6.4), without the correction for a
    finite population.
    """
    a, b = np.asarray(pairs, float).T
    rest = a - a.sum() / b.sum() * b
    n = len(rest)
    return math.sqrt(n / (n - 1) * float(rest @ rest)) / float(b.sum())


@contextmanager
def _untouched() -> Iterator[None]:
    """Leave the global random generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # untyped in torch
    devices = range(torch.cuda.device_count()) if started else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Errors alone in lm-eval's log, and its bootstrap in this process."""
    logger = logging.getLogger("lm_eval")
    level, parallel = logger.level, os.environ.get("DISABLE_MULTIPROC")
    logger.setLevel(logging.ERROR)
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        logger.setLevel(level)
        if parallel is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = parallel


def evaluate_checkpoint(
    folder: Path,
    suite: str | Path,
    data: DataConfig,
    part: Part,
    mode: Mode = "causal",
    device: str = "cpu",
) -> Results:
    """Score a checkpoint folder on a suite.

    Raises:
        ConfigError: the suite is unknown or wrong.
        DataError: a task's data is missing.
        StudyError: there is no checkpoint, or it is damaged.
    """
    return evaluate(load_model(folder, device), suite, data, part, mode)


def evaluate_winners(
    directory: StudyDirectory,
    records: Sequence[Record],
    suite: str | Path,
    data: DataConfig,
    device: str = "cpu",
) -> None:
    """Score finished confirm trials on the test part, and write `eval/SUITE.json` of each.

    Trials whose weights were not kept are left out. What is there already is kept, unless the
    suite has changed since.

    Raises:
        ConfigError: the suite is unknown or wrong.
        DataError: a task's data is missing.
        StudyError: no trial has its weights, or a checkpoint is damaged.
    """
    plan, _ = load_suite(suite)
    folders = {
        record.hash: directory.trial(record.hash) / "checkpoint"
        for record in records
        if record.stage is Stage.CONFIRM and record.state is State.COMPLETE
    }
    kept = {name: at for name, at in folders.items() if (at / "model.safetensors").is_file()}
    if not kept:
        raise StudyError(
            f"no weights to score in {directory.root}\n"
            f"confirm trials keep theirs unless the search space says `keep: none`"
        )
    for name, folder in kept.items():
        before = directory.evaluations(name).get(plan.name)
        if before is not None and _suite_hash(before) == plan.hash:
            continue
        results = evaluate_checkpoint(folder, suite, data, "test", device=device)
        path = directory.trial(name) / "eval" / f"{plan.name}.json"
        write_text(path, json.dumps(results, indent=2) + "\n")


def _suite_hash(results: Mapping[str, Any]) -> object:
    config = results.get("config")
    return config.get("suite_hash") if isinstance(config, dict) else None


def main() -> None:
    """lm-eval's command line, with `--model modsearch`."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except ModsearchError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # stderr is for messages
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
