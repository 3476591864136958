"""`tabom distill`: let the model answer prompts and record how it decoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core import launch
from tabom_cli.core.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from tabom_cli.core.distillation.config import DistillConfig
    from tabom_cli.core.distillation.jobs import Shard
    from tabom_cli.core.recipe import LoadedRecipe, Recipe


def distill(
    recipe: options.RecipeOption,
    set_: options.SetOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trajectory file; default from the recipe.")
    ] = None,
    dry_run: options.DryRunOption = False,
    num_processes: options.ProcessesOption = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Make only part I of N, for job arrays; see data merge."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Refuse to start anew: rows must be there already.")
    ] = False,
    data_dir: options.DataDirOption = None,
) -> None:
    """Let the model answer prompts, check the answers and record the decoding order.

    Appends one JSON line per answer; running the same command again continues after a stop or a crash,
    with or without --resume, and skips what is there. With --data-dir, prompts that repeat evaluation questions are left out.

    Example: tabom distill --recipe tiny --set distill.num_samples=2
    """
    from tabom_cli.core.distillation import jobs, shards
    from tabom_cli.core.recipe import load_recipe

    loaded = load_recipe(recipe, set_ or ())
    settings, target = _settings(loaded.recipe, output, data_dir)
    part = jobs.Shard.parse(shard) if shard else None
    target = part.path(target) if part else target
    if resume and not shards.is_started(target):
        raise UsageError(
            f"--resume: {target} has no rows to continue from",
            hint="leave --resume out to start, or name the file with --output",
        )
    if dry_run:
        _show_dry_run(loaded, settings, target, part, num_processes)
        return
    runs.start_processes(loaded.recipe, num_processes)
    from tabom_cli.core.distillation.service import distill as run
    from tabom_cli.core.models.load import load_model

    with console.progress_display() as progress:
        model = load_model(loaded.recipe.model, device=runs.device(), seed=loaded.recipe.seed)
        report = run(
            model,
            settings,
            output=target,
            seed=loaded.recipe.seed,
            rank=launch.rank(),
            world_size=launch.world_size(),
            shard=part,
            barrier=runs.barrier(),
            command=runs.command_line(),
            progress=progress,
        )
    rows = [(verdict, count) for verdict, count in (report.verdicts or {}).items()]
    console.table(("verdict", "rows"), rows, title=f"{report.num_rows} rows in {target}")
    if part is None:
        console.note(f"next: tabom train --recipe {recipe}")
    else:
        parts = target.name.replace(f"-{part.index}-of-", "-*-of-")
        console.note(
            f"when all {part.count} parts are there: "
            f"tabom data merge {target.parent / parts} --output FILE"
        )
    console.result(str(target))


def _settings(
    recipe: Recipe, output: Path | None, data_dir: Path | None
) -> tuple[DistillConfig, Path]:
    """The distill section and the file it writes.

    Raises:
        RecipeError: The recipe does not distil, or names no file.
        UsageError: A data folder for prompts that are generated.
    """
    if recipe.distill is None:
        raise RecipeError(f"recipe '{recipe.name}' has no distill section", "add one, or use tiny")
    target = output or recipe.distill.output or recipe.data.path
    if target is None:
        raise RecipeError(f"recipe '{recipe.name}' names no file to write", "give --output FILE")
    settings = recipe.distill
    if data_dir is not None and settings.prompts.generate is not None:
        raise UsageError(
            f"--data-dir {data_dir}: the prompts of '{recipe.name}' are generated, nothing is read there",
            hint="leave --data-dir out, or name prompts with distill.prompts",
        )
    if data_dir is not None:
        prompts = settings.prompts.model_copy(update={"data_dir": str(data_dir)})
        settings = settings.model_copy(update={"prompts": prompts})
    return settings, Path(target)


def _show_dry_run(
    loaded: LoadedRecipe,
    settings: DistillConfig,
    target: Path,
    part: Shard | None,
    num_processes: int | None,
) -> None:
    from tabom_cli.core.distillation.plan import plan

    command, processes = runs.launch_line(loaded.recipe, num_processes)
    facts = plan(settings, output=target, world_size=processes, shard=part)
    options.show_resolved(loaded)
    rows = [
        ("prompts", f"{facts.prompts.num_prompts:,}"),
        ("checked against", ", ".join(facts.prompts.checked) or "no evaluation set (--data-dir)"),
        ("answers", f"{facts.num_rows:,} ({settings.num_samples} per prompt)"),
        ("forwards", f"at most {facts.max_forwards:,} batches of {settings.decode.batch_size}"),
        ("tokens", f"at most {facts.max_tokens:,}"),
        *(("would write", str(path)) for path in facts.files),
        ("launch", launch.shown(command)),
    ]
    options.show_plan("dry run: nothing was loaded or written", rows)
    for text in facts.warnings:
        console.warn(text)
