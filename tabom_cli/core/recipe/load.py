"""From a recipe file and `--set` overrides to a frozen `Recipe`, with the origin of every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tabom_cli.core.config import Section
from tabom_cli.core.data.prompt_presets import PRESETS
from tabom_cli.core.errors import RecipeError
from tabom_cli.core.recipe import checks, faults
from tabom_cli.core.recipe.library import find_recipe
from tabom_cli.core.recipe.model import ObjectiveSection, Recipe, objective_config
from tabom_cli.core.recipe.source import KeyPath, YamlSource, parse_value, read_yaml

Origin = str
"""`default`, `recipe`, `command line`, or `preset NAME`."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe and where it came from.

    Attributes:
        recipe: The resolved recipe.
        path: The file it was read from.
        origins: Origin of each leaf value by dotted key, in recipe order.
        overrides: The `--set` arguments, as typed.
    """

    recipe: Recipe
    path: Path
    origins: Mapping[str, Origin]
    overrides: tuple[str, ...]


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read a recipe, apply overrides and check everything.

    Args:
        name_or_path: Shipped recipe name or path of a YAML file.
        overrides: `a.b=value` strings; values are read as YAML.

    Raises:
        RecipeError: All faults at once, one per line.
    """
    path = find_recipe(name_or_path)
    source = read_yaml(path)
    set_paths = parse_overrides(overrides)
    found = list(source.faults)
    for key, (value, text) in set_paths.items():
        problem = _assign(source.values, key, value)
        if problem:
            found.append(f"--set {text}: {problem}")
    recipe = _validate(source, set_paths, found)
    if recipe is None:
        count = "" if len(found) == 1 else f"{len(found)} faults:\n  "
        raise RecipeError(
            f"recipe {source.name} has " + count + "\n  ".join(found) if count else found[0],
            hint="`tabom recipes schema` lists every key; `tabom recipes validate PATH` checks again",
        )
    return LoadedRecipe(recipe, path, _origins(recipe, source, set_paths), tuple(overrides))


def parse_overrides(overrides: Sequence[str]) -> dict[KeyPath, tuple[Any, str]]:
    """Key path to (value, original text) of each `--set`; a later one wins.

    Raises:
        RecipeError: An override that is not `key=value`, or whose value is not YAML.
    """
    parsed: dict[KeyPath, tuple[Any, str]] = {}
    for text in overrides:
        key, equals, raw = text.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {text}: expected key=value", "e.g. --set train.epochs=3")
        try:
            value = parse_value(raw)
        except (yaml.YAMLError, RecursionError) as error:
            problem = getattr(error, "problem", None) or str(error)
            raise RecipeError(f"--set {text}: the value is not valid YAML: {problem}") from error
        parsed[tuple(key.strip().split("."))] = (value, text)
    return parsed


def _assign(values: dict[str, Any], key: KeyPath, value: Any) -> str | None:
    current: Any = values
    for part in key[:-1]:
        if not isinstance(current, dict):
            return f"'{part}' is not a section"
        if current.get(part) is None:
            current[part] = {}
        current = current[part]
    if not isinstance(current, dict):
        return f"'{'.'.join(key[:-1])}' is not a section"
    current[key[-1]] = value
    return None


def _validate(
    source: YamlSource, set_paths: Mapping[KeyPath, tuple[Any, str]], found: list[str]
) -> Recipe | None:
    def where(path: KeyPath) -> str:
        """The override that set a key or made its section, else file:line and overrides inside it."""
        for length in range(len(path), 0, -1):
            prefix = path[:length]
            if prefix in set_paths:
                return f"--set {set_paths[prefix][1]}"
            below = [
                f"--set {text}" for key, (_, text) in set_paths.items() if key[:length] == prefix
            ]
            if below and prefix not in source.lines:
                return " ".join(below)
            if below and prefix == path:
                return f"{source.where(path)} with {' '.join(below)}"
        return source.where(path)

    values = dict(source.values)
    objective = _objective(values.get("objective"), where, found)
    if "objective" in values:
        # A placeholder keeps pydantic quiet about a section that was checked above.
        values["objective"] = objective or ObjectiveSection(name="?", settings=Section())
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        found.extend(faults.describe(error, Recipe, where))
        found.extend(checks.find_unknown_names(values, where))
        return None
    found.extend(checks.find_faults(recipe, where))
    return None if found else recipe


def _objective(values: Any, where: faults.Where, found: list[str]) -> ObjectiveSection | None:
    if values is None:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        found.append(f"{where(('objective', 'name'))}: 'objective.name' is missing")
        return None
    settings = {key: value for key, value in values.items() if key != "name"}
    try:
        config = objective_config(values["name"])
    except RecipeError as error:
        hint = f" ({error.hint})" if error.hint else ""
        found.append(f"{where(('objective', 'name'))}: {error.message}{hint}")
        return None
    try:
        return ObjectiveSection(name=values["name"], settings=config.model_validate(settings))
    except ValidationError as error:
        found.extend(faults.describe(error, config, where, ("objective",)))
        return None


def _origins(
    recipe: Recipe, source: YamlSource, set_paths: Mapping[KeyPath, tuple[Any, str]]
) -> dict[str, Origin]:
    origins: dict[str, Origin] = {}
    for path in _leaves(recipe.to_dict(), ()):
        prefixes = [path[:length] for length in range(len(path), 0, -1)]
        if any(prefix in set_paths for prefix in prefixes):
            origins[".".join(path)] = "command line"
        elif path in source.lines:
            origins[".".join(path)] = "recipe"
        elif _is_of_preset(recipe, path):
            assert recipe.distill is not None
            origins[".".join(path)] = f"preset {recipe.distill.prompts.preset}"
        else:
            origins[".".join(path)] = "default"
    return origins


def _is_of_preset(recipe: Recipe, path: KeyPath) -> bool:
    """Whether a value of the prompt section is the one that its preset fills in."""
    if recipe.distill is None or path[:2] != ("distill", "prompts"):
        return False
    prompts = recipe.distill.prompts
    preset = PRESETS.get(prompts.preset or "", {})
    return path[2] in preset and getattr(prompts, path[2]) == preset[path[2]]


def _leaves(values: Mapping[str, Any], prefix: KeyPath) -> list[KeyPath]:
    leaves: list[KeyPath] = []
    for key, value in values.items():
        path = (*prefix, key)
        if isinstance(value, dict) and value:
            leaves.extend(_leaves(value, path))
        else:
            leaves.append(path)
    return leaves
