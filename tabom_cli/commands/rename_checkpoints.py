"""`tabom rename-checkpoints`: bring published adapters from their legacy folders into place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tabom_cli import console
from tabom_cli.commands import options


def rename_checkpoints(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE]...", help="Only these; default all four."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder that holds the checkpoints.")
    ] = Path("checkpoints"),
    dry_run: options.DryRunOption = False,
) -> None:
    """Move published adapters from their legacy folders to checkpoints/<recipe>/.

    Nothing is deleted or overwritten, train_* folders are never touched, and running again after an
    interruption completes the work. Of several epoch_* folders the published one is taken.

    Example: tabom rename-checkpoints --dry-run
    """
    from tabom_cli.core.releases import apply_renames, plan_renames

    plan = plan_renames(output, recipes or ())
    for warning in plan.warnings:
        console.warn(warning)
    for note in plan.notes:
        console.note(note)
    if plan.actions:
        rows = [(a.recipe, a.kind, a.source, a.target, a.reason) for a in plan.actions]
        console.table(("recipe", "action", "from", "to", "why"), rows, title="plan")
    if dry_run:
        console.note("dry run: nothing was changed")
        return
    moved = apply_renames(plan)
    console.note(f"{moved} folders and files moved")
    console.result(str(output))
