"""Turn pydantic's findings into lines a recipe author can act on.

Each line says where (file:line or the `--set`), which key, what was found, what is allowed and, for
unknown names, the nearest one.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from tabom_cli.core import plugins
from tabom_cli.core.recipe.flags import ORIGINAL_FLAGS

Where = Callable[[tuple[str, ...]], str]


def describe(
    error: ValidationError, model: type[BaseModel], where: Where, prefix: tuple[str, ...] = ()
) -> list[str]:
    """One line per fault of a section.

    Args:
        error: What pydantic found.
        model: The section class that was validated.
        where: Gives the place of a key path.
        prefix: Path of the section inside the recipe.
    """
    lines = []
    for fault in error.errors(include_url=False):
        local = tuple(str(part) for part in fault["loc"] if not str(part).startswith("function-"))
        path = (*prefix, *local)
        key = ".".join(path)
        lines.append(f"{where(path)}: {_sentence(fault, key, model, local)}")
    return lines


def field_names(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """Keys allowed in the section at `path`, empty when the path leads to no section."""
    current: type[BaseModel] | None = model
    for part in path:
        if part.isdecimal():
            continue  # an item of a list: its section class is the list's own
        if current is None or part not in current.model_fields:
            return []
        current = section_class(current.model_fields[part].annotation)
    return list(current.model_fields) if current else []


def section_class(annotation: Any) -> type[BaseModel] | None:
    """The section class inside an annotation such as `LoraConfig | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = section_class(argument)
        if found:
            return found
    return None


def original_flag_hint(key: str) -> str | None:
    """The recipe key that replaces a flag or variable of the original release."""
    bare = key.rsplit(".", 1)[-1].lstrip("-")
    for flag, target in ORIGINAL_FLAGS.items():
        if bare.lower() == flag.lstrip("-").lower():
            return f"the original's {flag} is '{target}' here"
    return None


def _sentence(fault: Any, key: str, model: type[BaseModel], local: tuple[str, ...]) -> str:
    kind, value = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        allowed = field_names(model, local[:-1])
        hint = original_flag_hint(key)
        near = plugins.nearest(local[-1], allowed)
        if hint is None and near:
            hint = f"did you mean '{near}'?"
        return (
            f"unknown key '{key}'"
            + (f": {hint}" if hint else "")
            + f" (allowed: {', '.join(allowed)})"
        )
    if kind == "missing":
        return f"'{key}' is missing"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    shown = repr(value) if not isinstance(value, dict | list) else f"a {_yaml_kind(value)}"
    return f"{key} = {shown}: {message}"


def _yaml_kind(value: Any) -> str:
    return "mapping" if isinstance(value, dict) else "list"
