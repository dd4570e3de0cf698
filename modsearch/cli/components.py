"""Verbs on components: list, show, check."""

from typing import Annotated

import typer

import modsearch
from modsearch.cli.options import Json, PluginFiles, app, as_json
from modsearch.cli.progress import warn

verbs = typer.Typer()
app.add_typer(verbs, name="components")


@verbs.callback(invoke_without_command=True)
def components(
    context: typer.Context, plugin: PluginFiles = None, as_object: Json = False
) -> None:
    """List what is registered: parts of models, optimisers, rate schedules and samplers."""
    if context.invoked_subcommand is not None:
        if as_object:
            raise typer.BadParameter("--json goes behind the verb", context)
        if plugin:  # a file that is named before the verb is loaded, too
            modsearch.components(plugins=plugin)
        return
    from modsearch.cli.text import listing_text

    found = modsearch.components(plugins=plugin or ())
    print(as_json(found) if as_object else listing_text(found))
    warn(dict.fromkeys(each.clash for each in found if each.clash is not None))


@verbs.command()
def show(
    name: Annotated[str, typer.Argument(help="A component, as `modsearch components` lists it.")],
    plugin: PluginFiles = None,
    as_object: Json = False,
) -> None:
    """What a component is, where it comes from, and its options."""
    from modsearch.cli.text import description_text

    found = modsearch.describe(name, plugins=plugin or ())
    print(as_json(found) if as_object else description_text(found))


@verbs.command()
def check(
    name: Annotated[str, typer.Argument(help="A component; KIND:NAME where kinds share a name.")],
    plugin: PluginFiles = None,
    as_object: Json = False,
) -> None:
    """Run the conformance kit on a component: exit code 1 if a check fails."""
    found = modsearch.check(name, plugins=plugin or ())
    from modsearch.testing.conformance import text

    print(as_json(found) if as_object else text(found))
    if not all(each.passed for each in found):
        raise typer.Exit(1)
