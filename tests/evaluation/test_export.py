"""Checkpoints as folders of `transformers`: the same logits, the same tokens, and what is refused.

Shapes: B sequences, T positions.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from commands import Done
from safetensors import safe_open
from scripts import benchmark

import modsearch
from modsearch.config.model import ModelConfig
from modsearch.data.tokenizers import ByteTokenizer, Tokenizer, read_tokenizer, train_bpe
from modsearch.errors import ModsearchError
from modsearch.evaluation.export import export
from modsearch.evaluation.targets import open_model
from modsearch.nn.contracts import FFNS, ROUTERS
from modsearch.nn.generate import generate
from modsearch.nn.model import Decoder
from modsearch.nn.sampling import Sampling
from modsearch.registry.plugins import load_plugins
from modsearch.training.checkpoint import save_model

transformers = pytest.importorskip("transformers")

TEXTS = [
    "def f(x):\n\treturn 'caf\u00e9' + \"\u4f60\u597d\"\r\n",
    "\u0100 <|endoftext|> \x00\x01\x7f \U0001f600",
    "  two  spaces ",
    "",
]


@pytest.fixture(autouse=True)
def _code_stays_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where `transformers` copies the code of models that it trusts."""
    place = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", place)
    monkeypatch.syspath_prepend(place)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def decoder(**parts: Any) -> Decoder:
    """A small model none of whose numbers are special."""
    shape = {"depth": 2, "width": 16, "num_heads": 2, "seq_len": 64, "capacity": 0.3}
    model = Decoder(ModelConfig(**(shape | parts))).eval()
    with torch.no_grad():
        for tensor in model.state().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return model


def opened(folder: Path) -> Any:
    """As a user of `transformers` opens it."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    return model.eval()


def router(name: str, **options: Any) -> dict[str, Any]:
    """A routed block with it."""
    return {"block": "mod", "router": {"name": name, **options}}


GATES = (
    "identity", "one", "sigmoid", "scaled_sigmoid", "tanh", "one_plus_tanh", "softmax_selected",
)  # fmt: skip
GROUPED = {"tied": False, "num_heads": 4, "num_kv_heads": 2}
EXPERTS = [
    {"block": block, "ffn": {"name": ffn, "selection": selection, "top_k": 2}}
    for block, ffn in (
        ("moe", "moe"), ("mode_staged", "moe"), ("mode_integrated", "mode_integrated"),
    )
    for selection in ("token_choice", "expert_choice")
]  # fmt: skip
ROUTED = [
    *[router(name) for name in ("predictor", "random", "static", "threshold", "token_choice")],
    *[router("expert_choice", gate=gate) for gate in GATES],
    router("token_choice", activation="sigmoid"),
    {"block": {"name": "mod", "part": "attention"}},
    {"block": {"name": "mod", "part": "ffn"}},
    {"block": {"name": "mod", "update": "block_add"}},
    {"block": {"name": "mod", "update": "block_replace"}},
    {"block": {"name": "mod", "positions": "renumbered"}, **GROUPED},
    *EXPERTS,
    {"block": "mod", "depth": 4, "schedule": {"name": "every_nth", "decay": "cosine"}},
]


@torch.no_grad()
@pytest.mark.parametrize("parts", [{}, GROUPED, {"block": "mod", "every": 3}], ids=str)
def test_a_dense_checkpoint_is_a_llama_with_the_same_logits(
    parts: dict[str, Any], tmp_path: Path
) -> None:
    model = decoder(**parts)
    found = export(model, ByteTokenizer(), tmp_path / "out")
    assert (found.architecture, found.trust_remote_code) == ("LlamaForCausalLM", False)
    assert sum(found.files.values()) == sum(
        path.stat().st_size for path in (tmp_path / "out").iterdir()
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == "LlamaForCausalLM"
    assert theirs.num_parameters() == model.num_params == found.params
    tokens_BT = torch.randint(256, (3, 60))
    ours = model(tokens_BT, "causal").logits_BTV
    torch.testing.assert_close(theirs(tokens_BT).logits, ours, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("parts", ROUTED, ids=str)
def test_what_was_exported_with_code_is_read_back(parts: dict[str, Any], tmp_path: Path) -> None:
    model = decoder(**parts)
    export(model, ByteTokenizer(), tmp_path / "out")
    (tmp_path / "out" / "modeling_modsearch.py").write_text("raise SystemExit('it was run')")
    found = open_model(str(tmp_path / "out"))
    tokens_BT = torch.randint(256, (3, 60))
    wanted = model(tokens_BT, "causal").logits_BTV
    assert torch.equal(found.model.logits(tokens_BT, "causal"), wanted)
    assert found.tokenizer.encode(TEXTS) == ByteTokenizer().encode(TEXTS)


def test_an_export_that_does_not_say_its_model_is_told(tmp_path: Path) -> None:
    export(decoder(**ROUTED[0]), ByteTokenizer(), tmp_path)
    path = tmp_path / "config.json"
    stated = json.loads(path.read_text())
    for changed, message in (
        ({**stated, "modsearch": {**stated["modsearch"], "width": 0}}, "width"),
        (
            {key: value for key, value in stated.items() if key != "modsearch"},
            "no key `modsearch`",
        ),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(ModsearchError, match=message) as caught:
            open_model(str(tmp_path))
        assert "score the checkpoint itself" in str(caught.value)
    stated["modsearch"]["router"]["name"] = "elsewhere"
    path.write_text(json.dumps(stated))
    with pytest.raises(ModsearchError, match="unknown router `elsewhere`"):
        open_model(str(tmp_path))


@torch.no_grad()
@pytest.mark.parametrize("parts", ROUTED, ids=str)
def test_a_routed_checkpoint_has_the_same_logits_and_generates_with_and_without_a_cache(
    parts: dict[str, Any], tmp_path: Path
) -> None:
    model = decoder(**parts)
    assert export(model, ByteTokenizer(), tmp_path / "out").trust_remote_code
    theirs = opened(tmp_path / "out")
    tokens_BT = torch.randint(1, 256, (3, 40))
    output = model(tokens_BT, "causal")
    shares = [float(chosen.float().mean()) for chosen in output.chosen if chosen is not None]
    assert all(0 < share < 1 for share in shares), "nothing is routed here"
    torch.testing.assert_close(theirs(tokens_BT).logits, output.logits_BTV, atol=1e-5, rtol=0)

    # Prompts of several lengths, padded on the left as `generate` wants them.
    lengths = (9, 16, 13)
    prompts = [row[-length:].tolist() for row, length in zip(tokens_BT, lengths, strict=True)]
    mask_BT = torch.tensor([[0] * (16 - length) + [1] * length for length in lengths])
    wanted = generate(model, prompts, 8, Sampling(temperature=0)).tokens
    for cached in (True, False):
        new_BT = theirs.generate(
            tokens_BT[:, -16:],
            attention_mask=mask_BT,
            max_new_tokens=8,
            do_sample=False,
            use_cache=cached,
            eos_token_id=None,
        )
        assert new_BT[:, 16:].tolist() == wanted, cached


def test_every_built_in_component_is_among_the_exported_ones() -> None:
    models = [ModelConfig(**parts) for parts in ROUTED]
    assert {model.router.name for model in models} == set(ROUTERS.names())
    assert {model.ffn.name for model in models if model.ffn} | {"mlp"} == set(FFNS.names())


@torch.no_grad()
def test_beams_keep_their_caches(tmp_path: Path) -> None:
    export(decoder(**router("random")), ByteTokenizer(), tmp_path / "out")
    theirs = opened(tmp_path / "out")
    prompt = torch.randint(1, 256, (2, 12))
    found = [
        theirs.generate(
            prompt, max_new_tokens=6, num_beams=3, do_sample=False, use_cache=cached,
            eos_token_id=None,
        ).tolist()
        for cached in (True, False)
    ]  # fmt: skip
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_transformers_finds_the_same_tokens(name: str, tmp_path: Path) -> None:
    tokenizer: Tokenizer = ByteTokenizer()
    if name == "bpe":
        tokenizer = train_bpe(["the cat sat on the mat, the end"] * 9, 300)
    model = decoder(vocab_size=tokenizer.vocab_size)
    export(model, tokenizer, tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    wanted = tokenizer.encode(TEXTS)
    assert [theirs.encode(text) for text in TEXTS] == wanted
    assert theirs.eos_token_id == tokenizer.end
    for text, tokens in zip(TEXTS, wanted, strict=True):
        ended = [*tokens, tokenizer.end]
        plain = text.replace("\0", "") if name == "bytes" else text
        assert theirs.decode(ended, skip_special_tokens=True) == plain
        assert tokenizer.decode(ended) == plain
    again = read_tokenizer(tmp_path / "out")
    assert again.encode(TEXTS) == wanted
    assert (again.end, again.vocab_size) == (tokenizer.end, tokenizer.vocab_size)


def checkpoint(folder: Path, model: Decoder, tokenizer: Tokenizer) -> Path:
    """A folder with weights, as a trial has it."""
    save_model(model, folder / "checkpoint")
    tokenizer.save(folder / "checkpoint")
    return folder


def test_export_takes_what_generate_takes_and_answers_in_json(
    modsearch: Callable[..., Done], tmp_path: Path
) -> None:
    bpe = train_bpe(["the cat sat on the mat"] * 9, 270)
    trial = checkpoint(tmp_path / "trial", decoder(vocab_size=270, block="mod"), bpe)
    done = modsearch("export", trial, "--out", tmp_path / "a" / "b", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["architecture"] == "ModsearchForCausalLM"
    assert answer["tokenizer"] == bpe.name
    assert set(answer["files"]) == {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    text = modsearch("export", trial / "checkpoint", "--out", tmp_path / "c").out
    assert "trust_remote_code=True" in text


def test_nothing_is_written_over_and_nothing_is_half_written(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trial = checkpoint(tmp_path / "trial", decoder(), ByteTokenizer())
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes").write_text("mine")
    message = refused("export", trial, "--out", out)
    assert "there is something in" in message
    assert [path.name for path in out.iterdir()] == ["notes"]
    assert "there is something in" in refused("export", trial, "--out", out / "notes")
    monkeypatch.setattr(
        "modsearch.evaluation.export.write_tokenizer",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device", "x")),
    )
    refused("export", trial, "--out", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "trial"]


def test_a_part_without_an_export_is_named(tmp_path: Path) -> None:
    plugin = Path(__file__).resolve().parents[2] / "examples" / "my_router.py"
    load_plugins([str(plugin)])
    with pytest.raises(ModsearchError, match=r"router `staggered`.*my_router.*has no export"):
        export(decoder(block="mod", router="staggered"), ByteTokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_say_that_they_are_of_torch(tmp_path: Path) -> None:
    trial = checkpoint(tmp_path / "trial", decoder(), ByteTokenizer())
    modsearch.export(trial, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("name", ["dense", "mod"])
@pytest.mark.parametrize("tokens", ["bytes", "bpe"])
def test_scores_by_the_hf_model_of_lm_eval_are_ours(name: str, tokens: str) -> None:
    pytest.importorskip("accelerate", reason="lm-eval's model `hf` needs accelerate")
    parity = benchmark("export_parity")
    text = Path(tiny.__file__).read_text() * 9
    tokenizer = ByteTokenizer() if tokens == "bytes" else train_bpe([text], 300)
    model = decoder(vocab_size=tokenizer.vocab_size, **parity.MODELS[name])
    rows = list(parity.compared(model, tokenizer, parity.documents(text, 6)))
    assert {row.kind for row in rows} == {
        "loglikelihood", "multiple_choice", "loglikelihood_rolling", "generate_until",
    }  # fmt: skip
    for row in rows:
        assert row.difference < 1e-3, row
        assert row.worst < 1e-3, row
