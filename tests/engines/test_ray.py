"""The Ray engine on a real raylet with logical GPUs: the same trials, placement, dead workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import optuna
import pytest
import yaml
from cluster import ROOT, Cluster, ray_cluster
from inline import CORPUS
from ray_jobs import run_with_others
from test_local import Driver, run_and_die, run_and_note_passes, starts
from tiny import SUITE

from modsearch.config.records import Job, Record, State
from modsearch.config.runtime import Share, Signal
from modsearch.engines.contract import TRIES, MakeEngine
from modsearch.engines.local import local
from modsearch.engines.ray import RayEngine
from modsearch.errors import StudyError
from modsearch.evaluation.scorer import Scorer
from modsearch.nn.contracts import ROUTERS
from modsearch.registry import plugins
from modsearch.registry.plugins import load_plugins
from modsearch.space.space import Space
from modsearch.store.directory import StudyDirectory
from modsearch.study.runner import Runner


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One raylet that says it has 8 CPUs and 4 GPUs."""
    with ray_cluster() as cluster:
        cluster.add(cpus=8, gpus=4)
        cluster.wait_for(1)
        yield cluster


PLUGIN = ROOT / "examples" / "my_router.py"


def space(
    sampler: str,
    trials: int | None,
    workers: int,
    *,
    plugin: bool = False,
    suite: Path | None = None,
) -> Space:
    objective = {"suite": str(suite), "metric": "bits_per_byte"}
    capacity = {"choice": [0.25, 0.5, 1.0]} if sampler == "grid" else {"float": [0.1, 0.9]}
    router = "staggered" if plugin else "expert_choice"
    return Space.model_validate(
        {
            "name": sampler,
            "plugins": [str(PLUGIN)] if plugin else [],
            "data": {"corpus": CORPUS},
            "fixed": {
                "model": {"seq_len": 64, "num_heads": 1},
                "optim": {"min_steps": 20},
            },
            "arms": {"mod": {"model": {"block": "mod", "router": router, "capacity": capacity}}},
            "explore": {
                "budgets": [2e8],
                "size": {"depth": 2, "width": {"int": [8, 12], "step": 4}},
                "sampler": sampler,
                "trials": trials,
                "windows": 4,
                "objective": objective if suite is not None else None,
            },
            "resources": {"workers": workers},
        }
    )


def trials(out: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every trial of every cell of a finished study, and every loss."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{out / 'ledger.db'}")
    found: dict[str, list[tuple[object, ...]]] = {}
    for study in (optuna.load_study(study_name=None, storage=storage).trials,):
        found["ledger"] = [(t.number, t.params, t.value, t.state) for t in study]
    found["losses"] = [
        (
            r.hash,
            r.state,
            r.scores and (r.scores.causal_loss, r.scores.train_mode_loss),
            r.objective,
        )
        for r in StudyDirectory(out).records()
    ]
    return found


@pytest.mark.parametrize(
    ("sampler", "count", "workers"),
    [
        pytest.param("grid", None, 2, marks=pytest.mark.slow),
        ("qmc", 4, 1),
        pytest.param("qmc", 6, 2, marks=pytest.mark.slow),
        pytest.param("tpe", 12, 1, marks=pytest.mark.slow),
    ],
)
def test_local_and_ray_give_the_same_trials(
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    count: int | None,
    workers: int,
) -> None:
    engines: dict[str, MakeEngine] = {
        "local": local,
        "ray": partial(RayEngine, address=cluster.address),
    }
    # With the components of a plugin file once, and by a suite's metric; where trials lie makes no
    # difference either.
    plugin = sampler == "qmc"
    suite = tmp_path / "tiny.yaml" if sampler == "qmc" else None
    if suite is not None:
        suite.write_text(yaml.safe_dump(SUITE))
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(ROUTERS, "_registered", {})
    load_plugins([PLUGIN] if plugin else [])
    for name, make_engine in engines.items():
        storage = str(tmp_path / "shared") if (name, sampler) == ("ray", "qmc") else None
        study = Runner(
            space(sampler, count, workers, plugin=plugin, suite=suite),
            tmp_path / name,
            make_engine=make_engine,
            storage=storage,
            scorer=Scorer() if suite is not None else None,
        )
        study.run()
    ours, theirs = trials(tmp_path / "local"), trials(tmp_path / "ray")
    trained = [state for _, state, *_ in ours["losses"] if state is not State.INFEASIBLE]
    scored = [objective for *_, objective in ours["losses"] if objective is not None]
    assert len(scored) == (count if suite is not None else 0)
    assert trained == [State.COMPLETE] * (count or 6)
    assert ours == theirs


@pytest.mark.slow
def test_trials_of_two_ranks_run_beside_each_other_with_the_losses_of_one(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Two workers, each of which starts its two ranks where it is."""
    engines: dict[int, MakeEngine] = {1: local, 2: partial(RayEngine, address=cluster.address)}
    losses = {}
    for ranks, make_engine in engines.items():
        asked = space("grid", None, 2).model_dump() | {
            "arms": {"dense": {"model": {"block": "dense"}}},  # without near-ties of scores
            "axes": {"optim": {"rate": {"choice": [0.005, 0.01]}}},
            "resources": {"workers": 2, "ranks": ranks},
        }
        out = tmp_path / str(ranks)
        Runner(Space.model_validate(asked), out, make_engine=make_engine).run()
        records = StudyDirectory(out).records()
        assert [record.reason for record in records] == [None] * 4
        losses[ranks] = [(r.hash, r.scores.causal_loss) for r in records if r.scores]
    for (name, ours), (same, theirs) in zip(losses[1], losses[2], strict=True):
        assert name == same
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.slow
def test_half_a_gpu_each_runs_eight_trials_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """Logical GPUs: the placement is Ray's, whether or not there is a device."""
    driver = Driver(list(range(12)))
    run = partial(run_with_others, tmp_path, 8)
    with RayEngine(run, None, Share(cpus=1, gpus=0.5), cluster.address).started() as engine:
        assert engine.num_workers == 8
        engine.run(driver.next_job, driver.on_record)
    assert sorted(number for number, _ in driver.back) == list(range(12))
    assert all(done.state is State.COMPLETE for _, done in driver.back)
    assert max(driver.in_flight_when_asked) == 7, "asked for more than runs at once"
    devices = dict(str(reason).split(" ") for reason in driver.reasons.values())
    assert len(devices) == 8, "actors are not reused"
    assert sorted(devices.values()) == sorted("00112233")


def test_a_killed_worker_is_replaced_and_one_that_always_dies_fails(
    cluster: Cluster, tmp_path: Path
) -> None:
    deaths = {0: 1, 1: 99}
    driver = Driver([0, 1, 2])
    run = partial(run_and_die, tmp_path, deaths)
    with RayEngine(run, 2, Share(), cluster.address).started() as engine:
        engine.run(driver.next_job, driver.on_record)
    states = {number: done.state for number, done in driver.back}
    assert states == {0: State.COMPLETE, 1: State.FAILED, 2: State.COMPLETE}
    assert [starts(tmp_path, number) for number in range(3)] == [2, TRIES, 1]
    assert driver.reasons[1] == f"its worker died {TRIES} times"


def test_a_job_whose_worker_dies_twice_goes_on_in_passes_of_half_the_sequences(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Ray does not say of what. After one `kill` by somebody all shall be as it was."""
    driver = Driver([0, 1], batch_size=3)
    run = partial(run_and_note_passes, tmp_path, tmp_path / "counts", 2)
    with RayEngine(run, 2, Share(), cluster.address).started() as engine:
        engine.run(driver.next_job, driver.on_record)
    assert driver.reasons == {0: "2", 1: "2"}
    tried = [(tmp_path / str(number)).read_text().split() for number in (0, 1)]
    assert tried == [["3", "3", "2"]] * 2


def test_what_the_driver_raises_comes_out_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    """From a question as from an answer, with other trials still running."""
    driver = Driver([0, 1, 2, 3])

    def on_record(given: Job, done: Record) -> None:
        raise StudyError("the ledger is gone")

    def next_job() -> Job | Signal:
        raise StudyError("nothing to ask")

    run = partial(run_with_others, tmp_path, 1)
    with RayEngine(run, 2, Share(), cluster.address).started() as engine:
        began = time.monotonic()
        with pytest.raises(StudyError, match="the ledger is gone"):
            engine.run(driver.next_job, on_record)
        with pytest.raises(StudyError, match="nothing to ask"):
            engine.run(next_job, driver.on_record)
        with pytest.raises(AssertionError, match="nothing runs"):
            engine.run(lambda: Signal.WAIT, driver.on_record)
        assert time.monotonic() - began < 60


def test_a_trial_that_fits_nowhere_is_refused(cluster: Cluster) -> None:
    engine = RayEngine(nothing, None, Share(gpus=5), cluster.address)
    with (
        pytest.raises(StudyError, match="no node of the cluster has room") as refused,
        engine.started(),
    ):
        pass
    assert len(str(refused.value).splitlines()) == 2


def nothing(given: Job) -> Record:
    """Never run."""
    raise AssertionError


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "modsearch.cli", "search", *map(str, arguments)]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379"])
def test_an_address_that_does_not_answer_is_told_in_two_lines(address: str) -> None:
    with (
        pytest.raises(StudyError, match=f"no Ray cluster answers at {address}") as refused,
        RayEngine(nothing, 1, Share(), address).started(),
    ):
        pass
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.slow  # Ray tries for 20 s
def test_another_token_is_told_in_two_lines(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(space("grid", None, 1).model_dump_json())
    place = ("--out", tmp_path / "out")
    done = subprocess.run(
        command(tmp_path / "space.yaml", *place, "--engine", "ray", "--address", cluster.address),
        env=cluster.environment | {"RAY_AUTH_TOKEN": "0" * 64},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert "it refuses the token" in done.stderr


@pytest.mark.slow
def test_a_ray_of_its_own_ends_with_the_engine() -> None:
    """Its workers can't import what the tests alone have, and that is what they say."""
    driver = Driver([0])
    with RayEngine(nothing, 1, Share()).started() as engine:
        engine.run(driver.next_job, driver.on_record)
        folder = engine._folder
    [(_, done)] = driver.back
    assert done.state is State.FAILED
    assert done.reason == (
        f"its worker died {TRIES} times: ModuleNotFoundError: No module named 'test_ray'"
    )
    assert folder is not None
    assert not folder.exists()
    assert _gone(folder)


@pytest.mark.slow
def test_a_ray_of_its_own_goes_with_its_driver(tmp_path: Path) -> None:
    """A driver that was killed; the next one removes its folder."""
    (tmp_path / "space.yaml").write_text(space("grid", None, 2).model_dump_json())
    arguments = command(tmp_path / "space.yaml", "--out", tmp_path / "out", "--engine", "ray")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["TMPDIR"] = str(tmp_path)  # too long for sockets: Ray's folder is in /tmp then
    driver = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE)
    folder = _folder_of(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert _gone(folder), "Ray outlives a killed driver"
    os.utime(folder / ".alive", (0, 0))
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not folder.exists(), "the folder of a killed driver stays"
    assert "trials: 6 complete" in done.stderr


def _folder_of(pid: int) -> Path:
    """Ray's folder, once a driver has a raylet that runs."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = line.read_bytes().decode(errors="replace").split("\0")
                parent = int((line.parent / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid and words[0].endswith("/raylet"):
                names = [word for word in words if "/ms-ray-" in word]
                found = names[0][names[0].index("/tmp/ms-ray-") :].split("/")[:3]
                return Path(*["/", *found[1:]])
        time.sleep(0.05)
    pytest.fail("no raylet came up")


def _gone(folder: Path) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        alive = []
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                alive.append(str(folder) in line.read_bytes().decode(errors="replace"))
            except OSError:
                continue
        if not any(alive):
            return True
        time.sleep(0.1)
    return False
