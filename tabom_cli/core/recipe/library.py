"""Where recipes are found: a checkout, an editable install, a wheel, or any path the user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tabom_cli
from tabom_cli.core import plugins
from tabom_cli.core.errors import RecipeError
from tabom_cli.core.recipe.source import read_yaml


@dataclass(frozen=True)
class RecipeSummary:
    """What a list of recipes shows, read without building any section."""

    name: str
    path: Path
    model: str
    objective: str
    description: str


def recipes_folder() -> Path:
    """Folder of the shipped recipes: inside the package in a wheel, beside it in a checkout."""
    package = Path(tabom_cli.__file__).parent
    packaged = package / "recipes"
    return packaged if packaged.is_dir() else package.parent / "recipes"


def list_recipes() -> list[RecipeSummary]:
    """All shipped recipes, sorted by name; folders inside the recipe folder are searched too."""
    return [
        _summary(path) for path in sorted(recipes_folder().rglob("*.yaml"), key=lambda p: p.stem)
    ]


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe given by shipped name or by path.

    Raises:
        RecipeError: Neither a shipped name nor a file.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"} or "/" in name_or_path:
        if path.is_file():
            return path
        raise RecipeError(f"recipe file not found: {name_or_path}", "see `tabom recipes list`")
    files = {file.stem: file for file in recipes_folder().rglob("*.yaml")}
    if name_or_path in files:
        return files[name_or_path]
    near = plugins.nearest(name_or_path, sorted(files))
    suggestion = f"did you mean '{near}'? " if near else ""
    raise RecipeError(
        f"unknown recipe '{name_or_path}': there are {', '.join(sorted(files))}",
        hint=f"{suggestion}a path ending in .yaml works too",
    )


def _summary(path: Path) -> RecipeSummary:
    values = read_yaml(path).values
    return RecipeSummary(
        name=str(values.get("name", path.stem)),
        path=path,
        model=str((values.get("model") or {}).get("path", "?")),
        objective=str((values.get("objective") or {}).get("name", "?")),
        description=str(values.get("description", "")),
    )
