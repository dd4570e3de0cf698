"""A suite's tasks as lm-eval's objects, and what lm-eval would overlook in them."""

import io
import logging
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modsearch.config.samples import TaskFacts
from modsearch.data.network import known_network
from modsearch.errors import (
    ConfigError,
    DataError,
    ModsearchError,
    first_line,
    reason,
    shown,
    unknown,
)
from modsearch.evaluation.documents import JsonLines, Origin
from modsearch.evaluation.local_data import LocalData
from modsearch.evaluation.metrics import OWN, leading_of, own_metrics
from modsearch.evaluation.suites import Suite, SuiteTask, load_suite
from modsearch.store.scratch import scratch

if TYPE_CHECKING:
    from modsearch.evaluation.lm import ModsearchLM

SPLIT = "held_out"
Results = dict[str, Any]
"""What lm-eval returns: results, configs, versions, n-shot, n-samples, config, ..."""


@contextmanager
def quiet() -> Iterator[None]:
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


def refuse_unreachable(suite: str | Path, data: LocalData | None = None) -> None:
    """Whether a suite's tasks of lm-eval are known, and within reach where there is no network:
    told before torch is loaded, and a model.

    Raises:
        ConfigError: a task, or a folder of tasks, is unknown.
        DataError: the hub can't be reached, and the first task's data is not here.
    """
    plan, path = load_suite(suite)
    named = [task.task for task in plan.tasks if not task.definition]
    if not named:
        return
    from lm_eval.tasks import TaskManager

    include: list[str | Path] = [_included(name, path) for name in plan.include]
    with quiet():
        manager = TaskManager(include_path=include, include_defaults=False)
    for name in named:
        if name not in manager.all_tasks:
            raise ConfigError(f"{path}: task `{name}`: {unknown('task', name, manager.all_tasks)}")
    if data is not None:
        return
    with known_network() as offline, quiet():
        try:
            if offline:
                manager.load([_first_of(manager, named[0])])
        except ConnectionError as error:
            raise DataError(f"{path}: task `{named[0]}`: {_needs_hub()}") from error
        except Exception:  # whatever else is wrong with it is told when it is loaded
            return


def _first_of(manager: Any, name: str) -> str:
    """The first task of a group or a tag."""
    entry, seen = manager.task_index[name], {name}
    while entry.yaml_path is None or isinstance((entry.cfg or {}).get("task"), list):
        inside = (entry.cfg or {}).get("task") or sorted(entry.tags)
        name = str(inside[0])
        if name in seen or name not in manager.task_index:
            break
        seen.add(name)
        entry = manager.task_index[name]
    return name


def _needs_hub(stated: object = None) -> str:
    which = f" (dataset_path {shown(stated)})" if stated else ""
    return (
        f"needs data from the hub{which}, which can't be reached\n"
        f"go online, name a folder with its data sets (--data-dir, or `data_dir` beside "
        f"the suite in a search space), or use a suite that needs no hub, such as `quick`"
    )


class Tasks:
    """A suite's tasks as lm-eval's objects."""

    def __init__(
        self, suite: Suite, path: Path, origin: Origin, data: LocalData | None = None
    ) -> None:
        self.path = path
        self.origin = origin
        self.data = data
        self.leading = suite.leading
        self.facts: dict[str, TaskFacts] = {}
        """How scores are read, by task."""
        self.metrics: dict[str, dict[str, bool]] = {}
        """What scores there are, by task, and whether higher is better."""
        with scratch("modsearch-tasks-") as folder:
            include: list[str | Path] = [_included(name, path) for name in suite.include]
            self._load(suite, include, folder)

    def _load(self, suite: Suite, include: list[str | Path], folder: Path) -> None:
        from lm_eval.tasks import TaskManager

        self.manager = TaskManager(include_path=include, include_defaults=False)
        if self.data is not None:
            for task in suite.tasks:
                with self._naming(task.task):
                    self._localise(task, self.data, folder)
            self.manager = TaskManager(include_path=[*include, folder], include_defaults=False)
        self.tasks: dict[str, Any] = {}
        self.groups: dict[str, Any] = {}
        self.samples: dict[str, range] = {}  # lm-eval asks of every document whether it is in it
        self.defined: list[str] = []
        """Tasks that the suite itself defines."""
        asks = self.data is None and any(task.own_source is None for task in suite.tasks)
        with known_network() if asks else nullcontext():
            for task in suite.tasks:
                with self._naming(task.task):
                    self._add(task)

    def _localise(self, task: SuiteTask, data: LocalData, folder: Path) -> None:
        """Definitions of a task's parts that read local files go before lm-eval's own."""
        todo, seen = [] if task.definition else [task.task], set()
        while todo:
            name = todo.pop()
            entry = self.manager.task_index.get(name)
            if entry is None or name in seen:  # an unknown one is told later
                continue
            seen.add(name)
            inside = (entry.cfg or {}).get("task")
            if isinstance(inside, list):
                todo += map(str, inside)
            elif entry.yaml_path is None:  # a tag
                todo += sorted(entry.tags)
            else:
                definition = data.definition(entry.yaml_path, entry.cfg or {})
                (folder / f"{len(list(folder.iterdir()))}.yaml").write_text(definition)

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Whatever goes wrong is the suite's mistake, and is told with its file and task."""
        try:
            yield
        except ModsearchError as error:
            raise type(error)(f"{self.path}: task `{name}`: {error}") from error
        except OSError as error:
            raise DataError(
                f"{self.path}: task `{name}`: can't load what dataset_path says: "
                f"{first_line(error)}"
            ) from error
        except Exception as error:  # lm-eval checks little of what a task says
            raise ConfigError(f"{self.path}: task `{name}`: {reason(error)}") from error

    def _add(self, task: SuiteTask) -> None:
        if task.definition:
            _check_definition(task)
            self.defined.append(task.task)
        elif task.task not in self.manager.all_tasks:
            raise unknown("task", task.task, self.manager.all_tasks)
        try:
            loaded = self.manager.load([self._spec(task) if task.definition else task.task])
        except ConnectionError as error:
            raise DataError(_needs_hub(task.definition.get("dataset_path"))) from error
        except (IndexError, TypeError) as error:  # it tries the first document
            raise ConfigError(
                f"document 1{_file(task)}: doc_to_text, doc_to_choice and doc_to_target make no "
                f"question with a right answer of it"
            ) from error
        for kind, before in (("tasks", self.tasks), ("groups", self.groups)):
            for name in loaded[kind]:
                if name in before:
                    raise ConfigError(f"`{name}` is a task of an earlier entry, too")
            before |= loaded[kind]
        for name, built in loaded["tasks"].items():
            stated = built.config.num_fewshot if task.shots is None else task.shots
            built.set_config("num_fewshot", stated or 0)
            built.set_fewshot_seed(self.origin.seed)
            if stated and self.data is not None:
                _check_examples(built, stated)
            if task.limit is not None:
                self.samples[name] = range(min(task.limit, len(built.eval_docs)))
            if task.definition:
                _check_choices(built, task, self.samples.get(name))
            self.facts[name] = _facts(built, task, self.leading)
            self.metrics[name] = _directions(built)

    def _spec(self, task: SuiteTask) -> dict[str, Any]:
        """A definition for lm-eval, with documents where the source is ours."""
        spec = {"task": task.task, **task.definition}
        source = task.source()
        if source is None:
            return spec
        documents = source.documents(self.origin)
        return {**spec, "custom_dataset": lambda **_: _dataset(documents)}

    def scored(self, lm: "ModsearchLM") -> Results:
        """What lm-eval finds.

        Raises:
            ConfigError: a task can't be scored as the suite defines it.
        """
        try:
            results = self._scored(lm, self.tasks, self.groups)
        except Exception as error:
            if not isinstance(error, ModsearchError) and _in_model(error):
                raise
            # lm-eval doesn't say which task it was: that one fails alone, too.
            for name in self.defined:
                with self._naming(name):
                    self._scored(lm, {name: self.tasks[name]}, {})
            raise
        for name in self.defined:
            with self._naming(name):
                _check_metrics(self.tasks[name].config, results["results"][name])
        return results

    def _scored(
        self, lm: "ModsearchLM", tasks: Mapping[str, Any], groups: Mapping[str, Any]
    ) -> Results:
        from lm_eval.evaluator import evaluate as lm_eval_evaluate

        # Not around the loading of tasks: a download shows its progress.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            found: Results = lm_eval_evaluate(
                lm,
                {"tasks": tasks, "groups": groups},
                samples=self.samples or None,
                bootstrap_iters=BOOTSTRAP_DRAWS,
                log_samples=True,
            )
        return found


def _file(task: SuiteTask) -> str:
    """Where documents come from, where that is a file of the user's."""
    source = task.source()
    return f" of {source.file}" if isinstance(source, JsonLines) else ""


def _check_choices(built: Any, task: SuiteTask, sample: range | None) -> None:
    """Lm-eval scores a right answer that is none of the choices as wrong, without a word.

    Raises:
        ConfigError: a document has no list of choices, or none of them is right.
    """
    if built.OUTPUT_TYPE != "multiple_choice":
        return
    file = _file(task)
    for place, document in enumerate(built.eval_docs):
        if sample is not None and place not in sample:
            return
        choices = built.doc_to_choice(document)
        if not isinstance(choices, list | tuple) or not choices:
            raise ConfigError(
                f"document {place + 1}{file}: doc_to_choice must give a list of choices, but "
                f"gives {shown(choices)}"
            )
        right = built.doc_to_target(document)
        for each in right if isinstance(right, list) and right else [right]:
            known = range(len(choices)) if type(each) is int else choices
            if each not in known:
                raise ConfigError(
                    f"document {place + 1}{file}: doc_to_target must give one of its choices, or "
                    f"a place from 0 to {len(choices) - 1}, but gives {shown(each)}"
                )


def _check_examples(built: Any, shots: int) -> None:
    """lm-eval would take its examples from the questions.

    Raises:
        DataError: there is no other text to take them from.
    """
    config = built.config
    if not (config.fewshot_split or config.training_split) and not (
        config.validation_split and config.test_split
    ):
        raise DataError(f"{shots} shots need examples of their own: NAME/train.jsonl beside them")


def _directions(built: Any) -> dict[str, bool]:
    """Whether higher is better, by metric."""
    stated = {name: bool(each) for name, each in built.higher_is_better().items()}
    return stated | {name: OWN[name] for name in own_metrics(built)}


def _facts(built: Any, task: SuiteTask, suite_leading: str | None) -> TaskFacts:
    """How a task's scores are read.

    Raises:
        ConfigError: the leading metric is none of the task's.
    """
    better = _directions(built)
    leading = task.leading or suite_leading
    if leading is None:
        leading = leading_of(built)
    elif leading not in better:
        raise unknown("leading metric", leading, better)
    accuracy = next((name for name in ("acc_norm", "acc") if name in better), None)
    chance = task.stated_chance
    return TaskFacts(
        leading=leading,
        higher_is_better=better.get(leading, True),
        accuracy=accuracy if chance is not None else None,
        chance=chance,
        note=task.note,
    )


def _check_metrics(task: Any, scores: Mapping[str, Any]) -> None:
    """Lm-eval leaves out what a kind of output does not give, without a word.

    Raises:
        ConfigError: a metric that was asked for is not there.
    """
    computed = {key.partition(",")[0] for key in scores}
    for each in task.metric_list or []:
        name = each["metric"]
        if name not in computed and name != "bypass" and not each.get("hf_evaluate"):
            raise ConfigError(
                f"metric `{name}` is not computed for output_type {task.output_type}"
            )


def _check_definition(task: SuiteTask) -> None:
    """What lm-eval would overlook, or look for on the hub.

    Raises:
        ConfigError: a key is unknown, or a metric.
    """
    from lm_eval.api.registry import AGGREGATION_REGISTRY, METRIC_REGISTRY
    from lm_eval.config.task import TaskConfig

    known = [field.name for field in fields(TaskConfig)]
    for key in task.definition:
        if key not in known:
            raise unknown("key", key, known)
    repeats = task.definition.get("repeats", 1)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or not 0 < repeats <= 1000:
        raise ConfigError(f"repeats must be a whole number from 1 to 1000, got {shown(repeats)}")
    metrics = task.definition.get("metric_list")
    if metrics is None:
        return
    if not isinstance(metrics, list) or not all(isinstance(each, dict) for each in metrics):
        raise ConfigError(f"metric_list must be a list of mappings, but got {shown(metrics)}")
    names = [str(each.get("metric")) for each in metrics]
    for name, each in zip(names, metrics, strict=True):
        if name not in METRIC_REGISTRY and each.get("hf_evaluate") is not True:
            raise unknown("metric", name, METRIC_REGISTRY)
        if names.count(name) > 1:
            raise ConfigError(f"metric `{name}` stands twice in metric_list")
        if "aggregation" in each and str(each["aggregation"]) not in AGGREGATION_REGISTRY:
            raise unknown("aggregation", str(each["aggregation"]), AGGREGATION_REGISTRY)


def _dataset(documents: list[dict[str, Any]]) -> dict[str, Any]:
    from datasets import Dataset

    return {SPLIT: Dataset.from_list(documents)}


def _included(name: str, suite: Path) -> Path:
    import lm_eval.tasks

    collection = Path(lm_eval.tasks.__file__).parent
    for root in (suite.parent, collection):
        if (root / name).is_dir():
            return root / name
    names = [path.name for path in collection.iterdir() if path.is_dir() and path.name[0] != "_"]
    raise ConfigError(f"{suite}: include: {unknown('folder of tasks', name, names)}")


BOOTSTRAP_DRAWS = 1000
"""For standard errors that lm-eval has no formula for."""


def _in_model(error: Exception) -> bool:
    """Whether scoring itself failed, rather than what a task makes of it."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename == str(Path(__file__).with_name("lm.py")) for frame in frames)
