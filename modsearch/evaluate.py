"""Score models with lm-eval: the adapter, the suites, and lm-eval's own command line.

    python -m modsearch.evaluate run --model modsearch --model_args pretrained=FOLDER --tasks ...

registers the adapter and hands over to lm-eval's parser, which has no entry point for models.

Shapes: B rows, T positions, V vocabulary.
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
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, simple_parse_args_string
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

import modsearch
from modsearch.data import END_OF_DOCUMENT, VOCAB_SIZE, load_corpus
from modsearch.documents import SOURCES, Origin
from modsearch.errors import ConfigError, DataError, ModsearchError, StudyError
from modsearch.nn.contracts import Mode
from modsearch.nn.model import Decoder
from modsearch.plugins import load_plugins
from modsearch.registry import unknown
from modsearch.schema import DataConfig, Frozen, Record, Stage, State
from modsearch.store import StudyDirectory, shipped, write_text
from modsearch.train import load_model

Part = Literal["validation", "test"]
Results = dict[str, Any]
"""What lm-eval returns: results, configs, versions, n-shot, n-samples, config, ..."""
Score = tuple[float, bool]
"""Log-likelihood in nats, and whether greedy decoding would give the same tokens."""
Row = tuple[list[int], list[int]]
"""Input tokens, and the targets of the last of them."""

UNSCORED = -100
BATCH_SIZE = 32
OWN_SOURCE = "modsearch:"
SPLIT = "held_out"
BOOTSTRAP_DRAWS = 1000
"""For standard errors that lm-eval has no formula for."""


@register_model("modsearch")
class ModsearchLM(TemplateLM):
    """lm-eval's view of a decoder of bytes.

    Text is encoded as UTF-8; token 0, which ends a document, also stands before a text without
    context. Where context and continuation exceed the model's sequence length, the context is
    cut from the left; a continuation that exceeds it alone is scored in windows. No score
    depends on the batch size or on padding.

    In mode `causal` no decision looks at a later token. Mode `train` routes as in training:
    top-k choices see the future, so what it gives is no likelihood.

    Raises:
        ConfigError: unknown mode, or a model that has not a token for every byte.
    """

    def __init__(
        self,
        model: Decoder,
        mode: Mode = "causal",
        batch_size: int = BATCH_SIZE,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("causal", "train"):
            raise unknown("mode", str(mode), ("causal", "train"))
        if model.config.vocab_size < VOCAB_SIZE:
            raise ConfigError(
                f"can't score text: the model has {model.config.vocab_size} tokens, "
                f"bytes need {VOCAB_SIZE}"
            )
        self.model = (model if device is None else model.to(device)).eval()
        self.mode: Mode = mode
        self.batch_size = batch_size
        self._device = self.model.embedding.weight.device

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> Self:
        """From `pretrained=CHECKPOINT_FOLDER,mode=causal`, as on lm-eval's command line."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> Self:
        """From `pretrained`, and optionally `mode`, `batch_size`, `device` and a `plugin` file.

        A batch size of `auto` means the default one, and CUDA without a GPU means the CPU:
        lm-eval's command line asks for `cuda:0` unless told otherwise.

        Raises:
            ConfigError: `pretrained` is missing, an argument is unknown, or the plugin is wrong.
            StudyError: there is no checkpoint, or it is damaged.
        """
        known = ("pretrained", "mode", "batch_size", "device", "plugin")
        for name in arg_dict:
            if name not in known:
                raise unknown("argument of model `modsearch`", name, known)
        given = {name: value for name, value in (additional_config or {}).items() if value}
        arguments = {**given, **arg_dict}
        if "pretrained" not in arguments:
            raise ConfigError("model `modsearch` needs a checkpoint: pretrained=CHECKPOINT_FOLDER")
        if "plugin" in arguments:
            load_plugins([str(arguments["plugin"])])
        device = str(arguments.get("device", "cpu"))
        if device.startswith("cuda") and not torch.cuda.is_available():
            device = "cpu"
        size = str(arguments.get("batch_size", BATCH_SIZE))
        return cls(
            load_model(Path(str(arguments["pretrained"])), device),
            mode=arguments.get("mode", "causal"),
            batch_size=int(size) if size.isdigit() else BATCH_SIZE,
        )

    @property
    def eot_token_id(self) -> int:
        """The byte that ends a document."""
        return END_OF_DOCUMENT

    @property
    def max_length(self) -> int:
        """Longest input in tokens: the sequence length of training."""
        return self.model.config.seq_len

    @property
    def tokenizer_name(self) -> str:
        """For lm-eval's cache of requests."""
        return "bytes"

    def get_model_info(self) -> dict[str, object]:
        """What lm-eval adds to the configuration in its results."""
        return {
            "mode": self.mode,
            "likelihood": self.mode == "causal",
            "model_num_parameters": sum(p.numel() for p in self.model.parameters()),
            "max_length": self.max_length,
            "modsearch_version": modsearch.__version__,
        }

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """The bytes of a text; there are no special tokens to add."""
        return list(string.encode())

    def tok_decode(self, tokens: Sequence[int]) -> str:
        """The text of bytes; what is not UTF-8 becomes the replacement character."""
        return bytes(token for token in tokens if token < VOCAB_SIZE).decode(errors="replace")

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihood in nats of whole texts, in windows: every token is scored once."""
        texts = [self.tok_encode(request.args[0]) for request in requests]
        return [score for score, _ in self._score_pairs([([], text) for text in texts])]

    def generate_until(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[str]:
        """Continue each context until a stop text, the end of the document or a length.

        Every new token takes a full forward pass over the last `max_length` tokens. Sampling
        (`temperature` above 0) draws from a generator of its own, seeded by the request's place.
        """
        return [
            self._continue(request.args[0], request.args[1], index)
            for index, request in enumerate(requests)
        ]

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
    ) -> list[Score]:
        return self._score_pairs([(context, rest) for _, context, rest in requests])

    def _score_pairs(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Score]:
        """Scores of continuations after contexts, both as tokens."""
        rows: list[Row] = []
        owners: list[int] = []
        for index, (context, continuation) in enumerate(pairs):
            new = list(_windows(context or [END_OF_DOCUMENT], continuation, self.max_length))
            rows += new
            owners += [index] * len(new)
        sums, greedy = [0.0] * len(pairs), [True] * len(pairs)
        for index, (nats, same) in zip(owners, self._score_rows(rows), strict=True):
            sums[index] += nats
            greedy[index] &= same
        return list(zip(sums, greedy, strict=True))

    def _score_rows(self, rows: Sequence[Row]) -> list[Score]:
        scores: list[Score] = [(0.0, True)] * len(rows)
        for batch in self._batches([len(inputs) for inputs, _ in rows]):
            found = self._score_batch([rows[index] for index in batch])
            for index, score in zip(batch, found, strict=True):
                scores[index] = score
        return scores

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Indices of rows, long ones first. In mode `train` rows of a batch are equally long:
        how many tokens top-k chooses depends on the padded length."""
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        groups = [order]
        if self.mode == "train":
            groups = [list(group) for _, group in groupby(order, key=lengths.__getitem__)]
        for group in groups:
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    @torch.inference_mode()
    def _score_batch(self, rows: Sequence[Row]) -> list[Score]:
        lengths = torch.tensor([len(inputs) for inputs, _ in rows])
        T = int(lengths.max())
        tokens_BT = torch.zeros(len(rows), T, dtype=torch.long)
        targets_BT = torch.full((len(rows), T), UNSCORED)
        for b, (inputs, targets) in enumerate(rows):
            tokens_BT[b, : len(inputs)] = torch.tensor(inputs)
            targets_BT[b, len(inputs) - len(targets) : len(inputs)] = torch.tensor(targets)
        valid_BT = torch.arange(T) < lengths[:, None]
        padded = not bool(valid_BT.all())
        targets_BT = targets_BT.to(self._device)
        logits_BTV = self.model(
            tokens_BT.to(self._device),
            self.mode,
            valid_BT=valid_BT.to(self._device) if padded else None,
        ).logits_BTV
        nats = F.cross_entropy(
            logits_BTV.flatten(0, 1).double(),
            targets_BT.flatten(),
            ignore_index=UNSCORED,
            reduction="none",
        )
        sums_B = -nats.view_as(targets_BT).sum(1)
        same_BT = (logits_BTV.argmax(-1) == targets_BT) | (targets_BT == UNSCORED)
        return list(zip(sums_B.tolist(), same_BT.all(1).tolist(), strict=True))

    @torch.inference_mode()
    def _continue(self, context: str, options: Mapping[str, Any], seed: int) -> str:
        settings = normalize_gen_kwargs(dict(options))
        stops = [stop.encode() for stop in settings["until"] if stop]
        temperature = float(settings.get("temperature", 0.0))
        generator = torch.Generator().manual_seed(seed)
        tokens = self.tok_encode(context) or [END_OF_DOCUMENT]
        start = len(tokens)
        for _ in range(settings["max_gen_toks"]):
            row = torch.tensor([tokens[-self.max_length :]], device=self._device)
            logits_V = self.model(row, self.mode).logits_BTV[0, -1].double().cpu()
            if temperature > 0:
                token = int(
                    (logits_V / temperature).softmax(0).multinomial(1, generator=generator)
                )
            else:
                token = int(logits_V.argmax())
            if token == END_OF_DOCUMENT:
                break
            tokens.append(token)
            text = bytes(token for token in tokens[start:] if token < VOCAB_SIZE)
            ends = [place for stop in stops if (place := text.find(stop)) >= 0]
            if ends:
                return text[: min(ends)].decode(errors="replace")
        return self.tok_decode(tokens[start:])


def _windows(context: list[int], continuation: list[int], max_length: int) -> Iterator[Row]:
    """Rows that score every token of a continuation once, after a context of at least one."""
    if not continuation:
        return
    if len(continuation) <= max_length:
        yield (context + continuation)[:-1][-max_length:], continuation
    else:
        yield from get_rolling_token_windows(continuation, context[-1], max_length, 1)


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
