"""The adapter: the same scores whatever the batch, lm-eval's own `hf` model as a twin, any
tokenizer, both precisions, generation in batches."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from lm_eval.api.instance import Instance
from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.data.tokenizers import FileTokenizer, train_bpe
from modsearch.errors import ConfigError
from modsearch.evaluation.generation import Continuer
from modsearch.evaluation.likelihoods import Score
from modsearch.evaluation.lm import ModsearchLM
from modsearch.evaluation.rows import families, windows
from modsearch.nn.cache import LayerCache
from modsearch.nn.contracts import Mode
from modsearch.nn.model import Decoder

SMALL = {"depth": 2, "width": 16, "num_heads": 2, "seq_len": 128, "capacity": 0.5}
ROUTERS = ("expert_choice", "predictor", "threshold", "token_choice", "random", "static")
MODELS = {
    "dense": ModelConfig(**SMALL),
    **{name: ModelConfig(**SMALL, block="mod", router=name) for name in ROUTERS},
    **{
        name: ModelConfig(**SMALL, block=name)
        for name in ("moe", "mode_staged", "mode_integrated")
    },
}
WORDS = "the cat sat on a mat and dogs of many houses were not amused by that .".split()  # noqa: SIM905


def decoder(config: ModelConfig, seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    model = Decoder(config)
    model.set_progress(1.0)
    return model.eval()


def text(draw: random.Random, size: int) -> str:
    return " ".join(draw.choices(WORDS, k=size))


def asked() -> list[tuple[str, str]]:
    """Choices after a context, minimal pairs, contexts and continuations that are too long."""
    draw = random.Random(0)
    pairs = []
    for _ in range(6):
        context = text(draw, draw.randrange(15, 24))
        pairs += [(context, " " + text(draw, draw.randrange(1, 5))) for _ in range(5)]
        sentence = text(draw, 12)
        pairs += [("", sentence), ("", sentence.replace("cat", "dog") + "!")]
    return [*pairs, (text(draw, 60), " end"), ("a", text(draw, 80)), ("x ", "y"), (" ", "z")]


def scores(lm: ModsearchLM, pairs: Sequence[tuple[str, str]]) -> list[Score]:
    return lm.loglikelihood([request("loglikelihood", *pair) for pair in pairs], disable_tqdm=True)


def request(kind: str, *arguments: object) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


@pytest.mark.parametrize("name", MODELS)
def test_scores_hold_whatever_the_batch_and_the_order(name: str) -> None:
    model, pairs = decoder(MODELS[name]), asked()
    shuffled = random.Random(1).sample(range(len(pairs)), len(pairs))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        model = model.to(dtype)
        alone = scores(ModsearchLM(model, batch_size=1), pairs)
        for size in (7, 64, "auto"):
            lm = ModsearchLM(model, batch_size=size)
            found = scores(lm, pairs)
            other = scores(lm, [pairs[place] for place in shuffled])
            again = [other[shuffled.index(place)] for place in range(len(pairs))]
            for pair, one, two, three in zip(pairs, alone, found, again, strict=True):
                num = len(lm.tok_encode(pair[1])) + 1
                assert abs(one[0] - two[0]) < tolerance * num
                assert abs(one[0] - three[0]) < tolerance * num
                assert one[1] == two[1] == three[1]


def test_choices_after_one_context_share_it() -> None:
    lm = ModsearchLM(decoder(MODELS["dense"]))
    encoded = [lm._encode_pair(*pair) for pair in asked()[:5]]
    rows = [row for each in encoded for row in windows(*each, lm.max_length)]
    [family] = families(rows, 64)
    assert family.shared >= len(encoded[0][0])
    assert sorted(family.members) == list(range(5))


def test_threads_change_nothing_and_are_given_back() -> None:
    model, pairs = decoder(MODELS["expert_choice"]), asked()
    before = torch.get_num_threads()
    try:
        found = []
        for num in (1, 3):
            torch.set_num_threads(num)
            found.append(scores(ModsearchLM(model, batch_size=7), pairs))
            assert torch.get_num_threads() == num
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-4)


def test_bf16_is_close_and_its_softmax_is_not_of_bf16() -> None:
    model = decoder(MODELS["expert_choice"])
    context = "the cat"
    tokens = [(("", ""), list(context.encode()), [token]) for token in range(256)]
    found = {
        dtype: ModsearchLM(model, dtype=dtype)._loglikelihood_tokens(tokens)
        for dtype in ("float32", "bfloat16")
    }
    full, half = ([score for score, _ in each] for each in found.values())
    assert full != half
    assert max(abs(a - b) for a, b in zip(full, half, strict=True)) < 0.1
    assert math.fsum(map(math.exp, half)) == pytest.approx(1, abs=1e-5)
    # Greedy decoding takes one token, also where several logits are equal.
    assert [sum(same for _, same in each) for each in found.values()] == [1, 1]
    with pytest.raises(ConfigError, match="unknown dtype `bfloat61`; did you mean `bfloat16`"):
        ModsearchLM(model, dtype="bfloat61")


@pytest.fixture(scope="module")
def bpe() -> FileTokenizer:
    draw = random.Random(0)
    return train_bpe([text(draw, 50) for _ in range(40)], 300)


@torch.no_grad()
def direct(model: Decoder, tokens: list[int], num_scored: int) -> float:
    logits_TV = model.logits(torch.tensor([tokens[:-1]]), "causal")[0].double().log_softmax(-1)
    places = range(len(tokens) - 1 - num_scored, len(tokens) - 1)
    return sum(logits_TV[place, tokens[place + 1]].item() for place in places)


def test_any_tokenizer_is_scored_as_lm_eval_splits_it(bpe: FileTokenizer) -> None:
    model = decoder(MODELS["dense"].model_copy(update={"vocab_size": bpe.vocab_size}))
    lm = ModsearchLM(model, tokenizer=bpe)
    [(score, _), (first, _)] = scores(lm, [("the cat ", "sat on"), ("", "the cat")])
    # The space belongs to the continuation, whose tokens begin with one.
    [whole, before, alone] = bpe.encode(["the cat sat on", "the cat", "the cat"])
    assert whole[: len(before)] == before
    assert score == pytest.approx(direct(model, whole, len(whole) - len(before)), abs=1e-4)
    assert first == pytest.approx(direct(model, [bpe.end, *alone], len(alone)), abs=1e-4)
    long = text(random.Random(3), 300)
    [rolled] = lm.loglikelihood_rolling([request("loglikelihood_rolling", long)], True)
    [tokens] = bpe.encode([long])
    assert len(tokens) > model.config.seq_len
    assert -rolled / len(tokens) == pytest.approx(math.log(bpe.vocab_size), rel=0.5)
    short = tokens[: model.config.seq_len]
    [part] = lm.loglikelihood_rolling([request("loglikelihood_rolling", bpe.decode(short))], True)
    assert part == pytest.approx(direct(model, [bpe.end, *short], len(short)), abs=1e-3)
    with pytest.raises(ConfigError, match='"at" has no token of its own after "the c"'):
        scores(lm, [("the c", "at")])
    with pytest.raises(ConfigError, match="has no token of its own"):
        scores(lm, [("", "")])


class Llama:
    """A model of transformers, as the adapter takes it."""

    training = False

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = ModelConfig(
            vocab_size=model.config.vocab_size, seq_len=model.config.max_position_embeddings
        )
        self.num_params = 0
        self.device = torch.device("cpu")

    def train(self, mode: bool = True) -> Self:
        return self

    def to(self, device: str) -> Self:
        return self

    def logits(
        self,
        tokens_BT: Tensor,
        mode: Mode,
        valid_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        found: Tensor = self.model(tokens_BT).logits
        return found

    def empty_caches(self, num_sequences: int) -> list[LayerCache] | None:
        return None


@pytest.fixture(scope="module")
def twins(bpe: FileTokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ModsearchLM]:
    """A tiny random Llama as lm-eval's own model, and as ours."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate", reason="lm-eval's own model imports it")
    from lm_eval.models.huggingface import HFLM

    folder = tmp_path_factory.mktemp("tokenizer")
    bpe.save(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=bpe.vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=48,
        bos_token_id=bpe.end,
        eos_token_id=bpe.end,
        initializer_range=0.5,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=48)
    return theirs, ModsearchLM(Llama(model), tokenizer=bpe)


def test_requests_are_cut_and_scored_as_by_lm_evals_own_model(
    twins: tuple[Any, ModsearchLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = twins
    # It refuses a context of spaces alone, and a continuation that is too long by itself.
    pairs = [pair for pair in asked() if pair[0] != " "]
    pairs = [pair for pair in pairs if len(ours.tok_encode(pair[1])) <= ours.max_length]
    assert any(len(ours.tok_encode(a + b)) > ours.max_length + 1 for a, b in pairs)
    rows = {kind: set[tuple[int, ...]]() for kind in ("theirs", "ours")}
    call, logits = theirs._model_call, ours.model.logits
    lengths: list[int] = []

    def recorded(kind: str, tokens_BT: Tensor) -> None:
        lengths.extend([tokens_BT.shape[1]] * len(tokens_BT))
        rows[kind] |= {tuple(row) for row in tokens_BT.tolist()}

    def their_call(inputs: Tensor, **_: object) -> Tensor:
        recorded("theirs", inputs)
        found: Tensor = call(inputs)
        return found

    def our_logits(tokens_BT: Tensor, *rest: Any) -> Tensor:
        recorded("ours", tokens_BT)
        return logits(tokens_BT, *rest)

    monkeypatch.setattr(theirs, "_model_call", their_call)
    monkeypatch.setattr(theirs, "batch_size_per_gpu", 1)
    monkeypatch.setattr(theirs, "logits_cache", False)
    monkeypatch.setattr(ours.model, "logits", our_logits)
    monkeypatch.setattr(ours, "batch_size", 1)
    requests = [request("loglikelihood", *pair) for pair in pairs]
    wanted = theirs.loglikelihood(requests, disable_tqdm=True)
    found = ours.loglikelihood(requests, disable_tqdm=True)
    for (score, same), (other, greedy) in zip(found, wanted, strict=True):
        assert score == pytest.approx(other, abs=1e-3)
        assert same == greedy
    texts = [request("loglikelihood_rolling", text(random.Random(n), n)) for n in (1, 9, 40, 90)]
    wanted = theirs.loglikelihood_rolling(texts, disable_tqdm=True)
    assert ours.loglikelihood_rolling(texts, True) == pytest.approx(wanted, abs=1e-3)
    assert rows["ours"] == rows["theirs"]
    assert max(lengths) == ours.max_length


def test_what_is_generated_is_what_lm_evals_own_model_generates(
    twins: tuple[Any, ModsearchLM],
) -> None:
    theirs, ours = twins
    contexts = [text(random.Random(n), n) for n in (3, 5, 30, 60)]
    for options in (
        {"until": [], "max_gen_toks": 20},
        {"until": ["e", "at "], "max_gen_toks": 20},
        {"until": [" the", "s "], "max_gen_toks": 7, "do_sample": False},
    ):
        requests = [request("generate_until", context, options) for context in contexts]
        wanted = theirs.generate_until(requests, disable_tqdm=True)
        assert ours.generate_until(requests, disable_tqdm=True) == wanted
        assert any(wanted)


@pytest.mark.parametrize("name", ["dense", "expert_choice", "mode_integrated"])
@pytest.mark.parametrize("mode", ["causal", "train"])
def test_texts_are_the_same_whatever_the_batch(name: str, mode: Mode) -> None:
    model = decoder(MODELS[name], seed=1)
    draw = random.Random(2)
    asks = [
        (text(draw, draw.randrange(1, 40)), {"until": stops, "max_gen_toks": most, **more})
        for stops, most, more in [
            ([], 12, {}),
            (["\ufffd\ufffd"], 30, {}),
            ([], 12, {"do_sample": True, "temperature": 1.5, "top_k": 20}),
        ]
        for _ in range(4)
    ]
    requests = [request("generate_until", *ask) for ask in asks]
    alone = ModsearchLM(model, mode, batch_size=1).generate_until(requests)
    for size in (3, "auto"):
        assert ModsearchLM(model, mode, batch_size=size).generate_until(requests) == alone
    assert len(set(alone)) > 3


def test_a_stop_text_may_span_tokens_and_end_within_one(bpe: FileTokenizer) -> None:
    model = decoder(MODELS["dense"].model_copy(update={"vocab_size": bpe.vocab_size}), seed=3)
    lm = ModsearchLM(model, tokenizer=bpe)
    options: dict[str, Any] = {"until": [], "max_gen_toks": 25}
    [free] = lm.generate_until([request("generate_until", "the cat", options)])
    stop = next(
        free[n : n + 3] for n in range(4, len(free) - 3) if "\ufffd" not in free[n : n + 3]
    )
    [cut] = lm.generate_until(
        [request("generate_until", "the cat", {**options, "until": ["absent", stop]})]
    )
    assert cut == free[: free.index(stop)]


def test_the_end_of_a_document_ends_a_text() -> None:
    model = decoder(MODELS["dense"])
    with torch.no_grad():
        model.embedding.weight[0] = 0
    model.embedding.weight.data[0] = 10 * model.norm.weight.data
    lm = ModsearchLM(model)
    row = torch.tensor([list(b"x")])
    ends = int(model.logits(row, "causal")[0, -1].argmax()) == lm.eot_token_id
    [found] = lm.generate_until([request("generate_until", "x", {"max_gen_toks": 5})])
    assert (found == "") == ends


def test_a_context_is_cut_so_that_new_tokens_fit() -> None:
    lm = ModsearchLM(decoder(MODELS["dense"]))
    from modsearch.evaluation.generation import Settings

    for most, left in ((28, 100), (127, 1), (128, 500), (400, 500)):
        settings = Settings.of({"max_gen_toks": most})
        continuer = Continuer(lm.model, "causal", lm.coder, settings, torch.float32)
        assert len(continuer.cut([1] * 500)) == left


def test_arguments_are_lm_evals(tmp_path: Path) -> None:
    from modsearch.training.checkpoint import save_model

    model = decoder(MODELS["dense"])
    save_model(model, tmp_path / "checkpoint")
    lm = ModsearchLM.create_from_arg_string(
        f"checkpoint={tmp_path},dtype=bfloat16", {"batch_size": "auto:4", "max_batch_size": 64}
    )
    assert lm.dtype == torch.bfloat16
    assert lm.batch_size == "auto"
    assert lm.get_model_info()["dtype"] == "bfloat16"
    with pytest.raises(ConfigError, match=r'batch_size is `auto` or .* got "many"'):
        ModsearchLM.create_from_arg_string(f"checkpoint={tmp_path},batch_size=many")
    with pytest.raises(ConfigError, match="needs one checkpoint"):
        ModsearchLM.create_from_arg_string(f"checkpoint={tmp_path},pretrained={tmp_path}")
