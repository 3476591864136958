"""Checks that need more than one section, or names of plugins: strategies, tasks, sizes.

Pydantic checks each section alone; this comes after it and adds to the same list of faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabom_cli.core import plugins
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import RecipeError
from tabom_cli.core.recipe.faults import Where
from tabom_cli.core.recipe.model import Recipe


def find_faults(recipe: Recipe, where: Where) -> list[str]:
    """One line per fault that only shows when sections are seen together."""
    return [*_strategies(recipe, where), *_tasks(recipe.eval.tasks, recipe.tds.task, where)]


def find_unknown_names(values: Mapping[str, Any], where: Where) -> list[str]:
    """Unknown strategies and tasks in values that pydantic refused, so that all faults come together."""
    faults = []
    for section in ("distill", "eval", "tds"):
        name = _value(values, section, "decode", "strategy")
        if isinstance(name, str) and name not in plugins.names("decode strategy"):
            faults.append(_unknown_strategy((section, "decode"), name, where))
    tasks, task = _value(values, "eval", "tasks"), _value(values, "tds", "task")
    named = [name for name in tasks if isinstance(name, str)] if isinstance(tasks, list) else []
    return [*faults, *_tasks(named, task if isinstance(task, str) else None, where)]


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
            yield _sentence((*path, "strategy"), path, error, where)


def _unknown_strategy(path: tuple[str, ...], name: str, where: Where) -> str:
    try:
        plugins.load("decode strategy", name)
    except RecipeError as error:
        return _sentence((*path, "strategy"), path, error, where)
    raise AssertionError(f"'{name}' is a strategy")


def _sentence(key: tuple[str, ...], path: tuple[str, ...], error: RecipeError, where: Where) -> str:
    hint = f" ({error.hint})" if error.hint else ""
    return f"{where(key)}: {'.'.join(path)}: {error.message}{hint}"


def _tasks(tasks: Sequence[str], tds_task: str | None, where: Where) -> Iterator[str]:
    known = plugins.names("evaluation task")
    named = [(("eval", "tasks"), task) for task in tasks]
    if tds_task:
        named.append((("tds", "task"), tds_task))
    for path, task in named:
        if task not in known:
            near = plugins.nearest(task, known)
            hint = f" (did you mean '{near}'?)" if near else ""
            yield (
                f"{where(path)}: {'.'.join(path)}: unknown task '{task}'{hint}: "
                f"there are {', '.join(known)}"
            )


def _value(values: Any, *path: str) -> Any:
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
