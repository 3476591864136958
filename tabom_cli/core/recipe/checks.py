"""Checks that need more than one section, or names of plugins: strategies, tasks, sizes.

Pydantic checks each section alone; this comes after it and adds to the same list of faults.
"""

from __future__ import annotations

from collections.abc import Iterator

from tabom_cli.core import plugins
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import RecipeError
from tabom_cli.core.recipe.faults import Where
from tabom_cli.core.recipe.model import Recipe


def find_faults(recipe: Recipe, where: Where) -> list[str]:
    """One line per fault that only shows when sections are seen together."""
    return [*_strategies(recipe, where), *_tasks(recipe, where)]


def decodes(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], DecodeConfig]]:
    """Every decode section of a recipe with its key path."""
    if recipe.distill:
        yield ("distill", "decode"), recipe.distill.decode
    yield ("eval", "decode"), recipe.eval.decode
    if recipe.tds.decode:
        yield ("tds", "decode"), recipe.tds.decode


def _strategies(recipe: Recipe, where: Where) -> Iterator[str]:
    from tabom_cli.core.decoding.strategies import base

    for path, decode in decodes(recipe):
        try:
            base.create(decode)
        except RecipeError as error:
            key = (*path, "strategy")
            hint = f" ({error.hint})" if error.hint else ""
            yield f"{where(key)}: {'.'.join(path)}: {error.message}{hint}"


def _tasks(recipe: Recipe, where: Where) -> Iterator[str]:
    known = plugins.names("evaluation task")
    named = [(("eval", "tasks"), task) for task in recipe.eval.tasks]
    if recipe.tds.task:
        named.append((("tds", "task"), recipe.tds.task))
    for path, task in named:
        if task not in known:
            near = plugins.nearest(task, known)
            hint = f" (did you mean '{near}'?)" if near else ""
            yield (
                f"{where(path)}: {'.'.join(path)}: unknown task '{task}'{hint}: "
                f"there are {', '.join(known)}"
            )
