"""Texts that go on from contexts: in batches, with caches as far as the model's sequence goes.

Shapes: B sequences, T positions, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from torch import Tensor

from modsearch.data.tokenizers import Tokenizer
from modsearch.errors import ConfigError, shown
from modsearch.evaluation.likelihoods import padded
from modsearch.evaluation.models import LanguageModel
from modsearch.nn.cache import LayerCache
from modsearch.nn.contracts import Mode
from modsearch.nn.generate import draw
from modsearch.nn.sampling import Sampling

MOST_NEW_TOKENS = 65_536
SPARE_TOKENS = 8
"""Looked at beside those that a stop text may span: some tokens have no text of their own."""


@dataclass(frozen=True)
class Settings:
    """How lm-eval asks for a continuation.

    Raises:
        ConfigError: an option is none, or out of range.
    """

    stops: tuple[str, ...]
    most: int
    """New tokens."""
    sampling: Sampling

    @classmethod
    def of(cls, options: Any) -> "Settings":
        """From a task's `generation_kwargs`."""
        try:
            found = normalize_gen_kwargs(dict(options))
            stops = tuple(stop for stop in found["until"] if stop)
            if not all(isinstance(stop, str) for stop in stops):
                raise TypeError("until is a list of texts")
            sampling = Sampling(
                float(found.get("temperature", 0.0)),
                found.get("top_k") or None,
                float(found.get("top_p", 1.0)),
            )
            if not 0 < found["max_gen_toks"] <= MOST_NEW_TOKENS:
                raise ValueError(f"max_gen_toks is 1 to {MOST_NEW_TOKENS:,}")
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ConfigError(f"generation_kwargs {shown(options)}: {error}") from error
        return cls(stops, found["max_gen_toks"], sampling)


@dataclass(frozen=True)
class Prompt:
    """What a text goes on from."""

    tokens: list[int]
    seed: int
    """Of its own draws."""


class Continuer:
    """Continues prompts with one set of settings."""

    def __init__(
        self,
        model: LanguageModel,
        mode: Mode,
        tokenizer: Tokenizer,
        settings: Settings,
        dtype: torch.dtype,
    ) -> None:
        self.model = model
        self.mode: Mode = mode
        self.tokenizer = tokenizer
        self.settings = settings
        self.dtype = dtype
        # A stop text of so many bytes spans no more tokens.
        spans = [len(stop.encode(errors="replace")) for stop in settings.stops]
        self.span = max(spans, default=0) + SPARE_TOKENS

    def cut(self, tokens: list[int]) -> list[int]:
        """A context as lm-eval's own model `hf` cuts it: from the left, so that the new tokens
        fit behind it. Where they alone don't, which that model refuses, it stays whole."""
        most = self.model.config.seq_len - self.settings.most
        return tokens[-most:] if most > 0 else tokens

    @torch.inference_mode()
    def texts(self, prompts: Sequence[Prompt]) -> list[str]:
        """What follows each prompt, until a stop text, the end of the document or the length."""
        batch = _Batch(self.model, self.mode, prompts, self.dtype)
        new: list[list[int]] = [[] for _ in prompts]
        for _ in range(self.settings.most):
            live = batch.live
            drawn = draw(batch.logits(), self.settings.sampling, batch.generators).tolist()
            going = []
            for row, (prompt, token) in enumerate(zip(live, drawn, strict=True)):
                if token == self.tokenizer.end:
                    continue
                new[prompt].append(token)
                if not self._stopped(new[prompt]):
                    going.append(row)
            batch.extend(drawn, going)
            if not going:
                break
        return [self._text(each) for each in new]

    def _stopped(self, new: list[int]) -> bool:
        if not self.settings.stops:
            return False
        end = self.tokenizer.decode(new[-self.span :])
        return any(stop in end for stop in self.settings.stops)

    def _text(self, new: list[int]) -> str:
        text: str = postprocess_generated_text(
            self.tokenizer.decode(new), list(self.settings.stops), None
        )
        return text


class _Batch:
    """Sequences that grow, less those that have ended.

    In mode `causal` caches go as far as the model's sequence length; from there, and in mode
    `train`, each new token takes a pass over the last so many.
    """

    def __init__(
        self,
        model: LanguageModel,
        mode: Mode,
        prompts: Sequence[Prompt],
        dtype: torch.dtype,
    ) -> None:
        self.model = model
        self.mode: Mode = mode
        self.dtype = dtype
        self.live = list(range(len(prompts)))
        self.generators = [torch.Generator().manual_seed(each.seed) for each in prompts]
        self.tokens = [list(each.tokens) for each in prompts]
        self.caches: list[LayerCache] | None = None
        if mode == "causal":
            self.caches = model.empty_caches(len(prompts))
        self.cached = [0] * len(prompts)

    def logits(self) -> Tensor:
        """Of the token after each sequence's last (B, V)."""
        most = self.model.config.seq_len
        if self.caches is not None and max(map(len, self.tokens)) > most:
            self.caches = None
        if self.caches is None:
            self.cached = [0] * len(self.tokens)
        fresh = [row[n:][-most:] for row, n in zip(self.tokens, self.cached, strict=True)]
        self.cached = [len(row) for row in self.tokens]
        if self.mode == "train":  # what top-k chooses depends on the padded length
            return torch.cat([self._last([row], None) for row in fresh])
        return self._last(fresh, self.caches)

    def _last(self, rows: list[list[int]], caches: list[LayerCache] | None) -> Tensor:
        device = self.model.device
        tokens_BT, valid_BT = padded(rows)
        positions_BT = None
        if caches is not None:
            steps_T = torch.arange(tokens_BT.shape[1], device=device)
            first_B = [n - len(row) for n, row in zip(self.cached, rows, strict=True)]
            positions_BT = torch.tensor(first_B, device=device)[:, None] + steps_T
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits_BTV = self.model.logits(
                tokens_BT.to(device),
                self.mode,
                None if valid_BT is None else valid_BT.to(device),
                positions_BT,
                caches,
            )
        last_B = torch.tensor([len(row) - 1 for row in rows], device=device)
        return logits_BTV[torch.arange(len(rows), device=device), last_B]

    def extend(self, drawn: list[int], going: list[int]) -> None:
        """Append tokens, and leave out the rows that do not go on."""
        for row, token in zip(self.tokens, drawn, strict=True):
            row.append(token)
        if len(going) == len(self.live):
            return
        self.live = [self.live[row] for row in going]
        self.generators = [self.generators[row] for row in going]
        self.tokens = [self.tokens[row] for row in going]
        self.cached = [self.cached[row] for row in going]
        if self.caches is not None and going:
            rows = torch.tensor(going, device=self.model.device)
            self.caches = [cache.copied(rows) for cache in self.caches]
