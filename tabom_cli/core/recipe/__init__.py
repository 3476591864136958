"""Recipes: one YAML file holds everything a run needs.

`load_recipe` reads a file, applies `--set` overrides and returns a frozen `Recipe` with the origin of
each value. Knows how sections fit together; each section's settings live beside the code that reads them.
"""

from tabom_cli.core.recipe.library import RecipeSummary, find_recipe, list_recipes, recipes_folder
from tabom_cli.core.recipe.load import LoadedRecipe, load_recipe, parse_overrides
from tabom_cli.core.recipe.model import Recipe, recipe_schema

__all__ = [
    "LoadedRecipe",
    "Recipe",
    "RecipeSummary",
    "find_recipe",
    "list_recipes",
    "load_recipe",
    "parse_overrides",
    "recipe_schema",
    "recipes_folder",
]
