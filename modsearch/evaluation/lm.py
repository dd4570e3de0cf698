"""A model with its tokenizer as a model of lm-eval."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import simple_parse_args_string

from modsearch import __version__
from modsearch.data.tokenizers import ByteTokenizer, Tokenizer
from modsearch.errors import ConfigError, DataError, shown, unknown
from modsearch.evaluation.answers import Answer, Answers
from modsearch.evaluation.generation import Continuer, Prompt, Settings
from modsearch.evaluation.likelihoods import Score, Scorer, batch_tokens
from modsearch.evaluation.models import LanguageModel
from modsearch.evaluation.rows import Row, rolling, windows
from modsearch.evaluation.targets import open_model
from modsearch.nn.contracts import Mode
from modsearch.registry.plugins import load_plugins

DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}
"""Of matrix products; lm-eval's names, and those of a study's `precision`."""
ARGUMENTS = (
    "checkpoint",
    "pretrained",
    "mode",
    "batch_size",
    "max_batch_size",
    "device",
    "dtype",
    "plugin",
)


@register_model("modsearch")
class ModsearchLM(TemplateLM):
    """lm-eval's view of a model and its tokenizer.

    Before a text without context stands the token that ends a document, or what the tokenizer
    has for that. Contexts are cut as lm-eval's own model `hf` cuts them; a continuation that
    exceeds the model's sequence length alone, and more new tokens than that has, which that model
    refuses, are scored in windows and generated from windows that slide.

    In fp32 no score depends on the batch size, on padding or on the order of requests by more
    than 1e-5 nats a token, where no router's score lies within rounding of its cut-off.

    In mode `causal` no decision looks at a later token. Mode `train` routes as in training:
    top-k choices see the future, so what it gives is no likelihood.

    Args:
        model: what is scored; it is put into evaluation mode.
        mode: `causal` or `train`.
        batch_size: rows of a batch; `auto`: as many as are fast.
        device: where the model is put, unless it stays where it is.
        tokenizer: what the model was trained with.
        dtype: of matrix products, by autocast; weights and the softmax stay in fp32.
        answers: what was answered before, and is kept.

    Raises:
        ConfigError: unknown mode or dtype, or a model that has not the tokenizer's tokens.
    """

    def __init__(
        self,
        model: LanguageModel,
        mode: Mode = "causal",
        batch_size: int | str = "auto",
        device: str | None = None,
        tokenizer: Tokenizer | None = None,
        dtype: str = "float32",
        answers: Answers | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("causal", "train"):
            raise unknown("mode", str(mode), ("causal", "train"))
        if dtype not in DTYPES:
            raise unknown("dtype", str(dtype), DTYPES)
        self.coder = tokenizer or ByteTokenizer()
        if model.config.vocab_size < self.coder.vocab_size:
            raise ConfigError(
                f"can't score text: the model has {model.config.vocab_size} tokens, its "
                f"tokenizer {shown(self.coder.name)} has {self.coder.vocab_size}"
            )
        self.model = (model if device is None else model.to(device)).train(False)
        self.mode: Mode = mode
        self.batch_size = batch_size
        self.dtype = DTYPES[dtype]
        self.answers = answers or Answers()
        self._device = self.model.device

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> Self:
        """From `checkpoint=FOLDER,dtype=bfloat16`, as on lm-eval's command line."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> Self:
        """From `checkpoint` (or `pretrained`), the folder of a trial or one with weights, ours or
        Llama-shaped ones of `transformers`, or `hf:NAME`; and optionally `mode`, `batch_size`,
        `device`, `dtype` and a `plugin` file.

        CUDA without a GPU means the CPU: lm-eval's command line asks for `cuda:0` unless told
        otherwise.

        Raises:
            ConfigError: there is no checkpoint named, an argument is unknown or none, the
                tokenizer can't be read, or the plugin is wrong.
            DataError: weights of others are not to be had, or do not fit.
            StudyError: there is no checkpoint, or it is damaged.
        """
        for name in arg_dict:
            if name not in ARGUMENTS:
                raise unknown("argument of model `modsearch`", name, ARGUMENTS)
        given = {name: value for name, value in (additional_config or {}).items() if value}
        arguments = {**given, **arg_dict}
        named = [arguments[name] for name in ("checkpoint", "pretrained") if name in arguments]
        if len(named) != 1:
            raise ConfigError(
                "model `modsearch` needs one checkpoint: checkpoint=FOLDER, of a trial or with "
                "weights"
            )
        if "plugin" in arguments:
            load_plugins([str(arguments["plugin"])])
        device = str(arguments.get("device", "cpu"))
        if device.startswith("cuda") and not torch.cuda.is_available():
            device = "cpu"
        opened = open_model(str(named[0]), device)
        return cls(
            opened.model,
            mode=arguments.get("mode", "causal"),
            batch_size=_batch_size(arguments.get("batch_size", "auto")),
            tokenizer=opened.tokenizer,
            dtype=str(arguments.get("dtype", "float32")).removeprefix("torch."),
        )

    @property
    def eot_token_id(self) -> int:
        """The token that ends a document."""
        return self.coder.end

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that stands alone."""
        return self.coder.begin

    @property
    def max_length(self) -> int:
        """Longest input in tokens: the sequence length of training."""
        return self.model.config.seq_len

    @property
    def tokenizer_name(self) -> str:
        """For lm-eval's cache of requests."""
        return self.coder.name

    def get_model_info(self) -> dict[str, object]:
        """What lm-eval adds to the configuration in its results."""
        return {
            "mode": self.mode,
            "likelihood": self.mode == "causal",
            "dtype": str(self.dtype).removeprefix("torch."),
            "tokenizer": self.coder.name,
            "model_num_parameters": self.model.num_params,
            "max_length": self.max_length,
            "modsearch_version": __version__,
        }

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """The tokens of a text, behind those that the tokenizer puts before every one."""
        found = self.coder.encode([string])[0]
        return found if add_special_tokens is False else [*self.coder.opening, *found]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        return [[*self.coder.opening, *tokens] for tokens in self.coder.encode(texts)]

    def tok_decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; what is no character becomes the replacement character."""
        return self.coder.decode(tokens)

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[Score]:
        """Log-likelihood in nats of continuations after contexts, split into tokens as lm-eval
        does: spaces at the end of a context belong to the continuation.

        Raises:
            ConfigError: a continuation has no token of its own.
        """

        def ask(requests: Sequence[Instance]) -> list[Score]:
            for request in requests:
                if request.args == ("", ""):
                    raise _nothing("", "")
            found: list[Score] = super(ModsearchLM, self).loglikelihood(
                list(requests), disable_tqdm=disable_tqdm
            )
            return found

        return self._answered("loglikelihood", requests, ask)

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihood in nats of whole texts, in windows: every token is scored once."""

        def ask(requests: Sequence[Instance]) -> list[float]:
            texts = self._encoded([request.args[0] for request in requests])
            rows = [list(rolling(text, self.prefix_token_id, self.max_length)) for text in texts]
            return [score for score, _ in self._score(rows, disable_tqdm)]

        return self._answered("loglikelihood_rolling", requests, ask)

    def _answered(
        self,
        kind: str,
        requests: Sequence[Instance],
        ask: Callable[[Sequence[Instance]], Sequence[Answer]],
    ) -> list[Answer]:
        return self.answers.of(kind, f"{self.mode} {self.dtype}", requests, ask)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
    ) -> list[Score]:
        for texts, _, continuation in requests:
            if not continuation:
                raise _nothing(*texts)
        # A context of spaces alone belongs to the continuation.
        rows = [
            list(windows(context or [self.prefix_token_id], continuation, self.max_length))
            for _, context, continuation in requests
        ]
        return self._score(rows, disable_tqdm)

    def _score(self, rows: Sequence[Sequence[Row]], quiet: bool) -> list[Score]:
        """Of texts that have some rows each.

        Raises:
            DataError: the model gives no numbers.
        """
        size = self.batch_size if isinstance(self.batch_size, int) else None
        scorer = Scorer(self.model, self.mode, size, self.dtype)
        found = iter(scorer.score([row for each in rows for row in each], quiet))
        scores = []
        for each in rows:
            parts = [next(found) for _ in each]
            scores.append((sum(nats for nats, _ in parts), all(same for _, same in parts)))
        if not all(math.isfinite(nats) for nats, _ in scores):  # an accuracy would hide it
            raise DataError(
                f"the model's logits are no numbers in {str(self.dtype).removeprefix('torch.')}\n"
                f"its weights are damaged, or it needs another dtype"
            )
        return scores

    def generate_until(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[str]:
        """Continue each context until a stop text, the end of the document or a length.

        Sampling (`temperature` above 0, with `top_k` and `top_p`) draws from a generator of its
        own, seeded by the request's place in its task.
        """
        return self._answered("generate_until", requests, self._generate)

    def _generate(self, requests: Sequence[Instance]) -> list[str]:
        contexts = self._encoded([request.args[0] for request in requests])
        alike: dict[Settings, list[Prompt]] = defaultdict(list)
        for place, (context, request) in enumerate(zip(contexts, requests, strict=True)):
            tokens = context or [self.prefix_token_id]
            alike[Settings.of(request.args[1])].append(Prompt(tokens, place))
        texts = [""] * len(requests)
        for settings, prompts in alike.items():
            continuer = Continuer(self.model, self.mode, self.coder, settings, self.dtype)
            cut = [Prompt(continuer.cut(each.tokens), each.seed) for each in prompts]
            for batch in self._prompt_batches(cut, settings.most):
                for prompt, text in zip(batch, continuer.texts(batch), strict=True):
                    texts[prompt.seed] = text
        return texts

    def _prompt_batches(self, prompts: list[Prompt], most_new: int) -> Iterator[list[Prompt]]:
        """Long ones first, so that neighbours are alike."""
        ordered = sorted(prompts, key=lambda prompt: -len(prompt.tokens))
        size = self.batch_size
        if not isinstance(size, int):
            longest = min(len(ordered[0].tokens) + most_new, self.max_length)
            size = max(1, batch_tokens(self.model) // longest * GENERATION_FACTOR)
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]


GENERATION_FACTOR = 8
"""More sequences generate together than score: a step has one token of each."""


def _nothing(context: str, continuation: str) -> ConfigError:
    return ConfigError(
        f"continuation {shown(continuation)} has no token of its own after {shown(context)}"
    )


def _batch_size(given: Any) -> int | str:
    """A number, or `auto`, which lm-eval also takes with a number behind it.

    Raises:
        ConfigError: it is neither.
    """
    text = str(given)
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text.partition(":")[0] == "auto":
        return "auto"
    raise ConfigError(f"batch_size is `auto` or a whole number from 1 on, but got {shown(given)}")
