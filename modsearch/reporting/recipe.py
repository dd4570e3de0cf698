"""Recipes: which sections a report has, in which order, with which words and of which arms.

A recipe is a YAML file: one of the shipped `reports/`, by its bare name, or a user's own.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from modsearch.config.base import Stated
from modsearch.config.reading import named, read
from modsearch.config.rules import once
from modsearch.config.shipped import shipped
from modsearch.config.wording import first_error
from modsearch.errors import ConfigError, unknown
from modsearch.reporting.parts import Section

DEFAULT = "study"
"""The recipe of a report that is asked for without one."""
WHAT = "recipe"
"""How errors call one that is no file."""

Arms = Annotated[list[str], Field(min_length=1), AfterValidator(once)]
RecipeLike = str | Path | Mapping[str, Any]
"""The bare name of a shipped recipe, a YAML file, or plain data."""


class Part(Stated):
    """A section of a report."""

    section: str
    """Which one, by its name."""
    title: str | None = None
    """In place of its own."""
    text: str = ""
    """Before what it says itself; an empty line parts paragraphs."""
    arms: Arms | None = None
    """In place of those of the recipe."""


def _part(value: object) -> object:
    return {"section": value} if isinstance(value, str) else value


class Recipe(Stated):
    """What a report has."""

    title: str = ""
    """Beside the name of the study."""
    text: str = ""
    """Before the first section; an empty line parts paragraphs."""
    arms: Arms | None = None
    """Those that sections show, except for sections that are of the study as a whole; all without
    a word. It is never left out of what is computed."""
    sections: list[Annotated[Part, BeforeValidator(_part)]] = Field(min_length=1)
    """In this order, names or more."""


def load_recipe(
    source: RecipeLike, sections: Iterable[str], whole: Iterable[str], arms: Iterable[str]
) -> Recipe:
    """A recipe for a study with these `arms`, from what `sections` there are.

    Args:
        source: where it is.
        sections: names of all.
        whole: of those that are of a study as a whole.
        arms: of the study.

    Raises:
        ConfigError: there is no such recipe, it is wrong, it asks for a section or an arm that
            nobody knows (with the nearest name), or for arms of a section that has none.
    """
    found = source if isinstance(source, Mapping) else shipped("reports", str(source))
    values, where = read(found, [], WHAT), named(found, WHAT)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_error(error, Recipe, values)}") from error
    asked = [("section", part.section, sections) for part in recipe.sections]
    stated = [recipe.arms, *(part.arms for part in recipe.sections)]
    asked += [("arm", arm, arms) for each in stated for arm in each or ()]
    for kind, name, known in asked:
        if name not in (names := list(known)):
            raise ConfigError(f"{where}: {unknown(kind, name, names)}")
    for part in recipe.sections:
        if part.arms and part.section in whole:
            raise ConfigError(
                f"{where}: section {part.section} is of the study as a whole: it takes no `arms`"
            )
    return recipe


def paragraphs(text: str) -> list[str]:
    """What empty lines part, each on one line."""
    return [" ".join(each.split()) for each in text.split("\n\n") if each.strip()]


def worded(section: Section, part: Part) -> Section:
    """A section with the words of a recipe; arms of its own stand in its title."""
    text = [*paragraphs(part.text), *section.text]
    title = f"{section.title}: {', '.join(part.arms)}" if part.arms else section.title
    return replace(section, title=part.title or title, text=text)


def told_apart(sections: Iterable[Section]) -> Iterator[Section]:
    """The same with names of files that differ: a recipe may have a section twice."""
    taken: set[tuple[str, str]] = set()

    def free(folder: str, name: str) -> str:
        numbered = (name if number == 1 else f"{name}-{number}" for number in range(1, 10**6))
        found = next(each for each in numbered if (folder, each) not in taken)
        taken.add((folder, found))
        return found

    for section in sections:
        yield replace(
            section,
            figures=[replace(each, name=free("figures", each.name)) for each in section.figures],
            tables=[replace(each, name=free("tables", each.name)) for each in section.tables],
        )
