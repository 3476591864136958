"""Options that several commands share, and how a recipe is loaded and shown before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tabom_cli import console

RecipeOption = Annotated[
    str, typer.Option("--recipe", metavar="NAME|PATH", help="Shipped recipe or YAML file.")
]
OptionalRecipe = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME|PATH", help="Shipped recipe or YAML file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe value; repeatable."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would happen; load no weights, write nothing.")
]
ProcessesOption = Annotated[
    int | None,
    typer.Option("--num-processes", min=1, help="Processes to start; default all visible GPUs."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Folder with benchmark data as JSONL files."),
]


def show_resolved(loaded: Any) -> None:
    """Print the resolved recipe with the origin of each value, on stdout."""
    rows = []
    values = loaded.recipe.to_dict()
    for key, origin in loaded.origins.items():
        value: Any = values
        for part in key.split("."):
            value = value[part]
        rows.append((key, "null" if value is None else value, origin))
    console.table(("key", "value", "origin"), rows, title=f"recipe {loaded.recipe.name}")


def show_plan(title: str, rows: list[tuple[str, Any]]) -> None:
    """Print the facts of a dry run, on stdout."""
    console.table(("what", "value"), rows, title=title)
