"""Weights of somebody else's: the logits of `transformers`, and what of a shape is refused.

Shapes: B sequences, T positions.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import Done
from inline import CORPUS
from scripts import benchmark
from tiny import SUITE
from tokenizers import processors
from torch import Tensor

from modsearch.config.model import ModelConfig
from modsearch.data.tokenizers import ByteTokenizer, train_bpe
from modsearch.errors import DataError
from modsearch.evaluation.export import export
from modsearch.evaluation.llama import load_llama
from modsearch.evaluation.shapes import is_imported
from modsearch.evaluation.targets import open_model
from modsearch.nn.model import Decoder

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

VOCAB = 300
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "eos_token_id": 0,
    "bos_token_id": None,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("Llama", {}),
    ("Llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    ("Llama", {"head_dim": 12, "rms_norm_eps": 1e-5, "rope_parameters": LLAMA3}),
    ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 99.0, "factor": 4.0}}),
    ("Mistral", {"sliding_window": None}),
    ("Qwen2", {}),
    ("Qwen2", {"tie_word_embeddings": True, "rope_parameters": {"rope_theta": 1e6}}),
    ("Qwen3", {"head_dim": 16}),
    ("Olmo2", {"rms_norm_eps": 1e-6}),
    ("SmolLM3", {"no_rope_layer_interval": 2}),
]


def saved(folder: Path, kind: str, changes: dict[str, Any], shard: str = "1GB") -> Any:
    """A random model of `transformers`, written to a folder; none of its numbers are special."""
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**(SIZES | changes))
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def tokens(rows: int, length: int) -> Tensor:
    """Drawn ones."""
    return torch.randint(VOCAB, (rows, length))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "changes"), SHAPES, ids=str)
def test_logits_are_those_of_transformers(
    kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    theirs = saved(tmp_path, kind, changes)
    ours = load_llama(tmp_path)
    tokens_BT = tokens(3, 90)
    wanted = theirs(tokens_BT).logits
    torch.testing.assert_close(ours.logits(tokens_BT, "causal"), wanted, atol=1e-5, rtol=1e-5)
    assert ours.num_params == theirs.num_parameters()
    assert (ours.config.seq_len, ours.config.vocab_size) == (96, VOCAB)

    # With caches, and with padding behind.
    caches = ours.empty_caches(3)
    parts = []
    for start, end in ((0, 40), (40, 41), (41, 90)):
        positions_BT = torch.arange(start, end).expand(3, -1)
        piece = tokens_BT[:, start:end]
        parts.append(ours.logits(piece, "causal", positions_BT=positions_BT, caches=caches))
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted, atol=1e-5, rtol=1e-5)
    valid_BT = torch.arange(90) < torch.tensor([[90], [50], [7]])
    padded = ours.logits(tokens_BT * valid_BT, "causal", valid_BT=valid_BT)
    torch.testing.assert_close(padded[valid_BT], wanted[valid_BT], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_keys_of_older_files_and_shards_are_read(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 77.0, "factor": 2.0}
    theirs = saved(tmp_path, "Llama", {"rope_parameters": rope}, shard="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    stated = json.loads((tmp_path / "config.json").read_text())
    del stated["rope_parameters"], stated["head_dim"]
    stated |= {"rope_theta": 77.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    tokens_BT = tokens(2, 50)
    found = load_llama(tmp_path).logits(tokens_BT, "causal")
    torch.testing.assert_close(found, theirs(tokens_BT).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bf16_weights_are_read_in_fp32_unless_asked_otherwise(tmp_path: Path) -> None:
    saved(tmp_path, "Llama", {}).to(torch.bfloat16).save_pretrained(tmp_path)
    assert load_llama(tmp_path).device.type == "cpu"
    assert {p.dtype for p in load_llama(tmp_path).parameters()} == {torch.float32}
    narrow = load_llama(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in narrow.parameters()} == {torch.bfloat16}
    tokens_BT = tokens(1, 20)
    wide = load_llama(tmp_path).logits(tokens_BT, "causal")
    near = narrow.logits(tokens_BT, "causal").float()
    torch.testing.assert_close(near, wide, atol=0.3, rtol=0.1)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "gpt2"}, 'model_type "gpt2" does not fit'),
    ({"model_type": ["llama"]}, "model_type .* does not fit"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 'rope_scaling type "yarn"'),
    ({"rope_parameters": None, "rope_scaling": {"type": "dynamic"}}, 'scaling type "dynamic"'),
    ({"model_type": "mistral", "sliding_window": 64}, "sliding_window 64"),
    ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8}, "sliding_window 8"),
    ({"layer_types": ["full_attention", "chunked"]}, 'layer_types "chunked"'),
    ({"hidden_act": "gelu"}, 'hidden_act "gelu"'),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"hidden_size": 0}, "hidden_size"),
    ({"hidden_size": None}, "no shape of a model|hidden_size"),
    ({"num_hidden_layers": "two"}, "no shape of a model|num_hidden_layers"),
    ({"intermediate_size": 96}, "are .* but its config.json means"),
    ({"model_type": "qwen2"}, "no weights .*q_proj.bias"),
    ({"vocab_size": 301}, "config.json means"),
    ({"num_hidden_layers": 1}, r"weights .model.layers.1.input_layernorm.weight. have no place"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=str)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    saved(tmp_path, "Llama", {})
    stated = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(stated | changes))
    with pytest.raises(DataError, match=message) as caught:
        load_llama(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_weights_that_are_pickled_missing_or_elsewhere_are_not_read(tmp_path: Path) -> None:
    saved(tmp_path, "Llama", {})
    weights = tmp_path / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="can't read weights of"):
        load_llama(tmp_path)
    weights.unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors in"):
        load_llama(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(DataError, match=r"pickles alone \(pytorch_model\.bin\)"):
        load_llama(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(DataError, match="not in its folder"):
        load_llama(tmp_path)
    index.write_text("[]")
    with pytest.raises(DataError, match="names no files"):
        load_llama(tmp_path)


@torch.no_grad()
def test_a_target_is_a_checkpoint_or_an_imported_folder(tmp_path: Path) -> None:
    model = Decoder(ModelConfig(vocab_size=VOCAB, seq_len=64)).eval()
    bpe = train_bpe(["the cat sat on the mat, the end"] * 9, VOCAB)
    export(model, bpe, tmp_path / "out")
    assert is_imported(str(tmp_path / "out"))
    found = open_model(str(tmp_path / "out"))
    tokens_BT = tokens(2, 60)
    wanted = model(tokens_BT, "causal").logits_BTV
    torch.testing.assert_close(
        found.model.logits(tokens_BT, "causal"), wanted, atol=1e-5, rtol=1e-5
    )
    texts = ["the cat <|endoftext|>", "sat"]
    assert found.tokenizer.encode(texts) == bpe.encode(texts)
    assert (found.tokenizer.begin, found.tokenizer.end) == (bpe.end, bpe.end)
    assert list(found.tokenizer.opening) == []


def opening_tokenizer(folder: Path) -> None:
    """One that puts a token before every text, as those of Llama do, and reads special tokens."""
    bpe = train_bpe(["the cat sat on the mat, the end"] * 9, 290)
    bpe.model.add_special_tokens(["<s>"])
    begin = bpe.model.token_to_id("<s>")
    bpe.model.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    bpe.save(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["bos_token"] = {"__type": "AddedToken", "content": "<s>", "special": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_an_imported_tokenizer_begins_texts_as_transformers_does(tmp_path: Path) -> None:
    saved(tmp_path, "Llama", {})
    opening_tokenizer(tmp_path)
    ours = open_model(str(tmp_path)).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (ours.begin, ours.end) == (theirs.bos_token_id, theirs.eos_token_id)
    for text in ("the cat", "a <|endoftext|> b", ""):
        assert [*ours.opening, *ours.encode([text])[0]] == theirs.encode(text)
        assert ours.encode([text])[0] == theirs.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(("kind", "opens"), [("Llama", True), ("Qwen2", False)])
def test_scores_of_imported_weights_are_those_of_the_hf_model_of_lm_eval(
    kind: str, opens: bool, tmp_path: Path
) -> None:
    pytest.importorskip("accelerate", reason="lm-eval's model `hf` needs accelerate")
    parity = benchmark("export_parity")
    saved(tmp_path, kind, {})
    if opens:
        opening_tokenizer(tmp_path)
    else:
        train_bpe(["the cat sat on the mat, the end"] * 9, VOCAB).save(tmp_path)
    texts = parity.documents(Path(__file__).read_text(), 6)
    rows = list(parity.of_both(tmp_path, open_model(str(tmp_path)), texts))
    assert len(rows) == 7
    for row in rows:
        assert row.difference < 1e-3, row
        assert row.worst < 1e-3, row


def test_eval_takes_a_folder_of_transformers(
    modsearch: Callable[..., Done], refused: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "llama"
    saved(folder, "Llama", {})
    train_bpe(["the cat sat on the mat, the end"] * 9, VOCAB).save(folder)
    suite = tmp_path / "tiny.yaml"
    suite.write_text(yaml.safe_dump(SUITE))
    done = modsearch("eval", folder, "--suite", suite, "--corpus", CORPUS, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)["results"][str(folder)]["text"]
    assert found["bits_per_byte,none"] > 0
    assert "name a --corpus" in refused("eval", folder, "--suite", suite)
    stated = json.loads((folder / "config.json").read_text()) | {"model_type": "gpt2"}
    (folder / "config.json").write_text(json.dumps(stated))
    assert "gpt2" in refused("eval", folder, "--suite", suite, "--corpus", CORPUS)


def test_a_model_that_the_hub_does_not_give_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="can't be had from the hub"):
        open_model("hf:nobody/has-this-model")
    with pytest.raises(DataError, match="no model"):
        open_model("hf:not a name/at/all")


def test_bytes_need_no_tokenizer_file() -> None:
    assert (ByteTokenizer().begin, ByteTokenizer().end, list(ByteTokenizer().opening)) == (
        0,
        0,
        [],
    )
