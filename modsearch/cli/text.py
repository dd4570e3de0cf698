"""Results as text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modsearch.analysis.numbers import (
    MISSING,
    count,
    counted,
    decimal,
    duration,
    interval,
    scientific,
)
from modsearch.config.units import Unit, nats, nats_per
from modsearch.errors import shown

if TYPE_CHECKING:
    from modsearch.analysis.claims import Claims
    from modsearch.analysis.speeds import Ratio
    from modsearch.config.answers import (
        ArmPrediction,
        Estimate,
        Predictions,
        Prepared,
        SurfaceAnswer,
    )
    from modsearch.config.data import SourceFacts
    from modsearch.config.speeds import Speeds, Timed
    from modsearch.planning.cells import PlannedCell
    from modsearch.planning.flops import FlopLedger
    from modsearch.planning.forecast import Chance, Forecast
    from modsearch.registry.listing import Description, Listed
    from modsearch.study.status import Pace, RunningTrial, StudyStatus

MOST_REJECTED = 20
"""Rejections that the text lists; the JSON has all that were planned."""


def ledger_text(table: "FlopLedger") -> str:
    """The FLOP ledger as a table."""
    lines = [f"{'FLOPs per token':18}{'forward':>14}{'backward':>14}{'share':>9}"]
    for part, row in table.parts.items():
        lines.append(
            f"{part:18}{row.forward:14,.0f}{row.backward:14,.0f}{row.share_of_forward:9.1%}"
        )
    backward = table.training - table.forward
    lines += [
        f"{'total':18}{table.forward:14,.0f}{backward:14,.0f}{1:9.1%}",
        "",
        f"training step     {table.training_step:,} FLOPs" + _of_update(table),
        f"parameters        {table.params:,}, of the embedding {table.embedding_params:,}",
        f"active parameters {table.active_params:,}, those that a token meets",
        f"routed layers     {', '.join(map(str, table.routed_layers)) or 'none'}",
        "",
        "training FLOPs per token by convention",
    ]
    lines += [f"{name:18}{value:14,.0f}" for name, value in table.conventions.items()]
    if table.warning:
        lines += ["", f"warning: {table.warning}"]
    return "\n".join(lines)


def _of_update(table: "FlopLedger") -> str:
    if not table.update:
        return ""
    share = table.update / table.training_step
    return f", of which the optimiser's own products are {table.update:,} ({share:.1%})"


def forecast_text(result: "Forecast") -> str:
    """The forecast as a table for a terminal."""
    lines = [
        f"{'stage':9}{'arm':18}{'budget':>9}{'trials':>8}{'steps':>16}{'params':>16}"
        f"{'memory':>12}{'time':>10}"
    ]
    for cell in result.cells:
        lines.append(
            f"{cell.stage:9}{cell.arm:18}{cell.budget:9.3g}{cell.trials:8}"
            f"{_range(cell.steps):>16}{_range(cell.params):>16}"
            f"{_bytes(cell.memory_bytes):>12}{duration(cell.seconds):>10}"
        )
    lines += ["", *_totals(result)]
    if result.routed_arms and result.reference_arms:
        several = "the best measured of " if len(result.reference_arms) > 1 else ""
        lines.append(
            f"routed: {', '.join(result.routed_arms)}; compared with: {several}"
            f"{', '.join(result.reference_arms)}"
        )
    lines += (_chance(row, result.unit) for row in result.chances)
    if result.margin is not None:
        margin = f"{result.margin:g} {nats(result.unit)}"
        lines.append(f"equivalent: a difference of less than {margin}")
    lines += [f"note: {note}" for note in result.notes]
    lines += _rejections(result.cells)
    lines += [f"warning: {warning}" for warning in result.warnings]
    return "\n".join(lines)


def _chance(row: "Chance", unit: Unit) -> str:
    """What becomes of a difference."""
    ends = (
        (row.better, "better"), (row.worse, "worse"), (row.equivalent, "equivalent"),
        (row.inconclusive, "inconclusive"),
    )  # fmt: skip
    said = ", ".join(f"{word} {share:.0%}" for share, word in ends if share >= 0.005)
    return (
        f"if routing gains {row.effect:g} {nats(unit)} and runs scatter by {row.sd:.2g}: {said}; "
        f"confirm takes {row.runs:.0f} runs an arm in the mean, {row.flops:.3g} FLOPs"
    )


def _totals(result: "Forecast") -> list[str]:
    """Trials, FLOPs, time for how many workers, and memory for how many."""
    workers, at_once = result.workers, result.workers_at_full_speed
    auto = " (`workers: auto` here)" if result.workers_are_auto else ""
    threads = counted(result.threads, "thread")
    if result.ranks > 1:
        threads = f"{result.ranks} ranks of {threads}"
    shared = f", of which {at_once} at a time run at full speed" if at_once < workers else ""
    how = f"{result.sizes_timed} of {result.sizes} sizes were timed"
    if result.extrapolated:
        how += ", and some are larger than those"
    lines = [
        f"{counted(result.trials, 'trial')}, {result.flops:.3g} FLOPs",
        f"{duration(result.worker_seconds)} on one worker of {threads}, scoring included: "
        f"{result.flops_per_second / 1e9:.3g} GFLOP/s ({how})",
        f"{duration(result.seconds)} with {counted(workers, 'worker')}"
        f"{auto}{shared}, where nothing else runs",
    ]
    whose = (
        f", of which the process itself {_bytes(base)}" if (base := result.process_bytes) else ""
    )
    lines.append(
        f"{_bytes(result.memory_bytes)} of memory for the largest trial{whose}; "
        f"{_bytes(result.memory_bytes_of_all_workers)} for {workers} at once"
    )
    if (parts := result.memory) is not None:
        lines.append(
            f"of that weights {_bytes(parts.weights)}, gradients {_bytes(parts.gradients)}, "
            f"moments {_bytes(parts.moments)}, saved for the backward pass {_bytes(parts.saved)}; "
            f"at once {_bytes(parts.step)} in a step, {_bytes(parts.checkpoint)} in a "
            f"checkpoint, {_bytes(parts.scoring)} in scoring"
        )
    return lines


def _rejections(cells: "Sequence[PlannedCell]") -> list[str]:
    """One line a rejected candidate: arm, budget, size, recipe, reason."""
    lines = []
    for cell in cells:
        for row in cell.rejected:
            recipe = "".join(f", {key} {shown(value)}" for key, value in row.recipe.items())
            lines.append(
                f"rejected: {cell.stage} {cell.arm} {cell.budget:.3g} "
                f"depth {row.depth}, width {row.width}{recipe}: {row.reason}"
            )
    more = len(lines) - MOST_REJECTED
    if more > 1:
        return [*lines[:MOST_REJECTED], f"rejected: {more} more, which --json lists"]
    return lines


def _bytes(count: int) -> str:
    if count < 2**20:
        return f"{count / 2**10:,.0f} KiB"
    gib = count / 2**30
    return f"{gib:,.0f} GiB" if gib >= 10 else f"{1024 * gib:,.0f} MiB"


def _range(values: list[int]) -> str:
    if not values:
        return "none"
    low, high = min(values), max(values)
    return count(low) if low == high else f"{count(low)} - {count(high)}"


def status_text(result: "StudyStatus") -> str:
    """Status as a table for a terminal."""
    lines = [f"{'stage':9}{'arm':18}{'budget':>9}{'done':>10}{'best loss':>12}  other ends"]
    for row in result.cells:
        states = dict(row.states)
        done = f"{states.pop('complete', 0)}/{row.wanted}"
        best = f"{row.best_causal_loss:.4f}" if row.best_causal_loss is not None else "-"
        other = ", ".join(f"{count} {state}" for state, count in states.items())
        lines.append(f"{row.stage:9}{row.arm:18}{row.budget:9.3g}{done:>10}{best:>12}  {other}")
    if result.unit != "token":
        lines.append(f"losses are in {nats_per(result.unit)}")
    lines += [_trial_text(row) for row in result.running]
    if result.pace is not None:
        lines.append(_pace_text(result.pace))
    if result.verdict is not None:
        lines.append(result.verdict)
    else:
        driver = "a driver runs" if result.driver else "no driver runs here"
        lines.append(f"under way: {result.stage}; {driver}")
    if result.report:
        lines.append(f"report: {result.report}")
    elif result.stage is None:
        lines.append("report: none yet, `modsearch report` compiles it")
    lines += [f"changed {line}" for line in result.grown]
    lines += [f"{counted(n, 'trial')} taken from {name}" for name, n in result.reused.items()]
    lines += [f"warning: {line}" for line in result.missing + result.left_out]
    return "\n".join(line.rstrip() for line in lines)


def _pace_text(pace: "Pace") -> str:
    """Medians, and how much of the device that is."""
    used = ""
    if pace.mfu is not None and pace.mfu_6nd is not None:
        used = f", MFU {pace.mfu:.1%} (exact) and {pace.mfu_6nd:.1%} (6ND)"
    spent = ", ".join(f"{name} {share:.0%}" for name, share in pace.time_shares.items())
    return (
        f"trials ran at {pace.tokens_per_second:,.0f} tokens/s, "
        f"{pace.flops_per_second / 1e9:.3g} GFLOP/s{used}; time: {spent}"
    )


def _trial_text(row: "RunningTrial") -> str:
    if row.step is not None:
        where = f"step {row.step:,.0f} of {row.steps:,.0f}"
        if row.tokens_a_second is not None:
            where += f", {row.tokens_a_second:,.0f} tokens/s"
    else:
        where = "no step yet, or metrics.jsonl can't be read"
    if row.alive:
        return f"running {row.hash}: {where}"
    return (
        f"not running here {row.hash}: {where}, last written {row.written_seconds_ago:,.0f} s ago"
    )


def predictions_text(result: "Predictions") -> str:
    """Predictions as a table, and what each rests on."""
    lines = [f"{result.study} at {scientific(result.flops)} training FLOPs, 95 % intervals", ""]
    rows = [("arm", "N*", "depth", "width", "tokens", "loss", "left out")]
    rows += [
        (
            each.arm,
            f"{count(each.params.value)} [{count(each.params.low)}, {count(each.params.high)}]",
            str(each.depth),
            str(each.width),
            count(each.tokens),
            estimate(each.loss),
            decimal(each.largest_error),
        )
        for each in result.arms
    ]
    lines += [aligned(rows), ""]
    if any(each.left_out for each in result.arms):
        lines.append(
            "left out: the largest error with which a measured minimum is foretold from the "
            f"arm's other budgets, {nats(result.unit)}"
        )
    for each in result.arms:
        lines += [f"{each.arm}: {line}" for line in _rests_on(each)]
    lines += [f"{arm}: nothing is foretold, {why}" for arm, why in result.without.items()]
    return "\n".join(lines)


def _rests_on(each: "ArmPrediction") -> list[str]:
    budgets = ", ".join(map(scientific, each.budgets))
    lines = [f"fitted at {budgets}; N* ~ C^{estimate(each.params_exponent, 3)}"]
    if each.extrapolated:
        side = f"{each.factor:.3g} times the largest fitted budget"
        if each.factor < 1:
            side = f"below the smallest fitted budget, {scientific(each.budgets[0])}"
        lines.append(f"extrapolated: {side}")
    lines += [
        f"left out {scientific(row.budget)}: foretold {estimate(row.loss)}, fitted "
        f"{row.fitted_loss:.4f}, error {row.error:+.4f}"
        for row in each.left_out
    ]
    lines += [line for row in each.surfaces for line in _surface(row)]
    return lines + [f"note: {note}" for note in each.notes]


def _surface(row: "SurfaceAnswer") -> list[str]:
    aside = f", {row.set_aside} set aside" if row.set_aside else ""
    lines = [
        f"surface E + A / N^alpha + B / D^beta, N {row.counts}, {counted(row.trials, 'trial')}"
        f"{aside}: "
        f"E {estimate(row.irreducible, 2)}, alpha {estimate(row.alpha, 2)}, "
        f"beta {estimate(row.beta, 2)}, N* ~ C^{estimate(row.params_exponent, 2)}"
    ]
    if row.vertex_bias:
        shifts = ", ".join(
            f"{share - 1:+.1%} at {budget}" for budget, share in row.vertex_bias.items()
        )
        lines.append(f"on this surface the ladders' own parabolas would miss N* by {shifts}")
    return lines


def estimate(found: "Estimate", digits: int = 4) -> str:
    """A number and its interval."""
    return f"{decimal(found.value, digits)} {interval(found.low, found.high, digits)}"


def listing_text(found: "Sequence[Listed]") -> str:
    """Components as a table."""
    return aligned([(each.kind, each.name, each.source, each.target) for each in found])


def description_text(found: "Sequence[Description]") -> str:
    """Components, each with its options."""
    return "\n\n".join(map(_described, found))


def _described(each: "Description") -> str:
    lines = [f"{each.kind} `{each.name}`: {each.text}"]
    if each.origin is not None:
        rows = [(option.name, option.type, option.default, option.help) for option in each.options]
        lines += [f"origin: {each.origin}", "options:" if rows else "options: none"]
        lines += [f"  {line}" for line in aligned(rows).splitlines()]
    return "\n".join(lines)


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def speeds_text(found: "Speeds", claims: "Claims") -> str:
    """Speeds as tables for a terminal, each beside its ratio to the dense winner's."""
    from modsearch.analysis.speeds import (
        decode_ratio,
        decoded,
        per_second,
        reference_at,
        step_ratio,
        typical,
    )

    threads = counted(found.threads, "thread")
    lines = [
        f"{found.machine}, {threads}, {found.precision}, torch {found.torch}, {found.rounds} "
        f"rounds; ratios to the dense winner, 95 % intervals"
    ]
    dense = {each.budget: reference_at(claims, each.budget) for each in found.arms}
    names = {budget: each.arm for budget, each in dense.items() if each is not None}
    lines += _speeds_table("training steps", "ms a step")
    for each in found.arms:
        ratio = step_ratio(found, each.arm, names.get(each.budget, each.arm), each.budget)
        told = f"{1000 * typical(each.step_seconds):.3g}"
        lines.append(_speeds_line(each, told, ratio, names).rstrip())
    for size in sorted({row.batch_size for each in found.arms for row in each.decoded}):
        lines += _speeds_table(f"decoding, batch {size}", f"{found.unit}s/s", "cache bytes")
        for each in found.arms:
            if (row := decoded(each, size)) is None:
                continue
            against = names.get(each.budget, each.arm)
            ratio = decode_ratio(found, each.arm, against, each.budget, size)
            line = _speeds_line(each, f"{per_second(row):,.0f}", ratio, names)
            lines.append(f"{line}{row.cache_bytes:13,.0f}")
    return "\n".join(lines)


def _speeds_table(title: str, unit: str, last: str = "") -> list[str]:
    head = f"{'arm':18}{'budget':>9}{'size':>10}{unit:>12}  {'ratio':22}"
    return ["", title, f"{head}{last:>13}".rstrip()]


def _speeds_line(
    each: "Timed", value: str, ratio: "Ratio | None", names: "Mapping[float, str]"
) -> str:
    told = MISSING
    if ratio is not None and names.get(each.budget, each.arm) != each.arm:
        told = f"{decimal(ratio.value, 3)} {interval(ratio.low, ratio.high)}"
    size = f"d{each.width} L{each.depth}"
    return f"{each.arm:18}{scientific(each.budget):>9}{size:>10}{value:>12}  {told:22}"


def data_text(found: "Prepared") -> str:
    """What is in a corpus, for a terminal; of several tokenizers one after the other."""
    return "\n\n".join(map(_data_text, (found, *found.others)))


SPLITS = {
    "hash": "each document by its own hash: more text moves none",
    "filled": "filled in the order of hashes, as few documents need: more text may move some",
}


def _source_text(source: "SourceFacts") -> str:
    parts = ", ".join(
        f"{source.tokens(part):,} {part}" for part in ("train", "validation", "test")
    )
    how = f"; {SPLITS[source.split]}" if source.split else ""
    return f"weight {source.weight:g}; {parts} tokens{how}"


def _data_text(found: "Prepared") -> str:
    facts = found.corpus
    total = facts.train_tokens + facts.validation_tokens + facts.test_tokens
    parts = ", ".join(
        f"{tokens:,} {part} ({tokens / total:.1%})"
        for part, tokens in (
            ("train", facts.train_tokens),
            ("validation", facts.validation_tokens),
            ("test", facts.test_tokens),
        )
    )
    lines = {
        "corpus": facts.name,
        "tokenizer": f"{facts.tokenizer}, {facts.vocab_size:,} tokens",
        "documents": f"{facts.documents:,} in {facts.pieces:,} pieces",
        "tokens": parts,
        "bytes per token": f"{facts.bytes_per_token:.3f}",
        "entropy": f"{facts.unigram_entropy:.3f} by unigrams, {facts.bigram_entropy:.3f} by "
        f"bigrams (nats per token of the validation part"
        f"{', sources by their weights' if facts.sources else ''})",
        "duplicates": f"{facts.copies:,} exact copies left out, {facts.near_duplicates:,} pieces "
        f"share text with another and are in its part",
        "copied": f"{facts.validation_copied:.1%} of validation and {facts.test_copied:.1%} of "
        f"test stand verbatim in train",
        "mended": f"{facts.invalid:,} places that were no UTF-8, {facts.crlf:,} line ends of two "
        f"characters, {facts.boms:,} marks of a byte order",
        "split": SPLITS[facts.split],
        **{f"source {each.name}": _source_text(each) for each in facts.sources},
        "fingerprint": facts.fingerprint,
        "shards": f"{found.folder} ({found.bytes:,} bytes)",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())
