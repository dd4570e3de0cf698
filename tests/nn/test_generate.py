"""Cached decoding: the parallel pass, token by token; sampling; what it cost.

That decoding equals the parallel pass for every component is the conformance kit's business;
here are the cases that steer it, and what generation adds.

Shapes: B sequences, T positions, V vocabulary.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Done
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modsearch.cli.options import app
from modsearch.config.model import ModelConfig
from modsearch.errors import ConfigError
from modsearch.nn.blocks.mod import Mod
from modsearch.nn.contracts import Context
from modsearch.nn.generate import Decoding, draw, generate
from modsearch.nn.model import Decoder
from modsearch.nn.sampling import Sampling
from modsearch.training.checkpoint import save_model

VOCAB = 64
T = 37


def decoder(**changes: Any) -> Decoder:
    """A small model in fp64, in evaluation mode."""
    shape = {"vocab_size": VOCAB, "depth": 4, "width": 16, "num_heads": 2, "capacity": 0.3}
    return Decoder(ModelConfig(**(shape | changes))).double().eval()


def steered(sign: int | None) -> Decoder:
    """A model whose routed blocks take every token (1), none (-1), or those of the upper half of
    the vocabulary (None): the router reads a channel that the blocks hardly change."""
    model = decoder(block="mod", tied=False)
    half = torch.where(torch.arange(VOCAB) < VOCAB // 2, -1.0, 1.0)
    with torch.no_grad():
        model.embedding.weight[:, 0] = 4.0 * (half if sign is None else torch.full((VOCAB,), sign))
        for layer in model.routed_layers:
            block = model.stack()[layer]
            assert isinstance(block, Mod)
            weight = block.router.get_parameter("weight")
            weight.zero_()
            weight[0, 0] = 0.5
    return model


MODELS = {
    "dense": lambda: decoder(),
    "no token": lambda: steered(-1),
    "every token": lambda: steered(1),
    "some tokens": lambda: steered(None),
    "grouped queries": lambda: decoder(num_heads=4, num_kv_heads=2, block="mod"),
    "attention only": lambda: decoder(block={"name": "mod", "part": "attention"}),
    "ffn only": lambda: decoder(block={"name": "mod", "part": "ffn"}),
    "staged": lambda: decoder(block="mode_staged"),
    "integrated": lambda: decoder(block="mode_integrated"),
    "prefix softmax": lambda: decoder(
        block={"name": "mod", "positions": "renumbered"},
        router={"name": "expert_choice", "gate": "softmax_selected", "init_std": 0.5},
    ),
}
each_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


@each_model
@pytest.mark.parametrize("lengths", [[20], [1, 9, 20, 20, 3]], ids=["batch 1", "batch 5, ragged"])
def test_decoding_equals_the_parallel_pass(build: Any, lengths: list[int]) -> None:
    model = build()
    tokens_BT = torch.randint(VOCAB, (len(lengths), T))
    with torch.no_grad():
        whole_BTV = model(tokens_BT, "causal").logits_BTV
    new_B = torch.tensor(lengths)
    decoding = Decoding(model, len(lengths))
    logits_BV = decoding.extend(tokens_BT[:, : max(lengths)], new_B)
    rows_B = torch.arange(len(lengths))
    for step in range(T - max(lengths) + 1):
        last_B = new_B - 1 + step
        gap = (logits_BV - whole_BTV[rows_B, last_B]).abs().max()
        assert gap <= 1e-10, f"step {step}"
        if step < T - max(lengths):
            logits_BV = decoding.extend(tokens_BT[rows_B, last_B + 1][:, None])


@each_model
def test_a_prefill_in_chunks_equals_one(build: Any) -> None:
    model = build()
    tokens_BT = torch.randint(VOCAB, (3, T))
    whole, parts = Decoding(model, 3), Decoding(model, 3)
    one_BV = whole.extend(tokens_BT)
    for chunk_BT in (tokens_BT[:, :5], tokens_BT[:, 5:6], tokens_BT[:, 6:]):
        many_BV = parts.extend(chunk_BT)
    assert (one_BV - many_BV).abs().max() <= 1e-10
    assert whole.layer_rows() == parts.layer_rows()
    assert whole.flops() == parts.flops()


def test_caches_hold_the_rows_that_a_layer_processed() -> None:
    model = steered(None)
    upper, lower = torch.full((1, T), VOCAB - 1), torch.zeros(1, T, dtype=torch.long)
    mixed = torch.cat([lower[:, :30], upper[:, 30:]], dim=1)
    decoding = Decoding(model, 3)
    decoding.extend(torch.cat([upper, lower, mixed]))
    assert decoding.layer_rows() == [[T] * 3, [T, 0, T - 30], [T] * 3, [T, 0, T - 30]]
    per_row = 2 * model.config.width * 8
    assert decoding.cache_bytes == per_row * (6 * T + 2 * (T + T - 30))


def test_a_block_that_no_sequence_enters_computes_nothing() -> None:
    model, tokens_BT = steered(-1), torch.randint(VOCAB, (2, 1))
    decoding = Decoding(model, 2)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        decoding.extend(tokens_BT)
    block = model.stack()[0]
    width = model.config.width
    dense = 2 * block.cost(1).forward.total
    routers, head = 2 * 2 * width, 2 * width * VOCAB
    assert counter.get_total_flops() == 2 * (dense + routers + head)


@each_model
def test_stated_flops_equal_the_counter(build: Any) -> None:
    """Token by token, so that a query meets the keys before it and nothing else."""
    model = build()
    tokens_BT = torch.randint(VOCAB, (1, 11))
    decoding = Decoding(model, 1)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for t in range(11):
            decoding.extend(tokens_BT[:, t : t + 1])
    assert decoding.flops() == [counter.get_total_flops()]


def test_only_active_rows_enter_a_routed_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model = steered(None)
    block = model.stack()[1]
    assert isinstance(block, Mod)
    shapes = []
    inner = type(block.inner).delta

    def watched(self: Any, x_BTD: Tensor, context: Context) -> Any:
        shapes.append(tuple(x_BTD.shape[:2]))
        return inner(self, x_BTD, context)

    monkeypatch.setattr(type(block.inner), "delta", watched)
    decoding = Decoding(model, 4)
    decoding.extend(torch.tensor([[0], [VOCAB - 1], [0], [0]]))
    assert shapes == [(4, 1), (1, 1), (4, 1), (1, 1)]


# Sampling.


def test_greedy_takes_the_likeliest() -> None:
    model = decoder(block="mod")
    prompts = [[1, 2, 3], [4]]
    result = generate(model, prompts, 12, Sampling(temperature=0))
    for prompt, new in zip(prompts, result.tokens, strict=True):
        tokens = list(prompt)
        for token in new:
            with torch.no_grad():
                logits_BTV = model(torch.tensor([tokens]), "causal").logits_BTV
            assert token == int(logits_BTV[0, -1].argmax())
            tokens.append(token)
        assert len(new) == 12


def test_a_sequence_does_not_depend_on_the_others() -> None:
    model = decoder(block="mod")
    sampling = Sampling(seed=3)
    together = generate(model, [[1, 2, 3], [4], [5] * 9], 20, sampling).tokens
    other = generate(model, [[1, 2, 3], [9, 9]], 20, sampling).tokens
    assert together[0] == other[0]
    assert together[1] == generate(model, [[7], [4]], 20, sampling).tokens[1]
    assert generate(model, [[1], [1]], 20, sampling).tokens[0] != together[0]


def test_the_seed_decides() -> None:
    model = decoder()
    first = generate(model, [[1]], 20, Sampling(seed=0)).tokens
    assert first == generate(model, [[1]], 20, Sampling(seed=0)).tokens
    assert first != generate(model, [[1]], 20, Sampling(seed=1)).tokens
    twins = generate(model, [[1], [1]], 20, Sampling(seed=0)).tokens
    assert twins[0] == first[0]
    assert twins[1] != first[0]


def test_tokens_past_the_trained_length_are_counted() -> None:
    model = decoder(seq_len=10)
    found = generate(model, [[1] * 4, [1] * 9, [1] * 30], 7, Sampling())
    assert found.beyond == [0, 5, 7]
    assert found.tokens[0] == generate(decoder_like(model, 99), [[1] * 4], 7, Sampling()).tokens[0]
    assert generate(model, [[1] * 10], 1, Sampling()).beyond == [0]
    assert generate(model, [[1] * 10], 2, Sampling()).beyond == [1]


def decoder_like(model: Decoder, seq_len: int) -> Decoder:
    """The same weights, as if trained on another length."""
    twin = decoder(seq_len=seq_len)
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.mark.parametrize("tokens", [8, 9])
def test_the_command_says_how_many_tokens_lie_past_the_trained_length(
    tokens: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Decoder(ModelConfig(seq_len=16)), tmp_path / "checkpoint")
    arguments = ["generate", str(tmp_path), "--prompt", "x" * 9, "--tokens", str(tokens)]
    app(arguments, standalone_mode=False)
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    beyond = "warning: 1 of 9 new tokens lie beyond the 16 positions that the model was trained on"
    assert [line.partition(":")[0] for line in warned] == ["warning"] * (tokens == 9)
    assert all(line.startswith(beyond) for line in warned)


LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.5, 0.3, 0.15, 0.05]),
        (Sampling(top_k=2), [0.625, 0.375, 0, 0]),
        (Sampling(top_p=0.79), [0.625, 0.375, 0, 0]),
        (Sampling(top_p=0.01), [1, 0, 0, 0]),
        (Sampling(temperature=0.5), [0.6849, 0.2466, 0.0616, 0.0068]),
        (Sampling(temperature=0), [1, 0, 0, 0]),
    ],
)
def test_draws_follow_the_distribution(sampling: Sampling, expected: list[float]) -> None:
    """Bars are five standard errors of 20,000 draws."""
    num, order = 20_000, torch.tensor([2, 0, 3, 1])
    generators = [torch.Generator().manual_seed(0)] * num
    drawn_B = draw(LOGITS[order].expand(num, 4), sampling, generators)
    shares = torch.bincount(drawn_B, minlength=4) / num
    for place, token in enumerate(order.tolist()):
        share, wanted = shares[place], expected[token]
        assert abs(share - wanted) <= 5 * (wanted * (1 - wanted) / num) ** 0.5 + 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
    ],
)
def test_bad_sampling_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**change)


@pytest.mark.parametrize("prompts", [[], [[]], [[1], []], [[VOCAB]], [[-1]]])
def test_bad_prompts_are_refused(prompts: list[list[int]]) -> None:
    with pytest.raises(ConfigError, match="prompt"):
        generate(decoder(), prompts, 1, Sampling())


# The command.


def test_the_command_goes_on_from_its_prompts(
    tmp_path: Path, modsearch: Callable[..., Done]
) -> None:
    torch.manual_seed(0)
    save_model(Decoder(ModelConfig(block="mod")), tmp_path / "checkpoint")
    arguments = ["generate", str(tmp_path), "--prompt", "def ", "--prompt", "é", "--tokens", "8"]
    done = modsearch(*arguments, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [len(new) for new in found["tokens"]] == [8, 8]
    assert found["texts"][0].startswith("def ")
    assert found["texts"][1].startswith("é")
    plain = modsearch(*arguments)
    expected = "\n\n".join(found["texts"]) + "\n"
    assert plain.out == expected
    assert "FLOPs" in plain.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", ""], "prompt"),
        (["--prompt", "x", "--top-p", "2"], "top_p"),
        (["--prompt", "x", "--temperature", "-1"], "temperature"),
    ],
)
def test_a_mistake_is_two_lines(
    tmp_path: Path, arguments: list[str], message: str, refused: Callable[..., str]
) -> None:
    save_model(Decoder(ModelConfig(width=16)), tmp_path)
    assert message in refused("generate", str(tmp_path), *arguments)


def test_no_checkpoint(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert len(refused("generate", str(tmp_path), "--prompt", "x").splitlines()) == 2
