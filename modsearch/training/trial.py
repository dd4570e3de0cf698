"""One trial from job to record: the same call inline, in a worker, and on a cluster."""

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import torch

from modsearch.config.data import BYTES, Validation
from modsearch.config.records import (
    Budget,
    Candidate,
    Infeasible,
    Job,
    Plan,
    Record,
    Scores,
    Stage,
    State,
)
from modsearch.config.runtime import Plugin, Runtime
from modsearch.config.telemetry import RoutingReport
from modsearch.data.corpus import Corpus, load_corpus
from modsearch.data.tokenizers import Tokenizer
from modsearch.errors import ConfigError, Diverged, Stopped, printable
from modsearch.nn.model import Decoder
from modsearch.registry.plugins import load_plugins
from modsearch.store.directory import StudyDirectory
from modsearch.store.files import naming, write_text, write_yaml
from modsearch.store.lock import alone
from modsearch.store.trial import job_config
from modsearch.training.budget import plan
from modsearch.training.checkpoint import RESUME, save_model, take_weights
from modsearch.training.efficiency import efficiency, peak_of
from modsearch.training.group import RankKilled, train_together
from modsearch.training.machine import all_memory, forget_peak, out_of_memory, peak_memory_of
from modsearch.training.outcome import OnLog, Trained
from modsearch.training.scoring import score
from modsearch.training.trainer import Trainer
from modsearch.training.watch import METRICS, Watch
from modsearch.training.weights import rescaled

LEAST_BYTES = 12
"""Of a parameter, of any optimiser."""


def run_trial(root: Path, job: Job, on_log: OnLog | None = None) -> Record:
    """Train and score a job in its directory under `root`, and write its record.

    `on_log` is given each line of the training's log. What it raises comes out when the trial
    has ended.

    A loss that is not a number, memory that runs out and any other failure become states of
    the record; nothing is raised but what ends the process.
    """
    study = StudyDirectory(root)
    listener = _Listener(on_log)
    with alone(study.trial(job.hash)), threads(job.runtime.threads):
        known = study.finished(job.hash)
        stopped = known is not None and known.state is State.STOPPED
        # What explore has stopped another stage may want whole.
        ended = known is not None and not (stopped and job.stopping is None)
        record = known if known is not None and ended else _run(study, job, listener)
    if listener.error is not None:
        raise listener.error
    return record


@contextmanager
def threads(wanted: int) -> Iterator[None]:
    """So many threads for torch; a notebook has its own number back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Listener:
    """Keeps what a callback raises until the trial is over, of which it is no part."""

    def __init__(self, on_log: OnLog | None) -> None:
        self.on_log = on_log
        self.error: Exception | None = None

    def __call__(self, row: Mapping[str, float]) -> None:
        if self.on_log is not None and self.error is None:
            try:
                self.on_log(row)
            except Exception as error:  # whatever a user's callback raises
                self.error = error


def _run(study: StudyDirectory, job: Job, on_log: OnLog) -> Record:
    directory = study.trial(job.hash)
    assert isinstance(job.plan, Plan), "an infeasible job was handed out"
    reason = None
    scores = None
    spent = None
    try:
        write_yaml(directory / "config.yaml", job_config(job))
        with naming(directory):
            scores, routing = _train_and_score(job, job.plan, directory, on_log)
        if routing is not None:
            study.write_routing(job.hash, routing)
        state = State.COMPLETE
    except Diverged as error:
        state, reason = State.DIVERGED, str(error)
    except Stopped as error:
        state, reason = State.STOPPED, str(error)
        spent = error.step * job.plan.flops_per_step
    except Exception as error:  # whatever it is, it must not end the study
        state = State.OUT_OF_MEMORY if out_of_memory(error) else State.FAILED
        reason = "; ".join(printable(f"{type(error).__name__}: {error}").splitlines()[:2])
        _write_error(directory)
    record = job.record(state, reason=reason, scores=scores, spent=spent)
    try:
        study.write_record(record)
    except OSError as error:
        return record.model_copy(
            update={"state": State.FAILED, "scores": None, "reason": f"can't write: {error}"}
        )
    if state is not State.FAILED:
        (directory / RESUME).unlink(missing_ok=True)
    if state is State.COMPLETE:
        (directory / "error.txt").unlink(missing_ok=True)
    return record


def _train_and_score(
    job: Job, plan: Plan, directory: Path, on_log: OnLog
) -> tuple[Scores, RoutingReport | None]:
    peak_flops = peak_of(job.runtime)
    started = time.perf_counter()
    known = forget_peak(job.runtime.device)
    load_plugins(job.plugins)  # a worker that was spawned has none
    candidate = job.candidate
    corpus = load_corpus(candidate.data, candidate.model.vocab_size, job.fingerprint)
    _refuse_too_large(plan, job.runtime)
    windows = corpus.windows(job.validation, candidate.model.seq_len)
    if job.runtime.ranks > 1:
        train = partial(_on_ranks, plan, directory, on_log)
    else:
        train = partial(_alone, plan, directory, corpus, on_log)
    job, model, trained, peak = _trained(job, train)
    trained_at = time.perf_counter()
    loss = score(model, windows, job.runtime.device)
    evaluation = time.perf_counter() - trained_at
    if not math.isfinite(loss.causal + loss.train_mode):
        raise Diverged(f"the {job.validation.part} loss is {loss.causal}")
    save_model(model, directory / "checkpoint")
    corpus.tokenizer.save(directory / "checkpoint")
    per_token = corpus.facts.bytes_per_token_of(job.validation.part)
    size = corpus.facts.size(job.unit, job.validation.part)
    scores = Scores(
        causal_loss=loss.causal / size,
        train_mode_loss=loss.train_mode / size,
        bits_per_byte=loss.causal / math.log(2) / per_token,
        final_train_loss=trained.final_train_loss,
        realised_capacity=loss.realised_capacity,
        realised_forward_flops=loss.realised_forward_flops / size,
        agreement=loss.agreement,
        seconds=time.perf_counter() - started,
        step_seconds=trained.step_seconds,
        peak_memory=max(peak, peak_memory_of(job.runtime.device)) if known else None,
        block_losses=[each / size for each in loss.block_losses],
        micro_batch=job.micro_batch,
        phase_seconds={**trained.phase_seconds, "evaluation": evaluation},
        efficiency=efficiency(plan, trained.step_seconds, job.runtime.ranks, peak_flops),
    )
    return scores, _with_texts(loss.routing, corpus.tokenizer)


def _refuse_too_large(plan: Plan, runtime: Runtime) -> None:
    """Where no pass is small enough, Linux would kill the worker, or another program.

    Raises:
        MemoryError: it can't be trained on this machine.
    """
    least = plan.params * LEAST_BYTES
    if runtime.device == "cpu" and least > (there := all_memory()):
        raise MemoryError(
            f"weights, gradients and one moment of {plan.params:,} parameters take "
            f"{least / 2**30:,.0f} GiB, and this machine has {there / 2**30:,.0f}"
        )


def _trained(
    job: Job, train: Callable[[Job], tuple[Decoder, Trained, int]]
) -> tuple[Job, Decoder, Trained, int]:
    """A training to its end, in passes of as many sequences as the memory holds: where it runs
    out, half of them go on from the last checkpoint, to the same loss.

    Returns:
        The job as it went, the model, what the training leaves, and its peak memory.
    """
    while True:
        try:
            model, trained, peak = train(job)
        except Exception as error:
            if job.rows == 1 or not (out_of_memory(error) or isinstance(error, RankKilled)):
                raise
        else:
            return job, model, trained, peak
        # Not in the handler: the error holds what the step had made.
        if job.runtime.device == "cuda" and job.runtime.ranks == 1:
            torch.cuda.empty_cache()
        job = job.halved()


def _alone(
    plan: Plan, directory: Path, corpus: Corpus, on_log: OnLog, job: Job
) -> tuple[Decoder, Trained, int]:
    """In this process."""
    candidate, runtime = job.candidate, job.passing
    torch.manual_seed(job.seed)
    model = rescaled(Decoder(candidate.model), candidate.optim)
    trainer = Trainer(model, candidate.optim, plan, runtime, directory)
    watched: OnLog = on_log
    if job.stopping is not None:
        watched = Watch(job.stopping, directory / METRICS, on_log)
    trained = trainer.run(
        corpus.batches(candidate.model.seq_len, candidate.optim.batch_size, job.seed),
        seed=job.training_seed,
        on_log=watched,
        size=corpus.facts.size(job.unit, "train"),
    )
    return trainer.model, trained, peak_memory_of(runtime.device)


def _on_ranks(
    plan: Plan, directory: Path, on_log: OnLog, job: Job
) -> tuple[Decoder, Trained, int]:
    """In processes that train together, whose last checkpoint this one takes."""
    ended = train_together(job, plan, directory, on_log)
    model = Decoder(job.candidate.model)
    take_weights(model, directory)
    return model.to(job.runtime.device), ended.trained, ended.peak_memory


def _with_texts(report: RoutingReport | None, tokenizer: Tokenizer) -> RoutingReport | None:
    """What tokens are that a report names, where these are not bytes."""
    if report is None or tokenizer.name == BYTES:
        return report
    texts = {token: tokenizer.decode([token]) for token in report.named}
    return report.model_copy(update={"texts": texts})


def _write_error(directory: Path) -> None:
    with suppress(OSError):  # the record has the reason, in one line
        write_text(directory / "error.txt", printable(traceback.format_exc()))


def single_job(
    candidate: Candidate, flops: float, seed: int, plugins: tuple[Plugin, ...] = ()
) -> Job:
    """A job outside any study.

    Raises:
        ConfigError: the candidate can't be trained at that budget.
    """
    facts = load_corpus(candidate.data, candidate.model.vocab_size).facts
    budget = Budget(flops=flops)
    spent = plan(candidate, budget, facts.train_tokens, facts.vocab_size)
    if isinstance(spent, Infeasible):
        raise ConfigError(f"can't train this at {flops:.3g} FLOPs: {spent.reason}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Job(
        stage=Stage.MEASURE,
        arm="single",
        candidate=candidate,
        budget=budget,
        seed=seed,
        validation=Validation(),
        fingerprint=facts.fingerprint,
        runtime=Runtime(device=device, threads=torch.get_num_threads()),
        plan=spent,
        plugins=plugins,
    )
