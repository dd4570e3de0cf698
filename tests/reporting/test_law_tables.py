"""Laws in the report."""

from worlds import manifest, study

from modsearch.reporting import law_tables
from modsearch.reporting.frames import display


def test_three_budgets_have_laws_and_two_have_none(monkeypatch) -> None:
    monkeypatch.setattr(law_tables, "DRAWS", 2)
    arms = law_tables.arms_of(manifest(), study(sd=0.005, budgets=(1e11, 3e11, 1e12)))
    assert [each.arm for each in arms] == ["dense", "mod"]
    table = display(law_tables.exponents(arms))
    assert list(table["fit"][:3]) == [
        "vertices of 3 budgets",
        "surface, N all parameters",
        "surface, N without embeddings",
    ]
    assert all("[" in cell for cell in table["N* exponent"])
    assert "% at 1e12" in table["vertex bias of the grid"][1]
    told = display(law_tables.left_out(arms))
    assert len(told) == 6
    assert "k [" in told["foretold N*"][0]
    assert law_tables.arms_of(manifest(), study()) == []
    assert law_tables.arms_of(manifest(), []) == []
