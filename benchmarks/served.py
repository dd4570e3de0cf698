"""Training steps of several models in turns, each in a process of its own, so that all compile at
once and none shares an allocator with another."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from selectors import EVENT_READ, DefaultSelector
from statistics import median
from time import monotonic
from typing import Any

import torch
from step_time import Stepper

from modsearch.config.model import ModelConfig
from modsearch.config.runtime import Runtime
from modsearch.nn.cost import conventions


@dataclass(frozen=True)
class Asked:
    """A model, and how it is trained."""

    config: Mapping[str, Any]
    batch: int
    runtime: Mapping[str, Any]


class Server:
    """A process with one model, which says what it is, and then answers numbers of steps with
    their seconds."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts: dict[str, Any] = {}

    def answer(self) -> dict[str, Any] | None:
        """The next one; None of a process that has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, steps: int) -> dict[str, Any] | None:
        """What so many steps take."""
        assert self.process.stdin is not None
        try:
            print(steps, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return None
        return self.answer()


@contextmanager
def served(asked: Mapping[str, Asked], limit: float) -> Iterator[dict[str, Server]]:
    """Those that took their first steps in time, which includes to be compiled."""
    servers = {
        name: Server([sys.executable, __file__, json.dumps(vars(each))])
        for name, each in asked.items()
    }
    ready: dict[str, Server] = {}
    end = monotonic() + limit
    try:
        with DefaultSelector() as selector:
            for name, server in servers.items():
                assert server.process.stdout is not None
                selector.register(server.process.stdout, EVENT_READ, name)
            while selector.get_map() and monotonic() < end:
                for key, _ in selector.select(max(0.0, end - monotonic())):
                    selector.unregister(key.fileobj)
                    found = servers[key.data].answer()
                    if found is not None:
                        servers[key.data].facts = found
                        ready[key.data] = servers[key.data]
        for name in servers:
            if name not in ready:
                print(f"{name}: not ready after {limit:.0f} s, or failed", file=sys.stderr)
        yield {name: ready[name] for name in servers if name in ready}
    finally:
        for server in servers.values():
            server.process.kill()
            server.process.wait()


Answers = dict[str, list[dict[str, Any]]]
"""Of each process, by rounds; fewer of one that has ended."""


def rounds_of(servers: Mapping[str, Server], rounds: int, count: int) -> Iterator[Answers]:
    """Answers to so many steps in every round, after each round."""
    answers: Answers = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            found = server.ask(count)
            if found is not None:
                answers[name].append(found)
        yield answers


def in_turns(servers: Mapping[str, Server], rounds: int, count: int) -> Answers:
    """The same, after the last one."""
    *_, last = rounds_of(servers, rounds, count)
    return last


def timed(
    asked: Mapping[str, Asked], top: float, rounds: int, steps: int, limit: float
) -> Iterator[list[dict[str, Any]]]:
    """After each round a row for each model: its step time beside that of `dense`, where the rest
    of the name is the same; medians over rounds. `top` is the FLOP/s that utilisation is of."""
    with served(asked, limit) as servers:
        for number, answers in enumerate(rounds_of(servers, rounds, steps), 1):
            there = {name: each for name, each in servers.items() if len(answers[name]) == number}
            yield _rows(asked, there, answers, top)


def _rows(
    asked: Mapping[str, Asked], servers: Mapping[str, Server], answers: Answers, top: float
) -> list[dict[str, Any]]:
    rows = []
    for name, server in servers.items():
        facts, mine = server.facts, [each["seconds"] for each in answers[name]]
        dense = " ".join([*name.split(" ")[:-1], "dense"])
        ratio = flops = nan  # where the dense one has failed
        if dense in servers:
            theirs = [each["seconds"] for each in answers[dense]]
            ratio = median(a / b for a, b in zip(mine, theirs, strict=True))
            flops = facts["flops"] / servers[dense].facts["flops"]
        step = median(mine)
        tokens = asked[name].batch * asked[name].config["seq_len"] / step
        rows.append(
            {
                "model": name,
                "params": facts["params"],
                "batch": asked[name].batch,
                "ms a step": 1e3 * step,
                "time ratio": ratio,
                "FLOP ratio": flops,
                "time / FLOPs": ratio / flops,
                "tokens/s": tokens,
                "TFLOP/s": tokens * facts["a token"]["exact"] / 1e12,
                "MFU": tokens * facts["a token"]["exact"] / top,
                "MFU causal": tokens * facts["a token"]["causal_attention"] / top,
                "MFU 6N": tokens * facts["a token"]["6N"] / top,
                "peak GiB": max(each["memory"] for each in answers[name]) / 2**30,
                "first step s": facts["first"],
            }
        )
    return rows


def serve(asked: Asked) -> None:
    """Take the first steps, then as many as are asked for."""
    config = ModelConfig.model_validate(asked.config)
    runtime = Runtime.model_validate(asked.runtime)
    torch.set_num_threads(runtime.threads)
    stepper = Stepper(config, asked.batch, runtime)
    first = stepper.seconds()
    stepper.seconds(4)  # a graph is recorded in the second step, or the third
    params, embedding = stepper.model.num_params, stepper.model.embedding.weight.numel()
    cost = stepper.model.cost(config.seq_len)
    on_gpu = runtime.device == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()  # for the others
    facts = {
        "first": first,
        "flops": stepper.flops,
        "params": params,
        "a token": conventions(cost, config.seq_len, params, embedding),
    }
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds = stepper.seconds(int(line))
        memory = torch.cuda.max_memory_reserved() if on_gpu else 0
        print(json.dumps({"seconds": seconds, "memory": memory}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("asked", type=json.loads)
    serve(Asked(**parser.parse_args().asked))
