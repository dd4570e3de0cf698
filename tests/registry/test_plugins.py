"""Plugin files and packages of third parties: how they are loaded, refused, kept and shown."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from inline import Inline, quietly
from undrawn import undrawn

from modsearch.cli.app import main
from modsearch.config.data import Validation
from modsearch.config.model import ModelConfig
from modsearch.config.records import Budget, Candidate, Infeasible, Job, Stage
from modsearch.config.runtime import Plugin, Runtime
from modsearch.errors import ConfigError, StudyError
from modsearch.evaluation.lm import ModsearchLM
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.model import Decoder
from modsearch.nn.parts import block_names
from modsearch.registry import plugins
from modsearch.registry.plugins import by_name, load_plugins, plugin_source
from modsearch.reporting.page import compile_report
from modsearch.space.candidates import load_space
from modsearch.space.kinds import KINDS
from modsearch.space.space import read_space
from modsearch.store.directory import StudyDirectory
from modsearch.study.completeness import study_space
from modsearch.study.made_with import check_plugins
from modsearch.study.runner import Runner
from modsearch.testing.conformance import conformance_cases, run_case
from modsearch.training.checkpoint import save_model

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "modsearch-example"
EXAMPLE = ROOT / "examples" / "my_router.py"
CONFIG = """
model: {depth: 2, width: 8, num_heads: 1, seq_len: 16, block: mod, capacity: 0.25,
  router: staggered}
optim: {batch_size: 2, min_steps: 10, max_epochs: 99}
data: {corpus: CORPUS}
"""
SPACE = """
name: own
data: {corpus: CORPUS}
plugins: [my_router.py]
fixed:
  model: {seq_len: 16, num_heads: 1, block: mod, capacity: 0.25}
  optim: {batch_size: 4, min_steps: 10, max_epochs: 99}
arms:
  staggered: {model: {router: staggered}}
  random: {control_of: staggered, model: {router: random}}
explore: {budgets: [5e7], size: {depth: 2, width: 8}, windows: 4}
measure: {ladder: [{budget: 5e7, depth: 2, widths: [8]}], windows: 4}
confirm: {budgets: [5e7], seeds: 2, windows: 4}
resources: {workers: 1}
"""
REGISTERS = """
from modsearch.nn.contracts import ROUTERS
from modsearch.nn.routers.random import Random

@ROUTERS.register({name!r})
class Mine(Random):
    "Mine."
"""

Run = Callable[..., "Done"]


class Done:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(plugins, "_LOADED", {})
    for registry in KINDS.values():
        monkeypatch.setattr(registry, "_registered", {})
        monkeypatch.setattr(registry, "_loaded", {})


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts without plugins, and leaves none behind."""
    forget_plugins(monkeypatch)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    forget()


def forget() -> None:
    """As in a new process."""
    plugins._LOADED.clear()
    for registry in KINDS.values():
        registry._registered.clear()
        registry._loaded.clear()
    for name in [name for name in sys.modules if name.startswith("modsearch_plugin_")]:
        del sys.modules[name]


@contextmanager
def installed_in(folder: Path) -> Iterator[None]:
    """As in a process that finds packages in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        forget_packages()
        try:
            yield
        finally:
            forget_packages()


def forget_packages() -> None:
    """As in a new process."""
    forget()
    for registry in KINDS.values():
        registry.__dict__.pop("_entries", None)
    for name in [name for name in sys.modules if name.startswith("modsearch_example")]:
        del sys.modules[name]


def ended(*arguments: object) -> int:
    """Runs a command in this process; the code that it ends with."""
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["modsearch", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.fixture
def modsearch(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        code = ended(*arguments)
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def refused(modsearch: Run) -> Callable[..., str]:
    """Runs a command that must end as a user's mistake does; gives the message."""

    def run(*arguments: object) -> str:
        done = modsearch(*arguments)
        assert done.code == 2, done.err
        assert done.out == ""
        assert 1 <= len(done.err.strip().splitlines()) <= 2, done.err
        assert done.err.startswith("error: ")
        return done.err

    return run


def process(*arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as a user runs it, in a process that knows no plugin."""
    paths = [ROOT] if path is None else [ROOT, path]
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(200):
        (folder / f"{number}.txt").write_text(f"{number} " + f"some text of {number}\n" * 200)
    return folder


def written(folder: Path, text: str, corpus: Path, name: str = "space.yaml") -> Path:
    """A YAML file beside a copy of the example plugin."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_router.py").write_bytes(EXAMPLE.read_bytes())
    (folder / name).write_text(text.replace("CORPUS", str(corpus)))
    return folder / name


# --- loading


def test_a_file_is_run_once_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        f"with open({str(tmp_path / 'runs')!r}, 'a') as file:\n    file.write('x')\n"
        + REGISTERS.format(name="mine")
    )
    (tmp_path / "link.py").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    loaded = load_plugins([file, "mine.py", "./mine.py", "link.py"])
    assert loaded == load_plugins([file]) == load_plugins(loaded)
    assert [plugin.path for plugin in loaded] == [str(file.resolve())]
    assert (tmp_path / "runs").read_text() == "x"
    assert plugin_source(loaded[0]) == file.read_bytes()


def test_its_classes_have_the_same_module_in_every_process(tmp_path: Path) -> None:
    file = tmp_path / "my-own router.py"
    file.write_text(REGISTERS.format(name="mine"))
    load_plugins([file])
    mine = ROUTERS.get("mine")
    assert re.fullmatch(r"modsearch_plugin_my_own_router_[0-9a-f]{8}", mine.__module__)
    assert sys.modules[mine.__module__].Mine is mine
    code = (
        "import sys; from modsearch.registry.plugins import load_plugins; "
        "from modsearch.nn.contracts import ROUTERS; load_plugins(sys.argv[1:]); "
        "print(ROUTERS.get('mine').__module__)"
    )
    assert process("-c", code, file).stdout.strip() == mine.__module__
    assert str(ROUTERS.origin("mine")) == f"{file.resolve()}:Mine (plugin file)"


def test_nothing_is_written_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(REGISTERS.format(name="mine"))
    load_plugins([file])
    assert list(tmp_path.iterdir()) == [file]


def test_its_options_have_their_docstrings(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    options = '\n    class Config(Options):\n        much: int = 3\n        """So much."""\n'
    text = EXAMPLE.read_text().replace(" Router, ", " Options, Router, ")
    file.write_text(text + options)
    load_plugins([file])
    assert ROUTERS.get("staggered").Config.model_fields["much"].description == "So much."


def test_two_files_with_one_name_are_both_named(tmp_path: Path) -> None:
    files = [tmp_path / "one.py", tmp_path / "two.py"]
    for file in files:
        file.write_text(REGISTERS.format(name="mine"))
    with pytest.raises(ConfigError) as caught:
        load_plugins(files)
    message = str(caught.value)
    assert all(str(file.resolve()) in message for file in files)
    assert len(message.splitlines()) == 2


def test_a_plugin_can_not_take_a_built_in_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(REGISTERS.format(name="random"))
    with pytest.raises(ConfigError, match=r"comes from both modsearch\S+:Random \(built-in\) and"):
        load_plugins([file])
    assert ROUTERS.get("random").__module__ == "modsearch.nn.routers.random"


def test_a_plugin_can_not_take_the_name_of_a_composite_block(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from modsearch.nn.contracts import BLOCKS\n"
        "from modsearch.nn.blocks.dense import Dense\n"
        "BLOCKS.register('moe')(Dense)\n"
    )
    with pytest.raises(ConfigError, match=r"block `moe` comes from both block dense with ffn moe"):
        load_plugins([file])


BROKEN = {
    "syntax": ("x = 1\nclass Mine(\n", "fails in line 2: SyntaxError"),
    "nul": ("x = '\0'\n", "fails"),
    "encoding": ("# coding: nonsense\n", "fails"),
    "import": ("import no_such_module\n", "fails in line 1: ModuleNotFoundError: No module"),
    "name": ("\n\nx = y\n", "fails in line 3: NameError: name 'y' is not defined"),
    "lines": ("raise RuntimeError('one\\ntwo')\n", "fails in line 1: RuntimeError: one\n"),
    "silent": ("raise RuntimeError\n", "fails in line 1: RuntimeError\n"),
    "exit": ("import sys\nsys.exit(0)\n", "fails in line 2: SystemExit: 0"),
    "subclass": (
        "from modsearch.nn.contracts import ROUTERS\nROUTERS.register('mine')(int)\n",
        "router `mine` from builtins:int (registered) is not a subclass of Router",
    ),
    "abstract": (
        "from modsearch.nn.contracts import ROUTERS, Router\n"
        "@ROUTERS.register('mine')\nclass Mine(Router): pass\n",
        "lacks forward",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_told_in_two_lines(
    tmp_path: Path, refused: Callable[..., str], case: str
) -> None:
    text, why = BROKEN[case]
    file = tmp_path / "broken.py"
    file.write_text(text)
    for _ in range(2):
        message = refused("components", "--plugin", file)
        assert why in message
        assert str(file) in message
    assert not [name for name in sys.modules if name.startswith("modsearch_plugin_broken")]
    file.write_text(REGISTERS.format(name="mine"))
    load_plugins([file])
    assert "mine" in ROUTERS.names()


def test_a_missing_file_is_told_by_every_verb_that_builds_models(
    tmp_path: Path, corpus: Path, refused: Callable[..., str]
) -> None:
    space = written(tmp_path, SPACE, corpus)
    config = written(tmp_path, CONFIG, corpus, "config.yaml")
    for verb in (
        ["components"],
        ["components", "show", "random"],
        ["flops", config],
        ["plan", space],
        ["train", config, "--flops", 2e7],
        ["search", space],
        ["eval", tmp_path],
        ["generate", tmp_path, "--prompt", "x"],
        ["components", "check", "random"],
    ):
        assert "no plugin file" in refused(*verb, "--plugin", tmp_path / "none.py"), verb
    assert "no plugin file" in refused("components", "--plugin", tmp_path)
    (tmp_path / "my_router.py").rename(tmp_path / "my_router.txt")
    assert "does not end in .py" in refused("components", "--plugin", tmp_path / "my_router.txt")


def test_a_changed_file_is_not_run(tmp_path: Path) -> None:
    """As in a worker that starts after the user has edited the file."""
    file = tmp_path / "mine.py"
    file.write_text(REGISTERS.format(name="mine"))
    other = Plugin(path=str(file), digest="0" * 16)
    with pytest.raises(ConfigError, match=r"has changed: 0{16} is now"):
        load_plugins([other])
    assert "mine" not in ROUTERS.names()
    load_plugins([file])
    with pytest.raises(ConfigError, match="has changed"):
        load_plugins([other])


def test_files_of_one_name_are_told_apart() -> None:
    files = [Plugin(path="/a/x.py", digest="1" * 16), Plugin(path="/b/x.py", digest="2" * 16)]
    assert list(by_name(files)) == ["x.py", f"x-{'2' * 16}.py"]


# --- trials


def job(*given: Plugin) -> Job:
    return Job(
        stage=Stage.MEASURE,
        arm="arm",
        candidate=Candidate(),
        budget=Budget(flops=1e9),
        seed=0,
        validation=Validation(),
        fingerprint="",
        runtime=Runtime(),
        plan=Infeasible(reason="nothing is trained here"),
        plugins=given,
    )


def test_the_content_of_plugins_makes_the_trial_and_their_place_does_not() -> None:
    one, moved, changed = (
        Plugin(path="/a/x.py", digest="1"),
        Plugin(path="/b/y.py", digest="1"),
        Plugin(path="/a/x.py", digest="2"),
    )
    assert job(one).hash == job(moved).hash == job(moved, one).hash
    assert job(one, changed).hash == job(changed, one).hash
    assert len({job().hash, job(one).hash, job(changed).hash, job(one, changed).hash}) == 4


def test_training_with_a_changed_plugin_is_another_trial(
    tmp_path: Path, corpus: Path, modsearch: Run, refused: Callable[..., str]
) -> None:
    config = written(tmp_path, CONFIG, corpus, "config.yaml")
    plugin, out = tmp_path / "my_router.py", tmp_path / "out"
    command = ("train", config, "--flops", 2e7, "--out", out)
    assert "unknown router `staggered`" in refused(*command)
    hashes = []
    for text in (plugin.read_text(), plugin.read_text(), plugin.read_text() + "# changed\n"):
        plugin.write_text(text)
        done = modsearch(*command, "--plugin", plugin)
        assert done.code == 0, done.err
        hashes.append(json.loads(done.out)["hash"])
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(StudyDirectory(out).records()) == 2


# --- spaces and studies


def test_a_space_names_files_beside_itself(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = written(tmp_path / "folder", SPACE, corpus)
    monkeypatch.chdir(tmp_path)
    absolute = str((tmp_path / "folder" / "my_router.py").resolve())
    assert load_space(space, []).plugins == [absolute]
    relative = Path("folder/my_router.py")
    assert load_space(space, [], [relative]).plugins == [absolute], "given twice, it counts once"
    assert load_space(space, ["plugins=[]"], [relative]).plugins == [absolute]


def test_what_a_space_names_wrongly_is_told(
    tmp_path: Path, corpus: Path, refused: Callable[..., str]
) -> None:
    space = written(tmp_path, SPACE, corpus)
    assert "unknown router `staggered`" in refused("plan", space, "--set", "plugins=[]")
    message = refused("plan", space, "--set", "plugins=[none.py]")
    assert "space.yaml: no plugin file" in message
    assert "plugins: " in refused("plan", space, "--set", "plugins=my_router.py")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A study of a plugin's router, run by spawned workers; its space and plugin lie beside it."""
    folder = tmp_path_factory.mktemp("study")
    space = written(folder, SPACE, corpus)
    given = ("--plugin", folder / "my_router.py")
    with undrawn():
        assert ended("search", space, "--out", folder / "study", *given) == 0
    forget()
    return folder / "study"


def results(study: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in study.glob("trials/*/*.json")}


def test_workers_run_the_plugin_and_the_study_keeps_a_copy(study: Path) -> None:
    directory = StudyDirectory(study)
    records = directory.records()
    assert len(records) == 6
    assert {record.candidate.model.router.name for record in records} == {"staggered", "random"}
    assert all(record.scores for record in records)
    assert (study / "plugins" / "my_router.py").read_bytes() == EXAMPLE.read_bytes()
    assert list(directory.manifest().plugins) == ["my_router.py"]
    assert directory.manifest().packages == {}


@pytest.mark.slow
def test_the_command_of_a_report_makes_the_same_trials_again(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a study that was moved and extended by a later run, and whose plugin file is gone."""
    moved = tmp_path / "st udy"
    shutil.copytree(study, moved)
    plugin = shutil.copy(EXAMPLE, tmp_path)
    inline = partial(Inline, quietly)
    more = load_space(moved / "space.yaml", [f"plugins=[{plugin}]", "confirm.seeds=3"])
    Runner(more, moved, make_engine=inline).run()
    Path(plugin).unlink()
    made = {record.hash for record in StudyDirectory(moved).records()}
    assert len(made) == len(results(study)) + 2, "one seed more for the arm and its control"

    page = compile_report(moved).with_name("report.md").read_text()
    words = shlex.split(page.rpartition("    modsearch ")[2])
    assert words[:4] == ["search", "STUDY/space.yaml", "--out", "ANOTHER"]
    assert set(words[4::2]) == {"--set"}
    forget_plugins(monkeypatch)
    again = load_space(Path(words[1].replace("STUDY", str(moved))), words[5::2])
    Runner(again, tmp_path / "again", make_engine=inline).run()
    assert {record.hash for record in StudyDirectory(tmp_path / "again").records()} == made


@pytest.mark.usefixtures("no_figures")
def test_the_same_plugin_goes_on_wherever_it_lies(
    study: Path, corpus: Path, tmp_path: Path, modsearch: Run
) -> None:
    before = results(study)
    done = modsearch("search", written(tmp_path, SPACE, corpus), "--out", study)
    assert done.code == 0, done.err
    assert results(study) == before


def test_a_changed_plugin_is_refused_like_changed_code(
    study: Path, corpus: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    space = written(tmp_path, SPACE, corpus)
    plugin = tmp_path / "my_router.py"
    plugin.write_text(plugin.read_text() + "# changed\n")
    before, kept = results(study), set((study / "plugins").iterdir())
    message = refused("search", space, "--out", study)
    assert re.search(r"plugin my_router.py [0-9a-f]{16} is now [0-9a-f]{16}", message)
    assert "--allow-mixed" in message.splitlines()[1]
    assert results(study) == before
    assert set((study / "plugins").iterdir()) == kept


@pytest.mark.slow
def test_a_mixed_study_keeps_both_copies_and_says_so(
    study: Path, corpus: Path, tmp_path: Path, modsearch: Run
) -> None:
    out = tmp_path / "study"
    subprocess.run(["cp", "-r", study, out], check=True)
    space = written(tmp_path, SPACE.replace("seeds: 2", "seeds: 3"), corpus)
    plugin = tmp_path / "my_router.py"
    plugin.write_text(plugin.read_text() + "# changed\n")
    before = results(study)
    done = modsearch("search", space, "--out", out, "--allow-mixed")
    assert done.code == 0, done.err
    assert set(before) < set(results(out)), "what was finished is kept"
    copies = {path.name: path.read_bytes() for path in (out / "plugins").iterdir()}
    assert copies.pop("my_router.py") == EXAMPLE.read_bytes()
    assert list(copies.values()) == [plugin.read_bytes()]
    assert any("plugin my_router.py" in line for line in StudyDirectory(out).manifest().mixed)


@pytest.mark.usefixtures("no_figures")
def test_nothing_in_a_study_is_run(
    study: Path, tmp_path: Path, modsearch: Run, refused: Callable[..., str]
) -> None:
    """What a folder of results holds must not run because somebody looks at it."""
    out = tmp_path / "study"
    subprocess.run(["cp", "-r", study, out], check=True)
    trap, sprung = tmp_path / "trap.py", tmp_path / "sprung"
    trap.write_text(f"open({str(sprung)!r}, 'w').close()\n")
    (out / "plugins" / "my_router.py").write_bytes(trap.read_bytes())
    text = (out / "space.yaml").read_text()
    (out / "space.yaml").write_text(re.sub(r"- /.*my_router\.py", f"- {trap}", text))
    assert read_space(out / "space.yaml", []).plugins == [str(trap)]
    for verb in ("status", "best", "report"):
        done = modsearch(verb, out)
        assert done.code == 0, done.err
    assert "2/2" in modsearch("status", out).out
    refused("eval", out)
    assert not sprung.exists()
    refused("search", out / "space.yaml", "--out", tmp_path / "other")
    assert sprung.exists(), "a space that the user names is run"


def test_scores_need_the_plugin_that_the_weights_were_trained_with(
    study: Path, tmp_path: Path, modsearch: Run, refused: Callable[..., str]
) -> None:
    changed = tmp_path / "my_router.py"
    changed.write_text(EXAMPLE.read_text() + "# changed\n")
    confirmed = next(
        r
        for r in StudyDirectory(study).records()
        if (r.stage, r.arm) == (Stage.CONFIRM, "staggered")
    )
    for target in (study, study / "trials" / confirmed.hash):
        for given in ([], ["--plugin", changed]):
            assert "was made with plugin my_router.py" in refused("eval", target, *given)
    done = modsearch("eval", study, "--plugin", EXAMPLE)
    assert done.code == 0, done.err
    assert len(list(study.glob("trials/*/eval/quick.json"))) == 4


def test_plugins_are_asked_for_all_at_once_and_only_where_they_are_used() -> None:
    made_with = {"my_router.py": "1", "other.py": "2", "unused.py": "3"}
    dense = ModelConfig(block="dense")
    check_plugins(made_with, [], [dense, ModelConfig(block="mode_staged")], Path("study"))
    staggered = ModelConfig(block="mod", router="staggered")
    with pytest.raises(StudyError, match=r"plugin my_router\.py, other\.py, unused\.py, which"):
        check_plugins(made_with, [], [dense, staggered], Path("study"))
    [plugin] = load_plugins([EXAMPLE])
    made_with = {"my_router.py": plugin.digest, "unused.py": "3"}
    check_plugins(made_with, [plugin], [dense, staggered], Path("study"))
    with pytest.raises(StudyError, match=r"plugin my_router\.py, unused\.py, which"):
        check_plugins({**made_with, "my_router.py": "9"}, [plugin], [staggered], Path("study"))


def test_lm_evals_own_command_line_takes_a_plugin(tmp_path: Path) -> None:
    load_plugins([EXAMPLE])
    model = ModelConfig(block="mod", router="staggered", width=8, num_heads=1, seq_len=16)
    save_model(Decoder(model), tmp_path)
    forget()
    with pytest.raises(ConfigError, match="unknown router `staggered`"):
        ModsearchLM.create_from_arg_string(f"pretrained={tmp_path}")
    lm = ModsearchLM.create_from_arg_string(f"pretrained={tmp_path},plugin={EXAMPLE}")
    assert lm.model.config.router.name == "staggered"


# --- the list


def test_the_list_says_where_each_component_comes_from(modsearch: Run) -> None:
    done = modsearch("components", "--plugin", EXAMPLE)
    assert done.code == 0, done.err
    rows = [re.split(r" {2,}", line) for line in done.out.splitlines()]
    assert ["router", "staggered", "plugin file", f"{EXAMPLE}:Staggered"] in rows
    assert ["router", "random", "built-in", "modsearch.nn.routers.random:Random"] in rows


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from modsearch.cli.app import main; sys.argv[1:] = ['components']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = process("-c", code)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert "expert_choice" in done.stdout


def test_a_component_is_shown_with_its_options(modsearch: Run) -> None:
    shown = modsearch("components", "show", "expert_choice").out.splitlines()
    assert shown[0].startswith("router `expert_choice`: score = w . x, in fp32")
    assert shown[1] == "origin: modsearch.nn.routers.expert_choice:ExpertChoice (built-in)"
    rows = {line.split()[0]: re.split(r" {2,}", line.strip()) for line in shown[3:]}
    assert rows["gate"][1].startswith("identity | ")
    assert " | sigmoid | " in rows["gate"][1]
    assert rows["gate"][2] == "identity"
    assert rows["init_std"][1:3] == ["float > 0 <= 1000", "0.02"]
    assert "dead block" in rows["init_std"][3]
    option = ("--plugin", EXAMPLE)
    for arguments in ((*option, "show", "staggered"), ("show", "staggered", *option)):
        own = modsearch("components", *arguments).out
        assert f"origin: {EXAMPLE}:Staggered (plugin file)" in own
        assert "options: none" in own


def test_every_component_can_be_shown(modsearch: Run) -> None:
    known = {kind: registry.names() for kind, registry in KINDS.items()}
    for kind, names in {**known, "block": block_names()}.items():
        for name in names:
            done = modsearch("components", "show", name)
            assert done.code == 0, done.err
            assert f"{kind} `{name}`: " in done.out
            assert "no docstring" not in done.out


def test_an_unknown_component_has_a_nearest_one(refused: Callable[..., str]) -> None:
    assert "did you mean `expert_choice`?" in refused("components", "show", "expert_choise")
    message = refused("components", "show", "stagered", "--plugin", EXAMPLE)
    assert "did you mean `staggered`?" in message
    assert "every_nth" in message


# --- the example package


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package in a folder of its own.

    By pip; where its build backend can't be had (no network), by hand from what pyproject says.
    """
    target = tmp_path_factory.mktemp("installed")
    done = process("-m", "pip", "install", "--quiet", "--no-deps", "--target", target, PACKAGE)
    if done.returncode == 0:
        return target
    assert "hatchling" in done.stderr or "No module named pip" in done.stderr, done.stderr
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    info = target / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (target / "modsearch_example").symlink_to(PACKAGE / "modsearch_example")
    return target


def test_the_package_is_found_by_its_entry_point(
    installed: Path, modsearch: Run, refused: Callable[..., str]
) -> None:
    listed = process("-m", "modsearch.cli", "components", path=installed)
    assert re.search(
        r"router +norm_choice +entry point of modsearch-example 0\.1\.0 +modsearch_example\.",
        listed.stdout,
    )
    with installed_in(installed):
        shown = modsearch("components", "show", "norm_choice")
    assert "order  float >= 1  2.0  Of the norm" in shown.out, shown.err
    refused("components", "show", "norm_choice")


def test_a_clash_is_listed_and_refused(
    installed: Path, tmp_path: Path, modsearch: Run, refused: Callable[..., str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(REGISTERS.format(name="norm_choice"))
    with installed_in(installed):
        message = refused("components", "--plugin", file)
    assert "entry point of modsearch-example 0.1.0" in message
    assert str(file) in message
    thief = tmp_path / "thief-2.dist-info"
    thief.mkdir()
    (thief / "METADATA").write_text("Metadata-Version: 2.1\nName: thief\nVersion: 2\n")
    (thief / "entry_points.txt").write_text("[modsearch.routers]\nrandom = nowhere:Thief\n")
    with installed_in(tmp_path):
        done = modsearch("components")
    assert done.code == 0
    assert len(re.findall(r"^router +random ", done.out, re.MULTILINE)) == 2
    assert "warning: router `random` can't be used" in done.err
    assert "expert_choice" in done.out


@pytest.mark.usefixtures("no_figures")
def test_a_study_with_the_package_writes_its_version_down(
    installed: Path, corpus: Path, tmp_path: Path, modsearch: Run, refused: Callable[..., str]
) -> None:
    text = SPACE.replace("staggered", "norm_choice").replace("plugins: [my_router.py]\n", "")
    text = text.replace("workers: 2", "workers: 1")
    space, out = written(tmp_path, text, corpus), tmp_path / "study"
    command = ("search", space, "--out", out, "--stage", "explore")
    with installed_in(installed):
        done = modsearch(*command)
    assert done.code == 0, done.err
    [(package, content)] = StudyDirectory(out).manifest().packages.items()
    assert package == "modsearch-example"
    assert re.fullmatch(r"0\.1\.0 [0-9a-f]{16}", content)
    assert all(record.scores for record in StudyDirectory(out).records())
    changed = tmp_path / "changed"
    subprocess.run(["cp", "-rL", installed, changed], check=True)
    module = changed / "modsearch_example" / "norm_choice.py"
    module.write_text(module.read_text() + "# changed\n")
    with installed_in(changed):
        assert "package modsearch-example 0.1.0" in refused(*command)


def test_the_examples_keep_the_contract_of_a_router(installed: Path, modsearch: Run) -> None:
    for arguments in (("norm_choice",), ("staggered", "--plugin", EXAMPLE)):
        with installed_in(installed):
            done = modsearch("components", "check", *arguments)
        assert done.code == 0, done.out + done.err
        assert f"router `{arguments[0]}` in " in done.out


def test_a_plugin_file_of_before_the_rooms_goes_on_working(tmp_path: Path) -> None:
    file = tmp_path / "old.py"
    file.write_text(
        "from modsearch.cost import Cost, Flops\n"
        "from modsearch.nn.contracts import ROUTERS, Context, Options, Router, Routing, Update\n"
        "from modsearch.nn.layers import AttentionSublayer, FfnSublayer\n"
        "from modsearch.nn.selection import take\n"
        "from modsearch.schema import ModelConfig\n"
    )
    [loaded] = load_plugins([file])
    assert loaded.path == str(file)


def that_answers(method: str, value: str) -> str:
    """The example with one method more."""
    imports = "from torch import Tensor\n"
    text = EXAMPLE.read_text().replace(
        imports, f"{imports}from modsearch.nn.cost import Cost, Flops\n"
    )
    return f"{text}\n    def {method}(self, *arguments):\n        return {value}\n"


WRONG = {
    "cost": ("cost", "None", "cost() gives nothing\nit must return a value of type Cost"),
    "flops": ("cost", "Flops()", "cost() gives a value of type Flops\nit must return"),
    "slots": ("slots", "2.5", "slots() gives a value of type float\nit must return"),
    "forward": ("forward", "None", "forward() gives nothing\nit must return a value of type"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_component_that_answers_wrong_is_named(
    case: str, tmp_path: Path, corpus: Path, modsearch: Run, refused: Callable[..., str]
) -> None:
    method, value, said = WRONG[case]
    space = written(tmp_path, SPACE, corpus)
    config = written(tmp_path / "c", CONFIG, corpus)
    file = tmp_path / "my_router.py"
    file.write_text(that_answers(method, value))
    by_verb = [
        ["plan", space],
        ["flops", config, "--plugin", file],
        ["train", config, "--flops", 5e7, "--out", tmp_path / "one", "--plugin", file],
        ["search", space, "--out", tmp_path / "out"],
    ]
    for verb in by_verb if case == "cost" else by_verb[:1]:
        message = refused(*verb)
        assert f"router `staggered` from {file}:Staggered (plugin file): {said}" in message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    def __init__(self): ...", "__init__ does not take what it is given"),
        ("    def __init__(self, width, capacity, options): ...", "must call super().__init__"),
        ("    Config = None", "Config is null"),
        (
            "    class Config: ...",
            "it must be a class that derives from modsearch.registry.registry:Op",
        ),
    ],
)
def test_a_component_that_can_not_be_made_is_named(
    body: str, said: str, tmp_path: Path, corpus: Path, refused: Callable[..., str]
) -> None:
    file = tmp_path / "my_router.py"
    file.write_text(f"{EXAMPLE.read_text()}\n{body}\n")
    message = refused("flops", written(tmp_path / "c", CONFIG, corpus), "--plugin", file)
    assert "Staggered" in message
    assert said in message


def test_a_component_that_ends_the_process_is_told(
    tmp_path: Path, corpus: Path, refused: Callable[..., str]
) -> None:
    file = tmp_path / "my_router.py"
    file.write_text(
        f"{EXAMPLE.read_text()}\n"
        "    def cost(self, num_positions, mode):\n"
        "        raise SystemExit(3)\n"
    )
    message = refused("flops", written(tmp_path / "c", CONFIG, corpus), "--plugin", file)
    assert "in `cost`: SystemExit: 3" in message


def test_an_exception_that_fails_to_say_what_it_is_is_told(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    file = tmp_path / "own.py"
    file.write_text("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})\n")
    assert f"plugin {file} fails in line 1: E\n" in refused("components", "--plugin", file)


def test_a_part_of_flops_that_there_is_not_is_told_with_its_line(
    tmp_path: Path, corpus: Path, refused: Callable[..., str]
) -> None:
    config = written(tmp_path, CONFIG, corpus)
    file = tmp_path / "my_router.py"
    for value, said in (
        ("Cost.product('ffn', 2)", "no part `ffn` of FLOPs\nparts: matmul, attention, router"),
        ("Cost(Flops(ffn=2))", "no part `ffn` of FLOPs\nparts: matmul, attention, router"),
        ("Cost.product('router', 2.5)", "FLOPs of part `router` are a whole number, but got 2.5"),
    ):
        file.write_text(that_answers("cost", value))
        line = len(file.read_text().splitlines())
        message = refused("flops", config, "--plugin", file)
        assert f"plugin {file}, line {line}, in `cost`: {said}" in message


def test_a_plugin_that_breaks_the_contract_is_told(tmp_path: Path, modsearch: Run) -> None:
    file = tmp_path / "greedy.py"
    file.write_text(that_answers("cost", "Cost.product('router', 2)"))
    done = modsearch("components", "check", "staggered", "--plugin", file)
    assert done.code == 1
    assert "FLOPs" in done.out


def test_a_component_that_fails_is_told_with_its_line(
    tmp_path: Path, corpus: Path, refused: Callable[..., str], modsearch: Run
) -> None:
    space = written(tmp_path, SPACE, corpus)
    file = tmp_path / "my_router.py"
    file.write_text(that_answers("cost", "Cost(router=1)"))
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "router=1" in text)
    for verb in (["flops", written(tmp_path / "c", CONFIG, corpus)], ["plan", space]):
        message = refused(*verb, "--plugin", file)
        assert f"plugin {file}, line {line}, in `cost`: TypeError" in message
        assert "components check" in message
    assert "in `cost`" in refused("search", space, "--out", tmp_path / "out")
    done = modsearch("components", "check", "staggered", "--plugin", file)
    assert done.code == 1
    assert done.out.count(f"({file}, line {line})") == 1, "one mistake, told more than once"


def test_the_example_file_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 25


def test_contributing_shows_the_example() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    [shown] = re.findall(r"( *)```python\n(.*?)```", text, re.DOTALL)
    assert textwrap.dedent(shown[1]).strip() in EXAMPLE.read_text()


@pytest.mark.parametrize(("kind", "name"), [("ffn", "relu_squared"), ("block", "parallel")])
def test_the_other_examples_keep_their_contracts(kind: str, name: str) -> None:
    load_plugins([EXAMPLE.parent / f"my_{kind}.py"])
    trials = conformance_cases(kind, name)
    # Alone, and in the first of the routed blocks that it may stand in.
    first = list(dict.fromkeys(trial.case.label for trial in trials))[:2]
    assert first[0] == ("dense relu_squared" if kind == "ffn" else "parallel mlp")
    for trial in trials:
        if trial.case.label in first:
            run_case(trial)


def test_a_path_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "mine.py").touch()
    with pytest.raises(ConfigError, match=r"caf\\xe9/mine.py is not UTF-8"):
        load_plugins([folder / "mine.py"])


# --- optimisers and schedules

TRAINING = EXAMPLE.with_name("my_optimizer.py")
TRAININGS = """
name: trainings
data: {corpus: CORPUS}
plugins: [my_optimizer.py]
fixed:
  model: {seq_len: 16, num_heads: 1}
  optim: {min_steps: 10, max_epochs: 99}
axes:
  optim:
    optimizer: {choice: [adamw, nadam, {name: muon, steps: {int: [3, 4]}}]}
    schedule: {choice: [cosine, {name: power, power: 3}]}
arms: {dense: {model: {block: dense}}, mod: {model: {block: mod, capacity: 0.25}}}
explore: {budgets: [5e7], size: {depth: 2, width: 8}, windows: 4}
measure: {ladder: [{budget: 5e7, depth: 2, widths: [6, 8]}], windows: 4}
resources: {workers: 1}
"""


@pytest.mark.parametrize(("kind", "name"), [("optimizer", "nadam"), ("rate_schedule", "power")])
def test_the_example_of_a_training_keeps_its_contract(kind: str, name: str) -> None:
    load_plugins([TRAINING])
    for trial in conformance_cases(kind, name):
        run_case(trial)


def test_optimisers_and_schedules_are_axes_of_a_study_and_a_plugin_brings_some(
    tmp_path: Path, corpus: Path, modsearch: Run
) -> None:
    file = written(tmp_path, TRAININGS, corpus)
    shutil.copy(TRAINING, tmp_path)
    space = load_space(file)
    Runner(space, tmp_path / "study", make_engine=partial(Inline, quietly)).run()
    study = StudyDirectory(tmp_path / "study")
    records = study.records()
    assert all(record.scores for record in records), [record.reason for record in records]
    explored = [record for record in records if record.stage is Stage.EXPLORE]
    recipes = {
        (r.arm, r.candidate.optim.optimizer.model_dump_json(), r.candidate.optim.schedule.name)
        for r in explored
    }
    assert len(recipes) == len(explored) == 2 * 4 * 2
    steps = {
        r.candidate.optim.optimizer.name: r.plan.steps
        for r in explored
        if r.arm == "dense" and r.plan is not None
    }
    assert steps["muon"] < steps["adamw"] == steps["nadam"], "its products are paid for"
    assert list(study.manifest().plugins) == ["my_optimizer.py"]
    assert (study.plugins / "my_optimizer.py").read_bytes() == TRAINING.read_bytes()
    page = compile_report(tmp_path / "study").with_name("report.md").read_text()
    shown = set(re.findall(r"[\w.]+", page.replace("\\_", "_")))
    assert {"muon", "optimizer.steps", "rate_schedule"} <= shown
    assert modsearch("best", tmp_path / "study").code == 0


def test_weights_are_scored_without_the_plugin_that_trained_them(
    tmp_path: Path, corpus: Path, modsearch: Run, refused: Callable[..., str]
) -> None:
    text = CONFIG.replace("block: mod, capacity: 0.25,\n  router: staggered", "block: dense")
    text = text.replace("optim: {", "optim: {optimizer: nadam, schedule: {name: power}, ")
    config = written(tmp_path, text, corpus, "config.yaml")
    command = ("train", config, "--flops", 2e7, "--out", tmp_path / "out")
    message = refused(*command)
    assert "optim: unknown optimizer `nadam`; did you mean `adamw`?" in message
    assert "a file of yours is named by --plugin" in message
    done = modsearch(*command, "--plugin", TRAINING)
    assert done.code == 0, done.err
    folder = tmp_path / "out" / "trials" / json.loads(done.out)["hash"]
    done = modsearch("generate", folder, "--prompt", "some", "--tokens", 3)
    assert done.code == 0, done.err
    message = refused(*command, "--plugin", TRAINING, "--set", "optim.schedule={name: pover}")
    assert "unknown rate_schedule `pover`; did you mean `power`?" in message


def test_an_optimizer_that_forgets_its_answer_is_named(
    tmp_path: Path, corpus: Path, refused: Callable[..., str], modsearch: Run
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from modsearch.optim.contracts import OPTIMIZERS, Optimizer\n"
        "@OPTIMIZERS.register('mine')\nclass Mine(Optimizer):\n"
        "    'Mine.'\n    def updates(self, weights, optim): pass\n"
    )
    done = modsearch("components", "check", "mine", "--plugin", file)
    assert done.code == 1
    assert "optimizer `mine` from" in done.out
    assert "updates() gives nothing it must return a value of type Optimizer" in done.out


def test_what_another_call_registered_is_not_there_for_the_next(
    tmp_path: Path, corpus: Path
) -> None:
    file = written(tmp_path, TRAININGS, corpus)
    shutil.copy(TRAINING, tmp_path)
    load_space(file)
    with pytest.raises(ConfigError, match=r"optimizer `nadam` is of plugin .*which was not named"):
        load_space(file, ["plugins=[]"])


# --- samplers

SEARCHING = EXAMPLE.with_name("my_sampler.py")
SEARCH = """
name: climbing
data: {corpus: CORPUS}
plugins: [my_sampler.py]
fixed:
  model: {seq_len: 16, num_heads: 1, block: dense}
  optim: {min_steps: 10, max_epochs: 99}
axes: {optim: {rate: {log: [0.001, 0.1]}}}
arms: {dense: {}}
explore:
  budgets: [2e7]
  size: {depth: 1, width: 8}
  windows: 4
  sampler: {name: climb, drawn: 1}
  trials: 3
resources: {workers: 1}
"""


def test_the_example_of_a_sampler_keeps_its_contract() -> None:
    load_plugins([SEARCHING])
    for trial in conformance_cases("sampler", "climb"):
        run_case(trial)


def test_a_study_is_searched_by_the_sampler_of_a_plugin(tmp_path: Path, corpus: Path) -> None:
    file = written(tmp_path, SEARCH, corpus)
    shutil.copy(SEARCHING, tmp_path)
    Runner(load_space(file), tmp_path / "study", make_engine=partial(Inline, quietly)).run()
    study = StudyDirectory(tmp_path / "study")
    assert len({r.candidate.optim.rate for r in study.records() if r.scores}) == 3
    assert study_space(study).explore == load_space(file).explore
    with pytest.raises(ConfigError, match=r"sampler `climb` is of plugin .*which was not named"):
        load_space(file, ["plugins=[]"])
