"""Find plugins by file name: a file in a plugin folder is a plugin, its name is its name.

Lists without importing, so that names are known before torch is. Knows no plugin kind's interface.
A plugin package may name files that are not plugins in `SHARED_MODULES` of its `__init__`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType

from tabom_cli.core.errors import RecipeError

KINDS = {
    "model family": "tabom_cli.core.models",
    "decode strategy": "tabom_cli.core.decoding.strategies",
    "objective": "tabom_cli.core.objectives",
    "evaluation task": "tabom_cli.core.evaluation.tasks",
}


def names(kind: str) -> list[str]:
    """The sorted names of all plugins of one kind, read from the folder without importing them."""
    package = importlib.import_module(KINDS[kind])
    shared = set(getattr(package, "SHARED_MODULES", ()))
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if name not in shared and not name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """The plugin module of that name.

    Raises:
        RecipeError: No such plugin; the message lists what exists and the hint offers the nearest.
    """
    known = names(kind)
    if name not in known:
        near = nearest(name, known)
        raise RecipeError(
            f"unknown {kind} '{name}': there are {', '.join(known)}",
            hint=f"did you mean '{near}'?" if near else None,
        )
    return importlib.import_module(f"{KINDS[kind]}.{name}")


def nearest(name: str, known: list[str]) -> str | None:
    """The known name that looks most like `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return matches[0] if matches else None
