"""A decoder of bytes as a model of lm-eval.

Shapes: B rows, T positions, V vocabulary.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, simple_parse_args_string

from modsearch import __version__
from modsearch.errors import ConfigError, shown, unknown
from modsearch.nn.contracts import Mode
from modsearch.nn.generate import Decoding, Sampling, draw
from modsearch.nn.model import Decoder
from modsearch.registry.plugins import load_plugins
from modsearch.training.checkpoint import load_model

Score = tuple[float, bool]
"""Log-likelihood in nats, and whether greedy decoding would give the same tokens."""
Row = tuple[list[int], list[int]]
"""Input tokens, and the targets of the last of them."""

END_OF_DOCUMENT, VOCAB_SIZE = 0, 256
UNSCORED = -100
BATCH_SIZE = 32
MOST_NEW_TOKENS = 65_536


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
            "modsearch_version": __version__,
        }

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """The bytes of a text; there are no special tokens to add.

        A byte that was no UTF-8 where the text was read (PEP 383) is that byte again; any other
        half of a surrogate pair becomes the replacement character.
        """
        whole = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", string)
        return list(whole.encode(errors="surrogateescape"))

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

        Decoding is cached until a text exceeds `max_length` tokens; from there every new token
        takes a pass over the last so many. Sampling (`temperature` above 0, with `top_k` and
        `top_p`) draws from a generator of its own, seeded by the request's place.
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
        try:
            settings = normalize_gen_kwargs(dict(options))
            stops = [bytes(self.tok_encode(stop)) for stop in settings["until"] if stop]
            sampling = Sampling(
                float(settings.get("temperature", 0.0)),
                settings.get("top_k") or None,
                float(settings.get("top_p", 1.0)),
            )
            if not 0 < settings["max_gen_toks"] <= MOST_NEW_TOKENS:
                raise ValueError(f"max_gen_toks is 1 to {MOST_NEW_TOKENS:,}")
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ConfigError(f"generation_kwargs {shown(options)}: {error}") from error
        generator = torch.Generator().manual_seed(seed)
        tokens = self.tok_encode(context) or [END_OF_DOCUMENT]
        start = len(tokens)
        decoding = Decoding(self.model, 1)
        uncached = tokens
        for _ in range(settings["max_gen_toks"]):
            if self.mode == "causal" and len(tokens) <= self.max_length:
                logits_BV = decoding.extend(torch.tensor([uncached], device=self._device))
            else:  # the window slides, and with it every position
                row = torch.tensor([tokens[-self.max_length :]], device=self._device)
                logits_BV = self.model(row, self.mode).logits_BTV[:, -1]
            token = int(draw(logits_BV, sampling, [generator]))
            if token == END_OF_DOCUMENT:
                break
            tokens.append(token)
            uncached = [token]
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
