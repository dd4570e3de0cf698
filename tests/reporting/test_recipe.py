"""Recipes: shipped ones and a user's own, and what is said of those that are wrong."""

from pathlib import Path

import pytest
from pages import tree, write
from worlds import study

from modsearch.config.shipped import shipped
from modsearch.errors import ConfigError
from modsearch.reporting.material import gather
from modsearch.reporting.page import ALL, compile_report
from modsearch.reporting.paper import PAPER
from modsearch.reporting.parts import Section
from modsearch.reporting.recipe import DEFAULT, Part, load_recipe, told_apart, worded
from modsearch.reporting.sections import SECTIONS, WHOLE

ARMS = ("dense", "mod", "mod-random")
SMALL = {"sections": ["corpus", {"section": "winners", "title": "Who won", "arms": ["dense"]}]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("study"), study(sd=0.004))


def test_the_default_recipe_has_every_section_in_its_order() -> None:
    found = load_recipe(DEFAULT, ALL, WHOLE, ARMS)
    assert [part.section for part in found.sections] == list(SECTIONS)
    assert not found.title
    assert all(part == Part(section=part.section) for part in found.sections)


def test_the_recipe_of_the_paper_has_its_seven_figures_and_says_what_each_shows() -> None:
    found = load_recipe("raposo2024", ALL, WHOLE, ARMS)
    assert [part.section for part in found.sections] == list(PAPER)
    assert len(PAPER) == 7
    assert all(part.title and "paper" in part.text for part in found.sections)


def test_every_shipped_recipe_can_be_used() -> None:
    for path in shipped("reports", DEFAULT).parent.glob("*.yaml"):
        assert load_recipe(path.stem, ALL, WHOLE, ARMS).sections


def test_a_report_without_a_recipe_is_that_of_the_default_one(root: Path, tmp_path: Path) -> None:
    small = {"sections": ["corpus", "conventions"]}  # every figure would take its time twice
    one = compile_report(root, tmp_path / "one", small)
    own = tmp_path / "own.yaml"
    own.write_text("sections:\n  - corpus\n  - section: conventions\n")
    two = compile_report(root, tmp_path / "two", own)
    assert tree(one.parent) == tree(two.parent)
    assert compile_report.__defaults__ == (None, DEFAULT)


def test_a_users_own_file_says_what_is_shown_and_how(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "title: the few\n"
        "text: |\n  First.\n\n  Second | part.\n"
        "sections:\n"
        "  - {section: winners, title: Who won, text: In short., arms: [dense]}\n"
        "  - corpus\n"
    )
    page = compile_report(root, tmp_path / "out", str(own))
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("# synthetic: the few\n")
    assert "First.\n\nSecond \\| part.\n" in text
    assert "## Who won\n\nIn short.\n" in text
    assert text.index("## Who won") < text.index("## Corpus")
    assert "## IsoFLOP" not in text
    winners = (tmp_path / "out" / "tables" / "winners.csv").read_text()
    assert ",dense," in winners
    assert ",mod" not in winners
    assert "synthetic: the few" in page.read_text()


def test_a_section_that_stands_twice_overwrites_no_file(root: Path, tmp_path: Path) -> None:
    twice = {"sections": [{"section": "winners", "arms": [arm]} for arm in ("dense", "mod")]}
    compile_report(root, tmp_path, twice)
    assert {"tables/winners.csv", "tables/winners-2.csv", "figures/confirm-2.png"} <= set(
        tree(tmp_path)
    )
    assert ",mod," in (tmp_path / "tables" / "winners-2.csv").read_text()
    assert "tables/winners-2.csv" in (tmp_path / "report.md").read_text()


def test_arms_limit_what_is_shown_and_nothing_that_is_computed(root: Path) -> None:
    whole = gather(root)
    some = whole.only(["mod"])
    for name in WHOLE:
        one, other = (SECTIONS[name](each) for each in (whole, some))
        assert one.text == other.text
        assert [each.rows for each in one.tables] == [each.rows for each in other.tables]
    relative, every = (SECTIONS["forward"](each).figures[0].data for each in (some, whole))
    assert set(relative["arm"]) == {"mod"}
    of_mod = every[every["arm"] == "mod"]["relative loss"]
    assert list(relative["relative loss"]) == list(of_mod)
    assert set(SECTIONS) - set(WHOLE) > {"isoflop", "winners", "trials"}


def test_a_page_names_the_sections_that_its_study_has_nothing_for(
    root: Path, tmp_path: Path
) -> None:
    compile_report(root, tmp_path, {"sections": ["corpus", "laws", "explore", "prices"]})
    told = (
        "Left out, since this study has nothing for it: Scaling laws (needs fitted minima of an "
        "arm at three budgets); At other prices (needs times of its winners, by"
    )
    assert told in (tmp_path / "report.md").read_text()
    assert told in (tmp_path / "index.html").read_text()


def test_a_second_report_takes_away_the_files_of_the_first_and_no_others(
    root: Path, tmp_path: Path
) -> None:
    compile_report(root, tmp_path, {"sections": ["winners", "conventions"]})
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    assert {"figures/confirm.png", "tables/winners.tex"} <= set(tree(tmp_path))
    compile_report(root, tmp_path, {"sections": ["conventions"]})
    assert set(tree(tmp_path)) == {
        "figures/mine.png",
        "index.html",
        "report.md",
        "tables/conventions.csv",
        "tables/conventions.tex",
    }


def test_arms_of_a_recipe_are_shown_in_every_section(root: Path) -> None:
    material = gather(root).only(["dense", "mod"])
    everything = [make(material) for make in SECTIONS.values()]
    for name in ("winners", "minima", "trials", "comparisons", "controls"):
        frames = [
            table.frame for section in everything for table in section.tables if table.name == name
        ]
        for column in ("arm", "against"):
            assert all("mod-random" not in set(each.get(column, ())) for each in frames), name
    assert len(material.records) > len(material.shown_records)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sections": ["isoflp"]}, "recipe: unknown section `isoflp`; did you mean `isoflop`?"),
        ({"sections": ["corpus"], "arms": ["dnse"]}, "unknown arm `dnse`; did you mean `dense`?"),
        ({"sections": [{"section": "corpus", "arms": ["mode"]}]}, "unknown arm `mode`"),
        ({"sections": [{"section": "corpus", "tilte": "x"}]}, "did you mean `title`?"),
        ({"sections": []}, "sections: needs at least 1"),
        ({"sections": ["corpus"], "arms": ["dense", "dense"]}, "stands there twice"),
        (
            {"sections": [{"section": "ledger", "arms": ["mod"]}]},
            "section ledger is of the study as a whole: it takes no `arms`",
        ),
        ({"sections": ["corpus"], "title": ["a"]}, "title: must be text, but got"),
        ({"sections": [3]}, "sections.0: must be"),
        ({}, "sections: is missing"),
    ],
)
def test_a_wrong_recipe_is_told_in_two_lines(values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(values, ALL, WHOLE, ARMS)
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_an_unknown_recipe_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown recipe `raposo`; did you mean `raposo2024`"):
        load_recipe("raposo", ALL, WHOLE, ARMS)


def test_words_of_a_recipe_stand_before_those_of_the_section() -> None:
    part = Part(section="corpus", title="T", text="a\nb\n\nc")
    assert worded(Section("Corpus", ["own"]), part) == Section("T", ["a b", "c", "own"])
    assert list(told_apart([Section("A"), Section("A")])) == [Section("A", (), [], [])] * 2
