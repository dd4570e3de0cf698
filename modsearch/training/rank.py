"""One of the ranks of a trial, as a program: `python -m modsearch.training.rank DESCRIPTOR`.

It is given a task on the pipe with that descriptor, and says there how it went. The other end of
the pipe closes with the process that holds it, and this one ends then, whatever it is doing.
"""

import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from datetime import timedelta
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

from modsearch.data.corpus import load_corpus
from modsearch.nn.model import Decoder
from modsearch.nn.ranks import Ranks
from modsearch.registry.plugins import load_plugins
from modsearch.training.group import Ended, Task
from modsearch.training.machine import peak_memory_of
from modsearch.training.parallel import spread_of
from modsearch.training.trainer import Trainer
from modsearch.training.weights import rescaled

SILENCE = timedelta(minutes=10)
"""After which a rank gives up on one that lives and does not answer. The longest that one keeps
the others waiting is for its compiler, or for a checkpoint on a slow disk."""

RESULT = "FSDP2-wrapped module"
"""It warns of results that are views, for those who change them in place: nobody does."""


def main() -> None:
    """Be a rank."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    warnings.filterwarnings("ignore", message=RESULT)
    pipe = Connection(int(sys.argv[1]))
    task: Task = pipe.recv()
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    answer: Ended | Exception
    try:
        answer = train(task, pipe)
    except Exception as error:  # whatever it is, the trial is told
        answer = _portable(error)
    pipe.send(answer)
    os._exit(0)  # an exit in order would wait for ranks that have gone


def _end_with(pipe: Connection) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """The same for another process, which has no traceback of it."""
    note = f"on a rank: {traceback.format_exc()}"
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # somebody else's, which takes more than a message
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error


def train(task: Task, pipe: Connection) -> Ended:
    """This rank's part of a training."""
    job, runtime = task.job, task.job.passing
    torch.set_num_threads(runtime.threads)
    if runtime.device == "cuda":
        torch.cuda.set_device(task.place)
    dist.init_process_group(
        "nccl" if runtime.device == "cuda" else "gloo",
        init_method=task.store.as_uri(),
        rank=task.place,
        world_size=runtime.ranks,
        timeout=SILENCE,
    )
    ranks = Ranks(task.place, runtime.ranks, dist.group.WORLD)
    load_plugins(job.plugins)
    candidate = job.candidate
    corpus = load_corpus(candidate.data, candidate.model.vocab_size, job.fingerprint)
    batches = corpus.batches(candidate.model.seq_len, candidate.optim.batch_size, job.seed)
    torch.manual_seed(job.seed)
    model = rescaled(Decoder(candidate.model), candidate.optim)
    spread = spread_of(runtime.parallel, ranks)
    trainer = Trainer(model, candidate.optim, task.plan, runtime, task.directory, spread)
    trained = trainer.run(
        batches,
        seed=job.training_seed,
        on_log=pipe.send if ranks.is_first else None,
        size=corpus.facts.size(job.unit, "train"),
    )
    trainer.save()
    return Ended(trained, peak_memory_of(runtime.device))


if __name__ == "__main__":
    main()
