"""Train one candidate for its planned steps; checkpoint and resume.

An interrupted training ends with the same loss as an uninterrupted one: batches, routing
and learning rates are pure functions of the step, and a checkpoint holds the rest.

Shapes: B sequences, T positions, V vocabulary.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from torch import Tensor

from modsearch.config.optim import OptimConfig
from modsearch.config.records import Plan
from modsearch.config.runtime import Runtime
from modsearch.data.batches import Batches
from modsearch.errors import Diverged, StudyError
from modsearch.nn.contracts import Update
from modsearch.nn.model import Decoder, statistics
from modsearch.nn.passes import Passes
from modsearch.optim.rates import Rates
from modsearch.store.files import write_text
from modsearch.store.trial import metrics_of
from modsearch.training.checkpoint import RESUME, write_tensors
from modsearch.training.clock import Clock
from modsearch.training.compilation import CompiledLoss
from modsearch.training.outcome import OnLog, Trained
from modsearch.training.spread import Alone, Found, Spread, check_buffers, evaluated
from modsearch.training.weights import optimizer_for

LOGS_PER_TRIAL = 100


class Trainer:
    """One training run in one directory; of several ranks all make one, and the first writes."""

    def __init__(
        self,
        model: Decoder,
        optim: OptimConfig,
        plan: Plan,
        runtime: Runtime,
        directory: Path,
        spread: Spread | None = None,
    ) -> None:
        self.model = model.to(runtime.device)
        self.spread = spread or Alone()
        self.ranks = self.spread.ranks
        model.set_ranks(self.ranks)
        self.spread.take(model)
        compiles = runtime.compile and self.spread.compiles
        loss = CompiledLoss(model, graphs=self.ranks.count == 1) if compiles else model.loss
        self._objective = self.spread.objective(model, loss)
        self.optim = optim
        self.plan = plan
        self.runtime = runtime
        self.directory = directory
        self.parameters = list(model.parameters())
        self.optimizer = self.spread.checked(optimizer_for(model, optim))
        self.rates = Rates(optim, plan.steps)
        self.step = 0
        self._updates: list[tuple[float, Sequence[Update]]] = []
        """Of the passes of the last step, each with its share of the sequences."""
        self._sweeps = True
        """Whether a step in several passes gathers means first; no longer once a sweep after the
        warm-up of capacities has found that the model asks for none."""
        self.tail_loss = torch.zeros((), dtype=torch.float64, device=runtime.device)
        self._clock = Clock(runtime.device)

    def run(
        self, batches: Batches, seed: int, on_log: OnLog | None = None, size: float = 1.0
    ) -> Trained:
        """Train to the last step, from the last checkpoint where there is one.

        What is told of losses is for each unit of which a token has `size`.

        Raises:
            Diverged: a loss is NaN or infinite.
        """
        self._resume()
        self.model.train()
        log_every = max(1, self.plan.steps // LOGS_PER_TRIAL)
        tail_start = self._tail_start()
        step_seconds: list[float] = []
        window_loss = torch.zeros_like(self.tail_loss)
        first, started = self.step, time.perf_counter()
        saved = started
        self._clock.start()
        place = self.directory / "metrics.jsonl" if self.ranks.is_first else Path(os.devnull)
        with place.open("a") as log:
            while self.step < self.plan.steps:
                loss, norm = self.train_step(batches(self.step), seed + self.step)
                window_loss += loss
                if self.step >= tail_start:
                    self.tail_loss += loss
                self.step += 1
                if self.step % log_every and self.step < self.plan.steps:
                    continue
                num_steps, now = self.step - first, time.perf_counter()
                mean_loss = window_loss.item() / num_steps
                self._clock.read()  # a GPU's marks are let go
                if not math.isfinite(mean_loss):
                    raise Diverged(f"the loss is {mean_loss} at step {self.step}")
                check_buffers(self.model, self.ranks)
                step_seconds.append((now - started) / num_steps)
                row = self._row(mean_loss / size, norm.item(), step_seconds[-1])
                log.write(json.dumps(row) + "\n")
                log.flush()
                if on_log is not None:
                    on_log(row)
                due = now - saved >= self.runtime.checkpoint_seconds
                if self.ranks.agreed(due, loss.device) and self.step < self.plan.steps:
                    self.save()
                    saved = now
                window_loss.zero_()
                first, started = self.step, time.perf_counter()
                self._clock.start()
        self.model.set_progress(1.0)
        tail = self.tail_loss.item() / (self.plan.steps - tail_start)
        if not math.isfinite(tail):
            raise Diverged(f"the loss is {tail} at the end")
        return Trained(
            tail / size, median(step_seconds) if step_seconds else 0.0, self._clock.read()
        )

    def _tail_start(self) -> int:
        return self.plan.steps - max(1, self.plan.steps // 10)

    def train_step(self, batch: npt.NDArray[np.int64], seed: int) -> tuple[Tensor, Tensor]:
        """One optimiser step on (batch_size, seq_len + 1) tokens: its loss and gradient norm."""
        tokens_BT = torch.from_numpy(batch).to(self.runtime.device, non_blocking=True)
        self.rates.set(self.optimizer, self.step)
        self.model.set_progress(self.step / self.plan.steps)
        self._clock.mark("data")
        loss = self._backward(tokens_BT, seed)
        norm = self.spread.clip(self.parameters, self.optim.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.end_step()
        self._clock.mark("optimizer")
        return loss, norm

    def _backward(self, tokens_BT: Tensor, seed: int) -> Tensor:
        """Gradients of the mean over the batch, of which this rank has its share, in as many
        passes as its memory needs; and that mean."""
        self._updates = []
        mean_loss = torch.zeros((), device=tokens_BT.device)
        rows = len(tokens_BT) // self.ranks.count
        first = self.ranks.place * rows
        parts = torch.split(tokens_BT[first : first + rows], self.runtime.micro_batch or rows)
        passes = self._passes(parts, first, seed)
        for number, part_BT in enumerate(parts, 1):
            with self.spread.exchange(number == len(parts)):
                total, loss, trace = self._forward(part_BT, seed, passes)
                self._clock.mark("forward")
                share = len(part_BT) / rows
                (share * total).backward()  # type: ignore[no-untyped-call]  # untyped in torch
            mean_loss += share * loss
            self._updates.append((share, trace.updates))
            self._clock.mark("backward")
        return self.ranks.sum(mean_loss) / self.ranks.count

    def _passes(self, parts: Sequence[Tensor], first: int, seed: int) -> Passes | None:
        """Of this rank, whose first sequence has that place in the step."""
        if len(parts) > 1:
            return self._gathered(parts, first, seed)
        return Passes(self.ranks, first, only_one=True) if self.ranks.count > 1 else None

    @torch.no_grad()
    def _gathered(self, parts: Sequence[Tensor], first: int, seed: int) -> Passes:
        """Means over the step, by a sweep in evaluation mode, in which nothing is observed."""
        passes = Passes(self.ranks, first)
        if self._sweeps:
            self.model.eval()
            for part_BT in parts:
                self._forward(part_BT, seed, passes)
            self.model.train()
        # While capacities still change, so may what is asked for.
        warm = self.step >= self.model.schedule.warmup * self.plan.steps
        self._sweeps = passes.end_sweep() or not warm
        return passes

    def _forward(self, part_BT: Tensor, seed: int, passes: Passes | None) -> Found:
        with autocast(self.runtime):
            found = evaluated(self._objective, part_BT, seed, passes)
        if passes is not None:
            passes.next_pass(len(part_BT))
        return found

    def _row(self, loss: float, norm: float, seconds: float) -> dict[str, float]:
        tokens = self.step * self.optim.batch_size * self.model.config.seq_len
        rate = self.optimizer.param_groups[0]["lr"]
        shares, found = zip(*self._updates, strict=True)
        passes = [statistics(updates) for updates in found]
        means = [
            sum(share * each[name].double() for share, each in zip(shares, passes, strict=True))
            for name in passes[0]
        ]
        told = self.ranks.sums([torch.as_tensor(mean) / self.ranks.count for mean in means])
        return {
            "step": self.step,
            "steps": self.plan.steps,
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens": tokens,
            "step_seconds": seconds,
            **{name: mean.item() for name, mean in zip(passes[0], told, strict=True)},
        }

    @property
    def _checkpoint(self) -> Path:
        return self.directory / RESUME

    def save(self) -> None:
        """One file, so that weights, moments and step can never be of different moments."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"adam.{index}.{key}"] = value
        meta = {"step": str(self.step), "tail_loss": repr(self.tail_loss.item())}
        plain = {name: t.contiguous() for name, t in self.spread.gathered(tensors).items()}
        if self.ranks.is_first:
            write_tensors(self._checkpoint, plain, meta)

    def _resume(self) -> None:
        """From the last checkpoint.

        Raises:
            StudyError: it is damaged; it is removed, so that the next try starts over.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.is_file():
            try:
                self._load()
            except torch.OutOfMemoryError:
                raise  # says nothing about the file
            except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
                self._checkpoint.unlink(missing_ok=True)  # another rank may have seen it, too
                raise StudyError(
                    f"the checkpoint in {self.directory.name} was damaged and has been removed\n"
                    f"run the same command again: the trial starts over"
                ) from None
        if self.ranks.is_first:
            self._trim_metrics()

    def _load(self) -> None:
        with safetensors.safe_open(self._checkpoint, framework="pt") as file:
            meta = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        with torch.no_grad():
            for name, tensor in self.model.state().items():
                tensor.copy_(self.spread.placed(tensors[f"model.{name}"], tensor))
        held = [each for group in self.optimizer.param_groups for each in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".")
                like = held[int(index)]
                state.setdefault(int(index), {})[key] = self.spread.placed(tensor, like)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step = int(meta["step"])
        self.tail_loss.fill_(float(meta["tail_loss"]))

    def _trim_metrics(self) -> None:
        """Drop what was logged after the checkpoint, and a line that a kill cut short."""
        path = self.directory / "metrics.jsonl"
        rows = list(metrics_of(path))
        kept = [row for row in rows if row["step"] <= self.step]
        if path.exists():
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def autocast(runtime: Runtime) -> torch.autocast:
    """bf16 where the study says so."""
    return torch.autocast(runtime.device, torch.bfloat16, enabled=runtime.precision == "bf16")
