"""Routing telemetry: figures of decisions that are made to have them, and one real trial."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import named, table, tree, write
from worlds import study

from modsearch.analysis.routing import (
    MIN_SEEN,
    Observed,
    combined,
    correlation,
    fisher_z,
    membership,
    overlaps,
    position_shares,
    quantile,
    summarise,
    token_shares,
    weight_counts,
)
from modsearch.config.data import DataConfig, Validation
from modsearch.config.model import ModelConfig
from modsearch.config.optim import OptimConfig
from modsearch.config.records import Budget, Candidate, Job, Stage, State
from modsearch.config.runtime import Runtime
from modsearch.config.telemetry import Correlation, RoutingReport
from modsearch.data.corpus import load_corpus
from modsearch.nn.model import Decoder
from modsearch.nn.parts import completed
from modsearch.reporting.figures.drawing import render, styled
from modsearch.reporting.figures.inline import LEAST_PIXELS_PER_POINT
from modsearch.reporting.figures.routing import AROUND, positions
from modsearch.reporting.figures.schemes import ACROSS, BYTES, schemes
from modsearch.reporting.material import gather
from modsearch.reporting.page import compile_report
from modsearch.store.directory import StudyDirectory
from modsearch.training import scoring
from modsearch.training.budget import plan
from modsearch.training.scoring import score
from modsearch.training.trial import run_trial


def sample(generator: np.random.Generator, windows: int = 12, positions: int = 96) -> Observed:
    """Two routed layers of four: their scores are noise, and causal mode guesses membership."""
    shape = (windows, positions)
    scores = [generator.standard_normal(shape).astype(np.float32) for _ in range(2)]
    train = [score > np.quantile(score, 0.75) for score in scores]
    causal = [score > 0.6 for score in scores]
    share = [chosen.mean(axis=1) for chosen in causal]
    return Observed(
        tokens_WT=generator.integers(0, 30, shape),
        vocab_size=40,
        capacities=[None, 0.25, None, 0.25],
        realised=[None, share[0], None, share[1]],
        causal=[None, causal[0], None, causal[1]],
        train=[None, train[0], None, train[1]],
        scores=[None, scores[0], None, scores[1]],
        membership=[None, scores[0], None, scores[1]],
        loss_WT=generator.standard_normal(shape),
        entropy_WT=generator.standard_normal(shape),
    )


# --- membership


def test_membership_counts_what_a_confusion_table_counts() -> None:
    """10 hits, 5 misses, 20 false alarms, 65 rightly left out."""
    said = np.repeat([True, False, True, False], [10, 5, 20, 65])
    chosen = np.repeat([True, True, False, False], [10, 5, 20, 65])
    found = membership(np.where(said, 1.0, -1.0), chosen)
    assert found.tokens == 100
    assert found.accuracy == pytest.approx(0.75)
    assert found.always_skip == pytest.approx(0.85)
    assert found.precision == pytest.approx(10 / 30)
    assert found.recall == pytest.approx(10 / 15)
    assert found.f1 == pytest.approx(20 / 45)


def test_skipping_every_token_is_mostly_right_and_finds_nothing() -> None:
    chosen = np.arange(800) % 8 == 0
    found = membership(np.full(800, -3.0), chosen)
    assert found.accuracy == found.always_skip == 0.875
    assert (found.precision, found.recall, found.f1) == (None, 0.0, 0.0)


def test_a_perfect_causal_decision() -> None:
    chosen = np.arange(800) % 8 == 0
    found = membership(np.where(chosen, 40.0, -40.0), chosen)
    assert (found.accuracy, found.precision, found.recall, found.f1) == (1, 1, 1, 1)
    assert found.calibration_error == pytest.approx(0, abs=1e-12)
    assert [each.tokens for each in found.bins] == [700, 100]


def test_calibration_error_of_known_chances() -> None:
    """Half of the tokens say 0.2 and half 0.7; 0.3 and 0.6 of them are chosen."""
    chances = np.repeat([0.2, 0.7], 1000)
    chosen = np.concatenate([np.arange(1000) < 300, np.arange(1000) < 600])
    found = membership(np.log(chances / (1 - chances)), chosen)
    assert found.calibration_error == pytest.approx(0.1)
    assert [each.predicted for each in found.bins] == pytest.approx([0.2, 0.7])
    assert [each.chosen for each in found.bins] == pytest.approx([0.3, 0.6])


def test_a_calibrated_prediction_has_no_calibration_error() -> None:
    generator = np.random.default_rng(1)
    log_odds = generator.normal(-2, 2, 200_000)
    chosen = generator.random(200_000) < 1 / (1 + np.exp(-log_odds))
    found = membership(log_odds, chosen)
    assert found.calibration_error < 0.005
    for each in found.bins:
        assert each.predicted == pytest.approx(each.chosen, abs=0.03)
    assert sum(each.tokens for each in found.bins) == found.tokens


def test_extreme_log_odds_stay_in_the_bins() -> None:
    found = membership(np.array([-1e30, 1e30, 0.0], dtype=np.float32), np.array([0, 1, 0]) > 0)
    assert found.accuracy == 1
    assert sum(each.tokens for each in found.bins) == 3


# --- shares, weights, tokens, overlaps


def test_position_shares() -> None:
    chosen = np.zeros((3, 64), dtype=bool)
    chosen[:, :2] = True
    chosen[0, 63] = True
    shares = position_shares(chosen)
    assert len(shares) == 32
    assert shares[0] == 1
    assert shares[31] == pytest.approx(1 / 6)
    assert sum(shares[1:31]) == 0


@pytest.mark.parametrize("num_positions", [1, 5, 31, 33, 63, 100])
def test_position_shares_of_any_length_keep_the_mean(num_positions: int) -> None:
    chosen = np.random.default_rng(0).random((7, num_positions)) < 0.3
    shares = position_shares(chosen)
    bins = min(32, num_positions)
    assert len(shares) == bins
    edges = [i * num_positions // bins for i in range(bins + 1)]
    widths = np.diff(edges)
    assert widths.min() >= 1
    assert np.average(shares, weights=widths) == pytest.approx(chosen.mean())


def test_router_weights_fall_into_their_bins() -> None:
    weights = np.array([0.01, 0.49, 0.51, 0.52, 0.999])
    counts = weight_counts(np.log(weights / (1 - weights)))
    assert len(counts) == 20
    assert {i: n for i, n in enumerate(counts) if n} == {0: 1, 9: 1, 10: 2, 19: 1}
    assert weight_counts(np.zeros(3, dtype=np.float32))[9] == 3, "0.5 is not above 0.5"
    assert sum(weight_counts(np.array([-np.inf, np.inf]))) == 2


def test_shares_of_vocabulary_ids() -> None:
    """Id 0 is always taken by both layers, 1 never, 2 by one of two; 3 is too rare to say."""
    tokens = np.repeat([0, 1, 2, 3], [30, 25, 20, MIN_SEEN - 1])[None]
    blocks = np.repeat([2, 0, 1, 2], [30, 25, 20, MIN_SEEN - 1])[None]
    found = {each.token: each for each in token_shares(tokens, blocks, 2, 256)}
    assert {token: each.share for token, each in found.items()} == {0: 1, 1: 0, 2: 0.5}
    assert {token: each.seen for token, each in found.items()} == {0: 30, 1: 25, 2: 20}


def test_overlap_of_the_same_of_other_and_of_independent_choices() -> None:
    generator = np.random.default_rng(2)
    first = generator.random((50, 400)) < 0.2
    layers = np.stack([first, first, ~first, generator.random((50, 400)) < 0.4])
    found = {each.layers: each for each in overlaps([1, 3, 5, 7], layers)}
    assert len(found) == 6
    assert found[1, 3].jaccard == 1
    assert found[1, 5].jaccard == 0
    expected = 0.2 * 0.4 / (0.2 + 0.4 - 0.2 * 0.4)
    assert found[1, 7].independent == pytest.approx(expected, abs=0.01)
    assert found[1, 7].jaccard == pytest.approx(expected, abs=0.01)


def test_overlap_of_layers_that_take_nothing_is_none() -> None:
    [found] = overlaps([0, 1], np.zeros((2, 3, 4), dtype=bool))
    assert found.jaccard is None
    assert found.independent is None


# --- correlations


def test_a_correlation_that_position_makes_vanishes_when_position_is_controlled() -> None:
    """Early tokens get more blocks and have more loss; at one position nothing goes together."""
    generator = np.random.default_rng(3)
    early = np.exp(-np.arange(128) / 20)
    blocks = generator.random((64, 128)) < 0.1 + 0.8 * early
    loss = 1 + 3 * early + 0.3 * generator.standard_normal((64, 128))
    found = correlation(blocks.astype(int), loss)
    assert found.raw is not None
    assert found.raw > 0.4
    assert found.partial is not None
    assert abs(found.partial) < 0.03
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high


def test_the_partial_correlation_is_that_of_residuals_and_survives_a_trend() -> None:
    generator = np.random.default_rng(4)
    blocks = generator.integers(0, 4, (200, 50))
    noise = generator.standard_normal((200, 50))
    trend = np.linspace(9, 0, 50)
    found = correlation(blocks, 0.5 * blocks + noise + trend)
    slope = 0.5 * math.sqrt(1.25)  # the variance of 0..3 is 1.25
    assert found.partial == pytest.approx(slope / math.sqrt(1 + slope**2), abs=0.02)
    loss = 0.5 * blocks + noise + trend
    residuals = [each - each.mean(axis=0) for each in (blocks, loss)]
    expected = np.corrcoef(residuals[0].ravel(), residuals[1].ravel())[0, 1]
    assert found.partial == pytest.approx(expected, abs=1e-12)
    assert found.raw == pytest.approx(np.corrcoef(blocks.ravel(), loss.ravel())[0, 1], abs=1e-12)


def test_the_interval_is_a_jackknife_over_windows() -> None:
    generator = np.random.default_rng(5)
    blocks = generator.integers(0, 3, (9, 40))
    loss = blocks + generator.standard_normal((9, 40)) + generator.standard_normal((9, 1))
    found = correlation(blocks, loss)
    left_out = [
        fisher_z(partial)
        for i in range(9)
        if (partial := correlation(np.delete(blocks, i, 0), np.delete(loss, i, 0)).partial)
    ]
    assert len(left_out) == 9
    assert found.se == pytest.approx(math.sqrt(8 / 9 * 9 * np.var(left_out)), rel=1e-9)
    assert found.partial is not None
    half = quantile(8) * math.sqrt(8 * np.var(left_out))
    assert found.low == pytest.approx(math.tanh(fisher_z(found.partial) - half))
    assert found.high == pytest.approx(math.tanh(fisher_z(found.partial) + half))


def test_the_interval_covers_where_tokens_of_a_window_depend_on_each_other() -> None:
    """Whole windows share a level of blocks and of loss: tokens are far from independent."""
    generator = np.random.default_rng(6)
    covered = 0
    for _ in range(300):
        level = generator.standard_normal((40, 1)), generator.standard_normal((40, 1))
        x = level[0] + generator.standard_normal((40, 30)) > 0
        y = level[1] + generator.standard_normal((40, 30))
        found = correlation(x.astype(int), y)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high
    assert 0.91 <= covered / 300 <= 0.98


@pytest.mark.parametrize(
    "blocks", [np.ones((8, 16), int), np.arange(16) % 3 + np.zeros((8, 1), int)]
)
def test_decisions_that_the_position_alone_makes_have_no_partial_correlation(
    blocks: np.ndarray[Any, Any],
) -> None:
    found = correlation(blocks, np.random.default_rng(0).standard_normal((8, 16)))
    assert found.partial is None
    assert (found.low, found.high, found.se) == (None, None, None)


def test_two_windows_give_no_interval() -> None:
    generator = np.random.default_rng(0)
    found = correlation(generator.integers(0, 3, (2, 50)), generator.standard_normal((2, 50)))
    assert found.partial is not None
    assert found.low is None


def test_combining_seeds_keeps_the_error_of_the_windows_that_they_share() -> None:
    """Every seed has the same windows' error, and one of its own."""
    generator = np.random.default_rng(9)
    shared, own = 0.05, 0.03
    covered = 0
    for _ in range(2000):
        z = 0.2 + shared * generator.standard_normal() + own * generator.standard_normal(3)
        seeds = [
            Correlation(raw=None, partial=math.tanh(each), low=None, high=None, se=shared)
            for each in z
        ]
        found = combined(seeds, 64)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.partial == pytest.approx(math.tanh(z.mean()))
        covered += found.low <= math.tanh(0.2) <= found.high
    assert 0.94 <= covered / 2000 <= 0.99


def test_combining_one_seed_is_its_own_interval() -> None:
    generator = np.random.default_rng(10)
    one = correlation(generator.integers(0, 3, (20, 30)), generator.standard_normal((20, 30)))
    found = combined([one], 20)
    assert found is not None
    assert (found.partial, found.low, found.high) == pytest.approx(
        (one.partial, one.low, one.high)
    )
    nothing = Correlation(raw=0.1, partial=None, low=None, high=None, se=None)
    assert combined([nothing, nothing], 20) is None
    assert combined([], 20) is None


# --- the whole


def test_a_report_of_a_synthetic_sample() -> None:
    seen = sample(np.random.default_rng(7))
    found = summarise(seen)
    assert [each.layer for each in found.layers] == [1, 3]
    for each in found.layers:
        layer = each.layer
        causal, train = seen.causal[layer], seen.train[layer]
        assert causal is not None
        assert train is not None
        assert each.realised == pytest.approx(causal.mean())
        assert each.realised_sd == pytest.approx(np.std(causal.mean(axis=1), ddof=1))
        decisions = each.decisions
        assert decisions is not None
        assert decisions.flip_rate == pytest.approx((causal != train).mean())
        assert sum(decisions.weights or []) == causal.size
        scores = seen.scores[layer]
        assert scores is not None
        assert decisions.weights_above_half == (scores > 0).mean()
        assert np.mean(decisions.causal_shares) == pytest.approx(causal.mean())
        assert np.mean(decisions.train_shares) == pytest.approx(0.25, abs=1e-3)
    assert found.membership is not None
    assert found.membership.tokens == 2 * 12 * 96
    parts = [each.decisions.membership for each in found.layers if each.decisions]
    mean = np.mean([part.accuracy for part in parts if part])
    assert found.membership.accuracy == pytest.approx(mean)
    assert found.tokens is not None
    assert found.tokens.known == 30
    assert len(found.tokens.most) == len(found.tokens.least) == 10
    assert not {t.token for t in found.tokens.most} & {t.token for t in found.tokens.least}
    assert found.tokens.most[0].share >= found.tokens.most[-1].share
    assert found.tokens.least[0].share <= found.tokens.least[-1].share
    causal = np.stack([each for each in seen.causal if each is not None])
    assert found.tokens.no_block == pytest.approx((~causal.any(axis=0)).mean())
    assert found.tokens.every_block == pytest.approx(causal.all(axis=0).mean())
    assert found.sample is not None
    assert np.array(found.sample.causal).shape == (4, 64)
    assert all(found.sample.causal[0])
    assert found.sample.train[3] == seen.train[3][0, :64].tolist()  # type: ignore[index]
    assert RoutingReport.model_validate_json(found.model_dump_json()) == found


def test_dead_and_always_chosen_ids() -> None:
    seen = sample(np.random.default_rng(8))
    causal = [
        None if each is None else np.where(seen.tokens_WT < 3, False, seen.tokens_WT < 9) | False
        for each in seen.causal
    ]
    changed = {**vars(seen), "causal": causal}
    found = summarise(Observed(**changed)).tokens
    assert found is not None
    assert found.dead == pytest.approx(24 / 30)
    assert found.always == pytest.approx(6 / 30)
    assert {each.token for each in found.most[:6]} == set(range(3, 9))


# --- real models

ROUTED: dict[str, dict[str, Any]] = {
    **{
        router: {"block": "mod", "router": router}
        for router in (
            "expert_choice", "predictor", "token_choice", "threshold", "random", "static",
        )
    },
    "mode_staged": {"block": "mode_staged"},
    "mode_integrated": {"block": "mode_integrated"},
    "ffn only": {"block": {"name": "mod", "part": "ffn"}},
}  # fmt: skip
SEQ_LEN = 32


def decoder(name: str) -> Decoder:
    config = ModelConfig(
        depth=3, width=8, num_heads=1, every=1, capacity=0.25, seq_len=SEQ_LEN, **ROUTED[name]
    )
    return Decoder(completed(config)).eval()


@pytest.mark.parametrize("name", ROUTED)
@torch.no_grad()
def test_every_routed_model_reports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 windows, so that there are two batches of unequal size."""
    monkeypatch.setattr(scoring, "SCORING_TOKENS", 16 * SEQ_LEN)
    model = decoder(name)
    windows = np.random.default_rng(0).integers(0, 256, (20, SEQ_LEN + 1))
    loss = score(model, windows, "cpu")
    found = loss.routing
    assert found is not None
    assert [each.layer for each in found.layers] == [0, 1, 2]
    assert loss.realised_capacity == pytest.approx(np.mean([e.realised for e in found.layers]))
    tokens = torch.from_numpy(windows[:, :-1])
    if name == "mode_integrated":
        assert found.tokens is None
        assert found.membership is None
        load = [u.statistics["load"].item() for u in model(tokens, "causal").updates]
        assert [each.realised for each in found.layers] == pytest.approx(load, abs=1e-6)
        return
    causal = [chosen.numpy() for chosen in model(tokens, "causal").chosen]
    output = model(tokens[:16], "train")
    train = [chosen.numpy() for chosen in output.chosen]
    for each, chosen, trained in zip(found.layers, causal, train, strict=True):
        decisions = each.decisions
        assert decisions is not None
        assert each.realised == pytest.approx(chosen.mean())
        assert np.mean(decisions.causal_shares) == pytest.approx(chosen.mean())
        assert found.sample is not None
        assert found.sample.causal[each.layer] == chosen[0].tolist()
        assert found.sample.train[each.layer] == trained[0].tolist()
    assert loss.agreement == pytest.approx(
        1 - np.mean([each.decisions.flip_rate for each in found.layers if each.decisions])
    )
    told = found.membership is not None
    assert told == (name in ("expert_choice", "predictor", "mode_staged", "ffn only"))
    weights = [each.decisions.weights for each in found.layers if each.decisions]
    assert all((each is None) == (name in ("random", "static")) for each in weights)
    assert found.tokens is not None
    if name == "static":  # at a position always or never
        assert found.tokens.with_loss.partial is None
    if name == "random":
        with_loss = found.tokens.with_loss
        assert with_loss.partial is not None
        assert with_loss.se is not None
        assert abs(with_loss.partial) < 5 * with_loss.se


def test_a_dense_model_has_no_routing() -> None:
    model = Decoder(completed(ModelConfig(depth=1, width=8, num_heads=1, seq_len=SEQ_LEN)))
    windows = np.random.default_rng(0).integers(0, 256, (2, SEQ_LEN + 1))
    assert score(model, windows, "cpu").routing is None


def test_a_trial_writes_its_routing_end_to_end(tmp_path: Path) -> None:
    text = "".join(f"def f{i}(x):\n    return x + {i * 7919 % 1009}\n\n" for i in range(20_000))
    (tmp_path / "corpus.txt").write_text(text)
    data = DataConfig(corpus=str(tmp_path / "corpus.txt"))
    corpus = load_corpus(data)
    model = completed(
        ModelConfig(depth=2, width=8, num_heads=1, seq_len=SEQ_LEN, block="mod", capacity=0.25)
    )
    given = Candidate(model=model, optim=OptimConfig(min_steps=20), data=data)
    budget = Budget(flops=2e8)
    job = Job(
        stage=Stage.CONFIRM,
        arm="mod",
        candidate=given,
        budget=budget,
        seed=1,
        validation=Validation(windows=24),
        fingerprint=corpus.facts.fingerprint,
        runtime=Runtime(),
        plan=plan(given, budget, corpus.facts.train_tokens),
    )
    record = run_trial(tmp_path / "study", job)
    assert record.state is State.COMPLETE, record.reason
    assert record.scores is not None
    directory = StudyDirectory(tmp_path / "study")
    found = directory.routing(record.hash)
    assert found is not None
    assert (found.windows, found.positions, found.depth) == (24, SEQ_LEN, 2)
    [layer] = found.layers
    assert layer.realised == pytest.approx(record.scores.realised_capacity)
    assert layer.decisions is not None
    assert layer.decisions.flip_rate == pytest.approx(1 - (record.scores.agreement or 0))
    assert found.tokens is not None
    assert found.tokens.overlaps == []
    path = directory.trial(record.hash) / "routing.json"
    path.write_text(path.read_text()[:100])
    assert directory.routing(record.hash) is None
    assert directory.routing("absent") is None


# --- the report


def told(root: Path, without: tuple[str, int] | None = None) -> Path:
    """A study whose confirmed routed trials have telemetry, but for one (arm, seed)."""
    rows = study(sd=0.004)
    write(root, rows)
    directory = StudyDirectory(root)
    for row in map(named, rows):
        routed = row.stage is Stage.CONFIRM and row.arm != "dense"
        if routed and (row.arm, row.seed) != without:
            generator = np.random.default_rng(row.seed)
            directory.write_routing(row.hash, summarise(sample(generator)))
    return compile_report(root)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study with all telemetry."""
    return told(tmp_path_factory.mktemp("full"))


def test_the_report_has_the_routing_of_every_confirmed_routed_arm(full: Path) -> None:
    page, text = full, full.read_text()
    assert "<h2>Routing</h2>" in text
    assert "no routing.json" not in text
    names = set(tree(page.parent))
    for figure in ("routing_positions", "routing_sample", "routing_weights"):
        assert {f"figures/{figure}.png", f"figures/{figure}.svg"} <= names
    rows = {row["arm"]: row for row in table(page, "routing")}
    assert set(rows) == {"mod", "mod-random"}
    directory = StudyDirectory(full.parents[1])
    at_largest = [
        report
        for record in directory.records()
        if record.arm == "mod"
        and record.budget.flops == 1e12
        and (report := directory.routing(record.hash))
    ]
    assert len(at_largest) == 3
    flips = [
        np.mean([layer.decisions.flip_rate for layer in report.layers if layer.decisions])
        for report in at_largest
    ]
    assert float(rows["mod"]["flip rate"]) == pytest.approx(np.mean(flips))
    assert float(rows["mod"]["flip rate sd"]) == pytest.approx(np.std(flips, ddof=1))
    assert float(rows["mod"]["causal - train loss"]) == pytest.approx(0.001)
    members = {row["arm"]: row for row in table(page, "routing_membership")}
    f1 = [report.membership.f1 for report in at_largest if report.membership]
    assert float(members["mod"]["F1"]) == pytest.approx(np.mean(f1))
    assert float(members["mod"]["always skip"]) == pytest.approx(0.75)
    partial = table(page, "routing_correlations")[0]
    ends = [float(partial[f"loss, partial{end}"]) for end in (" low", "", " high")]
    assert ends == sorted(ends)
    assert len(table(page, "routing_layers")) == 4
    assert len(table(page, "routing_overlaps")) == 2
    assert len(table(page, "routing_tokens")) == 40
    markdown = (page.parent / "report.md").read_text()
    assert "\N{PLUS-MINUS SIGN}" in markdown
    assert "figures/routing_positions.png" in markdown


@pytest.mark.usefixtures("no_figures")
def test_a_trial_without_telemetry_is_named(tmp_path: Path) -> None:
    text = told(tmp_path, without=("mod", 101)).read_text()
    assert "mod: no routing.json (or a damaged one) of seed 101" in text


def test_the_same_telemetry_gives_the_same_bytes(full: Path, tmp_path: Path) -> None:
    assert tree(full.parent) == tree(told(tmp_path).parent)


def test_arms_without_decisions_by_token_have_tables_and_no_maps(tmp_path: Path) -> None:
    rows = study(budgets=(1e11,))
    write(tmp_path, rows)
    directory = StudyDirectory(tmp_path)
    for row in map(named, rows):
        if row.stage is Stage.CONFIRM and row.arm == "mod":
            seen = sample(np.random.default_rng(row.seed))
            nothing = dict.fromkeys(("causal", "train", "scores", "membership"), [None] * 4)
            report = summarise(Observed(**{**vars(seen), **nothing}))
            assert report.tokens is None
            directory.write_routing(row.hash, report)
    page = compile_report(tmp_path)
    [row] = table(page, "routing")
    assert float(row["realised capacity"]) > 0
    assert row["flip rate"] == ""
    assert "routing_positions" not in page.read_text()
    assert "<h2>Routing maps" not in page.read_text()
    assert "mod-random: no routing.json" in page.read_text()


def test_letters_of_a_window_can_be_read_on_a_phone_and_stand_over_their_tokens(
    full: Path,
) -> None:
    material = gather(full.parent.parent)
    arms, reports = material.claims.routed, material.telemetry
    assert (shown := reports[arms[0].records[0].hash].sample) is not None
    in_bytes = {
        name: each.model_copy(update={"vocab_size": BYTES}) for name, each in reports.items()
    }
    with styled():
        drawn = schemes(arms, in_bytes)
    assert drawn is not None
    letters = [text for ax in drawn.figure.axes for text in ax.texts]
    assert [text.get_position()[0] for text in letters] == [
        place + 0.5 for place in range(len(shown.tokens))
    ]
    for ax in drawn.figure.axes:
        low, high = ax.get_xlim()
        assert all(low < text.get_position()[0] < high for text in ax.texts)
        assert high - low == ACROSS
    assert min(text.get_fontsize() for text in letters) * LEAST_PIXELS_PER_POINT > 7


def test_layers_that_take_every_token_follow_the_theme(full: Path) -> None:
    material = gather(full.parent.parent)
    with styled():
        drawn = positions(material.claims.routed, material.telemetry)
        assert drawn is not None
        assert f"var(--c-{AROUND[1:]})" in render(drawn).inline
