"""`tabom doctor`: whether this machine, and what a recipe needs, is ready."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core.errors import EXIT_NOT_READY


def doctor(
    recipe: options.OptionalRecipe = None,
    set_: options.SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check versions, GPUs, sandbox and disk, and with a recipe what that recipe needs.

    One line per check: pass, warning or fail, and the command that fixes it. Nothing is downloaded.
    Exit code 3 when something fails.

    Example: tabom doctor --recipe tiny
    """
    from tabom_cli.core.environment import check_disk, check_machine
    from tabom_cli.core.environment_recipe import check_recipe, needs_sandbox
    from tabom_cli.core.errors import UsageError
    from tabom_cli.core.recipe import load_recipe

    if recipe is None and set_:
        raise UsageError("--set changes a recipe", "name one: tabom doctor --recipe tiny")
    if recipe is None:
        checks = [*check_machine(), check_disk(".")]
    else:
        loaded = load_recipe(recipe, set_ or ()).recipe
        checks = [
            *check_machine(needs_sandbox=needs_sandbox(loaded)),
            *check_recipe(loaded, lambda: runs.training_sections(loaded), name=recipe),
        ]
    counts = {kind: sum(c.status == kind for c in checks) for kind in ("pass", "warning", "fail")}
    if as_json:
        ready = not counts["fail"]
        console.result_json({"ready": ready, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            console.check(check.status, check.name, check.detail, check.fix)
        console.note(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if counts["fail"]:
        raise typer.Exit(EXIT_NOT_READY)
