"""`tabom recipes`: list, show, copy and check recipes, and print their schema."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from tabom_cli import console
from tabom_cli.commands import options
from tabom_cli.core.errors import RunError

app = typer.Typer(
    help="List, show, copy and check recipes.",
    epilog="Example: tabom recipes list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME|PATH", help="Recipe name or file.")]


@app.command("list", epilog="Example: tabom recipes list")
def list_() -> None:
    """List the shipped recipes."""
    from tabom_cli.core.recipe import list_recipes

    rows = [(r.name, r.model, r.objective, r.description) for r in list_recipes()]
    console.table(("recipe", "model", "objective", "what it is for"), rows)


@app.command(epilog="Example: tabom recipes show dream_prm12k --resolved")
def show(
    name: NameArgument,
    set_: options.SetOption = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Show every value and where it comes from.")
    ] = False,
) -> None:
    """Print a recipe as it is written, or resolved with the origin of each value."""
    from tabom_cli.core.recipe import find_recipe, load_recipe

    if resolved or set_:
        options.show_resolved(load_recipe(name, set_ or ()))
    else:
        console.raw(find_recipe(name).read_text(encoding="utf-8"))


@app.command(epilog="Example: tabom recipes copy tiny my_recipe.yaml")
def copy(
    name: NameArgument,
    target: Annotated[Path, typer.Argument(help="New file; must not exist.")],
) -> None:
    """Copy a recipe to a file of your own."""
    from tabom_cli.core.recipe import find_recipe

    source = find_recipe(name)
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise RunError(f"{target} exists and is not overwritten", "choose another file name")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    console.note(f"copied {source.name}; run it with: tabom train --recipe {target} --dry-run")
    console.result(str(target))


@app.command(epilog="Example: tabom recipes validate dream_prm12k --set train.epochs=3")
def validate(name: NameArgument, set_: options.SetOption = None) -> None:
    """Check a recipe: keys, types, ranges, names. Shows all faults at once."""
    from tabom_cli.core.recipe import load_recipe

    loaded = load_recipe(name, set_ or ())
    console.result(f"{loaded.path}: recipe '{loaded.recipe.name}' is valid")


@app.command(epilog="Example: tabom recipes schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON schema of recipe files."""
    from tabom_cli.core.recipe import recipe_schema

    console.result_json(recipe_schema())
